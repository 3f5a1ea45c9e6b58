//! `grain`: a grain and a shell-style pattern, `os:Debian`, `site:dc:y*`. Upper and lower case are the same.

use super::BadTarget;
use super::glob::Glob;
use super::subdict::{Subdict, Test};

/// Reads `GRAIN:PATTERN`.
pub(super) fn parse(text: &str, delimiter: &str) -> Result<Subdict, BadTarget> {
    Subdict::parse(text, delimiter, |pattern| Ok(Test::Glob(Glob::new(&pattern.to_lowercase()))))
}
