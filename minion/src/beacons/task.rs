//! The loop of the room: makes beacons, lets them look off the async threads, fires what they saw.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use proto::map;
use proto::tag::Tag;
use proto::value::{MapExt, Value};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant as TokioInstant, sleep_until};
use tracing::{error, info, warn};

use super::setup::Setup;
use super::state::{BeaconsInput, BeaconsOutput, BeaconsState, RATE_PER_SECOND, Serial, Timing};
use super::{Beacon, BeaconContext, BeaconEvent, BuildError, LookError, Parts, Waker};
use crate::link::LinkStatus;

/// The room's own task.
pub(super) struct BeaconsTask {
    parts: Parts,
    setups: watch::Receiver<Arc<Vec<Setup>>>,
    wakes: mpsc::Sender<Arc<str>>,
    state: BeaconsState,
    running: HashMap<Serial, Running>,
    work: JoinSet<Done>,
}

/// A beacon and what belongs to it. The beacon itself is away while it looks.
struct Running {
    setup: Setup,
    cx: BeaconContext,
    beacon: Option<Box<dyn Beacon>>,
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
        setups: watch::Receiver<Arc<Vec<Setup>>>,
        wakes: mpsc::Sender<Arc<str>>,
    ) -> BeaconsTask {
        let (state, running, work) = (BeaconsState::default(), HashMap::new(), JoinSet::new());
        BeaconsTask { parts, setups, wakes, state, running, work }
    }

    /// Runs until every handle is gone.
    pub(super) async fn run(mut self, mut woken: mpsc::Receiver<Arc<str>>) {
        if !self.parts.before_connect && !self.connected().await {
            return;
        }
        self.replace();
        loop {
            let tick = self.state.next_tick();
            tokio::select! {
                changed = self.setups.changed() => match changed {
                    Ok(()) => self.replace(),
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
            () = async { while self.setups.changed().await.is_ok() {} } => false,
        }
    }

    /// Makes the room what the configuration says; beacons that have not changed go on.
    fn replace(&mut self) {
        let wanted = Arc::clone(&self.setups.borrow_and_update());
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
        self.running.insert(serial, Running { setup, cx, beacon: None });
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
            Done::Built(serial, built) => {
                let Some(running) = self.running.get_mut(&serial) else { return };
                match built {
                    Ok(beacon) => {
                        info!(beacon = running.setup.name, "beacon starts");
                        running.beacon = Some(beacon);
                        self.give(BeaconsInput::Built(serial), Vec::new()).await;
                    }
                    Err(why) => {
                        let Setup { place, name, .. } = &running.setup;
                        error!(beacon = name, "{place}: beacon {name} is disabled: failed to {why}");
                        // It stays listed, so that it is not made again until its configuration changes.
                        self.state.remove(serial);
                    }
                }
            }
            Done::Looked(serial, beacon, looked) => {
                let Some(running) = self.running.get_mut(&serial) else { return };
                running.beacon = Some(beacon);
                let events = looked.unwrap_or_else(|error| {
                    let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
                    warn!(beacon = running.setup.name, cause, "beacon failed to {error}");
                    Vec::new()
                });
                let count = u32::try_from(events.len()).unwrap_or(u32::MAX);
                self.give(BeaconsInput::Looked { beacon: serial, events: count }, events).await;
            }
            Done::Panicked(serial) => {
                let Some(running) = self.running.get(&serial) else { return };
                error!(beacon = running.setup.name, "beacon panicked and is disabled until its configuration changes");
                self.state.remove(serial);
            }
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
        for BeaconEvent { suffix, mut data } in events {
            if data.at("id").is_none() {
                data.set("id", id);
            }
            match Tag::beacon(id, &name, &suffix) {
                Ok(tag) => link.fire(&tag, &data).await,
                Err(error) => warn!(beacon = name, suffix, %error, "an event cannot be fired"),
            }
        }
    }

    /// Says that events were dropped, in the log and on the bus.
    async fn report_dropped(&mut self, serial: Serial, dropped: u64) {
        let Some(beacon) = self.name(serial) else { return };
        let Parts { id, link, .. } = &self.parts;
        warn!(beacon, dropped, "beacon fires more than {RATE_PER_SECOND} events per second; the rest was dropped");
        if let Ok(tag) = Tag::parse(&format!("salt/minion/{id}/beacon_dropped")) {
            let data =
                map! { "beacon" => beacon.as_str(), "dropped" => dropped, "limit" => RATE_PER_SECOND, "id" => id };
            link.fire(&tag, &data).await;
        }
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
