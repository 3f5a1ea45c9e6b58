//! Replaces a file as a whole: whoever reads it sees the old text or the new one, also after a crash.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};

/// The mode of a file that was not there before.
const NEW_MODE: u32 = 0o644;

/// Writes a file anew. It keeps its mode, and its owner where the system lets us; a symbolic link keeps pointing to it.
pub fn write(path: &Path, text: &[u8]) -> io::Result<()> {
    let path = target(path)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = path.file_name().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
    // The process id keeps two writers apart; a leftover of a crash is overwritten.
    let aside = folder.join(format!(".{}.{}", name.to_string_lossy(), std::process::id()));
    let written = fill(&aside, &path, text).and_then(|()| fs::rename(&aside, &path));
    if written.is_err() {
        // What failed half-way shall not stay; that it is there is worth less than the first error.
        let _ = fs::remove_file(&aside);
    }
    written?;
    // The name is on the disk only with its folder.
    File::open(folder)?.sync_all()
}

/// Returns the file that a symbolic link means.
fn target(path: &Path) -> io::Result<PathBuf> {
    match fs::symlink_metadata(path) {
        Ok(meta) if meta.file_type().is_symlink() => fs::canonicalize(path),
        _ => Ok(path.to_owned()),
    }
}

fn fill(aside: &Path, old: &Path, text: &[u8]) -> io::Result<()> {
    let before = fs::metadata(old).ok();
    let mode = before.as_ref().map_or(NEW_MODE, |meta| meta.permissions().mode() & 0o7777);
    let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(aside)?;
    file.write_all(text)?;
    if let Some(before) = before {
        // Only root may give a file away; our own file is as good otherwise.
        let _ = fchown(&file, Some(before.uid()), Some(before.gid()));
    }
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_keeps_its_mode() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("grains");
        write(&path, b"one").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o644);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        write(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_link_stays_a_link_and_nothing_is_left_behind() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("file"), folder.path().join("link"));
        fs::write(&file, "old").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        write(&link, b"new").unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().file_type().is_symlink());
        assert_eq!(fs::read(&file).unwrap(), b"new");
        assert!(write(&folder.path().join("no/such/file"), b"x").is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }
}
