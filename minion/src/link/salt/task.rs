//! The loop of a link to a Salt master: picks an input, lets the rules decide, does what they say, sends what is next.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use bytes::Bytes;
use proto::message::{Kind, Publish, SessionState};
use proto::salt::auth::Standing;
use proto::salt::crypticle::SessionKey;
use proto::salt::publish::Ear;
use proto::salt::rsa::PublicKey;
use proto::value::Map;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant as TokioInstant, sleep_until, timeout};
use tracing::{debug, error, info, warn};
use transport::LinkSender;

use super::super::ask::Question;
use super::super::connect::{DialError, Dialed};
use super::super::outbox::Outbox;
use super::super::pump::{self, Socket, Wire, WireEvent};
use super::super::state::Failure;
use super::super::words::chain;
use super::super::{LinkStatus, Note, Request};
use super::Target;
use super::auth::{self, AuthError, Outcome, Own, Prepared};
use super::connect;
use super::state::{Judged, SaltInput, SaltOutput, SaltState};
use super::talk::{Flight, Opened};
use crate::jids::Jids;
use crate::spool::{Exchange, Exchanged, Flow, Item};

/// Requests taken in one turn, so that events that wait together go as one load.
const TURN: usize = 256;
/// How long a stopping link may take to hand over what its spool holds.
const STOP_GRACE: Duration = Duration::from_secs(3);
/// How long the spool may take to store what it was given last.
const STORE_GRACE: Duration = Duration::from_secs(1);
/// How long closing connections may take.
const CLOSE_GRACE: Duration = Duration::from_secs(1);

/// The link's own task.
pub(super) struct SaltTask {
    pub(super) target: Arc<Target>,
    pub(super) state: SaltState,
    pub(super) outbox: Outbox,
    /// What functions asked and was not sent yet.
    pub(super) questions: VecDeque<Question>,
    /// The request under way.
    pub(super) flight: Option<Flight>,
    /// Whose turn it is when both wait: a question's, or the spool's.
    pub(super) spool_is_next: bool,
    /// A load of the spool that the master does not take, and how often it did not.
    pub(super) refused: Option<(proto::message::Spooled, u32)>,
    /// When the master is to hear of us.
    pub(super) ping_at: Option<Instant>,
    pub(super) own: Option<Arc<Own>>,
    pub(super) keys: Option<Keys>,
    pub(super) ear: Option<Ear>,
    /// Publications that did not open: they may under the next key.
    pub(super) unheard: VecDeque<Bytes>,
    pub(super) unheard_bytes: usize,
    pub(super) backlog: VecDeque<Publish>,
    /// RSA work, off this thread: one piece at a time, and one that was given up.
    pub(super) work: JoinSet<Work>,
    /// The number of the present authentication.
    pub(super) round: u64,
    kind: Kind,
    autosign_grains: Option<Arc<Map>>,
    status: watch::Sender<LinkStatus>,
    jobs: mpsc::Sender<Publish>,
    wire: mpsc::Sender<Wire>,
    pumps: JoinSet<()>,
    generation: u64,
    pub(super) req: Connection,
    sub: Connection,
    /// Whether an `_auth` is being made. A first key pair may take longer than a connection lasts; it is made once.
    is_preparing: bool,
    /// The `_auth` that waits for its answer.
    asking: Option<Arc<Prepared>>,
    publish_port: u16,
    /// Counts the times that publications began to come in.
    session: u64,
    /// What was logged last, so that a master that stays away is not logged every few seconds.
    told: String,
    stop_by: Option<Instant>,
}

/// What an accepted minion holds.
pub(super) struct Keys {
    pub(super) session: SessionKey,
    pub(super) master: PublicKey,
}

/// One of the two connections as the loop sees it.
#[derive(Default)]
pub(super) struct Connection {
    generation: u64,
    pub(super) sender: Option<LinkSender>,
}

/// What the loop is made of.
pub(super) struct Parts {
    pub(super) target: Target,
    pub(super) kind: Kind,
    pub(super) autosign_grains: Option<Map>,
    pub(super) jids: Option<Jids>,
    pub(super) state: SaltState,
    pub(super) spool: SyncSender<Exchange<Note>>,
    pub(super) status: watch::Sender<LinkStatus>,
    pub(super) jobs: mpsc::Sender<Publish>,
    pub(super) wire: mpsc::Sender<Wire>,
}

/// A finished piece of RSA work, with the round that it belongs to.
pub(super) enum Work {
    Judged(u64, Arc<Prepared>, Box<Result<Outcome, AuthError>>),
    Pillar(u64, Opened),
    Prepared(u64, Box<Result<Prepared, AuthError>>),
}

