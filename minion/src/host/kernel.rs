//! Raw system calls that no safe crate offers, each behind a safe function: the one `unsafe` module of the workspace.
//!
//! What lives here: BPF maps and programs, perf tracepoints, a private tracefs mount, the BPF ring buffer, the
//! process connector's socket, waiting on a descriptor, and the settings of glibc's allocator. What does not: any
//! decision. `host/exec/` decides, this obeys.
#![expect(unsafe_code, reason = "system calls that neither std nor nix wraps; every block says why it is sound")]

use std::{
    ffi::CStr,
    io,
    marker::PhantomData,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
    ptr::{self, NonNull},
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
    time::Duration,
};

use nix::libc;

use super::exec::refused::LoadProgramError;

// Commands, types and flags of bpf(2), from include/uapi/linux/bpf.h.
const BPF_MAP_CREATE: libc::c_int = 0;
const BPF_MAP_LOOKUP_ELEM: libc::c_int = 1;
const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_PROG_TYPE_TRACEPOINT: u32 = 5;

// A ring buffer record's header, ibid.
const BPF_RINGBUF_BUSY_BIT: u32 = 1 << 31;
const BPF_RINGBUF_DISCARD_BIT: u32 = 1 << 30;
const BPF_RINGBUF_HEADER: u64 = 8;

// include/uapi/linux/perf_event.h.
const PERF_TYPE_TRACEPOINT: u32 = 2;
const PERF_FLAG_FD_CLOEXEC: libc::c_ulong = 8;
const PERF_EVENT_IOC_ENABLE: u32 = 0x2400;
const PERF_EVENT_IOC_SET_BPF: u32 = 0x4004_2408;

// include/uapi/linux/mount.h.
const FSOPEN_CLOEXEC: libc::c_uint = 1;
const FSMOUNT_CLOEXEC: libc::c_uint = 1;
const FSCONFIG_CMD_CREATE: libc::c_uint = 6;

/// How much of the verifier's complaint is asked for. A longer one is cut by the kernel at the front or the end.
const VERIFIER_LOG_BYTES: usize = 256 * 1024;

/// The kinds of BPF map the tracer uses, with the kernel's numbers.
#[derive(Clone, Copy, Debug)]
#[repr(u32)]
pub(super) enum MapKind {
    Array = 2,
    LruHash = 9,
    PerCpuArray = 6,
    RingBuffer = 27,
}

/// What a BPF map is made of. A ring buffer has no keys and no values: its size is `entries`, in bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct MapSpec {
    pub(super) kind: MapKind,
    pub(super) key_size: u32,
    pub(super) value_size: u32,
    pub(super) entries: u32,
}

#[repr(C)]
#[derive(Default)]
struct MapCreate {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    map_flags: u32,
    inner_map_fd: u32,
    numa_node: u32,
}

