//! Whom to trust as the master: the key in the pin file, or what the configuration says; else the first key seen. Pure.

use std::path::{Path, PathBuf};

use proto::ids::Fingerprint;
use proto::keys;

/// What the configuration demands of the master's key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Demands {
    /// `master_key`: exactly this key.
    pub key: Option<[u8; 32]>,
    /// `master_finger`: a key with this fingerprint.
    pub finger: Option<String>,
}

/// What to do with a key that passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is pinned already.
    Known,
    /// It is to be pinned.
    Pin,
}

/// Why a key is not taken for the master's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TrustError {
    /// It is another key than the pinned one.
    #[error(
        "trust the master: its key has CHANGED. Pinned in {}: {pinned}. Offered: {offered}. \
         Someone may be in between. If the master's key was replaced on purpose, compare the offered fingerprint with \
         what `halite key finger` shows on the master, then delete the file; this minion pins the new key by itself", path.display())]
    Changed {
        /// The pin file.
        path: PathBuf,
        /// The fingerprint of the pinned key.
        pinned: Fingerprint,
        /// The fingerprint of the offered key.
        offered: Fingerprint,
    },
    /// A Salt master's key is pinned, and it does not vouch for the native key.
    #[error(
        "trust the master: the key of a Salt master is pinned in {}, and it does not vouch for this master: {why}. Someone \
         may be in between. If this is another master on purpose, set master_finger to what `halite key finger` shows on \
         it, or delete the file", path.display())]
    NotVouched {
        /// The pin file.
        path: PathBuf,
        /// What is missing or wrong.
        why: &'static str,
    },
    /// It is not the key that `master_key` or `master_finger` names.
    #[error(
        "trust the master: its key has the fingerprint {offered}, but {option} in the configuration says {expected}; \
         correct the option if the master is the right one"
    )]
    NotDemanded {
        /// The option.
        option: &'static str,
        /// What it says.
        expected: String,
        /// The fingerprint of the offered key.
        offered: Fingerprint,
    },
}

/// Judges a key that claims to be the master's.
pub(super) fn judge(
    offered: &[u8; 32],
    pinned: Option<[u8; 32]>,
    path: &Path,
    demands: &Demands,
) -> Result<Verdict, TrustError> {
    let finger = fingerprint(offered);
    let refuse = |option, expected: String| TrustError::NotDemanded { option, expected, offered: finger.clone() };
    if let Some(key) = demands.key.filter(|key| key != offered) {
        return Err(refuse("master_key", fingerprint(&key).to_string()));
    }
    if let Some(expected) = demands.finger.as_ref().filter(|expected| !expected.eq_ignore_ascii_case(finger.as_str())) {
        return Err(refuse("master_finger", expected.clone()));
    }
    match pinned {
        None => Ok(Verdict::Pin),
        Some(key) if key == *offered => Ok(Verdict::Known),
        Some(key) => Err(TrustError::Changed { path: path.to_owned(), pinned: fingerprint(&key), offered: finger }),
    }
}

/// Returns Salt's fingerprint of a native key.
pub(super) fn fingerprint(key: &[u8; 32]) -> Fingerprint {
    keys::fingerprint(&keys::public_pem(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pinned: Option<[u8; 32]>, demands: &Demands, expected: Result<Verdict, &str>) {
        let verdict = judge(&[1; 32], pinned, Path::new("/pki/halite_master.pub"), demands);
        let told = verdict.as_ref().map_err(ToString::to_string);
        match (told, expected) {
            (Ok(verdict), Ok(expected)) => assert_eq!(*verdict, expected),
            (Err(text), Err(part)) => assert!(text.contains(part), "{text}"),
            (told, expected) => panic!("{told:?}, not {expected:?}"),
        }
    }

    #[test]
    fn the_first_key_is_pinned_and_no_other_one_passes() {
        let none = Demands::default();
        check(None, &none, Ok(Verdict::Pin));
        check(Some([1; 32]), &none, Ok(Verdict::Known));
        check(Some([2; 32]), &none, Err("/pki/halite_master.pub"));
        check(Some([2; 32]), &none, Err(fingerprint(&[2; 32]).as_str()));
        check(Some([2; 32]), &none, Err(fingerprint(&[1; 32]).as_str()));
    }

    #[test]
    fn the_configuration_makes_it_strict() {
        let finger = |text: String| Demands { finger: Some(text), key: None };
        check(None, &finger(fingerprint(&[1; 32]).to_string().to_uppercase()), Ok(Verdict::Pin));
        check(None, &finger("aa:bb".into()), Err("master_finger"));
        check(Some([1; 32]), &finger("aa:bb".into()), Err("aa:bb"));
        let key = |key| Demands { key: Some(key), finger: None };
        check(None, &key([1; 32]), Ok(Verdict::Pin));
        check(Some([1; 32]), &key([3; 32]), Err("master_key"));
    }
}
