//! The distribution: `os`, `os_family`, `osrelease` and what is derived from them.

use proto::value::{Map, MapExt, Value};

use super::GrainsContext;
use crate::host::os_release::{self, OsRelease};
use crate::host::system;

/// What Salt calls a distribution, by its `ID` in os-release: `os` and `os_family`.
const KNOWN: [(&str, &str, &str); 26] = [
    ("almalinux", "AlmaLinux", "RedHat"),
    ("alpine", "Alpine", "Alpine"),
    ("amzn", "Amazon", "RedHat"),
    ("arch", "Arch", "Arch"),
    ("centos", "CentOS", "RedHat"),
    ("debian", "Debian", "Debian"),
    ("devuan", "Devuan", "Debian"),
    ("fedora", "Fedora", "RedHat"),
    ("gentoo", "Gentoo", "Gentoo"),
    ("kali", "Kali", "Debian"),
    ("linuxmint", "Mint", "Debian"),
    ("manjaro", "Manjaro", "Arch"),
    ("nixos", "NixOS", "NixOS"),
    ("ol", "OEL", "RedHat"),
    ("opensuse-leap", "SUSE", "Suse"),
    ("opensuse-tumbleweed", "SUSE", "Suse"),
    ("openwrt", "OpenWrt", "OpenWrt"),
    ("photon", "VMware Photon OS", "RedHat"),
    ("pop", "Pop", "Debian"),
    ("raspbian", "Raspbian", "Debian"),
    ("rhel", "RedHat", "RedHat"),
    ("rocky", "Rocky", "RedHat"),
    ("sles", "SUSE", "Suse"),
    ("slackware", "Slackware", "Slackware"),
    ("ubuntu", "Ubuntu", "Debian"),
    ("void", "Void", "Void"),
];

/// What Debian calls a machine, where it differs from the kernel's word.
const DEBIAN_ARCH: [(&str, &str); 6] = [
    ("aarch64", "arm64"),
    ("armv6l", "armhf"),
    ("armv7l", "armhf"),
    ("i686", "i386"),
    ("ppc64le", "ppc64el"),
    ("x86_64", "amd64"),
];

pub(super) fn grains(_: &GrainsContext<'_>) -> Map {
    let kernel = system::kernel();
    distribution(&os_release::read(), &kernel.kernel, &kernel.machine)
}

fn distribution(release: &OsRelease, kernel: &str, machine: &str) -> Map {
    let field = |name: &str| release.get(name).cloned().unwrap_or_default();
    let (os, family) = named(release, kernel);
    let full = Some(field("NAME")).filter(|name| !name.is_empty()).unwrap_or_else(|| os.clone());
    let version = field("VERSION_ID");
    let major = version.split('.').next().unwrap_or_default().to_owned();
    // Salt names these by their short name here, and Ubuntu by its whole release.
    let finger_name = if matches!(os.as_str(), "Debian" | "Raspbian" | "Ubuntu") { &os } else { &full };
    let finger_version = if os == "Ubuntu" { &version } else { &major };
    let arch = DEBIAN_ARCH.iter().find(|(word, _)| *word == machine && family == "Debian");
    let mut grains = proto::map! {
        "lsb_distrib_id" => full.as_str(),
        "lsb_distrib_release" => version.as_str(),
        "os" => os.as_str(),
        "os_family" => family.as_str(),
        "osarch" => arch.map_or(machine, |(_, debian)| debian),
        "osfinger" => format!("{finger_name}-{finger_version}"),
        "osfullname" => full.as_str(),
        "osmajorrelease" => number(&major),
        "osrelease" => version.as_str(),
        "osrelease_info" => version.split('.').map(number).collect::<Vec<_>>(),
    };
    let codename = Some(field("VERSION_CODENAME")).filter(|name| !name.is_empty());
    let codename = codename.unwrap_or_else(|| field("PRETTY_NAME"));
    grains.set("lsb_distrib_codename", codename.as_str());
    grains.set("oscodename", codename);
    grains
}

/// Returns `os` and `os_family`; an unknown distribution is called as it calls itself, in the family that it says it is like.
fn named(release: &OsRelease, kernel: &str) -> (String, String) {
    let known = |id: &str| KNOWN.iter().find(|(known, ..)| *known == id);
    let id = release.get("ID").map(String::as_str).unwrap_or_default();
    if id == "centos" && release.get("NAME").is_some_and(|name| name == "CentOS Stream") {
        return ("CentOS Stream".to_owned(), "RedHat".to_owned());
    }
    if let Some((_, os, family)) = known(id) {
        return ((*os).to_owned(), (*family).to_owned());
    }
    let name = release.get("NAME").and_then(|name| name.split_whitespace().next()).unwrap_or(kernel).to_owned();
    let like = release.get("ID_LIKE").map(String::as_str).unwrap_or_default();
    let family =
        like.split_whitespace().find_map(known).map_or_else(|| name.clone(), |(.., family)| (*family).to_owned());
    (name, family)
}

/// Returns a number where the text is one, as Salt does for parts of a release.
fn number(text: &str) -> Value {
    text.parse::<i64>().map_or_else(|_| text.into(), Value::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(release: &str, expected: &[(&str, Value)]) {
        let grains = distribution(&os_release::parse(release), "Linux", "x86_64");
        for (name, value) in expected {
            assert_eq!(grains.at(name), Some(value), "{name} of {release}");
        }
    }

    #[test]
    fn distributions_are_called_as_salt_calls_them() {
        check(
            "NAME=\"Debian GNU/Linux\"\nVERSION_ID=\"12\"\nVERSION_CODENAME=bookworm\nID=debian\n",
            &[
                ("os", "Debian".into()),
                ("os_family", "Debian".into()),
                ("osfinger", "Debian-12".into()),
                ("osarch", "amd64".into()),
                ("osmajorrelease", 12.into()),
                ("oscodename", "bookworm".into()),
                ("osfullname", "Debian GNU/Linux".into()),
            ],
        );
        check(
            "NAME=\"Ubuntu\"\nVERSION_ID=\"22.04\"\nID=ubuntu\nID_LIKE=debian\n",
            &[
                ("osfinger", "Ubuntu-22.04".into()),
                ("osmajorrelease", 22.into()),
                ("osrelease_info", Value::from(vec![22, 4])),
            ],
        );
        check(
            "NAME=\"Rocky Linux\"\nVERSION_ID=\"9.3\"\nID=\"rocky\"\nPRETTY_NAME=\"Rocky Linux 9.3\"\n",
            &[
                ("os", "Rocky".into()),
                ("os_family", "RedHat".into()),
                ("osfinger", "Rocky Linux-9".into()),
                ("osarch", "x86_64".into()),
            ],
        );
    }

    #[test]
    fn an_unknown_distribution_is_in_the_family_it_names() {
        check(
            "NAME=\"Newix OS\"\nID=newix\nID_LIKE=\"other debian\"\n",
            &[("os", "Newix".into()), ("os_family", "Debian".into())],
        );
        check("", &[("os", "Linux".into()), ("os_family", "Linux".into()), ("osrelease", "".into())]);
    }
}
