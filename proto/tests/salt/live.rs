//! `live_capture.json`: what minions of 3006, 3007 and 3008 and a master of 3008 said to each other.

use halite_proto::salt::auth::{Applicant, AuthAnswer, AuthRequest, Proof, Standing, Trust};
use halite_proto::salt::command::{Command, events};
use halite_proto::salt::envelope::Envelope;
use halite_proto::salt::msgpack;
use halite_proto::salt::publish::{self, Ear};
use halite_proto::salt::request::{Token, Ttl, open_reply};
use halite_proto::salt::rsa::{PrivateKey, PublicKey, SigAlgo};
use halite_proto::value::{MapExt, Value};
use serde_json::Value as Json;
use zeroize::Zeroizing;

use crate::vectors::{bytes, every_flip, file, hex, id, items, iv, session, shared, text, unhex, value};

fn key(capture: &Json, name: &str) -> PrivateKey {
    PrivateKey::from_pem(text(&capture["keys"][name], "private_pem"), None).unwrap()
}

fn public(capture: &Json, name: &str) -> PublicKey {
    PublicKey::from_pem(text(&capture["keys"][name], "public_pem")).unwrap()
}

#[test]
fn first_contacts_are_judged() {
    let capture = file("live_capture");
    let mut accepted = 0;
    for vector in items(&capture["requests"]).iter().filter(|vector| text(vector, "cmd") == "_auth") {
        let wire = hex(vector, "request_wire_hex");
        let Ok(Envelope::Clear(load)) = Envelope::decode(&wire) else { panic!() };
        let request = AuthRequest::decode(&load).unwrap();
        assert_eq!(Envelope::Clear(request.to_load()).encode(), wire);
        let (minion, trust) = (key(&capture, text(vector, "minion")), Trust::default());
        assert_eq!(*minion.public(), request.public);
        let (enc_algo, sig_algo) = (request.enc_algo, request.sig_algo);
        let applicant =
            Applicant { id: &request.id, key: &minion, enc_algo, sig_algo, autosign_grains: None, trust: &trust };
        let nonce = unhex(request.nonce.as_str()).try_into().unwrap();
        let (attempt, again) = applicant.ask(nonce, Zeroizing::new([0; 56])).unwrap();
        assert_eq!(again, wire);
        let reply = hex(vector, "reply_wire_hex");
        match applicant.judge(&attempt, &reply).unwrap() {
            AuthAnswer::Accepted(credentials) => {
                assert_eq!(credentials.get().master, public(&capture, "master"));
                accepted += 1;
            }
            AuthAnswer::Standing { standing, proof } => {
                assert_eq!((standing, proof), (Standing::Pending, Proof::Unknown));
                assert_eq!(request.stand(&key(&capture, "master"), standing), reply);
            }
        }
    }
    assert_eq!(accepted, 3);
}

#[test]
fn requests_of_three_releases_open_and_close_byte_for_byte() {
    let capture = file("live_capture");
    for vector in items(&capture["requests"]).iter().filter(|vector| text(vector, "cmd") != "_auth") {
        let (session, minion) = (session(text(vector, "session_key")), text(vector, "minion"));
        let wire = hex(vector, "request_wire_hex");
        let envelope = Envelope::decode(&wire).unwrap();
        assert_eq!(envelope.encode(), wire);
        let Envelope::Aes(sealed) = envelope else { panic!() };
        let request = sealed.open(&session, &public(&capture, minion), Ttl::Off).unwrap();
        assert_eq!(request.get().id, id(minion));
        assert_eq!(request.get().load.text("cmd"), Some(text(vector, "cmd")));
        let plain = hex(vector, "request_plaintext_hex");
        let load = msgpack::decode_map(&plain[8..]).unwrap();
        assert_eq!(bytes(&load, "tok"), Token::new(&key(&capture, minion)).as_bytes());
        assert_eq!(session.0.seal_map(iv(&sealed.sealed), None, &load), sealed.sealed);
        let command = Command::decode(&request).unwrap();
        if let Command::MinionEvents(load) = &command {
            assert_eq!(events(load).len(), 1);
        }
        let reply = hex(vector, "reply_wire_hex");
        let answer = open_reply(&session, &request.get().nonce.unwrap(), &reply).unwrap();
        assert_eq!(*answer.get(), value(&vector["reply_object"]));
        let sealed_reply = msgpack::decode(&reply).unwrap().as_bytes().unwrap().to_vec();
        assert_eq!(request.reply(&session, iv(&sealed_reply), answer.get()), reply);
        every_flip(&sealed_reply, |bad| session.0.open_bytes(bad).is_err());
    }
}

#[test]
fn publications_open_and_close_byte_for_byte() {
    let capture = file("live_capture");
    let master = key(&capture, "master");
    for vector in items(&capture["publications"]) {
        let wire = unhex(items(&vector["frames_hex"])[0].as_str().unwrap());
        let shared_key = || shared(text(vector, "aes_key"));
        let load = Ear::new(shared_key(), Some(public(&capture, "master"))).open(&wire).unwrap().into_inner();
        assert_eq!(Value::Map(load.clone()), value(&vector["load"]));
        let serial = load.at("serial").and_then(Value::as_u64).unwrap();
        let vector_of_box = iv(&bytes(&msgpack::decode_map(&wire).unwrap(), "load"));
        let signer = Some((&master, SigAlgo::Pkcs1v15Sha1));
        assert_eq!(publish::seal(&shared_key(), vector_of_box, load, serial, signer), wire);
    }
}
