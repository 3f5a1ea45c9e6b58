//! Processors: `cpuarch`, `cpu_model`, `cpu_flags`, `num_cpus`.

use proto::value::Map;

use super::GrainsContext;
use crate::host::{cpu, system};

pub(super) fn grains(_: &GrainsContext<'_>) -> Map {
    let cpu = cpu::read();
    let model = if cpu.model.is_empty() { "Unknown".to_owned() } else { cpu.model };
    proto::map! {
        "cpu_flags" => cpu.flags,
        "cpu_model" => model,
        "cpuarch" => system::kernel().machine,
        "num_cpus" => cpu.count,
    }
}