enum Input {
    Requests,
    Slot(mpsc::OwnedPermit<Publish>),
    Spooled(Exchanged<Note>),
    Tick,
    Wire(Wire),
    Work(Work),
}

impl SaltTask {
    pub(super) fn new(parts: Parts) -> SaltTask {
        let ping_at = parts.target.ping.filter(|_| parts.kind == Kind::Daemon).map(|every| Instant::now() + every);
        SaltTask {
            target: Arc::new(parts.target),
            state: parts.state,
            outbox: Outbox::new(parts.spool, parts.jids),
            questions: VecDeque::new(),
            flight: None,
            spool_is_next: false,
            refused: None,
            ping_at,
            own: None,
            keys: None,
            ear: None,
            unheard: VecDeque::new(),
            unheard_bytes: 0,
            backlog: VecDeque::new(),
            work: JoinSet::new(),
            round: 0,
            kind: parts.kind,
            autosign_grains: parts.autosign_grains.map(Arc::new),
            status: parts.status,
            jobs: parts.jobs,
            wire: parts.wire,
            pumps: JoinSet::new(),
            generation: 0,
            req: Connection::default(),
            sub: Connection::default(),
            is_preparing: false,
            asking: None,
            publish_port: 0,
            session: 0,
            told: String::new(),
            stop_by: None,
        }
    }

    /// Runs until the link was stopped and its spool is empty, or the grace is over.
    pub(super) async fn run(
        mut self,
        mut requests: mpsc::Receiver<Request>,
        mut wire: mpsc::Receiver<Wire>,
        mut spooled: mpsc::Receiver<Exchanged<Note>>,
    ) {
        let mut batch = Vec::new();
        while !self.is_done() {
            let ping = self.ping_at.filter(|_| self.state.is_free());
            let tick = [self.state.next_tick(), self.stop_by, ping].into_iter().flatten().min();
            let input = tokio::select! {
                Some(wire) = wire.recv() => Input::Wire(wire),
                Some(Ok(work)) = self.work.join_next() => Input::Work(work),
                Some(answer) = spooled.recv() => Input::Spooled(answer),
                taken = requests.recv_many(&mut batch, TURN) => {
                    // Every handle is gone.
                    if taken == 0 { break }
                    Input::Requests
                }
                Ok(slot) = self.jobs.clone().reserve_owned(), if !self.backlog.is_empty() => Input::Slot(slot),
                () = until(tick) => Input::Tick,
            };
            match input {
                Input::Requests => batch.drain(..).for_each(|request| self.request(request)),
                Input::Slot(slot) => {
                    if let Some(job) = self.backlog.pop_front() {
                        slot.send(job);
                    }
                }
                Input::Spooled(answer) => self.outbox.exchanged(answer),
                Input::Tick => self.give(SaltInput::Tick),
                Input::Wire(wire) => self.wire(wire),
                Input::Work(work) => self.worked(work),
            }
            self.send_next();
            self.outbox.exchange(if self.state.is_flowing() { Flow::On } else { Flow::Off });
        }
        self.end(wire, spooled).await;
    }

    async fn end(mut self, wire: mpsc::Receiver<Wire>, spooled: mpsc::Receiver<Exchanged<Note>>) {
        close(&mut self.sub);
        close(&mut self.req);
        drop(wire);
        self.abandon_questions();
        // A key that is being made is left to its thread.
        self.work.detach_all();
        // What is queued is still written; a connection that is only being made is given up.
        let _ = timeout(CLOSE_GRACE, async { while self.pumps.join_next().await.is_some() {} }).await;
        self.pumps.shutdown().await;
        let status = self.status.clone();
        if timeout(STORE_GRACE, self.outbox.settle(spooled)).await.is_err() {
            warn!("the spool did not end in time; is the disk very slow?");
        }
        status.send_replace(LinkStatus::Stopped);
    }

    fn is_done(&self) -> bool {
        let handed_over = self.outbox.is_empty() && self.flight.is_none();
        self.stop_by.is_some_and(|by| by <= Instant::now() || handed_over || !self.state.is_flowing())
    }

    fn request(&mut self, request: Request) {
        match request {
            Request::Ask(question) => self.ask(question),
            Request::Event { item, told } => self.outbox.event(item, told),
            // The master learns of grains with the pillar, which may be another one now.
            Request::Grains(_) if self.state.is_up() && self.kind == Kind::Daemon => self.renew_session(),
            // What is told at the next session; and Salt's master does not ask who is not meant.
            Request::Grains(_) | Request::NoMatch(_) => {}
            Request::Return { load, jid, note, taken } => self.outbox.ret(Item::Return { load, jid, note, taken }),
            Request::Stop => self.stop_by = Some(Instant::now() + STOP_GRACE),
        }
    }

