//! What a process did to its files, read from `strace -ff -ttt -T -xx`: one file per thread, each call whole.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// Which calls are recorded.
pub(super) const CALLS: &str = "openat,close,lseek,write,pwrite64,ftruncate,fsync,fdatasync,rename,unlink,mkdir";

/// A file, whatever its name is at present.
pub(super) type Inode = usize;

/// One change, or what makes changes last.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Call {
    Create(PathBuf, Inode),
    MakeFolder(PathBuf),
    /// A line of the file of promises.
    Promise(String),
    Remove(PathBuf),
    Rename(PathBuf, PathBuf),
    Sync(Inode),
    SyncFolder(PathBuf),
    Truncate(Inode, usize),
    Write(Inode, usize, Vec<u8>),
}

/// A call and when it began and ended, in microseconds.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Step {
    pub(super) began: u64,
    pub(super) ended: u64,
    pub(super) call: Call,
}

/// One line of strace.
struct Line<'a> {
    name: &'a str,
    args: &'a str,
    result: i64,
    began: u64,
    ended: u64,
}

/// What a number of an open file stands for.
enum Open {
    File { inode: Inode, at: usize },
    Folder(PathBuf),
    Promises,
}

/// Reads all threads' files of a recording; only what lies under `root` counts.
pub(super) fn read(texts: &[String], root: &Path) -> Vec<Step> {
    let mut lines: Vec<Line<'_>> = texts.iter().flat_map(|text| text.lines()).filter_map(parse).collect();
    // A number is free for the next file only once the call that closes it has begun, and taken when that which opens it ends.
    lines.sort_by_key(|line| if line.name == "openat" { line.ended } else { line.began });
    let mut reader =
        Reader { root, open: HashMap::new(), names: HashMap::new(), next: 0, steps: Vec::new(), half: String::new() };
    lines.iter().filter(|line| line.result >= 0).for_each(|line| reader.line(line));
    reader.steps
}

struct Reader<'a> {
    root: &'a Path,
    open: HashMap<i64, Open>,
    names: HashMap<PathBuf, Inode>,
    next: Inode,
    steps: Vec<Step>,
    /// A promise whose line has not ended.
    half: String,
}

impl Reader<'_> {
    fn step(&mut self, line: &Line<'_>, call: Call) {
        self.steps.push(Step { began: line.began, ended: line.ended, call });
    }

    fn line(&mut self, line: &Line<'_>) {
        let fd = || line.args.split(',').next().and_then(|fd| fd.parse::<i64>().ok()).unwrap_or(-1);
        match line.name {
            "openat" => self.opened(line),
            "close" => _ = self.open.remove(&fd()),
            "lseek" => {
                if let Some(Open::File { at, .. }) = self.open.get_mut(&fd()) {
                    *at = number(line.result);
                }
            }
            "write" | "pwrite64" => self.written(line, fd()),
            "ftruncate" => {
                if let Some(Open::File { inode, .. }) = self.open.get(&fd()) {
                    let call = Call::Truncate(*inode, last_number(line.args));
                    self.step(line, call);
                }
            }
            "fsync" | "fdatasync" => match self.open.get(&fd()) {
                Some(Open::File { inode, .. }) => self.step(line, Call::Sync(*inode)),
                Some(Open::Folder(path)) => self.step(line, Call::SyncFolder(path.clone())),
                _ => {}
            },
            "rename" | "unlink" | "mkdir" => self.named(line),
            _ => {}
        }
    }

    fn opened(&mut self, line: &Line<'_>) {
        let Some(path) = strings(line.args).into_iter().next().map(path) else { return };
        if !path.starts_with(self.root) {
            return;
        }
        if path.file_name().is_some_and(|name| name == "promises") {
            self.open.insert(line.result, Open::Promises);
        } else if let Some(inode) = self.names.get(&path) {
            self.open.insert(line.result, Open::File { inode: *inode, at: 0 });
        } else if line.args.contains("O_CREAT") {
            let inode = self.next;
            self.next += 1;
            self.names.insert(path.clone(), inode);
            self.open.insert(line.result, Open::File { inode, at: 0 });
            self.step(line, Call::Create(path, inode));
        } else {
            self.open.insert(line.result, Open::Folder(path));
        }
    }

    fn written(&mut self, line: &Line<'_>, fd: i64) {
        let Some(bytes) = strings(line.args).into_iter().next() else { return };
        match self.open.get_mut(&fd) {
            Some(Open::File { inode, at }) => {
                let from = if line.name == "write" { *at } else { last_number(line.args) };
                if line.name == "write" {
                    *at += bytes.len();
                }
                let call = Call::Write(*inode, from, bytes);
                self.step(line, call);
            }
            Some(Open::Promises) => {
                self.half.push_str(&String::from_utf8(bytes).unwrap());
                while let Some((promise, rest)) = self.half.split_once('\n') {
                    let call = Call::Promise(promise.to_owned());
                    self.half = rest.to_owned();
                    self.step(line, call);
                }
            }
            _ => {}
        }
    }

    fn named(&mut self, line: &Line<'_>) {
        let mut paths = strings(line.args).into_iter().map(path);
        let Some(first) = paths.next().filter(|path| path.starts_with(self.root)) else { return };
        let call = match (line.name, paths.next()) {
            ("mkdir", _) => Call::MakeFolder(first),
            ("unlink", _) => {
                self.names.remove(&first);
                Call::Remove(first)
            }
            (_, Some(second)) => {
                if let Some(inode) = self.names.remove(&first) {
                    self.names.insert(second.clone(), inode);
                }
                Call::Rename(first, second)
            }
            _ => return,
        };
        self.step(line, call);
    }
}

