//! The loop of the link: picks an input, lets the rules decide, does what they say, then sends what the window allows.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use bytes::Bytes;
use proto::message::{self, Kind, Publish, Push, Request as WireRequest, RsaProof, SessionRequest, Welcome};
use proto::msgpack;
use proto::value::{Map, Value};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant as TokioInstant, sleep_until, timeout};
use tracing::{debug, error, info, warn};
use transport::LinkSender;

use super::ask::{self, Asked, Question};
use super::connect::{self, DialError, Target};
use super::intake::unix_ms;
use super::outbox::Outbox;
use super::pulse::Pulse;
use super::pump::{self, Socket, Wire, WireEvent};
use super::state::{Failure, LinkInput, LinkOutput, LinkState};
use super::words::{chain, explain, log_refusal};
use super::{LinkStatus, Note, Request};
use crate::jids::Jids;
use crate::modules::AskError;
use crate::spool::{Exchange, Exchanged, Flow, Item};

/// Requests taken in one turn, so that events that wait together go as one load.
const TURN: usize = 256;
/// From which difference on the two clocks are told to be apart, in milliseconds.
const CLOCKS_APART_MS: u64 = 5_000;
/// Jobs that may wait for the executor. Beyond it the session is closed; `jobs_since` brings them again.
const MAX_BACKLOG: usize = 4096;
/// How long a stopping link may take to hand over what its spool holds.
const STOP_GRACE: Duration = Duration::from_secs(3);
/// How long the spool may take to store what it was given last.
const STORE_GRACE: Duration = Duration::from_secs(1);
/// How long closing connections may take.
const CLOSE_GRACE: Duration = Duration::from_secs(1);
/// What the session says of this software.
const SOFTWARE: &str = concat!("halite ", env!("CARGO_PKG_VERSION"));

/// The link's own task.
pub(super) struct LinkTask {
    target: Arc<Target>,
    kind: Kind,
    instance: [u8; 16],
    grains: Option<Bytes>,
    autosign_grains: Option<Map>,
    state: LinkState,
    outbox: Outbox,
    status: watch::Sender<LinkStatus>,
    jobs: mpsc::Sender<Publish>,
    backlog: VecDeque<Publish>,
    wire: mpsc::Sender<Wire>,
    pumps: JoinSet<()>,
    pulse: Arc<Pulse>,
    generation: u64,
    dealer: Connection,
    sub: Connection,
    /// What was logged last, so that a master that stays away is not logged every few seconds.
    told: String,
    stop_by: Option<Instant>,
    /// How far this host's clock is ahead of the master's, in milliseconds.
    ahead_ms: i64,
    asked: Asked,
    /// What vouches for this minion while the master does not accept its native key.
    upgrade: Option<Box<RsaProof>>,
}

/// One of the two connections as the loop sees it.
#[derive(Default)]
struct Connection {
    generation: u64,
    sender: Option<LinkSender>,
}

/// What the loop is made of.
pub(super) struct Parts {
    pub(super) target: Target,
    pub(super) kind: Kind,
    pub(super) grains: Option<Map>,
    pub(super) autosign_grains: Option<Map>,
    pub(super) jids: Option<Jids>,
    pub(super) instance: [u8; 16],
    pub(super) state: LinkState,
    pub(super) spool: SyncSender<Exchange<Note>>,
    pub(super) status: watch::Sender<LinkStatus>,
    pub(super) jobs: mpsc::Sender<Publish>,
    pub(super) wire: mpsc::Sender<Wire>,
}

enum Input {
    Requests,
    Slot(mpsc::OwnedPermit<Publish>),
    Spooled(Exchanged<Note>),
    Tick,
    Wire(Wire),
}

impl LinkTask {
    pub(super) fn new(parts: Parts) -> LinkTask {
        LinkTask {
            target: Arc::new(parts.target),
            kind: parts.kind,
            instance: parts.instance,
            grains: parts.grains.map(|grains| msgpack::encode_map(&grains).into()),
            autosign_grains: parts.autosign_grains,
            state: parts.state,
            outbox: Outbox::new(parts.spool, parts.jids),
            status: parts.status,
            jobs: parts.jobs,
            backlog: VecDeque::new(),
            wire: parts.wire,
            pumps: JoinSet::new(),
            pulse: Arc::default(),
            generation: 0,
            dealer: Connection::default(),
            sub: Connection::default(),
            told: String::new(),
            stop_by: None,
            ahead_ms: 0,
            asked: Asked::default(),
            upgrade: None,
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
            let tick = [self.state.next_tick(), self.stop_by].into_iter().flatten().min();
            let input = tokio::select! {
                Some(wire) = wire.recv() => Input::Wire(wire),
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
                Input::Tick => self.give(LinkInput::Tick),
                Input::Wire(wire) => self.wire(wire),
            }
            self.send_spooled();
            self.outbox.exchange(self.flow());
        }
        self.close();
        drop(wire);
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
        self.stop_by.is_some_and(|by| by <= Instant::now() || self.outbox.is_empty() || !self.state.is_flowing())
    }

