//! Disks: `disks` (rotating) and `ssds`.

use proto::value::Map;

use super::GrainsContext;
use crate::host::disk;

pub(super) fn grains(_: &GrainsContext<'_>) -> Map {
    let found = disk::read();
    proto::map! { "disks" => found.rotating, "ssds" => found.solid }
}
