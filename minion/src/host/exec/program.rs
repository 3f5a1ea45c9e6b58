//! The two BPF programs, written instruction by instruction for the kernel at hand: no compiler, no object file.
//!
//! `enter` runs at the start of every execve(2) and execveat(2). It leaves at once unless the task belongs to a
//! person's session (a controlling terminal or a login uid), then copies who, where and what into a scratch value and
//! sends that to the ring buffer. A page of the path or the arguments that is not in memory cannot be read at that
//! point, and there is room for [`MAX_ARGS`] arguments and [`TAIL_LIMIT`] bytes; in both cases it notes the task in a
//! map. `exit` runs at the end of the same calls and, for noted tasks only, sends what was missing: after a success
//! the whole argument block of the new process (which the kernel has just written, so it is in memory), after a
//! failure the path.
//!
//! Registers in both: `R7` is the scratch value (a record, see `record.rs`), `R8` the bytes written after its header.

use std::os::fd::BorrowedFd;

use super::{
    bpf::{Asm, Helper, Label, Reg, Size, When},
    btf::Offsets,
    record::{self, HEADER},
};
use Reg::{R0, R1, R2, R3, R4, R6, R7, R8, R9, R10};

/// What the programs say about themselves. The kernel lends `bpf_probe_read_*` to GPL-compatible programs only.
pub(super) const LICENSE: &std::ffi::CStr = c"Dual MIT/GPL";

/// Arguments (or 4 KiB pieces of long ones) that `enter` copies. The verifier walks the loop this many times at load.
const MAX_ARGS: i32 = 512;

/// Bytes of path, directory and arguments after which `enter` takes no further one.
pub(super) const TAIL_LIMIT: i32 = 24 * 1024;

/// The longest string, or piece of one, read in one go: `PATH_MAX`.
const CHUNK: i32 = 4096;

/// Bytes of the argument block per record of `exit`.
const BLOCK: i32 = 16 * 1024;

/// The most that `exit` sends. The kernel allows three quarters of 8 MiB for arguments and environment together.
const MAX_BLOCK_BYTES: i32 = 6 * 1024 * 1024;

/// The scratch value's size; per-processor values may have 32 KiB.
pub(super) const SCRATCH_BYTES: u32 = HEADER as u32 + (TAIL_LIMIT + CHUNK) as u32;

pub(super) const POINTER_BYTES: i32 = 8;

// Slots of the stack frame, below the frame pointer.
pub(super) const STRING: i16 = -8;
pub(super) const TASK: i16 = -16;
pub(super) const ANY: i16 = -24;
const KEY: i16 = -32;
const PATH: i16 = -40;
pub(super) const DENTRY: i16 = -48;
pub(super) const MOUNT: i16 = -56;
const ZERO: i16 = -64;
pub(super) const SIGNAL: i16 = -72;
const ARGV: i16 = -80;
pub(super) const UPID: i16 = -88;
pub(super) const START: i16 = -96;
const END: i16 = -104;
pub(super) const LEVEL: i16 = -112;

/// The maps that the programs share with the tracer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Maps<'a> {
    /// One 64-bit count of records that found the ring buffer full.
    pub(super) drops: BorrowedFd<'a>,
    /// Tasks whose `exit` has something to add: key to the path's address.
    pub(super) pending: BorrowedFd<'a>,
    pub(super) ring: BorrowedFd<'a>,
    /// One value of [`SCRATCH_BYTES`] per processor.
    pub(super) scratch: BorrowedFd<'a>,
}

/// Whose pids the records carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PidNamespace {
    /// The machine's own: every process is seen.
    Initial,
    /// A container's, by inode number: only processes within are seen, with the pids they have there.
    Inner(u32),
}

/// Which of the two system calls a program is for: they differ in where the path and the arguments are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    Execve,
    Execveat,
}

impl Call {
    /// Where the path and the argument vector are in the enter tracepoint's context.
    fn arguments(self) -> (i16, i16) {
        match self {
            Call::Execve => (16, 24),
            Call::Execveat => (24, 32),
        }
    }
}

/// Where the result is in the exit tracepoint's context.
const EXIT_RESULT: i16 = 16;

