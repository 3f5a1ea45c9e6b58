//! Fuzzes the target `glob`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| halite_fuzz::targets::run("glob", data));
