//! Where the peers are: real libzmq, PyYAML and Jinja2, in the virtualenv that `HALITE_PEERS` names.

use std::path::PathBuf;

/// Returns the peers' Python. Without one, says loudly that the test did not run.
pub fn python(test: &str) -> Option<PathBuf> {
    match std::env::var_os("HALITE_PEERS") {
        Some(dir) => Some(PathBuf::from(dir).join("bin").join("python")),
        None => {
            crate::skipped(test, "HALITE_PEERS names no virtualenv with pyzmq and msgpack (.ci/run makes one)");
            None
        }
    }
}
