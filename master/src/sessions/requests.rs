//! What a minion may ask for, and what each request does.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use proto::map;
use proto::message::{
    BadLoad, ErrorCode, Fields, Kind, MinionEvents, Push, Reply, Request, Return, SessionRequest, SessionState, Spooled,
};
use proto::msgpack;
use proto::salt::command::{BadCommand, Command};
use proto::tag::Tag;
use proto::value::Value;
use tokio::time::Instant;
use transport::{ConnId, LinkSender};

use super::DUPLICATE_PROBE;
use super::dealer::{Dealer, Ended, Phase, welcome};
use super::inflight::Load;
use super::registry::{Daemon, Opening};
use super::spooled::Sender;
use crate::bus::Batch;
use crate::jobs::{Membership, Verdict};
use crate::keys::Vouching;
use crate::requests::Unanswered;

/// How often refused tags are told on the bus: the first, and then each time their number has grown tenfold.
const TELL_DENIED_AT: [u64; 5] = [1, 10, 100, 1_000, 10_000];

/// From this size on no further job is added to the answer to `jobs_since`: a message has at most 16 MiB, and the
/// others have to get through too.
const MAX_LISTED: usize = 2 * 1024 * 1024;
/// The most that a minion may have the master remember about it. The grains of a large host have some 20 KiB.
pub(crate) const MAX_GRAINS: usize = 1024 * 1024;

/// How often a peer without rights may say what vouches for it. It does so once a connection.
const MAX_VOUCHED: u32 = 4;

/// How many of a session's requests for files, pillar and the like may be under way.
pub(super) const MAX_ASKING: usize = 16;

/// A request for a session that another process holds, until that one has proven to be alive or dead.
pub(super) struct Contest {
    holder: LinkSender,
    asked: Instant,
    session: SessionRequest,
}

