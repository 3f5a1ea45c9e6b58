//! The rules of the executor: which job runs, which waits, which is refused, and when one is given up. Pure.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use proto::value::Map;

use super::control::{Control, Stop};
use super::job::Job;
use super::ret::Done;

/// The limits of an executor.
#[derive(Debug, Clone)]
pub struct Limits {
    /// How many jobs run at once. Default [`MAX_RUNNING_JOBS`].
    pub max_running: usize,
    /// How many more may wait. Default [`MAX_WAITING_JOBS`].
    pub max_waiting: usize,
    /// How long one job may run. Default [`JOB_DEADLINE`].
    pub deadline: Duration,
}

/// Jobs at once: each holds a thread, and three more while it runs a command.
pub const MAX_RUNNING_JOBS: usize = 32;
/// Jobs waiting for a turn: a few seconds' burst. One more is refused with a return that says so.
pub const MAX_WAITING_JOBS: usize = 256;
/// Places kept for jobs about jobs (`saltutil.*`), so that a full minion still answers who runs and can be told to kill.
pub const CONTROL_JOBS: usize = 8;
/// How long a job may run: beyond any sane job, short enough that forgotten ones do not pile up.
pub const JOB_DEADLINE: Duration = Duration::from_secs(24 * 3600);
/// How long a stopped job's thread may take to end; then its return is sent without it. More than a process gets.
pub const ABANDON_GRACE: Duration = Duration::from_secs(8);

impl Default for Limits {
    fn default() -> Limits {
        Limits { max_running: MAX_RUNNING_JOBS, max_waiting: MAX_WAITING_JOBS, deadline: JOB_DEADLINE }
    }
}

/// Numbers the runs of one executor.
pub type Serial = u64;

/// What happens to the executor.
pub enum ExecutorInput {
    /// A return was handed over for good.
    Delivered(Serial),
    /// A job's thread has ended.
    Finished(Serial, Box<Done>),
    /// Someone signals a job.
    Signal(String, i32),
    /// A job came in.
    Start(Box<Job>),
    /// The minion is stopping.
    Stop,
    /// Time has passed.
    Tick,
}

/// What is to be done.
#[derive(Debug)]
pub enum ExecutorOutput {
    /// Hand a job's return over.
    Deliver(Serial, Arc<Job>, Box<Done>),
    /// Tell the caller that the job was refused.
    Refuse(Refusal),
    /// Run a job.
    Run(Serial, Arc<Job>, Arc<Control>, Instant),
    /// Tell the caller which pid the signal was for.
    Signalled(u32),
}

/// Why a job was not taken.
#[derive(Debug, Clone, PartialEq)]
pub enum Refusal {
    /// Too many run and wait.
    Busy(Box<(Job, Done)>),
    /// This job runs or waits already.
    Duplicate,
    /// The executor is stopping.
    Stopping,
}

/// One taken job.
#[derive(Debug)]
struct Slot {
    serial: Serial,
    job: Arc<Job>,
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    /// Its thread has not ended, but its return is being handed over, or was.
    Abandoned { delivered: bool },
    /// Its thread has ended; its return is being handed over.
    Delivering,
    /// Its thread runs. `since` is when it was told to stop.
    Running { control: Arc<Control>, deadline: Instant, since: Option<(Instant, Stop)> },
}

/// All jobs of this minion.
#[derive(Debug)]
pub struct ExecutorState {
    limits: Limits,
    /// The pid shown for jobs without a process of their own.
    pid: u32,
    slots: Vec<Slot>,
    waiting: VecDeque<Arc<Job>>,
    next: Serial,
    stopping: bool,
}

impl ExecutorState {
    /// Makes an executor without jobs; `pid` is shown for jobs without a process.
    pub fn new(limits: Limits, pid: u32) -> ExecutorState {
        ExecutorState { limits, pid, slots: Vec::new(), waiting: VecDeque::new(), next: 0, stopping: false }
    }

