//! What the event sockets promise, tested on real sockets.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use proto::map;
use proto::salt::event::Event;
use proto::salt::ipc::{self, Frames, Framing};
use proto::tag::Tag;
use proto::value::MapExt as _;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::bus::Bus;
use crate::command::{Command, Origin};
use crate::runners::fake::{self, Asked, FakeDoor};

/// How long anything may take that the test waits for.
const PATIENCE: Duration = Duration::from_secs(20);

struct Rig {
    bus: Bus,
    asked: Asked,
    sockets: EventSockets,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
    dir: TempDir,
    _bus: tokio::sync::watch::Sender<bool>,
}

fn config(dir: &Path) -> EventSocketsConfig {
    EventSocketsConfig {
        sock_dir: dir.join("run"),
        framing: FramingPolicy::Auto,
        prefixed_dir: Some(dir.join("prefixed")),
        max_event_size: 1 << 20,
    }
}

impl Rig {
    fn new() -> Rig {
        let dir = tempfile::tempdir().unwrap();
        let (bus, stopping) = fake::bus(dir.path());
        let (door, asked) = FakeDoor::new(bus.clone());
        let (sockets, task) = EventSockets::open(&config(dir.path()), bus.clone(), Arc::new(door)).unwrap();
        let stop = CancellationToken::new();
        let task = tokio::spawn(task.run(stop.clone()));
        Rig { bus, asked, sockets, stop, task, dir, _bus: stopping }
    }

    async fn connect(&self, folder: &str, name: &str) -> UnixStream {
        UnixStream::connect(self.dir.path().join(folder).join(name)).await.unwrap()
    }

    /// Connects a reader, and waits until it is taken up.
    async fn reader(&self, folder: &str) -> Reader {
        let stream = self.connect(folder, PUBLISH).await;
        self.sockets.settle().await;
        Reader { stream, frames: Frames::default(), first: None }
    }

    async fn fire(&self, tag: &str, number: i64) {
        self.bus.fire(Tag::parse(tag).unwrap(), &map! { "n" => number }).await.unwrap();
    }
}

struct Reader {
    stream: UnixStream,
    frames: Frames,
    first: Option<u8>,
}

