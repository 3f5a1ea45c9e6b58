//! `cachedir/proc/<jid>`: one file for each job that runs, as Salt's minion keeps them for tools on its host
//! (salt-wire.md §8.5). Best effort: a job runs without its file too.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use proto::ids::Jid;
use proto::salt::msgpack;
use proto::value::{Map, MapExt};
use tracing::warn;

/// The folder of these files; cheap to clone.
#[derive(Debug, Clone)]
pub struct ProcFolder {
    folder: PathBuf,
}

impl ProcFolder {
    /// Makes the folder, and removes what an earlier process left there.
    pub fn open(cachedir: &Path) -> io::Result<ProcFolder> {
        let folder = cachedir.join("proc");
        DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            if entry.file_name().to_str().is_some_and(|name| Jid::parse(name).is_ok()) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(ProcFolder { folder })
    }

    /// Writes a job's file: its publication, and the process. Blocks.
    pub(in super::super) fn write(&self, jid: &Jid, publication: &Map) {
        let mut job = publication.clone();
        job.set("pid", std::process::id());
        let path = self.folder.join(jid.as_str());
        // A reader sees the whole file or none; nobody reads a name with a dot before it as a job.
        let draft = self.folder.join(format!(".{jid}"));
        let written = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft);
        let placed = written
            .and_then(|mut file| file.write_all(&msgpack::encode_map(&job)))
            .and_then(|()| fs::rename(&draft, &path));
        if let Err(error) = placed {
            warn!(path = %path.display(), %error, "the file of a running job is not written");
        }
    }

    /// Removes a job's file. Blocks.
    pub(in super::super) fn remove(&self, jid: &Jid) {
        // It may never have been written.
        let _ = fs::remove_file(self.folder.join(jid.as_str()));
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use proto::map;

    use super::*;

    #[test]
    fn a_file_holds_the_publication_and_the_process_and_goes_with_the_job() {
        let cache = tempfile::tempdir().unwrap();
        let jid = Jid::parse("20261120235232821625").unwrap();
        let proc = ProcFolder::open(cache.path()).unwrap();
        proc.write(&jid, &map! { "fun" => "test.sleep", "jid" => &jid });
        let path = cache.path().join("proc").join(jid.as_str());
        let job = msgpack::decode_map(&fs::read(&path).unwrap()).unwrap();
        assert_eq!(job.text("fun"), Some("test.sleep"));
        assert_eq!(job.at("pid"), Some(&std::process::id().into()));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        proc.remove(&jid);
        assert!(!path.exists());
    }

    #[test]
    fn what_an_earlier_process_left_is_removed_and_nothing_else() {
        let cache = tempfile::tempdir().unwrap();
        let folder = cache.path().join("proc");
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("20261120235232821625"), "").unwrap();
        fs::write(folder.join("notes"), "").unwrap();
        ProcFolder::open(cache.path()).unwrap();
        let left: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["notes"]);
    }
}