    /// Takes one input and returns what follows from it.
    pub fn handle(&mut self, now: Instant, input: ExecutorInput) -> Vec<ExecutorOutput> {
        match input {
            ExecutorInput::Delivered(serial) => self.delivered(now, serial),
            ExecutorInput::Finished(serial, done) => self.finished(now, serial, done),
            ExecutorInput::Signal(jid, signal) => self.signal(now, &jid, signal),
            ExecutorInput::Start(job) => self.start(now, job),
            ExecutorInput::Stop => self.stop(now),
            ExecutorInput::Tick => self.tick(now),
        }
    }

    /// Returns when the next `Tick` is due.
    pub fn next_tick(&self) -> Option<Instant> {
        self.slots.iter().filter_map(Slot::due).min()
    }

    /// Tells whether nothing runs, waits or is being handed over.
    pub fn is_idle(&self) -> bool {
        // A thread that was given up may never end; nothing is lost with it.
        self.waiting.is_empty()
            && self.slots.iter().all(|slot| matches!(slot.phase, Phase::Abandoned { delivered: true }))
    }

    /// Returns the jobs that run and wait, each as `saltutil.running` shows it.
    pub fn running(&self) -> Vec<Map> {
        let show = |job: &Job, pid: u32| {
            let mut shown = proto::map! { "pid" => pid };
            shown.extend(job.publication());
            shown
        };
        let run = self.slots.iter().filter_map(|slot| Some(show(&slot.job, slot.pid(self.pid)?)));
        run.chain(self.waiting.iter().map(|job| show(job, self.pid))).collect()
    }

    fn start(&mut self, now: Instant, job: Box<Job>) -> Vec<ExecutorOutput> {
        let same = |other: &Arc<Job>| other.jid == job.jid;
        if self.stopping {
            return vec![ExecutorOutput::Refuse(Refusal::Stopping)];
        }
        if self.waiting.iter().any(same) || self.slots.iter().any(|slot| same(&slot.job)) {
            return vec![ExecutorOutput::Refuse(Refusal::Duplicate)];
        }
        if self.has_place(&job) {
            return vec![self.run(now, Arc::new(*job))];
        }
        if self.waiting.len() < self.limits.max_waiting {
            self.waiting.push_back(Arc::new(*job));
            return Vec::new();
        }
        let (running, waiting) = (self.slots.len(), self.waiting.len());
        let text = format!("The minion is busy: {running} jobs run and {waiting} wait. This one was not started.");
        vec![ExecutorOutput::Refuse(Refusal::Busy(Box::new((*job, Done::failed(text, 1)))))]
    }

    fn has_place(&self, job: &Job) -> bool {
        let (control, ordinary): (Vec<&Slot>, Vec<&Slot>) = self.slots.iter().partition(|slot| slot.job.is_control());
        match job.is_control() {
            true => control.len() < CONTROL_JOBS,
            false => ordinary.len() < self.limits.max_running,
        }
    }

    fn run(&mut self, now: Instant, job: Arc<Job>) -> ExecutorOutput {
        let (serial, control, deadline) = (self.next, Arc::new(Control::default()), now + self.limits.deadline);
        self.next += 1;
        let phase = Phase::Running { control: Arc::clone(&control), deadline, since: None };
        self.slots.push(Slot { serial, job: Arc::clone(&job), phase });
        ExecutorOutput::Run(serial, job, control, deadline)
    }

    /// Starts waiting jobs while there are places for them, in order.
    fn fill(&mut self, now: Instant) -> Vec<ExecutorOutput> {
        let mut outputs = Vec::new();
        while let Some(index) = self.waiting.iter().position(|job| self.has_place(job)) {
            if let Some(job) = self.waiting.remove(index) {
                outputs.push(self.run(now, job));
            }
        }
        outputs
    }

    fn finished(&mut self, now: Instant, serial: Serial, done: Box<Done>) -> Vec<ExecutorOutput> {
        let Some(slot) = self.slots.iter_mut().find(|slot| slot.serial == serial) else {
            return Vec::new();
        };
        match slot.phase {
            Phase::Running { .. } => {
                slot.phase = Phase::Delivering;
                return vec![ExecutorOutput::Deliver(serial, Arc::clone(&slot.job), done)];
            }
            // The end of a thread that was given up: what it has to say was said already.
            Phase::Abandoned { delivered: false } => slot.phase = Phase::Delivering,
            Phase::Abandoned { delivered: true } | Phase::Delivering => self.slots.retain(|slot| slot.serial != serial),
        }
        self.fill(now)
    }

