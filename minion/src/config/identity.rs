//! The minion's id when the configuration does not say one: remembered from last time, or the host's full name.

use std::fs;
use std::path::Path;

use proto::ids::MinionId;
use proto::value::Value;
use tracing::debug;

/// The file beside the configuration that keeps a generated id.
const REMEMBERED: &str = "minion_id";
/// What Salt calls a host that has no usable name.
const NAMELESS: &str = "localhost";

/// Returns where an id comes from, and the id.
pub(super) fn generate(folder: &Path) -> (String, String) {
    let file = folder.join(REMEMBERED);
    if let Ok(text) = fs::read_to_string(&file)
        && !text.trim().is_empty()
    {
        return (file.display().to_string(), text.trim().to_owned());
    }
    let host = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_default();
    let hosts = fs::read_to_string("/etc/hosts").unwrap_or_default();
    ("the host's name".to_owned(), full_name(host.trim(), &hosts).to_lowercase())
}

/// Writes a generated id down, so that a change of the host's name does not make a new minion.
pub(super) fn remember(folder: &Path, id: &MinionId) {
    let file = folder.join(REMEMBERED);
    if file.exists() || !folder.is_dir() {
        return;
    }
    if let Err(error) = fs::write(&file, id.as_str()) {
        debug!(%error, path = %file.display(), "the generated id is not kept");
    }
}

/// Takes a domain off the end of an id: any (`True`), or this one.
pub(super) fn without_domain(id: &str, domain: &Value) -> String {
    let shorter = match domain {
        Value::Bool(true) => id.split_once('.').map(|(host, _)| host),
        Value::Str(domain) => id.strip_suffix(domain.trim_start_matches('.')).and_then(|host| host.strip_suffix('.')),
        _ => None,
    };
    shorter.filter(|host| !host.is_empty()).unwrap_or(id).to_owned()
}

/// Returns the full name that the hosts file has for a short one.
fn full_name(host: &str, hosts: &str) -> String {
    if host.is_empty() {
        return NAMELESS.to_owned();
    }
    if host.contains('.') {
        return host.to_owned();
    }
    let found = hosts.lines().find_map(|line| {
        let names: Vec<&str> = line.split('#').next()?.split_whitespace().skip(1).collect();
        let known = names.contains(&host);
        names.into_iter().find(|name| known && name.split_once('.').is_some_and(|(first, _)| first == host))
    });
    found.unwrap_or(host).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_full_name_comes_from_the_hosts_file() {
        let hosts = "127.0.0.1 localhost\n10.0.0.5 web1.example.com web1 # us\n10.0.0.6 web10.example.com web10\n";
        assert_eq!(full_name("web1", hosts), "web1.example.com");
        assert_eq!(full_name("web2", hosts), "web2");
        assert_eq!(full_name("db.example.com", hosts), "db.example.com");
        assert_eq!(full_name("", hosts), "localhost");
    }

    #[test]
    fn a_domain_is_taken_off_as_asked() {
        assert_eq!(without_domain("web1.example.com", &true.into()), "web1");
        assert_eq!(without_domain("web1.eu.example.com", &"example.com".into()), "web1.eu");
        assert_eq!(without_domain("web1.example.com", &"example.org".into()), "web1.example.com");
        assert_eq!(without_domain("web1", &false.into()), "web1");
    }

    #[test]
    fn a_remembered_id_wins_and_is_written_once() {
        let folder = tempfile::tempdir().unwrap();
        remember(folder.path(), &MinionId::parse("web1").unwrap());
        remember(folder.path(), &MinionId::parse("web2").unwrap());
        assert_eq!(generate(folder.path()).1, "web1");
    }
}
