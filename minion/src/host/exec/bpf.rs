//! A small assembler for BPF: instructions as functions, jumps to labels, and the kernel's numbers in one place.
//!
//! It knows only what the exec tracer's programs need. What they do is in `program.rs`; loading them is `kernel.rs`.

use std::os::fd::{AsRawFd, BorrowedFd};

/// A register. `R0` holds results, `R1` to `R5` arguments (lost by a call), `R6` to `R9` survive calls, `R10` is the
/// frame pointer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reg {
    R0,
    R1,
    R2,
    R3,
    R4,
    R6,
    R7,
    R8,
    R9,
    R10,
}

impl Reg {
    fn number(self) -> u8 {
        match self {
            Reg::R0 => 0,
            Reg::R1 => 1,
            Reg::R2 => 2,
            Reg::R3 => 3,
            Reg::R4 => 4,
            Reg::R6 => 6,
            Reg::R7 => 7,
            Reg::R8 => 8,
            Reg::R9 => 9,
            Reg::R10 => 10,
        }
    }
}

/// How wide a load or store is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Size {
    /// One byte.
    B,
    /// Four bytes.
    W,
    /// Eight bytes.
    D,
}

impl Size {
    fn bits(self) -> u8 {
        match self {
            Size::B => 0x10,
            Size::W => 0x00,
            Size::D => 0x18,
        }
    }
}

/// A comparison of 64-bit values.
#[derive(Clone, Copy, Debug)]
pub(super) enum When {
    Eq,
    /// Unsigned greater or equal.
    Ge,
    /// Unsigned greater.
    Gt,
    Ne,
    /// Signed less or equal.
    SLe,
    /// Signed less.
    SLt,
}

impl When {
    fn bits(self) -> u8 {
        match self {
            When::Eq => 0x10,
            When::Ge => 0x30,
            When::Gt => 0x20,
            When::Ne => 0x50,
            When::SLe => 0xd0,
            When::SLt => 0xc0,
        }
    }
}

/// A function of the kernel that programs may call; the numbers are `__BPF_FUNC_MAPPER` in include/uapi/linux/bpf.h.
#[derive(Clone, Copy, Debug)]
pub(super) enum Helper {
    CurrentPidTgid = 14,
    CurrentTask = 35,
    CurrentUidGid = 15,
    KtimeNs = 5,
    MapDelete = 3,
    MapLookup = 1,
    MapUpdate = 2,
    ReadKernel = 113,
    ReadKernelStr = 115,
    ReadUser = 112,
    ReadUserStr = 114,
    RingOutput = 130,
}

/// A place in the program that jumps can name before it is known.
#[derive(Clone, Copy, Debug)]
pub(super) struct Label(usize);

/// A program being written.
#[derive(Debug, Default)]
pub(super) struct Asm {
    code: Vec<u64>,
    labels: Vec<Option<usize>>,
    jumps: Vec<(usize, Label)>,
}

// Instruction classes and modes, Documentation/bpf/standardization/instruction-set.rst.
const LD_IMM64: u8 = 0x18;
const LDX_MEM: u8 = 0x61;
const ST_MEM: u8 = 0x62;
const STX_MEM: u8 = 0x63;
const STX_ATOMIC: u8 = 0xc3;
const JMP: u8 = 0x05;
const ALU64: u8 = 0x07;
const FROM_REGISTER: u8 = 0x08;
const CALL: u8 = 0x85;
const EXIT: u8 = 0x95;
const PSEUDO_MAP_FD: u8 = 1;

// Operations of the arithmetic class.
const ADD: u8 = 0x00;
const SUB: u8 = 0x10;
const OR: u8 = 0x40;
const AND: u8 = 0x50;
const RSH: u8 = 0x70;
const MOV: u8 = 0xb0;

impl Asm {
    /// Starts an empty program.
    pub(super) fn new() -> Asm {
        Asm::default()
    }

    /// Makes a label to be bound later.
    pub(super) fn label(&mut self) -> Label {
        self.labels.push(None);
        Label(self.labels.len() - 1)
    }

    /// Says that `label` is the next instruction.
    pub(super) fn bind(&mut self, label: Label) {
        self.labels[label.0] = Some(self.code.len());
    }

    /// `dst = src`
    pub(super) fn mov(&mut self, dst: Reg, src: Reg) {
        self.push(ALU64 | FROM_REGISTER | MOV, dst, src.number(), 0, 0);
    }

    /// `dst = imm`, sign-extended.
    pub(super) fn mov_imm(&mut self, dst: Reg, imm: i32) {
        self.push(ALU64 | MOV, dst, 0, 0, imm);
    }

    /// `dst += src`
    pub(super) fn add(&mut self, dst: Reg, src: Reg) {
        self.push(ALU64 | FROM_REGISTER | ADD, dst, src.number(), 0, 0);
    }