impl Contest {
    /// Waits until it is known whether the holder lives. Cancel-safe: it depends on nothing but the clock.
    pub(super) async fn settled(contest: Option<&Contest>) -> bool {
        const LOOK_EVERY: Duration = Duration::from_millis(50);
        let Some(Contest { holder, asked, .. }) = contest else { return false };
        while !holder.is_closed() && asked.elapsed() < DUPLICATE_PROBE {
            if holder.last_seen() > *asked {
                return true;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        false
    }
}

impl Dealer<'_> {
    /// Answers one request.
    pub(super) async fn request(&mut self, load: &Bytes) -> Result<(), Ended> {
        let request = match Request::decode(load) {
            Ok(request) => request,
            Err(error) => return self.bad_load(load, &error).await,
        };
        if self.phase != Phase::Accepted && !matches!(request, Request::Session(_)) {
            return self.not_accepted(&request);
        }
        match request {
            Request::Grains { seq, grains } if grains.len() > MAX_GRAINS => {
                self.reply(seq, Err((ErrorCode::TooLarge, format!("grains have at most {MAX_GRAINS} bytes"))))
            }
            Request::Grains { seq, grains } => {
                self.parts.registry.set_grains(&self.id, &grains);
                self.reply(seq, Ok(Value::Null))
            }
            Request::JobsSince { seq, .. } => self.jobs_since(seq).await,
            Request::MinionEvents(events) => self.events(events, load.len()).await,
            Request::NoMatch { seq, jid } => {
                self.parts.jobs.no_match(&self.id, &jid).await.map_err(|_| Ended::Stopping)?;
                self.reply(seq, Ok(Value::Null))
            }
            Request::Other { seq, cmd, load } => self.other(seq, &cmd, &load),
            Request::Return(ret) => self.ret(ret, load.len()).await,
            Request::Session(session) => self.session(session).await,
        }
    }

    pub(super) fn reply(&mut self, seq: u64, result: Result<Value, (ErrorCode, String)>) -> Result<(), Ended> {
        self.push(&Push::Reply(Reply { seq, result }))
    }

    /// Has one of Salt's requests answered, while this session goes on.
    fn other(&mut self, seq: u64, cmd: &str, load: &Bytes) -> Result<(), Ended> {
        let unknown = || (ErrorCode::UnknownCmd, format!("{cmd} is not supported by this master"));
        let Some(asked) = self.parts.asked.clone() else { return self.reply(seq, Err(unknown())) };
        let command =
            msgpack::decode_map(load).map_err(|error| (ErrorCode::BadLoad, error.to_string())).and_then(|load| {
                Command::from_load(&load).map_err(|bad| match bad {
                    BadCommand::Uncallable | BadCommand::Unknown => unknown(),
                    BadCommand::Field(_) => (ErrorCode::BadLoad, bad.to_string()),
                })
            });
        let command = match command {
            Ok(command) => command,
            Err(bad) => return self.reply(seq, Err(bad)),
        };
        let Ok(place) = Arc::clone(&self.asking).try_acquire_owned() else {
            let busy = format!("more than {MAX_ASKING} requests of this minion are under way");
            return self.reply(seq, Err((ErrorCode::Busy, busy)));
        };
        let (id, envelope, link) = (self.id.clone(), self.envelope, self.peer.link.sender());
        tokio::spawn(async move {
            let result = asked.answer(&id, command).await.map_err(|error| (code(&error), error.to_string()));
            let load = Bytes::from(Push::Reply(Reply { seq, result }).encode());
            let frames: transport::Multipart = if envelope { vec![Bytes::new(), load].into() } else { load.into() };
            // A peer that does not read its replies loses its connection.
            if link.try_send(frames).is_err() {
                link.close();
            }
            drop(place);
        });
        Ok(())
    }

    async fn bad_load(&mut self, load: &Bytes, error: &BadLoad) -> Result<(), Ended> {
        tracing::debug!(minion_id = %self.id, error = error as &dyn std::error::Error, "bad load");
        match sequence(load) {
            Some(seq) => self.reply(seq, Err((ErrorCode::BadLoad, error.to_string()))),
            None if self.phase == Phase::Accepted => self.spoiled(load, error).await,
            None => Ok(()),
        }
    }

    /// Acknowledges a spooled load that will never be understood: sent again, it would block its spool for ever.
    async fn spoiled(&mut self, load: &Bytes, error: &BadLoad) -> Result<(), Ended> {
        let Some(at) = spooled(load) else { return Ok(()) };
        self.spoiled += 1;
        if TELL_DENIED_AT.contains(&self.spoiled) {
            let reason = error.to_string();
            tracing::warn!(minion_id = %self.id, n = at.n, reason, spoiled = self.spoiled, "a load cannot be read and is dropped");
            let data = map! { "id" => &self.id, "loads" => 1, "n" => at.n, "reason" => reason };
            self.parts.bus.try_fire(Tag::dropped(&self.id), &data);
        }
        self.submit(self.sender().nothing(at), at, load.len(), None).await
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
        let mut jobs = jobs.into_iter();
        let (mut listed, mut size) = (Vec::new(), 0);
        while size < MAX_LISTED
            && let Some(publish) = jobs.next()
        {
            size += publish.encode().len();
            listed.push(Value::Map(publish.to_map()));
        }
        self.reply(seq, Ok(map! { "serial" => serial, "jobs" => listed }.into()))?;
        // The rest comes as publications. If they are too many for the SUB it is closed, and the minion asks again.
        let mut rest = jobs.map(|publish| Bytes::from(publish.encode()));
        while rest.next().is_some_and(|load| self.parts.registry.deliver_to(&self.id, load)) {}
        Ok(())
    }

    /// Opens the session of a daemon, or notes a call.
    async fn session(&mut self, session: SessionRequest) -> Result<(), Ended> {
        self.kind = session.kind;
        if self.phase == Phase::Limbo(SessionState::Pending) && session.autosign_grains.is_some() {
            return self.vouch(session).await;
        }
        if matches!(self.phase, Phase::Limbo(SessionState::Denied | SessionState::Pending)) && session.upgrade.is_some()
        {
            return self.upgrade(session).await;
        }
        if self.phase == Phase::Accepted && session.kind == Kind::Daemon {
            return self.open(session, None);
        }
        self.reply(session.seq, Ok(Value::Null))
    }

    /// Judges a pending key again, by what its grains say. A peer that guesses may do so a few times only.
    async fn vouch(&mut self, session: SessionRequest) -> Result<(), Ended> {
        self.reply(session.seq, Ok(Value::Null))?;
        if !self.may_vouch() {
            tracing::debug!(minion_id = %self.id, "more grains to vouch for a key; they are not looked at");
            return Ok(());
        }
        self.vouching = session.autosign_grains.map(Vouching);
        self.rejudge().await
    }

    /// Counts what a peer without rights says for itself, and tells whether it is still listened to.
    pub(super) fn may_vouch(&mut self) -> bool {
        self.vouched += 1;
        self.vouched <= MAX_VOUCHED
    }

    /// Takes the id's session, also from the connection to be evicted. If another process has it, that one is asked
    /// first whether it lives; meanwhile this connection is not read, but still watched over.
    fn open(&mut self, session: SessionRequest, evict: Option<ConnId>) -> Result<(), Ended> {
        let daemon = Daemon {
            number: self.number,
            instance: session.instance,
            software: session.software.clone(),
            addr: self.peer.info.addr,
        };
        let (conn, sender) = (self.peer.info.conn, self.peer.link.sender());
        match self.parts.registry.open(&self.id, conn, sender, daemon, evict) {
            Opening::Opened => {
                if let Some(grains) = session.grains {
                    self.parts.registry.set_grains(&self.id, &grains);
                }
                self.reply(session.seq, Ok(Value::Null))
            }
            Opening::Contested(holder) => {
                let asked = Instant::now();
                holder.ping();
                self.contest = Some(Contest { holder, asked, session });
                Ok(())
            }
        }
    }

    /// Decides on a contested session, once it is known whether its holder lives.
    pub(super) fn settle_contest(&mut self, alive: bool) -> Result<(), Ended> {
        match self.contest.take() {
            None => Ok(()),
            Some(contest) if alive => self.duplicate(&contest.session),
            Some(contest) => self.open(contest.session, Some(contest.holder.conn())),
        }
    }

    /// Another daemon with this id is alive: this one gets no rights.
    fn duplicate(&mut self, session: &SessionRequest) -> Result<(), Ended> {
        let data = map! { "id" => &self.id, "addr" => self.peer.info.addr.to_string() };
        self.parts.bus.try_fire(Tag::duplicate(), &data);
        tracing::warn!(minion_id = %self.id, addr = %self.peer.info.addr, "a second minion claims this id; it is refused");
        // The welcome first: it says why, and that it is of no use to come back at once.
        self.become_duplicate()?;
        self.reply(session.seq, Err((ErrorCode::Refused, "another minion with this id is connected".into())))
    }

    fn become_duplicate(&mut self) -> Result<(), Ended> {
        self.enter_limbo(SessionState::Duplicate)?;
        let reason = "another minion with this id is connected; give this host an id of its own".to_owned();
        self.push(&welcome(self.parts, SessionState::Duplicate, 0, 0, Some(reason)))
    }

    /// Commits a load of events: those that are this minion's to fire, with its id in them.
    async fn events(&mut self, load: MinionEvents, bytes: usize) -> Result<(), Ended> {
        let at = load.at;
        let (batch, denied) = self.sender().events(load, bytes);
        denied.iter().for_each(|tag| self.deny(tag));
        self.submit(batch, at, bytes, None).await
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
        let verdict = self.parts.jobs.admit(&self.id, &ret.jid, Membership::Recipient).await;
        let verdict = verdict.map_err(|_| Ended::Stopping)?;
        if verdict == Verdict::Refuse {
            self.deny(&format!("salt/job/{}/ret/{}", ret.jid, self.id));
        }
        match self.sender().ret(&ret, verdict, unix_s()) {
            Some((batch, jid)) => self.submit(batch, ret.at, bytes, jid).await,
            None => Err(Ended::Undecided),
        }
    }

    fn sender(&self) -> Sender<'_> {
        Sender { id: &self.id, kind: self.kind }
    }

