//! Asks the linker for packed relocations where the C library can read them: nearly a megabyte of an idle minion's memory
//! would else be the list of its own addresses, read once at the start.

use std::process::Command;

/// The first glibc that knows them.
const KNOWS: (u32, u32) = (2, 36);

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let is_gnu = std::env::var("CARGO_CFG_TARGET_ENV").is_ok_and(|env| env == "gnu");
    let is_native = std::env::var("HOST").ok() == std::env::var("TARGET").ok();
    if is_gnu && is_native && glibc().is_some_and(|version| version >= KNOWS) {
        println!("cargo:rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}

/// The version of this host's glibc: what is built here runs with it, or with a newer one.
fn glibc() -> Option<(u32, u32)> {
    let said = Command::new("getconf").arg("GNU_LIBC_VERSION").output().ok()?;
    let said = String::from_utf8(said.stdout).ok()?;
    let (major, minor) = said.trim().strip_prefix("glibc ")?.split_once('.')?;
    Some((major.parse().ok()?, minor.split('.').next()?.parse().ok()?))
}
