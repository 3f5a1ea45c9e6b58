//! What this host runs on: `virtual`, and `virtual_subtype` for containers.

use proto::value::{Map, MapExt};

use super::GrainsContext;
use crate::host::{cpu, system};

pub(super) fn grains(_: &GrainsContext<'_>) -> Map {
    let found = system::virtualization(&cpu::read().flags);
    let mut grains = proto::map! { "virtual" => found.kind };
    if let Some(subtype) = found.subtype {
        grains.set("virtual_subtype", subtype);
    }
    grains
}
