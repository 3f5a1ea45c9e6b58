//! What a disk holds after its power was cut: what was synced, and of the rest whatever it pleases.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use halite_tests::swarm::fault::Dice;

use super::trace::{Call, Inode, Step};

/// A disk writes so many bytes or none of them.
const SECTOR: usize = 512;

/// What becomes of that which was not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unsynced {
    /// All of it is there: what a kill leaves.
    Kept,
    /// None of it is there.
    Lost,
    /// Each call's, or not.
    Some,
    /// Each sector, or not.
    Torn,
}

/// Writes into `to` what lay under `from` when the power was cut at a moment.
pub(super) fn restore(steps: &[Step], cut: u64, unsynced: Unsynced, dice: &mut Dice, from: &Path, to: &Path) {
    let before: Vec<&Step> = steps.iter().filter(|step| step.began < cut).collect();
    let names = names(&before, cut, unsynced, dice);
    for folder in &names.folders {
        fs::create_dir_all(to.join(folder.strip_prefix(from).unwrap())).unwrap();
    }
    for (path, inode) in &names.files {
        let path = to.join(path.strip_prefix(from).unwrap());
        // A file whose folder is gone is gone too.
        if path.parent().is_some_and(Path::is_dir) {
            fs::write(path, content(&before, cut, *inode, unsynced, dice)).unwrap();
        }
    }
}

/// Returns when the last sync began that ended before the cut: what had ended by then, the disk had to have done.
fn certain(before: &[&Step], cut: u64, syncs: impl Fn(&Call) -> bool) -> u64 {
    let ended = before.iter().filter(|step| step.ended <= cut && syncs(&step.call));
    ended.map(|step| step.began).max().unwrap_or(0)
}

#[derive(Default)]
struct Names {
    folders: BTreeSet<PathBuf>,
    files: BTreeMap<PathBuf, Inode>,
}

impl Names {
    fn apply(&mut self, call: &Call) {
        match call {
            Call::Create(path, inode) => _ = self.files.insert(path.clone(), *inode),
            Call::MakeFolder(path) => _ = self.folders.insert(path.clone()),
            Call::Remove(path) => _ = self.files.remove(path),
            Call::Rename(from, to) => {
                if let Some(inode) = self.files.remove(from) {
                    self.files.insert(to.clone(), inode);
                }
            }
            _ => {}
        }
    }
}

/// Returns the names that there are. Those of one folder change in order; how far they have come is the disk's choice.
fn names(before: &[&Step], cut: u64, unsynced: Unsynced, dice: &mut Dice) -> Names {
    let mut by_folder: BTreeMap<&Path, Vec<&Step>> = BTreeMap::new();
    for step in before {
        let (Call::Create(path, _) | Call::MakeFolder(path) | Call::Remove(path) | Call::Rename(path, _)) = &step.call
        else {
            continue;
        };
        by_folder.entry(path.parent().unwrap()).or_default().push(step);
    }
    let mut names = Names::default();
    for (folder, steps) in by_folder {
        let is_sync = |call: &Call| matches!(call, Call::SyncFolder(synced) if synced == folder);
        let synced = certain(before, cut, is_sync);
        let certain = steps.iter().rposition(|step| step.ended <= synced).map_or(0, |at| at + 1);
        let open = steps.len() - certain;
        let more = match unsynced {
            Unsynced::Kept => open,
            Unsynced::Lost => 0,
            Unsynced::Some | Unsynced::Torn => dice.pick(open + 1),
        };
        steps[..certain + more].iter().for_each(|step| names.apply(&step.call));
    }
    names
}

fn content(before: &[&Step], cut: u64, inode: Inode, unsynced: Unsynced, dice: &mut Dice) -> Vec<u8> {
    let is_sync = |call: &Call| matches!(call, Call::Sync(synced) if *synced == inode);
    let (mut content, synced) = (Vec::new(), certain(before, cut, is_sync));
    for step in before {
        let sure = step.ended <= synced || unsynced == Unsynced::Kept;
        match &step.call {
            Call::Truncate(of, length)
                if *of == inode && (sure || (unsynced != Unsynced::Lost && dice.pick(2) == 0)) =>
            {
                content.resize(*length, 0);
            }
            Call::Write(of, at, bytes) if *of == inode => match unsynced {
                _ if sure => write(&mut content, *at, bytes),
                Unsynced::Some if dice.pick(2) == 0 => write(&mut content, *at, bytes),
                Unsynced::Torn => tear(&mut content, *at, bytes, dice),
                _ => {}
            },
            _ => {}
        }
    }
    content
}

fn write(content: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    if content.len() < at + bytes.len() {
        content.resize(at + bytes.len(), 0);
    }
    content[at..at + bytes.len()].copy_from_slice(bytes);
}

/// Writes some of the sectors.
fn tear(content: &mut Vec<u8>, at: usize, bytes: &[u8], dice: &mut Dice) {
    let mut done = 0;
    while done < bytes.len() {
        let end = ((at + done) / SECTOR + 1) * SECTOR - at;
        let end = end.min(bytes.len());
        if dice.pick(2) == 0 {
            write(content, at + done, &bytes[done..end]);
        }
        done = end;
    }
}

#[test]
fn what_was_synced_is_there_and_the_rest_may_be() {
    let step = |began, ended, call| Step { began, ended, call };
    let file = PathBuf::from("/r/a");
    let steps = [
        step(1, 2, Call::Create(file.clone(), 0)),
        step(3, 4, Call::Write(0, 0, b"old".to_vec())),
        step(5, 8, Call::Sync(0)),
        step(5, 8, Call::SyncFolder("/r".into())),
        step(9, 10, Call::Write(0, 0, b"new".to_vec())),
        step(11, 12, Call::Remove(file)),
    ];
    let after = |cut, unsynced| {
        let folder = tempfile::tempdir().unwrap();
        restore(&steps, cut, unsynced, &mut Dice::new(1), Path::new("/r"), folder.path());
        fs::read_to_string(folder.path().join("a")).ok()
    };
    assert_eq!(after(7, Unsynced::Lost), None, "the sync has not ended");
    assert_eq!(after(9, Unsynced::Lost).as_deref(), Some("old"));
    assert_eq!(after(11, Unsynced::Kept).as_deref(), Some("new"));
    assert_eq!(after(20, Unsynced::Lost).as_deref(), Some("old"));
    assert_eq!(after(20, Unsynced::Kept), None, "the file was removed");
}
