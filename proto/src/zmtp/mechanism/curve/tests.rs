//! What `zmtp/mechanism/curve` promises, tested.

use super::*;
use crate::zmtp::SocketType;

/// Points of small order, RFC 7748 section 6.1 and libsodium's list, as they may appear on the wire.
const LOW_ORDER: [&str; 7] = [
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
    "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
];

fn keys(byte: u8) -> Arc<CurveKeyPair> {
    Arc::new(CurveKeyPair::from_secret([byte; 32]))
}

fn key(hex: &str) -> [u8; 32] {
    let mut key = [0; 32];
    for (byte, at) in key.iter_mut().zip((0..64).step_by(2)) {
        *byte = u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    }
    key
}

fn metadata() -> Metadata {
    Metadata { socket_type: SocketType::Dealer, identity: Bytes::new(), properties: Vec::new() }
}

fn fresh() -> ServerHandshake {
    ServerHandshake::new(keys(1), Zeroizing::new(std::array::from_fn(|at| at as u8)))
}

fn client() -> (ClientHandshake, Bytes) {
    ClientHandshake::new(keys(1).public(), keys(2), &[7; SEED_LEN]).unwrap()
}

/// The body of a command frame.
fn body(frame: &Bytes) -> &[u8] {
    let header = frame::decode_header(frame, usize::MAX).unwrap().unwrap();
    &frame[header.body_at..]
}

/// A server that has sent WELCOME, the client's INITIATE, and the client.
fn initiated() -> (ServerHandshake, Bytes, ClientHandshake) {
    let (mut client, hello) = client();
    let mut server = fresh();
    let (welcome, _) = server.handle(body(&hello), &metadata()).unwrap();
    let (initiate, _) = client.handle(body(&welcome), &metadata()).unwrap();
    (server, initiate.unwrap(), client)
}

fn channels() -> (Channel, Channel) {
    let (mut server, initiate, mut client) = initiated();
    let (ready, done) = server.handle(body(&initiate), &metadata()).unwrap();
    let (_, client) = client.handle(body(&ready), &metadata()).unwrap();
    (done.unwrap().channel, client.unwrap().channel)
}

#[test]
fn commands_have_the_lengths_of_rfc_26() {
    let (mut client, hello) = client();
    assert_eq!(body(&hello).len(), 200);
    let (welcome, _) = fresh().handle(body(&hello), &metadata()).unwrap();
    assert_eq!(body(&welcome).len(), 168);
    let (initiate, _) = client.handle(body(&welcome), &metadata()).unwrap();
    let mut encoded = BytesMut::new();
    metadata().encode(&mut encoded);
    assert_eq!(body(&initiate.unwrap()).len(), 257 + encoded.len());
}

#[test]
fn the_public_key_is_the_one_libzmq_computes() {
    let secret = key("77076d0a7318a57d3c16c17251b26645df4c2f92ebc0992ab177fba51db92c2a");
    let public = key("b53a72553987b7d28aaf29f00ee964391d7f5cb8743302bb93678bec31c88e49");
    assert_eq!(CurveKeyPair::from_secret(secret).public(), public);
}

#[test]
fn low_order_keys_are_refused_everywhere() {
    for hex in LOW_ORDER {
        let point = key(hex);
        assert_eq!(agree(point, &keys(1).secret).err(), Some(CurveError::LowOrder), "{hex}");
        assert_eq!(ClientHandshake::new(point, keys(2), &[7; SEED_LEN]).err(), Some(CurveError::LowOrder));
        let (_, hello) = client();
        let mut hello = body(&hello).to_vec();
        hello[80..112].copy_from_slice(&point);
        assert_eq!(fresh().handle(&hello, &metadata()).err(), Some(CurveError::LowOrder));
    }
    assert!(agree(keys(2).public(), &keys(1).secret).is_ok());
}

