//! What an environment consists of: walked at most once in a while, however many minions ask.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::ignore::Ignored;
use super::roots::Roots;

/// How many entries of an environment are listed; one with more is told in the log, and cut.
const MAX_ENTRIES: usize = 100_000;
/// How many bytes their paths may have together: a reply has to carry them.
const MAX_BYTES: usize = 8 * 1024 * 1024;
/// How deep folders are looked into.
const MAX_DEPTH: usize = 64;
/// How many environments are remembered: `__env__` makes one of each name.
const MAX_ENVS: usize = 64;

/// Everything there is in an environment, by path.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Listed {
    pub(super) files: BTreeSet<String>,
    pub(super) dirs: BTreeSet<String>,
    pub(super) empty_dirs: BTreeSet<String>,
    /// What links that stay inside say.
    pub(super) links: BTreeMap<String, String>,
}

/// How folders are walked.
#[derive(Debug, Clone)]
pub(super) struct Rules {
    pub(super) ignored: Ignored,
    /// Look into folders that a link names (`fileserver_followsymlinks`).
    pub(super) follow_links: bool,
    /// Leave links out (`fileserver_ignoresymlinks`).
    pub(super) ignore_links: bool,
}

type Slot = Arc<Mutex<Option<(Instant, Arc<Listed>)>>>;

/// The environments that were walked lately.
#[derive(Debug, Default)]
pub(super) struct Lists(Mutex<HashMap<String, Slot>>);

impl Lists {
    /// Returns what an environment consists of, not older than this. Blocks; whoever asks meanwhile waits for the same
    /// walk.
    pub(super) fn of(&self, roots: &Roots, env: &str, rules: &Rules, max_age: Duration) -> Arc<Listed> {
        let Some(dirs) = roots.of(env) else { return Arc::default() };
        let slot = self.slot(env);
        let mut kept = slot.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((when, listed)) = &*kept
            && when.elapsed() < max_age
        {
            return Arc::clone(listed);
        }
        let mut walk = Walk { rules, allowed: roots.real(env), listed: Listed::default(), entries: 0, bytes: 0 };
        for dir in &dirs {
            walk.root(dir);
        }
        if walk.is_full() {
            tracing::error!(
                env,
                "the file server lists {MAX_ENTRIES} entries or {MAX_BYTES} bytes of paths at most: the rest of this \
                 environment is not listed; split it, or leave files out with file_ignore_glob"
            );
        }
        let listed = Arc::new(walk.listed);
        *kept = Some((Instant::now(), Arc::clone(&listed)));
        listed
    }

    fn slot(&self, env: &str) -> Slot {
        let mut slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if slots.len() >= MAX_ENVS && !slots.contains_key(env) {
            slots.clear();
        }
        Arc::clone(slots.entry(env.to_owned()).or_default())
    }
}

struct Walk<'a> {
    rules: &'a Rules,
    allowed: Vec<PathBuf>,
    listed: Listed,
    entries: usize,
    bytes: usize,
}

