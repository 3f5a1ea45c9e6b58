//! The loop of the room: makes beacons, lets them look off the async threads, fires what they saw.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use proto::map;
use proto::tag::Tag;
use proto::value::{Map, MapExt, Value};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant as TokioInstant, sleep_until};
use tracing::{error, info, warn};

use super::roster::{Refused, Roster};
use super::setup::{Setup, SetupError};
use super::state::{BeaconsInput, BeaconsOutput, BeaconsState, RATE_PER_SECOND, Serial, Timing};
use super::{Beacon, BeaconContext, BeaconEvent, BuildError, LookError, Parts, Waker, chain};
use crate::link::LinkStatus;

/// The room's own task.
pub(super) struct BeaconsTask {
    parts: Parts,
    roster: watch::Receiver<Roster>,
    stop: Arc<Notify>,
    wakes: mpsc::Sender<Arc<str>>,
    state: BeaconsState,
    running: HashMap<Serial, Running>,
    work: JoinSet<Done>,
    /// What was told of beacons that are wrong, so that it is told once.
    told: Vec<Refused>,
}

/// A beacon and what belongs to it. The beacon itself is away while it looks.
struct Running {
    setup: Setup,
    cx: BeaconContext,
    beacon: Option<Box<dyn Beacon>>,
    /// Whether the last look failed.
    failing: bool,
}

/// What came off a blocking thread.
enum Done {
    /// A beacon that was taken out is gone.
    Ended,
    Built(Serial, Result<Box<dyn Beacon>, BuildError>),
    Looked(Serial, Box<dyn Beacon>, Result<Vec<BeaconEvent>, LookError>),
    Panicked(Serial),
}

impl BeaconsTask {
    pub(super) fn new(
        parts: Parts,
        roster: watch::Receiver<Roster>,
        stop: Arc<Notify>,
        wakes: mpsc::Sender<Arc<str>>,
    ) -> BeaconsTask {
        let (state, running, work) = (BeaconsState::default(), HashMap::new(), JoinSet::new());
        BeaconsTask { parts, roster, stop, wakes, state, running, work, told: Vec::new() }
    }

    /// Runs until it is stopped or every handle is gone.
    pub(super) async fn run(mut self, mut woken: mpsc::Receiver<Arc<str>>) {
        self.tell_refused().await;
        if !self.parts.before_connect && !self.connected().await {
            return;
        }
        self.replace();
        loop {
            let tick = self.state.next_tick();
            tokio::select! {
                changed = self.roster.changed() => match changed {
                    Ok(()) => {
                        self.replace();
                        self.tell_refused().await;
                    }
                    Err(_) => return,
                },
                Some(name) = woken.recv() => {
                    if let Some(beacon) = self.serial_of(&name) {
                        self.give(BeaconsInput::Woken(beacon), Vec::new()).await;
                    }
                }
                Some(done) = self.work.join_next() => match done {
                    Ok(done) => self.done(done).await,
                    // Panics are caught on the blocking thread, and nothing aborts it.
                    Err(error) => error!(%error, "a beacon's thread failed"),
                },
                () = self.stop.notified() => return,
                () = until(tick) => self.give(BeaconsInput::Tick, Vec::new()).await,
            }
        }
    }

    /// Waits for the first session; false if the room is closed before.
    async fn connected(&mut self) -> bool {
        let mut status = self.parts.link.status();
        tokio::select! {
            up = status.wait_for(|status| matches!(status, LinkStatus::Up { .. })) => up.is_ok(),
            // Changes of the configuration are looked at when it begins; only the end counts here.
            () = async { while self.roster.changed().await.is_ok() {} } => false,
            () = self.stop.notified() => false,
        }
    }

    /// Tells of beacons that are wrong in a new configuration.
    async fn tell_refused(&mut self) {
        let refused = Arc::clone(&self.roster.borrow().refused);
        let told = std::mem::replace(&mut self.told, refused.to_vec());
        for news in refused.iter().filter(|refused| !told.contains(refused)) {
            let Refused { error: SetupError { place, name, why }, goes_on } = news;
            if *goes_on {
                error!("{place}: beacon {name}: {why}; its old configuration stays in force");
            } else {
                error!("{}", news.error);
            }
            self.fire_error(name, why, map! { "place" => place.as_str(), "goes_on" => *goes_on }).await;
        }
    }