    fn request(&mut self, request: Request) {
        match request {
            Request::Ask(question) => self.ask(question),
            Request::Event { item, told } => self.outbox.event(item, told),
            Request::Grains(grains) => {
                self.grains = Some(grains.clone());
                if self.state.is_open() {
                    let seq = self.state.next_seq();
                    self.send(&WireRequest::Grains { seq, grains });
                }
            }
            Request::NoMatch(jid) => {
                if self.state.is_open() {
                    let seq = self.state.next_seq();
                    self.send(&WireRequest::NoMatch { seq, jid });
                }
            }
            Request::Return { load, jid, note, taken } => self.outbox.ret(Item::Return { load, jid, note, taken }),
            Request::Stop => self.stop_by = Some(Instant::now() + STOP_GRACE),
        }
    }

    fn ask(&mut self, question: Question) {
        if !self.state.is_open() {
            return ask::tell(&question.answer, Err(AskError::NotConnected));
        }
        let seq = self.state.next_seq();
        if let Some(load) = self.asked.ask(seq, question, Instant::now()) {
            self.send_bytes(load);
        }
    }

    fn wire(&mut self, wire: Wire) {
        let connection = match wire.socket {
            Socket::Dealer => &mut self.dealer,
            Socket::Sub => &mut self.sub,
        };
        if connection.generation != wire.generation {
            // A connection that was given up while it was being made.
            if let WireEvent::Ready(sender, _) = wire.event {
                sender.close();
            }
            return;
        }
        match (wire.socket, wire.event) {
            (socket, WireEvent::Ready(sender, upgrade)) => {
                connection.sender = Some(sender);
                if socket == Socket::Dealer {
                    self.state.upgrades(upgrade.is_some());
                    self.upgrade = upgrade;
                }
                self.give(if socket == Socket::Dealer { LinkInput::DealerReady } else { LinkInput::SubReady });
            }
            (Socket::Dealer, WireEvent::Message(frames)) => self.pushed(&frames),
            (Socket::Sub, WireEvent::Message(frames)) => self.published(&frames),
            (socket, WireEvent::Closed(closed)) => {
                self.ended(format!("stay connected: {closed}"));
                self.give(if socket == Socket::Dealer { LinkInput::DealerClosed } else { LinkInput::SubClosed });
            }
            (socket, WireEvent::Failed(failed)) => {
                self.report(&failed);
                let input = LinkInput::DealerFailed(failed.failure());
                self.give(if socket == Socket::Dealer { input } else { LinkInput::SubFailed });
            }
        }
    }

    fn pushed(&mut self, frames: &[Bytes]) {
        let Some(load) = frames.last() else { return };
        match Push::decode(load) {
            Ok(push) => self.give(LinkInput::Push(push)),
            // A later version of the master may say more than we know.
            Err(error) => warn!(%error, "the master sent something this version does not know"),
        }
    }

    fn published(&mut self, frames: &[Bytes]) {
        let [topic, load] = frames else { return };
        // libzmq matches prefixes: `m/web1` also gets what is for `m/web10`.
        if topic != message::topic(&self.target.id).as_bytes() {
            return;
        }
        match Publish::decode(load) {
            Ok(publish) => {
                self.state.saw(publish.serial);
                self.queue(publish);
            }
            Err(error) => warn!(%error, "the master published something that is no job"),
        }
    }

    /// Takes in a job. It expires by the master's clock; from here on everything goes by this host's.
    fn queue(&mut self, mut publish: Publish) {
        publish.expires_ms = publish.expires_ms.saturating_add_signed(self.ahead_ms);
        if self.backlog.len() >= MAX_BACKLOG {
            warn!(jid = %publish.jid, "too many jobs wait to be started; the session begins anew and catches up");
            self.give(LinkInput::DealerClosed);
            return;
        }
        self.backlog.push_back(publish);
    }

    /// Notes how far the two clocks are apart, and says so once if a person would want to know.
    fn compare_clocks(&mut self, master_ms: u64) {
        let ahead_ms = unix_ms().cast_signed().saturating_sub(master_ms.cast_signed());
        let apart = |ahead_ms: i64| ahead_ms.unsigned_abs() > CLOCKS_APART_MS;
        if apart(ahead_ms) && !apart(self.ahead_ms) {
            warn!(ahead_ms, "this host's clock is not the master's; jobs are judged by the master's");
        }
        self.ahead_ms = ahead_ms;
    }

    fn give(&mut self, input: LinkInput) {
        if let LinkInput::Push(Push::Welcome(Welcome { now_ms, ping_s, .. })) = &input {
            self.pulse.told(*ping_s);
            now_ms.iter().for_each(|now_ms| self.compare_clocks(*now_ms));
        }
        for output in self.state.handle(Instant::now(), input) {
            self.perform(output);
        }
    }

