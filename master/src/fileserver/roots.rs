//! The directories of an environment, and the only way to a file in them: by a plain relative path that ends, links
//! followed, inside one of the roots.
//!
//! A path is resolved first and then opened part by part from its root without following any link, so that nothing which
//! changes meanwhile leads out of the roots.

use std::fs::{File, Metadata};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::Mode;
use proto::value::{Map, Value};

/// The environment that stands for every other one, and what is replaced by its name in the directories.
const ANY: &str = "__env__";
/// The longest path that is looked for, in bytes: the kernel's own limit.
const MAX_PATH: usize = 4096;

/// The directories of each environment, in the order of the configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Roots {
    envs: Vec<(String, Vec<PathBuf>)>,
}

/// A path inside an environment: its parts are names, so it leads nowhere but down.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RelPath(PathBuf);

/// A file that was opened.
#[derive(Debug)]
pub struct Found {
    /// The file.
    pub file: File,
    /// What the kernel says of it.
    pub facts: Metadata,
    /// Where it was looked for: root and path.
    pub full: PathBuf,
    /// Where it really lies.
    pub real: PathBuf,
}

impl RelPath {
    /// Reads a path as it came: nothing that is absolute, goes up or holds a NUL is one.
    pub fn parse(text: &str) -> Option<RelPath> {
        if text.is_empty() || text.len() > MAX_PATH || text.contains('\0') || text.starts_with('/') {
            return None;
        }
        let mut path = PathBuf::new();
        for part in Path::new(text).components() {
            match part {
                Component::CurDir => {}
                Component::Normal(name) => path.push(name),
                Component::ParentDir | Component::Prefix(_) | Component::RootDir => return None,
            }
        }
        (!path.as_os_str().is_empty()).then_some(RelPath(path))
    }

    /// Returns the path.
    pub fn as_path(&self) -> &Path {
        &self.0
    }

    /// Returns the path as text.
    pub fn text(&self) -> String {
        self.0.to_string_lossy().into_owned()
    }
}

impl Roots {
    /// Makes one environment, `base`.
    pub fn base(dirs: Vec<PathBuf>) -> Roots {
        Roots { envs: vec![("base".to_owned(), dirs)] }
    }

    /// Reads the option: a map of environments to lists of directories.
    pub fn read(value: &Value) -> Option<Roots> {
        let dirs = |value: &Value| -> Option<Vec<PathBuf>> {
            let one = |dir: &Value| dir.as_str().map(PathBuf::from);
            match value {
                Value::Null => Some(Vec::new()),
                list => list.as_list()?.iter().map(one).collect(),
            }
        };
        let envs: &Map = value.as_map()?;
        let env = |(name, value): (&Value, &Value)| Some((name.as_str()?.to_owned(), dirs(value)?));
        Some(Roots { envs: envs.iter().map(env).collect::<Option<_>>()? })
    }

    /// Returns the names of the environments.
    pub fn envs(&self) -> impl Iterator<Item = &str> {
        self.envs.iter().map(|(name, _)| name.as_str())
    }

    /// Returns the directories of an environment. One that is not configured may be `__env__`'s.
    pub fn of(&self, env: &str) -> Option<Vec<PathBuf>> {
        let named = |name: &str| self.envs.iter().find(|(known, _)| known == name).map(|(_, dirs)| dirs);
        if let Some(dirs) = named(env).filter(|_| env != ANY) {
            return Some(dirs.clone());
        }
        let dirs = named(ANY)?;
        // The name becomes a part of a path.
        let plain = !env.starts_with('.') && !env.contains(['/', '\0']) && !env.is_empty() && env != ANY;
        plain.then(|| dirs.iter().map(|dir| PathBuf::from(dir.to_string_lossy().replace(ANY, env))).collect())
    }

    /// Returns what all directories of an environment really are; those that do not exist are left out.
    pub fn real(&self, env: &str) -> Vec<PathBuf> {
        let dirs = self.of(env).unwrap_or_default();
        dirs.iter().filter_map(|dir| dir.canonicalize().ok()).collect()
    }

