//! What the BPF programs and the tracer say to each other: the layout of a ring buffer record, and its total parser.
//!
//! A record is a header of [`HEADER`] bytes and a tail of bytes. One command gives an [`Record::Enter`]; only if that
//! was not whole does the end of execve(2) add a [`Record::Exit`] and, if it succeeded, [`Record::Block`]s.

/// Bytes before a record's tail.
pub(super) const HEADER: usize = 136;

// Where the header's fields are.
pub(super) const KIND: i16 = 0;
pub(super) const FLAGS: i16 = 4;
pub(super) const TIME: i16 = 8;
pub(super) const KEY: i16 = 16;
pub(super) const PID: i16 = 24;
pub(super) const PPID: i16 = 28;
pub(super) const SID: i16 = 32;
pub(super) const UID: i16 = 36;
pub(super) const LOGINUID: i16 = 40;
pub(super) const PATH_LEN: i16 = 44;
pub(super) const CWD_LEN: i16 = 48;
pub(super) const TAIL_LEN: i16 = 52;
pub(super) const RESULT: i16 = 56;
pub(super) const TOTAL: i16 = 60;
pub(super) const OFFSET: i16 = 64;
pub(super) const TTY: i16 = 72;
/// `tty_struct.name` is this long.
pub(super) const TTY_BYTES: usize = 64;

pub(super) const KIND_ENTER: i32 = 1;
pub(super) const KIND_EXIT: i32 = 2;
pub(super) const KIND_BLOCK: i32 = 3;

/// The path was in memory that had to be read from disk first, which a BPF program may not do; or it is empty,
/// because the program is given as a descriptor.
pub(super) const PATH_FAULT: i32 = 1;
/// The same of an argument; those before it are there.
pub(super) const ARGS_FAULT: i32 = 2;
/// There are more arguments than the program carries.
pub(super) const ARGS_CUT: i32 = 4;
/// The walk up from the working directory reached the root.
pub(super) const CWD_WHOLE: i32 = 8;

/// No login uid, as the kernel writes it.
pub(super) const NO_LOGINUID: u32 = u32::MAX;

/// One record, its texts still bytes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Record<'a> {
    /// A piece of the new process's argument block, which is `total` bytes long.
    Block { key: u64, total: usize, offset: usize, bytes: &'a [u8] },
    /// An execve was entered.
    Enter(Enter<'a>),
    /// An execve that was not whole at its start has ended; `result` is negative if it failed.
    Exit { key: u64, result: i32, path: Option<&'a [u8]>, total: usize },
}

/// An execve as its caller asked for it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Enter<'a> {
    /// What ties an exit and blocks to their enter.
    pub(super) key: u64,
    pub(super) time_ns: u64,
    pub(super) pid: u32,
    pub(super) ppid: u32,
    pub(super) sid: u32,
    pub(super) uid: u32,
    pub(super) loginuid: Option<u32>,
    /// The kernel's name of the terminal, such as `pts3`.
    pub(super) tty: Option<&'a [u8]>,
    pub(super) cwd: Option<Vec<u8>>,
    pub(super) path: Option<&'a [u8]>,
    pub(super) args: Vec<&'a [u8]>,
    /// False if there are more arguments than `args` has.
    pub(super) args_whole: bool,
}

/// A record that the tracer's own programs cannot have written.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("parse an exec record of {len} bytes")]
pub(super) struct MalformedRecord {
    len: usize,
}

/// Reads one record. Any bytes give a record or an error.
pub(super) fn parse(bytes: &[u8]) -> Result<Record<'_>, MalformedRecord> {
    read(bytes).ok_or(MalformedRecord { len: bytes.len() })
}

fn read(bytes: &[u8]) -> Option<Record<'_>> {
    let (header, tail) = bytes.split_at_checked(HEADER)?;
    let tail = tail.get(..len(header, TAIL_LEN)?)?;
    let key = u64::from_ne_bytes(field(header, KEY)?);
    match i32::from_ne_bytes(field(header, KIND)?) {
        KIND_BLOCK => {
            Some(Record::Block { key, total: len(header, TOTAL)?, offset: len(header, OFFSET)?, bytes: tail })
        }
        KIND_ENTER => enter(header, tail, key).map(Record::Enter),
        KIND_EXIT => {
            let path = tail.get(..len(header, PATH_LEN)?)?.strip_suffix(&[0]);
            let result = i32::from_ne_bytes(field(header, RESULT)?);
            Some(Record::Exit { key, result, path, total: len(header, TOTAL)? })
        }
        _ => None,
    }
}

