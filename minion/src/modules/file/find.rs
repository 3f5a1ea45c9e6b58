//! Finding files by what they are called, are and hold.

use std::fs::{self, Metadata};
use std::io::Read;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use nix::unistd::{Gid, Group, User};
use proto::target::glob::Glob;
use proto::value::{Map, MapExt, Value};
use regex::bytes::{Regex, RegexBuilder};

use super::{MAX_CONTENT, path, readable};
use crate::host::processes::user_name;
use crate::modules::args::plain_text;
use crate::modules::{Args, CallError, Function, ModuleContext, Outcome, Param};

/// The most that is found; a return with more would not reach the master.
const MAX_FOUND: usize = 100_000;
/// How far down is looked at most.
const MAX_DEPTH: usize = 200;

pub(super) const FIND: Function = Function {
    name: "file.find",
    doc: "Find files below a path, which may be a glob. Symbolic links are not followed.

name, iname
    A glob for the name; iname ignores case.
regex, iregex
    A regular expression that the name starts with.
type
    Letters of the types to find: a all, b block, c character, d directory, p pipe, f file, l link, s socket.
owner, group
    Names or numbers, with commas or spaces between them.
size
    A number with b, k, m, g or t; + for at least, - for at most.
mtime
    An age such as 3d or 1w12h: changed longer ago; with - before it, since then.
grep
    A regular expression for the content, of which the first 8 MiB are searched.
mindepth, maxdepth
    How far down to look.
delete
    Letters of the types to delete; True means files.
print
    What to return, with commas between: group, mode, mtime, name, path, size, type, user.

CLI Example:

.. code-block:: bash

    salt '*' file.find / type=f name=\\*.bak size=+10m
    salt '*' file.find /var mtime=+30d size=+10m print=path,size,mtime
    salt '*' file.find /var/log name=\\*.[0-9] mtime=+30d size=+10m delete",
    params: &[Param::required("path"), Param::rest(), Param::keywords()],
    run: find,
};

const PRINTABLE: [&str; 8] = ["group", "mode", "mtime", "name", "path", "size", "type", "user"];

/// A condition that a file must meet.
enum Test {
    Grep(Regex),
    Groups(Vec<u32>),
    /// Changed at this time or earlier, in seconds since 1970.
    Older(i64),
    Name(Glob),
    NameIgnoringCase(Glob),
    Newer(i64),
    Owners(Vec<u32>),
    Pattern(Regex),
    Size(u64, u64),
    Types(String),
}

struct Search<'a> {
    cx: &'a ModuleContext,
    tests: Vec<Test>,
    depths: (usize, usize),
    delete: Option<String>,
    print: Vec<String>,
    found: Vec<(PathBuf, Value)>,
}

fn bad(text: impl Into<String>) -> CallError {
    CallError::Invocation(text.into())
}

fn find(cx: &ModuleContext, args: Args) -> Result<Outcome, CallError> {
    let mut options: Map = args
        .extra()
        .iter()
        .filter(|(key, _)| !key.to_key().starts_with("__"))
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect();
    for flag in args.rest().iter().map(plain_text) {
        options.set(&flag, true);
    }
    let mut search = Search::new(cx, &options)?;
    for start in expand(&path(&args, "path")) {
        search.walk(&start, 0)?;
    }
    search.found.sort_by(|(one, _), (other, _)| one.cmp(other));
    Ok(Value::from(search.found.into_iter().map(|(_, shown)| shown).collect::<Vec<_>>()).into())
}

/// Returns the paths that a glob names; the path itself if it is none.
fn expand(path: &Path) -> Vec<PathBuf> {
    let mut paths = vec![PathBuf::new()];
    for part in path.components() {
        let text = part.as_os_str().to_string_lossy();
        if !text.contains(['*', '?', '[']) {
            paths.iter_mut().for_each(|path| path.push(part));
            continue;
        }
        let glob = Glob::new(&text);
        let entries = paths.iter().flat_map(|path| fs::read_dir(path).into_iter().flatten().flatten());
        let hidden = |name: &str| name.starts_with('.') && !text.starts_with('.');
        paths = entries
            .filter(|entry| entry.file_name().to_str().is_some_and(|name| !hidden(name) && glob.matches(name)))
            .map(|entry| entry.path())
            .collect();
    }
    paths
}