    fn delivered(&mut self, now: Instant, serial: Serial) -> Vec<ExecutorOutput> {
        for slot in self.slots.iter_mut().filter(|slot| slot.serial == serial) {
            if let Phase::Abandoned { delivered } = &mut slot.phase {
                *delivered = true;
            }
        }
        self.slots.retain(|slot| slot.serial != serial || !matches!(slot.phase, Phase::Delivering));
        self.fill(now)
    }

    fn signal(&mut self, now: Instant, jid: &str, signal: i32) -> Vec<ExecutorOutput> {
        if let Some(index) = self.waiting.iter().position(|job| job.jid == jid) {
            let mut outputs = vec![ExecutorOutput::Signalled(self.pid)];
            if let Some(job) = self.waiting.remove(index) {
                outputs.push(self.deliver_unstarted(job, Stop::Signal(signal)));
            }
            return outputs;
        }
        let daemon = self.pid;
        for slot in self.slots.iter_mut().filter(|slot| slot.job.jid == jid) {
            let pid = slot.pid(daemon);
            if let (Phase::Running { control, since, .. }, Some(pid)) = (&mut slot.phase, pid) {
                control.signal(signal);
                *since = since.or_else(|| control.stopped().map(|stop| (now, stop)));
                return vec![ExecutorOutput::Signalled(pid)];
            }
        }
        Vec::new()
    }

    fn stop(&mut self, now: Instant) -> Vec<ExecutorOutput> {
        self.stopping = true;
        for slot in &mut self.slots {
            slot.stop(now, Stop::Interrupted);
        }
        let waiting: Vec<Arc<Job>> = self.waiting.drain(..).collect();
        waiting.into_iter().map(|job| self.deliver_unstarted(job, Stop::Interrupted)).collect()
    }

    /// Returns a job that never ran. It takes a place until its return is handed over, so that it is not lost at the end.
    fn deliver_unstarted(&mut self, job: Arc<Job>, stop: Stop) -> ExecutorOutput {
        let serial = self.next;
        self.next += 1;
        self.slots.push(Slot { serial, job: Arc::clone(&job), phase: Phase::Delivering });
        ExecutorOutput::Deliver(serial, job, stopped(stop))
    }

    fn tick(&mut self, now: Instant) -> Vec<ExecutorOutput> {
        let mut outputs = Vec::new();
        for slot in self.slots.iter_mut().filter(|slot| slot.due().is_some_and(|due| due <= now)) {
            match &slot.phase {
                Phase::Running { since: Some((_, stop)), .. } => {
                    let done = stopped(*stop);
                    slot.phase = Phase::Abandoned { delivered: false };
                    outputs.push(ExecutorOutput::Deliver(slot.serial, Arc::clone(&slot.job), done));
                }
                _ => slot.stop(now, Stop::Deadline),
            }
        }
        outputs
    }
}

impl Slot {
    /// Returns when this job's deadline, or its grace after being stopped, is over.
    fn due(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Running { since: Some((since, _)), .. } => Some(*since + ABANDON_GRACE),
            Phase::Running { deadline, .. } => Some(*deadline),
            Phase::Abandoned { .. } | Phase::Delivering => None,
        }
    }

    fn stop(&mut self, now: Instant, stop: Stop) {
        if let Phase::Running { control, since, .. } = &mut self.phase {
            control.stop(stop);
            *since = since.or(Some((now, stop)));
        }
    }

    /// Returns the pid to show, if the job still runs.
    fn pid(&self, daemon: u32) -> Option<u32> {
        match &self.phase {
            Phase::Running { control, .. } => Some(control.child().unwrap_or(daemon)),
            Phase::Abandoned { .. } | Phase::Delivering => None,
        }
    }
}

fn stopped(stop: Stop) -> Box<Done> {
    Box::new(Done::failed(stop.to_string(), stop.retcode()))
}

#[cfg(test)]
mod tests;
