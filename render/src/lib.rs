//! Text in, values out, as Salt would: YAML with PyYAML 1.1 rules, Jinja templates, and the two together as SLS files.
//! Nothing here opens a file: the caller hands in loaders.
//!
//! Reading order: `yaml` (load, repairs, dump, command-line arguments), `jinja` (templates), `sls` (templates that are
//! YAML), `fnmatch` (tag and id globs), `python` (how Python prints values), `output` (what the command line prints),
//! `nearest` (the word that a mistyped one means), `unit` (numbers with a unit).

pub mod fnmatch;
pub mod jinja;
pub mod nearest;
pub mod output;
pub mod python;
pub mod sls;
pub mod unit;
pub mod yaml;
