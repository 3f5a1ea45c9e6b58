//! The API over a real socket, with a door that only remembers.

use std::sync::{Arc, Mutex};

use proto::ids::{Jid, MinionId};
use proto::map;
use proto::tag::Tag;
use proto::value::{Map, Value};
use tempfile::TempDir;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;

use super::client::{Client, ClientError};
use super::events::FireRequest;
use super::jobs::{JobRequest, JobsFilter};
use super::keys::KeyRequest;
use super::run::RunRequest;
use super::*;
use crate::bus::Since;
use crate::command::{KeyFingers, KeyLists, Origin, Published};

/// Remembers what it was asked; answers what fits the command.
#[derive(Clone, Default)]
struct FakeDoor {
    asked: Arc<Mutex<Vec<(Caller, Command)>>>,
    events: Arc<Mutex<Option<mpsc::Receiver<Event>>>>,
    refuse: Option<CommandError>,
}

impl FakeDoor {
    fn last(&self) -> (Caller, Command) {
        self.asked.lock().unwrap().last().cloned().unwrap()
    }
}

fn id(text: &str) -> MinionId {
    MinionId::parse(text).unwrap()
}

impl Ask for FakeDoor {
    async fn ask(&self, caller: Caller, command: Command) -> Result<Reply, CommandError> {
        self.asked.lock().unwrap().push((caller, command.clone()));
        if let Some(error) = &self.refuse {
            return Err(error.clone());
        }
        Ok(match command {
            Command::Fire { .. } | Command::Reload => Reply::Done,
            Command::KeyFinger(_) => Reply::KeyFingers(KeyFingers {
                local: vec![("master.pub".to_owned(), "aa:bb".to_owned())],
                keys: vec![("minions", id("web1"), "cc:dd".to_owned())],
            }),
            Command::KeyList | Command::KeyAccept(_) | Command::KeyReject(_) | Command::KeyDelete(_) => {
                Reply::Keys(KeyLists { pending: vec![id("web1")], ..KeyLists::default() })
            }
            Command::Publish(_) => Reply::Published(Published {
                jid: Jid::at(0),
                minions: vec![id("web1"), id("web2")],
                missing: vec!["ghost".to_owned()],
                down: vec![(id("web2"), Some(185))],
                offset: 7,
                exposed: Vec::new(),
                syndic_wait: None,
            }),
            Command::OffsetAt(_) => Reply::Value(4_711.into()),
            Command::Status => Reply::Value(map! { "head" => 3 }.into()),
            _ => Reply::Value(map! { "ok" => true }.into()),
        })
    }

    async fn events(&self, caller: Caller, query: EventQuery) -> Result<EventStream, CommandError> {
        self.asked.lock().unwrap().push((caller, Command::Events(query)));
        let events = self.events.lock().unwrap().take().expect("one reader per test");
        Ok(Box::pin(ReceiverStream::new(events)))
    }
}

struct Scene {
    client: Client,
    door: FakeDoor,
    fire: mpsc::Sender<Event>,
    stop: oneshot::Sender<()>,
    served: tokio::task::JoinHandle<()>,
    _dir: TempDir,
}

fn scene(refuse: Option<CommandError>) -> Scene {
    let dir = tempfile::tempdir().unwrap();
    let listener = bind(dir.path()).unwrap();
    let (fire, events) = mpsc::channel(16);
    let door = FakeDoor { refuse, events: Arc::new(Mutex::new(Some(events))), ..FakeDoor::default() };
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = door.clone();
    let served = tokio::spawn(async move {
        serve(listener, serving, async {
            let _ = stopped.await;
        })
        .await;
    });
    Scene { client: Client::new(dir.path().join(SOCKET_NAME)), door, fire, stop, served, _dir: dir }
}

fn event(offset: u64, tag: &str, data: Map) -> Event {
    let data = proto::msgpack::encode_map(&data).into();
    Event { offset, tag: Tag::parse(tag).unwrap(), stamp_us: 0, data, durable: true }
}

