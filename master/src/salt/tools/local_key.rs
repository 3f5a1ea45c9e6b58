//! The key of local clients: `cachedir/.<user>_key`, which whoever may read it shows with each command in the clear
//! (salt-wire.md §6).

use std::fs::{self, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use proto::salt::crypticle::{Crypticle, KEY_LEN};
use ring::rand::{SecureRandom as _, SystemRandom};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

/// The shortest key that is believed in; Salt's have 76 characters.
const MIN_LEN: usize = 32;
/// The longest.
const MAX_LEN: u64 = 4 * 1024;
const MODE: u32 = 0o600;

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum LocalKeyError {
    /// The file cannot be read or written.
    #[error("use the key file of Salt's local clients, {path}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What lies there is no key.
    #[error(
        "use the key file of Salt's local clients, {path}: {what}; delete it, and a new one is made",
        path = path.display()
    )]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: &'static str,
    },
    /// The kernel gives no random numbers.
    #[error("make a key for Salt's local clients: the kernel gives no random numbers")]
    Random,
}

/// The key that local clients show.
pub struct LocalKey(Zeroizing<String>);

impl std::fmt::Debug for LocalKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LocalKey(..)")
    }
}

impl LocalKey {
    /// Reads the key of this user, or makes it. One that is there is kept: tools may be running that have read it.
    pub fn open(cachedir: &Path, user: &str) -> Result<LocalKey, LocalKeyError> {
        let path = cachedir.join(format!(".{user}_key"));
        match read(&path) {
            Err(LocalKeyError::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => make(&path),
            done => done,
        }
    }

    /// Tells whether this is the key, in constant time.
    pub fn is(&self, shown: &str) -> bool {
        // Digests have one length, whatever is compared.
        let digest = |text: &str| ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
        digest(&self.0).as_ref().ct_eq(digest(shown).as_ref()).into()
    }
}

fn read(path: &Path) -> Result<LocalKey, LocalKeyError> {
    let failed = |source| LocalKeyError::File { path: path.to_owned(), source };
    let unusable = |what| LocalKeyError::Unusable { path: path.to_owned(), what };
    let file = OpenOptions::new().read(true).custom_flags(nix::fcntl::OFlag::O_NOFOLLOW.bits()).open(path);
    let file = file.map_err(failed)?;
    let meta = file.metadata().map_err(failed)?;
    if !meta.is_file() {
        return Err(unusable("it is not a plain file"));
    }
    if meta.uid() != nix::unistd::geteuid().as_raw() {
        return Err(unusable("it belongs to somebody else"));
    }
    if meta.mode() & 0o077 != 0 {
        return Err(unusable("others than its owner may use it"));
    }
    let mut text = Zeroizing::new(String::new());
    file.take(MAX_LEN).read_to_string(&mut text).map_err(failed)?;
    let key = text.trim();
    if key.len() < MIN_LEN {
        return Err(unusable("it is too short"));
    }
    Ok(LocalKey(Zeroizing::new(key.to_owned())))
}

fn make(path: &Path) -> Result<LocalKey, LocalKeyError> {
    let failed = |source| LocalKeyError::File { path: path.to_owned(), source };
    let mut random = Zeroizing::new([0; KEY_LEN]);
    SystemRandom::new().fill(random.as_mut()).map_err(|_| LocalKeyError::Random)?;
    let key = Crypticle::from_random(random).key_text();
    // Whole or not at all: a tool that reads half a key is refused and does not say why.
    let temporary = path.with_extension("new");
    // A leftover of a crash.
    let _ = fs::remove_file(&temporary);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(MODE).open(&temporary).map_err(failed)?;
    file.write_all(key.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
    fs::rename(&temporary, path).map_err(failed)?;
    Ok(LocalKey(key))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_key_is_made_once_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let first = LocalKey::open(dir.path(), "root").unwrap();
        let path = dir.path().join(".root_key");
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text.len(), 76);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let second = LocalKey::open(dir.path(), "root").unwrap();
        assert!(first.is(&text) && second.is(&text));
        for wrong in ["", "x", &text[..75], &format!("{text}x"), &text.to_uppercase()] {
            assert!(!second.is(wrong));
        }
    }

    #[test]
    fn a_file_that_cannot_be_a_key_is_refused_and_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(".root_key");
        fs::write(&path, "").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let error = LocalKey::open(dir.path(), "root").unwrap_err().to_string();
        assert!(error.contains("it is too short; delete it"), "{error}");
        fs::write(&path, "x".repeat(76)).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let error = LocalKey::open(dir.path(), "root").unwrap_err().to_string();
        assert!(error.contains("others than its owner may use it"), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap().len(), 76);
    }
}