#[test]
fn every_changed_or_missing_byte_of_hello_and_initiate_is_refused() {
    let (_, hello) = client();
    let (server, initiate, _) = initiated();
    let ServerHandshake::Welcomed { cookie_key, hello_nonce, .. } = server else { panic!("not welcomed") };
    let welcomed = || ServerHandshake::Welcomed { keys: keys(1), cookie_key: cookie_key.clone(), hello_nonce };
    // Version minor and padding of HELLO are not checked.
    let unchecked = 7..80;
    for at in (0..body(&hello).len()).filter(|at| !unchecked.contains(at)) {
        let mut changed = body(&hello).to_vec();
        changed[at] ^= 1;
        assert!(fresh().handle(&changed, &metadata()).is_err(), "HELLO {at}");
        assert!(fresh().handle(&changed[..at], &metadata()).is_err(), "HELLO cut at {at}");
    }
    for at in 0..body(&initiate).len() {
        let mut changed = body(&initiate).to_vec();
        changed[at] ^= 1;
        assert!(welcomed().handle(&changed, &metadata()).is_err(), "INITIATE {at}");
        assert!(welcomed().handle(&changed[..at], &metadata()).is_err(), "INITIATE cut at {at}");
    }
    let (_, done) = welcomed().handle(body(&initiate), &metadata()).unwrap();
    assert_eq!(done.unwrap().key, keys(2).public());
}

#[test]
fn an_initiate_of_another_connection_is_refused() {
    let (_, initiate, _) = initiated();
    let mut other =
        ServerHandshake::Welcomed { keys: keys(1), cookie_key: Zeroizing::new([9; KEY_LEN]), hello_nonce: 1 };
    assert_eq!(other.handle(body(&initiate), &metadata()).err(), Some(CurveError::Open));
    let mut late = initiated().0;
    if let ServerHandshake::Welcomed { hello_nonce, .. } = &mut late {
        *hello_nonce = 2;
    }
    assert_eq!(late.handle(body(&initiate), &metadata()).err(), Some(CurveError::Replay));
}

#[test]
fn a_vouch_for_another_server_is_refused() {
    let own = SecretKey::from([5; 32]);
    let nonce = [6; 16];
    let vouched = [keys(3).public(), keys(1).public()];
    let shared = agree(own.public_key().to_bytes(), &keys(2).secret).unwrap();
    let sealed = seal(&shared, &long_nonce(b"VOUCH---", &nonce), &vouched.concat()).unwrap();
    let vouch: [u8; VOUCH_LEN] = [&nonce[..], &sealed].concat().try_into().unwrap();
    assert_eq!(check_vouch(&vouch, keys(2).public(), &own, vouched), Ok(()));
    let other = [keys(3).public(), keys(4).public()];
    assert_eq!(check_vouch(&vouch, keys(2).public(), &own, other), Err(CurveError::Vouch));
    assert_eq!(check_vouch(&vouch, keys(9).public(), &own, vouched), Err(CurveError::Open));
}

#[test]
fn channel_opens_what_the_other_end_sealed_and_nothing_twice() {
    let (mut server, mut client) = channels();
    let sealed = client.seal_command(b"\x04PING\x00\x00").unwrap();
    assert_eq!(body(&sealed)[..8], *MESSAGE);
    assert_eq!(sealed[0], 0, "outer flags");
    assert_eq!(body(&sealed)[8..16], 3u64.to_be_bytes(), "nonces 1 and 2 were HELLO and INITIATE");
    assert_eq!(server.open(body(&sealed)), Ok((SEALED_COMMAND, Bytes::from_static(b"\x04PING\x00\x00"))));
    assert_eq!(server.open(body(&sealed)), Err(CurveError::Replay));
    assert_eq!(client.open(body(&server.seal_command(b"x").unwrap())), Ok((SEALED_COMMAND, Bytes::from_static(b"x"))));
}

#[test]
fn a_frame_that_was_taken_out_of_the_stream_is_missed() {
    let (mut server, mut client) = channels();
    let frames = [(); 3].map(|()| client.seal_command(b"x").unwrap());
    assert!(server.open(body(&frames[0])).is_ok());
    assert_eq!(server.open(body(&frames[2])), Err(CurveError::Missing));
}

#[test]
fn a_seal_around_nothing_is_malformed() {
    let (mut server, client) = channels();
    let nonce = short_nonce(Role::Client.sends(), 3);
    let tag = client.shared.encrypt_in_place_detached(&nonce, b"", &mut []).unwrap();
    let empty = [MESSAGE, &3u64.to_be_bytes(), &tag].concat();
    assert_eq!(server.open(&empty), Err(CurveError::Malformed));
}

#[test]
fn key_pairs_print_nothing() {
    assert_eq!(format!("{:?}", keys(1)), "CurveKeyPair(..)");
}
