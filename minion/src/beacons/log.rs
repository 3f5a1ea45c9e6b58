//! Fires for each new line of a file that a regular expression matches from its beginning.
//!
//! ```yaml
//! beacons:
//!   log:
//!     - file: /var/log/messages
//!     - tags:
//!         goodbye/world:
//!           regex: .*good-bye.*
//! ```
//!
//! What is in the file when the beacon starts is not looked at. A file that is rotated is read to its end, and the new one
//! from its beginning. The tag's suffix is the name under `tags`.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use fancy_regex::Regex;
use proto::map;
use proto::value::Value as Seen;
use serde::Deserialize;
use serde_json::{Map as Json, Value};
use tracing::{info, warn};

use super::{Beacon, BeaconContext, BeaconEvent, Build, BuildError, Kind, LookError};

pub(super) const KIND: Kind = Kind::new::<Log>("log");

/// The most that one look reads; if there is more, the next look follows at once.
const LOOK_BYTES: u64 = 256 << 10;
/// The longest line; what is longer is cut into several.
const LINE_BYTES: usize = 64 << 10;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Config {
    /// The path of the file. No default. It need not be there yet.
    file: PathBuf,
    /// What is looked for: `<tag>: {regex: <pattern>}`. A line may match several. Default: nothing, so nothing fires.
    #[serde(default)]
    tags: Tags,
}

#[derive(Debug, Default, Deserialize)]
#[serde(try_from = "Json<String, Value>")]
struct Tags(Vec<(String, Regex)>);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Options {
    /// The expression that a line has to match from its beginning. Without one the tag never fires.
    regex: Option<String>,
}

impl TryFrom<Json<String, Value>> for Tags {
    type Error = String;

    fn try_from(tags: Json<String, Value>) -> Result<Tags, String> {
        let mut known = Vec::new();
        for (tag, options) in tags {
            let Options { regex } = serde_json::from_value(options).map_err(|error| format!("tag {tag}: {error}"))?;
            if let Some(regex) = regex.filter(|regex| !regex.is_empty()) {
                let regex = Regex::new(&regex).map_err(|error| format!("tag {tag}: bad regex: {error}"))?;
                known.push((tag, regex));
            }
        }
        Ok(Tags(known))
    }
}

pub(super) struct Log {
    config: Config,
    tail: Tail,
}

impl Build for Log {
    type Config = Config;

    fn build(config: Config, _cx: &BeaconContext) -> Result<Log, BuildError> {
        let tail = Tail::begin(config.file.clone());
        Ok(Log { config, tail })
    }
}

impl Beacon for Log {
    fn look(&mut self, cx: &BeaconContext) -> Result<Vec<BeaconEvent>, LookError> {
        let lines = self.tail.read(LOOK_BYTES).map_err(|error| LookError(error.into()))?;
        if self.tail.has_more {
            cx.waker.wake();
        }
        Ok(judge(&self.config.tags, &lines))
    }

    fn reading(&self) -> Result<Seen, LookError> {
        let file = self.config.file.display().to_string();
        let Some(open) = &self.tail.open else {
            return Ok(map! { "file" => file, "found" => false }.into());
        };
        let size = open.file.metadata().map_err(|error| LookError(error.into()))?.len();
        Ok(map! { "file" => file, "found" => true, "size" => size, "read_from" => open.position }.into())
    }
}

fn judge(Tags(tags): &Tags, lines: &[String]) -> Vec<BeaconEvent> {
    let pairs = lines.iter().flat_map(|line| tags.iter().map(move |(tag, regex)| (tag, regex, line)));
    let events = pairs.filter_map(|(tag, regex, line)| match regex.find(line) {
        // As Python's `re.match`: from the beginning of the line.
        Ok(found) => found.filter(|found| found.start() == 0).map(|_| event(tag, "yes", line, "")),
        // The expression takes too many steps.
        Err(_) => Some(event(tag, "no", "", "bad match")),
    });
    events.collect()
}

fn event(tag: &str, matches: &str, raw: &str, error: &str) -> BeaconEvent {
    BeaconEvent { suffix: tag.to_owned(), data: map! { "match" => matches, "raw" => raw, "error" => error } }
}

