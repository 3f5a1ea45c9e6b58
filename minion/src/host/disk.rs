//! The disks of this host.

use std::fs;

/// The disks by kind, each list sorted by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Disks {
    /// Those that rotate, and loop devices.
    pub rotating: Vec<String>,
    /// Those that do not.
    pub solid: Vec<String>,
}

/// Reads the kernel's block devices.
pub fn read() -> Disks {
    let mut disks = Disks::default();
    for entry in fs::read_dir("/sys/block").into_iter().flatten().flatten() {
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        match fs::read_to_string(entry.path().join("queue/rotational")).unwrap_or_default().trim() {
            "1" => disks.rotating.push(name),
            "0" => disks.solid.push(name),
            _ => {}
        }
    }
    disks.rotating.sort_unstable();
    disks.solid.sort_unstable();
    disks
}
