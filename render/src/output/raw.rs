//! `--out raw`: the value on one line as Python's `str` writes it.

use crate::python;

use super::{Format, Outputter};

pub(super) const OUTPUTTER: Outputter = Outputter {
    name: "raw",
    format: Format::Raw,
    help: "Python's notation, one line",
    print: |value, style| Some(style.clean(&python::str(value)).into_owned()),
};
