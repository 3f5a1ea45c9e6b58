//! The loop of the executor: picks an input, lets the rules decide, does what they say.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant as TokioInstant, sleep_until};
use tracing::{debug, error, warn};

use super::call;
use super::control::Control;
use super::job::Job;
use super::ret::{Done, Return};
use super::state::{ExecutorInput, ExecutorOutput, ExecutorState, Refusal, Serial};
use super::{Parts, Request, StartError};
use crate::modules::{JobInfo, ModuleContext};

/// A place for the answer that a request waits for.
enum Answer {
    None,
    Signal(oneshot::Sender<Option<u32>>),
    Start(oneshot::Sender<Result<(), StartError>>),
}

/// What a worker thread has ended with.
enum Worked {
    Delivered(Serial),
    Finished(Serial, Box<Done>),
}

/// The executor's own task.
pub(super) struct ExecutorTask {
    pub(super) parts: Arc<Parts>,
    pub(super) handle: super::Executor,
    pub(super) requests: mpsc::Receiver<Request>,
    pub(super) state: ExecutorState,
}

impl ExecutorTask {
    /// Runs until the executor was stopped and everything is handed over.
    pub(super) async fn run(mut self) {
        let mut workers = JoinSet::new();
        let mut stopping = false;
        while !(stopping && self.state.is_idle()) {
            let tick = self.state.next_tick();
            let (input, answer) = tokio::select! {
                Some(request) = self.requests.recv() => match self.input_of(request) {
                    Some(pair) => pair,
                    None => continue,
                },
                Some(worked) = workers.join_next() => match input_of_work(worked) {
                    Some(input) => (input, Answer::None),
                    None => continue,
                },
                () = until(tick) => (ExecutorInput::Tick, Answer::None),
            };
            stopping |= matches!(input, ExecutorInput::Stop);
            let outputs = self.state.handle(Instant::now(), input);
            self.perform(outputs, answer, &mut workers);
        }
        // Threads that were given up are left behind on purpose: joining one that never ends would keep the minion from ending.
        workers.detach_all();
    }

    /// Turns a request into an input; one that only asks is answered at once.
    fn input_of(&self, request: Request) -> Option<(ExecutorInput, Answer)> {
        match request {
            Request::Running(answer) => {
                // Whoever asked may have gone.
                let _ = answer.send(self.state.running());
                None
            }
            Request::Signal { jid, signal, answer } => {
                Some((ExecutorInput::Signal(jid, signal), Answer::Signal(answer)))
            }
            Request::Start(job, answer) => Some((ExecutorInput::Start(job), Answer::Start(answer))),
            Request::Stop => Some((ExecutorInput::Stop, Answer::None)),
        }
    }

    fn perform(&self, outputs: Vec<ExecutorOutput>, answer: Answer, workers: &mut JoinSet<Worked>) {
        let (mut refusal, mut signalled) = (None, None);
        for output in outputs {
            match output {
                ExecutorOutput::Deliver(serial, job, done) => self.deliver(serial, job, done, workers),
                ExecutorOutput::Refuse(reason) => refusal = Some(reason),
                ExecutorOutput::Run(serial, job, control, deadline) => {
                    self.start(serial, job, control, deadline, workers);
                }
                ExecutorOutput::Signalled(pid) => signalled = Some(pid),
            }
        }
        // The asker may have gone; what was decided stands.
        match answer {
            Answer::None => {}
            Answer::Signal(answer) => drop(answer.send(signalled)),
            Answer::Start(answer) => drop(answer.send(refusal.map_or(Ok(()), |reason| Err(reason.into())))),
        }
    }

    fn start(
        &self,
        serial: Serial,
        job: Arc<Job>,
        control: Arc<Control>,
        deadline: Instant,
        workers: &mut JoinSet<Worked>,
    ) {
        debug!(jid = %job.jid, fun = ?job.fun(), "job starts");
        let cx = self.context(&job, control, deadline);
        let limit = self.parts.limit.clone();
        workers.spawn_blocking(move || {
            let run = AssertUnwindSafe(|| limit.apply(&job.jid, call::run(&cx, &job.calls)));
            let done =
                catch_unwind(run).unwrap_or_else(|_| Done::failed("The minion failed to make a return.".to_owned(), 1));
            Worked::Finished(serial, Box::new(done))
        });
    }

    fn deliver(&self, serial: Serial, job: Arc<Job>, done: Box<Done>, workers: &mut JoinSet<Worked>) {
        let parts = Arc::clone(&self.parts);
        workers.spawn_blocking(move || {
            let put = AssertUnwindSafe(|| parts.returns.put(Return::new(&job, *done)));
            if catch_unwind(put).is_err() {
                error!(jid = %job.jid, "the taker of returns panicked; this one is lost");
            }
            Worked::Delivered(serial)
        });
    }

    fn context(&self, job: &Job, control: Arc<Control>, deadline: Instant) -> ModuleContext {
        let parts = &self.parts;
        ModuleContext {
            id: parts.id.clone(),
            config: Arc::clone(&parts.config.borrow()),
            grains: Arc::clone(&parts.grains.borrow()),
            jobs: Arc::new(self.handle.clone()),
            events: Arc::clone(&parts.events),
            beacons: Arc::clone(&parts.beacons),
            reload: Arc::clone(&parts.reload),
            master: Arc::clone(&parts.master),
            pillar: parts.pillar.clone(),
            job: JobInfo { jid: job.jid.clone(), user: job.user.clone(), publication: job.publication() },
            control,
            deadline: Some(deadline),
            program: parts.program.clone(),
        }
    }
}

impl From<Refusal> for StartError {
    fn from(refusal: Refusal) -> StartError {
        match refusal {
            Refusal::Busy(refused) => {
                let (job, done) = *refused;
                warn!(jid = %job.jid, "job refused: too many run and wait");
                StartError::Busy(Box::new(Return::new(&job, done)))
            }
            Refusal::Duplicate => StartError::Duplicate,
            Refusal::Stopping => StartError::Stopped,
        }
    }
}

fn input_of_work(worked: Result<Worked, JoinError>) -> Option<ExecutorInput> {
    match worked {
        Ok(Worked::Delivered(serial)) => Some(ExecutorInput::Delivered(serial)),
        Ok(Worked::Finished(serial, done)) => Some(ExecutorInput::Finished(serial, done)),
        // Panics are caught within, so the runtime itself gave this worker up: it is shutting down.
        Err(error) => {
            error!(%error, "a worker of the executor was cut off");
            None
        }
    }
}

async fn until(tick: Option<Instant>) {
    match tick {
        Some(tick) => sleep_until(TokioInstant::from_std(tick)).await,
        None => std::future::pending().await,
    }
}
