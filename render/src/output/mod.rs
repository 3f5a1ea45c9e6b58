//! The outputters: values in, text out, exactly as Salt prints them. Pure; nothing here touches a terminal or a file.
//!
//! One file per outputter, listed in [`all`]. Beside them: [`event`] prints the event stream, [`ret`] what a command prints
//! around its returns, [`ago`] how long ago, [`style`] colours and control characters. How Python writes values is
//! `crate::python`.

mod ago;
mod clean;
pub mod event;
mod json;
mod json_writer;
mod jsonl;
mod key;
mod nested;
mod no_return;
mod order;
mod pprint;
mod quiet;
mod raw;
pub mod ret;
pub mod style;
mod table;
mod text;
mod txt;
mod yaml;

use proto::value::Value;
use thiserror::Error;

pub use ago::ago;
pub use clean::{clean, clean_line};
pub use style::{Colour, Controls, Outcome, Style};

/// One way of printing a value.
#[derive(Debug)]
pub struct Outputter {
    /// The name after `--out`.
    pub name: &'static str,
    /// What it stands for in code.
    pub format: Format,
    /// One line of help.
    pub help: &'static str,
    /// Prints the value, or returns nothing if this outputter cannot show a value of that shape.
    print: fn(&Value, &Style) -> Option<String>,
}

/// Returns every outputter, by name.
pub fn all() -> &'static [Outputter] {
    &[
        json::OUTPUTTER,
        jsonl::OUTPUTTER,
        key::OUTPUTTER,
        nested::OUTPUTTER,
        no_return::OUTPUTTER,
        pprint::OUTPUTTER,
        quiet::OUTPUTTER,
        raw::OUTPUTTER,
        table::OUTPUTTER,
        txt::OUTPUTTER,
        yaml::OUTPUTTER,
    ]
}

/// Which outputter prints a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// JSON, indented by four.
    Json,
    /// JSON, one compact document per line.
    Jsonl,
    /// The layout of `salt-key -L`.
    Key,
    /// Salt's indented layout, the default.
    #[default]
    Nested,
    /// Salt's layout for minions that did not return.
    NoReturn,
    /// Python's `pprint`.
    Pprint,
    /// Nothing at all.
    Quiet,
    /// Python's `str`.
    Raw,
    /// Rows in boxes.
    Table,
    /// One `key: line` per line of text.
    Txt,
    /// YAML, keys sorted.
    Yaml,
}

impl Format {
    /// Returns the format of that name. `text` is `txt`, and an empty name is the default, as in Salt.
    pub fn parse(name: &str) -> Result<Format, UnknownFormat> {
        match name {
            "" => Ok(Format::Nested),
            "text" => Ok(Format::Txt),
            _ => all()
                .iter()
                .find(|outputter| outputter.name == name)
                .map(|outputter| outputter.format)
                .ok_or_else(|| UnknownFormat { name: name.to_owned() }),
        }
    }

    /// Returns the name after `--out`.
    pub fn name(self) -> &'static str {
        self.outputter().name
    }

    fn outputter(self) -> &'static Outputter {
        all().iter().find(|outputter| outputter.format == self).expect("every format is listed in all()")
    }
}

/// Asked for an outputter that does not exist.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("unknown outputter `{name}`; known: {known}", known = known_names())]
pub struct UnknownFormat {
    /// The name that was asked for.
    pub name: String,
}

impl UnknownFormat {
    /// Returns the line Salt prints on stderr before it falls back to nested.
    pub fn fallback_line(&self) -> String {
        format!("[ERROR   ] Invalid outputter {} specified, fall back to nested\n", self.name)
    }
}

fn known_names() -> String {
    let names: Vec<&str> = all().iter().map(|outputter| outputter.name).collect();
    names.join(", ")
}

/// Returns what is printed for a value: whole lines, the last one ended, or nothing at all.
///
/// As in Salt, trailing space goes, and a value that the outputter cannot show (a number as a table, say) is shown nested.
pub fn render(format: Format, value: &Value, style: &Style) -> String {
    let printed = (format.outputter().print)(value, style).unwrap_or_else(|| nested::print(value, style));
    let mut printed = text::rstrip(&printed).to_owned();
    if !printed.is_empty() {
        printed.push('\n');
    }
    printed
}

#[cfg(test)]
mod tests;
