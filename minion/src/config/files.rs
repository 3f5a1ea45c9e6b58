//! The files of a configuration: `CONFDIR/minion`, then what it includes, merged as Salt merges them.
//!
//! Included files are merged with each other (maps into maps, lists joined); together they replace whole top-level options of
//! the main file.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use proto::target::glob::Glob;
use proto::value::{Map, MapExt, Value};
use render::yaml::{self, Marks, Position, Source, YamlError};

/// The name of the main file.
const MAIN: &str = "minion";
/// The file of grains that an administrator sets.
const GRAINS: &str = "grains";
/// What is included unless `default_include` says otherwise.
pub(super) const DEFAULT_INCLUDE: &str = "minion.d/*.conf";
/// The largest configuration file.
const MAX_FILE_BYTES: u64 = 4 << 20;
/// How many files may be included.
const MAX_FILES: usize = 256;

/// Why the files cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// A file is not a map of options.
    #[error("{}:1:1: expected a map of options (`key: value` lines), found {kind}", path.display())]
    NotAMap {
        /// The file.
        path: PathBuf,
        /// What it is.
        kind: &'static str,
    },
    /// A file cannot be read.
    #[error("{}: cannot be read; check that it is UTF-8 text and that this user may read it", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file is larger than any configuration.
    #[error("{}: cannot be read; it is larger than {MAX_FILE_BYTES} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// More files are included than any configuration has.
    #[error("read the configuration: more than {MAX_FILES} files are included")]
    TooMany,
    /// A file is not YAML.
    #[error(transparent)]
    Yaml(#[from] YamlError),
}

/// The options of all files, and where each was said.
#[derive(Debug, Default)]
pub struct Files {
    /// The merged options.
    pub options: Map,
    /// The files that were read, in order.
    pub read: Vec<PathBuf>,
    /// Where options stand, by file.
    marks: HashMap<PathBuf, Marks>,
    /// Which file an option is from: the last one that says it.
    origins: HashMap<String, PathBuf>,
}

/// What tells that a set of files has changed.
pub type Fingerprint = Vec<(PathBuf, Option<SystemTime>, u64)>;

impl Files {
    /// Reads the configuration of a folder. A missing main file is an empty one.
    pub fn read(folder: &Path) -> Result<Files, FilesError> {
        let mut files = Files::default();
        let main = folder.join(MAIN);
        // A link that leads nowhere, and a folder that may not be looked into, are no missing file.
        if !fs::symlink_metadata(&main).is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
            files.options = files.load(&main)?;
        }
        let mut included = Map::new();
        for path in includes(folder, &files.options)? {
            let options = files.load(&path)?;
            merge(&mut included, options);
        }
        files.options.extend(included);
        Ok(files)
    }

    /// Returns the file that says this option, with line and column: `…/minion:3:1`.
    pub fn place(&self, path: &[&str]) -> Option<String> {
        let file = self.origins.get(*path.first()?)?;
        let marks = self.marks.get(file)?;
        // The innermost part whose place is known.
        let found: Option<Position> = (1..=path.len()).rev().find_map(|len| marks.at(&path[..len]));
        Some(match found {
            Some(Position { line, column }) => format!("{}:{line}:{column}", file.display()),
            None => file.display().to_string(),
        })
    }

    fn load(&mut self, path: &Path) -> Result<Map, FilesError> {
        let failed = |source| FilesError::Read { path: path.to_owned(), source };
        if fs::metadata(path).map_err(failed)?.len() > MAX_FILE_BYTES {
            return Err(FilesError::TooLarge { path: path.to_owned() });
        }
        let text = fs::read_to_string(path).map_err(failed)?;
        let (value, marks) = yaml::load_marked(&text, &Source { name: &path.display().to_string() })?;
        let options = match value {
            Value::Map(map) => map,
            Value::Null => Map::new(),
            other => return Err(FilesError::NotAMap { path: path.to_owned(), kind: other.kind() }),
        };
        for key in options.keys() {
            self.origins.insert(key.to_key(), path.to_owned());
        }
        self.marks.insert(path.to_owned(), marks);
        self.read.push(path.to_owned());
        Ok(options)
    }
}

/// Returns what changes when one of the files changes, comes or goes.
pub fn fingerprint(folder: &Path, options: &Map) -> Fingerprint {
    let mut paths = vec![folder.join(MAIN), folder.join(GRAINS)];
    paths.extend(includes(folder, options).unwrap_or_default());
    let look = |path: PathBuf| {
        let found = fs::metadata(&path).ok();
        (path, found.as_ref().and_then(|found| found.modified().ok()), found.map_or(0, |found| found.len()))
    };
    paths.into_iter().map(look).collect()
}

