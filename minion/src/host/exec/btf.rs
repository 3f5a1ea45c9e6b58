//! Where the running kernel keeps a task's terminal, session and arguments: field offsets out of its own BTF.
//!
//! BTF is the type description at `/sys/kernel/btf/vmlinux` (Documentation/bpf/btf.rst). Only structures and their
//! members are read; the rest is stepped over. Any bytes give offsets or an error.

use std::{fs, io, path::Path};

/// Where the kernel publishes its types.
const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

/// The largest description read; distribution kernels have 4 to 8 MiB.
const MAX_BTF_BYTES: u64 = 64 * 1024 * 1024;

/// How deep unnamed structures may nest before a description is called broken.
const MAX_NESTING: u32 = 16;

const MAGIC: u16 = 0xeb9f;
const HEADER_BYTES: usize = 24;
const TYPE_BYTES: usize = 12;
const MEMBER_BYTES: usize = 12;

const KIND_STRUCT: u32 = 4;
const KIND_UNION: u32 = 5;

/// The kernel's type description could not be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum BtfError {
    #[error("read the kernel's types: malformed at byte {0}")]
    Malformed(usize),
    #[error("read the kernel's types: it has no {0}")]
    Missing(&'static str),
    #[error("read the kernel's types from {VMLINUX}")]
    Read(#[source] io::Error),
}

/// Byte offsets within the kernel's structures; a name is `struct_member`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Offsets {
    pub(super) task_real_parent: i32,
    pub(super) task_signal: i32,
    pub(super) task_mm: i32,
    /// Absent in a kernel without audit, where nobody has a login uid.
    pub(super) task_loginuid: Option<i32>,
    pub(super) signal_pids: i32,
    pub(super) signal_tty: i32,
    pub(super) tty_name: i32,
    pub(super) pid_level: i32,
    pub(super) pid_numbers: i32,
    pub(super) upid_ns: i32,
    pub(super) upid_size: i32,
    pub(super) pid_namespace_inum: i32,
    pub(super) mm_arg_start: i32,
    pub(super) mm_arg_end: i32,
    pub(super) mm_env_end: i32,
    pub(super) task_fs: i32,
    pub(super) fs_pwd_mnt: i32,
    pub(super) fs_pwd_dentry: i32,
    pub(super) dentry_parent: i32,
    pub(super) dentry_name: i32,
    pub(super) vfsmount_root: i32,
    pub(super) mount_mnt: i32,
    pub(super) mount_parent: i32,
    pub(super) mount_mountpoint: i32,
}

impl Offsets {
    /// Returns the running kernel's offsets.
    pub(super) fn of_this_kernel() -> Result<Offsets, BtfError> {
        Offsets::parse(&read_bounded(Path::new(VMLINUX)).map_err(BtfError::Read)?)
    }

    fn parse(bytes: &[u8]) -> Result<Offsets, BtfError> {
        let btf = Btf::parse(bytes)?;
        let pwd = btf.offset("fs_struct", "pwd")?;
        Ok(Offsets {
            task_real_parent: btf.offset("task_struct", "real_parent")?,
            task_signal: btf.offset("task_struct", "signal")?,
            task_mm: btf.offset("task_struct", "mm")?,
            task_loginuid: btf.offset("task_struct", "loginuid").ok(),
            signal_pids: btf.offset("signal_struct", "pids")?,
            signal_tty: btf.offset("signal_struct", "tty")?,
            tty_name: btf.offset("tty_struct", "name")?,
            pid_level: btf.offset("pid", "level")?,
            pid_numbers: btf.offset("pid", "numbers")?,
            upid_ns: btf.offset("upid", "ns")?,
            upid_size: btf.size("upid")?,
            pid_namespace_inum: btf.offset("pid_namespace", "ns")? + btf.offset("ns_common", "inum")?,
            mm_arg_start: btf.offset("mm_struct", "arg_start")?,
            mm_arg_end: btf.offset("mm_struct", "arg_end")?,
            mm_env_end: btf.offset("mm_struct", "env_end")?,
            task_fs: btf.offset("task_struct", "fs")?,
            fs_pwd_mnt: pwd + btf.offset("path", "mnt")?,
            fs_pwd_dentry: pwd + btf.offset("path", "dentry")?,
            dentry_parent: btf.offset("dentry", "d_parent")?,
            dentry_name: btf.offset("dentry", "d_name")? + btf.offset("qstr", "name")?,
            vfsmount_root: btf.offset("vfsmount", "mnt_root")?,
            mount_mnt: btf.offset("mount", "mnt")?,
            mount_parent: btf.offset("mount", "mnt_parent")?,
            mount_mountpoint: btf.offset("mount", "mnt_mountpoint")?,
        })
    }
}

fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    let len = fs::metadata(path)?.len();
    if len > MAX_BTF_BYTES {
        return Err(io::Error::from(io::ErrorKind::FileTooLarge));
    }
    fs::read(path)
}

/// A description with its types indexed. Two plain lists: a map by name would leave the heap in pieces, for a few
/// dozen look-ups.
struct Btf<'a> {
    types: &'a [u8],
    strings: &'a [u8],
    /// Where each type starts within `types`; type 0 is `void` and has no entry, so number n is at n - 1.
    starts: Vec<usize>,
    /// Where each structure starts; a name may occur more than once.
    structs: Vec<usize>,
}

impl<'a> Btf<'a> {
    fn parse(bytes: &'a [u8]) -> Result<Btf<'a>, BtfError> {
        if bytes.len() < HEADER_BYTES || u16::from_ne_bytes([bytes[0], bytes[1]]) != MAGIC {
            return Err(BtfError::Malformed(0));
        }
        let header_len = word(bytes, 4)?;
        let section = |offset_at: usize| -> Result<&'a [u8], BtfError> {
            let start = header_len.checked_add(word(bytes, offset_at)?).ok_or(BtfError::Malformed(offset_at))?;
            let end = start.checked_add(word(bytes, offset_at + 4)?).ok_or(BtfError::Malformed(offset_at))?;
            bytes.get(start..end).ok_or(BtfError::Malformed(offset_at))
        };
        let mut btf = Btf { types: section(8)?, strings: section(16)?, starts: Vec::new(), structs: Vec::new() };
        btf.index()?;
        Ok(btf)
    }

    fn index(&mut self) -> Result<(), BtfError> {
        let mut at = 0;
        while at < self.types.len() {
            let (kind, count) = self.kind(at)?;
            let extra = match kind {
                1 | 14 | 17 => 4,                                           // integer, variable, declaration tag
                3 => 12,                                                    // array
                KIND_STRUCT | KIND_UNION | 15 | 19 => count * MEMBER_BYTES, // and data section, 64-bit enumeration
                6 | 13 => count * 8,                                        // enumeration, function prototype
                2 | 7..=12 | 16 | 18 => 0,                                  // pointer, modifiers, function, float, tag
                _ => return Err(BtfError::Malformed(at)),
            };
            if kind == KIND_STRUCT {
                self.structs.push(at);
            }
            self.starts.push(at);
            at += TYPE_BYTES + extra;
        }
        Ok(())
    }

    /// The structures with this name.
    fn named(&self, name: &'static str) -> impl Iterator<Item = usize> {
        let has_it = move |at: &usize| word(self.types, *at).is_ok_and(|at| self.name(at) == name.as_bytes());
        self.structs.iter().copied().filter(has_it)
    }

    /// The byte offset of a member, looked for in unnamed inner structures too, as C does.
    fn offset(&self, of: &'static str, member: &'static str) -> Result<i32, BtfError> {
        let mut missing = of;
        for at in self.named(of) {
            if let Some(bits) = self.member_bits(at, member.as_bytes(), 0)? {
                return i32::try_from(bits / 8).map_err(|_| BtfError::Malformed(at));
            }
            missing = member;
        }
        Err(BtfError::Missing(missing))
    }

    fn size(&self, of: &'static str) -> Result<i32, BtfError> {
        let at = self.named(of).next().ok_or(BtfError::Missing(of))?;
        i32::try_from(word(self.types, at + 8)?).map_err(|_| BtfError::Malformed(at))
    }

