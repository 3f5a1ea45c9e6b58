//! What goes on while faults happen: jobs are published, minions see lines in their logs, and all of it is numbered.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use master::api::client::Client;
use master::api::jobs::JobRequest;
use serde_json::json;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::{interval, timeout};

/// How often each minion's log gets a line.
const LINE_EVERY: Duration = Duration::from_millis(50);
/// How often a job is published.
const JOB_EVERY: Duration = Duration::from_millis(150);
/// How long the master may take to answer; it may be stopped.
const ANSWER: Duration = Duration::from_secs(2);
/// For how long a minion that is away may come and take a job: no fault of a test lasts as long.
const TTL_S: u64 = 86_400;

/// What a line says, before its number.
pub const LINE: &str = "faults-line-";
/// What the tag of an event that a job sends begins with; id and number follow.
pub const SENT: &str = "faults/sent";

/// Where a minion's lines go, and where its jobs note that they ran.
#[derive(Debug, Clone)]
pub struct Desk {
    /// The minion.
    pub id: String,
    /// The log that its beacon watches.
    pub lines: PathBuf,
    /// A line with its number for each job that ran.
    pub runs: PathBuf,
}

/// The load of a fleet.
#[derive(Debug)]
pub struct Load {
    on: watch::Sender<bool>,
    said: Arc<Mutex<Said>>,
    desks: Arc<Vec<Desk>>,
}

/// What was asked of the fleet so far.
#[derive(Debug, Clone, Default)]
pub struct Said {
    /// The number of the last line; every minion's log has the same.
    pub lines: u64,
    /// The number of the last job.
    pub jobs: u64,
    /// The jids that the master has answered with.
    pub published: Vec<String>,
}

impl Load {
    /// Makes the load; it rests until it is told to go on.
    pub fn start(handle: &Handle, client: Client, desks: Vec<Desk>) -> Load {
        let on = watch::Sender::new(false);
        let (said, desks) = (Arc::new(Mutex::default()), Arc::new(desks));
        handle.spawn(jobs(client, Arc::clone(&desks), Arc::clone(&said), on.subscribe()));
        handle.spawn(lines(Arc::clone(&desks), Arc::clone(&said), on.subscribe()));
        Load { on, said, desks }
    }

    /// Goes on, or rests.
    pub fn set(&self, on: bool) {
        self.on.send_replace(on);
    }

    /// Adds one line to each minion's log and returns its number.
    pub fn line(&self) -> u64 {
        line(&self.desks, &mut lock(&self.said))
    }

    /// Returns what was asked so far.
    pub fn said(&self) -> Said {
        lock(&self.said).clone()
    }
}

fn lock(said: &Mutex<Said>) -> MutexGuard<'_, Said> {
    // Only numbers are changed under it.
    said.lock().unwrap_or_else(PoisonError::into_inner)
}

fn line(desks: &[Desk], said: &mut Said) -> u64 {
    said.lines += 1;
    for desk in desks {
        let file = OpenOptions::new().append(true).create(true).open(&desk.lines);
        let written = file.and_then(|mut file| file.write_all(format!("{LINE}{}.\n", said.lines).as_bytes()));
        written.unwrap_or_else(|error| panic!("write a line for {}: {error}", desk.id));
    }
    said.lines
}

async fn lines(desks: Arc<Vec<Desk>>, said: Arc<Mutex<Said>>, mut on: watch::Receiver<bool>) {
    let mut ticks = interval(LINE_EVERY);
    while on.wait_for(|on| *on).await.is_ok() {
        ticks.tick().await;
        line(&desks, &mut lock(&said));
    }
}

async fn jobs(client: Client, desks: Arc<Vec<Desk>>, said: Arc<Mutex<Said>>, mut on: watch::Receiver<bool>) {
    let mut ticks = interval(JOB_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while on.wait_for(|on| *on).await.is_ok() {
        ticks.tick().await;
        let number = {
            let mut said = lock(&said);
            said.jobs += 1;
            said.jobs
        };
        // A master that is away takes nothing; nothing is lost with what it did not take.
        if let Ok(Ok(published)) = timeout(ANSWER, client.publish(&job(&desks, number))).await {
            lock(&said).published.push(published.jid);
        }
    }
}

/// Makes a job by its number: for everybody, or for one minion, which notes that it ran or sends an event.
fn job(desks: &[Desk], number: u64) -> JobRequest {
    let desk = &desks[usize::try_from(number).unwrap_or(0) % desks.len()];
    let job = match number % 5 {
        0 => json!({ "tgt": "*", "fun": "test.ping" }),
        1 | 2 => json!({ "tgt": desk.id, "fun": "event.send", "arg": [format!("{SENT}/{}/{number}", desk.id)] }),
        _ => {
            let script = format!("echo {number} >> {}", desk.runs.display());
            json!({ "tgt": desk.id, "fun": "cmd.run", "arg": [script] })
        }
    };
    let job: JobRequest = serde_json::from_value(job).expect("a job of constants");
    JobRequest { ttl_s: Some(TTL_S), ..job }
}
