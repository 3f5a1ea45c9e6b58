//! The master's RSA pair on the Salt wire: `master.pem` and `master.pub`, in the form that Salt writes. A pair that is
//! there is kept, also behind the symlinks that Salt 3008 leaves; minions have pinned its public half.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use proto::keys::MAX_KEY_FILE;
use proto::salt::rsa::{BadRsaKey, PrivateKey, PublicKey};
use zeroize::Zeroizing;

use super::store::{FileError, Replace, read_bounded, write_whole};

/// What the files of the pair are called before their ends.
pub(super) const NAME: &str = "master";
/// The name of the public half.
pub(super) const PUBLIC_FILE: &str = "master.pub";

/// Why the master's RSA pair cannot be used. Each names the file and what to do.
#[derive(Debug, thiserror::Error)]
pub enum RsaPairError {
    /// A file cannot be read.
    #[error("read the master's RSA key {path}; check its owner and rights, it must belong to the master's user")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file does not hold what it should.
    #[error(
        "use the master's RSA key {path}: it is damaged, or its passphrase is missing or wrong; restore it from a \
         backup (moving it and its other half away makes a new pair at the next start, and every Salt minion that has \
         pinned the old one will refuse it)"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: BadRsaKey,
    },
    /// The two files do not belong together.
    #[error("use the master's RSA key {path}: it is not the public half of the key beside it; restore the wrong one")]
    Mismatch {
        /// The public file.
        path: PathBuf,
    },
    /// Only the public file is there, or a symlink that leads nowhere.
    #[error(
        "use the master's RSA key {path}: it is missing, but its public half or a symlink of its name is there; restore \
         it from a backup, or delete what is left to make a new pair that every Salt minion has to pin anew"
    )]
    Missing {
        /// The private file.
        path: PathBuf,
    },
    /// Others can read the private file.
    #[error(
        "use the master's RSA key {path}: every user can read it; run `chmod 0400 {path}`, and think of it as known"
    )]
    Exposed {
        /// The private file.
        path: PathBuf,
    },
    /// A new key cannot be made.
    #[error("make the master's RSA key of {bits} bits (keysize)")]
    Make {
        /// Its size.
        bits: u32,
        /// What is wrong.
        source: BadRsaKey,
    },
    /// A new pair cannot be written.
    #[error("make the master's RSA key")]
    Write(#[from] FileError),
}

/// Reads the pair of this name, or makes it if there is none at all. Blocks: making a key takes up to some seconds.
pub(super) fn load(
    pki_dir: &Path,
    name: &str,
    bits: u32,
    passphrase: Option<&str>,
) -> Result<PrivateKey, RsaPairError> {
    let private = pki_dir.join(format!("{name}.pem"));
    let public = pki_dir.join(format!("{name}.pub"));
    match (read(&private)?, read(&public)?) {
        (Some(pem), stored) => {
            let pair = PrivateKey::from_pem(&pem, passphrase);
            let pair = pair.map_err(|source| RsaPairError::Damaged { path: private.clone(), source })?;
            check_rights(&private)?;
            match stored {
                Some(stored) => check_public(&pair, &public, &stored)?,
                None => write_public(&pair, &public)?,
            }
            Ok(pair)
        }
        (None, None) if !is_there(&private) && !is_there(&public) => create(&private, &public, bits),
        (None, _) => Err(RsaPairError::Missing { path: private }),
    }
}

fn create(private: &Path, public: &Path, bits: u32) -> Result<PrivateKey, RsaPairError> {
    let pair = PrivateKey::generate(bits).map_err(|source| RsaPairError::Make { bits, source })?;
    write_whole(private, pair.to_pem().as_bytes(), 0o400, Replace::No)?;
    write_public(&pair, public)?;
    let finger = pair.public().fingerprint();
    tracing::info!(path = %private.display(), finger = finger.as_str(), "made the master's RSA key");
    Ok(pair)
}

fn write_public(pair: &PrivateKey, path: &Path) -> Result<(), RsaPairError> {
    Ok(write_whole(path, format!("{}\n", pair.public().pem()).as_bytes(), 0o644, Replace::No)?)
}

fn check_public(pair: &PrivateKey, path: &Path, stored: &str) -> Result<(), RsaPairError> {
    match PublicKey::from_pem(stored) {
        Ok(key) if key == *pair.public() => Ok(()),
        Ok(_) => Err(RsaPairError::Mismatch { path: path.to_owned() }),
        Err(source) => Err(RsaPairError::Damaged { path: path.to_owned(), source }),
    }
}

/// Tells whether something of this name exists, be it a symlink that leads nowhere.
fn is_there(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok()
}

fn read(path: &Path) -> Result<Option<Zeroizing<String>>, RsaPairError> {
    let file = match std::fs::File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file,
    };
    match file.and_then(read_bounded) {
        Ok(text) if text.len() <= MAX_KEY_FILE => Ok(Some(Zeroizing::new(text))),
        // What is too large, or not text, is no key either.
        Ok(_) => Ok(Some(Zeroizing::default())),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Ok(Some(Zeroizing::default())),
        Err(source) => Err(RsaPairError::Read { path: path.to_owned(), source }),
    }
}

fn check_rights(path: &Path) -> Result<(), RsaPairError> {
    let failed = |source| RsaPairError::Read { path: path.to_owned(), source };
    let mode = std::fs::metadata(path).map_err(failed)?.permissions().mode();
    if mode & 0o007 != 0 { Err(RsaPairError::Exposed { path: path.to_owned() }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_is_made_once_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let made = load(dir.path(), NAME, 2048, None).unwrap();
        let mode = std::fs::metadata(dir.path().join("master.pem")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o400);
        // As Salt 3008 leaves it: the pair under the master's id, symlinks in its place.
        for (name, moved) in [("master.pem", "m1.pem"), (PUBLIC_FILE, "m1.pub")] {
            std::fs::rename(dir.path().join(name), dir.path().join(moved)).unwrap();
            std::os::unix::fs::symlink(moved, dir.path().join(name)).unwrap();
        }
        assert_eq!(load(dir.path(), NAME, 2048, None).unwrap().public(), made.public());
        assert!(std::fs::symlink_metadata(dir.path().join("master.pem")).unwrap().is_symlink(), "it is not replaced");
    }

    #[test]
    fn what_is_damaged_or_exposed_is_named_and_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        load(dir.path(), NAME, 2048, None).unwrap();
        let private = dir.path().join("master.pem");
        std::fs::set_permissions(&private, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(load(dir.path(), NAME, 2048, None), Err(RsaPairError::Exposed { .. })));
        std::fs::write(&private, "scrap").unwrap();
        assert!(matches!(load(dir.path(), NAME, 2048, None), Err(RsaPairError::Damaged { .. })));
        std::fs::remove_file(&private).unwrap();
        assert!(matches!(load(dir.path(), NAME, 2048, None), Err(RsaPairError::Missing { .. })));
        std::os::unix::fs::symlink("nowhere", &private).unwrap();
        assert!(matches!(load(dir.path(), NAME, 2048, None), Err(RsaPairError::Missing { .. })));
        assert!(matches!(PrivateKey::generate(1024), Err(BadRsaKey::Size)));
    }
}
