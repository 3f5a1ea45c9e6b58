//! Reads this machine, one file per subject; grains, beacons and modules share it.

pub mod cpu;
pub mod disk;
pub mod exec;
pub mod http;
mod kernel;
pub mod load;
pub mod memory;
pub mod net;
pub mod os_release;
pub mod system;
pub mod users;

pub use kernel::lead_session_on_stdin;