#[repr(C)]
struct MapElement {
    map_fd: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

#[repr(C)]
struct ProgramLoad {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
}

/// The first published layout of `struct perf_event_attr` (64 bytes), which every kernel still takes.
#[repr(C)]
#[derive(Default)]
struct PerfEventAttr {
    kind: u32,
    size: u32,
    config: u64,
    sample_period: u64,
    sample_type: u64,
    read_format: u64,
    flags: u64,
    wakeup_events: u32,
    bp_type: u32,
    config1: u64,
}

/// Creates a BPF map.
pub(super) fn create_map(spec: MapSpec) -> io::Result<OwnedFd> {
    let attr = MapCreate {
        map_type: spec.kind as u32,
        key_size: spec.key_size,
        value_size: spec.value_size,
        max_entries: spec.entries,
        ..MapCreate::default()
    };
    // SAFETY: `MapCreate` is a prefix of `union bpf_attr` for this command and holds no pointers.
    let fd = unsafe { bpf(BPF_MAP_CREATE, &attr) }?;
    // SAFETY: on success the command returns a new descriptor that nobody else owns.
    Ok(unsafe { owned(fd) })
}

/// Returns the 64-bit value at `key` of an array map whose values are 64 bits wide.
pub(super) fn read_counter(map: BorrowedFd<'_>, key: u32) -> io::Result<u64> {
    let mut value = 0_u64;
    let attr = MapElement {
        map_fd: fd_number(map),
        padding: 0,
        key: address(&raw const key),
        value: address(&raw mut value),
        flags: 0,
    };
    // SAFETY: both addresses are of live locals of the width the map was created with (see above).
    unsafe { bpf(BPF_MAP_LOOKUP_ELEM, &attr) }?;
    Ok(value)
}

/// Loads a tracepoint program; the verifier's log comes with a refusal.
pub(super) fn load_program(instructions: &[u64], license: &CStr) -> Result<OwnedFd, LoadProgramError> {
    let quiet = load_with_log(instructions, license, &mut []);
    let cause = match quiet {
        Ok(program) => return Ok(program),
        Err(cause) => cause,
    };
    if cause.kind() == io::ErrorKind::PermissionDenied && cause.raw_os_error() == Some(libc::EPERM) {
        return Err(LoadProgramError { log: String::new(), cause });
    }
    // Only a refused program pays for a log.
    let mut log = vec![0; VERIFIER_LOG_BYTES];
    match load_with_log(instructions, license, &mut log) {
        Ok(program) => Ok(program),
        Err(_) => {
            let end = log.iter().position(|byte| *byte == 0).unwrap_or(log.len());
            Err(LoadProgramError { log: String::from_utf8_lossy(&log[..end]).into_owned(), cause })
        }
    }
}

fn load_with_log(instructions: &[u64], license: &CStr, log: &mut [u8]) -> io::Result<OwnedFd> {
    let attr = ProgramLoad {
        prog_type: BPF_PROG_TYPE_TRACEPOINT,
        insn_cnt: u32::try_from(instructions.len()).map_err(|_| io::Error::from_raw_os_error(libc::E2BIG))?,
        insns: address(instructions.as_ptr()),
        license: address(license.as_ptr()),
        log_level: u32::from(!log.is_empty()),
        log_size: u32::try_from(log.len()).map_err(|_| io::Error::from_raw_os_error(libc::E2BIG))?,
        log_buf: if log.is_empty() { 0 } else { address(log.as_mut_ptr()) },
        kern_version: 0,
        prog_flags: 0,
    };
    // SAFETY: the three addresses point at live borrows of the lengths given, and the kernel writes only to the log.
    let fd = unsafe { bpf(BPF_PROG_LOAD, &attr) }?;
    // SAFETY: on success the command returns a new descriptor that nobody else owns.
    Ok(unsafe { owned(fd) })
}

/// Runs `program` at every hit of the tracepoint `id`, on all processors, until the returned descriptor is dropped.
pub(super) fn attach_tracepoint(id: u64, program: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let attr = PerfEventAttr {
        kind: PERF_TYPE_TRACEPOINT,
        size: u32::try_from(size_of::<PerfEventAttr>()).expect("64 fits"),
        config: id,
        ..PerfEventAttr::default()
    };
    // Any pid, processor 0: a tracepoint's programs run wherever it is hit, whatever the event's own processor.
    // SAFETY: `attr` is a live struct of the size it states.
    let fd =
        checked(unsafe { libc::syscall(libc::SYS_perf_event_open, &raw const attr, -1, 0, -1, PERF_FLAG_FD_CLOEXEC) })?;
    // SAFETY: on success the call returns a new descriptor that nobody else owns.
    let event = unsafe { owned(fd) };
    // SAFETY: both requests take an integer, no pointer.
    checked(i64::from(unsafe { libc::ioctl(event.as_raw_fd(), PERF_EVENT_IOC_SET_BPF as _, program.as_raw_fd()) }))?;
    // SAFETY: as above.
    checked(i64::from(unsafe { libc::ioctl(event.as_raw_fd(), PERF_EVENT_IOC_ENABLE as _, 0) }))?;
    Ok(event)
}

/// Mounts tracefs for this descriptor alone: nothing appears in any mount table, and dropping it unmounts.
pub(super) fn private_tracefs() -> io::Result<OwnedFd> {
    // SAFETY: the name is a C string, the flags an integer.
    let context = checked(unsafe { libc::syscall(libc::SYS_fsopen, c"tracefs".as_ptr(), FSOPEN_CLOEXEC) })?;
    // SAFETY: on success the call returns a new descriptor that nobody else owns.
    let context = unsafe { owned(context) };
    let none = ptr::null::<libc::c_char>();
    // SAFETY: this command takes no key, no value and no auxiliary number.
    checked(unsafe { libc::syscall(libc::SYS_fsconfig, context.as_raw_fd(), FSCONFIG_CMD_CREATE, none, none, 0) })?;
    // SAFETY: integers only.
    let mount = checked(unsafe { libc::syscall(libc::SYS_fsmount, context.as_raw_fd(), FSMOUNT_CLOEXEC, 0) })?;
    // SAFETY: on success the call returns a new descriptor that nobody else owns.
    Ok(unsafe { owned(mount) })
}

/// Opens a netlink socket of the connector family, unbound and non-blocking.
pub(super) fn connector_socket() -> io::Result<OwnedFd> {
    let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: integers only.
    let fd = checked(i64::from(unsafe { libc::socket(libc::AF_NETLINK, kind, libc::NETLINK_CONNECTOR) }))?;
    // SAFETY: on success the call returns a new descriptor that nobody else owns.
    Ok(unsafe { owned(fd) })
}

/// Waits until `fd` is readable, for at most `timeout`. An interrupted wait counts as "not yet".
pub(super) fn wait_readable(fd: BorrowedFd<'_>, timeout: Duration) -> io::Result<bool> {
    let mut entry = libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // Rounded up, or a wait of under a millisecond would spin.
    let millis = libc::c_int::try_from(timeout.as_micros().div_ceil(1000)).unwrap_or(libc::c_int::MAX);
    // SAFETY: one live entry, and the count says one.
    match checked(i64::from(unsafe { libc::poll(&raw mut entry, 1, millis) })) {
        Ok(ready) => Ok(ready > 0),
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(false),
        Err(error) => Err(error),
    }
}

/// Returns the clock that BPF programs stamp their records with, in nanoseconds since boot.
pub(super) fn monotonic_ns() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is a live timespec. The call cannot fail for this clock; if it did, zero is a valid answer.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    u64::try_from(now.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0)
}

