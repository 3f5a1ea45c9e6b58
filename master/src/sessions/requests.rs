//! What a minion may ask for, and what each request does.

use bytes::Bytes;
use proto::map;
use proto::message::{
    BadLoad, ErrorCode, Fields, Kind, MinionEvents, Push, Reply, Request, Return, SessionRequest, SessionState, event,
};
use proto::tag::Tag;
use proto::value::Value;

use super::DUPLICATE_PROBE;
use super::dealer::{Dealer, Ended, Phase};
use super::inflight::Load;
use super::registry::{Daemon, Opening};
use crate::bus::{Batch, Mark, NewEvent};
use crate::jobs::Verdict;

/// How often refused tags are told on the bus: the first, and then each time their number has grown tenfold.
const TELL_DENIED_AT: [u64; 5] = [1, 10, 100, 1_000, 10_000];

impl Dealer<'_> {
    /// Answers one request.
    pub(super) async fn request(&mut self, load: &Bytes) -> Result<(), Ended> {
        let request = match Request::decode(load) {
            Ok(request) => request,
            Err(error) => return self.bad_load(load, &error),
        };
        if self.phase != Phase::Accepted && !matches!(request, Request::Session(_)) {
            return self.not_accepted(&request);
        }
        match request {
            Request::Grains { seq, grains } => {
                self.parts.registry.set_grains(&self.id, grains);
                self.reply(seq, Ok(Value::Null))
            }
            Request::JobsSince { seq, .. } => self.jobs_since(seq).await,
            Request::MinionEvents(events) => self.events(events, load.len()).await,
            Request::NoMatch { seq, jid } => {
                self.parts.jobs.no_match(&self.id, &jid).await;
                self.reply(seq, Ok(Value::Null))
            }
            Request::Other { seq, cmd, .. } => {
                tracing::debug!(minion_id = %self.id, cmd, "request is not supported by this version");
                self.reply(seq, Err((ErrorCode::UnknownCmd, format!("{cmd} is not supported by this master"))))
            }
            Request::Return(ret) => self.ret(ret, load.len()).await,
            Request::Session(session) => self.session(session).await,
        }
    }

    fn reply(&mut self, seq: u64, result: Result<Value, (ErrorCode, String)>) -> Result<(), Ended> {
        self.push(&Push::Reply(Reply { seq, result }))
    }

    fn bad_load(&mut self, load: &Bytes, error: &BadLoad) -> Result<(), Ended> {
        tracing::debug!(minion_id = %self.id, error = error as &dyn std::error::Error, "bad load");
        match sequence(load) {
            Some(seq) => self.reply(seq, Err((ErrorCode::BadLoad, error.to_string()))),
            None => Ok(()),
        }
    }

    fn not_accepted(&mut self, request: &Request) -> Result<(), Ended> {
        match request.seq() {
            Some(seq) => self.reply(seq, Err((ErrorCode::NotAccepted, "the key is not accepted".into()))),
            None => Ok(()),
        }
    }

    /// Refuses a load that is too large for a session without rights.
    pub(super) fn refuse_large(&mut self, load: &Bytes) -> Result<(), Ended> {
        match sequence(load) {
            Some(seq) => self.reply(seq, Err((ErrorCode::TooLarge, "the key is not accepted".into()))),
            None => Ok(()),
        }
    }

    async fn jobs_since(&mut self, seq: u64) -> Result<(), Ended> {
        let Ok((serial, jobs)) = self.parts.jobs.since(&self.id).await else { return Err(Ended::Stopping) };
        let jobs: Vec<Value> = jobs.iter().map(|publish| Value::Map(publish.to_map())).collect();
        self.reply(seq, Ok(map! { "serial" => serial, "jobs" => jobs }.into()))
    }

    /// Opens the session of a daemon, or notes a call.
    async fn session(&mut self, session: SessionRequest) -> Result<(), Ended> {
        if self.phase == Phase::Accepted && session.kind == Kind::Daemon {
            if let Some(grains) = session.grains.clone() {
                self.parts.registry.set_grains(&self.id, grains);
            }
            if !self.open(&session).await {
                return self.duplicate(&session);
            }
        }
        self.reply(session.seq, Ok(Value::Null))
    }

    /// Takes the id's session, from a dead process if need be. Returns false if a living one has it.
    async fn open(&mut self, session: &SessionRequest) -> bool {
        let daemon = Daemon {
            number: self.number,
            instance: session.instance,
            software: session.software.clone(),
            addr: self.peer.info.addr,
        };
        let (conn, sender) = (self.peer.info.conn, self.peer.link.sender());
        match self.parts.registry.open(&self.id, conn, sender.clone(), daemon.clone(), false) {
            Opening::Opened => return true,
            Opening::Contested(old) => {
                let asked = tokio::time::Instant::now();
                old.ping();
                if alive_since(&old, asked).await {
                    return false;
                }
            }
        }
        self.parts.registry.open(&self.id, conn, sender, daemon, true);
        true
    }

    /// Another daemon with this id is alive: this one gets no rights.
    fn duplicate(&mut self, session: &SessionRequest) -> Result<(), Ended> {
        let data = map! { "id" => &self.id, "addr" => self.peer.info.addr.to_string() };
        self.parts.bus.try_fire(Tag::duplicate(), &data);
        tracing::warn!(minion_id = %self.id, addr = %self.peer.info.addr, "a second minion claims this id; it is refused");
        self.reply(session.seq, Err((ErrorCode::Refused, "another minion with this id is connected".into())))?;
        self.become_duplicate()
    }

    fn become_duplicate(&mut self) -> Result<(), Ended> {
        if !self.parts.registry.enter_limbo() {
            return Err(Ended::LimboOver);
        }
        self.phase = Phase::Limbo(SessionState::Duplicate);
        let reason = "another minion with this id is connected; give this host an id of its own".to_owned();
        let ping_s = self.parts.ping.as_secs();
        let welcome = proto::message::Welcome {
            state: SessionState::Duplicate,
            session: 0,
            serial: 0,
            ping_s,
            reason: Some(reason),
        };
        self.push(&Push::Welcome(welcome))
    }

    /// Commits a load of events: those that are this minion's to fire, with its id in them.
    async fn events(&mut self, load: MinionEvents, bytes: usize) -> Result<(), Ended> {
        let mut events = Vec::with_capacity(load.events.len());
        for item in load.events {
            match Tag::parse(&item.tag) {
                Ok(tag) if tag.allowed_from(&self.id) => match event::with_sender(&item.data, &self.id) {
                    Ok(data) => events.push(NewEvent { tag, data }),
                    Err(_) => self.deny(&item.tag),
                },
                _ => self.deny(&item.tag),
            }
        }
        self.submit(Batch { events, mark: Some(self.mark(load.at)) }, load.at, bytes, None).await
    }

    fn deny(&mut self, tag: &str) {
        self.denied += 1;
        if TELL_DENIED_AT.contains(&self.denied) {
            let shown: String = tag.chars().take(200).collect();
            tracing::warn!(minion_id = %self.id, tag = shown, denied = self.denied, "minion fired a tag that is not its own");
            let data = map! { "id" => &self.id, "tag" => shown, "denied" => self.denied };
            self.parts.bus.try_fire(Tag::denied(&self.id), &data);
        }
    }

    /// Commits a return if the job is this minion's to return.
    async fn ret(&mut self, ret: Return, bytes: usize) -> Result<(), Ended> {
        let verdict = self.parts.jobs.admit(&self.id, &ret.jid).await.map_err(|_| Ended::Stopping)?;
        let mark = Some(self.mark(ret.at));
        match verdict {
            Verdict::Accept(jid) => {
                let data = ret.event_data(&self.id, jid.as_str(), unix_s());
                let events = vec![NewEvent { tag: Tag::job_ret(&jid, &self.id), data }];
                self.submit(Batch { events, mark }, ret.at, bytes, Some(jid)).await
            }
            Verdict::Duplicate => self.submit(Batch { events: Vec::new(), mark }, ret.at, bytes, None).await,
            Verdict::Refuse => {
                let tag = format!("salt/job/{}/ret/{}", ret.jid, self.id);
                self.deny(&tag);
                // Acknowledged all the same, so that the spool drains.
                self.submit(Batch { events: Vec::new(), mark }, ret.at, bytes, None).await
            }
        }
    }

    fn mark(&self, at: proto::message::Spooled) -> Mark {
        Mark { id: self.id.clone(), spool: at.spool, n: at.n }
    }

    async fn submit(
        &mut self,
        batch: Batch,
        at: proto::message::Spooled,
        bytes: usize,
        ret: Option<proto::ids::Jid>,
    ) -> Result<(), Ended> {
        let ticket = match self.parts.bus.submit(batch).await {
            Ok(ticket) => ticket,
            Err(error) => {
                if let Some(jid) = &ret {
                    self.parts.jobs.take_back(&self.id, jid).await;
                }
                return Err(Ended::NotLogged(error));
            }
        };
        self.in_flight(Load { at, bytes, ret, ticket });
        Ok(())
    }
}

/// Finds the number of a request that is otherwise not understood.
fn sequence(load: &Bytes) -> Option<u64> {
    Fields::read(load).ok()?.optional_u64("seq").ok()?
}

/// Waits for a sign of life of a connection, at most as long as the probe may take.
async fn alive_since(sender: &transport::LinkSender, asked: tokio::time::Instant) -> bool {
    const LOOK_EVERY: std::time::Duration = std::time::Duration::from_millis(50);
    let looks = DUPLICATE_PROBE.as_millis() / LOOK_EVERY.as_millis();
    for _ in 0..looks {
        if sender.is_closed() {
            return false;
        }
        if sender.last_seen() > asked {
            return true;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    false
}

fn unix_s() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
