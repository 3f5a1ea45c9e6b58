//! `grain_pcre`: a grain and a regular expression, `role:r(1|2)`. Upper and lower case are the same; Salt lowers the letters
//! of the expression too, which turns `\D` into `\d`.

use super::BadTarget;
use super::pcre::Pcre;
use super::subdict::{Subdict, Test};

/// Reads `GRAIN:EXPRESSION`.
pub(super) fn parse(text: &str, delimiter: &str) -> Result<Subdict, BadTarget> {
    Subdict::parse(text, delimiter, |pattern| Pcre::parse_ignoring_case(pattern).map(Test::Pcre))
}
