//! Reads the recorded vectors: JSON in which bytes that are not text stand as `{"hex": ".."}`.

use halite_proto::ids::MinionId;
use halite_proto::salt::crypticle::{Crypticle, SessionKey, SharedKey};
use halite_proto::salt::rsa::{PrivateKey, PublicKey};
use halite_proto::value::{Map, MapExt, Value};
use serde_json::Value as Json;

/// Reads one file of vectors.
pub(crate) fn file(name: &str) -> Json {
    let path = format!("{}/tests/data/salt/{name}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// Returns the items of an array.
pub(crate) fn items(json: &Json) -> &[Json] {
    json.as_array().unwrap()
}

/// Returns a text.
pub(crate) fn text<'a>(json: &'a Json, name: &str) -> &'a str {
    json[name].as_str().unwrap_or_else(|| panic!("{name} in {json}"))
}

/// Returns the bytes of a hex text.
pub(crate) fn hex(json: &Json, name: &str) -> Vec<u8> {
    unhex(text(json, name))
}

/// Returns the bytes of a hex text.
pub(crate) fn unhex(text: &str) -> Vec<u8> {
    text.as_bytes().chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

/// Returns the value that a vector says.
pub(crate) fn value(json: &Json) -> Value {
    match json {
        Json::Object(map) if map.len() == 1 && map.contains_key("hex") => {
            Value::Bytes(unhex(map["hex"].as_str().unwrap()))
        }
        Json::Object(map) => {
            Value::Map(map.iter().map(|(key, json)| (Value::from(key.as_str()), value(json))).collect())
        }
        Json::Array(items) => Value::List(items.iter().map(value).collect()),
        scalar => Value::from_json(scalar),
    }
}

/// Returns one of the key pairs.
pub(crate) fn private(name: &str) -> PrivateKey {
    let keys = file("rsa_keys");
    let key = &keys["keys"][name];
    PrivateKey::from_pem(text(key, "private_pem"), key["passphrase"].as_str()).unwrap()
}

/// Returns one of the public keys.
pub(crate) fn public(name: &str) -> PublicKey {
    PublicKey::from_pem(text(&file("rsa_keys")["keys"][name], "public_pem")).unwrap()
}

/// Returns a session key by its text.
pub(crate) fn session(text: &str) -> SessionKey {
    SessionKey(Crypticle::parse(text.as_bytes()).unwrap())
}

/// Returns a shared key by its text.
pub(crate) fn shared(text: &str) -> SharedKey {
    SharedKey(Crypticle::parse(text.as_bytes()).unwrap())
}

/// Returns the vector that a box begins with.
pub(crate) fn iv(sealed: &[u8]) -> [u8; 16] {
    *sealed.first_chunk().unwrap()
}

/// Returns the bytes under a key.
pub(crate) fn bytes(map: &Map, name: &str) -> Vec<u8> {
    map.at(name).unwrap().as_bytes().unwrap().to_vec()
}

/// Returns a minion id.
pub(crate) fn id(text: &str) -> MinionId {
    MinionId::parse(text).unwrap()
}

/// Calls `refused` with every cut of some bytes.
pub(crate) fn every_cut(bytes: &[u8], refused: impl Fn(&[u8]) -> bool) {
    for end in 0..bytes.len() {
        assert!(refused(&bytes[..end]), "cut at {end} of {}", bytes.len());
    }
}

/// Calls `refused` with some bytes in which one bit is flipped, for each bit.
pub(crate) fn every_flip(bytes: &[u8], refused: impl Fn(&[u8]) -> bool) {
    let mut bytes = bytes.to_vec();
    for bit in 0..bytes.len() * 8 {
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(refused(&bytes), "bit {} of byte {}", bit % 8, bit / 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
}