    /// Opens a regular file of an environment: the first root that has it wins. One that a link leads to counts only if
    /// it lies in a root of the same environment.
    pub fn open(&self, env: &str, path: &RelPath) -> Option<Found> {
        let (dirs, allowed) = (self.of(env)?, self.real(env));
        dirs.iter().find_map(|dir| {
            let full = dir.join(path.as_path());
            let real = full.canonicalize().ok()?;
            let (root, inner) = allowed.iter().find_map(|root| Some((root, real.strip_prefix(root).ok()?)))?;
            let file = open_beneath(root, inner).ok()?;
            let facts = file.metadata().ok().filter(Metadata::is_file)?;
            Some(Found { file, facts, full, real })
        })
    }

    /// Tells whether a path that exists lies, links followed, in a root of this environment.
    pub fn holds(allowed: &[PathBuf], path: &Path) -> bool {
        path.canonicalize().is_ok_and(|real| allowed.iter().any(|root| real.starts_with(root)))
    }
}

impl Roots {
    /// Tells whether a link that leads nowhere would, by its words, stay in a root. Nothing is read or opened on the way.
    pub fn would_hold(allowed: &[PathBuf], link: &Path, says: &Path) -> bool {
        if link.try_exists().unwrap_or(true) {
            return false;
        }
        let Some(Ok(mut place)) = link.parent().map(Path::canonicalize) else { return false };
        for part in says.components() {
            match part {
                Component::CurDir => {}
                Component::Normal(name) => place.push(name),
                Component::ParentDir => drop(place.pop()),
                Component::Prefix(_) | Component::RootDir => return false,
            }
        }
        allowed.iter().any(|root| place.starts_with(root))
    }
}

impl Found {
    /// Returns the ten numbers of Python's `os.stat`.
    pub fn stat(&self) -> Value {
        let facts = &self.facts;
        let numbers: [i128; 10] = [
            facts.mode().into(),
            facts.ino().into(),
            facts.dev().into(),
            facts.nlink().into(),
            facts.uid().into(),
            facts.gid().into(),
            facts.size().into(),
            facts.atime().into(),
            facts.mtime().into(),
            facts.ctime().into(),
        ];
        numbers.to_vec().into()
    }
}

