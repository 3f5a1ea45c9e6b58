//! The loads of the native wire, and the msgpack below them.

use bytes::Bytes;
use halite_proto::ids::MinionId;
use halite_proto::message::hello::{HelloReply, HelloRequest};
use halite_proto::message::{Fields, Publish, Push, Request, event};
use halite_proto::msgpack;
use halite_proto::value::{MapExt, Value};

/// Every message of the wire: what is read is written as it can be read again, to the same bytes.
pub(super) fn message(data: &[u8]) {
    let load = Bytes::copy_from_slice(data);
    check(&load, Request::decode, Request::encode);
    check(&load, Push::decode, Push::encode);
    check(&load, Publish::decode, Publish::encode);
    check(&load, HelloRequest::decode, HelloRequest::encode);
    check(&load, HelloReply::decode, HelloReply::encode);
    let id = MinionId::parse("web1").expect("an id");
    if let Ok(signed) = event::with_sender(&load, &id) {
        let fields = Fields::read(&signed);
        assert!(fields.is_err() || fields.is_ok_and(|fields| fields.str("id") == Ok("web1")));
    }
}

/// One round makes the bytes canonical; a second one changes nothing.
fn check<T, E>(load: &Bytes, decode: impl Fn(&Bytes) -> Result<T, E>, encode: impl Fn(&T) -> Vec<u8>) {
    let Ok(first) = decode(load) else { return };
    let encoded = Bytes::from(encode(&first));
    let Ok(again) = decode(&encoded) else { panic!("our own bytes are refused: {encoded:?}") };
    assert_eq!(encoded, encode(&again));
}

/// Any msgpack: deterministic, within its bounds, and setting a field sets that field.
pub(super) fn msgpack(data: &[u8]) {
    if let Ok(value) = msgpack::decode(data) {
        let encoded = msgpack::encode(&value);
        let again = msgpack::decode(&encoded).expect("our own bytes");
        assert_eq!(encoded, msgpack::encode(&again));
    }
    let mut reader = msgpack::Reader::new(data);
    let skipped = reader.skip().and_then(|()| reader.finish());
    assert!(skipped.is_ok() || msgpack::decode(data).is_err(), "what can be decoded can be skipped");
    if let Ok(changed) = msgpack::with_field(data, "id", &Value::from("web1"))
        && let Ok(map) = msgpack::decode_map(&changed)
    {
        assert_eq!(map.at("id"), Some(&Value::from("web1")));
    }
}
