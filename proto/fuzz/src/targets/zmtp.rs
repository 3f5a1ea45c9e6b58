//! ZMTP, layer by layer, and whole sessions of both mechanisms.

use std::io::IoSlice;
use std::sync::{Arc, LazyLock};

use bytes::{Bytes, BytesMut};
use halite_proto::zmtp::frame::{self, FRAME_OVERHEAD};
use halite_proto::zmtp::greeting::{self, AsServer, GREETING_LEN};
use halite_proto::zmtp::metadata::Metadata;
use halite_proto::zmtp::{
    ClientConfig, CloseReason, ConnectMechanism, CurveKeyPair, Event, Limits, Multipart, NullPolicy, SEED_LEN,
    ServerConfig, Session, SocketType, command as commands,
};

/// Small, so that short inputs get there.
const LIMITS: Limits =
    Limits { max_frame_before_ready: 1024, max_message: 2048, max_message_null: 1024, max_frames: 4 };

/// The first 64 bytes: an answer is the same with more bytes behind it.
pub(super) fn greeting(data: &[u8]) {
    let early = greeting::decode(&data[..data.len().min(GREETING_LEN - 1)]);
    assert!(!matches!(early, Ok(Some(_))), "63 bytes are no greeting");
    let answer = greeting::decode(data);
    assert!(early.is_ok() || early == answer, "what is refused stays refused");
    if let Ok(Some(mechanism)) = answer {
        assert_eq!(greeting::decode(&greeting::encode(mechanism, AsServer::No)), Ok(Some(mechanism)));
    }
}

/// A header: within the limit, and the same with more bytes behind it.
pub(super) fn frame(data: &[u8]) {
    for limit in [0, 255, 65_536, usize::MAX - 64] {
        let whole = frame::decode_header(data, limit);
        for len in 0..data.len().min(frame::HEADER_MAX) {
            let part = frame::decode_header(&data[..len], limit);
            assert!(part == Ok(None) || part == whole);
        }
        if let Ok(Some(header)) = whole {
            assert!(header.body_len <= limit && header.body_at <= frame::HEADER_MAX);
            assert!(header.total() >= header.body_len);
        }
    }
}

/// A command's body, and the properties of a READY.
pub(super) fn command(data: &[u8]) {
    if let Ok(commands::Command::Ping(context)) = commands::decode(data) {
        assert!(context.len() <= commands::MAX_PING_CONTEXT);
    }
    let Ok(mut metadata) = Metadata::decode(data) else { return };
    let mut encoded = BytesMut::new();
    metadata.encode(&mut encoded);
    let again = Metadata::decode(&encoded).expect("our own bytes");
    if again.identity.is_empty() {
        // Not every socket type writes its identity.
        metadata.identity = Bytes::new();
    }
    assert_eq!(again, metadata);
}

/// A NULL session of each socket type: the same events whether the bytes come at once or in pieces, and never more in
/// memory than the limits say.
pub(super) fn session(data: &[u8]) {
    let Some((&step, bytes)) = data.split_first() else { return };
    for socket in [SocketType::Router, SocketType::Pub] {
        let at_once = feed(server(socket), bytes, usize::MAX);
        let in_pieces = feed(server(socket), bytes, usize::from(step) + 1);
        assert_eq!(at_once, in_pieces);
    }
    feed(client(SocketType::Dealer, ConnectMechanism::Null), bytes, usize::MAX);
    feed(client(SocketType::Sub, curve_mechanism()), bytes, usize::MAX);
}

