//! Mechanism CURVE (RFC 26), both halves side by side.
//!
//! ```text
//! client                                            server
//! HELLO     C', box(zeros; C'->S)               ->           proves that the client knows S
//!           box(S', cookie(C', s'); S->C')      <-  WELCOME  the server now remembers only its cookie key
//! INITIATE  cookie, box(C, vouch, meta; C'->S') ->           the vouch, box(C', S; C->S'), proves C
//!           box(meta; S'->C')                   <-  READY
//! MESSAGE   box(flags, bytes; C'->S')          <->  MESSAGE  nonces count up by one in each direction
//! ```
//!
//! Capital letters are public keys, small ones secret; the prime marks a connection's short-term pair. Primitives are
//! NaCl's: `crypto_box` (X25519, XSalsa20-Poly1305) and `crypto_secretbox` for the cookie.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use crypto_box::aead::{Aead, AeadInPlace, KeyInit};
use crypto_box::{Nonce, PublicKey, SalsaBox, SecretKey, Tag};
use crypto_secretbox::XSalsa20Poly1305 as SecretBox;
// Only for its tables: `crypto_box` makes every short-term key with them.
use curve25519_dalek as _;
use subtle::ConstantTimeEq;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::zmtp::frame;
use crate::zmtp::message::{Multipart, more_flag};
use crate::zmtp::metadata::{Metadata, MetadataError};
use crate::zmtp::{command, session::SEED_LEN};

/// What sealing adds to a frame's payload: name, nonce, authenticator and flags.
pub const SEAL_OVERHEAD: usize = MESSAGE.len() + 8 + TAG_LEN + 1;
/// Flag inside the seal: more frames of this message follow.
pub const SEALED_MORE: u8 = 1;
/// Flag inside the seal: the payload is a command.
pub const SEALED_COMMAND: u8 = 2;

const KEY_LEN: usize = 32;
const TAG_LEN: usize = 16;
const HELLO: &[u8] = b"\x05HELLO";
const WELCOME: &[u8] = b"\x07WELCOME";
const INITIATE: &[u8] = b"\x08INITIATE";
const READY: &[u8] = b"\x05READY";
const MESSAGE: &[u8] = b"\x07MESSAGE";
/// HELLO is padded so that it is never shorter than the WELCOME it asks for (RFC 26, "anti-amplification").
const HELLO_PADDING: usize = 72;
const HELLO_SIGNATURE: usize = 64 + TAG_LEN;
const COOKIE_LEN: usize = 16 + 2 * KEY_LEN + TAG_LEN;
const VOUCH_LEN: usize = 16 + 2 * KEY_LEN + TAG_LEN;
/// The authenticator of nothing, with a zero nonce, under the key that an all-zero shared secret gives.
const LOW_ORDER_TAG: [u8; TAG_LEN] =
    [0x0d, 0x49, 0x57, 0x43, 0x53, 0xf7, 0xb5, 0x86, 0x4d, 0xac, 0x1e, 0x5f, 0x8c, 0xf5, 0x64, 0x27];

/// Why a CURVE peer was refused. The peer is told nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum CurveError {
    /// A public key of low order: the shared secret would be known to all.
    #[error("a public key is of low order")]
    LowOrder,
    /// A command has the wrong length, name or version.
    #[error("a handshake command is malformed")]
    Malformed,
    /// A nonce was left out: somebody on the way took a sealed frame out of the stream, or added one.
    #[error("a sealed frame is missing")]
    Missing,
    /// The metadata inside the seal is wrong.
    #[error("reading the sealed properties")]
    Metadata(#[from] MetadataError),
    /// A box does not open: wrong key, or changed on the way.
    #[error("a box does not open; one side has the wrong key, or the bytes were changed on the way")]
    Open,
    /// A nonce did not increase.
    #[error("a nonce was used before")]
    Replay,
    /// The vouch names another connection or another server.
    #[error("the vouch does not belong to this connection")]
    Vouch,
}

/// A Curve25519 pair. The secret half is wiped when dropped, and is never printed.
pub struct CurveKeyPair {
    public: [u8; KEY_LEN],
    secret: SecretKey,
}

impl CurveKeyPair {
    /// Returns the pair of a secret key: 32 random bytes.
    pub fn from_secret(secret: [u8; 32]) -> CurveKeyPair {
        let secret = SecretKey::from(*Zeroizing::new(secret));
        CurveKeyPair { public: secret.public_key().to_bytes(), secret }
    }

