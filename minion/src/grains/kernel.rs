//! The kernel: `kernel`, `kernelrelease`, `kernelversion`, `kernelparams`.

use std::fs;

use proto::value::{Map, Value};

use super::GrainsContext;
use crate::host::system;

pub(super) fn grains(_: &GrainsContext<'_>) -> Map {
    let uname = system::kernel();
    proto::map! {
        "kernel" => uname.kernel,
        "kernelparams" => params(&fs::read_to_string("/proc/cmdline").unwrap_or_default()),
        "kernelrelease" => uname.release,
        "kernelversion" => uname.version,
    }
}

/// Returns the boot parameters as pairs; one without a value has null.
fn params(line: &str) -> Vec<Value> {
    let pair = |word: &str| match word.split_once('=') {
        Some((name, value)) => Value::List(vec![name.into(), value.trim_matches('"').into()]),
        None => Value::List(vec![word.into(), Value::Null]),
    };
    line.split_whitespace().map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boot_parameters_are_pairs() {
        let expected = vec![Value::List(vec!["ro".into(), Value::Null]), Value::from(vec!["root", "a=b"])];
        assert_eq!(params("ro root=a=b\n"), expected);
    }
}
