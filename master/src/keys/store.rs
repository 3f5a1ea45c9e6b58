//! Keys on the disk, in Salt's layout: `pki_dir/{minions,minions_pre,minions_rejected,minions_denied}/<id>`.
//!
//! A file is written under a name with a leading dot, which Salt ignores too, and renamed: nobody ever reads half of it.
//! What an operator does is synced; what merely showed up is not, since it will show up again.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use proto::ids::MinionId;
use proto::keys::{BadKey, MAX_KEY_FILE, PublicKey};

use super::state::Files;
use super::{KeyChange, KeyState};

/// The rights of a public key, as Salt sets them. The folders keep others out.
const KEY_MODE: u32 = 0o644;

/// Beyond so many changes the whole file system is synced once, instead of each file.
const SYNC_EACH: usize = 64;

/// An error that names its file.
#[derive(Debug, thiserror::Error)]
#[error("{what} {path}; check its owner and rights, it must belong to the master's user")]
pub struct FileError {
    what: &'static str,
    path: PathBuf,
    source: io::Error,
}

/// Why a file in the store does not count.
#[derive(Debug, thiserror::Error)]
enum Unusable {
    #[error("it cannot be read")]
    Io(#[from] io::Error),
    #[error("it is not a plain file")]
    NotPlain,
    #[error(transparent)]
    Key(#[from] BadKey),
}

/// The four folders.
#[derive(Debug)]
pub(super) struct Store {
    pki_dir: PathBuf,
}

impl Store {
    /// Makes the folders that are missing, for nobody else to enter.
    pub(super) fn open(pki_dir: &Path) -> Result<Store, FileError> {
        let store = Store { pki_dir: pki_dir.to_owned() };
        make_folder(pki_dir)?;
        for state in KeyState::ALL {
            make_folder(&store.folder(state))?;
        }
        Ok(store)
    }

    pub(super) fn folder(&self, state: KeyState) -> PathBuf {
        self.pki_dir.join(state.folder())
    }

    pub(super) fn pki_dir(&self) -> &Path {
        &self.pki_dir
    }

    fn path(&self, state: KeyState, id: &MinionId) -> PathBuf {
        self.folder(state).join(id.as_str())
    }

    /// Reads everything.
    pub(super) fn scan(&self) -> Result<BTreeMap<MinionId, Files>, FileError> {
        let mut found: BTreeMap<MinionId, Files> = BTreeMap::new();
        for state in KeyState::ALL {
            let folder = self.folder(state);
            let failed = |source| FileError { what: "list the keys in", path: folder.clone(), source };
            for entry in fs::read_dir(&folder).map_err(failed)? {
                let name = entry.map_err(failed)?.file_name();
                let Some(id) = id_of_file(&folder, &name) else { continue };
                if let Some(key) = self.read(state, &id) {
                    found.entry(id).or_default().put(state, key);
                }
            }
        }
        Ok(found)
    }

    /// Reads what lies under one name.
    pub(super) fn look(&self, id: &MinionId) -> Files {
        let mut files = Files::default();
        for state in KeyState::ALL {
            if let Some(key) = self.read(state, id) {
                files.put(state, key);
            }
        }
        files
    }

    fn read(&self, state: KeyState, id: &MinionId) -> Option<PublicKey> {
        let path = self.path(state, id);
        match read_key(&path) {
            Ok(key) => Some(key),
            Err(Unusable::Io(error)) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "ignoring a file that is not a usable key");
                None
            }
        }
    }

    /// Carries a change out. An id is in one of the folders at most afterwards, `minions_denied` apart.
    pub(super) fn perform(&self, change: &KeyChange) -> Result<(), FileError> {
        let KeyChange { id, key, from, to } = change;
        if let Some(to) = to {
            match from {
                // Another key in the same state: its file is replaced at once.
                Some(from) if from == to => self.write(id, *to, key)?,
                Some(from) => self.rename(id, *from, *to)?,
                None => self.write(id, *to, key)?,
            }
        }
        match (from, to) {
            (None, _) | (_, Some(KeyState::Denied)) => {}
            (Some(KeyState::Denied), None) => self.remove(id, KeyState::Denied)?,
            (Some(_), to) => {
                // What lay hidden behind the state that counted must not come to light now.
                let others = [KeyState::Accepted, KeyState::Pending, KeyState::Rejected];
                others.into_iter().filter(|other| Some(*other) != *to).try_for_each(|other| self.remove(id, other))?;
            }
        }
        Ok(())
    }

