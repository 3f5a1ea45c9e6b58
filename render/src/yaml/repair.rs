//! The repairs that reactor files get, each with a warning that shows the corrected form: keys indented less than their
//! siblings, and a `reactor:` list that does not pair tags with files. (The third, `keys()[0]`, is in `jinja`.)

use std::borrow::Cow;

use proto::value::Value;

use super::{Marks, Position, Source, Warning, YamlError, load};

/// How many keys of one file are re-indented before it counts as wrong.
const MAX_REPAIRS: usize = 50;

/// Reads one YAML document of a reactor. A mapping key that is indented less than its siblings but more than their parent
/// joins the siblings.
pub fn load_with_repairs(text: &str, name: &str) -> Result<(Value, Vec<Warning>), YamlError> {
    let source = Source { name };
    let (text, respaced) = plain_spaces(text, name);
    let mut warnings: Vec<Warning> = respaced.into_iter().collect();
    let mut error = match load(&text, &source) {
        Ok(value) => return Ok((value, warnings)),
        Err(error) => error,
    };
    let first = error.clone();
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    while warnings.len() < MAX_REPAIRS {
        let Some(corrected) = reindent(&mut lines, error.line) else { return Err(first) };
        warnings.push(Warning {
            file: name.to_owned(),
            line: error.line,
            message: "this key is indented less than its siblings".to_owned(),
            corrected,
        });
        error = match load(&lines.join("\n"), &source) {
            Ok(value) => return Ok((value, warnings)),
            // Each repair must bring the reader further.
            Err(next) if next.line > error.line => next,
            Err(_) => return Err(first),
        };
    }
    Err(first)
}

/// Makes spaces of the no-break spaces that lines begin with: text copied from a web page has them.
pub fn plain_spaces<'t>(text: &'t str, name: &str) -> (Cow<'t, str>, Option<Warning>) {
    let indent = |line: &str| line.len() - line.trim_start_matches([' ', NO_BREAK_SPACE]).len();
    let Some(first) = text.lines().position(|line| line[..indent(line)].contains(NO_BREAK_SPACE)) else {
        return (Cow::Borrowed(text), None);
    };
    let mut plain = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        let (blank, rest) = line.split_at(indent(line));
        plain.push_str(&blank.replace(NO_BREAK_SPACE, " "));
        plain.push_str(rest);
    }
    let warning = Warning {
        file: name.to_owned(),
        line: first + 1,
        message: "lines begin with no-break spaces (U+00A0)".to_owned(),
        corrected: "plain spaces".to_owned(),
    };
    (Cow::Owned(plain), Some(warning))
}

const NO_BREAK_SPACE: char = '\u{a0}';

/// Moves the key on this line (from 1), and what is nested below it, to the indentation of the siblings above. Returns the
/// corrected line, or nothing if the line is not such a key.
fn reindent(lines: &mut [String], line: usize) -> Option<String> {
    let index = line.checked_sub(1)?;
    let key = lines.get(index)?;
    let indent = indentation(key);
    if !is_mapping_key(key) || indent == 0 {
        return None;
    }
    let above = || lines[..index].iter().rev().filter(|line| is_content(line));
    let parent = above().find(|line| indentation(line) <= indent)?;
    // The outermost of the lines between is a sibling; deeper ones belong to it.
    let siblings = above().map(|line| indentation(line)).take_while(|&start| start > indent).min()?;
    if !parent.trim_end().ends_with(':') || content_column(parent) >= indent {
        return None;
    }
    let shift = siblings - indent;
    let opens_block = !has_inline_value(&lines[index]);
    let nested = lines[index + 1..]
        .iter()
        .take_while(|line| !is_content(line) || indentation(line) > indent)
        .map(|line| is_content(line) && (opens_block || indentation(line) != siblings))
        .collect::<Vec<_>>();
    let pad = " ".repeat(shift);
    lines[index].insert_str(0, &pad);
    for (line, moves) in lines[index + 1..].iter_mut().zip(nested) {
        if moves {
            line.insert_str(0, &pad);
        }
    }
    Some(lines[index].clone())
}

fn indentation(line: &str) -> usize {
    line.len() - line.trim_start_matches(' ').len()
}

/// Returns the column in which a line's mapping key begins, behind any `- `.
fn content_column(line: &str) -> usize {
    let mut rest = line.trim_start_matches(' ');
    while let Some(inner) = rest.strip_prefix("- ") {
        rest = inner.trim_start_matches(' ');
    }
    line.len() - rest.len()
}

fn is_content(line: &str) -> bool {
    let text = line.trim_start();
    !text.is_empty() && !text.starts_with('#')
}

fn is_mapping_key(line: &str) -> bool {
    let text = line.trim_start();
    !text.starts_with("- ") && (text.contains(": ") || text.trim_end().ends_with(':'))
}

fn has_inline_value(line: &str) -> bool {
    let text = line.trim_end();
    let block_scalar = [": |", ": >"].iter().any(|mark| text.contains(mark));
    !text.ends_with(':') && !block_scalar
}