    fn member_bits(&self, at: usize, name: &[u8], depth: u32) -> Result<Option<usize>, BtfError> {
        let (kind, count) = self.kind(at)?;
        if depth > MAX_NESTING || !matches!(kind, KIND_STRUCT | KIND_UNION) {
            return Ok(None);
        }
        let has_bitfields = word(self.types, at + 4)? >> 31 == 1;
        for index in 0..count {
            let entry = at + TYPE_BYTES + index * MEMBER_BYTES;
            let offset = word(self.types, entry + 8)?;
            let bits = if has_bitfields { offset & 0x00ff_ffff } else { offset };
            let found = self.name(word(self.types, entry)?);
            if found == name {
                return Ok(Some(bits));
            }
            let inner = word(self.types, entry + 4)?.checked_sub(1).and_then(|number| self.starts.get(number));
            if let (true, Some(inner)) = (found.is_empty(), inner)
                && let Some(more) = self.member_bits(*inner, name, depth + 1)?
            {
                return Ok(Some(bits + more));
            }
        }
        Ok(None)
    }

    /// The kind of the type at `at`, and how many members or the like it has.
    fn kind(&self, at: usize) -> Result<(u32, usize), BtfError> {
        let info = word(self.types, at + 4)?;
        Ok((u32::try_from((info >> 24) & 0x1f).expect("five bits"), info & 0xffff))
    }

    fn name(&self, offset: usize) -> &'a [u8] {
        let rest = self.strings.get(offset..).unwrap_or_default();
        rest.split(|byte| *byte == 0).next().unwrap_or_default()
    }
}

/// The 32-bit number at `at`, in the byte order of the machine, which is that of its kernel.
fn word(bytes: &[u8], at: usize) -> Result<usize, BtfError> {
    let four = at.checked_add(4).and_then(|end| bytes.get(at..end)).ok_or(BtfError::Malformed(at))?;
    let number = u32::from_ne_bytes(four.try_into().expect("four bytes"));
    usize::try_from(number).map_err(|_| BtfError::Malformed(at))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A description of `struct outer { long a; struct { int b; int c; }; }` with `c` at byte 12.
    fn sample() -> Vec<u8> {
        let strings = b"\0outer\0a\0b\0c\0";
        let words = |list: &[u32]| list.iter().flat_map(|word| word.to_ne_bytes()).collect::<Vec<u8>>();
        let mut types = words(&[0, 1 << 24, 4, 32]); // 1: an integer
        types.extend(words(&[0, (4 << 24) | 2, 8, 9, 1, 0, 11, 1, 32])); // 2: unnamed { b, c }
        types.extend(words(&[1, (4 << 24) | 2, 16, 7, 1, 0, 0, 2, 64])); // 3: outer { a, 2 }
        let (types_len, strings_len) = (u32::try_from(types.len()).unwrap(), u32::try_from(strings.len()).unwrap());
        let mut all = MAGIC.to_ne_bytes().to_vec();
        all.extend([1, 0]);
        all.extend(words(&[24, 0, types_len, types_len, strings_len]));
        all.extend(types);
        all.extend(strings);
        all
    }

    #[test]
    fn members_of_unnamed_inner_structures_are_found() {
        let bytes = sample();
        let btf = Btf::parse(&bytes).unwrap();
        assert_eq!(btf.offset("outer", "a").unwrap(), 0);
        assert_eq!(btf.offset("outer", "c").unwrap(), 12);
        assert_eq!(btf.size("outer").unwrap(), 16);
        assert!(matches!(btf.offset("outer", "d"), Err(BtfError::Missing("d"))));
    }

    #[test]
    fn a_cut_description_is_an_error() {
        let bytes = sample();
        for len in 0..bytes.len() {
            assert!(Btf::parse(&bytes[..len]).is_err(), "{len} bytes were taken");
        }
    }

    #[test]
    fn this_kernel_has_every_field_or_says_which_is_missing() {
        match Offsets::of_this_kernel() {
            Ok(offsets) => assert!(offsets.mm_arg_end > offsets.mm_arg_start),
            Err(error) => crate::host::exec::tests::skipped(&format!("no usable BTF here: {error}")),
        }
    }
}
