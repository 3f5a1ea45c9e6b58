//! `list`: exactly these ids, as an array or as text with commas.

use super::BadTarget;
use crate::value::Value;

/// Splits text at its commas; blanks around names and empty names do not count, nor do repetitions.
pub fn split(text: &str) -> Vec<String> {
    let mut ids: Vec<String> = Vec::new();
    for id in text.split(',').map(str::trim).filter(|id| !id.is_empty()) {
        if !ids.iter().any(|known| known == id) {
            ids.push(id.to_owned());
        }
    }
    ids
}

/// Reads an array of texts.
pub(super) fn parse(tgt: &Value) -> Result<Vec<String>, BadTarget> {
    let mut ids = Vec::new();
    for item in tgt.as_list().unwrap_or_default() {
        match item {
            Value::Str(text) => ids.push(text.clone()),
            Value::Int(number) => ids.push(number.to_string()),
            other => return Err(BadTarget::Shape(other.kind())),
        }
    }
    if ids.is_empty() { Err(BadTarget::Empty) } else { Ok(ids) }
}
