//! The mounted file systems of this host, and how full they are.

use std::fs;
use std::path::Path;

use nix::errno::Errno;
use nix::sys::statvfs::statvfs;
use thiserror::Error;

/// One mounted file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// What is mounted: a device, a server's folder, or a word of the kernel's.
    pub device: String,
    /// Where it is mounted.
    pub point: String,
    /// The file system's type.
    pub kind: String,
}

/// How full a file system is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// All of it, in bytes.
    pub total: u64,
    /// What nobody uses, in bytes.
    pub free: u64,
    /// What users without rights can still fill, in bytes.
    pub available: u64,
    /// All inodes.
    pub inodes: u64,
    /// The inodes that nobody uses.
    pub inodes_free: u64,
}

/// Why the usage is unknown.
#[derive(Debug, Error)]
#[error("read the usage of {path}")]
pub struct UsageError {
    path: String,
    #[source]
    source: Errno,
}

impl Usage {
    /// Returns the bytes in use.
    pub fn used(&self) -> u64 {
        self.total.saturating_sub(self.free)
    }
}

/// Reads what is mounted, in the kernel's order.
pub fn mounts() -> Vec<Mount> {
    parse(&fs::read_to_string("/proc/self/mounts").unwrap_or_default())
}

/// Reads how full the file system is that holds this path.
pub fn usage(path: &str) -> Result<Usage, UsageError> {
    let stats = statvfs(Path::new(path)).map_err(|source| UsageError { path: path.to_owned(), source })?;
    // These types differ between platforms.
    #[expect(clippy::useless_conversion, reason = "the kernel's types are smaller on 32-bit hosts")]
    let (unit, total, free, available, inodes, inodes_free) = (
        u64::from(stats.fragment_size()),
        u64::from(stats.blocks()),
        u64::from(stats.blocks_free()),
        u64::from(stats.blocks_available()),
        u64::from(stats.files()),
        u64::from(stats.files_free()),
    );
    let bytes = |blocks: u64| blocks.saturating_mul(unit);
    Ok(Usage { total: bytes(total), free: bytes(free), available: bytes(available), inodes, inodes_free })
}

fn parse(text: &str) -> Vec<Mount> {
    let mounts = text.lines().filter_map(|line| {
        let mut words = line.split(' ').map(unescape);
        Some(Mount { device: words.next()?, point: words.next()?, kind: words.next()? })
    });
    mounts.collect()
}

/// Undoes the kernel's octal escapes: a space is written `\040`.
fn unescape(word: &str) -> String {
    let (mut out, mut rest) = (Vec::new(), word.as_bytes());
    while let Some((&byte, tail)) = rest.split_first() {
        let digits = tail.get(..3).filter(|digits| digits.iter().all(|digit| (b'0'..=b'7').contains(digit)));
        match digits {
            Some(digits) if byte == b'\\' => {
                out.push(digits.iter().fold(0_u8, |sum, digit| sum.wrapping_mul(8).wrapping_add(digit - b'0')));
                rest = &tail[3..];
            }
            _ => {
                out.push(byte);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_read_with_their_escapes() {
        let mounts = parse("/dev/a /mnt/a\\040b ext4 rw 0 0\nshort\n");
        let expected = Mount { device: "/dev/a".to_owned(), point: "/mnt/a b".to_owned(), kind: "ext4".to_owned() };
        assert_eq!(mounts, [expected]);
    }

    #[test]
    fn the_root_has_a_size() {
        assert!(mounts().iter().any(|mount| mount.point == "/"));
        let root = usage("/").expect("a root");
        assert!(root.total > 0 && root.used() <= root.total && root.available <= root.total);
        assert!(usage("/no/such/place").is_err());
    }
}
