//! The exact source: loads the BPF programs, hooks them to the execve tracepoints and reads what they send.

use std::{
    fs, io,
    io::Read,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::fs::MetadataExt,
    },
};

use nix::{
    fcntl::{OFlag, openat},
    libc,
    sys::{
        resource::{RLIM_INFINITY, Resource, setrlimit},
        stat::Mode,
    },
};

use super::{
    assemble::{Assembly, Seen},
    btf::{BtfError, Offsets},
    program::{self, Call, Maps, PidNamespace},
    record,
    refused::LoadProgramError,
};
use crate::host::kernel::{self, MapKind, MapSpec, RingBuffer, RingError};

/// Room between the programs and the tracer, in the kernel's memory: some 20,000 ordinary commands, or one with the
/// longest arguments that shells pass (2 MiB). What finds it full is counted as dropped; so few long commands must not
/// fill it, or they would hide what follows them.
const RING_BYTES: u32 = 4 * 1024 * 1024;

/// Tasks inside an execve that was not whole at its start. The kernel forgets the least recently used beyond that.
const PENDING_ENTRIES: u32 = 1024;

/// Records taken in one go, so that one reading of a flood is bounded.
const BATCH: usize = 4096;

/// The inode number of the machine's own PID namespace (`PROC_PID_INIT_INO`).
const INITIAL_PID_NAMESPACE: u32 = 0xefff_fffc;

/// Where tracefs is mounted, if it is.
const TRACEFS: [&str; 2] = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];

/// The BPF programs could not be brought to run.
#[derive(Debug, thiserror::Error)]
pub(super) enum EbpfError {
    #[error("attach a BPF program to the tracepoint {tracepoint}")]
    Attach { tracepoint: &'static str, source: io::Error },
    #[error(transparent)]
    Btf(#[from] BtfError),
    #[error("create a BPF map")]
    CreateMap(#[source] io::Error),
    #[error(transparent)]
    Load(#[from] LoadProgramError),
    #[error("map the BPF ring buffer into memory")]
    MapRing(#[source] io::Error),
    #[error("read which PID namespace this is")]
    PidNamespace(#[source] io::Error),
    #[error("read the number of the tracepoint {tracepoint}")]
    Tracepoint { tracepoint: &'static str, source: io::Error },
}

/// The running programs and the receiving end of their ring buffer.
#[derive(Debug)]
pub(super) struct Ebpf {
    ring: RingBuffer,
    drops: OwnedFd,
    assembly: Assembly,
    malformed: u64,
    /// Closing these detaches the programs.
    _attached: Vec<OwnedFd>,
}

impl Ebpf {
    /// Loads and attaches the programs.
    pub(super) fn open() -> Result<Ebpf, EbpfError> {
        let offsets = Offsets::of_this_kernel()?;
        let pids = pid_namespace().map_err(EbpfError::PidNamespace)?;
        let map = |kind, key_size, value_size, entries| {
            create_map(MapSpec { kind, key_size, value_size, entries }).map_err(EbpfError::CreateMap)
        };
        let drops = map(MapKind::Array, 4, 8, 1)?;
        let pending = map(MapKind::LruHash, 8, 8, PENDING_ENTRIES)?;
        let scratch = map(MapKind::PerCpuArray, 4, program::SCRATCH_BYTES, 1)?;
        let ring = map(MapKind::RingBuffer, 0, 0, RING_BYTES)?;
        let maps =
            Maps { drops: drops.as_fd(), pending: pending.as_fd(), ring: ring.as_fd(), scratch: scratch.as_fd() };
        let load = |code: &[u64]| kernel::load_program(code, program::LICENSE);
        let execve = load(&program::enter(Call::Execve, maps, &offsets, pids))?;
        let execveat = load(&program::enter(Call::Execveat, maps, &offsets, pids))?;
        let exit = load(&program::exit(maps, &offsets))?;
        // The ends first: an execve caught between the two attachments then misses nothing it left a note for.
        let attached = [
            ("sys_exit_execve", &exit),
            ("sys_exit_execveat", &exit),
            ("sys_enter_execve", &execve),
            ("sys_enter_execveat", &execveat),
        ]
        .into_iter()
        .map(|(tracepoint, program)| attach(tracepoint, program.as_fd()))
        .collect::<Result<Vec<_>, _>>()?;
        let ring = RingBuffer::new(ring, RING_BYTES).map_err(EbpfError::MapRing)?;
        Ok(Ebpf { ring, drops, assembly: Assembly::default(), malformed: 0, _attached: attached })
    }

    /// Returns the commands that can be had without waiting.
    pub(super) fn take(&mut self) -> Result<Vec<Seen>, RingError> {
        let Ebpf { ring, assembly, malformed, .. } = self;
        let mut seen = Vec::new();
        ring.drain(BATCH, |bytes| match record::parse(bytes) {
            Ok(record) => seen.extend(assembly.take(record)),
            Err(error) => {
                *malformed += 1;
                tracing::warn!(%error, "the exec tracer's program sent nonsense");
            }
        })?;
        if assembly.is_waiting() {
            let now = kernel::monotonic_ns();
            seen.extend(std::iter::from_fn(|| assembly.expired(now)));
        }
        Ok(seen)
    }

    /// Returns whether a command waits for its other half.
    pub(super) fn is_waiting(&self) -> bool {
        self.assembly.is_waiting()
    }

    /// Returns how many records were lost since the start.
    pub(super) fn drops(&self) -> u64 {
        // The map is ours and its one key exists, so a refusal cannot happen.
        kernel::read_counter(self.drops.as_fd(), 0).unwrap_or(0) + self.malformed
    }
}

impl AsFd for Ebpf {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ring.as_fd()
    }
}

/// Creates a map. Kernels before 5.11 count maps as locked memory and refuse them beyond its limit, so that is
/// lifted.
fn create_map(spec: MapSpec) -> io::Result<OwnedFd> {
    match kernel::create_map(spec) {
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => {
            match setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY) {
                Ok(()) => kernel::create_map(spec),
                Err(_) => Err(error),
            }
        }
        outcome => outcome,
    }
}

fn attach(tracepoint: &'static str, program: BorrowedFd<'_>) -> Result<OwnedFd, EbpfError> {
    let id = tracepoint_id(tracepoint).map_err(|source| EbpfError::Tracepoint { tracepoint, source })?;
    kernel::attach_tracepoint(id, program).map_err(|source| EbpfError::Attach { tracepoint, source })
}

/// Reads a tracepoint's number from a mounted tracefs or, as many machines mount none, from a private one.
fn tracepoint_id(name: &str) -> io::Result<u64> {
    let path = format!("events/syscalls/{name}/id");
    let mounted = TRACEFS.iter().find_map(|root| fs::read_to_string(format!("{root}/{path}")).ok());
    let text = match mounted {
        Some(text) => text,
        None => {
            let root = kernel::private_tracefs()?;
            let file = openat(root.as_fd(), path.as_str(), OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?;
            let mut text = String::new();
            fs::File::from(file).take(32).read_to_string(&mut text)?;
            text
        }
    };
    text.trim().parse().map_err(|_| io::Error::from(io::ErrorKind::InvalidData))
}

fn pid_namespace() -> io::Result<PidNamespace> {
    let inode = fs::metadata("/proc/self/ns/pid")?.ino();
    let inode = u32::try_from(inode).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
    Ok(if inode == INITIAL_PID_NAMESPACE { PidNamespace::Initial } else { PidNamespace::Inner(inode) })
}
