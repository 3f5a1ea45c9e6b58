//! Fuzzes the target `target`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| halite_fuzz::targets::run("target", data));