/// One entry of the option `reactor`: a tag glob and the files it renders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReactorEntry {
    /// The tag glob.
    pub tag: String,
    /// The paths of its SLS files, which may be globs or `salt://` paths.
    pub paths: Vec<String>,
    /// Where the entry stands, if that is known.
    pub position: Option<Position>,
}

/// A value of the option `reactor` that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{}{message}", .position.map_or_else(|| " ".to_owned(), |at| format!("{}:{}: ", at.line, at.column)))]
pub struct PairError {
    /// The configuration file.
    pub file: String,
    /// Where the entry stands, if that is known.
    pub position: Option<Position>,
    /// What is wrong with it.
    pub message: String,
}

/// Reads the value of the option `reactor`: a list of one-key maps, or (repaired, with a warning) a flat list
/// `tag, path[, path…]`. `marks` are those of the file, `file` its name; the option is looked up as `reactor`.
pub fn pair_reactor(value: &Value, file: &str, marks: &Marks) -> Result<(Vec<ReactorEntry>, Vec<Warning>), PairError> {
    let mut pairing = Pairing { file, entries: Vec::new(), warnings: Vec::new(), flat: None };
    let items = match value {
        Value::Null => &[],
        Value::List(items) => items.as_slice(),
        other => {
            return Err(
                pairing.error(marks.at(&["reactor"]), format!("a reactor list was expected, not {}", other.kind()))
            );
        }
    };
    for (index, item) in items.iter().enumerate() {
        let at = marks.at(&["reactor", &index.to_string()]);
        match item {
            Value::Map(map) if map.len() == 1 => {
                pairing.finish_flat()?;
                for (tag, paths) in map {
                    let paths = pairing.paths(paths, at)?;
                    pairing.entries.push(ReactorEntry { tag: tag.to_key(), paths, position: at });
                }
            }
            Value::Map(map) => pairing.skip(map.len(), at),
            Value::Str(text) => pairing.flat(text, at)?,
            other => return Err(pairing.error(at, format!("a tag with its files was expected, not {}", other.kind()))),
        }
    }
    pairing.finish_flat()?;
    Ok((pairing.entries, pairing.warnings))
}

struct Pairing<'a> {
    file: &'a str,
    entries: Vec<ReactorEntry>,
    warnings: Vec<Warning>,
    flat: Option<ReactorEntry>,
}

impl Pairing<'_> {
    fn error(&self, position: Option<Position>, message: impl Into<String>) -> PairError {
        PairError { file: self.file.to_owned(), position, message: message.into() }
    }

    fn warn(&mut self, at: Option<Position>, message: &str, corrected: String) {
        let line = at.map_or(0, |at| at.line);
        self.warnings.push(Warning { file: self.file.to_owned(), line, message: message.to_owned(), corrected });
    }

    fn paths(&self, value: &Value, at: Option<Position>) -> Result<Vec<String>, PairError> {
        let items = match value {
            Value::Str(path) => return Ok(vec![path.clone()]),
            Value::List(items) => items,
            other => {
                return Err(self.error(at, format!("a path or a list of paths was expected, not {}", other.kind())));
            }
        };
        let path = |item: &Value| {
            let text = item.as_str().map(str::to_owned);
            text.ok_or_else(|| self.error(at, format!("a path was expected, not {}", item.kind())))
        };
        items.iter().map(path).collect()
    }

    /// Salt ignores such entries.
    fn skip(&mut self, keys: usize, at: Option<Position>) {
        let corrected = "one `- 'tag': [path]` entry for each tag".to_owned();
        self.warn(at, &format!("this entry has {keys} tags and is ignored"), corrected);
    }

    fn flat(&mut self, text: &str, at: Option<Position>) -> Result<(), PairError> {
        if !is_path(text) {
            self.finish_flat()?;
            self.flat = Some(ReactorEntry { tag: text.to_owned(), paths: Vec::new(), position: at });
            return Ok(());
        }
        match &mut self.flat {
            Some(entry) => entry.paths.push(text.to_owned()),
            None => return Err(self.error(at, format!("the file '{text}' has no tag before it"))),
        }
        Ok(())
    }

    fn finish_flat(&mut self) -> Result<(), PairError> {
        let Some(entry) = self.flat.take() else { return Ok(()) };
        if entry.paths.is_empty() {
            return Err(self.error(entry.position, format!("the tag '{}' has no file after it", entry.tag)));
        }
        let paths: Vec<String> = entry.paths.iter().map(|path| quoted(path)).collect();
        let corrected = format!("- {}: [{}]", quoted(&entry.tag), paths.join(", "));
        self.warn(entry.position, "a tag and its files must be a mapping", corrected);
        self.entries.push(entry);
        Ok(())
    }
}

/// Tags have no leading slash, no scheme and no `.sls`.
fn is_path(text: &str) -> bool {
    text.starts_with(['/', '~']) || text.contains("://") || text.ends_with(".sls")
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
