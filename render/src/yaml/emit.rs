//! Writes scalars, folding long ones at the width that PyYAML folds at.

use super::analyze::{is_break, is_printable_unicode};

/// The column behind which a text is folded at its next space.
const WIDTH: usize = 80;
/// How many base64 letters stand in one line.
const BASE64_LINE: usize = 76;

/// The text so far, and where in its line it is.
#[derive(Default)]
pub(super) struct Emitter {
    text: String,
    column: usize,
    /// A compact collection's first line begins where the last one stopped.
    compact: Option<usize>,
}

impl Emitter {
    pub(super) fn into_text(self) -> String {
        self.text
    }

    pub(super) fn write(&mut self, text: &str) {
        self.text.push_str(text);
        self.column = match text.rfind('\n') {
            Some(index) => text[index + 1..].chars().count(),
            None => self.column + text.chars().count(),
        };
    }

    /// Ends the line, if anything stands in it.
    pub(super) fn finish_line(&mut self) {
        if self.column > 0 {
            self.write("\n");
        }
    }

    /// Starts a line at this indentation, unless a compact collection stands there already.
    pub(super) fn start_line(&mut self, indent: usize) {
        if self.compact.take() == Some(indent) {
            return;
        }
        self.finish_line();
        self.write(&" ".repeat(indent));
    }

    /// Lets the next line begin in this one, behind a `-`.
    pub(super) fn compact(&mut self, indent: usize) {
        self.write(" ");
        self.compact = Some(indent);
    }

    /// Writes a scalar that needs no care.
    pub(super) fn word(&mut self, word: &str) {
        self.space();
        self.write(word);
    }

    fn space(&mut self) {
        if self.column > 0 && !self.text.ends_with(' ') {
            self.write(" ");
        }
    }

    fn fold(&mut self, indent: usize) {
        self.write("\n");
        self.write(&" ".repeat(indent));
    }

    pub(super) fn plain(&mut self, text: &str, indent: usize, may_fold: bool) {
        self.space();
        for (index, run) in runs(text).into_iter().enumerate() {
            if run == " " && self.column > WIDTH && may_fold && index > 0 {
                self.fold(indent);
            } else {
                self.write(run);
            }
        }
    }

    pub(super) fn single_quoted(&mut self, text: &str, indent: usize, may_fold: bool) {
        self.space();
        self.write("'");
        let runs = runs(text);
        for (index, run) in runs.iter().enumerate() {
            let inner = index > 0 && index + 1 < runs.len();
            if run.starts_with(is_break) {
                // A newline is written as an empty line.
                if run.starts_with('\n') {
                    self.write("\n");
                }
                self.write(run);
                self.write(&" ".repeat(indent));
            } else if *run == " " && self.column > WIDTH && may_fold && inner {
                self.fold(indent);
            } else {
                self.write(&run.replace('\'', "''"));
            }
        }
        self.write("'");
    }

    pub(super) fn double_quoted(&mut self, text: &str, indent: usize, may_fold: bool) {
        self.space();
        self.write("\"");
        let letters: Vec<char> = text.chars().collect();
        // The letters from `start` on are not written yet.
        let mut start = 0;
        for end in 0..=letters.len() {
            let letter = letters.get(end).copied();
            if letter.is_none_or(needs_escape) {
                self.write(&letters[start..end.max(start)].iter().collect::<String>());
                start = end;
                if let Some(letter) = letter {
                    self.write(&escape(letter));
                    start = end + 1;
                }
            }
            let waiting = end.saturating_sub(start);
            let inner = end > 0 && end + 1 < letters.len();
            if inner && (letter == Some(' ') || start >= end) && self.column + waiting > WIDTH && may_fold {
                self.write(&letters[start.min(end)..end].iter().collect::<String>());
                start = start.max(end);
                self.write("\\");
                self.fold(indent);
                if letters[start] == ' ' {
                    self.write("\\");
                }
            }
        }
        self.write("\"");
    }

    /// Writes a text in double quotes, never folded, with all but ASCII escaped.
    pub(super) fn ascii_quoted(&mut self, text: &str) {
        let escaped =
            |letter: char| if needs_escape(letter) || !letter.is_ascii() { escape(letter) } else { letter.to_string() };
        let inside: String = text.chars().map(escaped).collect();
        self.write(&format!("\"{inside}\""));
    }

    pub(super) fn binary(&mut self, bytes: &[u8], indent: usize) {
        self.space();
        self.write("!!binary |");
        for line in crate::python::base64(bytes).as_bytes().chunks(BASE64_LINE) {
            self.fold(indent);
            self.write(&String::from_utf8_lossy(line));
        }
    }
}

/// Splits a text into runs of spaces, of line breaks, and of other letters.
fn runs(text: &str) -> Vec<&str> {
    let kind = |letter: char| if letter == ' ' { 0 } else { 1 + u8::from(is_break(letter)) };
    let mut runs = Vec::new();
    let mut start = 0;
    let mut last = None;
    for (index, letter) in text.char_indices() {
        if last.is_some_and(|last| last != kind(letter)) {
            runs.push(&text[start..index]);
            start = index;
        }
        last = Some(kind(letter));
    }
    if start < text.len() {
        runs.push(&text[start..]);
    }
    runs
}

fn needs_escape(letter: char) -> bool {
    matches!(letter, '"' | '\\' | '\u{85}' | '\u{2028}' | '\u{2029}' | '\u{feff}')
        || !(matches!(letter, ' '..='~') || is_printable_unicode(letter))
}

fn escape(letter: char) -> String {
    let short = match letter {
        '\0' => '0',
        '\u{7}' => 'a',
        '\u{8}' => 'b',
        '\t' => 't',
        '\n' => 'n',
        '\u{b}' => 'v',
        '\u{c}' => 'f',
        '\r' => 'r',
        '\u{1b}' => 'e',
        '"' => '"',
        '\\' => '\\',
        '\u{85}' => 'N',
        '\u{a0}' => '_',
        '\u{2028}' => 'L',
        '\u{2029}' => 'P',
        other => {
            return match u32::from(other) {
                code @ ..=0xff => format!("\\x{code:02X}"),
                code @ ..=0xffff => format!("\\u{code:04X}"),
                code => format!("\\U{code:08X}"),
            };
        }
    };
    format!("\\{short}")
}
