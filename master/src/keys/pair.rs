//! The master's own pair on the native wire: `halite_master.pem` and `halite_master.pub`, made at the first start and
//! never overwritten. Minions pin the public half; a lost private half means a new fleet.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use proto::keys::{self, BadKey, PublicKey};
use ring::rand::{SecureRandom, SystemRandom};
use zeroize::{Zeroize, Zeroizing};

use super::store::{FileError, Replace, read_bounded, write_whole};

/// The name of the private half.
pub(super) const PRIVATE_FILE: &str = "halite_master.pem";
/// The name of the public half.
pub(super) const PUBLIC_FILE: &str = "halite_master.pub";

/// Why the master's pair cannot be used. Each names the file and what to do.
#[derive(Debug, thiserror::Error)]
pub enum PairError {
    /// A file cannot be read.
    #[error("read the master's key {path}; check its owner and rights, it must belong to the master's user")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file does not hold what it should.
    #[error(
        "use the master's key {path}: it is damaged; restore it from a backup (moving halite_master.pem and .pub away \
         makes a new pair at the next start, and every minion that has pinned the old one will refuse it)"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: BadKey,
    },
    /// The two files do not belong together.
    #[error("use the master's key {path}: it is not the public half of {PRIVATE_FILE}; restore the one that is wrong")]
    Mismatch {
        /// The public file.
        path: PathBuf,
    },
    /// Only the public file is there.
    #[error(
        "use the master's key {path}: it is missing, but {PUBLIC_FILE} is there; restore it from a backup, or delete \
         {PUBLIC_FILE} to make a new pair that every minion has to pin anew"
    )]
    Missing {
        /// The private file.
        path: PathBuf,
    },
    /// Others can read the private file.
    #[error("use the master's key {path}: every user can read it; run `chmod 0400 {path}`, and think of it as known")]
    Exposed {
        /// The private file.
        path: PathBuf,
    },
    /// A new pair cannot be written.
    #[error("make the master's key")]
    Write(#[from] FileError),
    /// The kernel gives no random numbers.
    #[error("make the master's key: the kernel gives no random numbers")]
    Random,
}

/// The master's pair. The secret is wiped when dropped, and never printed.
pub struct MasterPair {
    /// What minions pin.
    pub public: [u8; 32],
    secret: Zeroizing<[u8; 32]>,
}

impl MasterPair {
    /// Returns the secret half. What is copied out of it is the copier's to wipe.
    pub fn secret(&self) -> &[u8; 32] {
        &self.secret
    }

    /// Reads the pair, or makes it if there is none at all.
    pub(super) fn load(pki_dir: &Path) -> Result<MasterPair, PairError> {
        let private = pki_dir.join(PRIVATE_FILE);
        let public = pki_dir.join(PUBLIC_FILE);
        match (read(&private)?, read(&public)?) {
            (Some(mut pem), stored) => {
                let pair = MasterPair::from_pem(&pem);
                pem.zeroize();
                let pair = pair.map_err(|source| PairError::Damaged { path: private.clone(), source })?;
                check_rights(&private)?;
                match stored {
                    Some(stored) => pair.check_public(&public, &stored)?,
                    None => pair.write_public(&public)?,
                }
                Ok(pair)
            }
            (None, Some(_)) => Err(PairError::Missing { path: private }),
            (None, None) => MasterPair::create(&private, &public),
        }
    }

    fn from_pem(pem: &str) -> Result<MasterPair, BadKey> {
        let secret = keys::secret_from_pem(pem)?;
        Ok(MasterPair { public: keys::public_of(&secret), secret })
    }

    fn create(private: &Path, public: &Path) -> Result<MasterPair, PairError> {
        let mut pair = MasterPair { public: [0; 32], secret: Zeroizing::new([0; 32]) };
        SystemRandom::new().fill(pair.secret.as_mut()).map_err(|_| PairError::Random)?;
        pair.public = keys::public_of(&pair.secret);
        write_whole(private, keys::private_pem(&pair.secret).as_bytes(), 0o400, Replace::No)?;
        pair.write_public(public)?;
        tracing::info!(path = %private.display(), finger = %pair.fingerprint(), "made the master's key");
        Ok(pair)
    }

    fn write_public(&self, path: &Path) -> Result<(), PairError> {
        let pem = format!("{}\n", keys::public_pem(&self.public));
        Ok(write_whole(path, pem.as_bytes(), 0o644, Replace::No)?)
    }

    fn check_public(&self, path: &Path, stored: &str) -> Result<(), PairError> {
        match PublicKey::from_pem(stored) {
            Ok(key) if key == PublicKey::X25519(self.public) => Ok(()),
            Ok(_) => Err(PairError::Mismatch { path: path.to_owned() }),
            Err(source) => Err(PairError::Damaged { path: path.to_owned(), source }),
        }
    }

    /// Returns the fingerprint of the public half, as minions print it.
    pub fn fingerprint(&self) -> String {
        PublicKey::X25519(self.public).fingerprint().as_str().to_owned()
    }
}

fn read(path: &Path) -> Result<Option<String>, PairError> {
    let file = match OpenOptions::new().read(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file,
    };
    match file.and_then(read_bounded) {
        Ok(text) => Ok(Some(text)),
        // Bytes that are not text are no key either.
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Ok(Some(String::new())),
        Err(source) => Err(PairError::Read { path: path.to_owned(), source }),
    }
}

fn check_rights(path: &Path) -> Result<(), PairError> {
    let failed = |source| PairError::Read { path: path.to_owned(), source };
    let mode = std::fs::metadata(path).map_err(failed)?.permissions().mode();
    if mode & 0o007 != 0 {
        return Err(PairError::Exposed { path: path.to_owned() });
    }
    if mode & 0o070 != 0 {
        tracing::warn!(path = %path.display(), "the master's private key can be read by its group");
    }
    Ok(())
}
