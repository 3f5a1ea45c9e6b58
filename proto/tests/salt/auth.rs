//! `auth.json`: every request is read, every reply made again, and judged by the minion's half.

use std::sync::Arc;

use halite_proto::map;
use halite_proto::salt::auth::{
    Acceptance, Applicant, Attempt, AuthAnswer, AuthRefused, AuthRequest, BadAuth, Credentials, Proof, PubSig,
    Standing, Trust,
};
use halite_proto::salt::crypticle::KEY_LEN;
use halite_proto::salt::envelope::{BadRequest, BareReply, Envelope};
use halite_proto::salt::rsa::{EncAlgo, PrivateKey, SigAlgo};
use halite_proto::salt::{VERSION, msgpack};
use halite_proto::value::{Map, MapExt, Value};
use serde_json::Value as Json;
use zeroize::Zeroizing;

use crate::vectors::{
    bytes, every_cut, every_flip, file, hex, id, items, private, public, session, shared, text, unhex, value,
};

fn vectors() -> Vec<Json> {
    items(&file("auth")["vectors"]).to_vec()
}

fn named(name: &str) -> Json {
    vectors().into_iter().find(|vector| text(vector, "name").starts_with(name)).unwrap()
}

fn clear(vector: &Json) -> Map {
    match Envelope::decode(&hex(vector, "request_wire_hex")) {
        Ok(Envelope::Clear(load)) => load,
        other => panic!("{other:?}"),
    }
}

fn request(vector: &Json) -> AuthRequest {
    AuthRequest::decode(&clear(vector)).unwrap()
}

/// The key of the minion that asks in a vector.
fn asker(request: &AuthRequest) -> PrivateKey {
    let names = ["minion_web1", "minion_other"];
    names.into_iter().map(private).find(|key| *key.public() == request.public).unwrap()
}

/// The minion's half of a recorded request: its nonce and token are the recorded ones.
fn attempt(vector: &Json, applicant: &Applicant<'_>) -> Attempt {
    let nonce = unhex(text(&vector["request"]["load"], "nonce")).try_into().unwrap();
    let token = vector["minion_token_plain"].as_str().map(random_of);
    applicant.ask(nonce, token.unwrap_or_else(|| Zeroizing::new([0; KEY_LEN]))).unwrap().0
}

/// The random bytes that a text was made of.
fn random_of(text: &str) -> Zeroizing<[u8; KEY_LEN]> {
    use base64::Engine;
    let raw = base64::engine::general_purpose::STANDARD.decode(text).unwrap();
    Zeroizing::new(raw.try_into().unwrap())
}

fn trusting(pinned: bool) -> Trust {
    Trust { pinned: pinned.then(|| public("master")), ..Trust::default() }
}

fn judge(vector: &Json, trust: &Trust, answer: &[u8]) -> Result<AuthAnswer, AuthRefused> {
    let request = request(vector);
    let (key, id) = (asker(&request), id("web1"));
    let (enc_algo, sig_algo) = (request.enc_algo, request.sig_algo);
    let applicant = Applicant { id: &id, key: &key, enc_algo, sig_algo, autosign_grains: None, trust };
    applicant.judge(&attempt(vector, &applicant), answer)
}

fn accepted(answer: Result<AuthAnswer, AuthRefused>) -> Credentials {
    match answer.unwrap() {
        AuthAnswer::Accepted(credentials) => credentials.into_inner(),
        other @ AuthAnswer::Standing { .. } => panic!("{other:?}"),
    }
}

#[test]
fn requests_are_read_and_written_byte_for_byte() {
    for vector in vectors() {
        let wire = hex(&vector, "request_wire_hex");
        if vector["request"]["version"].as_u64() < Some(VERSION) {
            assert_eq!(Envelope::decode(&wire), Err(BadRequest::Version), "{}", text(&vector, "name"));
            assert_eq!(BadRequest::Version.answer().encode(), hex(&vector_of_old(), "reply_wire_hex"));
            continue;
        }
        let load = clear(&vector);
        assert_eq!(Value::Map(load.clone()), value(&vector["request"]["load"]));
        assert_eq!(Envelope::Clear(load.clone()).encode(), wire);
        match AuthRequest::decode(&load) {
            Ok(request) => assert_eq!(Envelope::Clear(request.to_load()).encode(), wire),
            Err(bad) => {
                assert!(["unsupported", "invalid id"].iter().any(|word| text(&vector, "name").contains(word)), "{bad}")
            }
        }
    }
}

