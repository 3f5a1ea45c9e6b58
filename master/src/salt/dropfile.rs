//! `cachedir/.dfn`: by this file Salt's own tools ask the master for a new shared key (salt-wire.md §2.7).

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// The name of the file.
const NAME: &str = ".dfn";
/// The rights that it must have; anybody could have made another one.
const MODE: u32 = 0o400;

/// Takes the file away and tells whether it asks this master for a new key: Salt 3006 leaves it empty, later ones write
/// the master's id. Blocks for a moment.
pub(super) fn take(cachedir: &Path, id: &str) -> bool {
    let path = cachedir.join(NAME);
    let Ok(known) = fs::symlink_metadata(&path) else { return false };
    let asks = known.is_file() && known.permissions().mode() & 0o777 == MODE && {
        let text = fs::read_to_string(&path).unwrap_or_default();
        text.is_empty() || text.trim() == id || text.trim() == id.trim_end_matches("_master")
    };
    if !asks {
        tracing::warn!(path = %path.display(), "a drop file that is not this master's, or has other rights than 0400");
    }
    if let Err(error) = fs::remove_file(&path) {
        tracing::error!(path = %path.display(), error = &error as &dyn std::error::Error, "the drop file stays");
        return false;
    }
    asks
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, mode: u32, asks: bool) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(NAME);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        assert_eq!(take(dir.path(), "m1_master"), asks, "{text:?} {mode:o}");
        assert!(!path.exists(), "it is taken away in any case");
        assert!(!take(dir.path(), "m1_master"));
    }

    #[test]
    fn only_a_file_of_this_master_asks_for_a_new_key() {
        check("", 0o400, true);
        check("m1_master", 0o400, true);
        check("m1", 0o400, true);
        check("other", 0o400, false);
        check("", 0o644, false);
    }
}