    fn write(&self, id: &MinionId, state: KeyState, key: &PublicKey) -> Result<(), FileError> {
        let path = self.path(state, id);
        write_whole(&path, format!("{}\n", key.to_pem()).as_bytes(), KEY_MODE, Replace::Yes)
    }

    fn rename(&self, id: &MinionId, from: KeyState, to: KeyState) -> Result<(), FileError> {
        let path = self.path(to, id);
        fs::rename(self.path(from, id), &path).map_err(|source| FileError { what: "move a key to", path, source })
    }

    fn remove(&self, id: &MinionId, state: KeyState) -> Result<(), FileError> {
        let path = self.path(state, id);
        match fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(FileError { what: "delete the key", path, source })
            }
            _ => Ok(()),
        }
    }

    /// Makes changes last: after this they survive a crash.
    pub(super) fn sync(&self, changes: &[KeyChange]) -> Result<(), FileError> {
        let failed = |path: &Path, source| FileError { what: "sync", path: path.to_owned(), source };
        if changes.len() > SYNC_EACH {
            let folder = File::open(&self.pki_dir).map_err(|source| failed(&self.pki_dir, source))?;
            return nix::unistd::syncfs(folder).map_err(|errno| failed(&self.pki_dir, errno.into()));
        }
        let files = changes.iter().filter_map(|change| change.to.map(|to| self.path(to, &change.id)));
        for path in files.chain(KeyState::ALL.map(|state| self.folder(state))) {
            File::open(&path).and_then(|file| file.sync_all()).map_err(|source| failed(&path, source))?;
        }
        Ok(())
    }
}

/// Returns the id that a file name is, if it is one. Names with a leading dot are nobody's.
pub(super) fn id_of_file(folder: &Path, name: &std::ffi::OsStr) -> Option<MinionId> {
    use std::os::unix::ffi::OsStrExt;
    if name.as_bytes().starts_with(b".") {
        return None;
    }
    let id = MinionId::parse_bytes(name.as_bytes());
    if let Err(error) = &id {
        tracing::warn!(folder = %folder.display(), name = ?name, %error, "ignoring a key file whose name is not a minion id");
    }
    id.ok()
}

fn read_key(path: &Path) -> Result<PublicKey, Unusable> {
    // Salt ignores symlinks here too; a pipe must not hold up the store.
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let file = OpenOptions::new().read(true).custom_flags(flags.bits()).open(path).map_err(|error| {
        if error.raw_os_error() == Some(nix::errno::Errno::ELOOP as i32) { Unusable::NotPlain } else { error.into() }
    })?;
    if !file.metadata()?.is_file() {
        return Err(Unusable::NotPlain);
    }
    Ok(PublicKey::from_pem(&read_bounded(file)?)?)
}

/// Reads a key file, but not more than one byte beyond the limit, which makes it too large for every parser.
pub(super) fn read_bounded(file: File) -> io::Result<String> {
    let mut text = String::new();
    file.take(MAX_KEY_FILE as u64 + 1).read_to_string(&mut text)?;
    Ok(text)
}

/// Whether a file that is there already may be replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Replace {
    No,
    Yes,
}

/// Writes a file under a temporary name, with its final rights from the start, and puts it in its place at once.
pub(super) fn write_whole(path: &Path, text: &[u8], mode: u32, replace: Replace) -> Result<(), FileError> {
    let failed = |source| FileError { what: "write", path: path.to_owned(), source };
    let folder = path.parent().unwrap_or(Path::new("."));
    let temporary = folder.join(format!(".halite-{}-{mode:o}.new", std::process::id()));
    // Left behind by a crash of this very process id, if at all.
    let _ = fs::remove_file(&temporary);
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode & 0o700).open(&temporary)?;
        file.write_all(text)?;
        file.set_permissions(Permissions::from_mode(mode))?;
        match replace {
            Replace::Yes => fs::rename(&temporary, path),
            // A link fails where a rename would overwrite.
            Replace::No => {
                file.sync_all()?;
                fs::hard_link(&temporary, path)?;
                fs::remove_file(&temporary)?;
                File::open(folder)?.sync_all()
            }
        }
    })();
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written.map_err(failed)
}

fn make_folder(path: &Path) -> Result<(), FileError> {
    if path.is_dir() {
        return Ok(());
    }
    let failed = |source| FileError { what: "make the folder", path: path.to_owned(), source };
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed)?;
    fs::set_permissions(path, Permissions::from_mode(0o700)).map_err(failed)
}
