//! What `executor/state` promises, tested.

use super::*;
use proto::map;
use proto::value::{MapExt, Value};

const GRACE: Duration = Duration::from_secs(60);

fn job(jid: &str, fun: &str) -> Box<Job> {
    Box::new(Job::from_publication(&map! { "jid" => jid, "fun" => fun, "user" => "root" }).expect("a job"))
}

struct Scene {
    state: ExecutorState,
    now: Instant,
}

impl Scene {
    fn new(max_running: usize, max_waiting: usize) -> Scene {
        let limits = Limits { max_running, max_waiting, deadline: GRACE };
        Scene { state: ExecutorState::new(limits, 42), now: Instant::now() }
    }

    fn start(&mut self, jid: &str) -> Vec<ExecutorOutput> {
        self.state.handle(self.now, ExecutorInput::Start(job(jid, "test.sleep")))
    }

    fn input(&mut self, input: ExecutorInput) -> Vec<ExecutorOutput> {
        self.state.handle(self.now, input)
    }

    fn later(&mut self, by: Duration) -> Vec<ExecutorOutput> {
        self.now += by;
        self.input(ExecutorInput::Tick)
    }

    fn shown(&self) -> Vec<String> {
        self.state.running().iter().map(|job| job.text("jid").expect("a jid").to_owned()).collect()
    }
}

fn done() -> Box<Done> {
    Box::new(Done::with_retcode(true.into(), 0, None))
}

fn run_of(outputs: &[ExecutorOutput]) -> (Serial, Arc<Control>) {
    match outputs {
        [ExecutorOutput::Run(serial, _, control, _)] => (*serial, Arc::clone(control)),
        other => panic!("expected one run: {other:?}"),
    }
}

fn returned(outputs: &[ExecutorOutput]) -> (&str, &Value) {
    match outputs {
        [.., ExecutorOutput::Deliver(_, job, done)] => (&job.jid, &done.ret),
        other => panic!("expected a return: {other:?}"),
    }
}

#[test]
fn a_waiting_job_runs_when_a_return_was_handed_over() {
    let mut scene = Scene::new(1, 1);
    let (first, _) = run_of(&scene.start("1"));
    assert!(scene.start("2").is_empty());
    assert_eq!(scene.shown(), ["1", "2"]);
    assert_eq!(returned(&scene.input(ExecutorInput::Finished(first, done()))), ("1", &Value::Bool(true)));
    run_of(&scene.input(ExecutorInput::Delivered(first)));
    assert_eq!(scene.shown(), ["2"]);
}

#[test]
fn a_job_too_many_is_refused_and_says_so() {
    let mut scene = Scene::new(1, 1);
    scene.start("1");
    scene.start("2");
    match scene.start("3").as_slice() {
        [ExecutorOutput::Refuse(Refusal::Busy(refused))] => {
            let (job, done) = refused.as_ref();
            assert_eq!(job.jid, "3");
            assert_eq!(done.ret, "The minion is busy: 1 jobs run and 1 wait. This one was not started.".into());
        }
        other => panic!("{other:?}"),
    }
    assert!(matches!(scene.start("2").as_slice(), [ExecutorOutput::Refuse(Refusal::Duplicate)]));
}

#[test]
fn jobs_about_jobs_do_not_wait() {
    let mut scene = Scene::new(1, 1);
    scene.start("1");
    run_of(&scene.input(ExecutorInput::Start(job("2", "saltutil.running"))));
}

#[test]
fn a_killed_waiting_job_returns_without_running() {
    let mut scene = Scene::new(1, 1);
    scene.start("1");
    scene.start("2");
    let outputs = scene.input(ExecutorInput::Signal("2".to_owned(), 9));
    assert!(matches!(outputs[0], ExecutorOutput::Signalled(42)));
    assert_eq!(returned(&outputs), ("2", &"The job was stopped by signal 9.".into()));
    assert!(scene.input(ExecutorInput::Signal("unknown".to_owned(), 9)).is_empty());
}

#[test]
fn a_job_past_its_deadline_is_stopped_then_given_up() {
    let mut scene = Scene::new(1, 1);
    let (serial, control) = run_of(&scene.start("1"));
    assert_eq!(scene.state.next_tick(), Some(scene.now + GRACE));
    assert!(scene.later(GRACE).is_empty());
    assert_eq!(control.stopped(), Some(Stop::Deadline));
    let text = Value::from("The job ran past its deadline and was stopped.");
    assert_eq!(returned(&scene.later(ABANDON_GRACE)), ("1", &text));
    assert!(!scene.state.is_idle());
    assert!(scene.input(ExecutorInput::Delivered(serial)).is_empty());
    assert!(scene.state.is_idle());
    // The thread still holds its place: a new job has to wait for it.
    assert!(scene.start("2").is_empty());
    run_of(&scene.input(ExecutorInput::Finished(serial, done())));
}

#[test]
fn a_stopping_executor_returns_every_job() {
    let mut scene = Scene::new(1, 1);
    let (first, control) = run_of(&scene.start("1"));
    scene.start("2");
    let interrupted = Value::from("The job was interrupted: the minion is stopping.");
    assert_eq!(returned(&scene.input(ExecutorInput::Stop)), ("2", &interrupted));
    assert_eq!(control.stopped(), Some(Stop::Interrupted));
    assert!(matches!(scene.start("3").as_slice(), [ExecutorOutput::Refuse(Refusal::Stopping)]));
    scene.input(ExecutorInput::Finished(first, done()));
    assert!(!scene.state.is_idle());
    scene.input(ExecutorInput::Delivered(first));
    scene.input(ExecutorInput::Delivered(1));
    assert!(scene.state.is_idle());
}

#[test]
fn a_running_job_shows_its_publication_after_the_pid() {
    let mut scene = Scene::new(1, 1);
    let (_, control) = run_of(&scene.start("1"));
    control.set_child(Some(1804));
    let shown = &scene.state.running()[0];
    let keys: Vec<String> = shown.keys().map(Value::to_key).collect();
    assert_eq!(keys[..3], ["pid", "jid", "fun"]);
    assert_eq!(shown.at("pid"), Some(&Value::from(1804)));
}
