//! A few facts about the master's host, for reactor files that ask for `grains`.

use std::fs;

use proto::map;
use proto::value::{Map, MapExt};

/// Returns the facts, under Salt's names. `id` is that of the options, where they have one.
pub(super) fn read(opts: &Map) -> Map {
    let Ok(host) = nix::sys::utsname::uname() else { return Map::new() };
    let text = |part: &std::ffi::OsStr| part.to_string_lossy().into_owned();
    let nodename = text(host.nodename());
    let short = nodename.split('.').next().unwrap_or_default().to_owned();
    let (os, osrelease) = distribution(&fs::read_to_string("/etc/os-release").unwrap_or_default());
    map! {
        "id" => opts.text("id").unwrap_or(&nodename),
        "host" => short,
        "nodename" => nodename.as_str(),
        "kernel" => text(host.sysname()),
        "kernelrelease" => text(host.release()),
        "cpuarch" => text(host.machine()),
        "os" => os,
        "osrelease" => osrelease,
    }
}

/// Reads `os-release`: the first word of the name, as Salt shortens it, and the version.
fn distribution(text: &str) -> (String, String) {
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        line.unwrap_or_default().trim_matches(['"', '\'']).to_owned()
    };
    let name = field("NAME");
    let os = match name.split_whitespace().next() {
        Some("Red") => "RedHat",
        Some(first) => first,
        None => "Linux",
    };
    (os.to_owned(), field("VERSION_ID"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_distribution_has_salts_name() {
        let check = |text: &str, os: &str, version: &str| assert_eq!(distribution(text), (os.into(), version.into()));
        check("PRETTY_NAME=\"x\"\nNAME=\"Debian GNU/Linux\"\nVERSION_ID=\"12\"\n", "Debian", "12");
        check("NAME=Fedora\nVERSION_ID=42", "Fedora", "42");
        check("NAME=\"Red Hat Enterprise Linux\"\nVERSION_ID=\"9.4\"", "RedHat", "9.4");
        check("", "Linux", "");
    }
}