fn job() -> JobRequest {
    serde_json::from_str(r#"{"tgt":"*","fun":"test.echo","arg":["hi",{"__kwarg__":true,"n":1.5}],"ttl_s":90}"#).unwrap()
}

#[tokio::test]
async fn a_job_passes_the_door_and_comes_back_published() {
    let scene = scene(None);
    let published = scene.client.publish(&job()).await.unwrap();
    assert_eq!(published.minions, ["web1", "web2"]);
    assert_eq!((published.down[0].id.as_str(), published.down[0].since_s), ("web2", Some(185)));
    assert_eq!(published.missing, ["ghost"]);
    assert_eq!(published.offset, 7);
    let (caller, Command::Publish(request)) = scene.door.last() else { panic!("not published") };
    assert_eq!(request.target.tgt_type, "glob");
    assert_eq!(request.ttl, Some(std::time::Duration::from_secs(90)));
    let kwarg = Value::from(map! { "__kwarg__" => true, "n" => 1.5 });
    assert_eq!(request.arg, [Value::from("hi"), kwarg]);
    let uid = nix::unistd::getuid().as_raw();
    assert_eq!(caller.origin, Origin::Api { uid, pid: i32::try_from(std::process::id()).ok() });
}

#[tokio::test]
async fn the_masters_own_user_may_name_another_and_the_name_is_checked() {
    let scene = scene(None);
    scene.client.clone().acting_for(Some("sudo_alice".to_owned())).status().await.unwrap();
    assert_eq!(scene.door.last().0.user, "sudo_alice");
    let error = scene.client.clone().acting_for(Some("a b".to_owned())).status().await.unwrap_err();
    assert_eq!(error.to_string(), "x-halite-user is not a user name");
}

#[tokio::test]
async fn every_noun_reaches_its_command() {
    let Scene { client, door, .. } = &scene(None);
    client.jobs(&JobsFilter { fun: Some("test.*".to_owned()), tgt: None, limit: Some(3) }).await.unwrap();
    let expected = crate::command::JobsQuery { fun: Some("test.*".to_owned()), tgt: None, limit: Some(3) };
    assert_eq!(door.last().1, Command::JobsList(expected));
    client.job("20261120235232821625").await.unwrap();
    assert!(matches!(door.last().1, Command::JobShow(_)));
    assert_eq!(client.keys().await.unwrap().pending, ["web1"]);
    let request = KeyRequest { r#match: vec!["web*".to_owned()], include_rejected: true, ..KeyRequest::default() };
    client.change_keys("accept", &request).await.unwrap();
    let Command::KeyAccept(selection) = door.last().1 else { panic!("not accepted") };
    assert!(selection.include_rejected && !selection.dry_run);
    let fingers = client.fingers(&request).await.unwrap();
    assert_eq!(fingers.keys["minions"]["web1"], "cc:dd");
    client.minions().await.unwrap();
    assert_eq!(door.last().1, Command::Minions);
    let run = RunRequest { fun: "event.send".to_owned(), arg: vec!["t".into()], kwarg: serde_json::Map::new() };
    assert_eq!(client.run(&run).await.unwrap(), serde_json::json!({"ok": true}));
    client.reactor().await.unwrap();
    assert_eq!(door.last().1, Command::ReactorShow);
    let fire = FireRequest { tag: "a/b".to_owned(), data: serde_json::Map::new() };
    client.reactor_test(&fire).await.unwrap();
    assert!(matches!(door.last().1, Command::ReactorTest { .. }));
    client.fire(&fire).await.unwrap();
    assert!(matches!(door.last().1, Command::Fire { .. }));
    assert_eq!(client.reload().await.unwrap(), serde_json::Value::Null);
    client.status().await.unwrap();
    assert_eq!(door.last().1, Command::Status);
}

#[tokio::test]
async fn refusals_keep_their_code_and_text() {
    let check = async |error: CommandError, expected: &str| {
        let text = error.to_string();
        let refused = scene(Some(error)).client.status().await.unwrap_err();
        let ClientError::Refused { code, message } = refused else { panic!("{refused}") };
        assert_eq!((code.as_str(), message), (expected, text));
    };
    check(CommandError::NoMatch, "no_match").await;
    check(CommandError::Invalid("bad".to_owned()), "invalid").await;
    check(CommandError::NotFound("gone".to_owned()), "not_found").await;
    check(CommandError::Busy("later".to_owned()), "busy").await;
    check(CommandError::Internal("oops".to_owned()), "internal").await;
    let denied = CommandError::NotPermitted { user: "bob".into(), what: "publish", remedy: "ask root".into() };
    check(denied, "not_permitted").await;
}

#[tokio::test]
async fn what_is_not_json_not_there_or_too_large_is_refused() {
    let scene = scene(None);
    assert_eq!(raw(&scene, "GET /v2 HTTP/1.1\r\nhost: x\r\n\r\n").await, 404);
    assert_eq!(raw(&scene, "DELETE /v1/jobs HTTP/1.1\r\nhost: x\r\n\r\n").await, 405);
    assert_eq!(raw(&scene, "POST /v1/jobs HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\n\r\n{").await, 400);
    assert_eq!(raw(&scene, "POST /v1/jobs HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999\r\n\r\n").await, 413);
    assert_eq!(raw(&scene, "GET /v1/jobs/xyz HTTP/1.1\r\nhost: x\r\n\r\n").await, 400);
    assert_eq!(raw(&scene, "GET /v1/events?since=yesterday HTTP/1.1\r\nhost: x\r\n\r\n").await, 400);
    assert_eq!(raw(&scene, "POST /v1/keys/accept HTTP/1.1\r\nhost: x\r\n\r\n").await, 400);
    let headers = "x: y\r\n".repeat(100);
    assert_eq!(raw(&scene, &format!("GET /v1/keys HTTP/1.1\r\n{headers}\r\n")).await, 431);
}

/// Sends bytes and returns the status of the answer.
async fn raw(scene: &Scene, request: &str) -> u16 {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = tokio::net::UnixStream::connect(scene.client.socket()).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    std::str::from_utf8(&answer[9..12]).unwrap().parse().unwrap()
}

#[tokio::test]
async fn events_arrive_in_order_as_they_are_fired() {
    let mut scene = scene(None);
    let mut events = scene.client.events(&["a/*".to_owned()], "5", None).await.unwrap();
    let Command::Events(query) = scene.door.last().1 else { panic!("no events") };
    assert_eq!(query.tags, ["a/*"]);
    assert_eq!(query.since, Since::Offset(5));
    for offset in 5..8 {
        scene.fire.send(event(offset, "a/ü", map! { "n" => offset, "text" => "x\n\ny" })).await.unwrap();
        let got = events.next().await.unwrap().unwrap();
        assert_eq!((got.offset, got.tag.as_str(), got.durable), (offset, "a/ü", true));
        assert_eq!(got.data["text"], "x\n\ny");
    }
    scene.fire = mpsc::channel(1).0;
    assert_eq!(events.next().await.unwrap(), None);
}

#[tokio::test]
async fn the_end_of_a_bounded_reader_is_the_bus_s_affair() {
    for (until, expected) in [("head", 3), ("2", 2), ("2026-01-01T00:00:00Z", 4_710)] {
        let scene = scene(None);
        let _events = scene.client.events(&["a/*".to_owned()], "start", Some(until)).await.unwrap();
        let Command::Events(query) = scene.door.last().1 else { panic!("no events") };
        assert_eq!((query.until, query.tags.as_slice()), (Some(expected), ["a/*".to_owned()].as_slice()), "{until}");
    }
    let scene = scene(None);
    for bad in ["tomorrow", "2999-01-01T00:00:00Z"] {
        let refused = scene.client.events(&[], "start", Some(bad)).await.unwrap_err();
        assert!(matches!(refused, ClientError::Refused { ref code, .. } if code == "invalid"), "{refused}");
    }
}

#[tokio::test]
async fn a_stopping_master_ends_endless_answers() {
    let Scene { client, fire, stop, served, _dir, .. } = scene(None);
    let mut events = client.events(&[], "now", None).await.unwrap();
    stop.send(()).unwrap();
    assert_eq!(events.next().await.unwrap(), None);
    served.await.unwrap();
    drop(fire);
    assert!(matches!(client.status().await.unwrap_err(), ClientError::Unreachable { .. }));
}
