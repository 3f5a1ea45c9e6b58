//! Which framing a reader of the event socket expects (salt-wire.md §7.2). It sends nothing, so its bytes do not tell: the
//! kernel names its process, the process shows which Python packages it has loaded, and the Salt beside them says its
//! version.

use std::fs::{File, OpenOptions};
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use proto::salt::ipc::Framing;

/// The most that is read of what a process has mapped. A Salt tool's are some 100 KiB.
const MAX_MAPS: u64 = 2 * 1024 * 1024;
/// How many directories of packages are looked into.
const MAX_PLACES: usize = 8;
/// The most that is read of a file that holds a version.
const MAX_VERSION_FILE: u64 = 4 * 1024;

/// How the framing for readers is chosen (`ipc_framing`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FramingPolicy {
    /// For each reader by the version of its Salt; `stream` where that does not show.
    Auto,
    /// Each event after its length, for everybody: what 3006.26 and later 3006 read.
    Prefixed,
    /// End to end, for everybody: what all others read.
    Stream,
}

impl FramingPolicy {
    /// Reads a name of the configuration.
    pub fn parse(name: &str) -> Option<FramingPolicy> {
        match name {
            "auto" => Some(FramingPolicy::Auto),
            _ => Framing::parse(name).map(|framing| match framing {
                Framing::Prefixed => FramingPolicy::Prefixed,
                Framing::Stream => FramingPolicy::Stream,
            }),
        }
    }

    /// Returns the framing for the reader with this process id. Reads files: callers run it off the async threads.
    pub(super) fn of(self, pid: Option<i32>) -> Framing {
        match self {
            FramingPolicy::Auto => {
                let prefixed = pid.and_then(version_of).is_some_and(reads_prefixed);
                if prefixed { Framing::Prefixed } else { Framing::Stream }
            }
            FramingPolicy::Prefixed => Framing::Prefixed,
            FramingPolicy::Stream => Framing::Stream,
        }
    }
}

/// A release of Salt: `3006.30`.
type Version = (u32, u32);

/// Only one line of releases reads what it writes.
fn reads_prefixed((major, patch): Version) -> bool {
    major == 3006 && patch >= 26
}

/// Returns the version of the Salt that a process has loaded.
fn version_of(pid: i32) -> Option<Version> {
    let mut maps = String::new();
    File::open(format!("/proc/{pid}/maps")).ok()?.take(MAX_MAPS).read_to_string(&mut maps).ok()?;
    // A tool may live in a container of its own.
    let root = PathBuf::from(format!("/proc/{pid}/root"));
    places(&maps).iter().find_map(|place| installed(&root.join(place.trim_start_matches('/'))))
}

/// Returns the directories of Python packages from which a process has loaded a library: msgpack's lies beside Salt.
fn places(maps: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for line in maps.lines() {
        // Address, rights, offset, device, inode, and then the path, which may have spaces.
        let Some(path) = line.find('/').map(|at| &line[at..]) else { continue };
        let place = ["/site-packages/", "/dist-packages/"].iter().find_map(|name| {
            let at = path.find(name)?;
            Some(&path[..at + name.len()])
        });
        if let Some(place) = place
            && !found.iter().any(|known| known == place)
            && found.len() < MAX_PLACES
        {
            found.push(place.to_owned());
        }
    }
    found
}

/// Returns the version of the Salt in a directory of packages.
fn installed(place: &Path) -> Option<Version> {
    if let Some(text) = small_file(&place.join("salt").join("_version.txt")) {
        return parse(&text);
    }
    // The name of the folder that says what was installed: `salt-3006.30.dist-info`.
    let names = std::fs::read_dir(place).ok()?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let of_salt = |name: String| {
        let version = name.strip_prefix("salt-")?;
        (version.ends_with(".dist-info") || version.ends_with(".egg-info")).then(|| parse(version)).flatten()
    };
    names.filter_map(of_salt).next()
}

/// Reads a plain file of a peer, without waiting for what is none.
fn small_file(path: &Path) -> Option<String> {
    let file = OpenOptions::new().read(true).custom_flags(nix::fcntl::OFlag::O_NONBLOCK.bits()).open(path).ok()?;
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    let mut text = String::new();
    file.take(MAX_VERSION_FILE).read_to_string(&mut text).ok()?;
    Some(text)
}

/// Reads the version that a text begins with: `3006.30`, `3007.1+12.gabc`.
fn parse(text: &str) -> Option<Version> {
    let mut parts = text.trim().split(|c: char| !c.is_ascii_digit());
    let major = parts.next()?.parse().ok()?;
    Some((major, parts.next().and_then(|patch| patch.parse().ok()).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_release_decides() {
        for (text, prefixed) in [
            ("3006.25\n", false),
            ("3006.26", true),
            ("3006.30.dist-info", true),
            ("3007.17", false),
            ("3008.5+3.gdeadbeef", false),
            ("3006.0rc1", false),
        ] {
            assert_eq!(parse(text).map(reads_prefixed), Some(prefixed), "{text}");
        }
        assert_eq!(parse("unknown"), None);
    }

    #[test]
    fn a_process_shows_where_its_packages_are() {
        let maps = "7f00-7f01 r-xp 00000000 08:01 42 /opt/salt lab/lib/python3.11/site-packages/msgpack/_cmsgpack.so\n\
                    7f02-7f03 r--p 00000000 08:01 43 /usr/lib/libc.so.6\n\
                    7f04-7f05 rw-p 00000000 00:00 0\n\
                    7f06-7f07 r-xp 00000000 08:01 44 /usr/lib/python3/dist-packages/zmq/a.so\n";
        assert_eq!(places(maps), ["/opt/salt lab/lib/python3.11/site-packages/", "/usr/lib/python3/dist-packages/"]);
    }

    #[test]
    fn the_version_is_read_from_what_is_installed() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(installed(dir.path()), None);
        std::fs::create_dir(dir.path().join("salt-3006.27.dist-info")).unwrap();
        assert_eq!(installed(dir.path()), Some((3006, 27)));
        std::fs::create_dir(dir.path().join("salt")).unwrap();
        std::fs::write(dir.path().join("salt").join("_version.txt"), "3007.1").unwrap();
        assert_eq!(installed(dir.path()), Some((3007, 1)));
    }

    #[test]
    fn a_process_that_has_no_salt_gets_a_stream() {
        let own = i32::try_from(std::process::id()).unwrap();
        assert_eq!(FramingPolicy::Auto.of(Some(own)), Framing::Stream);
        assert_eq!(FramingPolicy::Auto.of(None), Framing::Stream);
        assert_eq!(FramingPolicy::Prefixed.of(None), Framing::Prefixed);
        assert_eq!(FramingPolicy::parse("auto"), Some(FramingPolicy::Auto));
        assert_eq!(FramingPolicy::parse("zmq"), None);
    }
}