    fn wire(&mut self, wire: Wire) {
        let connection = if wire.socket == Socket::Dealer { &mut self.req } else { &mut self.sub };
        if connection.generation != wire.generation {
            // A connection that was given up while it was being made.
            if let WireEvent::Ready(sender, _) = wire.event {
                sender.close();
            }
            return;
        }
        let (ready, lost) = match wire.socket {
            Socket::Dealer => (SaltInput::ReqReady, SaltInput::ReqLost),
            Socket::Sub => (SaltInput::SubReady, SaltInput::SubLost),
        };
        match (wire.socket, wire.event) {
            (_, WireEvent::Ready(sender, _)) => {
                connection.sender = Some(sender);
                self.give(ready);
            }
            (Socket::Dealer, WireEvent::Message(frames)) => self.answered(&frames),
            (Socket::Sub, WireEvent::Message(frames)) => self.published(&frames),
            (_, WireEvent::Closed(closed)) => {
                connection.sender = None;
                self.ended(format!("stay connected: {closed}"));
                self.give(lost);
            }
            (_, WireEvent::Failed(failed)) => {
                self.report(&failed);
                self.give(lost);
            }
        }
    }

    /// Takes what came on the REQ: the answer to the one thing that is under way.
    fn answered(&mut self, frames: &[Bytes]) {
        let Some(payload) = frames.last().cloned() else { return };
        let Some(prepared) = self.asking.take() else { return self.replied(payload) };
        let (target, round) = (Arc::clone(&self.target), self.round);
        self.work.spawn_blocking(move || {
            let outcome = auth::judge(&target, &prepared, &payload);
            Work::Judged(round, prepared, Box::new(outcome))
        });
    }

    pub(super) fn give(&mut self, input: SaltInput) {
        for output in self.state.handle(Instant::now(), input) {
            self.perform(output);
        }
    }

    fn perform(&mut self, output: SaltOutput) {
        match output {
            SaltOutput::Authenticate => self.authenticate(),
            SaltOutput::CloseReq => {
                self.asking = None;
                close(&mut self.req);
                self.ended("hear from the master in time; asking again".to_owned());
            }
            SaltOutput::ConnectReq => {
                let target = Arc::clone(&self.target);
                self.connect(Socket::Dealer, async move { connect::requests(&target).await });
            }
            SaltOutput::ConnectSub => {
                let (target, port) = (Arc::clone(&self.target), self.publish_port);
                close(&mut self.sub);
                self.connect(Socket::Sub, async move { connect::publications(&target, port).await });
            }
            SaltOutput::Listen => self.listen_again(),
            SaltOutput::Live => self.renew_session(),
            SaltOutput::Return => self.return_flight(),
            SaltOutput::SendAgain => self.send_flight(),
        }
    }

    fn authenticate(&mut self) {
        if std::mem::replace(&mut self.is_preparing, true) {
            return;
        }
        self.round += 1;
        let (target, own, round) = (Arc::clone(&self.target), self.own.clone(), self.round);
        let grains = self.autosign_grains.clone();
        self.work
            .spawn_blocking(move || Work::Prepared(round, Box::new(auth::prepare(&target, own, grains.as_deref()))));
    }

    fn worked(&mut self, work: Work) {
        self.is_preparing &= !matches!(work, Work::Prepared(..));
        match work {
            Work::Prepared(round, prepared) if round == self.round => match *prepared {
                // The connection that it was for is gone; the next one begins anew.
                Ok(prepared) if !self.state.is_preparing() => self.own = Some(prepared.own),
                Ok(prepared) => {
                    self.own = Some(Arc::clone(&prepared.own));
                    let payload = prepared.payload.clone();
                    self.asking = Some(Arc::new(prepared));
                    self.give(SaltInput::AuthSent);
                    self.send_payload(payload);
                }
                Err(failed) => self.not_accepted(&failed),
            },
            Work::Judged(round, prepared, outcome) if round == self.round => match *outcome {
                Ok(Outcome::Accepted(credentials)) => {
                    drop(prepared);
                    let signer = self.target.signed_publications.then(|| credentials.master.clone());
                    match &mut self.ear {
                        Some(ear) => ear.renew(credentials.shared, signer),
                        None => self.ear = Some(Ear::new(credentials.shared, signer)),
                    }
                    self.publish_port = self.target.publish_port.unwrap_or(credentials.publish_port);
                    self.keys = Some(Keys { session: credentials.session, master: credentials.master });
                    self.accepted();
                }
                Ok(Outcome::Standing(standing)) => self.limbo(standing),
                Err(failed) => self.not_accepted(&failed),
            },
            Work::Pillar(round, opened) => self.pillar_opened(round, opened),
            // Of an authentication that was given up.
            Work::Prepared(..) | Work::Judged(..) => {}
        }
    }

