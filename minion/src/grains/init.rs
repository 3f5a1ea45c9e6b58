//! The init system: `init`, and `systemd` where it is that.

use std::process::{Command, Stdio};

use proto::value::{Map, MapExt};

use super::GrainsContext;
use crate::host::system;

pub(super) fn grains(_: &GrainsContext<'_>) -> Map {
    let mut grains = proto::map! { "init" => system::init() };
    if system::is_systemd()
        && let Some(systemd) = systemd()
    {
        grains.set("systemd", systemd);
    }
    grains
}

/// Asks systemd for its version and features; both are one line of its answer.
fn systemd() -> Option<Map> {
    let output = Command::new("systemctl").arg("--version").stdin(Stdio::null()).output().ok()?;
    parse(&String::from_utf8_lossy(&output.stdout))
}

fn parse(text: &str) -> Option<Map> {
    let mut lines = text.lines();
    let version = lines.next()?.split_whitespace().nth(1)?;
    Some(proto::map! { "version" => version, "features" => lines.next().unwrap_or_default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_and_features_are_parted() {
        let systemd = parse("systemd 252 (252.39-1)\n+PAM +AUDIT\n").expect("complete");
        assert_eq!((systemd.text("version"), systemd.text("features")), (Some("252"), Some("+PAM +AUDIT")));
        assert_eq!(parse(""), None);
    }
}