    /// Returns the public half.
    pub fn public(&self) -> [u8; 32] {
        self.public
    }
}

impl std::fmt::Debug for CurveKeyPair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CurveKeyPair(..)")
    }
}

/// Computes the box shared with `public`, unless everybody could.
fn agree(public: [u8; KEY_LEN], secret: &SecretKey) -> Result<SalsaBox, CurveError> {
    let shared = SalsaBox::new(&PublicKey::from(public), secret);
    let probe = shared.encrypt_in_place_detached(&Nonce::default(), b"", &mut []).map_err(|_| CurveError::Open)?;
    if bool::from(probe.as_slice().ct_eq(&LOW_ORDER_TAG)) { Err(CurveError::LowOrder) } else { Ok(shared) }
}

/// Returns a nonce of a 16-byte prefix and a counter.
fn short_nonce(prefix: &[u8; 16], counter: u64) -> Nonce {
    let mut nonce = Nonce::default();
    nonce[..16].copy_from_slice(prefix);
    nonce[16..].copy_from_slice(&counter.to_be_bytes());
    nonce
}

/// Returns a nonce of an 8-byte prefix and 16 random bytes.
fn long_nonce(prefix: &[u8; 8], random: &[u8; 16]) -> Nonce {
    let mut nonce = Nonce::default();
    nonce[..8].copy_from_slice(prefix);
    nonce[8..].copy_from_slice(random);
    nonce
}

/// Reads fixed fields from the front of a command.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn of(body: &'a [u8], name: &[u8]) -> Result<Fields<'a>, CurveError> {
        body.strip_prefix(name).map(Fields).ok_or(CurveError::Malformed)
    }

    fn take<const N: usize>(&mut self) -> Result<&'a [u8; N], CurveError> {
        let (head, rest) = self.0.split_first_chunk().ok_or(CurveError::Malformed)?;
        self.0 = rest;
        Ok(head)
    }

    fn counter(&mut self) -> Result<u64, CurveError> {
        self.take().copied().map(u64::from_be_bytes)
    }
}

fn seal(shared: &SalsaBox, nonce: &Nonce, plain: &[u8]) -> Result<Vec<u8>, CurveError> {
    shared.encrypt(nonce, plain).map_err(|_| CurveError::Open)
}

