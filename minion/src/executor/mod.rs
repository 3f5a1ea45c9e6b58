//! Runs jobs: from a publication to its return.
//!
//! [`Executor`] is the handle. A job that is taken runs its functions on a blocking thread (`call.rs`) under a [`Control`]
//! that can stop it; when it ends, is killed or runs past its deadline, its return goes to the [`ReturnSink`], once. `state.rs`
//! has the rules, `task.rs` the loop, `process.rs` and `runas.rs` what functions need to run programs.
//!
//! At most `max_running` jobs run and `max_waiting` wait; one more is refused with a return that says so. Jobs about jobs
//! (`saltutil.*`) have places of their own.
//!
//! [`Control`]: control::Control

use std::path::PathBuf;
use std::sync::Arc;

use proto::value::Map;
use thiserror::Error;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use crate::modules::{BeaconRoom, EventSink, Jobs, MasterRequests, Reload};
use crate::pillar::Pillar;
use task::ExecutorTask;

mod call;
pub mod control;
mod job;
pub mod process;
mod ret;
pub mod runas;
mod state;
mod task;

pub use call::call;
pub use job::{Call, Calls, Job, JobError};
pub use ret::{Done, Limit, Return};
pub use state::{ABANDON_GRACE, CONTROL_JOBS, JOB_DEADLINE, Limits, MAX_RUNNING_JOBS, MAX_WAITING_JOBS};
/// The rules of the executor without its threads, for the simulation.
pub use state::{ExecutorInput, ExecutorOutput, ExecutorState, Refusal, Serial};

/// Requests on their way to the loop, which answers at once; a sender waits when it is full.
const REQUESTS: usize = 64;
/// The most bytes of a return that are sent, unless configured (`max_return_size`).
pub const MAX_RETURN_SIZE: usize = 4 << 20;

/// What an executor needs.
pub struct Parts {
    /// This minion's id.
    pub id: String,
    /// The configuration, as it is now.
    pub config: watch::Receiver<Arc<Map>>,
    /// The grains, as they are now.
    pub grains: watch::Receiver<Arc<Map>>,
    /// Where functions' events go.
    pub events: Arc<dyn EventSink>,
    /// The beacons that functions see and change.
    pub beacons: Arc<dyn BeaconRoom>,
    /// Has the configuration read anew.
    pub reload: Arc<dyn Reload>,
    /// The master, for what functions ask it.
    pub master: Arc<dyn MasterRequests>,
    /// The pillar, as it is now.
    pub pillar: Pillar,
    /// Where returns go.
    pub returns: Arc<dyn ReturnSink>,
    /// What becomes of over-long returns.
    pub limit: Limit,
    /// The `halite-minion` binary, for `runas`.
    pub program: PathBuf,
}

/// Takes the returns of jobs.
pub trait ReturnSink: Send + Sync {
    /// Takes one return. Called off the async threads and may block: the job keeps its place until this comes back.
    fn put(&self, ret: Return);
}

/// The handle of the executor; cheap to clone.
#[derive(Debug, Clone)]
pub struct Executor {
    requests: mpsc::Sender<Request>,
}

/// What a handle asks of the loop.
#[derive(Debug)]
enum Request {
    Running(oneshot::Sender<Vec<Map>>),
    Signal { jid: String, signal: i32, answer: oneshot::Sender<Option<u32>> },
    Start(Box<Job>, oneshot::Sender<Result<(), StartError>>),
    Stop,
}

/// Why a job was not taken.
#[derive(Debug, Error)]
pub enum StartError {
    /// Too many run and wait. The return says so and is the caller's to send.
    #[error("start the job: too many run and wait")]
    Busy(Box<Return>),
    /// It runs or waits already.
    #[error("start the job: it was started before")]
    Duplicate,
    /// The executor has stopped.
    #[error("start the job: the minion is stopping")]
    Stopped,
}

impl Executor {
    /// Starts an executor. Its task ends after [`Executor::stop`], when every return is handed over.
    pub fn spawn(parts: Parts, limits: Limits) -> (Executor, JoinHandle<()>) {
        let (sender, requests) = mpsc::channel(REQUESTS);
        let handle = Executor { requests: sender };
        let state = ExecutorState::new(limits, std::process::id());
        let task = ExecutorTask { parts: Arc::new(parts), handle: handle.clone(), requests, state };
        (handle, tokio::spawn(task.run()))
    }

    /// Starts a job, or lets it wait for its turn.
    pub async fn start(&self, job: Job) -> Result<(), StartError> {
        let (answer, answered) = oneshot::channel();
        let sent = self.requests.send(Request::Start(Box::new(job), answer)).await;
        sent.map_err(|_| StartError::Stopped)?;
        answered.await.map_err(|_| StartError::Stopped)?
    }

    /// Returns the jobs that run and wait, in the shape of `saltutil.running`.
    pub async fn running(&self) -> Vec<Map> {
        let (answer, answered) = oneshot::channel();
        match self.requests.send(Request::Running(answer)).await {
            Ok(()) => answered.await.unwrap_or_default(),
            Err(_) => Vec::new(),
        }
    }

    /// Kills a job; returns the pid that was meant, or nothing if there is no such job.
    pub async fn kill(&self, jid: &str) -> Option<u32> {
        let (answer, answered) = oneshot::channel();
        let request = Request::Signal { jid: jid.to_owned(), signal: control::SIGKILL, answer };
        self.requests.send(request).await.ok()?;
        answered.await.ok()?
    }

    /// Stops: takes no more jobs, interrupts those that run, returns all.
    pub async fn stop(&self) {
        // An error means that it has stopped already.
        let _ = self.requests.send(Request::Stop).await;
    }
}

/// For functions, which run off the async threads.
impl Jobs for Executor {
    fn running(&self) -> Vec<Map> {
        let (answer, answered) = oneshot::channel();
        match self.requests.blocking_send(Request::Running(answer)) {
            Ok(()) => answered.blocking_recv().unwrap_or_default(),
            Err(_) => Vec::new(),
        }
    }

    fn signal(&self, jid: &str, signal: i32) -> Option<u32> {
        let (answer, answered) = oneshot::channel();
        let request = Request::Signal { jid: jid.to_owned(), signal, answer };
        self.requests.blocking_send(request).ok()?;
        answered.blocking_recv().ok()?
    }
}

#[cfg(test)]
mod tests;