/// The end of a file that grows, is cut, moved away and made anew.
struct Tail {
    path: PathBuf,
    open: Option<Open>,
    /// The beginning of a line whose end is not written yet.
    partial: Vec<u8>,
    /// Whether the last read left something.
    has_more: bool,
    /// Whether it has been told that the file cannot be opened.
    told: bool,
}

struct Open {
    file: File,
    identity: (u64, u64),
    position: u64,
}

impl Tail {
    /// Begins at the end of the file; if there is none yet, at the beginning of the one to come.
    fn begin(path: PathBuf) -> Tail {
        let mut tail = Tail { path, open: None, partial: Vec::new(), has_more: false, told: false };
        tail.open();
        if let Some(open) = &mut tail.open {
            open.position = open.file.metadata().map_or(0, |metadata| metadata.len());
        }
        tail
    }

    /// Reads the lines that have been added, about `limit` bytes of them.
    fn read(&mut self, limit: u64) -> io::Result<Vec<String>> {
        if self.open.is_none() {
            self.open();
        }
        let mut bytes = Vec::new();
        self.has_more = false;
        if let Some(open) = &mut self.open {
            if open.was_cut()? {
                end_line(&mut self.partial);
            }
            bytes = open.read(limit)?;
            self.has_more = bytes.len() as u64 >= limit;
            // A writer may go on with a file that was moved away, until it is told; so a quiet look comes first.
            if bytes.is_empty() && !open.is_at(&self.path) {
                end_line(&mut self.partial);
                self.open = None;
                self.open();
                self.has_more = self.open.is_some();
            }
        }
        Ok(self.lines(&bytes))
    }

    /// Opens the file at its beginning; tells once if it cannot be.
    fn open(&mut self) {
        match Open::new(&self.path) {
            Ok(open) => {
                if self.told {
                    info!(file = %self.path.display(), "the file is there; it is read from its beginning");
                }
                (self.open, self.told) = (Some(open), false);
            }
            Err(_) if self.told => {}
            Err(error) => {
                warn!(file = %self.path.display(), %error, "beacon log failed to open its file; it tries again");
                self.told = true;
            }
        }
    }

    fn lines(&mut self, bytes: &[u8]) -> Vec<String> {
        self.partial.extend_from_slice(bytes);
        let mut lines = Vec::new();
        let mut rest = self.partial.as_slice();
        loop {
            let end = rest.iter().take(LINE_BYTES).position(|byte| *byte == b'\n');
            let (line, next) = match end {
                Some(end) => (&rest[..end], end + 1),
                None if rest.len() >= LINE_BYTES => (&rest[..LINE_BYTES], LINE_BYTES),
                None => break,
            };
            lines.push(String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line)).into_owned());
            rest = &rest[next..];
        }
        self.partial = rest.to_vec();
        lines
    }
}

/// Nobody will write the rest of a line any more: what there is of it is the line.
fn end_line(partial: &mut Vec<u8>) {
    if !partial.is_empty() {
        partial.push(b'\n');
    }
}

impl Open {
    fn new(path: &Path) -> io::Result<Open> {
        // Opening a pipe would wait for its writer.
        if !fs::metadata(path)?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file"));
        }
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        Ok(Open { file, identity: (metadata.dev(), metadata.ino()), position: 0 })
    }

    /// Tells whether the file is shorter than it was, as after logrotate's `copytruncate`: then it is read anew.
    fn was_cut(&mut self) -> io::Result<bool> {
        let was_cut = self.file.metadata()?.len() < self.position;
        if was_cut {
            self.position = 0;
        }
        Ok(was_cut)
    }

    fn read(&mut self, limit: u64) -> io::Result<Vec<u8>> {
        self.file.seek(SeekFrom::Start(self.position))?;
        let mut bytes = Vec::new();
        self.position += (&self.file).take(limit).read_to_end(&mut bytes)? as u64;
        Ok(bytes)
    }

    /// Tells whether this is still the file of that path. One that has been moved away is, until there is another.
    fn is_at(&self, path: &Path) -> bool {
        fs::metadata(path).map_or(true, |metadata| (metadata.dev(), metadata.ino()) == self.identity)
    }
}

#[cfg(test)]
mod tests;
