//! Which distribution runs on this host: `/etc/os-release`.

use std::collections::BTreeMap;
use std::fs;

/// The fields of os-release(5), by name.
pub type OsRelease = BTreeMap<String, String>;

/// Reads the fields; none if this host has no such file.
pub fn read() -> OsRelease {
    let text = ["/etc/os-release", "/usr/lib/os-release"].iter().find_map(|path| fs::read_to_string(path).ok());
    parse(&text.unwrap_or_default())
}

/// Parses the file: shell assignments with optional quotes.
pub(crate) fn parse(text: &str) -> OsRelease {
    let assignments = text.lines().filter(|line| !line.trim_start().starts_with('#'));
    let pairs = assignments.filter_map(|line| line.trim().split_once('='));
    pairs.map(|(name, value)| (name.to_owned(), unquote(value))).collect()
}

fn unquote(value: &str) -> String {
    let inner = |quote| value.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote));
    match (inner('"'), inner('\'')) {
        (Some(text), _) => {
            let mut out = String::new();
            let mut letters = text.chars();
            while let Some(letter) = letters.next() {
                out.extend(if letter == '\\' { letters.next() } else { Some(letter) });
            }
            out
        }
        (None, Some(text)) => text.to_owned(),
        (None, None) => value.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_and_comments_are_taken_away() {
        let release = parse("# c\nID=debian\nNAME=\"Debian \\\"GNU\\\"\"\nX='a b'\nbroken\n");
        assert_eq!(release["ID"], "debian");
        assert_eq!((release["NAME"].as_str(), release["X"].as_str()), ("Debian \"GNU\"", "a b"));
        assert_eq!(release.len(), 3);
    }
}
