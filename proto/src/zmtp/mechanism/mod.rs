//! The security mechanisms: what each half sends and expects between the greeting and the first message.
//!
//! [`null`] is one READY each way. [`curve`] is RFC 26: HELLO, WELCOME, INITIATE, READY, then sealed MESSAGEs.

use std::sync::Arc;

use self::curve::CurveKeyPair;
use super::greeting::MechanismName;

pub mod curve;
pub mod null;

/// The mechanism a finished handshake used, with what it proved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mechanism {
    /// The peer holds the secret half of `key`.
    Curve {
        /// The peer's long-term public key.
        key: [u8; 32],
    },
    /// Nothing is proven.
    Null,
}

/// Whether a listener talks to peers without keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NullPolicy {
    /// Such peers get a READY.
    Allow,
    /// Such peers are closed after their greeting.
    Refuse,
}

/// The mechanism a connector uses.
#[derive(Clone)]
pub enum ConnectMechanism {
    /// Proves our key, and insists on the server's.
    Curve {
        /// The server's long-term public key.
        server_key: [u8; 32],
        /// Our long-term pair.
        keys: Arc<CurveKeyPair>,
    },
    /// Proves nothing.
    Null,
}

impl ConnectMechanism {
    pub(super) fn name(&self) -> MechanismName {
        match self {
            ConnectMechanism::Curve { .. } => MechanismName::Curve,
            ConnectMechanism::Null => MechanismName::Null,
        }
    }
}

impl std::fmt::Debug for ConnectMechanism {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name().name())
    }
}
