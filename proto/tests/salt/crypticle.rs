//! `crypticle.json`: boxes, byte for byte.

use halite_proto::map;
use halite_proto::salt::crypticle::{BadContent, BadKeyText, Crypticle, KEY_LEN, KEY_TEXT_LEN, OneTimeKey, Refused};
use halite_proto::salt::{BadNonce, Nonce};
use halite_proto::value::Value;
use zeroize::Zeroizing;

use crate::vectors::{every_cut, every_flip, file, hex, items, iv, text, unhex, value};

fn key() -> Crypticle {
    Crypticle::parse(text(&file("crypticle"), "key_string").as_bytes()).unwrap()
}

#[test]
fn a_key_text_is_the_two_keys() {
    let file = file("crypticle");
    let raw = [hex(&file, "aes_key_hex"), hex(&file, "hmac_key_hex")].concat();
    let random: [u8; KEY_LEN] = raw.try_into().unwrap();
    let made = Crypticle::from_random(Zeroizing::new(random));
    assert_eq!(*made.key_text(), text(&file, "key_string"));
    assert_eq!(made.key_text().len(), KEY_TEXT_LEN);
    assert_eq!(made, key());
    assert_ne!(made, Crypticle::from_random(Zeroizing::new([7; KEY_LEN])));
    assert_eq!(format!("{:?}", OneTimeKey(made)), "OneTimeKey(Crypticle(..))");
}

#[test]
fn other_texts_are_no_keys() {
    let good = text(&file("crypticle"), "key_string").to_owned();
    every_cut(good.as_bytes(), |bad| Crypticle::parse(bad) == Err(BadKeyText));
    for bad in [format!("{good}="), format!("{good}\n"), "A".repeat(76), "!".repeat(76), format!("{}====", &good[..72])]
    {
        assert_eq!(Crypticle::parse(bad.as_bytes()), Err(BadKeyText), "{bad}");
    }
}

#[test]
fn boxes_are_salts_byte_for_byte() {
    let key = key();
    for vector in items(&file("crypticle")["vectors"]) {
        let (wire, plain) = (hex(vector, "wire_hex"), hex(vector, "plaintext_hex"));
        let nonce = vector["nonce"].as_str().map(|nonce| Nonce::parse(nonce.as_bytes()).unwrap());
        assert_eq!(iv(&wire).to_vec(), hex(vector, "iv_hex"));
        assert!(wire.ends_with(&hex(vector, "hmac_hex")));
        assert_eq!(key.open_bytes(&wire).unwrap(), plain);
        assert_eq!(key.seal_bytes(iv(&wire), &plain), wire);
        let object = key.open(nonce.as_ref(), &wire).unwrap();
        assert_eq!(object, value(&vector["object"]));
        assert_eq!(key.seal(iv(&wire), nonce.as_ref(), &object), wire, "{}", text(vector, "name"));
    }
}

#[test]
fn every_cut_and_every_flipped_bit_is_refused() {
    let key = key();
    for vector in items(&file("crypticle")["vectors"]) {
        let wire = hex(vector, "wire_hex");
        every_cut(&wire, |bad| key.open_bytes(bad) == Err(Refused));
        every_flip(&wire, |bad| key.open_bytes(bad) == Err(Refused));
        let longer = [wire, vec![0; 16]].concat();
        assert_eq!(key.open_bytes(&longer), Err(Refused));
    }
}

#[test]
fn another_key_opens_nothing() {
    let other = Crypticle::from_random(Zeroizing::new([7; KEY_LEN]));
    let vector = &file("crypticle")["vectors"][0];
    assert_eq!(other.open(None, &hex(vector, "wire_hex")), Err(BadContent::Box(Refused)));
}

#[test]
fn the_reply_to_another_request_is_refused() {
    let (mine, other) = (Nonce::from_random([1; 16]), Nonce::from_random([2; 16]));
    let sealed = key().seal([0; 16], Some(&other), &Value::Null);
    assert_eq!(key().open(Some(&mine), &sealed), Err(BadContent::Nonce));
    assert_eq!(key().open(Some(&other), &sealed), Ok(Value::Null));
    let without = key().seal([0; 16], None, &Value::Null);
    assert_eq!(key().open(Some(&mine), &without), Err(BadContent::Nonce));
}

#[test]
fn a_plaintext_without_prefix_is_an_empty_map() {
    let sealed = key().seal_bytes([0; 16], b"tls_opt::\x80");
    assert_eq!(key().open(None, &sealed), Ok(Value::Map(map! {})));
    let broken = key().seal_bytes([0; 16], b"pickle::\xc1");
    assert!(matches!(key().open(None, &broken), Err(BadContent::Decode(_))));
}

#[test]
fn nonces_are_32_hex_characters() {
    let nonce = Nonce::from_random(unhex("00112233445566778899aabbccddeeff").try_into().unwrap());
    assert_eq!(nonce.as_str(), "00112233445566778899aabbccddeeff");
    assert_eq!(Nonce::parse(nonce.as_str().as_bytes()), Ok(nonce));
    assert!(nonce.is(Some(&Value::from(nonce.as_str()))) && !nonce.is(None) && !nonce.is(Some(&Value::from("0"))));
    let upper = nonce.as_str().to_uppercase();
    for bad in ["", "0", upper.as_str(), "00112233445566778899aabbccddeeff0"] {
        assert_eq!(Nonce::parse(bad.as_bytes()), Err(BadNonce), "{bad}");
    }
    assert_eq!(format!("{nonce:?}"), "Nonce(..)");
}
