//! `--out pprint`: as Python's `pprint.pformat`, 80 columns, keys sorted.

use proto::value::{Map, Value};

use crate::python;

use super::style::Style;
use super::{Format, Outputter, order, text};

pub(super) const OUTPUTTER: Outputter = Outputter {
    name: "pprint",
    format: Format::Pprint,
    help: "Python's notation, wrapped at 80 columns",
    print: |value, style| Some(print(value, style)),
};

/// Python's line width.
const WIDTH: usize = 80;
/// The most spaces per level anyone can ask for.
const MAX_INDENT: usize = 64;

/// Returns the lines, the last one not ended.
pub(super) fn print(value: &Value, style: &Style) -> String {
    let step = style.indent.and_then(|indent| usize::try_from(indent).ok()).unwrap_or(1).min(MAX_INDENT);
    let mut printer = Printer { step, out: String::new() };
    printer.value(value, Place { indent: 0, allowance: 0, level: 0 });
    style.clean(&printer.out).into_owned()
}

/// Where a value is written: the column, what must still fit behind it, and how deep it is.
#[derive(Debug, Clone, Copy)]
struct Place {
    indent: usize,
    allowance: usize,
    level: usize,
}

struct Printer {
    step: usize,
    out: String,
}

impl Printer {
    /// Writes a value on one line if it fits, else over several.
    fn value(&mut self, value: &Value, place: Place) {
        if let Some(line) = one_line(value, WIDTH.saturating_sub(place.indent + place.allowance)) {
            self.out.push_str(&line);
            return;
        }
        let place = Place { level: place.level + 1, ..place };
        match value {
            Value::Bytes(bytes) => self.bytes(bytes, place),
            Value::List(items) => self.list(items, place),
            Value::Map(map) => self.map(map, place),
            Value::Str(text) => self.text(text, place),
            scalar => self.out.push_str(&python::repr(scalar)),
        }
    }

    fn list(&mut self, items: &[Value], place: Place) {
        self.out.push('[');
        self.pad();
        let indent = place.indent + self.step;
        for (at, item) in items.iter().enumerate() {
            if at > 0 {
                self.out.push(',');
                self.new_line(indent);
            }
            let allowance = if at + 1 == items.len() { place.allowance + 1 } else { 1 };
            self.value(item, Place { indent, allowance, level: place.level });
        }
        self.out.push(']');
    }

    fn map(&mut self, map: &Map, place: Place) {
        self.out.push('{');
        self.pad();
        let indent = place.indent + self.step;
        for (at, (key, item)) in order::sorted(map).into_iter().enumerate() {
            if at > 0 {
                self.out.push(',');
                self.new_line(indent);
            }
            let key = python::repr(key);
            self.out.push_str(&key);
            self.out.push_str(": ");
            let allowance = if at + 1 == map.len() { place.allowance + 1 } else { 1 };
            self.value(item, Place { indent: indent + columns(&key) + 2, allowance, level: place.level });
        }
        self.out.push('}');
    }

    /// Writes a long text as several literals: one per line of it, and lines too long for the page broken at spaces.
    fn text(&mut self, text: &str, place: Place) {
        let place = self.inside_brackets(place);
        let width = WIDTH.saturating_sub(place.indent);
        let last_width = width.saturating_sub(place.allowance);
        let lines: Vec<&str> = text::lines_with_ends(text).collect();
        let mut chunks = Vec::new();
        for (at, line) in lines.iter().enumerate() {
            let end_width = if at + 1 == lines.len() { last_width } else { width };
            let whole = python::text_repr(line);
            if columns(&whole) <= end_width {
                chunks.push(whole);
            } else {
                fill(&mut chunks, line, width, end_width);
            }
        }
        self.chunks(&chunks, place);
    }

    fn bytes(&mut self, bytes: &[u8], place: Place) {
        if bytes.len() <= 4 {
            self.out.push_str(&bytes_repr(bytes));
            return;
        }
        let place = self.inside_brackets(place);
        let mut width = WIDTH.saturating_sub(place.indent);
        let mut chunks = Vec::new();
        let mut start = 0;
        for at in (0..bytes.len()).step_by(4) {
            let end = (at + 4).min(bytes.len());
            if at == bytes.len() / 4 * 4 {
                width = width.saturating_sub(place.allowance);
            }
            if columns(&bytes_repr(&bytes[start..end])) > width && start < at {
                chunks.push(bytes_repr(&bytes[start..at]));
                start = at;
            }
        }
        chunks.push(bytes_repr(&bytes[start..]));
        self.chunks_always(&chunks, place);
    }

