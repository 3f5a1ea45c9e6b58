//! Key files of a minion: its own pair, and the master's key that it trusts (native-wire.md §2).
//!
//! A file is complete and has its final mode the moment it appears: it is written under another name and then linked.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use proto::ids::Fingerprint;
use proto::keys::{self, BadKey, MAX_KEY_FILE, PublicKey};
use proto::salt::rsa::BadRsaKey;
use ring::rand::{SecureRandom, SystemRandom};
use tracing::warn;
use transport::CurveKeyPair;

const PRIVATE: &str = "halite_minion.pem";
const PUBLIC: &str = "halite_minion.pub";
const PIN: &str = "halite_master.pub";

/// Why a key file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// It holds no key.
    #[error("read the key file {}", path.display())]
    Bad {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: BadKey,
    },
    /// It holds no RSA key.
    #[error("read the key file {}", path.display())]
    BadRsa {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: BadRsaKey,
    },
    /// The system has no random numbers.
    #[error("make a key: the system gives no random bytes")]
    Random,
    /// It cannot be read.
    #[error("read the key file {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It cannot be written.
    #[error("write the key file {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// The minion's own pair.
#[derive(Clone)]
pub struct OwnKey {
    /// The pair, as the handshake wants it.
    pub pair: Arc<CurveKeyPair>,
    /// Salt's fingerprint of the public half.
    pub fingerprint: Fingerprint,
}

/// Reads the minion's own pair, or makes it at the first start.
pub fn own(folder: &Path) -> Result<OwnKey, KeyError> {
    let path = folder.join(PRIVATE);
    private_folder(folder).map_err(|source| write_error(folder, source))?;
    if !path.exists() {
        let mut secret = [0; 32];
        SystemRandom::new().fill(&mut secret).map_err(|_| KeyError::Random)?;
        create(&path, keys::private_pem(&secret).as_bytes(), 0o400)?;
    }
    let pem = read(&path)?;
    let secret = keys::secret_from_pem(&pem).map_err(|source| KeyError::Bad { path: path.clone(), source })?;
    let public = keys::public_of(&secret);
    warn_if_open(&path);
    let public_pem = keys::public_pem(&public);
    let public_path = folder.join(PUBLIC);
    if !public_path.exists() {
        create(&public_path, format!("{public_pem}\n").as_bytes(), 0o644)?;
    }
    Ok(OwnKey { pair: Arc::new(CurveKeyPair::from_secret(*secret)), fingerprint: keys::fingerprint(&public_pem) })
}

/// Returns the file that pins the master's key.
pub fn pin_path(folder: &Path) -> PathBuf {
    folder.join(PIN)
}

/// Reads the pinned master key, if there is one.
pub fn pinned(folder: &Path) -> Result<Option<[u8; 32]>, KeyError> {
    let path = pin_path(folder);
    if !path.exists() {
        return Ok(None);
    }
    match PublicKey::from_pem(&read(&path)?) {
        Ok(PublicKey::X25519(key)) => Ok(Some(key)),
        Ok(PublicKey::Rsa(_)) => Err(KeyError::Bad { path, source: BadKey::NotX25519 }),
        Err(source) => Err(KeyError::Bad { path, source }),
    }
}

/// Pins the master's key. Never replaces a pin: another process may have been faster.
pub fn pin(folder: &Path, key: &[u8; 32]) -> Result<(), KeyError> {
    create(&pin_path(folder), format!("{}\n", keys::public_pem(key)).as_bytes(), 0o644)
}

/// Makes the folder of keys for its owner alone; folders above it get ordinary modes.
pub(super) fn private_folder(folder: &Path) -> io::Result<()> {
    if let Some(above) = folder.parent() {
        fs::create_dir_all(above)?;
    }
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && folder.is_dir() => Ok(()),
        done => done,
    }
}

pub(super) fn read(path: &Path) -> Result<String, KeyError> {
    let failed = |source| KeyError::Read { path: path.to_owned(), source };
    let mut text = String::new();
    let limit = u64::try_from(MAX_KEY_FILE).unwrap_or(u64::MAX) + 1;
    File::open(path).and_then(|file| file.take(limit).read_to_string(&mut text)).map_err(failed)?;
    Ok(text)
}

/// Creates a file with its content and mode at once; one that exists stays as it is.
pub(super) fn create(path: &Path, content: &[u8], mode: u32) -> Result<(), KeyError> {
    place(path, content, mode, |draft| match fs::hard_link(draft, path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        done => done,
    })
}

/// Puts a file in the place of one that may be there: whoever reads sees the old one or the new one.
pub(super) fn replace(path: &Path, content: &[u8], mode: u32) -> Result<(), KeyError> {
    place(path, content, mode, |draft| fs::rename(draft, path))
}

fn place(
    path: &Path,
    content: &[u8],
    mode: u32,
    publish: impl FnOnce(&Path) -> io::Result<()>,
) -> Result<(), KeyError> {
    let failed = |source| write_error(path, source);
    let draft = path.with_extension(format!("new-{}", std::process::id()));
    // A draft of a killed process with our number may lie there.
    let _ = fs::remove_file(&draft);
    let written = OpenOptions::new().write(true).create_new(true).mode(mode).open(&draft).and_then(|mut file| {
        file.write_all(content)?;
        // The umask may have taken bits away.
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        file.sync_all()
    });
    let published = written.and_then(|()| publish(&draft));
    // Its place has the content; whether the draft can go changes nothing.
    let _ = fs::remove_file(&draft);
    published.map_err(failed)?;
    if let Some(folder) = path.parent() {
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)?;
    }
    Ok(())
}

pub(super) fn warn_if_open(path: &Path) {
    let mode = fs::metadata(path).map(|found| found.permissions().mode()).unwrap_or_default();
    if mode & 0o077 != 0 {
        warn!(path = %path.display(), mode = format!("{mode:o}"), "the private key can be read by others; run chmod 0400 on it");
    }
}

pub(super) fn write_error(path: &Path, source: io::Error) -> KeyError {
    KeyError::Write { path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: PathBuf) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn a_pair_is_made_once_and_private_from_the_start() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("pki/minion");
        let first = own(&folder).unwrap();
        assert_eq!(own(&folder).unwrap().fingerprint, first.fingerprint);
        assert_eq!(
            (mode(folder.clone()), mode(folder.join(PRIVATE)), mode(folder.join(PUBLIC))),
            (0o700, 0o400, 0o644)
        );
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 2);
        let public = PublicKey::from_pem(&fs::read_to_string(folder.join(PUBLIC)).unwrap()).unwrap();
        assert_eq!(public, PublicKey::X25519(first.pair.public()));
    }

    #[test]
    fn a_pin_is_never_replaced() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(pinned(folder.path()).unwrap(), None);
        pin(folder.path(), &[1; 32]).unwrap();
        pin(folder.path(), &[2; 32]).unwrap();
        assert_eq!(pinned(folder.path()).unwrap(), Some([1; 32]));
    }

    #[test]
    fn a_damaged_pin_is_an_error_not_a_missing_one() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(pin_path(folder.path()), "").unwrap();
        assert!(matches!(pinned(folder.path()), Err(KeyError::Bad { .. })));
    }
}