/// Writes the program for the start of `call`.
pub(super) fn enter(call: Call, maps: Maps<'_>, offsets: &Offsets, pids: PidNamespace) -> Vec<u64> {
    let mut w = Writer::new(maps, offsets);
    let (path, argv) = call.arguments();
    w.asm.load(Size::D, R2, R1, path);
    w.asm.store(Size::D, R10, PATH, R2);
    w.asm.load(Size::D, R6, R1, argv);
    w.asm.store(Size::D, R10, ARGV, R6);
    w.scratch(record::KIND_ENTER);
    w.session();
    w.pid_level(pids);
    w.pids(pids);
    w.asm.call(Helper::CurrentUidGid);
    w.asm.store(Size::W, R7, record::UID, R0);
    w.path(PATH, 2);
    w.directory();
    w.arguments();
    w.note_if_incomplete();
    w.send();
    w.finish()
}

/// Writes the program for the end of either call.
pub(super) fn exit(maps: Maps<'_>, offsets: &Offsets) -> Vec<u64> {
    let mut w = Writer::new(maps, offsets);
    w.asm.load(Size::D, R9, R1, EXIT_RESULT);
    w.take_noted();
    w.scratch(record::KIND_EXIT);
    w.asm.store(Size::W, R7, record::RESULT, R9);
    let path_known = w.asm.label();
    w.asm.jump_if(When::SLt, R9, 0, path_known);
    w.argument_block_bounds();
    w.asm.bind(path_known);
    w.path(PATH, 1);
    w.asm.store_imm(Size::W, R7, record::CWD_LEN, 0);
    w.send();
    let out = w.out;
    w.asm.jump_if(When::SLt, R9, 0, out);
    w.argument_block();
    w.finish()
}

/// A program in the making, with what every part of it needs.
pub(super) struct Writer<'a> {
    pub(super) asm: Asm,
    maps: Maps<'a>,
    pub(super) offsets: &'a Offsets,
    /// Leaves the program.
    pub(super) out: Label,
}

