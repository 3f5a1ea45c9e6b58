//! What a reader asks for: which tags, and since when.

use std::sync::atomic::{AtomicU64, Ordering};

use proto::target::glob::Glob;

/// Which events a reader wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventQuery {
    /// Shell-style patterns (fnmatch over the whole tag), any of which suffices; none at all means every event.
    pub tags: Vec<String>,
    /// Where to begin.
    pub since: Since,
    /// Where to end: with this offset. None reads on for ever.
    pub until: Option<u64>,
}

/// Where a reader begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Since {
    /// With what is committed after the call of `subscribe`.
    Now,
    /// With this offset, or the first one after it. One that lies ahead is waited for.
    Offset(u64),
    /// With the first event that was submitted at this moment or later, in microseconds since 1970.
    Stamp(i64),
    /// With the oldest event in the log.
    Start,
}

/// Compiled tag patterns.
#[derive(Debug)]
pub(super) struct Filter {
    globs: Vec<(String, Glob)>,
    /// The segment for which the index by tag is known not to pay; 0 is none.
    scans: AtomicU64,
}

impl Filter {
    pub(super) fn new(tags: &[String]) -> Filter {
        if tags.iter().any(|tag| tag == "*") {
            return Filter { globs: Vec::new(), scans: AtomicU64::new(0) };
        }
        let compile = |tag: &String| {
            let glob = Glob::new(tag);
            (glob.literal_prefix(), glob)
        };
        Filter { globs: tags.iter().map(compile).collect(), scans: AtomicU64::new(0) }
    }

    /// Returns the literal texts one of which every wanted tag begins with; nothing if a pattern has none.
    pub(super) fn prefixes(&self) -> Option<impl Iterator<Item = &str>> {
        let all = !self.globs.is_empty() && self.globs.iter().all(|(prefix, _)| !prefix.is_empty());
        all.then(|| self.globs.iter().map(|(prefix, _)| prefix.as_str()))
    }

    /// Tells whether the index of the segment that begins here is known not to pay.
    pub(super) fn scans(&self, first: u64) -> bool {
        self.scans.load(Ordering::Relaxed) == first
    }

    /// Takes note of that.
    pub(super) fn set_scans(&self, first: u64) {
        self.scans.store(first, Ordering::Relaxed);
    }

    /// Tells whether a reader wants this tag. The prefix is compared first: it decides most cases at the price of a
    /// `memcmp`.
    pub(super) fn wants(&self, tag: &str) -> bool {
        self.globs.is_empty() || self.globs.iter().any(|(prefix, glob)| tag.starts_with(prefix) && glob.matches(tag))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(tags: &[&str], tag: &str, expected: bool) {
        let tags: Vec<String> = tags.iter().map(|tag| (*tag).to_owned()).collect();
        assert_eq!(Filter::new(&tags).wants(tag), expected, "{tags:?} {tag:?}");
    }

    #[test]
    fn any_pattern_suffices_and_none_means_all() {
        check(&[], "salt/auth", true);
        check(&["*"], "salt/auth", true);
        check(&["salt/job/*"], "salt/auth", false);
        check(&["salt/job/*", "salt/a?th"], "salt/auth", true);
        check(&["salt/auth"], "salt/auth", true);
        check(&["salt/auth"], "salt/auth/x", false);
        check(&["salt/*/ret/*"], "salt/job/1/ret/web1", true);
    }
}