fn open(shared: &SalsaBox, nonce: &Nonce, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, CurveError> {
    shared.decrypt(nonce, sealed).map(Zeroizing::new).map_err(|_| CurveError::Open)
}

/// Returns 32 bytes of the seed as a key.
fn seed_key(seed: &[u8; SEED_LEN], at: usize) -> [u8; KEY_LEN] {
    let mut key = [0; KEY_LEN];
    key.copy_from_slice(&seed[at..at + KEY_LEN]);
    key
}

/// Returns 16 bytes of the seed as a nonce.
fn seed_nonce(seed: &[u8; SEED_LEN], at: usize) -> [u8; 16] {
    let mut nonce = [0; 16];
    nonce.copy_from_slice(&seed[at..at + 16]);
    nonce
}

/// A finished handshake: the peer's key and metadata, and the box for everything that follows.
pub(crate) struct Established {
    pub(crate) key: [u8; KEY_LEN],
    pub(crate) metadata: Metadata,
    pub(crate) channel: Channel,
}

/// The server's half, up to READY.
pub(crate) enum ServerHandshake {
    /// HELLO is awaited.
    Fresh { keys: Arc<CurveKeyPair>, seed: Zeroizing<[u8; SEED_LEN]> },
    /// INITIATE is awaited. What it must agree with travels in the cookie; only its key stays here.
    Welcomed { keys: Arc<CurveKeyPair>, cookie_key: Zeroizing<[u8; KEY_LEN]>, hello_nonce: u64 },
}

impl ServerHandshake {
    pub(crate) fn new(keys: Arc<CurveKeyPair>, seed: Zeroizing<[u8; SEED_LEN]>) -> ServerHandshake {
        ServerHandshake::Fresh { keys, seed }
    }

    /// Takes one command. Returns what to send, and the result once READY is part of that.
    pub(crate) fn handle(
        &mut self,
        body: &[u8],
        metadata: &Metadata,
    ) -> Result<(Bytes, Option<Established>), CurveError> {
        match self {
            ServerHandshake::Fresh { keys, seed } => {
                let (welcome, hello_nonce) = answer_hello(keys, seed, body)?;
                let cookie_key = Zeroizing::new(seed_key(seed, 32));
                *self = ServerHandshake::Welcomed { keys: Arc::clone(keys), cookie_key, hello_nonce };
                Ok((welcome, None))
            }
            ServerHandshake::Welcomed { keys, cookie_key, hello_nonce } => {
                let (ready, done) = answer_initiate(keys, cookie_key, *hello_nonce, body, metadata)?;
                Ok((ready, Some(done)))
            }
        }
    }
}

fn answer_hello(keys: &CurveKeyPair, seed: &[u8; SEED_LEN], body: &[u8]) -> Result<(Bytes, u64), CurveError> {
    let mut fields = Fields::of(body, HELLO)?;
    let version: &[u8; 2] = fields.take()?;
    let _padding: &[u8; HELLO_PADDING] = fields.take()?;
    let client: &[u8; KEY_LEN] = fields.take()?;
    let counter = fields.counter()?;
    if version[0] != 1 || fields.0.len() != HELLO_SIGNATURE {
        return Err(CurveError::Malformed);
    }
    let shared = agree(*client, &keys.secret)?;
    open(&shared, &short_nonce(b"CurveZMQHELLO---", counter), fields.0)?;

    let short_term = SecretKey::from(seed_key(seed, 0));
    let mut plain = Zeroizing::new(Vec::with_capacity(KEY_LEN + COOKIE_LEN));
    plain.extend_from_slice(short_term.public_key().as_bytes());
    plain.extend_from_slice(&bake_cookie(client, &short_term, seed)?);
    let welcome_nonce = seed_nonce(seed, 64);
    let sealed = seal(&shared, &long_nonce(b"WELCOME-", &welcome_nonce), &plain)?;
    Ok((command::encode(&[WELCOME, &welcome_nonce, &sealed].concat()), counter))
}

fn bake_cookie(client: &[u8; KEY_LEN], own: &SecretKey, seed: &[u8; SEED_LEN]) -> Result<Vec<u8>, CurveError> {
    let nonce = seed_nonce(seed, 80);
    let mut plain = Zeroizing::new(client.to_vec());
    plain.extend_from_slice(&*Zeroizing::new(own.to_bytes()));
    let key = Zeroizing::new(seed_key(seed, 32));
    let jar = SecretBox::new((&*key).into());
    let sealed = jar.encrypt(&long_nonce(b"COOKIE--", &nonce), &plain[..]).map_err(|_| CurveError::Open)?;
    Ok([&nonce[..], &sealed].concat())
}

/// Returns the client's short-term key and our short-term secret.
fn eat_cookie(cookie: &[u8; COOKIE_LEN], key: &[u8; KEY_LEN]) -> Result<([u8; KEY_LEN], SecretKey), CurveError> {
    let mut fields = Fields(cookie);
    let nonce = long_nonce(b"COOKIE--", fields.take()?);
    let plain = SecretBox::new(key.into()).decrypt(&nonce, fields.0).map_err(|_| CurveError::Open)?;
    let plain = Zeroizing::new(plain);
    let mut fields = Fields(&plain);
    let client = *fields.take()?;
    Ok((client, SecretKey::from(*fields.take::<KEY_LEN>()?)))
}

fn answer_initiate(
    keys: &CurveKeyPair,
    cookie_key: &[u8; KEY_LEN],
    hello_nonce: u64,
    body: &[u8],
    metadata: &Metadata,
) -> Result<(Bytes, Established), CurveError> {
    let mut fields = Fields::of(body, INITIATE)?;
    let (client_short, own_short) = eat_cookie(fields.take()?, cookie_key)?;
    let counter = fields.counter()?;
    if counter <= hello_nonce {
        return Err(CurveError::Replay);
    }
    let shared = agree(client_short, &own_short)?;
    let plain = open(&shared, &short_nonce(b"CurveZMQINITIATE", counter), fields.0)?;
    let mut fields = Fields(&plain);
    let client: &[u8; KEY_LEN] = fields.take()?;
    check_vouch(fields.take()?, *client, &own_short, [client_short, keys.public])?;
    let peer = Metadata::decode(fields.0)?;

    let mut plain = BytesMut::new();
    metadata.encode(&mut plain);
    let sealed = seal(&shared, &short_nonce(b"CurveZMQREADY---", 1), &plain)?;
    let ready = command::encode(&[READY, &1u64.to_be_bytes(), &sealed].concat());
    let channel = Channel { shared, role: Role::Server, sent: 1, seen: counter };
    Ok((ready, Established { key: *client, metadata: peer, channel }))
}

/// Checks that the holder of `client` vouches for this short-term key and this server.
fn check_vouch(
    vouch: &[u8; VOUCH_LEN],
    client: [u8; KEY_LEN],
    own_short: &SecretKey,
    expected: [[u8; KEY_LEN]; 2],
) -> Result<(), CurveError> {
    let mut fields = Fields(vouch);
    let nonce = long_nonce(b"VOUCH---", fields.take()?);
    let plain = open(&agree(client, own_short)?, &nonce, fields.0)?;
    if bool::from(plain.ct_eq(&expected.concat())) { Ok(()) } else { Err(CurveError::Vouch) }
}

/// The client's half, up to READY.
pub(crate) enum ClientHandshake {
    /// WELCOME is awaited.
    Greeted(Box<Greeted>),
    /// READY is awaited. The channel is there until it is handed out.
    Initiated { server_key: [u8; KEY_LEN], channel: Option<Channel> },
}

/// What a client that has sent HELLO keeps. Products on the curve are what a handshake costs: none is computed twice.
pub(crate) struct Greeted {
    server_key: [u8; KEY_LEN],
    keys: Arc<CurveKeyPair>,
    short: SecretKey,
    short_public: [u8; KEY_LEN],
    /// The box of HELLO, which opens WELCOME too.
    hello: SalsaBox,
    vouch_nonce: [u8; 16],
}

impl ClientHandshake {
    /// Returns the half and its HELLO.
    pub(crate) fn new(
        server_key: [u8; KEY_LEN],
        keys: Arc<CurveKeyPair>,
        seed: &[u8; SEED_LEN],
    ) -> Result<(ClientHandshake, Bytes), CurveError> {
        let short = SecretKey::from(seed_key(seed, 0));
        let hello = agree(server_key, &short)?;
        let signature = seal(&hello, &short_nonce(b"CurveZMQHELLO---", 1), &[0; 64])?;
        let short_public = *short.public_key().as_bytes();
        let said = [HELLO, &[1, 0], &[0; HELLO_PADDING], &short_public, &1u64.to_be_bytes(), &signature].concat();
        let greeted = Greeted { server_key, keys, short, short_public, hello, vouch_nonce: seed_nonce(seed, 32) };
        Ok((ClientHandshake::Greeted(Box::new(greeted)), command::encode(&said)))
    }

    /// Takes one command. Returns what to send, or the result after READY.
    pub(crate) fn handle(
        &mut self,
        body: &[u8],
        metadata: &Metadata,
    ) -> Result<(Option<Bytes>, Option<Established>), CurveError> {
        match self {
            ClientHandshake::Greeted(greeted) => {
                let (shared, initiate) = answer_welcome(greeted, body, metadata)?;
                // Nonces 1 and 2 went into HELLO and INITIATE.
                let channel = Some(Channel { shared, role: Role::Client, sent: 2, seen: 0 });
                *self = ClientHandshake::Initiated { server_key: greeted.server_key, channel };
                Ok((Some(initiate), None))
            }
            ClientHandshake::Initiated { server_key, channel } => {
                let mut channel = channel.take().ok_or(CurveError::Malformed)?;
                let mut fields = Fields::of(body, READY)?;
                channel.seen = fields.counter()?;
                let plain = open(&channel.shared, &short_nonce(b"CurveZMQREADY---", channel.seen), fields.0)?;
                let metadata = Metadata::decode(&plain)?;
                Ok((None, Some(Established { key: *server_key, metadata, channel })))
            }
        }
    }
}

fn answer_welcome(greeted: &Greeted, body: &[u8], metadata: &Metadata) -> Result<(SalsaBox, Bytes), CurveError> {
    let Greeted { server_key, keys, short, short_public, hello, vouch_nonce } = greeted;
    let mut fields = Fields::of(body, WELCOME)?;
    let nonce = long_nonce(b"WELCOME-", fields.take()?);
    let plain = open(hello, &nonce, fields.0)?;
    let mut fields = Fields(&plain);
    let server_short: &[u8; KEY_LEN] = fields.take()?;
    let cookie: &[u8; COOKIE_LEN] = fields.take()?;
    if !fields.0.is_empty() {
        return Err(CurveError::Malformed);
    }
    let vouched = [*short_public, *server_key].concat();
    let vouch = seal(&agree(*server_short, &keys.secret)?, &long_nonce(b"VOUCH---", vouch_nonce), &vouched)?;

    let shared = agree(*server_short, short)?;
    let mut plain = BytesMut::new();
    for part in [&keys.public[..], vouch_nonce, &vouch] {
        plain.put_slice(part);
    }
    metadata.encode(&mut plain);
    let sealed = seal(&shared, &short_nonce(b"CurveZMQINITIATE", 2), &plain)?;
    Ok((shared, command::encode(&[INITIATE, cookie, &2u64.to_be_bytes(), &sealed].concat())))
}

/// Which half we are; each direction has its own nonce prefix.
#[derive(Clone, Copy)]
enum Role {
    Client,
    Server,
}

impl Role {
    fn sends(self) -> &'static [u8; 16] {
        match self {
            Role::Client => b"CurveZMQMESSAGEC",
            Role::Server => b"CurveZMQMESSAGES",
        }
    }

    fn receives(self) -> &'static [u8; 16] {
        match self {
            Role::Client => Role::Server.sends(),
            Role::Server => Role::Client.sends(),
        }
    }
}

