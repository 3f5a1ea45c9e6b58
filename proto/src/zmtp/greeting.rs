//! The greeting: the first 64 bytes of each side (RFC 23, "Greeting").
//!
//! ```text
//! FF 00*8 7F | major minor | mechanism, 20 bytes | as-server | filler, 31 bytes
//! ```
//!
//! A connector sends all 64 bytes at once. A listener that speaks two mechanisms sends the first [`HEAD_LEN`] bytes,
//! waits for the peer's 64, and echoes the mechanism it reads there: libzmq gives up for good on a mismatch, and names
//! its own mechanism only after it has seen 11 bytes.

use thiserror::Error;

/// Length of a greeting.
pub const GREETING_LEN: usize = 64;
/// Signature and major version: what a listener sends before it knows the peer's mechanism.
pub const HEAD_LEN: usize = 11;

const SIGNATURE_LEN: usize = 10;
const MAJOR_AT: usize = 10;
const MECHANISM_AT: usize = 12;
const MECHANISM_LEN: usize = 20;
const AS_SERVER_AT: usize = 32;
/// Announced by both our halves. Minor 0 makes libzmq send subscriptions as messages.
const MAJOR: u8 = 3;

/// The mechanisms we speak, as the greeting names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MechanismName {
    /// Curve25519, RFC 26.
    Curve,
    /// No security.
    Null,
}

impl MechanismName {
    /// Returns the name on the wire, without its zero padding.
    pub fn name(self) -> &'static str {
        match self {
            MechanismName::Curve => "CURVE",
            MechanismName::Null => "NULL",
        }
    }
}

/// Why a greeting was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum GreetingError {
    /// Not ZeroMQ at all.
    #[error("the peer does not speak ZeroMQ")]
    Signature,
    /// ZMTP 1 or 2.
    #[error("the peer speaks ZMTP {0}, older than 3")]
    Version(u8),
    /// PLAIN, GSSAPI or something unknown.
    #[error("the peer wants a mechanism other than NULL and CURVE")]
    Mechanism,
}

/// Returns the 64 bytes a connector sends, or a listener's complete greeting, of which it sends the rest later.
pub fn encode(mechanism: MechanismName, as_server: AsServer) -> [u8; GREETING_LEN] {
    let mut bytes = [0; GREETING_LEN];
    bytes[0] = 0xff;
    bytes[SIGNATURE_LEN - 1] = 0x7f;
    bytes[MAJOR_AT] = MAJOR;
    let name = mechanism.name().as_bytes();
    bytes[MECHANISM_AT..MECHANISM_AT + name.len()].copy_from_slice(name);
    bytes[AS_SERVER_AT] = u8::from(as_server == AsServer::Yes);
    bytes
}

/// Which half of the mechanism the sender is. Announced, and never checked: libzmq's CURVE server says no.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AsServer {
    /// The client half, and both halves of NULL.
    No,
    /// The server half of CURVE.
    Yes,
}

/// Returns the peer's mechanism once 64 bytes are there, and refuses a wrong start as soon as it is seen.
pub fn decode(input: &[u8]) -> Result<Option<MechanismName>, GreetingError> {
    if input.first().is_some_and(|&byte| byte != 0xff) {
        return Err(GreetingError::Signature);
    }
    if input.get(SIGNATURE_LEN - 1).is_some_and(|&byte| byte != 0x7f) {
        return Err(GreetingError::Signature);
    }
    if let Some(&major) = input.get(MAJOR_AT).filter(|&&major| major < MAJOR) {
        return Err(GreetingError::Version(major));
    }
    let Some(greeting) = input.get(..GREETING_LEN) else { return Ok(None) };
    let padded = &greeting[MECHANISM_AT..MECHANISM_AT + MECHANISM_LEN];
    let is = |mechanism: MechanismName| {
        let name = mechanism.name().as_bytes();
        padded.starts_with(name) && padded[name.len()..].iter().all(|&byte| byte == 0)
    };
    [MechanismName::Curve, MechanismName::Null].into_iter().find(|&m| is(m)).map(Some).ok_or(GreetingError::Mechanism)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn greeting_round_trips_and_needs_all_its_bytes() {
        for mechanism in [MechanismName::Curve, MechanismName::Null] {
            let bytes = encode(mechanism, AsServer::Yes);
            for len in 0..GREETING_LEN {
                assert_eq!(decode(&bytes[..len]), Ok(None), "{len}");
            }
            assert_eq!(decode(&bytes), Ok(Some(mechanism)));
        }
    }

    #[test]
    fn wrong_greetings_are_refused_at_once() {
        assert_eq!(decode(b"GET / HTTP/1.1"), Err(GreetingError::Signature));
        assert_eq!(decode(&[0xff; 10]), Err(GreetingError::Signature));
        let mut bytes = encode(MechanismName::Null, AsServer::No);
        bytes[MAJOR_AT] = 1;
        assert_eq!(decode(&bytes[..11]), Err(GreetingError::Version(1)));
        bytes[MAJOR_AT] = 3;
        bytes[MECHANISM_AT..MECHANISM_AT + 5].copy_from_slice(b"PLAIN");
        assert_eq!(decode(&bytes), Err(GreetingError::Mechanism));
        bytes[MECHANISM_AT..MECHANISM_AT + 5].copy_from_slice(b"NULLX");
        assert_eq!(decode(&bytes), Err(GreetingError::Mechanism));
    }
}
