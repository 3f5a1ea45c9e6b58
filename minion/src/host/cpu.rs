//! The processors of this host.

use std::fs;

/// The processors.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cpu {
    /// How many the kernel runs on.
    pub count: usize,
    /// What the first one calls itself.
    pub model: String,
    /// What the first one can do.
    pub flags: Vec<String>,
}

/// Reads the processors; what the kernel does not tell stays empty.
pub fn read() -> Cpu {
    let mut cpu = parse(&fs::read_to_string("/proc/cpuinfo").unwrap_or_default());
    if cpu.count == 0 {
        cpu.count = std::thread::available_parallelism().map_or(1, usize::from);
    }
    cpu
}

fn parse(text: &str) -> Cpu {
    let mut cpu = Cpu::default();
    for (key, value) in text.lines().filter_map(|line| line.split_once(':')) {
        match (key.trim(), value.trim()) {
            ("processor", number) if number.bytes().all(|byte| byte.is_ascii_digit()) => cpu.count += 1,
            // x86 says `model name`, ARM `Processor`, POWER `cpu`, and boards `Model`.
            ("model name" | "Processor" | "cpu" | "Model", model) if cpu.model.is_empty() => {
                model.clone_into(&mut cpu.model)
            }
            ("flags" | "Features", flags) if cpu.flags.is_empty() => {
                cpu.flags = flags.split_whitespace().map(str::to_owned).collect();
            }
            _ => {}
        }
    }
    cpu
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_are_counted() {
        let one = "processor\t: 0\nmodel name\t: Fast\nflags\t\t: fpu hypervisor\n\n";
        let cpu = parse(&one.repeat(2).replace("processor\t: 0", "processor\t: 1"));
        let flags = vec!["fpu".to_owned(), "hypervisor".to_owned()];
        assert_eq!(cpu, Cpu { count: 2, model: "Fast".to_owned(), flags });
        assert!(read().count > 0);
    }
}