/// The sealed traffic of one connection after READY.
pub(crate) struct Channel {
    shared: SalsaBox,
    role: Role,
    sent: u64,
    seen: u64,
}

impl Channel {
    /// Seals all frames of a message into one buffer.
    pub(crate) fn seal_message(&mut self, message: &Multipart) -> Result<Bytes, CurveError> {
        let frames = message.frames();
        let size = frames.iter().map(|frame| frame.len() + SEAL_OVERHEAD + frame::HEADER_MAX).sum();
        let mut out = BytesMut::with_capacity(size);
        for (index, payload) in frames.iter().enumerate() {
            self.seal_frame(more_flag(index, frames.len()), payload, &mut out)?;
        }
        Ok(out.freeze())
    }

    /// Seals a command.
    pub(crate) fn seal_command(&mut self, body: &[u8]) -> Result<Bytes, CurveError> {
        let mut out = BytesMut::with_capacity(body.len() + SEAL_OVERHEAD + frame::HEADER_MAX);
        self.seal_frame(SEALED_COMMAND, body, &mut out)?;
        Ok(out.freeze())
    }

    fn seal_frame(&mut self, flags: u8, payload: &[u8], out: &mut BytesMut) -> Result<(), CurveError> {
        self.sent = self.sent.checked_add(1).ok_or(CurveError::Replay)?;
        frame::encode_header(0, payload.len() + SEAL_OVERHEAD, out);
        out.put_slice(MESSAGE);
        out.put_u64(self.sent);
        let tag_at = out.len();
        out.put_bytes(0, TAG_LEN);
        out.put_u8(flags);
        out.put_slice(payload);
        let (tag, text) = out[tag_at..].split_at_mut(TAG_LEN);
        let nonce = short_nonce(self.role.sends(), self.sent);
        let made = self.shared.encrypt_in_place_detached(&nonce, b"", text).map_err(|_| CurveError::Open)?;
        tag.copy_from_slice(&made);
        Ok(())
    }

    /// Opens the body of a MESSAGE. Returns the flags from inside the seal, and the payload. Every implementation seen
    /// counts its nonces up by one; a gap is a frame that somebody removed, and no gap shall be silent.
    pub(crate) fn open(&mut self, body: &[u8]) -> Result<(u8, Bytes), CurveError> {
        let mut fields = Fields::of(body, MESSAGE)?;
        let counter = fields.counter()?;
        if counter <= self.seen {
            return Err(CurveError::Replay);
        }
        if counter - self.seen > 1 {
            return Err(CurveError::Missing);
        }
        let tag: &[u8; TAG_LEN] = fields.take()?;
        let mut plain = fields.0.to_vec();
        let nonce = short_nonce(self.role.receives(), counter);
        let tag = Tag::from(*tag);
        self.shared.decrypt_in_place_detached(&nonce, b"", &mut plain, &tag).map_err(|_| CurveError::Open)?;
        self.seen = counter;
        let flags = *plain.first().ok_or(CurveError::Malformed)?;
        Ok((flags, Bytes::from(plain).slice(1..)))
    }
}

#[cfg(test)]
mod tests;
