//! `file`: files and directories of this host. One file per kind of question; here is the table and what they share.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::{Args, CallError, Function};

mod content;
mod find;
mod line;
mod owner;
mod paths;
mod replace;

/// The most that is read of a file into memory.
const MAX_CONTENT: u64 = 8 << 20;

pub(super) const FUNCTIONS: &[Function] = &[
    content::APPEND,
    paths::BASENAME,
    content::CHECK_HASH,
    owner::CHGRP,
    owner::CHOWN,
    content::CONTAINS,
    paths::COPY,
    paths::DIRECTORY_EXISTS,
    paths::DIRNAME,
    paths::FILE_EXISTS,
    find::FIND,
    owner::GET_GID,
    owner::GET_GROUP,
    content::GET_HASH,
    owner::GET_MODE,
    owner::GET_UID,
    owner::GET_USER,
    paths::IS_LINK,
    owner::LCHOWN,
    line::LINE,
    paths::LINK,
    paths::MAKEDIRS,
    paths::MKDIR,
    paths::MOVE,
    content::PREPEND,
    content::READ,
    paths::READDIR,
    paths::READLINK,
    paths::REMOVE,
    paths::RENAME,
    replace::REPLACE,
    paths::RMDIR,
    replace::SEARCH,
    owner::SET_MODE,
    owner::STATS,
    paths::SYMLINK,
    paths::TOUCH,
    content::TRUNCATE,
    content::WRITE,
];

/// Returns a path argument; `~` is the minion's home.
fn path(args: &Args, name: &str) -> PathBuf {
    let text = args.text(name).unwrap_or_default();
    match text.strip_prefix('~').filter(|rest| rest.is_empty() || rest.starts_with('/')) {
        Some(rest) => std::env::home_dir().unwrap_or_default().join(rest.trim_start_matches('/')),
        None => PathBuf::from(text),
    }
}

/// Returns a path argument, which must be absolute.
fn absolute(args: &Args, name: &str) -> Result<PathBuf, CallError> {
    let path = path(args, name);
    match path.is_absolute() {
        true => Ok(path),
        false => Err(CallError::Invocation(format!("File path must be absolute: {}", path.display()))),
    }
}

fn failed(what: &str, error: &io::Error) -> CallError {
    CallError::Failed(format!("{what}: {error}"))
}

/// Opens a regular file to read it. A pipe or a terminal, which may never end or answer, is refused without waiting.
fn readable(path: &Path) -> Result<File, CallError> {
    let file = OpenOptions::new().read(true).custom_flags(nix::fcntl::OFlag::O_NONBLOCK.bits()).open(path);
    let file = file.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => CallError::Failed(format!("File not found: {}", path.display())),
        _ => failed(&format!("Could not read '{}'", path.display()), &error),
    })?;
    match file.metadata().is_ok_and(|meta| meta.is_file()) {
        true => Ok(file),
        false => Err(CallError::Failed(format!("Could not read '{}': no regular file", path.display()))),
    }
}

/// Opens a file to write it; refuses what is there and no regular file.
fn writable(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    if fs::metadata(path).is_ok_and(|meta| !meta.is_file()) {
        return Err(io::Error::other("no regular file"));
    }
    options.open(path)
}

/// Reads a whole file, which must not be too large.
fn bounded(path: &Path) -> Result<Vec<u8>, CallError> {
    let mut bytes = Vec::new();
    let read = readable(path)?.take(MAX_CONTENT + 1).read_to_end(&mut bytes);
    read.map_err(|error| failed(&format!("Could not read '{}'", path.display()), &error))?;
    match bytes.len() as u64 > MAX_CONTENT {
        true => Err(CallError::Failed(format!("'{}' is larger than {MAX_CONTENT} bytes", path.display()))),
        false => Ok(bytes),
    }
}

#[cfg(test)]
mod tests;
