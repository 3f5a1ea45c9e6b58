//! The wire of Salt's own masters and minions, protocol version 3 (salt-wire.md §1 to §7): both halves of every
//! conversation side by side. Pure: keys, nonces, initialisation vectors and the time come in as arguments; only the
//! padding of OAEP is OpenSSL's own randomness.
//!
//! Reading order: [`msgpack`] (two dialects of one encoding), [`rsa`] and [`crypticle`] (the primitives, named nowhere
//! else), [`envelope`] (what arrives on the request port, and the bare answers), [`auth`] (`_auth`, both halves),
//! [`request`] and [`command`] (what a minion asks under its session key), [`pillar`] (its one special reply), [`syndic`]
//! (what a syndic says for others),
//! [`publish`] (what the master publishes under the shared key), [`clear`] (commands of local clients), [`event`] and
//! [`ipc`] (the local event bus), [`upgrade`] (what these RSA keys say on the native wire).
//!
//! What has been authenticated is [`Verified`]; nothing outside of this room can make one.

pub mod auth;
pub mod clear;
pub mod command;
pub mod crypticle;
pub mod envelope;
pub mod event;
pub mod ipc;
pub mod msgpack;
pub mod pillar;
pub mod publish;
pub mod request;
pub mod rsa;
pub mod syndic;
pub mod upgrade;

use std::fmt;

use subtle::ConstantTimeEq;

use crate::value::{Map, MapExt, Value};

/// The version of Salt's protocol that is spoken here; older ones are refused (salt-wire.md §1.5).
pub const VERSION: u64 = 3;

/// The largest payload that is opened. Salt knows no limit but its unpacker's buffer of 100 MiB; this is the native
/// wire's limit for one load, and a longer payload is answered `bad load` before anything is done with it.
pub const MAX_PAYLOAD: usize = crate::message::MAX_LOAD;

/// How many values a payload may hold whose sender is not proven: they take 5 MiB at most. What is sealed counts as one;
/// what is left are commands in the clear, and a target that lists 50,000 ids is such. More is answered `bad load`.
pub const MAX_UNPROVEN_VALUES: usize = 1 << 16;

/// Something whose sender has been proven: by a session key and the minion's RSA key, or by the master's key.
#[derive(Clone, PartialEq, Eq)]
pub struct Verified<T>(T);

impl<T> fmt::Debug for Verified<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // It may be a pillar.
        f.write_str("Verified(..)")
    }
}

impl<T> Verified<T> {
    /// Returns what was proven.
    pub fn get(&self) -> &T {
        &self.0
    }

    /// Takes what was proven.
    pub fn into_inner(self) -> T {
        self.0
    }
}

/// The nonce of one request: 32 lower-case hex characters (salt-wire.md §2.1).
#[derive(Clone, Copy)]
pub struct Nonce([u8; Nonce::LEN]);

/// A text that is not a nonce.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a nonce is {} lower-case hex characters", Nonce::LEN)]
pub struct BadNonce;

impl Nonce {
    /// How many characters a nonce has.
    pub const LEN: usize = 32;

    /// Makes the nonce of 16 random bytes.
    pub fn from_random(random: [u8; 16]) -> Nonce {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        let mut text = [0; Nonce::LEN];
        for (pair, byte) in text.chunks_exact_mut(2).zip(random) {
            pair.copy_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        }
        Nonce(text)
    }

    /// Checks a text.
    pub fn parse(text: &[u8]) -> Result<Nonce, BadNonce> {
        let text: [u8; Nonce::LEN] = text.try_into().map_err(|_| BadNonce)?;
        let hex = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if text.iter().all(hex) { Ok(Nonce(text)) } else { Err(BadNonce) }
    }

    /// Returns the nonce as text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("hex digits are ASCII")
    }

    /// Tells whether a value is this nonce, in constant time.
    pub fn is(&self, value: Option<&Value>) -> bool {
        value.and_then(Value::as_bytes).is_some_and(|other| bool::from(self.0.ct_eq(other)))
    }
}

impl PartialEq for Nonce {
    fn eq(&self, other: &Nonce) -> bool {
        bool::from(self.0.ct_eq(&other.0))
    }
}

impl Eq for Nonce {}

impl fmt::Debug for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Nonce(..)")
    }
}

/// Returns the bytes under a text key: on the wire text and bytes are one (salt-wire.md §1.2).
fn bytes<'a>(map: &'a Map, key: &str) -> Option<&'a [u8]> {
    map.at(key).and_then(Value::as_bytes)
}