    fn accepted(&mut self) {
        self.give(SaltInput::Judged(Judged::Accepted));
        debug!("the master accepts this minion");
        if self.state.is_up() {
            // The connection that publications come on was there all the time.
            self.status.send_replace(LinkStatus::Up { session: self.session });
        }
    }

    /// Tells that publications come in; whoever follows asks for the pillar, which brings the grains to the master.
    fn renew_session(&mut self) {
        self.session += 1;
        self.told.clear();
        info!(session = self.session, master = self.target.host, "connected to the Salt master");
        self.status.send_replace(LinkStatus::Up { session: self.session });
    }

    fn limbo(&mut self, standing: Standing) {
        let id = &self.target.id;
        let (state, advice) = match standing {
            Standing::Full => (SessionState::Full, "it takes no more minions for now (max_minions)".to_owned()),
            Standing::Pending => {
                let fingerprint = self.own.as_ref().map(|own| own.key.public().fingerprint().to_string());
                let fingerprint = fingerprint.unwrap_or_default();
                let how =
                    format!("compare the fingerprint {fingerprint} with `salt-key -f {id}`, then `salt-key -a {id}`");
                (SessionState::Pending, format!("its key waits for acceptance; on the master, {how}"))
            }
            Standing::Rejected => {
                let how =
                    format!("`salt-key -l all` shows which; `salt-key -d {id}` on the master forgets all its keys");
                (SessionState::Rejected, format!("its key was rejected, or another key holds the id {id}; {how}"))
            }
        };
        let text = format!("limbo {}", state.name());
        if std::mem::replace(&mut self.told, text.clone()) != text {
            warn!(
                state = state.name(),
                "the Salt master does not accept this minion: {advice}. It is asked again by itself"
            );
        }
        self.forget_unheard();
        self.status.send_replace(LinkStatus::Limbo { state, reason: None });
        self.give(SaltInput::Judged(Judged::Standing(standing)));
    }

    fn not_accepted(&mut self, failed: &AuthError) {
        let text = chain(failed);
        let again = self.told == text;
        let remedy = failed.remedy(&self.target);
        match failed.judged() {
            Judged::Distrusted => error!("failed to {text}; {remedy}"),
            _ if again => debug!("failed to {text}"),
            _ => warn!("failed to {text}; {remedy}"),
        }
        self.told.clone_from(&text);
        self.forget_unheard();
        self.status.send_replace(LinkStatus::Down { why: Some(text) });
        self.give(SaltInput::Judged(failed.judged()));
    }

    fn report(&mut self, failed: &DialError) {
        let text = chain(failed);
        match failed.failure() {
            Failure::Distrusted => error!("failed to {text}"),
            Failure::Unreachable if self.told == text => debug!("failed to {text}"),
            Failure::Unreachable => warn!(master = self.target.host, "failed to {text}; trying again"),
        }
        self.told.clone_from(&text);
        self.status.send_replace(LinkStatus::Down { why: Some(text) });
    }

    fn ended(&self, why: String) {
        // Limbo is the better explanation of a connection that goes.
        self.status.send_if_modified(|status| {
            let changes = !matches!(status, LinkStatus::Limbo { .. });
            if changes {
                *status = LinkStatus::Down { why: Some(why) };
            }
            changes
        });
    }

    fn connect(&mut self, socket: Socket, connected: impl Future<Output = Result<Dialed, DialError>> + Send + 'static) {
        self.generation += 1;
        let connection = Connection { generation: self.generation, sender: None };
        match socket {
            Socket::Dealer => self.req = connection,
            Socket::Sub => self.sub = connection,
        }
        while self.pumps.try_join_next().is_some() {}
        let heartbeat = self.target.heartbeat;
        self.pumps.spawn(pump::run(connected, move || heartbeat, socket, self.generation, self.wire.clone()));
    }

    /// Queues a payload on the REQ. The queue is empty then, so it refuses only when the connection is gone, and its pump
    /// reports that.
    pub(super) fn send_payload(&self, payload: Vec<u8>) {
        if let Some(sender) = &self.req.sender
            && let Err(refused) = sender.try_send([Bytes::new(), Bytes::from(payload)])
        {
            debug!(%refused, "not sent");
            sender.close();
        }
    }
}

/// Closes one connection; what it still reports is of an earlier generation.
fn close(connection: &mut Connection) {
    if let Some(sender) = connection.sender.take() {
        sender.close();
    }
    connection.generation = 0;
}

async fn until(tick: Option<Instant>) {
    match tick {
        Some(tick) => sleep_until(TokioInstant::from_std(tick)).await,
        None => std::future::pending().await,
    }
}
