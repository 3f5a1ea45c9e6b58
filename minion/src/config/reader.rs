//! Reads single options: the value if it is of the right kind, else an error that names file, line, column and option.

use std::path::PathBuf;

use proto::value::{Map, MapExt, Value};
use render::unit;

use super::files::Files;

/// An option that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {option}: expected {expected}, found {found}")]
pub struct OptionError {
    place: String,
    option: String,
    expected: String,
    found: String,
}

/// Reads options from merged files.
pub(super) struct Reader<'a> {
    files: &'a Files,
}

impl<'a> Reader<'a> {
    pub(super) fn new(files: &'a Files) -> Reader<'a> {
        Reader { files }
    }

    /// Returns an option's value; null counts as not given.
    pub(super) fn value(&self, option: &str) -> Option<&'a Value> {
        self.files.options.at(option).filter(|value| !value.is_null())
    }

    pub(super) fn text(&self, option: &str) -> Result<Option<String>, OptionError> {
        match self.value(option) {
            None => Ok(None),
            Some(Value::Str(text)) if text.is_empty() => Ok(None),
            Some(Value::Str(text)) => Ok(Some(text.clone())),
            // An id such as 42 is written without quotes.
            Some(Value::Int(number)) => Ok(Some(number.to_string())),
            Some(other) => Err(self.wrong(option, "text", other)),
        }
    }

    pub(super) fn path(&self, option: &str) -> Result<Option<PathBuf>, OptionError> {
        Ok(self.text(option)?.map(PathBuf::from))
    }

    pub(super) fn flag(&self, option: &str, default: bool) -> Result<bool, OptionError> {
        match self.value(option) {
            None => Ok(default),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(other) => Err(self.wrong(option, "True or False", other)),
        }
    }

    /// Returns a whole number within `from..=to`.
    pub(super) fn number(&self, option: &str, from: u64, to: u64) -> Result<Option<u64>, OptionError> {
        let Some(value) = self.value(option) else { return Ok(None) };
        match value.as_u64().filter(|number| (from..=to).contains(number)) {
            Some(number) => Ok(Some(number)),
            None => Err(self.wrong(option, &format!("a whole number from {from} to {to}"), value)),
        }
    }

    /// Returns a number of bytes within `from..=to`, bare or with a unit: `16MiB`.
    pub(super) fn bytes(&self, option: &str, from: u64, to: u64) -> Result<Option<u64>, OptionError> {
        let Some(value) = self.value(option) else { return Ok(None) };
        let bytes = value.as_str().map_or_else(|| value.as_u64(), unit::bytes);
        match bytes.filter(|bytes| (from..=to).contains(bytes)) {
            Some(bytes) => Ok(Some(bytes)),
            None => {
                let expected = format!("a number of bytes from {from} to {to}, or one with KiB, MiB, GiB or TiB");
                Err(self.wrong(option, &expected, value))
            }
        }
    }

    pub(super) fn map(&self, option: &str) -> Result<Map, OptionError> {
        match self.value(option) {
            None => Ok(Map::new()),
            Some(Value::Map(map)) => Ok(map.clone()),
            Some(other) => Err(self.wrong(option, "a map", other)),
        }
    }

    pub(super) fn texts(&self, option: &str) -> Result<Vec<String>, OptionError> {
        let Some(value) = self.value(option) else { return Ok(Vec::new()) };
        let items = value.as_list().ok_or_else(|| self.wrong(option, "a list of texts", value))?;
        let text =
            |item: &Value| item.as_str().map(str::to_owned).ok_or_else(|| self.wrong(option, "a list of texts", value));
        items.iter().map(text).collect()
    }

    /// Says that a value will not do.
    pub(super) fn wrong(&self, option: &str, expected: &str, found: &Value) -> OptionError {
        let shown = match found {
            Value::Str(text) => format!("{text:?}"),
            Value::Bool(_) | Value::Float(_) | Value::Int(_) => format!("{found:?}"),
            other => other.kind().to_owned(),
        };
        OptionError {
            place: self.place(&[option]),
            option: option.to_owned(),
            expected: expected.to_owned(),
            found: shown,
        }
    }

    /// Returns where an option stands.
    pub(super) fn place(&self, path: &[&str]) -> String {
        self.files.place(path).unwrap_or_else(|| "the command line".to_owned())
    }
}