    async fn submit(
        &mut self,
        batch: Batch,
        at: Spooled,
        bytes: usize,
        ret: Option<proto::ids::Jid>,
    ) -> Result<(), Ended> {
        let epoch = self.inflight.epoch(self.parts.bus.epoch());
        let ticket = match self.parts.bus.submit_behind(batch, epoch).await {
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

fn code(error: &Unanswered) -> ErrorCode {
    match error {
        Unanswered::Busy => ErrorCode::Busy,
        Unanswered::Elsewhere => ErrorCode::UnknownCmd,
        Unanswered::Failed(_) => ErrorCode::Internal,
        Unanswered::TooLarge(_) => ErrorCode::TooLarge,
    }
}

/// Finds the number of a request that is otherwise not understood.
fn sequence(load: &Bytes) -> Option<u64> {
    Fields::read(load).ok()?.optional_u64("seq").ok()?
}

/// Finds the place in its spool of a load that is otherwise not understood.
fn spooled(load: &Bytes) -> Option<Spooled> {
    let fields = Fields::read(load).ok()?;
    let is_spooled = matches!(fields.str("cmd").ok()?, "_minion_event" | "_return");
    is_spooled.then_some(Spooled { spool: fields.array16("spool").ok()?, n: fields.u64("n").ok()? })
}

fn unix_s() -> i64 {
    i64::try_from(unix_ms() / 1_000).unwrap_or(i64::MAX)
}

/// Returns the master's clock, in Unix milliseconds.
pub(super) fn unix_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