    /// `dst += imm`
    pub(super) fn add_imm(&mut self, dst: Reg, imm: i32) {
        self.push(ALU64 | ADD, dst, 0, 0, imm);
    }

    /// `dst -= src`
    pub(super) fn sub(&mut self, dst: Reg, src: Reg) {
        self.push(ALU64 | FROM_REGISTER | SUB, dst, src.number(), 0, 0);
    }

    /// `dst |= imm`
    pub(super) fn or_imm(&mut self, dst: Reg, imm: i32) {
        self.push(ALU64 | OR, dst, 0, 0, imm);
    }

    /// `dst &= imm`
    pub(super) fn and_imm(&mut self, dst: Reg, imm: i32) {
        self.push(ALU64 | AND, dst, 0, 0, imm);
    }

    /// `dst >>= imm`, unsigned.
    pub(super) fn rsh_imm(&mut self, dst: Reg, imm: i32) {
        self.push(ALU64 | RSH, dst, 0, 0, imm);
    }

    /// `dst = *(src + off)`, zero-extended.
    pub(super) fn load(&mut self, size: Size, dst: Reg, src: Reg, off: i16) {
        self.push(LDX_MEM | size.bits(), dst, src.number(), off, 0);
    }

    /// `*(dst + off) = src`
    pub(super) fn store(&mut self, size: Size, dst: Reg, off: i16, src: Reg) {
        self.push(STX_MEM | size.bits(), dst, src.number(), off, 0);
    }

    /// `*(dst + off) = imm`
    pub(super) fn store_imm(&mut self, size: Size, dst: Reg, off: i16, imm: i32) {
        self.push(ST_MEM | size.bits(), dst, 0, off, imm);
    }

    /// `*(dst + off) += src`, atomically, 64 bits wide.
    pub(super) fn atomic_add(&mut self, dst: Reg, off: i16, src: Reg) {
        self.push(STX_ATOMIC | Size::D.bits(), dst, src.number(), off, 0);
    }

    /// `dst` = the map behind a descriptor, which must stay open until the program is loaded.
    pub(super) fn load_map(&mut self, dst: Reg, map: BorrowedFd<'_>) {
        self.push(LD_IMM64, dst, PSEUDO_MAP_FD, 0, map.as_raw_fd());
        self.code.push(0); // The upper half of the constant: this instruction is two words long.
    }

    /// Goes to `label`.
    pub(super) fn jump(&mut self, label: Label) {
        self.jumps.push((self.code.len(), label));
        self.push(JMP, Reg::R0, 0, 0, 0);
    }

    /// Goes to `label` if `dst` compares so with the sign-extended `imm`.
    pub(super) fn jump_if(&mut self, when: When, dst: Reg, imm: i32, label: Label) {
        self.jumps.push((self.code.len(), label));
        self.push(JMP | when.bits(), dst, 0, 0, imm);
    }

    /// Goes to `label` if `dst` compares so with `src`.
    pub(super) fn jump_if_reg(&mut self, when: When, dst: Reg, src: Reg, label: Label) {
        self.jumps.push((self.code.len(), label));
        self.push(JMP | FROM_REGISTER | when.bits(), dst, src.number(), 0, 0);
    }

    /// `r0 = helper(r1, r2, r3, r4)`; `r1` to `r5` are lost.
    pub(super) fn call(&mut self, helper: Helper) {
        self.push(CALL, Reg::R0, 0, 0, helper as i32);
    }

    /// Ends the program with `r0`.
    pub(super) fn exit(&mut self) {
        self.push(EXIT, Reg::R0, 0, 0, 0);
    }

    /// Returns the finished instructions, one word each, every jump resolved.
    ///
    /// # Panics
    /// On a label that was never bound or a jump over 32,767 instructions: both are mistakes in `program.rs`.
    pub(super) fn finish(mut self) -> Vec<u64> {
        for (at, label) in self.jumps {
            let target = self.labels[label.0].expect("every label that is jumped to is bound");
            let distance = target as i64 - at as i64 - 1;
            let distance = i16::try_from(distance).expect("programs are shorter than a jump reaches");
            self.code[at] |= u64::from(distance.cast_unsigned()) << 16;
        }
        self.code
    }

