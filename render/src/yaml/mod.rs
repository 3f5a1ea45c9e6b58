//! YAML as PyYAML 1.1 and Salt's loader read it. The event parser is `saphyr-parser`; tags, scalars, merge keys,
//! duplicate keys and limits are decided here.
//!
//! - `resolve`: what a plain scalar means. `compose`: events to nodes with positions. `construct`: nodes to values.
//! - `repair`: the repairs that reactor files get. `dump`: writing. `cli`: arguments of the command line.

mod analyze;
mod cli;
mod compose;
mod construct;
mod dump;
mod emit;
mod marks;
mod repair;
mod resolve;
#[cfg(test)]
mod tests;

pub use cli::{cli_arg, parse_kwarg};
pub(crate) use construct::decode_base64;
pub use dump::{KeyOrder, dump, dump_in};
pub(crate) use dump::{double_quoted, flow, single_quoted};
pub use marks::{Marks, Position};
pub use repair::{PairError, ReactorEntry, load_with_repairs, pair_reactor, plain_spaces};

use std::fmt;

use proto::value::Value;

/// The longest text that is read, in bytes.
pub const MAX_TEXT_BYTES: usize = 8 << 20;
/// The deepest nesting that is read.
pub const MAX_DEPTH: usize = 100;
/// The most nodes a document may have once its aliases are expanded: bounds "billion laughs" documents.
pub const MAX_NODES: usize = 1_000_000;
/// The most bytes of text a document may hold once its aliases are expanded.
pub const MAX_EXPANDED_BYTES: usize = 64 << 20;

/// Where a text comes from, for error messages.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    /// The file's path, or a word such as `<arg>`.
    pub name: &'a str,
}

/// A text that is not YAML, or not YAML that Salt would take.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}:{column}: {message}")]
pub struct YamlError {
    /// The file, as named in the `Source`.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// The column, from 1.
    pub column: usize,
    /// What is wrong there.
    pub message: String,
}

/// Something that was read although it is not as Salt wants it, and how to write it instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// The file, as named by the caller.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// What is unusual there.
    pub message: String,
    /// The corrected form.
    pub corrected: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}; write it as: {}", self.file, self.line, self.message, self.corrected)
    }
}

/// Reads one YAML document. An empty text is null.
pub fn load(text: &str, source: &Source<'_>) -> Result<Value, YamlError> {
    match compose::compose(text).and_then(|root| root.map_or(Ok(Value::Null), |root| construct::construct(&root))) {
        Ok(value) => Ok(value),
        Err(fault) => Err(fault.at(source)),
    }
}

/// Reads one YAML document, and remembers where its upper levels stand in the text.
pub fn load_marked(text: &str, source: &Source<'_>) -> Result<(Value, Marks), YamlError> {
    let root = compose::compose(text).map_err(|fault| fault.at(source))?;
    let Some(root) = root else { return Ok((Value::Null, Marks::default())) };
    let value = construct::construct(&root).map_err(|fault| fault.at(source))?;
    Ok((value, Marks::of(&root)))
}

/// What is wrong, and where, before the file's name is known.
#[derive(Debug, Clone, PartialEq)]
struct Fault {
    position: Position,
    message: String,
}

impl Fault {
    fn new(position: Position, message: impl Into<String>) -> Fault {
        Fault { position, message: message.into() }
    }

    fn at(self, source: &Source<'_>) -> YamlError {
        let Position { line, column } = self.position;
        YamlError { file: source.name.to_owned(), line, column, message: self.message }
    }
}
