//! How text is dressed: colours, control characters, indent. The codes are those of Salt's default colour theme.

use std::borrow::Cow;

use super::clean::clean;

/// Whether to write colour codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Colour {
    /// Colour codes are written.
    Always,
    /// Plain text.
    #[default]
    Never,
}

/// What happens to control characters in text that came from elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Controls {
    /// They are shown as `\x07` and the like: right for terminals.
    Escape,
    /// They pass, as they do in Salt: right for files and pipes.
    #[default]
    Keep,
}

/// Whether the return being printed is that of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Outcome {
    /// The return code was not zero: nested keys are red.
    Bad,
    /// The return code was zero.
    #[default]
    Good,
}

/// How a value is to be printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Style {
    /// Whether to write colour codes. With them, control characters are always escaped.
    pub colour: Colour,
    /// What happens to control characters.
    pub controls: Controls,
    /// `--out-indent`: spaces per level for json and pprint; below zero, json is one line. Default: the format's own.
    pub indent: Option<i32>,
    /// Whether the return being printed is that of a failure.
    pub outcome: Outcome,
}

impl Style {
    /// For files and pipes.
    pub const PLAIN: Style =
        Style { colour: Colour::Never, controls: Controls::Keep, indent: None, outcome: Outcome::Good };
    /// For terminals.
    pub const TERMINAL: Style =
        Style { colour: Colour::Always, controls: Controls::Escape, indent: None, outcome: Outcome::Good };

    /// Tells whether control characters must not reach the reader.
    pub fn escapes(&self) -> bool {
        self.controls == Controls::Escape || self.colour == Colour::Always
    }

    /// Returns the text with its control characters escaped, if this style asks for that.
    pub(super) fn clean<'a>(&self, text: &'a str) -> Cow<'a, str> {
        if self.escapes() { clean(text) } else { Cow::Borrowed(text) }
    }

    /// Returns the code that starts a colour.
    pub(super) fn start(&self, paint: Paint) -> &'static str {
        if self.colour == Colour::Always { paint.code() } else { "" }
    }

    /// Returns the code that ends any colour.
    pub(super) fn end(&self) -> &'static str {
        if self.colour == Colour::Always { "\x1b[0;0m" } else { "" }
    }

    /// Returns the text in a colour.
    pub(super) fn paint(&self, paint: Paint, text: &str) -> String {
        format!("{}{text}{}", self.start(paint), self.end())
    }
}

/// The colours in use, by Salt's names (`utils/color.py`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Paint {
    Blue,
    Cyan,
    DarkGray,
    Green,
    LightBlue,
    LightGray,
    LightGreen,
    LightMagenta,
    LightRed,
    LightYellow,
    Magenta,
    Red,
    White,
    Yellow,
}

impl Paint {
    fn code(self) -> &'static str {
        match self {
            Paint::Blue => "\x1b[0;34m",
            Paint::Cyan => "\x1b[0;36m",
            Paint::DarkGray => "\x1b[0;1;30m",
            Paint::Green => "\x1b[0;32m",
            Paint::LightBlue => "\x1b[0;1;34m",
            Paint::LightGray => "\x1b[0;37m",
            Paint::LightGreen => "\x1b[0;1;32m",
            Paint::LightMagenta => "\x1b[0;1;35m",
            Paint::LightRed => "\x1b[0;1;31m",
            Paint::LightYellow => "\x1b[0;1;33m",
            Paint::Magenta => "\x1b[0;35m",
            Paint::Red => "\x1b[0;31m",
            Paint::White => "\x1b[0;1;37m",
            Paint::Yellow => "\x1b[0;33m",
        }
    }
}
