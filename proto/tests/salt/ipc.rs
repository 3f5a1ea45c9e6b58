//! `ipc_event.json`: event bytes and both framings, in whatever pieces they come.

use bytes::Bytes;
use halite_proto::map;
use halite_proto::salt::event::{BadEvent, Event, MAX_TAG};
use halite_proto::salt::ipc::{self, BadFrame, Frames, Framing, MAX_FRAME};
use halite_proto::salt::msgpack;
use halite_proto::value::Value;

use crate::vectors::{every_cut, file, hex, text, value};

fn event_bytes() -> Bytes {
    hex(&file("ipc_event"), "event_bytes_hex").into()
}

/// Takes a peer's bytes apart, pushed in pieces of this size.
fn taken(input: &[u8], piece: usize) -> Result<Vec<Bytes>, BadFrame> {
    let (mut frames, mut events) = (Frames::default(), Vec::new());
    for piece in input.chunks(piece) {
        frames.push(piece)?;
        while let Some(event) = frames.next_event()? {
            events.push(event);
        }
    }
    Ok(events)
}

#[test]
fn an_event_is_salts_byte_for_byte() {
    let vector = file("ipc_event");
    let event = Event::decode(&event_bytes()).unwrap();
    assert_eq!(event.tag, text(&vector, "tag"));
    assert_eq!(Value::Map(event.map().unwrap()), value(&vector["data"]));
    assert_eq!(event.encode(), event_bytes());
    assert_eq!(Event::new(&event.tag, &event.map().unwrap()), event);
}

#[test]
fn what_is_no_event_is_refused() {
    let decode = |bytes: &[u8]| Event::decode(&Bytes::copy_from_slice(bytes)).unwrap_err();
    every_cut(&event_bytes(), |bad| Event::decode(&Bytes::copy_from_slice(bad)).is_err());
    assert_eq!(decode(b"\n\n\x80"), BadEvent::Tag);
    assert_eq!(decode(b"\xff\n\n\x80"), BadEvent::Tag);
    assert_eq!(decode(b"tag\n\x80"), BadEvent::Tag);
    assert!(matches!(decode(b"tag\n\n\x01"), BadEvent::Data(_)));
    assert!(matches!(decode(b"tag\n\n\x80\x80"), BadEvent::Data(_)));
    let long = [vec![b'x'; MAX_TAG + 1], b"\n\n\x80".to_vec()].concat();
    assert_eq!(decode(&long), BadEvent::Tag);
    assert!(Event::decode(&long[1..].to_vec().into()).is_ok());
}

#[test]
fn frames_are_salts_byte_for_byte() {
    let vector = file("ipc_event");
    for (framing, name) in [
        (Framing::Prefixed, "frame_push_prefixed_hex"),
        (Framing::Stream, "frame_unprefixed_bin_hex"),
        (Framing::Stream, "frame_msg_hex"),
    ] {
        let wire = hex(&vector, name);
        assert_eq!(ipc::encode(framing, &event_bytes()), wire, "{name}");
        assert_eq!(Framing::detect(wire[0]), framing);
        assert_eq!(Framing::parse(framing.name()), Some(framing));
        assert_eq!(taken(&wire, usize::MAX).unwrap(), [event_bytes()]);
        // A cut frame is not an error: more may come.
        every_cut(&wire, |cut| taken(cut, usize::MAX) == Ok(Vec::new()));
    }
    assert_eq!(Framing::parse("auto"), None);
}

#[test]
fn frames_come_in_any_pieces() {
    for framing in [Framing::Prefixed, Framing::Stream] {
        let events = [event_bytes(), Bytes::from_static(b"a\n\n\x80"), vec![7; 300].into(), vec![8; 70_000].into()];
        let wire: Vec<u8> = events.iter().flat_map(|event| ipc::encode(framing, event)).collect();
        for piece in [1, 2, 3, 5, 100, 4096, usize::MAX] {
            assert_eq!(taken(&wire, piece).unwrap(), events, "{framing:?} in pieces of {piece}");
        }
    }
}

#[test]
fn a_body_may_be_text() {
    let frame = msgpack::encode_map(&map! { "head" => map! {}, "body" => "tag\n\n" });
    assert_eq!(taken(&frame, usize::MAX).unwrap(), [Bytes::from_static(b"tag\n\n")]);
}

#[test]
fn what_are_no_frames_ends_the_connection() {
    assert_eq!(taken(&u32::MAX.to_be_bytes().map(|byte| byte & 0x7f), 4), Err(BadFrame::TooLarge));
    assert!(matches!(taken(&[0x81, 0xc1], 1), Err(BadFrame::Decode(_))));
    assert!(matches!(taken(&[0xc0], 1), Err(BadFrame::Decode(_))));
    assert_eq!(taken(&[0x80], 1), Err(BadFrame::NoBody));
    assert_eq!(taken(&[0, 0, 0, 1, 0x80], 5), Err(BadFrame::NoBody));
    assert!(matches!(taken(&[0, 0, 0, 0], 5), Err(BadFrame::Decode(_))));
    let endless = vec![0xdd; MAX_FRAME + 5];
    assert_eq!(taken(&endless, 65_536), Err(BadFrame::TooLarge));
    // Deep nesting is walked without a stack and refused when it is decoded.
    let deep = [vec![0x91; 100_000], vec![0xc0]].concat();
    assert!(matches!(taken(&deep, 4096), Err(BadFrame::Decode(_))));
}