/// A CURVE handshake and its traffic, with what the client says changed at one place. The first byte chooses the flight
/// (greeting, HELLO, INITIATE, two messages), the second what becomes of it, the rest is where and what.
///
/// A message is only ever seen as it was sent: each flight is sealed or checked as a whole.
pub(super) fn curve(data: &[u8]) {
    let [flight, kind, at_high, at_low, patch @ ..] = data else { return };
    let (mut server, mut client) = (server(SocketType::Router), client(SocketType::Dealer, curve_mechanism()));
    let sent = Multipart::from([Bytes::copy_from_slice(&patch[..patch.len().min(64)]), Bytes::new()]);
    let (mut seen, mut to_client) = (Vec::new(), BytesMut::new());
    for number in 0..5u8 {
        if number >= 3 && client.send(&sent).is_err() {
            break;
        }
        let mut bytes = take(&mut client);
        if number == flight % 5 {
            bytes = change(bytes, *kind, u16::from_be_bytes([*at_high, *at_low]).into(), patch);
        }
        if drain(&mut server, &bytes, &mut seen).is_err() {
            break;
        }
        to_client.extend_from_slice(&take(&mut server));
        client.handle(&mut to_client).expect("an honest server");
    }
    for event in &seen {
        match event {
            Event::Message(frames) => assert_eq!(frames, sent.frames()),
            Event::Ready(_) => {}
            other => panic!("a ROUTER sees no {other:?}"),
        }
    }
}

/// Changes bytes in one of four ways.
fn change(mut bytes: Vec<u8>, kind: u8, at: usize, patch: &[u8]) -> Vec<u8> {
    let at = at % (bytes.len() + 1);
    match kind % 4 {
        0 => bytes.truncate(at),
        1 => bytes.iter_mut().skip(at).zip(patch).for_each(|(byte, change)| *byte ^= change),
        2 => drop(bytes.splice(at..at, patch.iter().copied())),
        _ => bytes = [&bytes[..], &bytes[..]].concat(),
    }
    bytes
}

/// Returns all that a session has to send.
fn take(session: &mut Session) -> Vec<u8> {
    let mut bytes = Vec::new();
    while session.out_len() > 0 {
        let mut slices = [IoSlice::new(&[]); 8];
        let filled = session.fill_slices(&mut slices);
        let before = bytes.len();
        slices[..filled].iter().for_each(|slice| bytes.extend_from_slice(slice));
        session.advance_out(bytes.len() - before);
    }
    bytes
}

fn drain(session: &mut Session, bytes: &[u8], seen: &mut Vec<Event>) -> Result<(), CloseReason> {
    let mut input = BytesMut::from(bytes);
    while let Some(event) = session.handle(&mut input)? {
        seen.push(event);
    }
    Ok(())
}

/// Feeds bytes in pieces of `step`; what is left unread stays in front of the next piece.
fn feed(mut session: Session, bytes: &[u8], step: usize) -> (Vec<Event>, Option<CloseReason>) {
    let (mut input, mut seen) = (BytesMut::new(), Vec::new());
    for piece in bytes.chunks(step.min(bytes.len().max(1))) {
        input.extend_from_slice(piece);
        loop {
            match session.handle(&mut input) {
                Ok(Some(event)) => seen.push(event),
                Ok(None) => break,
                Err(reason) => return (seen, Some(reason)),
            }
        }
        assert!(session.incomplete() <= LIMITS.max_message + FRAME_OVERHEAD);
        assert!(session.out_len() <= 4096, "answers are bounded");
    }
    (seen, None)
}

/// The pairs of server and client; computing a public key takes longer than most inputs.
static KEYS: LazyLock<[Arc<CurveKeyPair>; 2]> =
    LazyLock::new(|| [1, 2].map(|byte| Arc::new(CurveKeyPair::from_secret([byte; 32]))));

fn server(socket: SocketType) -> Session {
    let curve = Some(Arc::clone(&KEYS[0]));
    let config = ServerConfig { socket, curve, null: NullPolicy::Allow, limits: LIMITS };
    Session::server(Arc::new(config), [3; SEED_LEN])
}

fn client(socket: SocketType, mechanism: ConnectMechanism) -> Session {
    let identity = Bytes::from_static(b"web1");
    let config = ClientConfig { socket, mechanism, identity, properties: Vec::new(), limits: LIMITS };
    Session::client(Arc::new(config), [4; SEED_LEN])
}

fn curve_mechanism() -> ConnectMechanism {
    ConnectMechanism::Curve { server_key: KEYS[0].public(), keys: Arc::clone(&KEYS[1]) }
}
