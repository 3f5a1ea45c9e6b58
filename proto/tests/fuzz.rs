//! The fuzz targets on any toolchain: the kept inputs as they are, changed a little, and random bytes.
#![expect(clippy::unwrap_used, reason = "a test helper that fails shall end its test")]

#[expect(unreachable_pub, reason = "public for the fuzzer's binaries")]
#[path = "../fuzz/src/targets/mod.rs"]
mod targets;

use std::fs;
use std::path::Path;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

/// Inputs of each kind for each target.
const CASES: u32 = 512;

/// Returns the kept inputs of a target, in a fixed order.
fn kept(name: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.into_iter().map(|path| fs::read(path).unwrap()).collect()
}

/// One of the inputs, with some bytes replaced and perhaps its end cut off.
fn changed(inputs: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let edits = proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4);
    (prop::sample::select(inputs), edits, any::<prop::sample::Index>(), any::<bool>()).prop_map(
        |(mut bytes, edits, end, cut)| {
            let len = bytes.len();
            edits.into_iter().filter(|_| len > 0).for_each(|(at, byte)| bytes[at.index(len)] = byte);
            if cut {
                bytes.truncate(end.index(bytes.len() + 1));
            }
            bytes
        },
    )
}

fn check(strategy: impl Strategy<Value = Vec<u8>>, run: fn(&[u8])) {
    let config = Config { cases: CASES, failure_persistence: None, ..Config::default() };
    let outcome = TestRunner::new(config).run(&strategy, |bytes| {
        run(&bytes);
        Ok(())
    });
    outcome.unwrap_or_else(|error| panic!("{error}\nkeep the input under fuzz/corpus"));
}

#[test]
fn every_target_has_its_folder_and_its_binary() {
    let folder = |name: &str| {
        let entries = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz").join(name)).unwrap();
        let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    let names: Vec<&str> = targets::all().iter().map(|target| target.name).collect();
    assert!(names.is_sorted());
    assert_eq!(folder("corpus"), names);
    assert_eq!(folder("fuzz_targets"), names.iter().map(|name| format!("{name}.rs")).collect::<Vec<_>>());
}

#[test]
fn kept_inputs_break_no_law() {
    for target in targets::all() {
        kept(target.name).iter().for_each(|input| targets::run(target.name, input));
    }
}

#[test]
fn changed_inputs_break_no_law() {
    targets::all().iter().for_each(|target| check(changed(kept(target.name)), target.run));
}

#[test]
fn random_bytes_break_no_law() {
    let bytes = || proptest::collection::vec(any::<u8>(), 0..300);
    targets::all().iter().for_each(|target| check(bytes(), target.run));
}