/// Makes `command` start in a session of its own whose controlling terminal is its standard input.
pub fn lead_session_on_stdin(command: &mut std::process::Command) {
    use std::os::unix::process::CommandExt;
    // SAFETY: setsid and ioctl are async-signal-safe, which is all that may run between fork and exec.
    unsafe {
        command.pre_exec(|| {
            checked(i64::from(libc::setsid()))?;
            checked(i64::from(libc::ioctl(0, libc::TIOCSCTTY as _, 0))).map(|_| ())
        });
    }
}

/// From this many bytes on, free memory at the end of the heap goes back to the system, and a block is a mapping of its own.
#[cfg(target_env = "gnu")]
const KEPT_FREE: libc::c_int = 64 * 1024;

/// Has the allocator keep little of what was freed. glibc would give each thread a heap of its own: a burst of events that
/// passes through several threads is then kept several times over, and a minion is idle most of its life. To be called
/// before there is a second thread. Other allocators are left as they are.
pub fn keep_little_memory() {
    #[cfg(target_env = "gnu")]
    for (setting, value) in
        [(libc::M_ARENA_MAX, 1), (libc::M_TRIM_THRESHOLD, KEPT_FREE), (libc::M_MMAP_THRESHOLD, KEPT_FREE)]
    {
        // SAFETY: mallopt takes two numbers and changes how later allocations are placed; a value that it refuses changes
        // nothing.
        unsafe { libc::mallopt(setting, value) };
    }
}

/// How much of a ring buffer is looked at in one go. No record may be longer.
const RING_WINDOW: u64 = 256 * 1024;

