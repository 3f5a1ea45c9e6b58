//! `_auth`, version 3 (salt-wire.md §2): what crosses the wire, and the two halves that make and judge it.
//!
//! ```text
//!  minion (Applicant)                                master
//!    ask ──────── AuthRequest ─────────────────────▶ AuthRequest::decode
//!                                                      │ bad: BadAuth::answer
//!    judge ◀───── {ret} signed ───────────────────── AuthRequest::stand        pending, rejected, full
//!    judge ◀───── {aes, session, token, sig} signed ─ Acceptance::accept       accepted
//! ```
//! Who is accepted is decided elsewhere (§2.2); here is how the decision is told, and how it is believed.

mod master;
mod minion;

pub use master::{Acceptance, AuthRequest, BadAuth, PubSig};
pub use minion::{Applicant, Attempt, AuthAnswer, AuthRefused, Credentials, Proof, Trust};

use ring::digest;

use super::crypticle::SharedKey;
use crate::value::Value;

/// What a master says of a key that it does not accept now (salt-wire.md §2.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// The master has as many minions as it may have.
    Full,
    /// The key waits for somebody to accept it.
    Pending,
    /// The key is rejected or denied: a minion of Salt's shuts down over this.
    Rejected,
}

impl Standing {
    fn value(self) -> Value {
        match self {
            Standing::Full => Value::from("full"),
            Standing::Pending => Value::Bool(true),
            Standing::Rejected => Value::Bool(false),
        }
    }

    fn of(value: &Value) -> Option<Standing> {
        [Standing::Full, Standing::Pending, Standing::Rejected].into_iter().find(|standing| standing.value() == *value)
    }
}

/// Returns what the master's key proves of the shared key: the hex digits of its text's SHA-256 (salt-wire.md §2.4).
fn digest_of(shared: &SharedKey) -> String {
    let digest = digest::digest(&digest::SHA256, shared.0.key_text().as_bytes());
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}