impl Walk<'_> {
    fn is_full(&self) -> bool {
        self.entries >= MAX_ENTRIES || self.bytes >= MAX_BYTES
    }

    fn root(&mut self, root: &Path) {
        let mut above = HashSet::new();
        self.folder(root, "", &mut above);
    }

    /// Walks a folder; `above` are the folders it stands in, so that a link to one of them ends.
    fn folder(&mut self, folder: &Path, rel: &str, above: &mut HashSet<(u64, u64)>) {
        let Ok(facts) = fs::metadata(folder) else { return };
        let own = (facts.dev(), facts.ino());
        if above.len() >= MAX_DEPTH || !above.insert(own) {
            return;
        }
        // One that cannot be read is as good as empty.
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            if self.is_full() {
                break;
            }
            // A name that is no text cannot be asked for.
            let Ok(name) = entry.file_name().into_string() else { continue };
            let rel = if rel.is_empty() { name } else { format!("{rel}/{name}") };
            self.entry(&entry.path(), rel, above);
        }
        above.remove(&own);
    }

    fn entry(&mut self, path: &Path, rel: String, above: &mut HashSet<(u64, u64)>) {
        let Ok(facts) = fs::symlink_metadata(path) else { return };
        let is_link = facts.file_type().is_symlink();
        let left_out = is_link && self.rules.ignore_links;
        if left_out || self.rules.ignored.matches(&rel) || self.rules.ignored.matches(&path.to_string_lossy()) {
            return;
        }
        if is_link && !Roots::holds(&self.allowed, path) {
            // It leads out or nowhere, so nothing can be asked for. Where it would stay inside, its minion may have what is
            // not here: `keep_symlinks` makes it there.
            if let Ok(says) = fs::read_link(path)
                && Roots::would_hold(&self.allowed, path, &says)
            {
                self.entries += 1;
                self.bytes += rel.len();
                self.listed.links.insert(rel, says.to_string_lossy().into_owned());
            }
            return;
        }
        self.entries += 1;
        self.bytes += rel.len();
        if is_link && let Ok(says) = fs::read_link(path) {
            self.listed.links.insert(rel.clone(), says.to_string_lossy().into_owned());
        }
        let Ok(facts) = fs::metadata(path) else { return };
        if facts.is_file() {
            self.listed.files.insert(rel);
        } else if facts.is_dir() {
            if fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none()) {
                self.listed.empty_dirs.insert(rel.clone());
            }
            if !is_link || self.rules.follow_links {
                self.folder(path, &rel, above);
            }
            self.listed.dirs.insert(rel);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn site() -> (tempfile::TempDir, Roots) {
        let folder = tempfile::tempdir().unwrap();
        let at = |path: &str| folder.path().join(path);
        for dir in ["base/web/conf", "base/empty", "base/.git", "outside"] {
            fs::create_dir_all(at(dir)).unwrap();
        }
        for file in ["base/top.sls", "base/web/init.sls", "base/web/conf/a.conf", "base/.git/config", "outside/secret"]
        {
            fs::write(at(file), "").unwrap();
        }
        symlink("web", at("base/www")).unwrap();
        symlink("../web", at("base/web/again")).unwrap();
        symlink("../outside", at("base/out")).unwrap();
        symlink("../outside/secret", at("base/secret")).unwrap();
        symlink("nowhere", at("base/broken")).unwrap();
        symlink("/no/where", at("base/absolute")).unwrap();
        symlink("web/../../nowhere", at("base/upwards")).unwrap();
        let roots = Roots::base(vec![at("base"), at("none")]);
        (folder, roots)
    }

    fn listed(roots: &Roots, follow_links: bool, ignore_links: bool) -> Arc<Listed> {
        let ignored = Ignored::new(&[".git*".into()], &[]).unwrap();
        let rules = Rules { ignored, follow_links, ignore_links };
        Lists::default().of(roots, "base", &rules, Duration::ZERO)
    }

    fn names(set: &BTreeSet<String>) -> Vec<&str> {
        set.iter().map(String::as_str).collect()
    }

    #[test]
    fn an_environment_is_listed_as_salt_does_and_links_that_leave_it_are_not() {
        let (_folder, roots) = site();
        let all = listed(&roots, true, false);
        assert_eq!(
            names(&all.files),
            ["top.sls", "web/conf/a.conf", "web/init.sls", "www/conf/a.conf", "www/init.sls"]
        );
        assert_eq!(names(&all.dirs), ["empty", "web", "web/again", "web/conf", "www", "www/again", "www/conf"]);
        assert_eq!(names(&all.empty_dirs), ["empty"]);
        assert_eq!(all.links.get("www").map(String::as_str), Some("web"));
        assert!(!all.links.contains_key("out") && !all.links.contains_key("secret"));
        assert_eq!(all.links.get("broken").map(String::as_str), Some("nowhere"), "it may lead somewhere on a minion");
        for name in ["absolute", "upwards"] {
            assert!(!all.links.contains_key(name), "{name}");
        }
    }

    #[test]
    fn links_can_be_left_alone_or_out() {
        let (_folder, roots) = site();
        assert_eq!(names(&listed(&roots, false, false).dirs), ["empty", "web", "web/again", "web/conf", "www"]);
        assert_eq!(names(&listed(&roots, true, true).dirs), ["empty", "web", "web/conf"]);
        assert!(listed(&roots, true, true).links.is_empty());
    }

    #[test]
    fn a_walk_is_kept_for_as_long_as_configured() {
        let (folder, roots) = site();
        let lists = Lists::default();
        let rules = Rules { ignored: Ignored::default(), follow_links: true, ignore_links: false };
        let first = lists.of(&roots, "base", &rules, Duration::from_secs(60));
        fs::write(folder.path().join("base/new"), "").unwrap();
        assert!(Arc::ptr_eq(&first, &lists.of(&roots, "base", &rules, Duration::from_secs(60))));
        assert!(lists.of(&roots, "base", &rules, Duration::ZERO).files.contains("new"));
        assert_eq!(*lists.of(&roots, "none", &rules, Duration::ZERO), Listed::default());
    }
}
