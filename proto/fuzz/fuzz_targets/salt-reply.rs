//! Fuzzes the target `salt-reply`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| halite_fuzz::targets::run("salt-reply", data));