fn vector_of_old() -> Json {
    named("version 2 envelope with default")
}

#[test]
fn what_is_not_accepted_is_answered_byte_for_byte() {
    let master = private("master");
    let mut seen = 0;
    for vector in vectors().iter().filter(|vector| vector["reply_load_decoded"]["ret"].is_boolean()) {
        let reply = hex(vector, "reply_wire_hex");
        let standing = match vector["reply_load_decoded"]["ret"].as_bool() {
            Some(true) => Standing::Pending,
            _ => Standing::Rejected,
        };
        match AuthRequest::decode(&clear(vector)) {
            Ok(request) => {
                assert_eq!(request.stand(&master, standing), reply);
                let answer = judge(vector, &trusting(true), &reply).unwrap();
                let AuthAnswer::Standing { standing: seen, proof } = answer else { panic!("{answer:?}") };
                assert_eq!((seen, proof), (standing, Proof::Signed));
            }
            Err(bad) => assert_eq!(bad.answer(&master), reply),
        }
        seen += 1;
    }
    assert_eq!(seen, 7);
}

#[test]
fn bad_algorithms_are_told_unsigned_and_not_believed() {
    let master = private("master");
    for (name, bad) in [("unsupported sig_algo", BadAuth::SigAlgo), ("unsupported enc_algo", BadAuth::EncAlgo)] {
        let vector = named(name);
        assert_eq!(AuthRequest::decode(&clear(&vector)).unwrap_err(), bad);
        let reply = hex(&vector, "reply_wire_hex");
        assert_eq!(bad.answer(&master), reply);
        let answer = judge(&named("accepted, with token"), &trusting(true), &reply);
        assert!(matches!(answer, Err(AuthRefused::Algorithm(_))));
    }
}

#[test]
fn acceptances_of_salts_master_are_believed() {
    let file = file("auth");
    let mut seen = 0;
    for vector in vectors().iter().filter(|vector| vector["aes_decrypted"].is_string()) {
        if vector["request"]["version"].as_u64() < Some(VERSION) {
            continue;
        }
        let signer = vector["reply_load_decoded"]["pub_sig"].is_string().then(|| public("master_sign"));
        let trust = Trust { signer, ..trusting(vector["minion_token_plain"].is_string()) };
        let credentials = accepted(judge(vector, &trust, &hex(vector, "reply_wire_hex")));
        assert_eq!(*credentials.shared.0.key_text(), text(&file, "master_aes"));
        assert_eq!(*credentials.session.0.key_text(), text(vector, "session_decrypted"));
        assert_eq!(credentials.master, public("master"));
        assert_eq!(Some(u64::from(credentials.publish_port)), vector["reply_load_decoded"]["publish_port"].as_u64());
        seen += 1;
    }
    assert_eq!(seen, 6);
}

#[test]
fn our_acceptances_have_salts_fields_and_signatures() {
    let (file, master) = (file("auth"), private("master"));
    for vector in vectors().iter().filter(|vector| vector["aes_decrypted"].is_string()) {
        if vector["request"]["version"].as_u64() < Some(VERSION) {
            continue;
        }
        let recorded = &vector["reply_load_decoded"];
        let pub_sig = recorded["pub_sig"].is_string().then(|| Arc::new(PubSig::Signing(private("master_sign"))));
        let port = u16::try_from(recorded["publish_port"].as_u64().unwrap()).unwrap();
        let acceptance = Acceptance::new(&master, port, &shared(text(&file, "master_aes")), pub_sig);
        let session = session(text(vector, "session_decrypted"));
        let reply = acceptance.accept(&master, &request(vector), &session).unwrap();
        let (ours, theirs) = (inner(&reply), inner(&hex(vector, "reply_wire_hex")));
        // What is sealed is random; all else is the same bytes in the same order.
        assert!(ours.keys().eq(theirs.keys()));
        for (name, value) in &ours {
            let name = name.as_str().unwrap();
            if !["aes", "session", "token"].contains(&name) {
                assert_eq!(Some(value), theirs.at(name), "{name}");
            }
        }
        let signer = recorded["pub_sig"].is_string().then(|| public("master_sign"));
        let trust = Trust { signer, ..trusting(vector["minion_token_plain"].is_string()) };
        let credentials = accepted(judge(vector, &trust, &reply));
        assert_eq!(credentials.session, session);
    }
}

fn inner(reply: &[u8]) -> Map {
    let outer = msgpack::decode_map(reply).unwrap();
    msgpack::decode_map(&bytes(&outer, "load")).unwrap()
}

