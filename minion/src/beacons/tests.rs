//! The room as a whole: real beacons, a link without a master, and what comes of a new configuration.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

mod recorded;

static BUILT: AtomicUsize = AtomicUsize::new(0);
static LOOKED: AtomicUsize = AtomicUsize::new(0);
static DROPPED: AtomicUsize = AtomicUsize::new(0);

/// Counts what happens to it; panics if it is told to.
struct Probe {
    panics: bool,
}

#[derive(serde::Deserialize)]
struct ProbeConfig {
    #[serde(default)]
    panics: bool,
}

impl Build for Probe {
    type Config = ProbeConfig;

    fn build(config: ProbeConfig, _cx: &BeaconContext) -> Result<Probe, BuildError> {
        BUILT.fetch_add(1, Ordering::SeqCst);
        Ok(Probe { panics: config.panics })
    }
}

impl Beacon for Probe {
    fn look(&mut self, _cx: &BeaconContext) -> Result<Vec<BeaconEvent>, LookError> {
        assert!(!self.panics, "as it was told");
        LOOKED.fetch_add(1, Ordering::SeqCst);
        Ok(vec![BeaconEvent::plain(map! { "probe" => 1 })])
    }

    fn reading(&self) -> Result<Value, LookError> {
        Ok(1.into())
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        DROPPED.fetch_add(1, Ordering::SeqCst);
    }
}

static PROBE: Kind = Kind::new::<Probe>("probe");

fn setup(name: &str, options: Map) -> Setup {
    let interval = Some(Duration::from_millis(5));
    Setup { name: name.into(), kind: &PROBE, interval, rests_during_states: false, options, place: "here".into() }
}

async fn until(counter: &AtomicUsize, count: usize) {
    let reached = async {
        while counter.load(Ordering::SeqCst) < count {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), reached).await.expect("it happens in time");
}

#[tokio::test]
async fn a_new_configuration_leaves_unchanged_beacons_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (parts, _keep) = crate::link::idle_for_tests(folder.path());
    let beacons = Beacons::with(
        parts.id.clone(),
        Roster::of(vec![setup("one", Map::new()), setup("bad", map! { "panics" => true })]),
    );
    let task = beacons.spawn(parts);
    until(&LOOKED, 3).await;
    // The one that panicked is out; it takes nobody with it.
    assert_eq!(BUILT.load(Ordering::SeqCst), 2);
    let changed = setup("two", map! { "panics" => Value::Bool(false) });
    beacons.roster.send_replace(Roster::of(vec![setup("one", Map::new()), changed]));
    until(&BUILT, 3).await;
    beacons.roster.send_replace(Roster::of(vec![]));
    until(&DROPPED, 3).await;
    assert_eq!(BUILT.load(Ordering::SeqCst), 3);
    drop(beacons);
    task.await.unwrap();
}
