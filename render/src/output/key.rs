//! `--out key`: the layout of `salt-key -L` and `-F`: key states in order, each with its minions or their fingerprints.
//!
//! Reads `{minions: […], minions_denied: […], minions_pre: […], minions_rejected: […], local: {…}}`.

use proto::value::Value;

use crate::python;

use super::style::{Paint, Style};
use super::{Format, Outputter, nested};

pub(super) const OUTPUTTER: Outputter =
    Outputter { name: "key", format: Format::Key, help: "keys by state, as `key list` shows them", print: text };

/// Returns the lines, or nothing if this is not a listing of keys.
fn text(value: &Value, style: &Style) -> Option<String> {
    let mut lines = Vec::new();
    for (state, keys) in nested::entries(value.as_map()?) {
        let (title, title_paint, paint) = heading(&state)?;
        lines.push(style.paint(title_paint, title));
        lines.extend(names(keys)?.iter().map(|key| style.paint(paint, &style.clean(&key.replace('\x1b', "?")))));
    }
    Some(lines.join("\n"))
}

/// Returns the title of a key state, its colour, and that of its keys.
fn heading(state: &str) -> Option<(&'static str, Paint, Paint)> {
    match state {
        "local" => Some(("Local Keys:", Paint::LightMagenta, Paint::Magenta)),
        "minions" => Some(("Accepted Keys:", Paint::LightGreen, Paint::Green)),
        "minions_denied" => Some(("Denied Keys:", Paint::LightMagenta, Paint::Magenta)),
        "minions_pre" => Some(("Unaccepted Keys:", Paint::LightRed, Paint::Red)),
        "minions_rejected" => Some(("Rejected Keys:", Paint::LightBlue, Paint::Blue)),
        _ => None,
    }
}

/// Returns the minions of a state in order, each with its fingerprint if there is one.
fn names(keys: &Value) -> Option<Vec<String>> {
    let mut names: Vec<(String, Option<String>)> = match keys {
        Value::List(ids) => ids.iter().map(|id| (python::str(id), None)).collect(),
        Value::Map(prints) => prints.iter().map(|(id, print)| (python::str(id), Some(python::str(print)))).collect(),
        _ => return None,
    };
    names.sort();
    let line = |(id, print): (String, Option<String>)| print.map_or(id.clone(), |print| format!("{id}:  {print}"));
    Some(names.into_iter().map(line).collect())
}
