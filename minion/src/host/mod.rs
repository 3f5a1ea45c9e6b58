//! Reads this machine, one file per subject; grains, beacons and modules share it.

pub mod addresses;
pub mod clock;
pub mod cpu;
pub mod disk;
pub mod exec;
pub mod filesystem;
pub mod http;
mod kernel;
pub mod load;
pub mod memory;
pub mod net;
pub mod os_release;
pub mod percent;
pub mod process_names;
pub mod processes;
pub mod replace;
pub mod service;
pub mod sockets;
pub mod stats;
pub mod swap;
pub mod system;
pub mod traffic;
pub mod users;

pub use kernel::{keep_little_memory, lead_session_on_stdin};
