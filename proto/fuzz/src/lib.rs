//! The fuzz targets as a library, for the binaries in `fuzz_targets/`.

pub mod targets;
