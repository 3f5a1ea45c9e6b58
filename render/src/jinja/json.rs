//! JSON as Python's `json.dumps` writes it.

use minijinja::value::ValueKind;
use minijinja::{Error, Value};

use super::convert::Args;
use super::object::undefined;
use super::print;
use super::session::{self, MAX_DEPTH, MAX_TEXT, failure};

/// How the JSON looks.
#[derive(Debug, Clone, Default)]
pub(super) struct Look {
    pub(super) ascii: bool,
    pub(super) html_safe: bool,
    pub(super) sorted: bool,
    pub(super) indent: Option<usize>,
}

/// Reads the argument `indent`.
pub(super) fn indent(args: &Args<'_>, place: usize) -> Result<Option<usize>, Error> {
    match args.get(place, "indent").filter(|indent| !indent.is_none()) {
        Some(indent) => {
            let width = indent.as_usize().filter(|&width| width <= 100);
            width.map(Some).ok_or_else(|| failure("an indent must be a small number"))
        }
        None => Ok(None),
    }
}

/// Writes a value as JSON.
pub(super) fn dumps(value: &Value, look: &Look) -> Result<String, Error> {
    let mut writer = Writer { look, out: String::new() };
    writer.value(value, 0)?;
    Ok(writer.out)
}

struct Writer<'a> {
    look: &'a Look,
    out: String,
}

impl Writer<'_> {
    fn value(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        session::spend(1)?;
        if depth > MAX_DEPTH || self.out.len() > MAX_TEXT {
            return Err(failure("a value is too large for JSON"));
        }
        match value.kind() {
            ValueKind::Undefined => return Err(undefined()),
            ValueKind::None => self.out.push_str("null"),
            ValueKind::Bool => self.out.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => self.out.push_str(&number(value)),
            ValueKind::String => self.text(value.as_str().unwrap_or_default()),
            ValueKind::Seq | ValueKind::Iterable => {
                let items: Vec<Value> = value.try_iter()?.checked().collect::<Result<_, _>>()?;
                self.between('[', ']', &items, depth, |writer, item| writer.value(item, depth + 1))?;
            }
            ValueKind::Map => {
                let mut keys: Vec<Value> = value.try_iter()?.checked().collect::<Result<_, _>>()?;
                if self.look.sorted {
                    keys.sort();
                }
                self.between('{', '}', &keys, depth, |writer, key| {
                    writer.text(&key_text(key));
                    writer.out.push_str(": ");
                    writer.value(&value.get_item(key)?, depth + 1)
                })?;
            }
            _ => return Err(failure(format!("{} is not JSON serializable", print::str(value)))),
        }
        Ok(())
    }

    fn between(
        &mut self,
        open: char,
        close: char,
        items: &[Value],
        depth: usize,
        write: impl Fn(&mut Self, &Value) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.out.push(open);
        for (index, item) in items.iter().enumerate() {
            match (self.look.indent, index) {
                (None, 0) => {}
                (None, _) => self.out.push_str(", "),
                (Some(width), index) => {
                    self.out.push_str(if index > 0 { ",\n" } else { "\n" });
                    self.out.push_str(&" ".repeat(width * (depth + 1)));
                }
            }
            write(self, item)?;
        }
        if let (Some(width), false) = (self.look.indent, items.is_empty()) {
            self.out.push('\n');
            self.out.push_str(&" ".repeat(width * depth));
        }
        self.out.push(close);
        Ok(())
    }

    fn text(&mut self, text: &str) {
        self.out.push('"');
        for letter in text.chars() {
            match letter {
                '"' => self.out.push_str("\\\""),
                '\\' => self.out.push_str("\\\\"),
                '\n' => self.out.push_str("\\n"),
                '\r' => self.out.push_str("\\r"),
                '\t' => self.out.push_str("\\t"),
                '\u{8}' => self.out.push_str("\\b"),
                '\u{c}' => self.out.push_str("\\f"),
                '<' | '>' | '&' | '\'' if self.look.html_safe => self.escape(letter),
                '\0'..='\u{1f}' => self.escape(letter),
                letter if self.look.ascii && letter > '~' => self.escape(letter),
                letter => self.out.push(letter),
            }
        }
        self.out.push('"');
    }

    fn escape(&mut self, letter: char) {
        let mut units = [0; 2];
        for unit in letter.encode_utf16(&mut units) {
            self.out.push_str(&format!("\\u{unit:04x}"));
        }
    }
}

fn number(value: &Value) -> String {
    match print::repr(value).as_str() {
        "nan" => "NaN".to_owned(),
        "inf" => "Infinity".to_owned(),
        "-inf" => "-Infinity".to_owned(),
        text => text.to_owned(),
    }
}

fn key_text(key: &Value) -> String {
    match key.kind() {
        ValueKind::None => "null".to_owned(),
        ValueKind::Bool => print::repr(key).to_lowercase(),
        _ => print::str(key),
    }
}
