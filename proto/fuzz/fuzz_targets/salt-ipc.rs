//! Fuzzes the target `salt-ipc`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| halite_fuzz::targets::run("salt-ipc", data));
