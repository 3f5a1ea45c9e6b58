//! Files that minions push (`_file_recv`, off unless `file_recv`): written below `cachedir/minions/<id>/files/`, in the order
//! of their parts, never larger than `file_recv_max_size`, and never anywhere else.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::{Mode, mkdirat};
use proto::ids::MinionId;

/// How many folders a pushed file may lie in.
const MAX_PARTS: usize = 64;

/// Why a part is not taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReceiveError {
    /// The disk.
    #[error("write a pushed file")]
    Disk(#[from] io::Error),
    /// It does not begin where the file ends.
    #[error("a part of a pushed file begins behind its end")]
    Gap,
    /// The path leads somewhere else.
    #[error("a pushed file has an impossible path")]
    Path,
    /// The file would be too large.
    #[error("a pushed file is larger than file_recv_max_size")]
    TooLarge,
}

/// A part of a pushed file.
#[derive(Debug)]
pub(super) struct Part<'a> {
    pub(super) path: &'a [String],
    pub(super) size: u64,
    pub(super) loc: u64,
    pub(super) data: &'a [u8],
}

/// Writes a part. Blocks. The first part begins the file anew.
pub(super) fn write(cachedir: &Path, id: &MinionId, part: &Part<'_>, longest: u64) -> Result<(), ReceiveError> {
    let end = part.loc.checked_add(part.data.len() as u64).ok_or(ReceiveError::TooLarge)?;
    if end > longest || part.size > longest {
        return Err(ReceiveError::TooLarge);
    }
    let (name, folders) = part.path.split_last().ok_or(ReceiveError::Path)?;
    let plain = |part: &String| {
        !matches!(part.as_str(), "" | "." | "..") && !part.contains(['/', '\\', '\0']) && part.len() <= 255
    };
    if part.path.len() > MAX_PARTS || !part.path.iter().all(plain) {
        return Err(ReceiveError::Path);
    }
    let above: [&str; 3] = ["minions", id.as_str(), "files"];
    let mut at = open(cachedir, folder_flags(), Mode::empty()).map_err(io::Error::from)?;
    for folder in above.into_iter().chain(folders.iter().map(String::as_str)) {
        at = enter(&at, folder)?;
    }
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
    let file = openat(&at, PathBuf::from(name).as_path(), flags, Mode::S_IRUSR | Mode::S_IWUSR);
    let mut file = File::from(file.map_err(io::Error::from)?);
    let facts = file.metadata()?;
    if !facts.is_file() {
        return Err(ReceiveError::Path);
    }
    // Only what is there is written over: a file with holes would look larger than what was sent.
    if part.loc > facts.len() {
        return Err(ReceiveError::Gap);
    }
    if part.loc == 0 {
        file.set_len(0)?;
    }
    file.seek(SeekFrom::Start(part.loc))?;
    Ok(file.write_all(part.data)?)
}

fn folder_flags() -> OFlag {
    OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC
}

/// Goes into a folder, which is made if there is none. A link is none.
fn enter(at: &OwnedFd, name: &str) -> io::Result<OwnedFd> {
    match mkdirat(at, name, Mode::S_IRWXU) {
        Ok(()) | Err(Errno::EEXIST) => {}
        Err(error) => return Err(error.into()),
    }
    Ok(openat(at, name, folder_flags(), Mode::empty())?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn push(dir: &Path, path: &[&str], loc: u64, data: &[u8]) -> Result<(), ReceiveError> {
        let path: Vec<String> = path.iter().map(|part| (*part).to_owned()).collect();
        let part = Part { path: &path, size: 10, loc, data };
        write(dir, &MinionId::parse("m1").unwrap(), &part, 10)
    }

    #[test]
    fn a_file_is_written_part_by_part_for_the_master_alone() {
        let dir = tempfile::tempdir().unwrap();
        push(dir.path(), &["var", "log", "x"], 0, b"01234").unwrap();
        push(dir.path(), &["var", "log", "x"], 5, b"56").unwrap();
        let path = dir.path().join("minions/m1/files/var/log/x");
        assert_eq!(std::fs::read(&path).unwrap(), b"0123456");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        push(dir.path(), &["var", "log", "x"], 0, b"new").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
    }

    #[test]
    fn no_part_leads_anywhere_else() {
        let dir = tempfile::tempdir().unwrap();
        for path in [&[".."][..], &["a", "..", "b"], &["a/b"], &[""], &["."], &["a\0"], &[], &["..\\x"]] {
            assert!(matches!(push(dir.path(), path, 0, b"x"), Err(ReceiveError::Path)), "{path:?}");
        }
        push(dir.path(), &["x"], 0, b"x").unwrap();
        let files = dir.path().join("minions/m1/files");
        let outside = tempfile::tempdir().unwrap();
        symlink(outside.path(), files.join("folder")).unwrap();
        symlink(outside.path().join("file"), files.join("file")).unwrap();
        assert!(push(dir.path(), &["folder", "y"], 0, b"x").is_err());
        assert!(push(dir.path(), &["file"], 0, b"x").is_err());
        assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_file_grows_to_the_limit_and_has_no_holes() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(push(dir.path(), &["x"], 0, b"01234567890"), Err(ReceiveError::TooLarge)));
        assert!(matches!(push(dir.path(), &["x"], u64::MAX, b"0"), Err(ReceiveError::TooLarge)));
        assert!(matches!(push(dir.path(), &["x"], 9, b"01"), Err(ReceiveError::TooLarge)));
        assert!(matches!(push(dir.path(), &["x"], 5, b"0"), Err(ReceiveError::Gap)));
    }
}