    fn perform(&mut self, output: LinkOutput) {
        match output {
            LinkOutput::Acked(at) => self.outbox.acked(at),
            LinkOutput::Close => {
                self.asked.lost();
                self.close();
            }
            LinkOutput::CloseSub => close(&mut self.sub),
            LinkOutput::ConnectDealer => self.connect(Socket::Dealer),
            LinkOutput::ConnectSub => self.connect(Socket::Sub),
            LinkOutput::Flow => {
                self.outbox.rewind();
                if self.kind == Kind::Call {
                    self.status.send_replace(LinkStatus::Up { session: 0 });
                }
            }
            LinkOutput::Jobs(jobs) => jobs.into_iter().for_each(|job| self.missed(job)),
            LinkOutput::Limbo(welcome) => self.limbo(welcome),
            LinkOutput::Live { session } => self.live(session),
            LinkOutput::Reply(reply) => self.asked.answer(reply).iter().for_each(log_refusal),
            LinkOutput::SendJobsSince { seq, serial } => self.send(&WireRequest::JobsSince { seq, serial }),
            LinkOutput::SendSession { seq } => self.send_session(seq),
        }
    }

    fn missed(&mut self, job: Value) {
        let Value::Map(map) = job else { return };
        match Publish::from_map(map) {
            Ok(publish) => self.queue(publish),
            Err(error) => warn!(%error, "the master lists a missed job that is none"),
        }
    }

    fn live(&mut self, session: u64) {
        self.told.clear();
        info!(session, master = self.target.host, "connected to the master");
        self.status.send_replace(LinkStatus::Up { session });
    }

    fn limbo(&mut self, welcome: Welcome) {
        let Welcome { state, reason, .. } = welcome;
        let text = format!("limbo {} {reason:?}", state.name());
        if std::mem::replace(&mut self.told, text.clone()) != text {
            let why = explain(state, &self.target);
            warn!(state = state.name(), reason, "the master does not accept this minion: {why}");
        }
        self.status.send_replace(LinkStatus::Limbo { state, reason });
    }

    /// Logs why there is no connection: loudly if the master's key is wrong, else once per reason.
    fn report(&mut self, failed: &DialError) {
        let text = chain(failed);
        let again = self.told == text;
        match failed.failure() {
            Failure::Distrusted => error!("failed to {text}"),
            Failure::Unreachable if again => debug!("failed to {text}"),
            Failure::Unreachable => warn!(master = self.target.host, "failed to {text}; trying again"),
        }
        self.told.clone_from(&text);
        self.status.send_replace(LinkStatus::Down { why: Some(text) });
    }

    fn ended(&self, why: String) {
        // Limbo is the better explanation of a connection that the master then closes.
        self.status.send_if_modified(|status| {
            let changes = !matches!(status, LinkStatus::Limbo { .. });
            if changes {
                *status = LinkStatus::Down { why: Some(why) };
            }
            changes
        });
    }

    fn flow(&self) -> Flow {
        if self.state.is_flowing() { Flow::On } else { Flow::Off }
    }

    fn connect(&mut self, socket: Socket) {
        self.generation += 1;
        let connection = Connection { generation: self.generation, sender: None };
        match socket {
            Socket::Dealer => self.dealer = connection,
            Socket::Sub => self.sub = connection,
        }
        while self.pumps.try_join_next().is_some() {}
        let (target, pulse) = (Arc::clone(&self.target), Arc::clone(&self.pulse));
        let beat = {
            let before = target.heartbeat;
            move || pulse.heartbeat(before)
        };
        let (generation, wire) = (self.generation, self.wire.clone());
        match socket {
            Socket::Dealer => {
                let connected = async move { connect::dealer(&target).await };
                self.pumps.spawn(pump::run(connected, beat, socket, generation, wire))
            }
            Socket::Sub => {
                let connected = async move { connect::subscriber(&target).await };
                self.pumps.spawn(pump::run(connected, beat, socket, generation, wire))
            }
        };
    }

    fn close(&mut self) {
        close(&mut self.sub);
        close(&mut self.dealer);
    }

    fn send_session(&mut self, seq: u64) {
        let in_limbo = matches!(*self.status.borrow(), LinkStatus::Limbo { .. });
        let request = SessionRequest {
            seq,
            instance: self.instance,
            kind: self.kind,
            version: proto::WIRE_VERSION,
            software: SOFTWARE.to_owned(),
            grains: self.grains.clone(),
            autosign_grains: self.autosign_grains.clone(),
            upgrade: self.upgrade.as_deref().filter(|_| in_limbo).cloned(),
        };
        self.send(&WireRequest::Session(request));
    }

    fn send(&mut self, request: &WireRequest) {
        self.send_bytes(request.encode().into());
    }

    /// Queues bytes on the DEALER. The queue holds a whole window, so it refuses only when the connection is gone, and then
    /// its pump reports that.
    fn send_bytes(&self, load: Bytes) {
        if let Some(sender) = &self.dealer.sender
            && let Err(refused) = sender.try_send(load)
        {
            debug!(%refused, "not sent");
            sender.close();
        }
    }

    fn send_spooled(&mut self) {
        while self.state.is_flowing()
            && let Some(load) = self.outbox.next_load()
        {
            self.send_bytes(load);
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