/// Returns the included files, sorted per pattern as Salt sorts them.
fn includes(folder: &Path, options: &Map) -> Result<Vec<PathBuf>, FilesError> {
    let default = Value::from(DEFAULT_INCLUDE);
    let mut paths = Vec::new();
    for option in [options.at("default_include").unwrap_or(&default), options.at("include").unwrap_or(&Value::Null)] {
        let patterns: Vec<&str> = match option {
            Value::Str(pattern) => vec![pattern],
            Value::List(patterns) => patterns.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        };
        for pattern in patterns {
            paths.extend(expand(&folder.join(pattern)));
        }
    }
    if paths.len() > MAX_FILES { Err(FilesError::TooMany) } else { Ok(paths) }
}

/// Returns the files that match a path whose last part is a pattern.
fn expand(pattern: &Path) -> Vec<PathBuf> {
    let (Some(folder), Some(name)) = (pattern.parent(), pattern.file_name().and_then(|name| name.to_str())) else {
        return Vec::new();
    };
    let glob = Glob::new(name);
    // A folder that is not there includes nothing.
    let entries = fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    let mut found: Vec<PathBuf> = entries
        .filter(|entry| entry.file_name().to_str().is_some_and(|name| !name.starts_with('.') && glob.matches(name)))
        .map(|entry| entry.path())
        .filter(|path| path.is_file())
        .collect();
    found.sort();
    found
}

/// Merges options as Salt merges included files: maps into maps, lists joined without repetition, the rest replaced.
fn merge(into: &mut Map, from: Map) {
    for (key, value) in from {
        match (into.get_mut(&key), value) {
            (Some(Value::Map(known)), Value::Map(more)) => merge(known, more),
            (Some(Value::List(known)), Value::List(more)) => {
                for item in more {
                    if !known.contains(&item) {
                        known.push(item);
                    }
                }
            }
            (_, value) => drop(into.insert(key, value)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proto::map;

    use super::*;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("minion.d")).unwrap();
        for (name, text) in files {
            fs::write(folder.path().join(name), text).unwrap();
        }
        folder
    }

    #[test]
    fn included_files_replace_whole_options_and_merge_among_themselves() {
        let folder = folder(&[
            ("minion", "master: a\nbeacons:\n  load: []\n"),
            ("minion.d/1.conf", "beacons:\n  memusage:\n    - percent: 1\n"),
            ("minion.d/2.conf", "beacons:\n  memusage:\n    - interval: 5\n"),
            ("minion.d/.hidden.conf", "master: b\n"),
            ("minion.d/notes.txt", "master: c\n"),
        ]);
        let files = Files::read(folder.path()).unwrap();
        let memusage = vec![map! { "percent" => 1 }, map! { "interval" => 5 }];
        assert_eq!(files.options, map! { "master" => "a", "beacons" => map! { "memusage" => memusage } });
        assert_eq!(files.read.len(), 3);
        let place = files.place(&["beacons", "memusage", "nowhere"]).unwrap();
        assert!(place.ends_with("minion.d/2.conf:2:3"), "{place}");
    }

    #[test]
    fn a_missing_file_is_empty_and_a_bad_one_names_its_line() {
        let empty = tempfile::tempdir().unwrap();
        assert!(Files::read(empty.path()).unwrap().options.is_empty());
        let bad = folder(&[("minion", "master: a\nid: [1\n")]);
        let text = Files::read(bad.path()).unwrap_err().to_string();
        assert!(text.contains("/minion:"), "{text}");
        let list = folder(&[("minion", "- a\n")]);
        assert!(matches!(Files::read(list.path()), Err(FilesError::NotAMap { kind: "list", .. })));
        let link = folder(&[]);
        std::os::unix::fs::symlink("nowhere", link.path().join("minion")).unwrap();
        let text = Files::read(link.path()).unwrap_err().to_string();
        assert!(text.ends_with("/minion: cannot be read; check that it is UTF-8 text and that this user may read it"));
    }

    #[test]
    fn a_change_of_any_file_is_seen() {
        let folder = folder(&[("minion", "master: a\n")]);
        let options = Map::new();
        let before = fingerprint(folder.path(), &options);
        assert_eq!(before, fingerprint(folder.path(), &options));
        fs::write(folder.path().join("minion.d/new.conf"), "id: x\n").unwrap();
        assert_ne!(before, fingerprint(folder.path(), &options));
    }
}