    /// Encodes one instruction: opcode, registers, offset and constant, from the low byte up.
    fn push(&mut self, opcode: u8, dst: Reg, src: u8, off: i16, imm: i32) {
        let registers = (src << 4) | dst.number();
        let word = u64::from(opcode)
            | u64::from(registers) << 8
            | u64::from(off.cast_unsigned()) << 16
            | u64::from(imm.cast_unsigned()) << 32;
        self.code.push(word);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(write: impl FnOnce(&mut Asm)) -> Vec<u8> {
        let mut asm = Asm::new();
        write(&mut asm);
        asm.finish().iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    #[track_caller]
    fn check(write: impl FnOnce(&mut Asm), expected: &[u8]) {
        assert_eq!(bytes(write), expected);
    }

    // Encoded by hand from the instruction-set document; each comment is the instruction as disassemblers print it.
    #[test]
    fn instructions_encode_as_the_kernel_reads_them() {
        check(|asm| asm.mov(Reg::R6, Reg::R1), &[0xbf, 0x16, 0, 0, 0, 0, 0, 0]); // r6 = r1
        check(|asm| asm.mov_imm(Reg::R0, -1), &[0xb7, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]); // r0 = -1
        check(|asm| asm.add_imm(Reg::R2, -8), &[0x07, 2, 0, 0, 0xf8, 0xff, 0xff, 0xff]); // r2 += -8
        check(|asm| asm.add(Reg::R1, Reg::R8), &[0x0f, 0x81, 0, 0, 0, 0, 0, 0]); // r1 += r8
        check(|asm| asm.sub(Reg::R3, Reg::R9), &[0x1f, 0x93, 0, 0, 0, 0, 0, 0]); // r3 -= r9
        check(|asm| asm.rsh_imm(Reg::R0, 32), &[0x77, 0, 0, 0, 32, 0, 0, 0]); // r0 >>= 32
        check(|asm| asm.and_imm(Reg::R1, 6), &[0x57, 1, 0, 0, 6, 0, 0, 0]); // r1 &= 6
        check(|asm| asm.or_imm(Reg::R1, 4), &[0x47, 1, 0, 0, 4, 0, 0, 0]); // r1 |= 4
        check(|asm| asm.load(Size::D, Reg::R3, Reg::R6, 16), &[0x79, 0x63, 16, 0, 0, 0, 0, 0]); // r3 = *(u64*)(r6+16)
        check(|asm| asm.load(Size::W, Reg::R1, Reg::R7, 4), &[0x61, 0x71, 4, 0, 0, 0, 0, 0]); // w1 = *(u32*)(r7+4)
        check(|asm| asm.store(Size::D, Reg::R10, -8, Reg::R3), &[0x7b, 0x3a, 0xf8, 0xff, 0, 0, 0, 0]); // *(r10-8) = r3
        check(|asm| asm.store_imm(Size::W, Reg::R7, 0, 1), &[0x62, 7, 0, 0, 1, 0, 0, 0]); // *(u32*)(r7+0) = 1
        check(|asm| asm.store_imm(Size::B, Reg::R7, 9, 0), &[0x72, 7, 9, 0, 0, 0, 0, 0]); // *(u8*)(r7+9) = 0
        check(|asm| asm.atomic_add(Reg::R0, 0, Reg::R1), &[0xdb, 0x10, 0, 0, 0, 0, 0, 0]); // lock *(u64*)(r0+0) += r1
        check(|asm| asm.call(Helper::ReadUserStr), &[0x85, 0, 0, 0, 114, 0, 0, 0]); // call 114
        check(Asm::exit, &[0x95, 0, 0, 0, 0, 0, 0, 0]); // exit
    }

    #[test]
    fn jumps_reach_forward_and_back() {
        let code = bytes(|asm| {
            let (top, end) = (asm.label(), asm.label());
            asm.bind(top);
            asm.jump_if(When::Eq, Reg::R0, 0, end); // if r0 == 0 goto +2
            asm.jump_if_reg(When::Ge, Reg::R9, Reg::R2, end); // if r9 >= r2 goto +1
            asm.jump(top); // goto -3
            asm.bind(end);
            asm.exit();
        });
        assert_eq!(code[..8], [0x15, 0, 2, 0, 0, 0, 0, 0]);
        assert_eq!(code[8..16], [0x3d, 0x29, 1, 0, 0, 0, 0, 0]);
        assert_eq!(code[16..24], [0x05, 0, 0xfd, 0xff, 0, 0, 0, 0]);
    }

    #[test]
    fn a_map_constant_is_two_words() {
        use std::os::fd::AsFd;
        let file = std::fs::File::open("/dev/null").unwrap();
        let code = bytes(|asm| asm.load_map(Reg::R1, file.as_fd()));
        let fd = u8::try_from(file.as_raw_fd()).unwrap();
        assert_eq!(code, [0x18, 0x11, 0, 0, fd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    #[should_panic(expected = "every label that is jumped to is bound")]
    fn an_unbound_label_is_our_mistake() {
        let mut asm = Asm::new();
        let nowhere = asm.label();
        asm.jump(nowhere);
        let _ = asm.finish();
    }
}