    /// Makes the room what the configuration says; beacons that have not changed go on.
    fn replace(&mut self) {
        let wanted = Arc::clone(&self.roster.borrow_and_update().setups);
        let gone: Vec<Serial> = self
            .running
            .iter()
            .filter(|(_, running)| !wanted.contains(&running.setup))
            .map(|(serial, _)| *serial)
            .collect();
        for serial in gone {
            self.remove(serial);
        }
        for setup in wanted.iter() {
            if !self.running.values().any(|running| running.setup == *setup) {
                self.add(setup.clone());
            }
        }
    }

    fn add(&mut self, setup: Setup) {
        let interval = setup.interval.unwrap_or(self.parts.loop_interval);
        let serial = self.state.add(Instant::now(), Timing { interval });
        let waker = Waker { name: setup.name.as_str().into(), wakes: self.wakes.clone() };
        let cx = BeaconContext { id: self.parts.id.clone(), name: setup.name.clone(), waker };
        let (kind, options, own) = (setup.kind, setup.options.clone(), cx.clone());
        self.running.insert(serial, Running { setup, cx, beacon: None, failing: false });
        self.work.spawn_blocking(move || {
            catch_unwind(AssertUnwindSafe(|| Done::Built(serial, kind.build(&options, &own))))
                .unwrap_or(Done::Panicked(serial))
        });
    }

    fn remove(&mut self, serial: Serial) {
        self.state.remove(serial);
        if let Some(running) = self.running.remove(&serial) {
            info!(beacon = running.setup.name, "beacon ends");
            // Ending may block: a thread is joined, a descriptor closed.
            self.work.spawn_blocking(move || {
                drop(running.beacon);
                Done::Ended
            });
        }
    }

    fn serial_of(&self, name: &str) -> Option<Serial> {
        self.running.iter().find(|(_, running)| running.setup.name == name).map(|(serial, _)| *serial)
    }

    async fn done(&mut self, done: Done) {
        match done {
            Done::Ended => {}
            Done::Built(serial, built) => self.built(serial, built).await,
            Done::Looked(serial, beacon, looked) => self.looked(serial, beacon, looked).await,
            Done::Panicked(serial) => {
                let Some(name) = self.name(serial) else { return };
                error!(beacon = name, "beacon panicked and is disabled until its configuration changes");
                self.state.remove(serial);
                let why = "it panicked; it is disabled until its configuration changes";
                self.fire_error(&name, why, map! { "goes_on" => false }).await;
            }
        }
    }

    async fn built(&mut self, serial: Serial, built: Result<Box<dyn Beacon>, BuildError>) {
        let Some(running) = self.running.get_mut(&serial) else { return };
        match built {
            Ok(beacon) => {
                info!(beacon = running.setup.name, "beacon starts");
                running.beacon = Some(beacon);
                self.give(BeaconsInput::Built(serial), Vec::new()).await;
            }
            Err(why) => {
                let Setup { place, name, .. } = running.setup.clone();
                error!(beacon = name, "{place}: beacon {name} is disabled: failed to {why}");
                // It stays listed, so that it is not made again until its configuration changes.
                self.state.remove(serial);
                self.fire_error(&name, &format!("failed to {why}"), map! { "place" => place, "goes_on" => false })
                    .await;
            }
        }
    }

    async fn looked(
        &mut self,
        serial: Serial,
        mut beacon: Box<dyn Beacon>,
        looked: Result<Vec<BeaconEvent>, LookError>,
    ) {
        let Some(running) = self.running.get_mut(&serial) else { return };
        let missed = beacon.missed();
        running.beacon = Some(beacon);
        let (events, failed) = match looked {
            Ok(events) => (events, None),
            Err(error) => (Vec::new(), Some(chain(&error))),
        };
        if missed > 0 {
            self.report_missed(serial, missed).await;
        }
        self.note(serial, failed).await;
        let count = u32::try_from(events.len()).unwrap_or(u32::MAX);
        self.give(BeaconsInput::Looked { beacon: serial, events: count }, events).await;
    }

    /// Tells that a beacon's looks fail, and when they do no longer; not each time.
    async fn note(&mut self, serial: Serial, failed: Option<String>) {
        let Some(running) = self.running.get_mut(&serial) else { return };
        if running.failing == failed.is_some() {
            return;
        }
        let name = running.setup.name.clone();
        running.failing = failed.is_some();
        match failed {
            Some(why) => {
                warn!("beacon {name} {why}; it looks again");
                self.fire_error(&name, &why, map! { "goes_on" => true }).await;
            }
            None => info!("beacon {name} sees again"),
        }
    }