/// The reading side of a BPF ring buffer: one consumer, in order, without copies.
///
/// Only the two positions stay mapped. The kernel fills in every page of such a mapping at once, so the records
/// themselves are mapped while they are read, and an idle reader holds none of the buffer's memory.
#[derive(Debug)]
pub(super) struct RingBuffer {
    map: OwnedFd,
    consumer: Mapping,
    producer: Mapping,
    size: u64,
    page: u64,
}

/// Why a ring buffer cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum RingError {
    /// Its memory makes no sense, so nothing in it can be trusted any more.
    #[error("read a ring buffer record of {len} bytes where {room} wait")]
    Corrupt { len: u64, room: u64 },
    #[error("map the waiting records of a ring buffer")]
    Map(#[source] io::Error),
}

/// The records that wait, or as many of the first as [`RING_WINDOW`] holds.
struct Window {
    memory: Mapping,
    /// The consumer's position at the first record.
    position: u64,
    /// Where that record is within `memory`.
    start: usize,
    /// How many bytes of records there are.
    len: u64,
}

impl RingBuffer {
    /// Maps the positions of the ring buffer `map`, created with `size` bytes, into this process.
    pub(super) fn new(map: OwnedFd, size: u32) -> io::Result<RingBuffer> {
        // SAFETY: takes and returns integers.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        let page = u64::try_from(page).map_err(|_| io::Error::last_os_error())?;
        let consumer = Mapping::new(map.as_fd(), Access::Write, page, 0)?;
        let producer = Mapping::new(map.as_fd(), Access::Read, page, page)?;
        Ok(RingBuffer { map, consumer, producer, size: u64::from(size), page })
    }

    /// Hands each waiting record to `each`, frees it, and stops after `limit` records.
    pub(super) fn drain(&mut self, limit: usize, mut each: impl FnMut(&[u8])) -> Result<usize, RingError> {
        let mut seen = 0;
        while seen < limit {
            let Some(window) = self.window().map_err(RingError::Map)? else { break };
            match self.drain_window(&window, limit - seen, &mut each)? {
                0 => break, // Reserved, not yet committed: its writer will wake us.
                more => seen += more,
            }
        }
        Ok(seen)
    }

    /// Maps the waiting records; none if nothing waits.
    fn window(&self) -> io::Result<Option<Window>> {
        let position = self.consumer.position().load(Ordering::Relaxed);
        let waiting = self.producer.position().load(Ordering::Acquire).saturating_sub(position);
        if waiting == 0 {
            return Ok(None);
        }
        let len = waiting.min(RING_WINDOW).min(self.size);
        let offset = position & (self.size - 1);
        let start = offset % self.page;
        // The kernel has the data twice in a row, behind both positions, so a record that wraps is still one slice.
        let memory = Mapping::new(self.map.as_fd(), Access::Read, start + len, 2 * self.page + offset - start)?;
        Ok(Some(Window { memory, position, start: below_mapped(start), len }))
    }

    fn drain_window(&self, window: &Window, limit: usize, each: &mut impl FnMut(&[u8])) -> Result<usize, RingError> {
        let (mut seen, mut at) = (0, 0);
        while seen < limit && at < window.len {
            let start = window.start + below_mapped(at);
            let header = window.memory.word(start).load(Ordering::Acquire);
            if header & BPF_RINGBUF_BUSY_BIT != 0 {
                break;
            }
            let len = u64::from(header & !(BPF_RINGBUF_BUSY_BIT | BPF_RINGBUF_DISCARD_BIT));
            let end = at + (len + BPF_RINGBUF_HEADER).next_multiple_of(8);
            if end > window.len && at > 0 {
                break; // The next window begins with it.
            }
            if end > window.len {
                return Err(RingError::Corrupt { len, room: window.len });
            }
            if header & BPF_RINGBUF_DISCARD_BIT == 0 {
                each(window.memory.bytes(start + 8, below_mapped(len)));
            }
            at = end;
            self.consumer.position().store(window.position + at, Ordering::Release);
            seen += 1;
        }
        Ok(seen)
    }
}

