//! Every message comes back as it went, every cut is refused, and no bytes do harm.

use proptest::prelude::*;

use super::event::EventItem;
use super::hello::{HelloReply, HelloRequest};
use super::*;
use crate::ids::MinionId;
use crate::value::{Map, MapExt};

const AT: Spooled = Spooled { spool: [7; 16], n: 3 };

fn requests() -> Vec<Request> {
    let grains: Bytes = msgpack::encode_map(&map! { "os" => "Debian" }).into();
    let ret = map! { "jid" => "20261120235232821625", "fun" => "test.ping", "fun_args" => Value::List(vec![]),
    "return" => true, "retcode" => 0, "success" => true, "id" => "forged" };
    vec![
        Request::Grains { seq: 1, grains: grains.clone() },
        Request::JobsSince { seq: 2, serial: 9 },
        Request::MinionEvents(MinionEvents {
            at: AT,
            events: vec![EventItem { tag: "a/b".into(), data: grains.clone() }],
        }),
        Request::NoMatch { seq: 4, jid: Jid::parse("20261120235232821625").unwrap() },
        Request::Other {
            seq: 5,
            cmd: "_pillar".into(),
            load: msgpack::encode_map(&map! { "cmd" => "_pillar", "seq" => 5 }).into(),
        },
        Request::Return(Return::new(AT, &ret).unwrap()),
        Request::Session(SessionRequest {
            seq: 6,
            instance: [1; 16],
            kind: Kind::Daemon,
            version: 1,
            software: "halite 0.1.0".into(),
            grains: Some(grains),
            autosign_grains: None,
            upgrade: None,
        }),
    ]
}

fn pushes() -> Vec<Push> {
    vec![
        Push::Ack(AT),
        Push::Reply(Reply { seq: 1, result: Ok(Value::Null) }),
        Push::Reply(Reply { seq: 2, result: Err((ErrorCode::Refused, "no".into())) }),
        Push::Subscribed { session: 8 },
        Push::Welcome(Welcome {
            state: SessionState::BadId,
            session: 0,
            serial: 4,
            ping_s: 15,
            now_ms: Some(1_795_218_752_821),
            reason: Some("starts with a dot".into()),
        }),
    ]
}

#[test]
fn requests_come_back_as_they_went() {
    for request in requests() {
        let bytes = Bytes::from(request.encode());
        assert_eq!(Request::decode(&bytes).unwrap(), request);
        for end in 0..bytes.len() {
            assert!(Request::decode(&bytes.slice(..end)).is_err(), "{} cut at {end}", request.name());
        }
    }
}

#[test]
fn pushes_come_back_as_they_went() {
    for push in pushes() {
        let bytes = Bytes::from(push.encode());
        assert_eq!(Push::decode(&bytes).unwrap(), push);
        for end in 0..bytes.len() {
            assert!(Push::decode(&bytes.slice(..end)).is_err());
        }
    }
}

#[test]
fn hello_comes_back_as_it_went() {
    let request = HelloRequest::current();
    assert_eq!(HelloRequest::decode(&request.encode().into()).unwrap(), request);
    let reply =
        HelloReply { version: 1, master_id: "m".into(), key: [9; 32], software: "halite 0.1.0".into(), rsa: None };
    assert_eq!(HelloReply::decode(&reply.encode().into()).unwrap(), reply);
}

#[test]
fn a_publication_comes_back_as_it_went() {
    let load = map! { "fun" => "test.ping", "arg" => Value::List(vec![]), "tgt" => "*",
    "jid" => "20261120235232821625", "ret" => "", "tgt_type" => "glob", "user" => "root" };
    let jid = Jid::parse("20261120235232821625").unwrap();
    let publish = Publish { jid, serial: 5, expires_ms: 1_795_218_752_821, load };
    assert_eq!(Publish::decode(&publish.encode().into()).unwrap(), publish);
}

#[test]
fn the_id_of_a_return_is_the_sessions() {
    let Some(Request::Return(ret)) = requests().into_iter().find(|request| request.name() == "_return") else {
        panic!("there is one");
    };
    let id = MinionId::parse("web1").unwrap();
    let data = msgpack::decode_map(&ret.event_data(&id, &ret.jid, 1_795_218_753)).unwrap();
    assert_eq!(data.text("id"), Some("web1"));
    assert_eq!(data.at("ts"), Some(&Value::from(1_795_218_753)));
    assert!(data.at("spool").is_none() && data.at("n").is_none());
}

#[test]
fn event_data_gets_the_senders_id() {
    let id = MinionId::parse("web1").unwrap();
    let check = |data: Map, expected: Map| {
        let bytes = Bytes::from(msgpack::encode_map(&data));
        assert_eq!(msgpack::decode_map(&event::with_sender(&bytes, &id).unwrap()).unwrap(), expected);
    };
    check(map! { "id" => "web1", "a" => 1 }, map! { "id" => "web1", "a" => 1 });
    check(map! { "id" => "forged", "a" => 1 }, map! { "id" => "web1", "a" => 1 });
    check(map! { "a" => 1 }, map! { "a" => 1, "id" => "web1" });
}

proptest! {
    #[test]
    fn any_bytes_give_an_answer(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let bytes = Bytes::from(bytes);
        let _ = Request::decode(&bytes);
        let _ = Push::decode(&bytes);
        let _ = Publish::decode(&bytes);
        let _ = HelloReply::decode(&bytes);
    }

    #[test]
    fn a_flipped_byte_does_no_harm(which in 0usize..7, at in any::<prop::sample::Index>(), to in any::<u8>()) {
        let mut bytes = requests()[which].encode();
        let at = at.index(bytes.len());
        bytes[at] = to;
        let _ = Request::decode(&Bytes::from(bytes));
    }
}

#[test]
fn event_data_that_names_a_sender_twice_names_the_session_twice() {
    let id = MinionId::parse("web1").unwrap();
    // What the fuzzer found: the first was looked at, the last one counted.
    for twice in [&b"\x82\xa2id\xa4web1\xa2id\xa3db1"[..], b"\x82\xa2id\xa3db1\xa2id\xa4web1"] {
        let signed = event::with_sender(&Bytes::from_static(twice), &id).unwrap();
        let fields = Fields::read(&signed).unwrap();
        assert!(fields.iter().all(|field| field == ("id", &b"\xa4web1"[..])), "{signed:?}");
        assert_eq!(msgpack::decode_map(&signed).unwrap(), map! { "id" => "web1" });
    }
}
