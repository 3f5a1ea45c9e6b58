//! `publish.json`: publications with and without topics and signatures.

use halite_proto::map;
use halite_proto::salt::crypticle::{Crypticle, KEY_LEN, SharedKey};
use halite_proto::salt::publish::{self, BROADCAST, BadPublication, Ear, SYNDIC};
use halite_proto::salt::rsa::SigAlgo;
use halite_proto::salt::{MAX_PAYLOAD, msgpack};
use halite_proto::value::{MapExt, Value};
use serde_json::Value as Json;
use zeroize::Zeroizing;

use crate::vectors::{
    bytes, every_cut, every_flip, file, hex, id, items, iv, private, public, shared, text, unhex, value,
};

fn key() -> SharedKey {
    shared(text(&file("publish"), "master_aes"))
}

/// The payload frame, which is the last one.
fn payload(message: &Json) -> Vec<u8> {
    unhex(items(message).last().unwrap().as_str().unwrap())
}

fn signed() -> Vec<u8> {
    payload(&file("publish")["vectors"][0]["messages"][0])
}

#[test]
fn publications_are_salts_byte_for_byte() {
    let master = private("master");
    for vector in items(&file("publish")["vectors"]) {
        let is_signed = vector["sign_pub_messages"].as_bool().unwrap();
        let load = value(&vector["load_decoded_with_serial"]);
        for message in items(&vector["messages"]) {
            let wire = payload(message);
            let mut ear = Ear::new(key(), is_signed.then(|| public("master")));
            let opened = ear.open(&wire).unwrap().into_inner();
            assert_eq!(Value::Map(opened.clone()), load);
            let sealed = bytes(&msgpack::decode_map(&wire).unwrap(), "load");
            assert_eq!(key().0.open_bytes(&sealed).unwrap(), hex(vector, "load_plaintext_hex"));
            let serial = opened.at("serial").and_then(Value::as_u64).unwrap();
            let published = value(&vector["publish_load"]).as_map().unwrap().clone();
            let signer = is_signed.then_some((&master, SigAlgo::Pkcs1v15Sha1));
            assert_eq!(publish::seal(&key(), iv(&sealed), published, serial, signer), wire);
            assert_eq!(ear.last(), serial);
        }
    }
}

#[test]
fn topics_are_salts() {
    for vector in items(&file("publish")["vectors"]).iter().filter(|vector| vector["zmq_filtering"] == true) {
        let load = &vector["publish_load"];
        let minions: Vec<_> = match &load["tgt"] {
            Json::Array(ids) => ids.iter().map(|text| id(text.as_str().unwrap())).collect(),
            _ => vec![id("web1")],
        };
        let recorded: Vec<&str> = items(&vector["messages"]).iter().map(|message| text(&message[0], "topic")).collect();
        let topics = |syndics| publish::topics(text(load, "tgt_type"), &minions, syndics);
        assert_eq!(topics(publish::Syndics::No), recorded);
        // Syndics hear what goes to all, so it does not go to them once more.
        let more = if recorded == [BROADCAST] { None } else { Some(SYNDIC) };
        let recorded: Vec<&str> = recorded.into_iter().chain(more).collect();
        assert_eq!(topics(publish::Syndics::Hear), recorded);
    }
    for (minion, topic) in file("disk")["topic_sha1"].as_object().unwrap() {
        assert_eq!(publish::topic(&id(minion)), topic.as_str().unwrap());
    }
    assert_eq!((BROADCAST, SYNDIC), ("broadcast", "syndic"));
}

#[test]
fn a_damaged_publication_is_refused() {
    let wire = signed();
    // An ear that takes everything would remember a serial, so each damage meets a new one.
    let refused = |bad: &[u8]| Ear::new(key(), Some(public("master"))).open(bad).is_err();
    let sealed = bytes(&msgpack::decode_map(&wire).unwrap(), "load");
    assert!(Ear::new(key(), Some(public("master"))).open(&wire).is_ok());
    every_cut(&wire, refused);
    every_flip(&wire, refused);
    every_flip(&sealed, |bad| key().0.open_bytes(bad).is_err());
}

#[test]
fn a_publication_is_taken_once() {
    let mut ear = Ear::new(key(), None);
    let seal = |serial| publish::seal(&key(), [0; 16], map! { "fun" => "test.ping" }, serial, None);
    assert!(ear.open(&seal(5)).is_ok());
    assert_eq!(ear.open(&seal(5)), Err(BadPublication::Replayed { serial: 5, last: 5 }));
    assert_eq!(ear.open(&seal(4)), Err(BadPublication::Replayed { serial: 4, last: 5 }));
    assert!(ear.open(&seal(6)).is_ok());
    assert_eq!(Ear::new(key(), None).open(&seal(0)), Err(BadPublication::Replayed { serial: 0, last: 0 }));
}

#[test]
fn each_thing_that_is_wrong_is_named() {
    let ear = || Ear::new(key(), Some(public("master")));
    let unsigned = publish::seal(&key(), [0; 16], map! {}, 1, None);
    assert_eq!(ear().open(&unsigned), Err(BadPublication::Signature));
    let (other, algo) = (private("minion_other"), SigAlgo::Pkcs1v15Sha224);
    let foreign = publish::seal(&key(), [0; 16], map! {}, 1, Some((&other, algo)));
    assert_eq!(ear().open(&foreign), Err(BadPublication::Signature));
    let another = SharedKey(Crypticle::from_random(Zeroizing::new([1; KEY_LEN])));
    assert!(matches!(Ear::new(another, None).open(&unsigned), Err(BadPublication::Content(_))));
    assert_eq!(ear().open(b"\xc1"), Err(BadPublication::NotMsgpack));
    assert_eq!(ear().open(&vec![0x80; MAX_PAYLOAD + 1]), Err(BadPublication::NotMsgpack));
    assert_eq!(ear().open(b"\x80"), Err(BadPublication::Field("enc")));
    let no_serial = key().0.seal_map([0; 16], None, &map! { "fun" => "x" });
    let no_serial = msgpack::encode_map(&map! { "enc" => "aes", "load" => Value::Bytes(no_serial) });
    assert_eq!(Ear::new(key(), None).open(&no_serial), Err(BadPublication::Field("serial")));
}