/// Reads `1732573000.123456 name(args) = result <0.000020>`.
fn parse(line: &str) -> Option<Line<'_>> {
    let (stamp, rest) = line.split_once(' ')?;
    let (call, took) = rest.rsplit_once(" <")?;
    let (call, result) = call.rsplit_once(" = ")?;
    let (name, args) = call.trim_end().strip_suffix(')')?.split_once('(')?;
    let result = result.split(' ').next()?.parse().ok()?;
    let began = micros(stamp)?;
    Some(Line { name, args, result, began, ended: began + micros(took.strip_suffix('>')?)? })
}

fn micros(text: &str) -> Option<u64> {
    let (seconds, fraction) = text.split_once('.')?;
    Some(seconds.parse::<u64>().ok()? * 1_000_000 + fraction.parse::<u64>().ok()?)
}

/// Returns the texts in quotes, which are written in hexadecimal throughout.
fn strings(args: &str) -> Vec<Vec<u8>> {
    let quoted = args.split('"').skip(1).step_by(2);
    let byte = |hex: &str| u8::from_str_radix(hex, 16).unwrap();
    quoted.map(|text| text.split("\\x").filter(|hex| !hex.is_empty()).map(byte).collect()).collect()
}

fn path(bytes: Vec<u8>) -> PathBuf {
    PathBuf::from(String::from_utf8(bytes).unwrap())
}

fn last_number(args: &str) -> usize {
    args.rsplit(", ").next().and_then(|text| text.parse().ok()).unwrap()
}

fn number(result: i64) -> usize {
    usize::try_from(result).unwrap()
}

#[test]
fn a_recording_is_read_as_it_was_made() {
    let hex = |text: &str| text.bytes().map(|byte| format!("\\x{byte:02x}")).collect::<String>();
    let text = format!(
        "10.000001 openat(AT_FDCWD, \"{0}\", O_RDWR|O_CREAT, 0600) = 3 <0.000005>\n\
         10.000010 pwrite64(3, \"{1}\", 2, 512) = 2 <0.000002>\n\
         10.000020 fdatasync(3) = 0 <0.000100>\n\
         10.000200 openat(AT_FDCWD, \"{2}\", O_RDONLY) = -1 ENOENT (No such file or directory) <0.000001>\n\
         10.000300 rename(\"{0}\", \"{2}\") = 0 <0.000001>\n",
        hex("/r/a"),
        hex("hi"),
        hex("/r/b"),
    );
    let at = |began: u64, ended: u64, call| Step { began: 10_000_000 + began, ended: 10_000_000 + ended, call };
    let expected = [
        at(1, 6, Call::Create("/r/a".into(), 0)),
        at(10, 12, Call::Write(0, 512, b"hi".to_vec())),
        at(20, 120, Call::Sync(0)),
        at(300, 301, Call::Rename("/r/a".into(), "/r/b".into())),
    ];
    assert_eq!(read(&[text], Path::new("/r")), expected);
}
