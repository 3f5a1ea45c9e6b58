//! A share of the swarm in one task. Each minion's sockets wake that minion only; a turn serves the minions that are
//! awake, a tick does what goes by time.

mod ready;

use std::collections::VecDeque;
use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use minion::link::{Failure, LinkInput};
use proto::ids::MinionId;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Interval, MissedTickBehavior, interval};
use transport::{ConnectError, CurveKeyPair, Incoming, Link, LinkSender};

use self::ready::Ready;
use super::Orders;
use super::dial::{Dialler, Socket};
use super::fault::{Dice, Faults, Meter};
use super::minion::{Action, Answers, Minion, Now};
use super::options::Options;
use super::tally::Totals;

/// How often events are fired and counts handed over.
const TICK: Duration = Duration::from_millis(5);
/// How many ticks pass between two looks at every minion's timers.
const TIMERS_EVERY: u64 = 8;
/// Minions served in one turn, before the thread's other work gets its own.
const TURN: usize = 4_096;
/// Messages taken from one socket in one turn.
const MESSAGES: usize = 64;

/// Which part of the swarm a shard is.
#[derive(Debug, Clone, Copy)]
pub struct Share {
    /// Its number, from 0.
    pub index: usize,
    /// How many there are.
    pub of: usize,
    /// When the swarm started.
    pub started: Instant,
}

/// One of a minion's connections.
#[derive(Default)]
struct Connection {
    /// Tells an attempt that was given up from the present one.
    generation: u32,
    link: Option<(Link, LinkSender)>,
}

impl Connection {
    fn close(&mut self) {
        self.generation += 1;
        self.link = None;
    }
}

struct Slot {
    minion: Minion,
    keys: Arc<CurveKeyPair>,
    dealer: Connection,
    sub: Connection,
    waker: Waker,
    /// Reads nothing until then.
    stalled: Option<Instant>,
    /// Answers late until then.
    lagging: Option<Instant>,
}

impl Slot {
    fn connection(&mut self, socket: Socket) -> &mut Connection {
        match socket {
            Socket::Dealer => &mut self.dealer,
            Socket::Sub => &mut self.sub,
        }
    }
}

/// A connection that is to be made.
#[derive(Debug, Clone, Copy)]
struct Wanted {
    slot: usize,
    socket: Socket,
    generation: u32,
}

/// The rates of one shard, turned into occasions.
#[derive(Default)]
struct Meters {
    churn: Meter,
    connect: Meter,
    events: Meter,
    kill: Meter,
    lag: Meter,
    repeat: Meter,
    stall: Meter,
}

/// A share of the swarm.
pub struct Shard {
    slots: Vec<Slot>,
    ready: Arc<Ready>,
    dialler: Arc<Dialler>,
    answers: Arc<Answers>,
    orders: watch::Receiver<Orders>,
    obeyed: u64,
    plan: Plan,
    meters: Meters,
    dice: Dice,
    dials: JoinSet<(Wanted, Result<Link, ConnectError>)>,
    wanted: VecDeque<Wanted>,
    /// How many connections may still be begun, where there is a limit.
    may_connect: usize,
    next_to_fire: usize,
    totals: Totals,
    started: Instant,
    ticked: Instant,
    ticks: u64,
}

/// What the options say, for one shard.
struct Plan {
    /// Its part of the whole.
    part: f64,
    burst: usize,
    churn: f64,
    faults: Faults,
    connect_rate: f64,
    connecting: usize,
}

