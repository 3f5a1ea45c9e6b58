//! Fuzzes the target `salt-msgpack`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| halite_fuzz::targets::run("salt-msgpack", data));