impl<'a> Search<'a> {
    fn new(cx: &'a ModuleContext, options: &Map) -> Result<Search<'a>, CallError> {
        let mut search = Search {
            cx,
            tests: Vec::new(),
            depths: (0, MAX_DEPTH),
            delete: None,
            print: vec!["path".to_owned()],
            found: Vec::new(),
        };
        for (key, value) in options {
            let (key, text) = (key.to_key(), plain_text(value));
            let depth = || text.parse::<usize>().map_err(|_| bad(format!("invalid depth: '{text}'")));
            match key.as_str() {
                "delete" if value.as_bool() == Some(true) => search.delete = Some("f".to_owned()),
                "delete" => search.delete = Some(types(&text)?),
                "maxdepth" => search.depths.1 = depth()?.min(MAX_DEPTH),
                "mindepth" => search.depths.0 = depth()?,
                "print" => search.print = printed(&text)?,
                _ => search.tests.push(Test::parse(&key, &text)?),
            }
        }
        Ok(search)
    }

    fn walk(&mut self, path: &Path, depth: usize) -> Result<(), CallError> {
        if let Some(stop) = self.cx.stopped() {
            return Err(CallError::Stopped(stop));
        }
        let Ok(meta) = fs::symlink_metadata(path) else {
            return Ok(());
        };
        // What is below goes first, so that a directory is empty when it is deleted.
        if meta.is_dir() && depth < self.depths.1 {
            for entry in fs::read_dir(path).into_iter().flatten().flatten() {
                self.walk(&entry.path(), depth + 1)?;
            }
        }
        if depth < self.depths.0 || !self.tests.iter().all(|test| test.passes(path, &meta)) {
            return Ok(());
        }
        let shown = self.show(path, &meta);
        if let Some(kinds) = &self.delete {
            if !has_type(kinds, &meta) {
                return Ok(());
            }
            let removed = if meta.is_dir() { fs::remove_dir(path) } else { fs::remove_file(path) };
            if let Err(error) = removed {
                return Err(super::failed(&format!("Could not delete '{}'", path.display()), &error));
            }
        }
        if self.found.len() == MAX_FOUND {
            return Err(CallError::Failed(format!("more than {MAX_FOUND} files match")));
        }
        self.found.push((path.to_owned(), shown));
        Ok(())
    }

    fn show(&self, path: &Path, meta: &Metadata) -> Value {
        let mut shown: Vec<Value> = self.print.iter().map(|what| detail(what, path, meta)).collect();
        if shown.len() == 1 { shown.remove(0) } else { shown.into() }
    }
}

fn detail(what: &str, path: &Path, meta: &Metadata) -> Value {
    let name = |gid| Group::from_gid(Gid::from_raw(gid)).ok().flatten().map(|group| group.name);
    match what {
        "group" => name(meta.gid()).unwrap_or_else(|| meta.gid().to_string()).into(),
        "mode" => meta.mode().into(),
        "mtime" => meta.mtime().into(),
        "name" => path.file_name().unwrap_or_default().to_string_lossy().into_owned().into(),
        "size" => meta.size().into(),
        "type" => letter(meta).to_string().into(),
        "user" => user_name(meta.uid()).into(),
        _ => path.to_string_lossy().into_owned().into(),
    }
}

impl Test {
    fn parse(key: &str, text: &str) -> Result<Test, CallError> {
        Ok(match key {
            "grep" => Test::Grep(regex(text, false)?),
            "group" => Test::Groups(numbers(text, |name| Some(Group::from_name(name).ok()??.gid.as_raw()))?),
            "iname" => Test::NameIgnoringCase(Glob::new(&text.to_lowercase())),
            "iregex" => Test::Pattern(regex(&format!("^(?:{text})"), true)?),
            "mtime" => age(text)?,
            "name" => Test::Name(Glob::new(text)),
            "owner" | "user" => Test::Owners(numbers(text, |name| Some(User::from_name(name).ok()??.uid.as_raw()))?),
            "regex" => Test::Pattern(regex(&format!("^(?:{text})"), false)?),
            "size" => size(text)?,
            "type" => Test::Types(types(text)?),
            _ => return Err(bad(format!("invalid option '{key}'"))),
        })
    }

