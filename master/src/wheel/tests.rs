//! What `wheel` promises, tested.

use proto::map;
use proto::value::{Map, MapExt};

use super::*;
use crate::command::{Command, Origin};
use crate::runners::fake::{self, FakeDoor, json};

fn caller() -> Caller {
    Caller { user: "Reactor".into(), origin: Origin::Reactor { depth: 1 } }
}

#[test]
fn everything_is_listed_in_order() {
    assert!(all().is_sorted_by_key(|wheel| wheel.name));
    assert!(all().iter().all(|wheel| wheel.functions.is_sorted_by_key(|function| function.name)));
    assert!(is_known("key.accept") && !is_known("key.nosuch") && !is_known("key") && !is_known("config.apply"));
}

/// The two calls that were recorded on Salt 3008, and their events.
#[tokio::test]
async fn the_recorded_calls_answer_and_tell_what_they_did_there() {
    let folder = tempfile::tempdir().unwrap();
    let (bus, _stop) = fake::bus(folder.path());
    let (door, _asked) = FakeDoor::new(bus.clone());
    let mut events = fake::events(&bus, "salt/wheel/*");
    let mut check = async |fun: &str, arg: Vec<Value>, kwarg: Map, fun_args: Value, ret: &str| {
        run(&door, &bus, caller(), fun, Args { arg, kwarg }, None).await.unwrap();
        let (tag, mut new) = fake::next(&mut events).await;
        assert!(tag.starts_with("salt/wheel/2026") && tag.ends_with("/new"), "{tag}");
        let jid = new.take("jid").unwrap();
        let expected = map! { "fun" => format!("wheel.{fun}"), "user" => "Reactor", "fun_args" => fun_args };
        assert_eq!(new, expected);
        let (tag, mut told) = fake::next(&mut events).await;
        assert_eq!(tag, format!("salt/wheel/{}/ret", jid.as_str().unwrap()));
        told.take("jid");
        assert_eq!((told.take("return").unwrap(), told.take("success")), (json(ret), Some(true.into())));
        assert_eq!(told, expected);
    };
    check("key.finger", vec!["m1".into()], Map::new(), vec!["m1"].into(), r#"{"minions": {"m1": "88:cf"}}"#).await;
    let all = map! { "match" => "all" };
    check(
        "key.list",
        Vec::new(),
        all.clone(),
        vec![all].into(),
        r#"{"minions_pre": [], "minions_rejected": [], "minions": ["m1", "m2"], "minions_denied": [],
            "local": ["halite_master.pem", "halite_master.pub"]}"#,
    )
    .await;
}

#[tokio::test]
async fn a_change_is_asked_for_and_answered_with_where_the_keys_are() {
    let folder = tempfile::tempdir().unwrap();
    let (bus, _stop) = fake::bus(folder.path());
    let (door, mut asked) = FakeDoor::new(bus.clone());
    let kwarg = map! { "match" => "m1", "include_rejected" => true };
    let value = run(&door, &bus, caller(), "key.accept", Args { arg: Vec::new(), kwarg }, None).await.unwrap();
    assert_eq!(value, json(r#"{"minions": ["m1"]}"#));
    let (by, command) = asked.next().await;
    assert_eq!(by, caller());
    assert!(
        matches!(command, Command::KeyAccept(keys) if keys.globs == ["m1"] && keys.include_rejected && !keys.dry_run)
    );
    let refused = run(&door, &bus, caller(), "key.accept", Args::default(), None).await.unwrap_err().to_string();
    assert!(refused.contains("'match'") && refused.contains("key.accept MATCH"), "{refused}");
    let refused =
        run(&door, &bus, caller(), "key.list", Args { arg: vec!["sideways".into()], kwarg: Map::new() }, None)
            .await
            .unwrap_err();
    assert!(refused.to_string().contains("sideways"), "{refused}");
    let unknown = run(&door, &bus, caller(), "config.apply", Args::default(), None).await.unwrap_err();
    assert_eq!(unknown, CommandError::NotFound("'config.apply' is not available.".into()));
}
