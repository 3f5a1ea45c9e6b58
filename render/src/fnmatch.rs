//! Shell-style patterns as Python's `fnmatch.fnmatchcase`, on whole texts: `*` crosses `/`. The matcher itself is `proto`'s,
//! which targets use too.

pub use proto::target::glob::Glob;