#[test]
fn a_damaged_acceptance_is_refused() {
    let vector = named("accepted, with token");
    let request = request(&vector);
    let (key, id, trust) = (asker(&request), id("web1"), trusting(true));
    let (enc_algo, sig_algo) = (request.enc_algo, request.sig_algo);
    let applicant = Applicant { id: &id, key: &key, enc_algo, sig_algo, autosign_grains: None, trust: &trust };
    let attempt = attempt(&vector, &applicant);
    let reply = hex(&vector, "reply_wire_hex");
    assert!(applicant.judge(&attempt, &reply).is_ok());
    every_flip(&reply, |bad| applicant.judge(&attempt, bad).is_err());
    every_cut(&reply, |bad| applicant.judge(&attempt, bad).is_err());
}

#[test]
fn a_damaged_request_is_never_another_minions() {
    let vector = named("accepted, with token");
    let wire = hex(&vector, "request_wire_hex");
    every_cut(&wire, |bad| Envelope::decode(bad).is_err());
}

#[test]
fn each_thing_that_is_not_proven_has_its_own_error() {
    let vector = named("accepted, with token");
    let reply = hex(&vector, "reply_wire_hex");
    let refused = |trust: &Trust, reply: &[u8]| judge(&vector, trust, reply).unwrap_err();
    let changed = Trust { pinned: Some(public("master_sign")), ..Trust::default() };
    assert_eq!(refused(&changed, &reply), AuthRefused::MasterChanged(public("master").fingerprint()));
    let finger = Trust { finger: Some(public("master_sign").fingerprint()), ..trusting(true) };
    assert_eq!(refused(&finger, &reply), AuthRefused::Finger(public("master").fingerprint()));
    let signer = Trust { signer: Some(public("master_sign")), ..trusting(true) };
    assert_eq!(refused(&signer, &reply), AuthRefused::PubSig);
    let with_signature = named("master_sign_pubkey");
    let not_asked = judge(&with_signature, &trusting(true), &hex(&with_signature, "reply_wire_hex"));
    assert_eq!(not_asked.unwrap_err(), AuthRefused::PubSig);
    let wrong_signer = Trust { signer: Some(public("minion_other")), ..trusting(true) };
    let wrong = judge(&with_signature, &wrong_signer, &hex(&with_signature, "reply_wire_hex"));
    assert_eq!(wrong.unwrap_err(), AuthRefused::PubSig);
    let other = named("accepted, minion has no master key yet");
    assert_eq!(refused(&trusting(true), &hex(&other, "reply_wire_hex")), AuthRefused::Nonce);
    assert_eq!(refused(&trusting(true), &BareReply::BadLoad.encode()), AuthRefused::Bare(BareReply::BadLoad));
    assert_eq!(refused(&trusting(true), b"\xc1"), AuthRefused::NotMsgpack);
    let plain = msgpack::encode_map(&map! { "enc" => "clear", "load" => map! { "ret" => false } });
    assert_eq!(refused(&trusting(true), &plain), AuthRefused::Signature);
}

#[test]
fn what_the_master_has_signed_must_be_whole() {
    let (vector, master) = (named("accepted, with token"), private("master"));
    let reply = hex(&vector, "reply_wire_hex");
    let without = |name: &str, change: &dyn Fn(&mut Map)| {
        let mut load = inner(&reply);
        change(&mut load);
        let load = msgpack::encode_map(&load);
        let sig = Value::Bytes(master.sign(SigAlgo::Pkcs1v15Sha1, &load));
        let outer = map! { "enc" => "clear", "load" => Value::Bytes(load), "sig" => sig };
        let answer = judge(&vector, &trusting(true), &msgpack::encode_map(&outer));
        answer.expect_err(name)
    };
    let other = private("minion_other");
    let foreign = public("master").encrypt(EncAlgo::OaepSha1, b"x").unwrap();
    let proof = other.seal_x931(b"salt").unwrap();
    let drop = |name: &'static str| move |load: &mut Map| std::mem::drop(load.take(name));
    let other_key = master.seal_x931(&[b'0'; 64]).unwrap();
    let of_another = |load: &mut Map| load.set("sig", Value::Bytes(other_key.clone()));
    assert_eq!(without("a proof of another shared key", &of_another), AuthRefused::Proof);
    assert_eq!(without("token", &drop("token")), AuthRefused::Token);
    assert_eq!(without("sig", &drop("sig")), AuthRefused::Proof);
    assert_eq!(without("session", &drop("session")), AuthRefused::Field("session"));
    assert_eq!(without("port", &|load| load.set("publish_port", 70_000)), AuthRefused::Field("publish_port"));
    assert_eq!(without("nonce", &drop("nonce")), AuthRefused::Nonce);
    assert_eq!(without("aes", &|load| load.set("aes", Value::Bytes(foreign.clone()))), AuthRefused::Key("aes"));
    assert_eq!(without("proof", &|load| load.set("sig", Value::Bytes(proof.clone()))), AuthRefused::Proof);
    assert_eq!(without("token", &|load| load.set("token", Value::Bytes(foreign.clone()))), AuthRefused::Token);
    assert_eq!(without("pub_key", &drop("pub_key")), AuthRefused::Field("pub_key"));
}

