//! Any bytes at all give a value or a typed error, from every decoder; and what was closed opens again.

use bytes::Bytes;
use halite_proto::salt::Nonce;
use halite_proto::salt::auth::{Applicant, AuthRequest, Trust};
use halite_proto::salt::clear::ClearCommand;
use halite_proto::salt::command::{Command, events};
use halite_proto::salt::crypticle::{Crypticle, KEY_LEN, SessionKey, SharedKey};
use halite_proto::salt::envelope::{BareReply, Envelope, SealedRequest};
use halite_proto::salt::event::Event;
use halite_proto::salt::ipc::{self, Frames, Framing};
use halite_proto::salt::msgpack::{self, Ext};
use halite_proto::salt::pillar::Waiting;
use halite_proto::salt::publish::Ear;
use halite_proto::salt::request::{Asker, Fresh, Token, Ttl, open_reply};
use halite_proto::salt::rsa::{EncAlgo, PrivateKey, PublicKey, SigAlgo};
use halite_proto::value::{Map, Value};
use proptest::collection::vec;
use proptest::prelude::*;
use zeroize::Zeroizing;

use crate::vectors::{id, private, public};

fn crypticle() -> Crypticle {
    Crypticle::from_random(Zeroizing::new([7; KEY_LEN]))
}

/// Bytes: any, and such as begin like what is meant.
fn any_bytes() -> impl Strategy<Value = Vec<u8>> {
    let any = || vec(any::<u8>(), 0..300);
    let envelope =
        (Just(b"\x83\xa3enc\xa5clear\xa7version\x03\xa4load".to_vec()), any()).prop_map(|(a, b)| [a, b].concat());
    let sealed = (Just(b"\x84\xa3enc\xa3aes\xa7version\x03\xa2id\xa1x\xa4load".to_vec()), any())
        .prop_map(|(a, b)| [a, b].concat());
    prop_oneof![any(), envelope, sealed, any_value().prop_map(|value| msgpack::encode(&value))]
}

fn any_value() -> impl Strategy<Value = Value> {
    let names = prop_oneof![
        Just("cmd"),
        Just("enc"),
        Just("load"),
        Just("id"),
        Just("nonce"),
        Just("ret"),
        Just("aes"),
        Just("sig"),
        Just("path"),
        Just("loc"),
        Just("tgt"),
        Just("fun"),
        Just("pub"),
        Just("version"),
        Just("_auth"),
        Just("publish"),
        Just("clear"),
        Just("_file_hash"),
        Just("events"),
        Just("tag"),
        Just("data"),
        Just("pub_key"),
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::Float),
        ".{0,40}".prop_map(Value::Str),
        names.prop_map(Value::from),
        // What is UTF-8 comes back as text, so bytes are such as are not.
        vec(any::<u8>(), 0..40).prop_map(|mut bytes| {
            bytes.push(0xff);
            Value::Bytes(bytes)
        }),
    ];
    leaf.prop_recursive(4, 64, 8, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..8).prop_map(Value::List),
            vec((inner.clone(), inner), 0..8).prop_map(|pairs| Value::Map(pairs.into_iter().collect())),
        ]
    })
}

/// Gives bytes to every decoder that needs no RSA key.
fn decode_all(input: &[u8]) {
    let nonce = Nonce::from_random([1; 16]);
    let _ = (msgpack::decode_modern_map(input), Crypticle::parse(input), Nonce::parse(input));
    let _ = Ext::read(78, input) == Ext::read(79, input);
    let _ = (crypticle().open_bytes(input), crypticle().open(Some(&nonce), input));
    let _ = Event::decode(&Bytes::copy_from_slice(input));
    if let Ok(value) = msgpack::decode(input) {
        let _ = BareReply::of(&value);
    }
    if let Ok(Envelope::Clear(load)) = Envelope::decode(input) {
        let _ = AuthRequest::decode(&load);
        let _ = ClearCommand::decode(load);
    }
    let _ = open_reply(&SessionKey(crypticle()), &nonce, input);
    let _ = Ear::new(SharedKey(crypticle()), None).open(input);
    let text = String::from_utf8_lossy(input);
    let _ = (PublicKey::from_pem(&text), PrivateKey::from_pem(&text, None));
    let mut frames = Frames::default();
    if frames.push(input).is_ok() {
        while let Ok(Some(_)) = frames.next_event() {}
    }
}