/// Opens what lies below a directory, part by part and without following a link. A FIFO or device does not block.
fn open_beneath(root: &Path, inner: &Path) -> io::Result<File> {
    let folder = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let file = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let mut at: OwnedFd = open(root, folder, Mode::empty())?;
    let mut parts = inner.components().peekable();
    while let Some(part) = parts.next() {
        let Component::Normal(name) = part else { return Err(io::ErrorKind::InvalidInput.into()) };
        let flags = if parts.peek().is_some() { folder } else { file };
        at = openat(&at, name, flags, Mode::empty())?;
    }
    Ok(File::from(at))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::map;
    use std::os::unix::fs::symlink;

    fn site() -> (tempfile::TempDir, Roots) {
        let folder = tempfile::tempdir().unwrap();
        for dir in ["base/sub", "other", "outside", "dev"] {
            std::fs::create_dir_all(folder.path().join(dir)).unwrap();
        }
        for file in ["base/a.txt", "base/sub/b.txt", "other/a.txt", "other/c.txt", "outside/secret", "dev/d.txt"] {
            std::fs::write(folder.path().join(file), file).unwrap();
        }
        let dir = |name: &str| folder.path().join(name).display().to_string();
        let roots = map! { "base" => vec![dir("base"), dir("other")], "__env__" => vec![dir("__env__")] };
        let roots = Roots::read(&roots.into()).unwrap();
        (folder, roots)
    }

    fn read(roots: &Roots, env: &str, path: &str) -> Option<String> {
        let found = roots.open(env, &RelPath::parse(path)?)?;
        std::io::read_to_string(found.file).ok()
    }

    #[test]
    fn the_first_root_that_has_a_file_wins() {
        let (_folder, roots) = site();
        assert_eq!(read(&roots, "base", "a.txt").as_deref(), Some("base/a.txt"));
        assert_eq!(read(&roots, "base", "./sub//b.txt").as_deref(), Some("base/sub/b.txt"));
        assert_eq!(read(&roots, "base", "c.txt").as_deref(), Some("other/c.txt"));
        assert_eq!(read(&roots, "base", "sub"), None, "a folder is no file");
        assert_eq!(read(&roots, "base", "none"), None);
    }

    #[test]
    fn no_path_leads_out_of_the_roots() {
        let (folder, roots) = site();
        let secret = folder.path().join("outside/secret").display().to_string();
        for path in [
            "",
            ".",
            "..",
            "../outside/secret",
            "sub/../../outside/secret",
            "a.txt/../../outside/secret",
            "/etc/passwd",
            "//etc/passwd",
            "a.txt\0",
            "..%2foutside%2fsecret",
            "%2e%2e/outside/secret",
            "..\\outside\\secret",
            "sub\\..\\..\\outside\\secret",
            &secret,
            &"x/".repeat(3_000),
        ] {
            assert_eq!(read(&roots, "base", path), None, "{path:?}");
        }
    }

    #[test]
    fn a_link_counts_only_where_it_stays_inside() {
        let (folder, roots) = site();
        let base = folder.path().join("base");
        symlink("sub/b.txt", base.join("inside")).unwrap();
        symlink(folder.path().join("other/c.txt"), base.join("to-the-other-root")).unwrap();
        symlink(folder.path().join("outside/secret"), base.join("leaves")).unwrap();
        symlink("../outside", base.join("folder-leaves")).unwrap();
        symlink("leaves", base.join("twice")).unwrap();
        symlink("loop", base.join("loop")).unwrap();
        assert_eq!(read(&roots, "base", "inside").as_deref(), Some("base/sub/b.txt"));
        assert_eq!(read(&roots, "base", "to-the-other-root").as_deref(), Some("other/c.txt"));
        for path in ["leaves", "folder-leaves/secret", "twice", "loop"] {
            assert_eq!(read(&roots, "base", path), None, "{path}");
        }
    }

    #[test]
    fn a_link_that_appears_after_the_look_is_not_followed() {
        let (folder, _) = site();
        symlink("../outside", folder.path().join("base/late")).unwrap();
        let base = folder.path().join("base").canonicalize().unwrap();
        assert!(open_beneath(&base, Path::new("late/secret")).is_err());
        symlink("../outside/secret", folder.path().join("base/late-file")).unwrap();
        assert!(open_beneath(&base, Path::new("late-file")).is_err());
        assert!(open_beneath(&base, Path::new("sub/b.txt")).is_ok());
    }

    #[test]
    fn a_fifo_is_no_file_and_holds_nobody_up() {
        let (folder, roots) = site();
        nix::unistd::mkfifo(&folder.path().join("base/fifo"), Mode::S_IRWXU).unwrap();
        assert_eq!(read(&roots, "base", "fifo"), None);
    }

    #[test]
    fn an_unknown_environment_is_the_one_for_all_if_its_name_is_a_name() {
        let (_folder, roots) = site();
        assert_eq!(read(&roots, "dev", "d.txt").as_deref(), Some("dev/d.txt"));
        for env in ["../dev", "..", ".", "", "__env__", "a/b", "x\0"] {
            assert_eq!(read(&roots, env, "d.txt"), None, "{env:?}");
        }
        assert_eq!(read(&Roots::base(vec![]), "dev", "d.txt"), None);
    }

    #[test]
    fn what_is_no_map_of_lists_is_no_roots() {
        for wrong in [Value::from("x"), map! { "base" => "x" }.into(), map! { "base" => vec![1] }.into()] {
            assert_eq!(Roots::read(&wrong), None, "{wrong:?}");
        }
    }
}
