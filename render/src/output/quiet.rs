//! `--out quiet`: nothing; the exit code says it all.

use super::{Format, Outputter};

pub(super) const OUTPUTTER: Outputter =
    Outputter { name: "quiet", format: Format::Quiet, help: "nothing", print: |_, _| Some(String::new()) };
