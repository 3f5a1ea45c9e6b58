//! Fuzzes the target `salt-publication`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| halite_fuzz::targets::run("salt-publication", data));