#[test]
fn an_unknown_master_proves_nothing_with_a_standing() {
    let vector = named("new key -> pending");
    let answer = judge(&vector, &trusting(false), &hex(&vector, "reply_wire_hex")).unwrap();
    assert!(matches!(answer, AuthAnswer::Standing { standing: Standing::Pending, proof: Proof::Unknown }));
    let full = request(&vector).stand(&private("master"), Standing::Full);
    let answer = judge(&vector, &trusting(true), &full).unwrap();
    assert!(matches!(answer, AuthAnswer::Standing { standing: Standing::Full, proof: Proof::Signed }));
    let forged = request(&vector).stand(&private("minion_other"), Standing::Rejected);
    assert_eq!(judge(&vector, &trusting(true), &forged).unwrap_err(), AuthRefused::Signature);
}

#[test]
fn a_token_for_another_master_comes_back_as_none() {
    let (minion, id) = (private("minion_web1"), id("web1"));
    let trust = Trust { pinned: Some(public("master_sign")), ..Trust::default() };
    let grains = map! { "role" => "web" };
    let applicant = Applicant {
        id: &id,
        key: &minion,
        enc_algo: EncAlgo::OaepSha224,
        sig_algo: SigAlgo::Pkcs1v15Sha224,
        autosign_grains: Some(&grains),
        trust: &trust,
    };
    let (attempt, wire) = applicant.ask([1; 16], Zeroizing::new([2; KEY_LEN])).unwrap();
    assert_eq!(format!("{attempt:?}"), "Attempt(..)");
    let Ok(Envelope::Clear(load)) = Envelope::decode(&wire) else { panic!() };
    let request = AuthRequest::decode(&load).unwrap();
    assert_eq!(request.autosign_grains, Some(grains.clone()));
    assert!(!format!("{request:?}").contains("role"));
    let (master, keys) = (private("master"), file("auth"));
    let precomputed = Arc::new(PubSig::Precomputed("c2ln\n".to_owned()));
    let acceptance = Acceptance::new(&master, 4505, &shared(text(&keys, "master_aes")), Some(precomputed));
    let session = session(text(&keys, "master_aes"));
    let load = inner(&acceptance.accept(&master, &request, &session).unwrap());
    assert_eq!((load.at("token"), load.text("pub_sig")), (None, Some("c2ln\n")));
    // What opens and is no token is not sealed anew either.
    let sealed = master.public().encrypt(EncAlgo::OaepSha224, b"not a token").unwrap();
    let request = AuthRequest { token: Some(sealed), ..request };
    assert_eq!(inner(&acceptance.accept(&master, &request, &session).unwrap()).at("token"), None);
}

#[test]
fn each_field_of_a_request_is_judged() {
    let good = request(&named("accepted, with token")).to_load();
    let master = private("master");
    let refused = |name: &str, value: Value| {
        let mut load = good.clone();
        load.set(name, value);
        AuthRequest::decode(&load).unwrap_err()
    };
    for name in ["cmd", "nonce", "pub", "id", "sig_algo", "enc_algo", "token"] {
        let bad = refused(name, Value::from(7));
        assert!(matches!(bad, BadAuth::Field(field) if field == name), "{bad:?}");
        assert_eq!(bad.answer(&master), BareReply::BadLoad.encode());
    }
    assert_eq!(refused("nonce", "0".into()), BadAuth::Field("nonce"));
    let key = refused("pub", "-----BEGIN PUBLIC KEY-----".into());
    assert!(matches!(key, BadAuth::Key { .. }));
    assert_eq!(inner(&key.answer(&master)).at("ret"), Some(&Value::Bool(false)));
    assert!(matches!(refused("id", "../web1".into()), BadAuth::Id { .. }));
}
