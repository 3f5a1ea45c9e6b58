//! `pillar.json`: the pillar exchange, every layer.

use halite_proto::map;
use halite_proto::salt::crypticle::{Crypticle, OneTimeKey};
use halite_proto::salt::envelope::{BareReply, Envelope};
use halite_proto::salt::pillar::{self, BadPillar, Waiting};
use halite_proto::salt::request::{MinionRequest, Ttl};
use halite_proto::salt::rsa::{EncAlgo, SigAlgo};
use halite_proto::salt::{Nonce, Verified, msgpack};
use halite_proto::value::MapExt;

use crate::vectors::{bytes, every_cut, every_flip, file, hex, iv, private, public, session, text, value};

fn request() -> Verified<MinionRequest> {
    let vector = file("pillar");
    let Ok(Envelope::Aes(sealed)) = Envelope::decode(&hex(&vector, "request_wire_hex")) else { panic!() };
    sealed.open(&session(text(&vector, "session_key")), &public("minion_web1"), Ttl::Off).unwrap()
}

fn one_time() -> OneTimeKey {
    OneTimeKey(Crypticle::parse(text(&file("pillar"), "key_decrypted").as_bytes()).unwrap())
}

/// Judges a reply as the minion of the vector.
fn opened(payload: &[u8], nonce: Option<Nonce>) -> Result<halite_proto::value::Value, BadPillar> {
    let (key, master) = (private("minion_web1"), public("master"));
    let nonce = nonce.unwrap_or_else(|| request().get().nonce.unwrap());
    let (enc_algo, sig_algo) = (EncAlgo::OaepSha1, SigAlgo::Pkcs1v15Sha1);
    Waiting { key: &key, master: &master, enc_algo, sig_algo, nonce }.open(payload).map(Verified::into_inner)
}

#[test]
fn salts_reply_opens() {
    let vector = file("pillar");
    let pillar = opened(&hex(&vector, "reply_wire_hex"), None).unwrap();
    assert_eq!(pillar, value(&vector["data_decoded"]["pillar"]));
}

#[test]
fn the_layers_are_salts_byte_for_byte() {
    let vector = file("pillar");
    let recorded = msgpack::decode_map(&hex(&vector, "reply_wire_hex")).unwrap();
    let sealed = bytes(&recorded, "pillar");
    let plain = hex(&vector, "pillar_field_plaintext_hex");
    assert_eq!(one_time().0.open_bytes(&sealed).unwrap(), plain);
    assert_eq!(one_time().0.seal_bytes(iv(&sealed), &plain), sealed);
    let inside = msgpack::decode_map(&plain[8..]).unwrap();
    let data = bytes(&inside, "data");
    assert_eq!(private("master").sign(SigAlgo::Pkcs1v15Sha1, &data), bytes(&inside, "sig"));
    assert_eq!(msgpack::encode_map(&msgpack::decode_map(&data).unwrap()), data);
    // Ours differs in what OAEP has made random, and in what covers that.
    let pillar = value(&vector["data_decoded"]["pillar"]);
    let ours =
        pillar::reply(&request(), &private("master"), &public("minion_web1"), (&one_time(), iv(&sealed)), &pillar);
    let ours = ours.unwrap();
    assert_eq!(ours.len(), hex(&vector, "reply_wire_hex").len());
    assert_eq!(opened(&ours, None).unwrap(), pillar);
}

#[test]
fn a_damaged_reply_is_refused() {
    let reply = hex(&file("pillar"), "reply_wire_hex");
    let (key, master) = (private("minion_web1"), public("master"));
    let nonce = request().get().nonce.unwrap();
    let (enc_algo, sig_algo) = (EncAlgo::OaepSha1, SigAlgo::Pkcs1v15Sha1);
    let waiting = Waiting { key: &key, master: &master, enc_algo, sig_algo, nonce };
    every_cut(&reply, |bad| waiting.open(bad).is_err());
    // A private operation each: one bit of each byte of the sealed key, all bits of the box alone.
    for at in 0..reply.len() {
        let mut bad = reply.clone();
        bad[at] ^= 1 << (at % 8);
        assert!(waiting.open(&bad).is_err(), "byte {at}");
    }
    let sealed = bytes(&msgpack::decode_map(&reply).unwrap(), "pillar");
    every_flip(&sealed, |bad| one_time().0.open_bytes(bad).is_err());
}

#[test]
fn each_thing_that_is_wrong_is_named() {
    let vector = file("pillar");
    let reply = hex(&vector, "reply_wire_hex");
    assert_eq!(opened(&reply, Some(Nonce::from_random([1; 16]))), Err(BadPillar::Nonce));
    assert_eq!(opened(&BareReply::BadLoad.encode(), None), Err(BadPillar::Bare(BareReply::BadLoad)));
    assert_eq!(opened(b"\x01", None), Err(BadPillar::Field("key")));
    let forged =
        pillar::reply(&request(), &private("minion_other"), &public("minion_web1"), (&one_time(), [0; 16]), &1.into());
    assert_eq!(opened(&forged.unwrap(), None), Err(BadPillar::Signature));
    let elsewhere =
        pillar::reply(&request(), &private("master"), &public("minion_other"), (&one_time(), [0; 16]), &1.into());
    assert_eq!(opened(&elsewhere.unwrap(), None), Err(BadPillar::Sealed));
    // The one-time key sealed anew: it opens, but it is not the one that was signed.
    let mut map = msgpack::decode_map(&reply).unwrap();
    let again = public("minion_web1").encrypt(EncAlgo::OaepSha1, one_time().0.key_text().as_bytes()).unwrap();
    map.set("key", halite_proto::value::Value::Bytes(again));
    assert_eq!(opened(&msgpack::encode_map(&map), None), Err(BadPillar::Signature));
    map.take("pillar");
    assert_eq!(opened(&msgpack::encode_map(&map), None), Err(BadPillar::Field("pillar")));
    assert_eq!(opened(&msgpack::encode_map(&map! {}), None), Err(BadPillar::Bare(BareReply::Empty)));
}
