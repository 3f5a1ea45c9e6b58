//! Upgrade in place (native-wire.md §2, §4): what an RSA key of Salt's vouches for on the native wire.
//!
//! ```text
//!  minion                                                      master
//!    hello ─────────────────────────────────────────────────▶
//!    judge_master ◀──── {key, rsa_pub, rsa_sig} ───────────── vouch_for_master     the pin of the RSA key carries over
//!    vouch_for_minion ─ session {upgrade: {rsa_pub, sig}} ──▶ judge_minion         so does the accepted key
//! ```
//! Both signatures are PKCS#1 v1.5 with SHA-256, over texts that no other message of either wire begins with. The minion's
//! names both native keys, so that it serves nobody else, and not for another master.

use super::rsa::{PrivateKey, PublicKey, Refused};
use crate::ids::MinionId;

/// What the signature of a master begins with.
const HELLO: &[u8] = b"halite-hello-1";
/// What the signature of a minion begins with.
const UPGRADE: &[u8] = b"halite-upgrade-1";

/// Signs a master's native key with its RSA key.
pub fn vouch_for_master(rsa: &PrivateKey, native: &[u8; 32]) -> Vec<u8> {
    rsa.sign_sha256(&hello(native))
}

/// Judges whether the RSA key vouches for a master's native key.
pub fn judge_master(rsa: &PublicKey, native: &[u8; 32], sig: &[u8]) -> Result<(), Refused> {
    rsa.verify_sha256(&hello(native), sig)
}

/// Signs a minion's native key with its RSA key, for one master.
pub fn vouch_for_minion(rsa: &PrivateKey, id: &MinionId, native: &[u8; 32], master: &[u8; 32]) -> Vec<u8> {
    rsa.sign_sha256(&upgrade(id, native, master))
}

/// Judges whether the RSA key vouches for a minion's native key, for this master.
pub fn judge_minion(
    rsa: &PublicKey,
    id: &MinionId,
    native: &[u8; 32],
    master: &[u8; 32],
    sig: &[u8],
) -> Result<(), Refused> {
    rsa.verify_sha256(&upgrade(id, native, master), sig)
}

fn hello(native: &[u8; 32]) -> Vec<u8> {
    [HELLO, native].concat()
}

fn upgrade(id: &MinionId, native: &[u8; 32], master: &[u8; 32]) -> Vec<u8> {
    // An id has no NUL, so it ends where it ends.
    [UPGRADE, id.as_str().as_bytes(), &[0], native, master].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_good_for_what_it_names_alone() {
        let rsa = PrivateKey::generate(2048).unwrap();
        let (m1, m2) = (MinionId::parse("m1").unwrap(), MinionId::parse("m2").unwrap());
        let sig = vouch_for_minion(&rsa, &m1, &[1; 32], &[2; 32]);
        let judge = |id, native: [u8; 32], master: [u8; 32]| judge_minion(rsa.public(), id, &native, &master, &sig);
        assert_eq!(judge(&m1, [1; 32], [2; 32]), Ok(()));
        assert_eq!(judge(&m2, [1; 32], [2; 32]), Err(Refused), "another id");
        assert_eq!(judge(&m1, [3; 32], [2; 32]), Err(Refused), "another native key");
        assert_eq!(judge(&m1, [1; 32], [3; 32]), Err(Refused), "another master");
        let sig = vouch_for_master(&rsa, &[2; 32]);
        assert_eq!(judge_master(rsa.public(), &[2; 32], &sig), Ok(()));
        assert_eq!(judge_master(rsa.public(), &[3; 32], &sig), Err(Refused));
        assert_eq!(judge_master(rsa.public(), &[2; 32], &sig[1..]), Err(Refused));
    }
}
