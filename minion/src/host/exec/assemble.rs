//! Puts a command together from its records: most are whole at once, the rest wait for the end of their execve.

use std::collections::VecDeque;

use super::record::{self, Enter, Record};

/// Commands waiting for their missing part. Beyond that the oldest is given out as it is, marked truncated.
pub(super) const MAX_HELD: usize = 256;

/// How long a command waits: an execve may have to read its program from a slow disk, but ends within this.
pub(super) const HOLD_NS: u64 = 5_000_000_000;

/// The longest argument block taken together; the kernel allows no more.
const MAX_BLOCK_BYTES: usize = 6 * 1024 * 1024;

/// Bytes of argument blocks waiting for their rest, all commands together. What goes beyond is given out truncated.
const MAX_WAITING_BYTES: usize = 16 * 1024 * 1024;

/// A command as the kernel saw it, texts still bytes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) time_ns: u64,
    pub(super) pid: u32,
    pub(super) ppid: u32,
    pub(super) sid: u32,
    pub(super) uid: u32,
    pub(super) loginuid: Option<u32>,
    pub(super) tty: Option<Vec<u8>>,
    pub(super) cwd: Option<Vec<u8>>,
    pub(super) path: Option<Vec<u8>>,
    pub(super) args: Vec<Vec<u8>>,
    /// The path or some of the arguments are missing.
    pub(super) truncated: bool,
}

/// The commands that are not whole yet, oldest first.
#[derive(Debug, Default)]
pub(super) struct Assembly {
    held: VecDeque<Held>,
}

#[derive(Debug)]
struct Held {
    key: u64,
    seen: Seen,
    args_whole: bool,
    block: Vec<u8>,
}

impl Assembly {
    /// Takes one record; returns the command that it makes whole, if any.
    pub(super) fn take(&mut self, record: Record<'_>) -> Option<Seen> {
        match record {
            Record::Block { key, total, offset, bytes } => self.block(key, total, offset, bytes),
            Record::Enter(enter) => self.enter(&enter),
            Record::Exit { key, result, path, total } => self.exit(key, result, path, total),
        }
    }

    /// Returns a command that has waited too long at `now_ns`, truncated as it is.
    pub(super) fn expired(&mut self, now_ns: u64) -> Option<Seen> {
        let oldest = self.held.front()?;
        if now_ns.saturating_sub(oldest.seen.time_ns) < HOLD_NS {
            return None;
        }
        self.held.pop_front().map(|held| held.seen)
    }

    /// Returns whether any command waits, so that its expiry must be looked at.
    pub(super) fn is_waiting(&self) -> bool {
        !self.held.is_empty()
    }

    fn enter(&mut self, enter: &Enter<'_>) -> Option<Seen> {
        let seen = Seen {
            time_ns: enter.time_ns,
            pid: enter.pid,
            ppid: enter.ppid,
            sid: enter.sid,
            uid: enter.uid,
            loginuid: enter.loginuid,
            tty: enter.tty.map(<[u8]>::to_vec),
            cwd: enter.cwd.clone(),
            path: enter.path.map(<[u8]>::to_vec),
            args: enter.args.iter().map(|arg| arg.to_vec()).collect(),
            truncated: enter.path.is_none() || !enter.args_whole,
        };
        if !seen.truncated {
            return Some(seen);
        }
        let crowded = if self.held.len() < MAX_HELD { None } else { self.held.pop_front() };
        self.held.push_back(Held { key: enter.key, seen, args_whole: enter.args_whole, block: Vec::new() });
        crowded.map(|held| held.seen)
    }

    fn exit(&mut self, key: u64, result: i32, path: Option<&[u8]>, total: usize) -> Option<Seen> {
        let index = self.index(key)?;
        let held = &mut self.held[index];
        if held.seen.path.is_none() {
            held.seen.path = path.map(<[u8]>::to_vec);
        }
        if !held.args_whole && result >= 0 && (1..=MAX_BLOCK_BYTES).contains(&total) {
            return None; // The blocks follow.
        }
        held.seen.truncated = held.seen.path.is_none() || !held.args_whole;
        self.held.remove(index).map(|held| held.seen)
    }

    fn block(&mut self, key: u64, total: usize, offset: usize, bytes: &[u8]) -> Option<Seen> {
        let index = self.index(key)?;
        let waiting: usize = self.held.iter().map(|held| held.block.len()).sum();
        let held = &mut self.held[index];
        let follows = offset == held.block.len() && bytes.len() <= total.saturating_sub(offset);
        if !follows || waiting + bytes.len() > MAX_WAITING_BYTES {
            return self.held.remove(index).map(|held| held.seen); // A piece was dropped, or there is no room for it.
        }
        held.block.extend_from_slice(bytes);
        if held.block.len() < total {
            return None;
        }
        let Held { mut seen, block, .. } = self.held.remove(index)?;
        if let Some(args) = original_arguments(&seen, &record::strings(&block)) {
            seen.args = args;
            seen.truncated = seen.path.is_none();
        }
        Some(seen)
    }

