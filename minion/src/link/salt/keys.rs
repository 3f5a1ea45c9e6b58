//! The key files of Salt's wire, under Salt's names: the minion's RSA pair and the master's key that it trusts.

use std::path::{Path, PathBuf};

use proto::salt::rsa::{PrivateKey, PublicKey};
use tracing::info;

use super::super::keys::{KeyError, create, private_folder, read, replace, warn_if_open, write_error};

const PRIVATE: &str = "minion.pem";
const PUBLIC: &str = "minion.pub";
const PIN: &str = "minion_master.pub";

/// Reads the minion's own pair, or makes one of `bits` at the first start. Blocks, and a new pair takes a second.
pub(in super::super) fn own(folder: &Path, bits: u32) -> Result<PrivateKey, KeyError> {
    let path = folder.join(PRIVATE);
    private_folder(folder).map_err(|source| write_error(folder, source))?;
    if !path.exists() {
        info!(bits, path = %path.display(), "making the RSA key pair");
        let key = PrivateKey::generate(bits).map_err(|source| KeyError::BadRsa { path: path.clone(), source })?;
        create(&path, key.to_pem().as_bytes(), 0o400)?;
    }
    let key =
        existing(folder)?.ok_or(KeyError::Read { path: path.clone(), source: std::io::ErrorKind::NotFound.into() })?;
    let public = folder.join(PUBLIC);
    if !public.exists() {
        create(&public, key.public().pem().as_bytes(), 0o644)?;
    }
    Ok(key)
}

/// Reads the minion's own pair, if there is one.
pub(in super::super) fn existing(folder: &Path) -> Result<Option<PrivateKey>, KeyError> {
    let path = folder.join(PRIVATE);
    if !path.exists() {
        return Ok(None);
    }
    let key = PrivateKey::from_pem(&read(&path)?, None);
    let key = key.map_err(|source| KeyError::BadRsa { path: path.clone(), source })?;
    warn_if_open(&path);
    Ok(Some(key))
}

/// Returns the file that pins the master's key.
pub(in super::super) fn pin_path(folder: &Path) -> PathBuf {
    folder.join(PIN)
}

/// Reads the pinned master key, if there is one. A file that cannot be read is an error, not a missing pin.
pub(in super::super) fn pinned(folder: &Path) -> Result<Option<PublicKey>, KeyError> {
    let path = pin_path(folder);
    if path.exists() { public(&path).map(Some) } else { Ok(None) }
}

/// Reads a public key.
pub(super) fn public(path: &Path) -> Result<PublicKey, KeyError> {
    PublicKey::from_pem(&read(path)?).map_err(|source| KeyError::BadRsa { path: path.to_owned(), source })
}

/// Pins the master's key. Never replaces a pin: another process may have been faster.
pub(super) fn pin(folder: &Path, key: &PublicKey) -> Result<(), KeyError> {
    create(&pin_path(folder), key.pem().as_bytes(), 0o644)
}

/// Replaces the pin: a signing key that the administrator gave to this host vouches for the new one.
pub(super) fn pin_anew(folder: &Path, key: &PublicKey) -> Result<(), KeyError> {
    replace(&pin_path(folder), key.pem().as_bytes(), 0o644)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn mode(path: PathBuf) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn a_pair_is_made_once_and_private_from_the_start() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("pki/minion");
        let first = own(&folder, 2048).unwrap();
        assert_eq!(own(&folder, 4096).unwrap().public(), first.public(), "a pair that exists stays, whatever its size");
        assert_eq!((mode(folder.join(PRIVATE)), mode(folder.join(PUBLIC))), (0o400, 0o644));
        assert_eq!(public(&folder.join(PUBLIC)).unwrap(), *first.public());
    }

    #[test]
    fn a_pin_is_replaced_only_on_purpose() {
        let folder = tempfile::tempdir().unwrap();
        assert!(pinned(folder.path()).unwrap().is_none());
        let [one, two] = [1, 2].map(|_| PrivateKey::generate(2048).unwrap());
        pin(folder.path(), one.public()).unwrap();
        pin(folder.path(), two.public()).unwrap();
        assert_eq!(pinned(folder.path()).unwrap().as_ref(), Some(one.public()));
        pin_anew(folder.path(), two.public()).unwrap();
        assert_eq!(pinned(folder.path()).unwrap().as_ref(), Some(two.public()));
    }

    #[test]
    fn a_damaged_file_is_an_error_not_a_missing_one() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(pin_path(folder.path()), "").unwrap();
        assert!(matches!(pinned(folder.path()), Err(KeyError::BadRsa { .. })));
        fs::write(folder.path().join(PRIVATE), "rubbish").unwrap();
        assert!(matches!(own(folder.path(), 2048), Err(KeyError::BadRsa { .. })));
    }
}