proptest! {
    #[test]
    fn any_bytes_give_an_answer(input in any_bytes()) {
        decode_all(&input);
    }

    #[test]
    fn a_value_of_the_wire_comes_back(value in any_value()) {
        let bytes = msgpack::encode(&value);
        prop_assert_eq!(msgpack::decode(&bytes).unwrap(), value);
        for end in 0..bytes.len() {
            prop_assert!(msgpack::decode(&bytes[..end]).is_err());
        }
    }

    #[test]
    fn what_was_closed_opens(plain in vec(any::<u8>(), 0..200), iv in any::<[u8; 16]>(), key in vec(any::<u8>(), KEY_LEN)) {
        let key = Crypticle::from_random(Zeroizing::new(key.try_into().unwrap()));
        prop_assert_eq!(key.open_bytes(&key.seal_bytes(iv, &plain)).unwrap(), plain);
        prop_assert_eq!(Crypticle::parse(key.key_text().as_bytes()).unwrap(), key);
    }

    #[test]
    fn frames_come_back(body in vec(any::<u8>(), 0..400), at in 0usize..400, prefixed in any::<bool>()) {
        let framing = if prefixed { Framing::Prefixed } else { Framing::Stream };
        let wire = ipc::encode(framing, &body).repeat(2);
        let (head, tail) = wire.split_at(at.min(wire.len()));
        let (mut frames, mut seen) = (Frames::default(), 0);
        for part in [head, tail] {
            frames.push(part).unwrap();
            while let Some(event) = frames.next_event().unwrap() {
                prop_assert_eq!(&event[..], &body);
                seen += 1;
            }
        }
        prop_assert_eq!(seen, 2);
    }
}

#[test]
fn whatever_is_in_a_box_gives_an_answer() {
    let (minion, master, web1) = (private("minion_web1"), public("master"), id("web1"));
    let (enc_algo, sig_algo) = (EncAlgo::OaepSha1, SigAlgo::Pkcs1v15Sha1);
    let asker = Asker { id: web1.clone(), token: Token::new(&minion), enc_algo, sig_algo };
    let trust = Trust::default();
    let applicant = Applicant { id: &web1, key: &minion, enc_algo, sig_algo, autosign_grains: None, trust: &trust };
    let nonce = Nonce::from_random([1; 16]);
    let (attempt, _) = applicant.ask([1; 16], Zeroizing::new([0; KEY_LEN])).unwrap();
    let waiting = Waiting { key: &minion, master: &master, enc_algo, sig_algo, nonce };
    let session = SessionKey(crypticle());
    let cases = (any_value(), any_bytes());
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(200));
    let outcome = runner.run(&cases, |(value, bytes)| {
        let _ = (applicant.judge(&attempt, &bytes), waiting.open(&bytes));
        let sealed =
            SealedRequest { id: web1.clone(), enc_algo, sig_algo, sealed: session.0.seal([2; 16], None, &value) };
        let _ = sealed.open(&session, minion.public(), Ttl::Off);
        let load = value.as_map().cloned().unwrap_or_else(Map::new);
        let _ = events(&load);
        let wire = asker.seal(&session, &Fresh { nonce, iv: [3; 16], unix_s: 1 }, load);
        let Ok(Envelope::Aes(request)) = Envelope::decode(&wire) else { panic!() };
        if let Ok(request) = request.open(&session, minion.public(), Ttl::Off) {
            let _ = Command::decode(&request);
        }
        Ok(())
    });
    outcome.unwrap();
}