/// Makes an index of an offset into a mapping.
fn below_mapped(offset: u64) -> usize {
    usize::try_from(offset).expect("below the mapped size")
}

impl AsFd for RingBuffer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.map.as_fd()
    }
}

enum Access {
    Read,
    Write,
}

/// One shared memory mapping, unmapped on drop.
#[derive(Debug)]
struct Mapping {
    start: NonNull<u8>,
    len: usize,
    memory: PhantomData<[u8]>,
}

// SAFETY: the mapping is process-wide memory owned by this value alone; no thread has a special claim to it.
unsafe impl Send for Mapping {}

impl Mapping {
    fn new(fd: BorrowedFd<'_>, access: Access, len: u64, offset: u64) -> io::Result<Mapping> {
        let protection = match access {
            Access::Read => libc::PROT_READ,
            Access::Write => libc::PROT_READ | libc::PROT_WRITE,
        };
        let offset = libc::off_t::try_from(offset).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
        let len = usize::try_from(len).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
        // SAFETY: a fresh shared mapping at an address of the kernel's choice overlaps nothing.
        let start = unsafe { libc::mmap(ptr::null_mut(), len, protection, libc::MAP_SHARED, fd.as_raw_fd(), offset) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or_else(|| io::Error::from_raw_os_error(libc::ENOMEM))?;
        Ok(Mapping { start, len, memory: PhantomData })
    }

    /// The position counter that both position pages begin with.
    fn position(&self) -> &AtomicU64 {
        // SAFETY: a mapping is page-aligned and at least a page long; the kernel too only touches this word
        // atomically.
        unsafe { self.start.cast::<AtomicU64>().as_ref() }
    }

    /// The record header at `offset`, a multiple of eight.
    fn word(&self, offset: usize) -> &AtomicU32 {
        assert!(offset.is_multiple_of(8) && offset + 4 <= self.len, "a record header lies within the mapping");
        // SAFETY: in bounds and aligned (just checked); the kernel writes this word atomically.
        unsafe { self.start.add(offset).cast::<AtomicU32>().as_ref() }
    }

    /// The bytes of a committed record, which the kernel leaves alone until the consumer position passes them.
    fn bytes(&self, offset: usize, len: usize) -> &[u8] {
        assert!(offset.checked_add(len).is_some_and(|end| end <= self.len), "a record lies within the mapping");
        // SAFETY: in bounds (just checked), initialised by the kernel, and unchanged while the caller holds the
        // borrow: `drain_window` moves the consumer position only after its callback has returned.
        unsafe { std::slice::from_raw_parts(self.start.add(offset).as_ptr(), len) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: exactly the range that `new` mapped, and no borrow outlives `self`.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
    }
}

/// Calls bpf(2).
///
/// # Safety
/// `attr` must be a prefix of `union bpf_attr` as `command` reads it, with every address in it valid for that
/// command.
unsafe fn bpf<A>(command: libc::c_int, attr: &A) -> io::Result<libc::c_long> {
    // SAFETY: upheld by the caller; the size given is the size of what is passed.
    checked(unsafe { libc::syscall(libc::SYS_bpf, command, ptr::from_ref(attr), size_of::<A>()) })
}

/// Takes a descriptor that a system call has just returned.
///
/// # Safety
/// `fd` must be open and owned by nobody else.
unsafe fn owned(fd: libc::c_long) -> OwnedFd {
    let fd = RawFd::try_from(fd).expect("a descriptor is a small non-negative integer");
    // SAFETY: upheld by the caller.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

fn checked(outcome: libc::c_long) -> io::Result<libc::c_long> {
    if outcome < 0 { Err(io::Error::last_os_error()) } else { Ok(outcome) }
}

fn fd_number(fd: BorrowedFd<'_>) -> u32 {
    u32::try_from(fd.as_raw_fd()).expect("an open descriptor is not negative")
}

fn address<T>(pointer: *const T) -> u64 {
    pointer as usize as u64
}
