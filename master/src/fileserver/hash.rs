//! Hashes of files: read in pieces, and remembered until the file changes.

use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use ring::digest::{self, Context};

/// How many hashes are remembered; beyond, the memory starts anew.
const MAX_HASHES: usize = 10_000;
/// How much of a file is read at once.
const PIECE: usize = 256 * 1024;

/// A hash function that files may be named by (`hash_type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HashType {
    /// SHA-1.
    Sha1,
    /// SHA-256, Salt's default.
    #[default]
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

impl HashType {
    /// Reads Salt's name.
    pub fn parse(name: &str) -> Option<HashType> {
        const ALL: [HashType; 4] = [HashType::Sha1, HashType::Sha256, HashType::Sha384, HashType::Sha512];
        ALL.into_iter().find(|known| known.name() == name)
    }

    /// Returns Salt's name.
    pub fn name(self) -> &'static str {
        match self {
            HashType::Sha1 => "sha1",
            HashType::Sha256 => "sha256",
            HashType::Sha384 => "sha384",
            HashType::Sha512 => "sha512",
        }
    }

    fn algorithm(self) -> &'static digest::Algorithm {
        match self {
            HashType::Sha1 => &digest::SHA1_FOR_LEGACY_USE_ONLY,
            HashType::Sha256 => &digest::SHA256,
            HashType::Sha384 => &digest::SHA384,
            HashType::Sha512 => &digest::SHA512,
        }
    }
}

/// What a file is as long as it is the same: where it lies, its size and when it was changed.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Version {
    path: PathBuf,
    inode: (u64, u64),
    size: u64,
    changed: [(i64, i64); 2],
}

impl Version {
    fn of(path: &Path, facts: &Metadata) -> Version {
        Version {
            path: path.to_owned(),
            inode: (facts.dev(), facts.ino()),
            size: facts.size(),
            // The time of the last change of the inode cannot be set by programs.
            changed: [(facts.mtime(), facts.mtime_nsec()), (facts.ctime(), facts.ctime_nsec())],
        }
    }
}

/// The hashes that are known.
#[derive(Debug, Default)]
pub(super) struct Hashes(Mutex<HashMap<Version, String>>);

impl Hashes {
    /// Returns the hash of an open file, as hex digits. Blocks while the file is read.
    pub(super) fn of(&self, path: &Path, file: &mut File, hash_type: HashType) -> io::Result<String> {
        let before = Version::of(path, &file.metadata()?);
        if let Some(known) = self.lock().get(&before) {
            return Ok(known.clone());
        }
        let hash = hash(file, hash_type)?;
        // A file that was written meanwhile is hashed again the next time.
        if Version::of(path, &file.metadata()?) == before {
            let mut known = self.lock();
            if known.len() >= MAX_HASHES {
                known.clear();
            }
            known.insert(before, hash.clone());
        }
        Ok(hash)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Version, String>> {
        // Each change is one insert; a panic leaves the map whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn hash(file: &mut File, hash_type: HashType) -> io::Result<String> {
    file.seek(SeekFrom::Start(0))?;
    let (mut context, mut piece) = (Context::new(hash_type.algorithm()), vec![0; PIECE]);
    loop {
        match file.read(&mut piece)? {
            0 => break,
            read => context.update(&piece[..read]),
        }
    }
    Ok(context.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_changes_has_another_hash() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        let hashes = Hashes::default();
        let of = |text: &str| {
            std::fs::write(&path, text).unwrap();
            hashes.of(&path, &mut File::open(&path).unwrap(), HashType::Sha256).unwrap()
        };
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(of("abc"), abc);
        assert_ne!(of("abcd"), abc);
        assert_eq!(of("abc"), abc);
        assert_eq!(HashType::parse("sha1"), Some(HashType::Sha1));
        assert_eq!(HashType::parse("md5"), None);
    }

    #[test]
    fn an_unchanged_file_is_read_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        std::fs::write(&path, "abc").unwrap();
        let hashes = Hashes::default();
        let mut file = File::open(&path).unwrap();
        let first = hashes.of(&path, &mut file, HashType::Sha256).unwrap();
        let after = file.stream_position().unwrap();
        file.seek(SeekFrom::Start(1)).unwrap();
        assert_eq!(hashes.of(&path, &mut file, HashType::Sha256).unwrap(), first);
        assert_eq!((after, file.stream_position().unwrap()), (3, 1), "the second time nothing was read");
    }
}
