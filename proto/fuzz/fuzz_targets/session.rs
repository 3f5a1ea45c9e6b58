//! Fuzzes the target `session`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| halite_fuzz::targets::run("session", data));