impl<'a> Writer<'a> {
    fn new(maps: Maps<'a>, offsets: &'a Offsets) -> Writer<'a> {
        let mut asm = Asm::new();
        let out = asm.label();
        Writer { asm, maps, offsets, out }
    }

    fn finish(mut self) -> Vec<u64> {
        self.asm.bind(self.out);
        self.asm.mov_imm(R0, 0);
        self.asm.exit();
        self.asm.finish()
    }

    /// `R7` = this processor's scratch value, its header filled with what every record has. `R9` survives.
    fn scratch(&mut self, kind: i32) {
        let asm = &mut self.asm;
        asm.store_imm(Size::D, R10, ZERO, 0);
        asm.load_map(R1, self.maps.scratch);
        slot(asm, R2, ZERO);
        asm.call(Helper::MapLookup);
        asm.jump_if(When::Eq, R0, 0, self.out);
        asm.mov(R7, R0);
        asm.store_imm(Size::W, R7, record::KIND, kind);
        for field in [record::FLAGS, record::PPID, record::SID, record::RESULT, record::TOTAL, record::OFFSET] {
            asm.store_imm(Size::W, R7, field, 0);
        }
        asm.store_imm(Size::W, R7, record::LOGINUID, -1);
        asm.store_imm(Size::B, R7, record::TTY, 0);
        asm.call(Helper::KtimeNs);
        asm.store(Size::D, R7, record::TIME, R0);
        asm.call(Helper::CurrentPidTgid);
        asm.rsh_imm(R0, 32);
        asm.store(Size::D, R10, KEY, R0);
        asm.store(Size::D, R7, record::KEY, R0);
        asm.store(Size::W, R7, record::PID, R0);
    }

    /// Copies the string whose address is in `address`; `R8` becomes its length with the terminator. One shorter than
    /// `least` counts as not readable.
    fn path(&mut self, address: i16, least: i32) {
        let (fault, done) = (self.asm.label(), self.asm.label());
        let asm = &mut self.asm;
        asm.mov(R1, R7);
        asm.add_imm(R1, HEADER as i32);
        asm.mov_imm(R2, CHUNK);
        asm.load(Size::D, R3, R10, address);
        asm.call(Helper::ReadUserStr);
        asm.jump_if(When::SLt, R0, least, fault);
        asm.mov(R8, R0);
        asm.jump(done);
        asm.bind(fault);
        asm.mov_imm(R8, 0);
        self.flag(record::PATH_FAULT);
        self.asm.bind(done);
        self.asm.store(Size::W, R7, record::PATH_LEN, R8);
    }

    /// Appends the arguments. `R6` walks the vector, `R9` counts, `STRING` is the rest of an argument longer than a
    /// chunk.
    fn arguments(&mut self) {
        let (next, piece, fault, cut) = (self.asm.label(), self.asm.label(), self.asm.label(), self.asm.label());
        let (ended, done) = (self.asm.label(), self.asm.label());
        let asm = &mut self.asm;
        asm.load(Size::D, R6, R10, ARGV);
        asm.mov_imm(R9, 0);
        asm.bind(next);
        asm.jump_if(When::Ge, R9, MAX_ARGS, cut);
        asm.add_imm(R9, 1);
        self.forget_length();
        let asm = &mut self.asm;
        asm.mov(R3, R6);
        slot(asm, R1, STRING);
        asm.mov_imm(R2, POINTER_BYTES);
        asm.call(Helper::ReadUser);
        asm.jump_if(When::Ne, R0, 0, fault);
        asm.add_imm(R6, POINTER_BYTES);
        asm.load(Size::D, R3, R10, STRING);
        asm.jump_if(When::Eq, R3, 0, done);
        asm.bind(piece);
        self.forget_length();
        let asm = &mut self.asm;
        asm.jump_if(When::Gt, R8, TAIL_LIMIT, cut);
        self.tail_address(R1);
        let asm = &mut self.asm;
        asm.mov_imm(R2, CHUNK);
        asm.load(Size::D, R3, R10, STRING);
        asm.call(Helper::ReadUserStr);
        asm.jump_if(When::SLe, R0, 0, fault);
        asm.jump_if(When::Ne, R0, CHUNK, ended);
        // A full chunk ends in a terminator that the argument may not have there: go on with the byte it replaced.
        asm.add_imm(R8, CHUNK - 1);
        asm.load(Size::D, R3, R10, STRING);
        asm.add_imm(R3, CHUNK - 1);
        asm.store(Size::D, R10, STRING, R3);
        asm.jump_if(When::Ge, R9, MAX_ARGS, cut);
        asm.add_imm(R9, 1);
        asm.jump(piece);
        asm.bind(ended);
        asm.add(R8, R0);
        asm.jump(next);
        asm.bind(fault);
        self.flag(record::ARGS_FAULT);
        self.asm.jump(done);
        self.asm.bind(cut);
        self.flag(record::ARGS_CUT);
        self.asm.bind(done);
    }

    /// Leaves a note for the `exit` program if the record is not whole.
    fn note_if_incomplete(&mut self) {
        let whole = self.asm.label();
        let asm = &mut self.asm;
        asm.load(Size::W, R1, R7, record::FLAGS);
        asm.and_imm(R1, record::PATH_FAULT | record::ARGS_FAULT | record::ARGS_CUT);
        asm.jump_if(When::Eq, R1, 0, whole);
        asm.load_map(R1, self.maps.pending);
        slot(asm, R2, KEY);
        slot(asm, R3, PATH);
        asm.mov_imm(R4, 0);
        asm.call(Helper::MapUpdate);
        asm.bind(whole);
    }

    /// Takes the task's note, whose value goes to `PATH`, or leaves. `R9` survives.
    fn take_noted(&mut self) {
        let asm = &mut self.asm;
        asm.call(Helper::CurrentPidTgid);
        asm.rsh_imm(R0, 32);
        asm.store(Size::D, R10, KEY, R0);
        asm.load_map(R1, self.maps.pending);
        slot(asm, R2, KEY);
        asm.call(Helper::MapLookup);
        asm.jump_if(When::Eq, R0, 0, self.out);
        asm.load(Size::D, R1, R0, 0);
        asm.store(Size::D, R10, PATH, R1);
        asm.load_map(R1, self.maps.pending);
        slot(asm, R2, KEY);
        asm.call(Helper::MapDelete);
    }

    /// Stores where the new process's arguments are (`START`, `END`) and how long; `PATH` becomes its copy of the
    /// path, which the kernel keeps right behind the environment.
    fn argument_block_bounds(&mut self) {
        let o = self.offsets;
        self.asm.call(Helper::CurrentTask);
        self.asm.store(Size::D, R10, TASK, R0);
        self.follow(TASK, o.task_mm, ANY);
        self.follow(ANY, o.mm_arg_start, START);
        self.follow(ANY, o.mm_arg_end, END);
        self.follow(ANY, o.mm_env_end, PATH);
        self.asm.load(Size::D, R1, R10, END);
        self.asm.load(Size::D, R2, R10, START);
        self.asm.sub(R1, R2);
        self.asm.store(Size::D, R10, END, R1);
        self.asm.store(Size::W, R7, record::TOTAL, R1);
    }

    /// Sends the argument block in pieces. `R9` is how much has been sent, `END` the length.
    fn argument_block(&mut self) {
        let (next, rest) = (self.asm.label(), self.asm.label());
        self.asm.store_imm(Size::W, R7, record::KIND, record::KIND_BLOCK);
        self.asm.mov_imm(R9, 0);
        self.asm.bind(next);
        let asm = &mut self.asm;
        asm.jump_if(When::Ge, R9, MAX_BLOCK_BYTES, self.out);
        asm.load(Size::D, R8, R10, END);
        asm.jump_if_reg(When::Ge, R9, R8, self.out);
        asm.sub(R8, R9);
        let short = asm.label();
        asm.jump_if(When::Gt, R8, BLOCK, rest);
        asm.jump(short);
        asm.bind(rest);
        asm.mov_imm(R8, BLOCK);
        asm.bind(short);
        asm.mov(R1, R7);
        asm.add_imm(R1, HEADER as i32);
        asm.mov(R2, R8);
        asm.load(Size::D, R3, R10, START);
        asm.add(R3, R9);
        asm.call(Helper::ReadUser);
        asm.jump_if(When::Ne, R0, 0, self.out);
        asm.store(Size::W, R7, record::OFFSET, R9);
        self.send();
        self.asm.add_imm(R9, BLOCK);
        self.asm.jump(next);
    }

    /// Sends the record with its `R8` bytes, or counts a drop.
    fn send(&mut self) {
        let sent = self.asm.label();
        let asm = &mut self.asm;
        asm.store(Size::W, R7, record::TAIL_LEN, R8);
        asm.jump_if(When::Gt, R8, TAIL_LIMIT + CHUNK, self.out);
        asm.load_map(R1, self.maps.ring);
        asm.mov(R2, R7);
        asm.mov(R3, R8);
        asm.add_imm(R3, HEADER as i32);
        asm.mov_imm(R4, 0);
        asm.call(Helper::RingOutput);
        asm.jump_if(When::Eq, R0, 0, sent);
        asm.load_map(R1, self.maps.drops);
        slot(asm, R2, ZERO);
        asm.call(Helper::MapLookup);
        asm.jump_if(When::Eq, R0, 0, self.out);
        asm.mov_imm(R1, 1);
        asm.atomic_add(R0, 0, R1);
        asm.bind(sent);
    }

    /// `to` = the pointer at `offset` from the pointer in `from`; zero if that cannot be read.
    pub(super) fn follow(&mut self, from: i16, offset: i32, to: i16) {
        self.asm.load(Size::D, R3, R10, from);
        self.asm.add_imm(R3, offset);
        self.read_slot(to);
    }

    /// Reads eight bytes of the kernel's memory at `R3` into a slot. On a fault the helper fills in zeros.
    pub(super) fn read_slot(&mut self, to: i16) {
        slot(&mut self.asm, R1, to);
        self.asm.mov_imm(R2, POINTER_BYTES);
        self.asm.call(Helper::ReadKernel);
    }

    /// Reads the kernel's memory at `R3` into a field of the header.
    pub(super) fn read_field(&mut self, field: i16, bytes: i32) {
        self.asm.mov(R1, R7);
        self.asm.add_imm(R1, i32::from(field));
        self.asm.mov_imm(R2, bytes);
        self.asm.call(Helper::ReadKernel);
    }

    /// `dst` = where the next byte of the tail goes.
    pub(super) fn tail_address(&mut self, dst: Reg) {
        self.asm.mov(dst, R7);
        self.asm.add_imm(dst, HEADER as i32);
        self.asm.add(dst, R8);
    }

    /// Makes the verifier forget what it knows of `R8`, by a round trip through memory. Otherwise it would follow
    /// every possible length through every loop and give up; what is left to check is checked before each use.
    pub(super) fn forget_length(&mut self) {
        self.asm.store(Size::W, R7, record::TAIL_LEN, R8);
        self.asm.load(Size::W, R8, R7, record::TAIL_LEN);
    }

    pub(super) fn flag(&mut self, flag: i32) {
        self.asm.load(Size::W, R1, R7, record::FLAGS);
        self.asm.or_imm(R1, flag);
        self.asm.store(Size::W, R7, record::FLAGS, R1);
    }
}

/// `dst` = the address of a stack slot.
pub(super) fn slot(asm: &mut Asm, dst: Reg, slot: i16) {
    asm.mov(dst, R10);
    asm.add_imm(dst, i32::from(slot));
}