fn enter<'a>(header: &'a [u8], tail: &'a [u8], key: u64) -> Option<Enter<'a>> {
    let flags = i32::from_ne_bytes(field(header, FLAGS)?);
    let (path, rest) = tail.split_at_checked(len(header, PATH_LEN)?)?;
    let (names, args) = rest.split_at_checked(len(header, CWD_LEN)?)?;
    let tty = until_nul(header.get(offset(TTY)..offset(TTY) + TTY_BYTES)?);
    let loginuid = number(header, LOGINUID)?;
    Some(Enter {
        key,
        time_ns: u64::from_ne_bytes(field(header, TIME)?),
        pid: number(header, PID)?,
        ppid: number(header, PPID)?,
        sid: number(header, SID)?,
        uid: number(header, UID)?,
        loginuid: (loginuid != NO_LOGINUID).then_some(loginuid),
        tty: (!tty.is_empty()).then_some(tty),
        cwd: (flags & CWD_WHOLE != 0).then(|| directory(names)),
        path: if flags & PATH_FAULT == 0 { path.strip_suffix(&[0]) } else { None },
        args: strings(args),
        args_whole: flags & (ARGS_FAULT | ARGS_CUT) == 0,
    })
}

/// Splits NUL-terminated strings. One without its terminator was cut and is left out: no event shows half an
/// argument.
pub(super) fn strings(block: &[u8]) -> Vec<&[u8]> {
    block.split_inclusive(|byte| *byte == 0).filter_map(|text| text.strip_suffix(&[0])).collect()
}

/// Joins directory names that come innermost first, as the kernel's tree is walked.
fn directory(names: &[u8]) -> Vec<u8> {
    let mut path = Vec::with_capacity(names.len() + 1);
    for name in strings(names).into_iter().rev() {
        path.push(b'/');
        path.extend_from_slice(name);
    }
    if path.is_empty() {
        path.push(b'/');
    }
    path
}

fn until_nul(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default()
}

fn field<const N: usize>(header: &[u8], at: i16) -> Option<[u8; N]> {
    header.get(offset(at)..)?.first_chunk().copied()
}

fn number(header: &[u8], at: i16) -> Option<u32> {
    field(header, at).map(u32::from_ne_bytes)
}

fn len(header: &[u8], at: i16) -> Option<usize> {
    usize::try_from(number(header, at)?).ok()
}

fn offset(at: i16) -> usize {
    usize::from(at.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A record of `kind` with these header words (offset, value) and this tail.
    fn record(kind: i32, words: &[(i16, u32)], tail: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; HEADER];
        let mut put = |at: i16, value: u32| bytes[offset(at)..offset(at) + 4].copy_from_slice(&value.to_ne_bytes());
        put(KIND, kind.cast_unsigned());
        put(TAIL_LEN, u32::try_from(tail.len()).unwrap());
        words.iter().for_each(|(at, value)| put(*at, *value));
        bytes.extend_from_slice(tail);
        bytes
    }

    fn sample() -> Vec<u8> {
        let words = [(PID, 7), (LOGINUID, 1000), (PATH_LEN, 8), (CWD_LEN, 10), (FLAGS, CWD_WHOLE.cast_unsigned())];
        record(KIND_ENTER, &words, b"/bin/ls\0work\0home\0ls\0\0a b\0")
    }

    #[test]
    fn an_enter_gives_path_directory_and_every_argument() {
        let bytes = sample();
        let Ok(Record::Enter(enter)) = parse(&bytes) else { panic!("no enter in {bytes:?}") };
        assert_eq!(enter.path, Some(&b"/bin/ls"[..]));
        assert_eq!(enter.cwd.as_deref(), Some(&b"/home/work"[..]));
        assert_eq!(enter.args, [&b"ls"[..], b"", b"a b"]);
        assert_eq!((enter.pid, enter.loginuid, enter.args_whole), (7, Some(1000), true));
    }

    #[test]
    fn a_cut_argument_is_left_out() {
        assert_eq!(strings(b"ls\0-l\0/long/na"), [&b"ls"[..], b"-l"]);
    }

    #[test]
    fn a_record_cut_anywhere_is_refused() {
        let bytes = sample();
        for len in 0..bytes.len() {
            assert_eq!(parse(&bytes[..len]), Err(MalformedRecord { len }));
        }
    }

    #[test]
    fn lengths_beyond_the_record_are_refused() {
        for at in [PATH_LEN, CWD_LEN, TAIL_LEN] {
            for kind in [KIND_ENTER, KIND_EXIT] {
                let bytes = record(kind, &[(at, u32::MAX)], b"/bin/ls\0");
                assert!(parse(&bytes).is_err() || at == CWD_LEN && kind == KIND_EXIT);
            }
        }
        assert!(parse(&record(9, &[], b"")).is_err());
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_give_a_record_or_an_error(
            kind in 0..5_i32,
            words in proptest::collection::vec((0..16_i16, 0..64_u32), 0..6),
            tail in proptest::collection::vec(0..3_u8, 0..64),
        ) {
            let words: Vec<(i16, u32)> = words.into_iter().map(|(at, value)| (at * 4 + 4, value)).collect();
            let _ = parse(&record(kind, &words, &tail));
        }
    }
}
