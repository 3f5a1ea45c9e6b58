//! The part of the `enter` program that reads the kernel's own structures: whose task this is and where it works.
//!
//! Pointers are followed as a debugger would, by the offsets of `btf.rs`; one that cannot be read counts as zero.

use super::{
    bpf::{Helper, Label, Reg, Size, When},
    program::{
        ANY, DENTRY, LEVEL, MOUNT, POINTER_BYTES, PidNamespace, SIGNAL, START, STRING, TAIL_LIMIT, TASK, UPID, Writer,
        slot,
    },
    record,
};
use Reg::{R0, R1, R2, R3, R7, R8, R9, R10};

/// The largest directory name, with its terminator.
const NAME_BYTES: i32 = 256;

/// Steps of the walk from the working directory to the root; each directory and each mount is one.
const MAX_CWD_STEPS: i32 = 64;

/// How deep PID namespaces may nest (`MAX_PID_NS_LEVEL`).
const MAX_PID_LEVEL: i32 = 32;

// Indices into `signal_struct.pids` (`enum pid_type`).
const PIDTYPE_TGID: i32 = 1;
const PIDTYPE_SID: i32 = 3;

impl Writer<'_> {
    /// Leaves unless the task has a controlling terminal or a login uid, and stores both.
    pub(super) fn session(&mut self) {
        let o = self.offsets;
        self.asm.call(Helper::CurrentTask);
        self.asm.store(Size::D, R10, TASK, R0);
        self.follow(TASK, o.task_signal, SIGNAL);
        if let Some(loginuid) = o.task_loginuid {
            self.asm.load(Size::D, R3, R10, TASK);
            self.asm.add_imm(R3, loginuid);
            self.read_field(record::LOGINUID, 4);
        }
        self.follow(SIGNAL, o.signal_tty, ANY);
        let (no_tty, is_person) = (self.asm.label(), self.asm.label());
        let asm = &mut self.asm;
        asm.load(Size::D, R3, R10, ANY);
        asm.jump_if(When::Eq, R3, 0, no_tty);
        asm.mov(R1, R7);
        asm.add_imm(R1, i32::from(record::TTY));
        asm.mov_imm(R2, record::TTY_BYTES as i32);
        asm.add_imm(R3, o.tty_name);
        asm.call(Helper::ReadKernelStr);
        asm.jump(is_person);
        asm.bind(no_tty);
        asm.load(Size::W, R1, R7, record::LOGINUID);
        // Loads do not sign-extend, so the comparison is with a register that was not either.
        asm.mov_imm(R2, -1);
        asm.rsh_imm(R2, 32);
        asm.jump_if_reg(When::Eq, R1, R2, self.out);
        asm.bind(is_person);
    }

    /// Stores where in `pid.numbers` the tracer's namespace is (`UPID`, as an offset from the pid structure), and
    /// leaves if the task is not in it.
    pub(super) fn pid_level(&mut self, pids: PidNamespace) {
        let o = self.offsets;
        let PidNamespace::Inner(inode) = pids else {
            self.asm.store_imm(Size::D, R10, UPID, o.pid_numbers);
            return;
        };
        self.follow(SIGNAL, o.signal_pids + PIDTYPE_TGID * POINTER_BYTES, STRING);
        self.asm.mov_imm(R9, 0);
        let (next, found) = (self.asm.label(), self.asm.label());
        self.asm.bind(next);
        self.asm.jump_if(When::Gt, R9, MAX_PID_LEVEL, self.out);
        self.leave_if_shallower(STRING, self.out);
        // R3 = &pid.numbers[R9].ns
        self.asm.load(Size::D, R3, R10, STRING);
        for _ in 0..o.upid_size {
            self.asm.add(R3, R9);
        }
        self.asm.add_imm(R3, o.pid_numbers + o.upid_ns);
        self.read_slot(ANY);
        self.asm.load(Size::D, R3, R10, ANY);
        self.asm.add_imm(R3, o.pid_namespace_inum);
        self.read_slot(ANY);
        self.asm.load(Size::W, R1, R10, ANY);
        self.asm.mov_imm(R2, inode.cast_signed());
        self.asm.store(Size::W, R10, ANY, R2);
        self.asm.load(Size::W, R2, R10, ANY);
        self.asm.jump_if_reg(When::Eq, R1, R2, found);
        self.asm.add_imm(R9, 1);
        self.asm.jump(next);
        self.asm.bind(found);
        self.asm.mov_imm(R1, o.pid_numbers);
        for _ in 0..o.upid_size {
            self.asm.add(R1, R9);
        }
        self.asm.store(Size::D, R10, UPID, R1);
    }

    /// Goes to `label` if the pid structure in `pid` has no number at level `R9`.
    fn leave_if_shallower(&mut self, pid: i16, label: Label) {
        self.asm.store_imm(Size::D, R10, LEVEL, 0);
        self.asm.load(Size::D, R3, R10, pid);
        self.asm.add_imm(R3, self.offsets.pid_level);
        self.asm.mov_imm(R2, 4);
        slot(&mut self.asm, R1, LEVEL);
        self.asm.call(Helper::ReadKernel);
        self.asm.load(Size::W, R1, R10, LEVEL);
        self.asm.jump_if_reg(When::Gt, R9, R1, label);
    }

    /// Stores the pid, the parent's and the session leader's, as the namespace counts them.
    pub(super) fn pids(&mut self, pids: PidNamespace) {
        let o = self.offsets;
        self.follow(TASK, o.task_real_parent, START);
        self.follow(START, o.task_signal, START);
        let fields = [
            (SIGNAL, PIDTYPE_TGID, record::PID),
            (SIGNAL, PIDTYPE_SID, record::SID),
            (START, PIDTYPE_TGID, record::PPID),
        ];
        for (signal, kind, field) in fields {
            self.follow(signal, o.signal_pids + kind * POINTER_BYTES, STRING);
            let unseen = self.asm.label();
            if pids != PidNamespace::Initial {
                self.leave_if_shallower(STRING, unseen);
            }
            self.asm.load(Size::D, R3, R10, STRING);
            self.asm.load(Size::D, R1, R10, UPID);
            self.asm.add(R3, R1);
            self.read_field(field, 4);
            self.asm.bind(unseen);
        }
    }

    /// Copies the names on the way from the working directory to the root, innermost first, and their length.
    pub(super) fn directory(&mut self) {
        let o = self.offsets;
        self.follow(TASK, o.task_fs, ANY);
        self.follow(ANY, o.fs_pwd_dentry, DENTRY);
        self.follow(ANY, o.fs_pwd_mnt, MOUNT);
        self.asm.mov_imm(R9, 0);
        let (next, up, root, done) = (self.asm.label(), self.asm.label(), self.asm.label(), self.asm.label());
        self.asm.bind(next);
        self.asm.jump_if(When::Ge, R9, MAX_CWD_STEPS, done);
        self.asm.add_imm(R9, 1);
        self.forget_length();
        self.follow(MOUNT, o.vfsmount_root, ANY);
        self.asm.load(Size::D, R1, R10, DENTRY);
        self.asm.load(Size::D, R2, R10, ANY);
        self.asm.jump_if_reg(When::Ne, R1, R2, up);
        // The root of a mount: go on from where it is mounted, unless it is the root of all.
        self.follow(MOUNT, o.mount_parent - o.mount_mnt, ANY);
        self.asm.load(Size::D, R1, R10, MOUNT);
        self.asm.add_imm(R1, -o.mount_mnt);
        self.asm.load(Size::D, R2, R10, ANY);
        self.asm.jump_if_reg(When::Eq, R1, R2, root);
        self.follow(MOUNT, o.mount_mountpoint - o.mount_mnt, DENTRY);
        self.asm.load(Size::D, R1, R10, ANY);
        self.asm.add_imm(R1, o.mount_mnt);
        self.asm.store(Size::D, R10, MOUNT, R1);
        self.asm.jump(next);
        self.asm.bind(up);
        self.directory_name(done);
        self.asm.jump(next);
        self.asm.bind(root);
        self.flag(record::CWD_WHOLE);
        self.asm.bind(done);
        self.forget_length();
        self.asm.mov(R1, R8);
        self.asm.load(Size::W, R2, R7, record::PATH_LEN);
        self.asm.sub(R1, R2);
        self.asm.store(Size::W, R7, record::CWD_LEN, R1);
    }

    /// Appends the name of `DENTRY` and makes its parent the current one.
    fn directory_name(&mut self, done: Label) {
        let o = self.offsets;
        self.follow(DENTRY, o.dentry_name, ANY);
        self.asm.jump_if(When::Gt, R8, TAIL_LIMIT, done);
        self.tail_address(R1);
        self.asm.mov_imm(R2, NAME_BYTES);
        self.asm.load(Size::D, R3, R10, ANY);
        self.asm.call(Helper::ReadKernelStr);
        self.asm.jump_if(When::SLe, R0, 0, done);
        self.asm.add(R8, R0);
        self.asm.load(Size::D, R1, R10, DENTRY);
        self.asm.store(Size::D, R10, ANY, R1);
        self.follow(ANY, o.dentry_parent, DENTRY);
    }
}
