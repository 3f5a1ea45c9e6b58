//! `msgpack.json`: both dialects, both directions.

use halite_proto::map;
use halite_proto::salt::msgpack::{self, Ext};
use halite_proto::value::Value;

use crate::vectors::{every_cut, file, hex, items, text};

/// What each vector says, in our values; the file has it as Python's text.
fn said(name: &str) -> Value {
    match name {
        "str wire" | "str event/ipc/disk" => map! { "a" => "b" }.into(),
        "bytes wire (same family as str)" => map! { "a" => Value::Bytes(vec![0xff, 0]) }.into(),
        "bytes utf8-valid on the wire becomes str" => map! { "a" => "abc" }.into(),
        "bytes event/ipc/disk" => map! { "a" => Value::Bytes(b"abc".to_vec()) }.into(),
        "40-char str wire (raw16, never str8)" | "40-char str with bin type (str8)" => "x".repeat(40).into(),
        "datetime ext 78" => "2026-01-02T03:04:05.678901".into(),
        "date ext 78" => "2026-01-02T00:00:00.000000".into(),
        "set" => map! { "s" => vec![1] }.into(),
        "tuple" => Value::List(vec![1.into(), "a".into()]),
        "int too big -> str" => map! { "j" => "18446744073709551616" }.into(),
        "max u64" => u64::MAX.into(),
        "float" => 1.5.into(),
        "None/bool" => Value::List(vec![Value::Null, true.into(), false.into()]),
        "int map keys" => map! { 1 => "a" }.into(),
        "constant ext 79 (NOT_SET)" => "NOT_SET".into(),
        other => panic!("{other}"),
    }
}

#[test]
fn values_are_salts_byte_for_byte() {
    for vector in items(&file("msgpack")["vectors"]) {
        let (name, bytes) = (text(vector, "name"), hex(vector, "hex"));
        let modern = vector["use_bin_type"].as_bool().unwrap();
        let decoded = if modern { msgpack::decode_modern(&bytes) } else { msgpack::decode(&bytes) };
        assert_eq!(decoded.unwrap(), said(name), "{name}");
        if !name.contains("ext 7") {
            let encode = if modern { msgpack::encode_modern } else { msgpack::encode };
            assert_eq!(encode(&said(name)), bytes, "{name}");
        }
        every_cut(&bytes, |bad| msgpack::decode(bad).is_err() && msgpack::decode_modern(bad).is_err());
    }
}

#[test]
fn an_integer_beyond_64_bits_travels_as_text() {
    let big = Value::Int(i128::from(u64::MAX) + 1);
    let vectors = file("msgpack");
    let vector = items(&vectors["vectors"]).iter().find(|vector| text(vector, "name").starts_with("int too big"));
    assert_eq!(msgpack::encode_map(&map! { "j" => big }), hex(vector.unwrap(), "hex"));
}

#[test]
fn a_bin_is_text_on_the_wire_and_bytes_elsewhere() {
    let bin = [0xc4, 3, b'a', b'b', b'c'];
    assert_eq!(msgpack::decode(&bin).unwrap(), Value::from("abc"));
    assert_eq!(msgpack::decode_modern(&bin).unwrap(), Value::Bytes(b"abc".to_vec()));
    let map = [[0x81].as_slice(), &bin, &bin].concat();
    assert_eq!(msgpack::decode_map(&map).unwrap(), map! { "abc" => "abc" });
    assert!(msgpack::decode_map(&bin).is_err() && msgpack::decode_modern_map(&bin).is_err());
}

#[test]
fn each_width_of_a_text_is_read() {
    for bytes in [&[0xa1, b'x'][..], &[0xd9, 1, b'x'], &[0xda, 0, 1, b'x'], &[0xdb, 0, 0, 0, 1, b'x'], &[0xc4, 1, b'x']]
    {
        assert_eq!(msgpack::decode(bytes).unwrap(), Value::from("x"));
    }
    for len in [0, 31, 32, 255, 256, 65_535, 65_536] {
        let text = Value::from("x".repeat(len));
        let bytes = msgpack::encode(&text);
        assert!(!matches!(bytes[0], 0xd9 | 0xc4..=0xc6), "{len}");
        assert_eq!(msgpack::decode(&bytes).unwrap(), text);
    }
}

#[test]
fn extensions_go_both_ways() {
    let vectors = file("msgpack");
    for vector in items(&vectors["vectors"]).iter().filter(|vector| text(vector, "name").contains("ext 7")) {
        let bytes = hex(vector, "hex");
        // Type and length stand in three bytes.
        let ext = Ext::read(i8::try_from(bytes[2]).unwrap(), &bytes[3..]);
        assert!(!matches!(ext, Ext::Other { .. }));
        let mut again = Vec::new();
        ext.encode_into(&mut again);
        assert_eq!(again, bytes);
    }
    for (kind, data) in [(78, &b"20260102 03:04:05.678901"[..]), (78, b""), (79, b"\x91\xa1x"), (5, b"\xff\x00")] {
        let ext = Ext::read(kind, data);
        assert_eq!(ext, Ext::Other { kind, data });
        let mut bytes = Vec::new();
        ext.encode_into(&mut bytes);
        assert_eq!(msgpack::decode_modern(&bytes).unwrap(), Value::Bytes(data.to_vec()));
    }
}