    async fn give(&mut self, input: BeaconsInput, mut events: Vec<BeaconEvent>) {
        for output in self.state.handle(Instant::now(), input) {
            match output {
                BeaconsOutput::Dropped { beacon, events } => self.report_dropped(beacon, events).await,
                BeaconsOutput::Fire { beacon, events: count } => {
                    events.truncate(usize::try_from(count).unwrap_or(usize::MAX));
                    self.fire(beacon, std::mem::take(&mut events)).await;
                }
                BeaconsOutput::Late(beacon) => {
                    let name = self.running.get(&beacon).map(|running| running.setup.name.as_str());
                    warn!(beacon = name, "beacon has been looking for too long; it looks again when it has come back");
                }
                BeaconsOutput::Look(beacon) => self.look(beacon).await,
            }
        }
    }

    fn name(&self, serial: Serial) -> Option<String> {
        self.running.get(&serial).map(|running| running.setup.name.clone())
    }

    async fn look(&mut self, serial: Serial) {
        let Some(running) = self.running.get_mut(&serial) else { return };
        let Some(mut beacon) = running.beacon.take() else { return };
        let (cx, asks) = (running.cx.clone(), running.setup.rests_during_states);
        let rests = asks && state_runs(&self.parts).await;
        self.work.spawn_blocking(move || {
            if rests {
                return Done::Looked(serial, beacon, Ok(Vec::new()));
            }
            match catch_unwind(AssertUnwindSafe(|| beacon.look(&cx))) {
                Ok(looked) => Done::Looked(serial, beacon, looked),
                Err(_) => Done::Panicked(serial),
            }
        });
    }

    async fn fire(&mut self, serial: Serial, events: Vec<BeaconEvent>) {
        let Some(name) = self.name(serial) else { return };
        let Parts { id, link, .. } = &self.parts;
        for event in events {
            match event.addressed(id, &name) {
                Ok((tag, data)) => link.fire(&tag, &data).await,
                Err(error) => warn!(beacon = name, %error, "an event cannot be fired"),
            }
        }
    }

    /// Says that events were dropped, in the log and on the bus.
    async fn report_dropped(&mut self, serial: Serial, dropped: u64) {
        let Some(beacon) = self.name(serial) else { return };
        let Parts { id, link, .. } = &self.parts;
        warn!(beacon, dropped, "beacon fires more than {RATE_PER_SECOND} events per second; the rest was dropped");
        let data = map! { "beacon" => beacon.as_str(), "dropped" => dropped, "limit" => RATE_PER_SECOND, "id" => id };
        link.fire(&Tag::beacon_dropped(id), &data).await;
    }

    /// Says that a beacon could not see something, in the log and on the bus.
    async fn report_missed(&mut self, serial: Serial, missed: u64) {
        let Some(beacon) = self.name(serial) else { return };
        let Parts { id, link, .. } = &self.parts;
        warn!(beacon, missed, "beacon missed something that it should have seen");
        let data = map! { "beacon" => beacon.as_str(), "missed" => missed, "id" => id };
        link.fire(&Tag::beacon_dropped(id), &data).await;
    }

    /// Tells the master what is wrong with a beacon.
    async fn fire_error(&mut self, beacon: &str, why: &str, more: Map) {
        let Parts { id, link, .. } = &self.parts;
        let mut data = map! { "beacon" => beacon, "error" => why };
        data.extend(more);
        data.set("id", id);
        link.fire(&Tag::beacon_error(id), &data).await;
    }
}

/// Tells whether a state runs here.
async fn state_runs(parts: &Parts) -> bool {
    let is_state = |fun: &Value| fun.as_str().is_some_and(|fun| fun.starts_with("state."));
    parts.executor.running().await.iter().any(|job| match job.at("fun") {
        Some(Value::List(funs)) => funs.iter().any(is_state),
        Some(fun) => is_state(fun),
        None => false,
    })
}

async fn until(tick: Option<Instant>) {
    match tick {
        Some(tick) => sleep_until(TokioInstant::from_std(tick)).await,
        None => std::future::pending().await,
    }
}
