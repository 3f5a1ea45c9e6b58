//! What clear commands promise, tested: `clear_commands.json` are the answers of two masters of Salt's.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use proto::salt::envelope::Envelope;
use proto::salt::msgpack;
use proto::tag::Tag as EventTag;
use serde_json::Value as Json;
use tempfile::TempDir;

use super::super::events::{EventSocketsConfig, FramingPolicy};
use super::super::files::SaltFilesConfig;
use super::*;
use crate::bus::{Bus, EventQuery, Since};
use crate::runners::fake::{self, Asked, FakeDoor};

const HOME: &str = "127.0.0.1";
const MASTERS: [&str; 2] = ["salt-3008.5", "salt-3006.30"];

struct Rig {
    commands: ClearCommands,
    door: FakeDoor,
    asked: Asked,
    bus: Bus,
    dir: TempDir,
    _bus: tokio::sync::watch::Sender<bool>,
}

fn captures(master: &str) -> Vec<Json> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../proto/tests/data/salt/clear_commands.json");
    let file: Json = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    file[master].as_array().unwrap().clone()
}

fn named(master: &str, name: &str) -> Json {
    captures(master).into_iter().find(|capture| capture["name"] == name).unwrap()
}

fn bytes(capture: &Json, field: &str) -> Vec<u8> {
    let hex = capture[field].as_str().unwrap();
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

fn command(capture: &Json) -> ClearCommand {
    match Envelope::decode(&bytes(capture, "request_wire_hex")) {
        Ok(Envelope::Clear(load)) => ClearCommand::decode(load),
        other => panic!("{other:?}"),
    }
}

impl Rig {
    /// Makes commands whose key is that of the master that was recorded.
    fn of(master: &str) -> Rig {
        let dir = tempfile::tempdir().unwrap();
        let (bus, stopping) = fake::bus(dir.path());
        let (door, asked) = FakeDoor::new(bus.clone());
        let config = EventSocketsConfig {
            sock_dir: dir.path().join("run"),
            framing: FramingPolicy::Auto,
            prefixed_dir: None,
            max_event_size: 1 << 20,
        };
        let (events, task) =
            super::super::events::EventSockets::open(&config, bus.clone(), Arc::new(door.clone())).unwrap();
        tokio::spawn(task.run(tokio_util::sync::CancellationToken::new()));
        let recorded = named(master, "publish")["request"]["key"].as_str().unwrap().to_owned();
        let path = dir.path().join(".root_key");
        std::fs::write(&path, recorded).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        let commands = ClearCommands::new(ClearParts {
            door: Arc::new(door.clone()),
            key: LocalKey::open(dir.path(), "root").unwrap(),
            own_user: "root".into(),
            from: vec![Cidr::parse("198.51.100.0/24").unwrap()],
            events,
            files: None,
        });
        Rig { commands, door, asked, bus, dir, _bus: stopping }
    }

    async fn answer(&self, addr: &str, capture: &Json) -> Vec<u8> {
        self.commands.answer(addr.parse().unwrap(), command(capture)).await.encode()
    }

    async fn check(&self, master: &str, name: &str) {
        let capture = named(master, name);
        assert_eq!(self.answer(HOME, &capture).await, bytes(&capture, "reply_wire_hex"), "{master} {name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_are_salts_byte_for_byte() {
    for master in MASTERS {
        let mut rig = Rig::of(master);
        for name in ["publish wrong key", "publish no key", "publish bad eauth", "publish bad token"] {
            rig.check(master, name).await;
        }
        for name in ["runner wrong key", "wheel wrong key", "mk_token bad", "get_token unknown", "get_token missing"] {
            rig.check(master, name).await;
        }
        for name in ["unknown cmd", "no cmd"] {
            rig.check(master, name).await;
        }
        assert!(rig.asked.rest().is_empty(), "nothing of it reaches the door");
        rig.door.answer("publish", Err(CommandError::NoMatch));
        rig.check(master, "publish no match").await;
    }
    let rig = Rig::of("salt-3006.30");
    rig.door.answer("publish", Err(CommandError::NoMatch));
    rig.check("salt-3006.30", "publish list target with a missing id").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_count_only_from_this_host_and_from_where_it_is_said() {
    let mut rig = Rig::of("salt-3008.5");
    let publish = named("salt-3008.5", "publish");
    for (addr, allowed) in [
        ("127.0.0.1", true),
        ("127.8.8.8", true),
        ("::1", true),
        ("::ffff:127.0.0.1", true),
        ("198.51.100.7", true),
        ("198.51.101.7", false),
        ("2001:db8::1", false),
    ] {
        rig.answer(addr, &publish).await;
        assert_eq!(!rig.asked.rest().is_empty(), allowed, "{addr}");
    }
    let refused = rig.answer("198.51.101.7", &publish).await;
    assert_eq!(refused, bytes(&named("salt-3008.5", "publish wrong key"), "reply_wire_hex"), "as for a wrong key");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publish_becomes_a_command_with_all_that_it_says() {
    let mut rig = Rig::of("salt-3008.5");
    let capture = named("salt-3008.5", "publish caller-chosen jid");
    rig.answer(HOME, &capture).await;
    let (caller, asked) = rig.asked.next().await;
    assert_eq!(caller, Caller { user: "root".into(), origin: Origin::SaltClient { addr: HOME.parse().unwrap() } });
    let Command::Publish(request) = asked else { panic!("{asked:?}") };
    assert_eq!(request.target, TargetText::new("m*".into(), Some("glob")));
    assert_eq!(request.jid, Jid::parse("20260101000000000000").ok());
    rig.asked.rest();

    let ClearCommand::Publish(mut publish) = command(&capture) else { panic!("a publish") };
    publish.kwargs =
        map! { "delimiter" => "|", "metadata" => map! { "why" => "test" }, "ret_config" => "alt", "show_jid" => true };
    publish.user = Some("sudo_alice".into());
    if let Credentials::Key { user, .. } = &mut publish.credentials {
        *user = Some("sudo_alice".into());
    }
    rig.commands.answer(HOME.parse().unwrap(), ClearCommand::Publish(publish)).await;
    let (caller, asked) = rig.asked.next().await;
    let Command::Publish(request) = asked else { panic!("{asked:?}") };
    assert_eq!(caller.user, "sudo_alice");
    assert_eq!(request.target.delimiter.as_deref(), Some("|"));
    assert_eq!(request.metadata, Some(map! { "why" => "test" }.into()));
    assert_eq!(request.options, map! { "ret_config" => "alt" }, "what is for the client alone stays here");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_user_needs_a_key_of_its_own() {
    let mut rig = Rig::of("salt-3008.5");
    for user in ["alice", "sudo_", "sudo_a b", ""] {
        let ClearCommand::Publish(mut publish) = command(&named("salt-3008.5", "publish")) else { panic!("a publish") };
        if let Credentials::Key { user: said, .. } = &mut publish.credentials {
            *said = Some(user.into());
        }
        let reply = rig.commands.answer(HOME.parse().unwrap(), ClearCommand::Publish(publish)).await;
        assert!(matches!(reply, ClearReply::Error(ClearError::Authentication)), "{user}: {reply:?}");
    }
    assert!(rig.asked.rest().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_answers_with_its_tag_and_returns_as_an_event() {
    for master in MASTERS {
        let rig = Rig::of(master);
        let query = EventQuery { tags: vec!["salt/run/*".into()], since: Since::Now, until: None };
        let mut events = rig.bus.subscribe(query);
        let reply = msgpack::decode_map(&rig.answer(HOME, &named(master, "runner")).await).unwrap();
        let tag = reply.text("tag").unwrap();
        assert_eq!(tag, format!("salt/run/{}", reply.text("jid").unwrap()));
        for (end, fun) in [("new", "runner.test.arg"), ("ret", "runner.test.arg")] {
            let event = events.next().await.unwrap();
            assert_eq!(event.tag, EventTag::parse(&format!("{tag}/{end}")).unwrap());
            let data = event.map().unwrap();
            assert_eq!((data.text("fun"), data.text("user")), (Some(fun), Some("root")));
            assert_eq!(data.at("fun_args"), Some(&vec![Value::from("a")].into()));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_wheel_answers_at_once_in_salts_form() {
    for master in MASTERS {
        let rig = Rig::of(master);
        let capture = named(master, "wheel without user field");
        let reply = msgpack::decode_map(&rig.answer(HOME, &capture).await).unwrap();
        let data = reply.at("data").and_then(Value::as_map).unwrap();
        let recorded = capture["reply"]["data"].as_object().unwrap();
        for field in recorded.keys().filter(|field| *field != "_stamp") {
            assert!(data.at(field).is_some(), "{master}: {field}");
        }
        assert_eq!(data.at("success"), Some(&true.into()));
        assert_eq!(data.text("tag"), reply.text("tag"));
        assert_eq!(data.text("fun"), Some("wheel.key.list_all"));
    }
    let rig = Rig::of("salt-3008.5");
    let reply = rig.answer(HOME, &named("salt-3008.5", "wheel unknown function")).await;
    let reply = msgpack::decode_map(&reply).unwrap();
    let data = reply.at("data").and_then(Value::as_map).unwrap();
    assert_eq!(data.at("success"), Some(&false.into()));
    let text = data.text("return").unwrap();
    assert!(text.starts_with("Exception occurred in wheel nope.nope:"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_load_lies_there_before_the_reply_and_without_the_key() {
    let mut rig = Rig::of("salt-3008.5");
    let (cachedir, keys) = (rig.dir.path().join("cache"), rig.dir.path().join("pki"));
    let (keys, _task) = crate::keys::Keys::open(crate::keys::KeysConfig::new(keys)).unwrap();
    let config = SaltFilesConfig { cachedir: cachedir.clone(), facts: true, keep_jobs: None };
    std::fs::write(rig.dir.path().join("master"), "").unwrap();
    let pillars = crate::pillar::Pillars::new(crate::config::load(rig.dir.path()).unwrap().requests.pillar);
    let known = (crate::sessions::Registry::default(), pillars);
    rig.commands.parts.files = Some(SaltFiles::open(config, rig.bus.clone(), keys, known).unwrap().0);
    let published = Published {
        minions: vec![MinionId::parse("m1").unwrap()],
        offset: 1,
        ..Published::before(Jid::parse("20260101000000000000").unwrap())
    };
    let ClearCommand::Publish(publish) = command(&named("salt-3008.5", "publish")) else { panic!("a publish") };
    let caller = Caller { user: "root".into(), origin: Origin::SaltClient { addr: HOME.parse().unwrap() } };
    let load = load(&caller, &publish);
    let reply = rig.commands.published(caller, published, load).await;
    assert!(matches!(reply, ClearReply::Published { .. }));
    let digest = ring::digest::digest(&ring::digest::SHA256, b"20260101000000000000");
    let hex: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let written = std::fs::read(cachedir.join("jobs").join(&hex[..2]).join(&hex[2..]).join(".load.p")).unwrap();
    let written = msgpack::decode_modern_map(&written).unwrap();
    assert_eq!(written.text("jid"), Some("20260101000000000000"));
    assert!(written.at("key").is_none() && written.text("user") == Some("root"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_command_is_answered_and_without_its_key_changes_nothing() {
    let mut rig = Rig::of("salt-3008.5");
    let key = named("salt-3008.5", "publish")["request"]["key"].as_str().unwrap().to_owned();
    for name in ["publish", "runner", "wheel"] {
        let capture =
            captures("salt-3008.5").into_iter().find(|capture| capture["name"].as_str().unwrap().starts_with(name));
        let whole = bytes(&capture.unwrap(), "request_wire_hex");
        for at in 0..whole.len() {
            assert!(Envelope::decode(&whole[..at]).is_err(), "{name} cut at {at}");
            let mut damaged = whole.clone();
            damaged[at] ^= 1 << (at % 8);
            let Ok(Envelope::Clear(load)) = Envelope::decode(&damaged) else { continue };
            let has_key = load.text("key") == Some(&key);
            let reply = rig.commands.answer(HOME.parse().unwrap(), ClearCommand::decode(load)).await;
            assert!(!reply.encode().is_empty(), "{name} at {at}");
            // A runner goes on beside the reply: what it asks is this command's, not the next one's.
            let _all_done = rig.commands.runs.acquire_many(u32::try_from(MAX_RUNS).unwrap()).await.unwrap();
            let asked = rig.asked.rest();
            assert!(has_key || asked.is_empty(), "{name} at {at}: {asked:?}");
        }
    }
}