impl Shard {
    /// Makes the minions of a share; they connect once the shard runs.
    pub fn new(
        options: &Options,
        share: Share,
        dialler: Arc<Dialler>,
        answers: Arc<Answers>,
        orders: watch::Receiver<Orders>,
    ) -> anyhow::Result<Shard> {
        let mut dice = Dice::new(options.seed.wrapping_mul(1_000_003).wrapping_add(share.index as u64));
        let numbers = (1..=options.minions).filter(|number| number % share.of == share.index);
        let ready = Arc::new(Ready::default());
        let mut slots = Vec::new();
        for number in numbers {
            let id = format!("{}{number}", options.prefix);
            let id = MinionId::parse(&id).with_context(|| format!("{id:?} cannot be an id; change --prefix"))?;
            let keys = dialler.pair(&id);
            let waker = ready.waker(slots.len());
            let minion = Minion::new(id, &mut dice, share.started);
            let (dealer, sub) = (Connection::default(), Connection::default());
            slots.push(Slot { minion, keys, dealer, sub, waker, stalled: None, lagging: None });
        }
        let plan = Plan {
            part: slots.len() as f64 / options.minions.max(1) as f64,
            burst: options.burst.max(1),
            churn: options.churn,
            faults: options.fault,
            connect_rate: options.connect_rate,
            connecting: (options.connecting / share.of).max(1),
        };
        Ok(Shard {
            slots,
            ready,
            dialler,
            answers,
            orders,
            obeyed: 0,
            plan,
            meters: Meters::default(),
            dice,
            dials: JoinSet::new(),
            wanted: VecDeque::new(),
            may_connect: 0,
            next_to_fire: 0,
            totals: Totals::default(),
            started: share.started,
            ticked: Instant::now(),
            ticks: 0,
        })
    }

    /// Runs until its swarm is dropped.
    pub async fn run(mut self, all: Arc<Mutex<Totals>>) {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        // The shard divides its time itself: [`TURN`].
        tokio::task::coop::unconstrained(std::future::poll_fn(|cx| self.poll(cx, &mut ticks, &all))).await;
    }