impl Reader {
    async fn next(&mut self) -> Option<Event> {
        let mut input = [0; 4096];
        loop {
            if let Some(body) = self.frames.next_event().unwrap() {
                return Some(Event::decode(&body).unwrap());
            }
            let read = tokio::time::timeout(PATIENCE, self.stream.read(&mut input)).await.unwrap().unwrap_or(0);
            if read == 0 {
                return None;
            }
            self.first.get_or_insert(input[0]);
            self.frames.push(&input[..read]).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_get_what_is_fired_after_they_came_each_in_its_framing() {
    let rig = Rig::new();
    rig.fire("a/early", 0).await;
    let (mut stream, mut prefixed) = (rig.reader("run").await, rig.reader("prefixed").await);
    for number in 1..=3 {
        rig.fire("a/b", number).await;
    }
    for number in 1..=3_i64 {
        for reader in [&mut stream, &mut prefixed] {
            let event = reader.next().await.unwrap();
            let data = event.map().unwrap();
            assert_eq!((event.tag.as_str(), data.at("n")), ("a/b", Some(&number.into())));
            assert!(data.text("_stamp").is_some_and(|stamp| stamp.ends_with("+00:00")));
        }
    }
    let framing = |reader: &Reader| reader.first.map(Framing::detect);
    assert_eq!(framing(&stream), Some(Framing::Stream), "this process has loaded no Salt");
    assert_eq!(framing(&prefixed), Some(Framing::Prefixed));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_that_connects_after_it_has_published_gets_its_returns() {
    let rig = Rig::new();
    let ret = |id: &str| format!("salt/job/20261121001531634687/ret/{id}");
    rig.fire(&ret("early"), 0).await;
    // What a publish command does.
    rig.sockets.settle().await;
    rig.fire(&ret("m1"), 1).await;
    rig.fire("a/b", 2).await;
    let mut reader = rig.reader("run").await;
    rig.fire("a/c", 3).await;
    for tag in [ret("m1").as_str(), "a/c"] {
        assert_eq!(reader.next().await.unwrap().tag, tag);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_fires_is_known_by_the_kernel_and_both_framings_are_understood() {
    let mut rig = Rig::new();
    for framing in [Framing::Prefixed, Framing::Stream] {
        let mut stream = rig.connect("run", PULL).await;
        let event = Event::new("my/tag", &map! { "x" => 7 }).encode();
        stream.write_all(&ipc::encode(framing, &event)).await.unwrap();
        let (caller, command) = rig.asked.next().await;
        assert_eq!(command, Command::Fire { tag: "my/tag".into(), data: map! { "x" => 7 } });
        let pid = i32::try_from(std::process::id()).ok();
        assert_eq!(caller.origin, Origin::EventSocket { uid: nix::unistd::getuid().as_raw(), pid, nth: 1 });
        stream.write_all(&ipc::encode(framing, &event)).await.unwrap();
        let (caller, _) = rig.asked.next().await;
        assert!(matches!(caller.origin, Origin::EventSocket { nth: 2, .. }), "each is counted: {caller:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_a_key_that_the_master_has_told_is_not_told_again() {
    let mut rig = Rig::new();
    rig.bus.fire(Tag::key(), &map! { "id" => "m1", "act" => "accept" }).await.unwrap();
    let mut stream = rig.connect("run", PULL).await;
    for (id, act) in [("m1", "accepted"), ("m2", "accepted"), ("m1", "delete")] {
        let event = Event::new("salt/key", &map! { "id" => id, "act" => act, "result" => true }).encode();
        stream.write_all(&ipc::encode(Framing::Prefixed, &event)).await.unwrap();
    }
    for told in [("m2", "accepted"), ("m1", "delete")] {
        let Command::Fire { data, .. } = rig.asked.next().await.1 else { panic!("an event") };
        assert_eq!((data.text("id").unwrap(), data.text("act").unwrap()), told);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_event_is_counted_and_what_is_no_frame_ends_the_connection() {
    let mut rig = Rig::new();
    let mut stream = rig.connect("run", PULL).await;
    stream.write_all(&ipc::encode(Framing::Stream, b"no tag")).await.unwrap();
    stream.write_all(&ipc::encode(Framing::Stream, &Event::new("good/one", &map! {}).encode())).await.unwrap();
    assert!(matches!(rig.asked.next().await.1, Command::Fire { tag, .. } if tag == "good/one"));
    assert_eq!(rig.sockets.counts(), (0, 1));
    stream.write_all(&[0xc1; 64]).await.unwrap();
    let ended = tokio::time::timeout(PATIENCE, stream.read(&mut [0; 8])).await.unwrap();
    assert!(matches!(ended, Ok(0) | Err(_)));
    assert_eq!(rig.sockets.counts(), (0, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_does_not_read_is_let_go_and_its_neighbour_misses_nothing() {
    const EVENTS: i64 = 60_000;
    /// Far less than a reader may be behind, however busy the machine is.
    const AHEAD: i64 = 5_000;
    let rig = Rig::new();
    let (reads, mut read) = tokio::sync::watch::channel(0);
    let (slow, mut good) = (rig.reader("run").await, rig.reader("run").await);
    let bus = rig.bus.clone();
    let firing = tokio::spawn(async move {
        let event = |number: i64| crate::bus::NewEvent {
            tag: Tag::parse("a/b").unwrap(),
            data: Bytes::from(proto::msgpack::encode_map(&map! { "n" => number, "x" => "x".repeat(200) })),
        };
        for first in (0..EVENTS).step_by(1_000) {
            read.wait_for(|read| first - *read <= AHEAD).await.unwrap();
            let events = (first..first + 1_000).map(event).collect();
            bus.commit(crate::bus::Batch { events, mark: None }).await.unwrap();
        }
    });
    for number in 0..EVENTS {
        let event = good.next().await.expect("the neighbour stays connected");
        assert_eq!(event.map().unwrap().at("n"), Some(&number.into()));
        reads.send_replace(number);
    }
    firing.await.unwrap();
    assert_eq!(rig.sockets.counts(), (1, 0));
    drop(slow);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sockets_have_salts_modes_and_go_with_the_master() {
    let rig = Rig::new();
    let path = |folder: &str, name: &str| rig.dir.path().join(folder).join(name);
    let mode = |name: &str| std::fs::metadata(path("run", name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(PUBLISH), mode(PULL)), (0o660, 0o600));
    let (door, _asked) = FakeDoor::new(rig.bus.clone());
    let second = EventSockets::open(&config(rig.dir.path()), rig.bus.clone(), Arc::new(door)).err().unwrap();
    assert!(second.to_string().contains("another master is already serving"), "{second}");
    let paths = ["run", "prefixed"]
        .map(|folder| [PUBLISH, PULL, "publish_pull.ipc", "workers.ipc"].map(|name| path(folder, name)));
    assert!(paths.iter().flatten().all(|path| path.exists()), "the second one has taken nothing away");
    rig.stop.cancel();
    rig.task.await.unwrap();
    assert!(paths.iter().flatten().all(|path| !path.exists()));
}
