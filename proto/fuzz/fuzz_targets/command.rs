//! Fuzzes the target `command`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| halite_fuzz::targets::run("command", data));
