//! What `zmtp/session` promises, tested.

use super::*;
use crate::zmtp::SocketType::{Dealer, Pub, Router, Sub};
use crate::zmtp::frame::FrameError;
use crate::zmtp::mechanism::curve::{CurveError, CurveKeyPair};
use proptest::prelude::*;

fn keys(byte: u8) -> Arc<CurveKeyPair> {
    Arc::new(CurveKeyPair::from_secret([byte; 32]))
}

fn server_config(socket: SocketType) -> ServerConfig {
    ServerConfig { socket, curve: Some(keys(1)), null: NullPolicy::Allow, limits: Limits::default() }
}

fn client_config(socket: SocketType, mechanism: ConnectMechanism) -> ClientConfig {
    let properties = vec![("X-minion".to_owned(), Bytes::from_static(b"web1"))];
    let limits = Limits { max_message_null: 1 << 20, ..Limits::default() };
    ClientConfig { socket, mechanism, identity: Bytes::from_static(b"web1"), properties, limits }
}

fn curve() -> ConnectMechanism {
    ConnectMechanism::Curve { server_key: keys(1).public(), keys: keys(2) }
}

/// Both halves and the bytes between them, moved by hand.
struct Pair {
    server: Session,
    client: Session,
    to_server: BytesMut,
    to_client: BytesMut,
}

impl Pair {
    fn new(socket: SocketType, peer: SocketType, mechanism: ConnectMechanism) -> Pair {
        Pair::with(server_config(socket), client_config(peer, mechanism))
    }

    fn with(server: ServerConfig, client: ClientConfig) -> Pair {
        Pair {
            server: Session::server(Arc::new(server), [3; SEED_LEN]),
            client: Session::client(Arc::new(client), [4; SEED_LEN]),
            to_server: BytesMut::new(),
            to_client: BytesMut::new(),
        }
    }

    /// Moves bytes, at most `step` at a time, until nothing moves. Returns the server's and the client's events.
    fn run_by(&mut self, step: usize) -> Result<(Vec<Event>, Vec<Event>), CloseReason> {
        let (mut at_server, mut at_client) = (Vec::new(), Vec::new());
        loop {
            let moved = transmit(&mut self.client, &mut self.to_server, step)
                + transmit(&mut self.server, &mut self.to_client, step);
            drain(&mut self.server, &mut self.to_server, &mut at_server)?;
            drain(&mut self.client, &mut self.to_client, &mut at_client)?;
            if moved == 0 {
                return Ok((at_server, at_client));
            }
        }
    }

    fn run(&mut self) -> Result<(Vec<Event>, Vec<Event>), CloseReason> {
        self.run_by(usize::MAX)
    }

    fn ready(socket: SocketType, peer: SocketType, mechanism: ConnectMechanism) -> Pair {
        let mut pair = Pair::new(socket, peer, mechanism);
        pair.run().unwrap();
        assert!(pair.server.is_ready() && pair.client.is_ready());
        pair
    }
}

fn transmit(from: &mut Session, to: &mut BytesMut, step: usize) -> usize {
    let mut slices = [IoSlice::new(&[]); 8];
    let filled = from.fill_slices(&mut slices);
    let bytes: Vec<u8> = slices[..filled].iter().flat_map(|slice| slice.iter().copied()).take(step).collect();
    from.advance_out(bytes.len());
    to.extend_from_slice(&bytes);
    bytes.len()
}

fn sent(from: &mut Session) -> BytesMut {
    let mut bytes = BytesMut::new();
    while transmit(from, &mut bytes, usize::MAX) > 0 {}
    bytes
}

fn drain(session: &mut Session, input: &mut BytesMut, events: &mut Vec<Event>) -> Result<(), CloseReason> {
    while let Some(event) = session.handle(input)? {
        events.push(event);
    }
    Ok(())
}

fn peer(events: &[Event]) -> &PeerReady {
    match events {
        [Event::Ready(peer)] => peer,
        other => panic!("no READY alone: {other:?}"),
    }
}