    fn poll(&mut self, cx: &mut Context<'_>, ticks: &mut Interval, all: &Mutex<Totals>) -> Poll<()> {
        self.ready.watch(cx.waker());
        while ticks.poll_tick(cx).is_ready() {
            self.tick();
            // Only numbers are changed under the lock.
            all.lock().unwrap_or_else(PoisonError::into_inner).absorb(&mut self.totals);
        }
        for _ in 0..TURN {
            let Some(slot) = self.ready.pop() else { break };
            self.serve(slot);
        }
        self.poll_dials(cx);
        if !self.ready.is_empty() {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }

    fn now(&self) -> Now {
        let at = Instant::now();
        let us = u64::try_from((at - self.started).as_micros()).unwrap_or(u64::MAX);
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now { at, us, unix_ms: u64::try_from(unix.as_millis()).unwrap_or(u64::MAX) }
    }

    fn tick(&mut self) {
        let now = self.now();
        let span = now.at - self.ticked;
        self.ticked = now.at;
        self.ticks += 1;
        let orders = *self.orders.borrow();
        self.totals.count.obeyed += orders.number - std::mem::replace(&mut self.obeyed, orders.number);
        if self.plan.connect_rate > 0.0 {
            self.may_connect += self.meters.connect.due(self.plan.connect_rate * self.plan.part, span);
        }
        let events = self.meters.events.due(orders.events_per_s * self.plan.part, span);
        self.fire(now, events);
        if orders.trouble {
            self.trouble(now, span);
        }
        if self.ticks.is_multiple_of(TIMERS_EVERY) {
            (0..self.slots.len()).for_each(|slot| self.timers(slot, now));
        }
    }

    /// Fires so many events, one burst after the other, each from the next minion that has a session.
    fn fire(&mut self, now: Now, mut events: usize) {
        let mut asleep = 0;
        while events > 0 && asleep < self.slots.len() {
            let at = self.next_to_fire;
            self.next_to_fire = (at + 1) % self.slots.len();
            let slot = &mut self.slots[at];
            if slot.dealer.link.is_none() {
                asleep += 1;
                continue;
            }
            asleep = 0;
            let burst = self.plan.burst.min(events);
            slot.minion.fire(now, burst, &self.answers, &mut self.totals);
            slot.waker.wake_by_ref();
            events -= burst;
        }
    }

    /// Does what is due of churn and faults.
    fn trouble(&mut self, now: Now, span: Duration) {
        let Plan { part, churn, faults, .. } = self.plan;
        let meters = &mut self.meters;
        let due = [
            meters.churn.due(churn * part, span),
            meters.kill.due(faults.kill * part, span),
            meters.lag.due(faults.lag.rate * part, span),
            meters.repeat.due(faults.repeat * part, span),
            meters.stall.due(faults.stall.rate * part, span),
        ];
        let harms = [Shard::restart, Shard::kill, Shard::lag, Shard::repeat, Shard::stall];
        for (harm, times) in harms.into_iter().zip(due) {
            for _ in 0..times.min(self.slots.len()) {
                let slot = self.dice.pick(self.slots.len());
                harm(self, slot, now);
                self.totals.count.troubles += 1;
                self.slots[slot].waker.wake_by_ref();
            }
        }
    }

    fn restart(&mut self, slot: usize, now: Now) {
        let slot = &mut self.slots[slot];
        slot.minion.restart(&mut self.dice, now.at, &mut self.totals);
        slot.dealer.close();
        slot.sub.close();
    }

    fn kill(&mut self, slot: usize, now: Now) {
        let socket = if self.dice.roll() & 1 == 0 { Socket::Dealer } else { Socket::Sub };
        if self.slots[slot].connection(socket).link.is_some() {
            self.closed(slot, socket, now);
        }
    }

    fn lag(&mut self, slot: usize, now: Now) {
        let slot = &mut self.slots[slot];
        slot.minion.lag();
        slot.lagging = Some(now.at + self.plan.faults.lag.time);
    }

    fn repeat(&mut self, slot: usize, _now: Now) {
        self.slots[slot].minion.repeat();
    }

    fn stall(&mut self, slot: usize, now: Now) {
        self.slots[slot].stalled = Some(now.at + self.plan.faults.stall.time);
    }

    /// Ends what has lasted long enough, and gives the session its tick.
    fn timers(&mut self, index: usize, now: Now) {
        let slot = &mut self.slots[index];
        let over = |until: &mut Option<Instant>| until.take_if(|until| *until <= now.at).is_some();
        if over(&mut slot.lagging) {
            slot.minion.catch_up();
            slot.waker.wake_by_ref();
        }
        if over(&mut slot.stalled) {
            slot.waker.wake_by_ref();
        }
        if slot.minion.next_tick().is_some_and(|due| due <= now.at) {
            self.give(index, LinkInput::Tick, now);
        }
    }

    /// Serves a minion whose sockets, or we, have woken it.
    fn serve(&mut self, index: usize) {
        let now = self.now();
        self.send_spooled(index);
        for socket in [Socket::Dealer, Socket::Sub] {
            if self.slots[index].stalled.is_some() {
                self.pause(index, socket, now);
            } else {
                self.receive(index, socket, now);
            }
        }
        self.send_spooled(index);
    }

    fn receive(&mut self, index: usize, socket: Socket, now: Now) {
        for _ in 0..MESSAGES {
            let slot = &mut self.slots[index];
            let waker = slot.waker.clone();
            let Some((link, _)) = &mut slot.connection(socket).link else { return };
            match link.poll_recv(&mut Context::from_waker(&waker)) {
                Poll::Pending => return,
                Poll::Ready(Err(_)) => {
                    self.totals.count.lost += 1;
                    return self.closed(index, socket, now);
                }
                Poll::Ready(Ok(Incoming::Message(frames))) => {
                    let minion = &mut slot.minion;
                    if socket == Socket::Sub {
                        minion.published(now, &frames, &self.answers, &mut self.totals);
                    } else {
                        let actions = minion.pushed(now, &frames, &self.answers, &mut self.totals);
                        self.perform(index, actions, now);
                    }
                }
                // Only a PUB gets these.
                Poll::Ready(Ok(Incoming::Subscribe(_) | Incoming::Unsubscribe(_))) => {}
            }
        }
        // There may be more.
        self.slots[index].waker.wake_by_ref();
    }

    /// Keeps a connection alive without reading it.
    fn pause(&mut self, index: usize, socket: Socket, now: Now) {
        let slot = &mut self.slots[index];
        let waker = slot.waker.clone();
        let Some((link, _)) = &mut slot.connection(socket).link else { return };
        if pin!(link.recv_paused()).poll(&mut Context::from_waker(&waker)).is_ready() {
            self.totals.count.lost += 1;
            self.closed(index, socket, now);
        }
    }

    fn send_spooled(&mut self, index: usize) {
        let slot = &mut self.slots[index];
        let Some((_, sender)) = &slot.dealer.link else { return };
        while let Some(load) = slot.minion.next_load() {
            // The queue holds a whole window: it refuses only what is closed, and that shows when it is read.
            if sender.try_send(load).is_err() {
                sender.close();
            }
        }
    }

    fn give(&mut self, index: usize, input: LinkInput, now: Now) {
        let actions = self.slots[index].minion.handle(now, input, &self.answers, &mut self.totals);
        self.perform(index, actions, now);
    }

    fn closed(&mut self, index: usize, socket: Socket, now: Now) {
        let slot = &mut self.slots[index];
        slot.minion.ended(&mut self.totals);
        slot.connection(socket).close();
        self.give(index, if socket == Socket::Dealer { LinkInput::DealerClosed } else { LinkInput::SubClosed }, now);
    }

    fn perform(&mut self, index: usize, actions: Vec<Action>, _now: Now) {
        for action in actions {
            let slot = &mut self.slots[index];
            match action {
                Action::Close => {
                    slot.dealer.close();
                    slot.sub.close();
                }
                Action::CloseSub => slot.sub.close(),
                Action::ConnectDealer => self.want(index, Socket::Dealer),
                Action::ConnectSub => self.want(index, Socket::Sub),
                Action::Send(load) => {
                    if let Some((_, sender)) = &slot.dealer.link
                        && sender.try_send(load).is_err()
                    {
                        sender.close();
                    }
                }
            }
        }
    }

    /// Queues a connection. A SUB goes before all DEALERs: it completes a session.
    fn want(&mut self, slot: usize, socket: Socket) {
        let connection = self.slots[slot].connection(socket);
        connection.close();
        let wanted = Wanted { slot, socket, generation: connection.generation };
        match socket {
            Socket::Dealer => self.wanted.push_back(wanted),
            Socket::Sub => self.wanted.push_front(wanted),
        }
    }

    /// Begins the connections that may be begun, and takes those that are made.
    fn poll_dials(&mut self, cx: &mut Context<'_>) {
        loop {
            self.begin_dials();
            match self.dials.poll_join_next(cx) {
                Poll::Ready(Some(Ok((wanted, dialled)))) => self.dialled(wanted, dialled),
                // A dial that panicked has said so; its minion stays away.
                Poll::Ready(Some(Err(_))) => {}
                Poll::Ready(None) | Poll::Pending => return,
            }
        }
    }

    fn begin_dials(&mut self) {
        let limited = self.plan.connect_rate > 0.0;
        while self.dials.len() < self.plan.connecting
            && (!limited || self.may_connect > 0)
            && let Some(wanted) = self.wanted.pop_front()
        {
            let slot = &mut self.slots[wanted.slot];
            if slot.connection(wanted.socket).generation != wanted.generation {
                continue;
            }
            self.may_connect = self.may_connect.saturating_sub(1);
            let (dialler, id, keys) = (Arc::clone(&self.dialler), slot.minion.id().clone(), Arc::clone(&slot.keys));
            self.dials.spawn(async move { (wanted, dialler.dial(id, keys, wanted.socket).await) });
        }
    }

    fn dialled(&mut self, wanted: Wanted, dialled: Result<Link, ConnectError>) {
        let now = self.now();
        let Wanted { slot: index, socket, generation } = wanted;
        let slot = &mut self.slots[index];
        let connection = slot.connection(socket);
        if connection.generation != generation {
            return;
        }
        let input = match dialled {
            Ok(link) => {
                self.totals.count.handshakes += 1;
                let sender = link.sender();
                connection.link = Some((link, sender));
                slot.waker.wake_by_ref();
                if socket == Socket::Dealer { LinkInput::DealerReady } else { LinkInput::SubReady }
            }
            Err(_) => {
                self.totals.count.failed += 1;
                let failed = LinkInput::DealerFailed(Failure::Unreachable);
                if socket == Socket::Dealer { failed } else { LinkInput::SubFailed }
            }
        };
        self.give(index, input, now);
    }
}