    /// Returns the place within the brackets that text of several literals needs at the top level.
    fn inside_brackets(&self, place: Place) -> Place {
        let bracket = usize::from(place.level == 1);
        Place { indent: place.indent + bracket, allowance: place.allowance + bracket, level: place.level }
    }

    /// Writes literals below each other; a single one needs no brackets.
    fn chunks(&mut self, chunks: &[String], place: Place) {
        match chunks {
            [] => self.out.push_str("''"),
            [only] => self.out.push_str(only),
            _ => self.chunks_always(chunks, place),
        }
    }

    fn chunks_always(&mut self, chunks: &[String], place: Place) {
        let (open, close) = if place.level == 1 { ("(", ")") } else { ("", "") };
        self.out.push_str(open);
        for (at, chunk) in chunks.iter().enumerate() {
            if at > 0 {
                self.new_line(place.indent);
            }
            self.out.push_str(chunk);
        }
        self.out.push_str(close);
    }

    /// Writes the spaces between an opening bracket and the first item of a wider indent.
    fn pad(&mut self) {
        self.out.extend(std::iter::repeat_n(' ', self.step.saturating_sub(1)));
    }

    fn new_line(&mut self, indent: usize) {
        self.out.push('\n');
        self.out.extend(std::iter::repeat_n(' ', indent));
    }
}

/// Breaks a line into literals that fit, at its spaces.
fn fill(chunks: &mut Vec<String>, line: &str, width: usize, end_width: usize) {
    let words = words(line);
    let mut current = String::new();
    for (at, word) in words.iter().enumerate() {
        let limit = if at + 1 == words.len() { end_width } else { width };
        if columns(&python::text_repr(&format!("{current}{word}"))) > limit {
            if !current.is_empty() {
                chunks.push(python::text_repr(&current));
            }
            current.clear();
        }
        current.push_str(word);
    }
    if !current.is_empty() {
        chunks.push(python::text_repr(&current));
    }
}

/// Returns the words of a line, each with the space behind it.
fn words(line: &str) -> Vec<&str> {
    let mut words = Vec::new();
    let mut rest = line;
    while !rest.is_empty() {
        let word = rest.find(text::is_space).unwrap_or(rest.len());
        let space = rest[word..].find(|c| !text::is_space(c)).unwrap_or(rest.len() - word);
        let (head, tail) = rest.split_at(word + space);
        words.push(head);
        rest = tail;
    }
    words
}

/// Returns the value on one line, as `repr` but with keys sorted, if that takes no more than so many columns.
/// Gives up as soon as it is clear that it takes more: every level of a deep value asks.
fn one_line(value: &Value, columns_left: usize) -> Option<String> {
    let mut line = String::new();
    add_to_line(&mut line, value, columns_left).then_some(line)
}

/// Adds a value to a line; tells whether the line still fits.
fn add_to_line(line: &mut String, value: &Value, limit: usize) -> bool {
    match value {
        // A character is at most four bytes, so these cannot fit.
        Value::Str(text) if text.len() / 4 > limit => return false,
        Value::Bytes(bytes) if bytes.len() > limit => return false,
        Value::List(items) => {
            line.push('[');
            for (at, item) in items.iter().enumerate() {
                line.push_str(if at == 0 { "" } else { ", " });
                if !add_to_line(line, item, limit) {
                    return false;
                }
            }
            line.push(']');
        }
        Value::Map(map) => {
            line.push('{');
            for (at, (key, item)) in order::sorted(map).into_iter().enumerate() {
                line.push_str(if at == 0 { "" } else { ", " });
                let key_fits = add_to_line(line, key, limit);
                line.push_str(": ");
                if !key_fits || !add_to_line(line, item, limit) {
                    return false;
                }
            }
            line.push('}');
        }
        scalar => line.push_str(&python::repr(scalar)),
    }
    columns(line) <= limit
}

fn bytes_repr(bytes: &[u8]) -> String {
    python::repr(&Value::Bytes(bytes.to_vec()))
}

fn columns(text: &str) -> usize {
    text.chars().count()
}