    /// The newest command with `key`: an older one of the same process can only be a leftover.
    fn index(&self, key: u64) -> Option<usize> {
        self.held.iter().rposition(|held| held.key == key)
    }
}

/// Finds what execve was called with in what the new process was given.
///
/// They are the same, except for a script: there the kernel has replaced the first argument by the interpreter, its
/// own argument if it has one, and the script's path. What was copied at the start tells the two apart.
fn original_arguments(seen: &Seen, given: &[&[u8]]) -> Option<Vec<Vec<u8>>> {
    let path = seen.path.as_deref();
    let owned = |args: &[&[u8]]| args.iter().map(|arg| arg.to_vec()).collect::<Vec<_>>();
    let starts_so = given.len() >= seen.args.len() && seen.args.iter().zip(given).all(|(known, found)| known == found);
    let script = (1..given.len()).find(|index| path == Some(given[*index]));
    match (script, seen.args.first()) {
        // Nothing of the arguments is known: only a second or third argument that is the path itself speaks for a
        // script.
        (Some(index @ 1..=2), None) if path != given.first().copied() => {
            let mut args = owned(&given[index + 1..]);
            args.insert(0, given[index].to_vec());
            Some(args)
        }
        (_, _) if starts_so => Some(owned(given)),
        (Some(index), Some(first)) => {
            let mut args = owned(&given[index + 1..]);
            args.insert(0, first.clone());
            args.starts_with(&seen.args).then_some(args)
        }
        (None, _) | (_, None) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn enter<'a>(args: &[&'a [u8]], args_whole: bool) -> Record<'a> {
        Record::Enter(Enter {
            key: 7,
            time_ns: 100,
            pid: 7,
            ppid: 1,
            sid: 5,
            uid: 0,
            loginuid: None,
            tty: Some(b"pts3"),
            cwd: None,
            path: Some(b"./x"),
            args: args.to_vec(),
            args_whole,
        })
    }

    fn ended(total: usize) -> Record<'static> {
        Record::Exit { key: 7, result: 0, path: Some(b"./x"), total }
    }

    fn block(bytes: &[u8], total: usize, offset: usize) -> Record<'_> {
        Record::Block { key: 7, total, offset, bytes }
    }

    #[track_caller]
    fn check(known: &[&[u8]], given: &[u8], expected: &[&str]) {
        let mut assembly = Assembly::default();
        assert_eq!(assembly.take(enter(known, false)), None);
        assert_eq!(assembly.take(ended(given.len())), None);
        let seen = assembly.take(block(given, given.len(), 0)).unwrap();
        let args: Vec<&str> = seen.args.iter().map(|arg| std::str::from_utf8(arg).unwrap()).collect();
        assert_eq!((args.as_slice(), seen.truncated), (expected, false));
        assert!(!assembly.is_waiting());
    }

    #[test]
    fn a_whole_command_is_given_out_at_once() {
        let seen = Assembly::default().take(enter(&[b"x", b""], true)).unwrap();
        assert_eq!((seen.args, seen.truncated), (vec![b"x".to_vec(), Vec::new()], false));
    }

    #[test]
    fn missing_arguments_come_from_the_new_process() {
        check(&[], b"x\0-a\0", &["x", "-a"]);
        check(&[b"x"], b"x\0-a\0\0", &["x", "-a", ""]);
    }

    #[test]
    fn an_interpreter_is_taken_off_again() {
        check(&[], b"/bin/sh\0./x\0-a\0", &["./x", "-a"]);
        check(&[b"x"], b"/bin/sh\0-e\0./x\0-a\0", &["x", "-a"]);
    }

    #[test]
    fn a_missing_path_comes_with_the_end_whatever_the_result() {
        for result in [0, -2] {
            let Record::Enter(start) = enter(&[b"x", b"-a"], true) else { panic!("an enter") };
            let mut assembly = Assembly::default();
            assert_eq!(assembly.take(Record::Enter(Enter { path: None, ..start })), None);
            let seen = assembly.take(Record::Exit { key: 7, result, path: Some(b"./x"), total: 5 }).unwrap();
            assert_eq!((seen.path.as_deref(), seen.args.len(), seen.truncated), (Some(&b"./x"[..]), 2, false));
        }
    }

    #[test]
    fn a_dropped_piece_or_a_failure_gives_a_truncated_command() {
        let mut assembly = Assembly::default();
        assembly.take(enter(&[b"x"], false));
        assembly.take(ended(8));
        assert!(assembly.take(block(b"x\0", 8, 4)).unwrap().truncated);
        assembly.take(enter(&[b"x"], false));
        let failed = Record::Exit { key: 7, result: -2, path: Some(b"./x"), total: 0 };
        assert!(assembly.take(failed).unwrap().truncated);
    }

    #[test]
    fn waiting_is_bounded_in_time_and_number() {
        let mut assembly = Assembly::default();
        for _ in 0..MAX_HELD {
            assert_eq!(assembly.take(enter(&[], false)), None);
        }
        assert!(assembly.take(enter(&[], false)).unwrap().truncated);
        assert_eq!(assembly.expired(HOLD_NS), None);
        assert!(assembly.expired(100 + HOLD_NS).unwrap().truncated);
    }
}