fn message(frames: &[&'static [u8]]) -> Multipart {
    frames.iter().map(|frame| Bytes::from_static(frame)).collect::<Vec<_>>().into()
}

#[test]
fn both_mechanisms_shake_hands_whatever_the_packets() {
    for step in [1, 7, 64, 1000, usize::MAX] {
        for (mechanism, proven) in
            [(ConnectMechanism::Null, Mechanism::Null), (curve(), Mechanism::Curve { key: keys(2).public() })]
        {
            let mut pair = Pair::new(Router, Dealer, mechanism);
            let (at_server, at_client) = pair.run_by(step).unwrap();
            let seen = peer(&at_server);
            assert_eq!(seen.mechanism, proven);
            assert_eq!((seen.metadata.socket_type, &seen.metadata.identity[..]), (Dealer, &b"web1"[..]));
            assert_eq!(seen.metadata.properties, [("X-minion".to_owned(), Bytes::from_static(b"web1"))]);
            assert_eq!(peer(&at_client).metadata.socket_type, Router);
        }
    }
}

#[test]
fn listener_greets_in_two_steps_and_connector_in_one() {
    let mut pair = Pair::new(Router, Dealer, curve());
    assert_eq!(sent(&mut pair.server).len(), HEAD_LEN);
    let mut greeting = sent(&mut pair.client);
    assert_eq!(greeting.len(), GREETING_LEN);
    let mut early = greeting.split_to(63);
    assert_eq!(pair.server.handle(&mut early), Ok(None));
    assert_eq!(pair.server.out_len(), 0);
    early.extend_from_slice(&greeting);
    assert_eq!(pair.server.handle(&mut early), Ok(None));
    let rest = sent(&mut pair.server);
    assert_eq!((rest.len(), rest[0], &rest[1..6], rest[21]), (53, 0, &b"CURVE"[..], 1));
}

#[test]
fn messages_go_both_ways_in_order() {
    for mechanism in [ConnectMechanism::Null, curve()] {
        let mut pair = Pair::ready(Router, Dealer, mechanism);
        let big: &'static [u8] = vec![9; 40_000].leak();
        for frames in [&[&b"one"[..]][..], &[b"", b"two"], &[b"three", b"", b"3"], &[big]] {
            pair.client.send(&message(frames)).unwrap();
            pair.server.send(&message(frames)).unwrap();
        }
        pair.server.ping().unwrap();
        let (mut at_server, at_client) = pair.run_by(100).unwrap();
        assert_eq!(at_server.pop(), Some(Event::Pong));
        assert_eq!(at_server, at_client);
        assert_eq!(at_server.len(), 4);
        let Event::Message(frames) = &at_server[2] else { panic!("not a message") };
        assert_eq!(frames, &[&b"three"[..], b"", b"3"]);
        assert_eq!(at_server[3], Event::Message(vec![Bytes::from_static(big)]));
    }
}

#[test]
fn subscriptions_come_in_both_forms() {
    for mechanism in [ConnectMechanism::Null, curve()] {
        let mut pair = Pair::ready(Pub, Sub, mechanism);
        pair.client.send(&message(&[b"\x01m/web1"])).unwrap();
        pair.client.send(&message(&[b"\x00m/web1"])).unwrap();
        pair.client.send_command(b"\x09SUBSCRIBEm/web2").unwrap();
        pair.client.send_command(b"\x06CANCELm/web2").unwrap();
        pair.client.send(&message(&[b"neither"])).unwrap();
        pair.client.send(&message(&[b"\x01two", b"frames"])).unwrap();
        let topic = Bytes::from_static;
        let expected = [
            Event::Subscribe(topic(b"m/web1")),
            Event::Unsubscribe(topic(b"m/web1")),
            Event::Subscribe(topic(b"m/web2")),
            Event::Unsubscribe(topic(b"m/web2")),
        ];
        assert_eq!(pair.run().unwrap().0, expected);
    }
}

#[test]
fn ping_is_answered_with_its_context_and_never_without_bound() {
    for mechanism in [ConnectMechanism::Null, curve()] {
        let mut pair = Pair::ready(Router, Dealer, mechanism);
        for _ in 0..1000 {
            pair.client.send_command(b"\x04PING\x00\x0acontext").unwrap();
        }
        pair.to_server = sent(&mut pair.client);
        assert_eq!(pair.server.handle(&mut pair.to_server), Ok(None));
        assert_eq!(pair.server.out_chunks(), usize::from(MAX_WAITING_PONGS));
        pair.run().unwrap();
        pair.client.send_command(b"\x04PING\x00\x0acontext").unwrap();
        pair.to_server = sent(&mut pair.client);
        pair.server.handle(&mut pair.to_server).unwrap();
        assert!(pair.server.out_len() > 0, "a peer that reads gets its answers again");
    }
    let mut pair = Pair::ready(Router, Dealer, ConnectMechanism::Null);
    let mut ping = BytesMut::from(&command::encode(b"\x04PING\x00\x0acontext")[..]);
    pair.server.handle(&mut ping).unwrap();
    assert_eq!(&sent(&mut pair.server)[..], b"\x04\x0c\x04PONGcontext");
}

#[test]
fn unknown_commands_are_ignored() {
    for mechanism in [ConnectMechanism::Null, curve()] {
        let mut pair = Pair::ready(Router, Dealer, mechanism);
        pair.client.send_command(b"\x04WHATis this").unwrap();
        pair.client.send(&message(&[b"after"])).unwrap();
        assert_eq!(pair.run().unwrap().0, [Event::Message(vec![Bytes::from_static(b"after")])]);
    }
}

#[test]
fn anything_unsealed_closes_a_sealed_session() {
    for bytes in [&command::encode(b"\x04PING\x00\x00")[..], b"\x00\x03abc", b"\x01\x08\x07MESSAGE"] {
        let mut pair = Pair::ready(Router, Dealer, curve());
        assert_eq!(pair.server.handle(&mut BytesMut::from(bytes)), Err(CloseReason::Unsealed));
        assert_eq!(pair.server.handle(&mut BytesMut::new()), Err(CloseReason::Closed));
        assert_eq!(pair.server.send(&message(&[b"late"])), Err(NotReady));
    }
}

#[test]
fn replayed_reordered_and_changed_messages_close() {
    let refused = |bytes: &[&[u8]]| {
        let mut pair = Pair::ready(Router, Dealer, curve());
        let mut events = Vec::new();
        drain(&mut pair.server, &mut BytesMut::from(&bytes.concat()[..]), &mut events).unwrap_err()
    };
    let mut pair = Pair::ready(Router, Dealer, curve());
    pair.client.send(&message(&[b"first"])).unwrap();
    let first = sent(&mut pair.client);
    pair.client.send(&message(&[b"second"])).unwrap();
    let second = sent(&mut pair.client);
    assert_eq!(refused(&[&first, &first]), CloseReason::Curve(CurveError::Replay));
    assert_eq!(refused(&[&first, &second, &first]), CloseReason::Curve(CurveError::Replay));
    assert_eq!(refused(&[&second, &first]), CloseReason::Curve(CurveError::Missing));
    for at in 10..first.len() {
        let mut changed = first.clone();
        changed[at] ^= 1;
        let reason = refused(&[&changed]);
        assert!(
            matches!(reason, CloseReason::Curve(CurveError::Missing | CurveError::Open | CurveError::Replay)),
            "{at} {reason:?}"
        );
    }
    pair.server.send(&message(&[b"mirror"])).unwrap();
    let mirrored = sent(&mut pair.server);
    let reason = pair.server.handle(&mut BytesMut::from(&mirrored[..]));
    assert!(reason.is_err(), "our own messages are not the peer's");
}

#[test]
fn every_truncation_only_asks_for_more() {
    for mechanism in [ConnectMechanism::Null, curve()] {
        let mut pair = Pair::ready(Router, Dealer, mechanism);
        pair.client.send(&message(&[b"one", b"", b"two"])).unwrap();
        let whole = sent(&mut pair.client);
        for len in 0..whole.len() {
            let mut server = Pair::ready(Router, Dealer, pair_mechanism(&pair)).server;
            assert_eq!(server.handle(&mut BytesMut::from(&whole[..len])), Ok(None), "{len}");
        }
        assert!(matches!(pair.server.handle(&mut BytesMut::from(&whole[..])), Ok(Some(Event::Message(_)))));
    }
}

fn pair_mechanism(pair: &Pair) -> ConnectMechanism {
    match &pair.client.half {
        Half::Client(config) => config.mechanism.clone(),
        Half::Server(_) => panic!("a pair has a client"),
    }
}

#[test]
fn a_handshake_in_pieces_never_fails_early() {
    for mechanism in [ConnectMechanism::Null, curve()] {
        let mut pair = Pair::new(Router, Dealer, mechanism);
        for _ in 0..4 {
            let bytes = sent(&mut pair.client);
            for byte in bytes {
                let event = pair.server.handle({
                    pair.to_server.extend_from_slice(&[byte]);
                    &mut pair.to_server
                });
                assert!(event.is_ok());
            }
            pair.to_client.unsplit(sent(&mut pair.server));
            pair.client.handle(&mut pair.to_client).unwrap();
        }
        assert!(pair.server.is_ready() && pair.client.is_ready());
    }
}

#[test]
fn limits_hold_before_and_after_the_handshake() {
    let mut tebibyte = BytesMut::from(&[&[2u8][..], &(1u64 << 40).to_be_bytes()].concat()[..]);
    for mechanism in [ConnectMechanism::Null, curve()] {
        let mut pair = Pair::ready(Router, Dealer, mechanism);
        let reason = pair.server.handle(&mut tebibyte.clone()).unwrap_err();
        assert!(matches!(reason, CloseReason::Frame(FrameError::TooLong { .. })), "{reason:?}");
    }
    let mut pair = Pair::new(Router, Dealer, curve());
    pair.to_server = sent(&mut pair.client);
    pair.to_server.unsplit(tebibyte.split());
    let reason = pair.server.handle(&mut pair.to_server).unwrap_err();
    assert!(matches!(reason, CloseReason::Frame(FrameError::TooLong { limit: 65_536, .. })), "{reason:?}");

    let mut pair = Pair::ready(Router, Dealer, ConnectMechanism::Null);
    pair.client.send(&Bytes::from(vec![0; 70_000]).into()).unwrap();
    assert!(pair.run().is_err(), "a NULL peer's message is bounded by 64 KiB");
    let mut pair = Pair::ready(Router, Dealer, curve());
    pair.client.send(&Bytes::from(vec![0; 70_000]).into()).unwrap();
    assert!(pair.run().is_ok(), "a CURVE peer's is not");
}

#[test]
fn endless_empty_frames_are_bounded() {
    let mut pair = Pair::ready(Router, Dealer, ConnectMechanism::Null);
    let reason = pair.server.handle(&mut BytesMut::from(&[1, 0].repeat(1000)[..]));
    assert_eq!(reason, Err(CloseReason::TooManyFrames(64)));
    let mut pair = Pair::ready(Router, Dealer, curve());
    pair.client.send(&vec![Bytes::new(); 64].into()).unwrap();
    assert!(pair.run().is_ok());
    pair.client.send(&vec![Bytes::new(); 65].into()).unwrap();
    assert_eq!(pair.run(), Err(CloseReason::TooManyFrames(64)), "sealed frames are counted too");

    let limits = Limits { max_frames: usize::MAX, ..Limits::default() };
    let mut pair = Pair::with(ServerConfig { limits, ..server_config(Router) }, client_config(Dealer, curve()));
    pair.run().unwrap();
    let mut pair_null =
        Pair::with(ServerConfig { limits, ..server_config(Router) }, client_config(Dealer, ConnectMechanism::Null));
    pair_null.run().unwrap();
    let reason = pair_null.server.handle(&mut BytesMut::from(&[1, 0].repeat(3000)[..]));
    assert_eq!(reason, Err(CloseReason::MessageTooLarge(65_536)));
}

#[test]
fn wrong_peers_are_refused_and_told_nothing() {
    let check = |server: ServerConfig, client: ClientConfig, expected: CloseReason| {
        let mut pair = Pair::with(server, client);
        assert_eq!(pair.run(), Err(expected));
        assert!(!pair.client.is_ready());
        let left = sent(&mut pair.server);
        assert!(!left.windows(5).any(|window| window == b"ERROR"));
    };
    let ours_only = || ServerConfig { null: NullPolicy::Refuse, ..server_config(Router) };
    let null = || client_config(Dealer, ConnectMechanism::Null);
    check(ours_only(), null(), CloseReason::MechanismRefused);
    let no_curve = ServerConfig { curve: None, ..server_config(Router) };
    check(no_curve, client_config(Dealer, curve()), CloseReason::MechanismRefused);
    let wrong_key = ConnectMechanism::Curve { server_key: keys(9).public(), keys: keys(2) };
    check(server_config(Router), client_config(Dealer, wrong_key), CloseReason::Curve(CurveError::Open));
    let wrong_type = CloseReason::SocketType { ours: Pub, theirs: Dealer };
    check(server_config(Pub), client_config(Dealer, curve()), wrong_type);
    let seen_by_client = CloseReason::SocketType { ours: Dealer, theirs: Pub };
    check(server_config(Pub), null(), seen_by_client);
}

#[test]
fn a_servers_error_closes_the_client() {
    let mut pair = Pair::new(Router, Dealer, curve());
    let greeting = greeting::encode(MechanismName::Curve, AsServer::Yes);
    let error = command::encode(b"\x05ERROR\x03400");
    let mut input = BytesMut::from(&[&greeting[..], &error].concat()[..]);
    assert_eq!(pair.client.handle(&mut input), Err(CloseReason::PeerError("400".to_owned())));
    let mut pair = Pair::new(Router, Dealer, curve());
    let null = greeting::encode(MechanismName::Null, AsServer::No);
    assert_eq!(pair.client.handle(&mut BytesMut::from(&null[..])), Err(CloseReason::MechanismMismatch));
}

#[test]
fn an_error_after_ready_closes_too_and_is_not_answered() {
    for mechanism in [ConnectMechanism::Null, curve()] {
        let mut pair = Pair::ready(Router, Dealer, mechanism);
        pair.client.send_command(b"\x05ERROR\x03400").unwrap();
        assert_eq!(pair.run(), Err(CloseReason::PeerError("400".to_owned())));
        assert_eq!(pair.server.out_len(), 0);
    }
}

#[test]
fn a_server_cannot_talk_a_curve_client_into_less() {
    let greeted = |bytes: &[u8]| {
        let mut pair = Pair::new(Router, Dealer, curve());
        let greeting = greeting::encode(MechanismName::Curve, AsServer::Yes);
        pair.client.handle(&mut BytesMut::from(&[&greeting[..], bytes].concat()[..])).unwrap_err()
    };
    let null_ready = null::ready(&Half::Server(Arc::new(server_config(Router))).metadata());
    assert_eq!(greeted(&null_ready), CloseReason::Curve(CurveError::Malformed));
    assert_eq!(greeted(b"\x00\x05hello"), CloseReason::Unexpected);
    for unsealed in [&b"\x00\x05hello"[..], &command::encode(command::ping_body()), &null_ready] {
        let mut pair = Pair::ready(Router, Dealer, curve());
        assert_eq!(pair.client.handle(&mut BytesMut::from(unsealed)), Err(CloseReason::Unsealed));
    }
}

/// What one connection said, said again on another one or twice on the same one, opens nothing.
#[test]
fn a_recorded_handshake_is_worth_nothing() {
    let mut pair = Pair::new(Router, Dealer, curve());
    let mut flights = Vec::new();
    while !pair.client.is_ready() {
        flights.push(sent(&mut pair.client));
        pair.server.handle(&mut flights.last().unwrap().clone()).unwrap();
        pair.client.handle(&mut sent(&mut pair.server)).unwrap();
    }
    let [greeting, hello, initiate] = &flights[..] else { panic!("{} flights", flights.len()) };
    let replay = |flights: &[&BytesMut]| {
        let mut server = Session::server(Arc::new(server_config(Router)), [5; SEED_LEN]);
        let reason = flights.iter().find_map(|bytes| server.handle(&mut BytesMut::from(&bytes[..])).err());
        assert!(!server.is_ready());
        reason
    };
    assert_eq!(replay(&[greeting, hello]), None, "a HELLO proves nothing, and costs one WELCOME");
    assert_eq!(replay(&[greeting, hello, initiate]), Some(CloseReason::Curve(CurveError::Open)), "an old cookie");
    assert_eq!(replay(&[greeting, hello, hello]), Some(CloseReason::Curve(CurveError::Malformed)));
    assert_eq!(replay(&[greeting, initiate]), Some(CloseReason::Curve(CurveError::Malformed)));
    let again = pair.server.handle(&mut initiate.clone());
    assert_eq!(again, Err(CloseReason::Unsealed), "INITIATE after READY");
}

#[test]
fn nothing_but_the_handshake_is_sent_before_ready() {
    let mut pair = Pair::new(Router, Dealer, ConnectMechanism::Null);
    assert_eq!(pair.client.send(&message(&[b"early"])), Err(NotReady));
    assert_eq!(pair.client.ping(), Err(NotReady));
    let mut early = BytesMut::from(&greeting::encode(MechanismName::Null, AsServer::No)[..]);
    early.extend_from_slice(b"\x00\x05hello");
    assert_eq!(pair.server.handle(&mut early), Err(CloseReason::Unexpected));
}

#[test]
fn small_messages_do_not_keep_the_read_buffer() {
    let mut pair = Pair::ready(Router, Dealer, ConnectMechanism::Null);
    let mut input = BytesMut::with_capacity(64 * 1024);
    input.extend_from_slice(b"\x00\x05hello");
    let within = input.as_ptr_range();
    let Ok(Some(Event::Message(frames))) = pair.server.handle(&mut input) else { panic!("no message") };
    assert!(!within.contains(&frames[0].as_ptr()));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300), stage in 0usize..4) {
        let mut pair = match stage {
            0 => Pair::new(Router, Dealer, ConnectMechanism::Null),
            1 => Pair::ready(Router, Dealer, ConnectMechanism::Null),
            2 => Pair::ready(Pub, Sub, curve()),
            _ => {
                let mut pair = Pair::new(Router, Dealer, curve());
                pair.to_server = sent(&mut pair.client);
                pair.server.handle(&mut pair.to_server).unwrap();
                pair
            }
        };
        let mut input = BytesMut::from(&bytes[..]);
        while let Ok(Some(_)) = pair.server.handle(&mut input) {}
        let mut input = BytesMut::from(&bytes[..]);
        while let Ok(Some(_)) = pair.client.handle(&mut input) {}
    }

    #[test]
    fn any_message_arrives_as_sent(
        frames in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..700), 1..6),
        sealed in any::<bool>(),
        step in 1usize..500,
    ) {
        let mut pair = Pair::ready(Router, Dealer, if sealed { curve() } else { ConnectMechanism::Null });
        let frames: Vec<Bytes> = frames.into_iter().map(Bytes::from).collect();
        pair.client.send(&frames.clone().into()).unwrap();
        prop_assert_eq!(pair.run_by(step).unwrap().0, vec![Event::Message(frames)]);
    }
}
