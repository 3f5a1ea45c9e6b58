//! Memory: `mem_total` and `swap_total`, in whole MiB.

use proto::value::Map;

use super::GrainsContext;
use crate::host::memory;

pub(super) fn grains(_: &GrainsContext<'_>) -> Map {
    match memory::read() {
        Ok(memory) => proto::map! { "mem_total" => memory.total >> 20, "swap_total" => memory.swap_total >> 20 },
        Err(_) => proto::map! { "mem_total" => 0, "swap_total" => 0 },
    }
}
