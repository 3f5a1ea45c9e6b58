//! What `executor` promises, tested.

use super::*;
use crate::modules::{NoBeacons, NoEvents, NoMaster, NoReload, Stop};
use crate::pillar::Pillar;
use proto::map;
use proto::value::{MapExt, Value};
use std::time::{Duration, Instant};
use tokio::sync::mpsc::Receiver;

/// Hands returns to the test.
struct Inbox(mpsc::Sender<Return>);

impl ReturnSink for Inbox {
    fn put(&self, ret: Return) {
        self.0.blocking_send(ret).expect("the test listens");
    }
}

struct Scene {
    executor: Executor,
    returns: Receiver<Return>,
    task: JoinHandle<()>,
    folder: tempfile::TempDir,
}

impl Scene {
    fn new(limits: Limits) -> Scene {
        let folder = tempfile::tempdir().expect("a folder");
        let (sender, returns) = mpsc::channel(64);
        let parts = Parts {
            id: "m1".to_owned(),
            config: watch::channel(Arc::new(Map::new())).1,
            grains: watch::channel(Arc::new(map! { "shell" => "/bin/sh" })).1,
            events: Arc::new(NoEvents),
            beacons: Arc::new(NoBeacons),
            reload: Arc::new(NoReload),
            master: Arc::new(NoMaster),
            pillar: Pillar::default(),
            returns: Arc::new(Inbox(sender)),
            limit: Limit { max_return_size: 1_000, folder: folder.path().join("returns") },
            program: PathBuf::from("halite-minion"),
        };
        let (executor, task) = Executor::spawn(parts, limits);
        Scene { executor, returns, task, folder }
    }

    async fn start(&self, jid: &str, fun: &str, arg: Vec<Value>) -> Result<(), StartError> {
        let publication = map! { "fun" => fun, "arg" => arg, "tgt" => "*", "jid" => jid, "user" => "root" };
        self.executor.start(Job::from_publication(&publication).expect("a job")).await
    }

    async fn next(&mut self) -> Return {
        tokio::time::timeout(Duration::from_secs(30), self.returns.recv()).await.expect("in time").expect("a return")
    }

    /// Waits until the job has a process of its own, and returns its pid.
    async fn child_of(&self, jid: &str) -> u32 {
        let me = u64::from(std::process::id());
        loop {
            for job in self.executor.running().await {
                let pid = job.at("pid").and_then(Value::as_u64).expect("a pid");
                if job.text("jid") == Some(jid) && pid != me {
                    return u32::try_from(pid).expect("a pid");
                }
            }
            tokio::task::yield_now().await;
        }
    }
}

fn field<'a>(ret: &'a Return, name: &str) -> &'a Value {
    ret.load.at(name).expect("the field is there")
}

#[tokio::test]
async fn a_job_returns_what_its_function_gives() {
    let mut scene = Scene::new(Limits::default());
    scene.start("1", "cmd.run", vec!["echo hi; exit 3".into()]).await.expect("taken");
    let ret = scene.next().await;
    assert_eq!((field(&ret, "return"), field(&ret, "retcode")), (&Value::from("hi"), &Value::from(3)));
    assert_eq!(field(&ret, "success"), &Value::Bool(false));
    assert_eq!(field(&ret, "fun_args"), &Value::from(vec!["echo hi; exit 3"]));
}

#[tokio::test]
async fn an_unknown_function_returns_so() {
    let mut scene = Scene::new(Limits::default());
    scene.start("1", "no.such_function", vec![]).await.expect("taken");
    assert_eq!(field(&scene.next().await, "return"), &Value::from("'no.such_function' is not available."));
}

#[tokio::test]
async fn a_killed_sleep_returns_at_once() {
    let mut scene = Scene::new(Limits::default());
    let begin = Instant::now();
    scene.start("1", "test.sleep", vec![600.into()]).await.expect("taken");
    assert_eq!(scene.executor.kill("1").await, Some(std::process::id()));
    let ret = scene.next().await;
    assert_eq!(field(&ret, "return"), &Value::from(Stop::Signal(9).to_string()));
    assert_eq!(field(&ret, "retcode"), &Value::from(137));
    assert!(begin.elapsed() < Duration::from_secs(5));
    assert_eq!(scene.executor.kill("1").await, None);
}

#[tokio::test]
async fn a_job_kills_another_and_its_processes() {
    let mut scene = Scene::new(Limits { max_running: 1, ..Limits::default() });
    scene.start("1", "cmd.run", vec!["sleep 600 & sleep 600".into()]).await.expect("taken");
    let pid = scene.child_of("1").await;
    scene.start("2", "saltutil.kill_job", vec!["1".into()]).await.expect("taken");
    let (mut first, mut second) = (scene.next().await, scene.next().await);
    if first.jid == "2" {
        (first, second) = (second, first);
    }
    assert_eq!(field(&first, "retcode"), &Value::from(137));
    assert_eq!(field(&second, "return"), &Value::from(format!("Signal 9 sent to job 1 at pid {pid}")));
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
}

#[tokio::test]
async fn a_job_past_its_deadline_is_stopped() {
    let mut scene = Scene::new(Limits { deadline: Duration::from_millis(100), ..Limits::default() });
    scene.start("1", "cmd.run", vec!["sleep 600".into()]).await.expect("taken");
    assert_eq!(field(&scene.next().await, "return"), &Value::from(Stop::Deadline.to_string()));
}

#[tokio::test]
async fn a_full_executor_refuses_with_a_return() {
    let mut scene = Scene::new(Limits { max_running: 1, max_waiting: 0, ..Limits::default() });
    scene.start("1", "test.sleep", vec![600.into()]).await.expect("taken");
    match scene.start("2", "test.ping", vec![]).await {
        Err(StartError::Busy(ret)) => {
            assert_eq!((ret.jid.as_str(), field(&ret, "retcode")), ("2", &Value::from(1)));
        }
        other => panic!("{other:?}"),
    }
    assert!(matches!(scene.start("1", "test.ping", vec![]).await, Err(StartError::Duplicate)));
    scene.executor.kill("1").await;
    scene.next().await;
}

#[tokio::test]
async fn a_stopped_executor_returns_its_jobs_and_ends() {
    let mut scene = Scene::new(Limits { max_running: 1, ..Limits::default() });
    scene.start("1", "test.sleep", vec![600.into()]).await.expect("taken");
    scene.start("2", "test.ping", vec![]).await.expect("taken");
    scene.executor.stop().await;
    for _ in 0..2 {
        assert_eq!(field(&scene.next().await, "return"), &Value::from(Stop::Interrupted.to_string()));
    }
    scene.task.await.expect("ends");
    assert!(matches!(scene.executor.running().await.len(), 0));
}

#[tokio::test]
async fn a_long_return_stays_on_the_minion() {
    let mut scene = Scene::new(Limits::default());
    scene
        .start("20261121", "cmd.run", vec!["head -c 5000 /dev/zero | tr '\\0' x; exit 4".into()])
        .await
        .expect("taken");
    let ret = scene.next().await;
    assert_eq!(field(&ret, "retcode"), &Value::from(4));
    assert!(field(&ret, "return").as_str().expect("a text").starts_with("The return is too large to send: 5003 bytes"));
    let kept = std::fs::read(scene.folder.path().join("returns/20261121.txt")).expect("kept");
    assert_eq!(kept.len(), 5_000);
}