    fn passes(&self, path: &Path, meta: &Metadata) -> bool {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        match self {
            Test::Grep(regex) => meta.is_file() && holds(path, regex),
            Test::Groups(gids) => gids.contains(&meta.gid()),
            Test::Name(glob) => glob.matches(&name),
            Test::NameIgnoringCase(glob) => glob.matches(&name.to_lowercase()),
            Test::Newer(time) => meta.mtime() >= *time,
            Test::Older(time) => meta.mtime() <= *time,
            Test::Owners(uids) => uids.contains(&meta.uid()),
            Test::Pattern(regex) => regex.is_match(name.as_bytes()),
            Test::Size(least, most) => (*least..=*most).contains(&meta.size()),
            Test::Types(kinds) => has_type(kinds, meta),
        }
    }
}

fn holds(path: &Path, regex: &Regex) -> bool {
    let mut bytes = Vec::new();
    let read = readable(path).ok().and_then(|file| file.take(MAX_CONTENT).read_to_end(&mut bytes).ok());
    read.is_some() && regex.is_match(&bytes)
}

fn regex(text: &str, ignoring_case: bool) -> Result<Regex, CallError> {
    let regex = RegexBuilder::new(text).case_insensitive(ignoring_case).build();
    regex.map_err(|_| bad(format!("invalid regular expression: \"{text}\"")))
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split([',', ' ']).filter(|word| !word.is_empty())
}

fn numbers(text: &str, find: fn(&str) -> Option<u32>) -> Result<Vec<u32>, CallError> {
    let number =
        |name: &str| name.parse().ok().or_else(|| find(name)).ok_or_else(|| bad(format!("no such name \"{name}\"")));
    words(text).map(number).collect()
}

fn printed(text: &str) -> Result<Vec<String>, CallError> {
    if let Some(unknown) = words(text).find(|word| !PRINTABLE.contains(word)) {
        return Err(bad(format!("invalid print option '{unknown}'")));
    }
    Ok(words(text).map(str::to_owned).collect())
}

fn types(text: &str) -> Result<String, CallError> {
    let kinds: String = words(text).collect();
    match kinds.chars().find(|kind| !"abcdpfls".contains(*kind)) {
        Some(kind) => Err(bad(format!("invalid file type \"{kind}\""))),
        None => Ok(kinds),
    }
}

fn has_type(kinds: &str, meta: &Metadata) -> bool {
    kinds.contains(['a', letter(meta)])
}

fn letter(meta: &Metadata) -> char {
    let kind = meta.file_type();
    match () {
        () if kind.is_dir() => 'd',
        () if kind.is_symlink() => 'l',
        () if kind.is_char_device() => 'c',
        () if kind.is_block_device() => 'b',
        () if kind.is_fifo() => 'p',
        () if kind.is_socket() => 's',
        () => 'f',
    }
}

/// Reads a size: `+10m` is ten mebibytes or more, `10m` from there to the next.
fn size(text: &str) -> Result<Test, CallError> {
    let wrong = || bad(format!("invalid size: \"{text}\""));
    let number = text.trim().trim_start_matches(['+', '-']);
    let (number, unit) = match number.char_indices().last().filter(|(_, letter)| letter.is_ascii_alphabetic()) {
        None => (number, 1),
        Some((at, letter)) => {
            let power = "bkmgt".find(letter.to_ascii_lowercase()).ok_or_else(wrong)?;
            (&number[..at], 1_u64 << (10 * power))
        }
    };
    let bytes = number.trim().parse::<u64>().ok().and_then(|number| number.checked_mul(unit)).ok_or_else(wrong)?;
    Ok(match text.trim().chars().next() {
        Some('+') => Test::Size(bytes, u64::MAX),
        Some('-') => Test::Size(0, bytes),
        _ => Test::Size(bytes, bytes.saturating_add(unit - 1)),
    })
}

/// Reads an age, such as `1w3d` or `-12h`; a number alone is days.
fn age(text: &str) -> Result<Test, CallError> {
    let wrong = || bad(format!("invalid time interval: '{text}'"));
    let (mut seconds, mut number) = (0_i64, String::new());
    for letter in text.trim().trim_start_matches(['+', '-']).chars().chain(['d']).filter(|letter| *letter != ' ') {
        let unit = match letter.to_ascii_lowercase() {
            digit if digit.is_ascii_digit() => {
                number.push(digit);
                continue;
            }
            // The one that was added, after a unit.
            'd' if number.is_empty() && seconds > 0 => continue,
            'w' => 604_800,
            'd' => 86_400,
            'h' => 3_600,
            'm' => 60,
            's' => 1,
            _ => return Err(wrong()),
        };
        let part = number.parse::<i64>().ok().and_then(|number| number.checked_mul(unit));
        seconds = part.and_then(|part| seconds.checked_add(part)).ok_or_else(wrong)?;
        number.clear();
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let then = i64::try_from(now).unwrap_or(i64::MAX).saturating_sub(seconds);
    Ok(if text.trim().starts_with('-') { Test::Newer(then) } else { Test::Older(then) })
}
