//! What a text allows when it is written as a scalar: PyYAML's scalar analysis.

use super::resolve::{self, Scalar};

/// How a scalar may be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    Double,
    Plain,
    Single,
}

/// Chooses how a text is written, as PyYAML does: plain if it reads back as the same text.
pub(super) fn style(text: &str, simple_key: bool) -> Style {
    let analysis = Analysis::of(text);
    let reads_back = resolve::resolve(text) == Scalar::Text && !resolve::is_timestamp(text);
    if reads_back && analysis.allow_plain && !(simple_key && (text.is_empty() || analysis.multiline)) {
        Style::Plain
    } else if analysis.allow_single && !(simple_key && analysis.multiline) {
        Style::Single
    } else {
        Style::Double
    }
}

/// Chooses how a text is written between brackets.
pub(super) fn flow_style(text: &str) -> Style {
    let indicator =
        text.contains([',', '?', '[', ']', '{', '}', ':']) || text.is_empty() || text.starts_with(['-', '=']);
    match style(text, true) {
        Style::Plain if indicator => Style::Single,
        other => other,
    }
}

/// Tells whether a text spans lines.
pub(super) fn is_multiline(text: &str) -> bool {
    text.contains(is_break)
}

pub(super) fn is_break(letter: char) -> bool {
    matches!(letter, '\n' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

/// What the emitter writes without an escape, besides ASCII.
pub(super) fn is_printable_unicode(letter: char) -> bool {
    matches!(letter, '\u{a0}'..='\u{d7ff}' | '\u{e000}'..='\u{fefe}' | '\u{ff00}'..='\u{fffd}')
}

struct Analysis {
    multiline: bool,
    allow_plain: bool,
    allow_single: bool,
}

impl Analysis {
    fn of(text: &str) -> Analysis {
        let letters: Vec<char> = text.chars().collect();
        let (Some(&first), Some(&last)) = (letters.first(), letters.last()) else {
            return Analysis { multiline: false, allow_plain: true, allow_single: true };
        };
        let multiline = letters.iter().copied().any(is_break);
        let edge = |letter| letter == ' ' || is_break(letter);
        let pair = |a: fn(char) -> bool, b: fn(char) -> bool| letters.windows(2).any(|two| a(two[0]) && b(two[1]));
        let break_space = pair(is_break, |letter| letter == ' ');
        let space_break = pair(|letter| letter == ' ', is_break);
        let special = letters.iter().any(|&letter| is_special(letter));
        Analysis {
            multiline,
            allow_plain: !(multiline
                || edge(first)
                || edge(last)
                || special
                || text.starts_with("---")
                || text.starts_with("...")
                || has_block_indicator(&letters)),
            allow_single: !(break_space || space_break || special),
        }
    }
}

fn is_special(letter: char) -> bool {
    let plain =
        matches!(letter, '\n' | ' '..='~' | '\u{85}' | '\u{10000}'..='\u{10fffe}') || is_printable_unicode(letter);
    !plain
}

/// Indicators that mean something outside of brackets.
fn has_block_indicator(letters: &[char]) -> bool {
    let blank = |index: usize| {
        letters.get(index).is_none_or(|&letter| matches!(letter, '\0' | ' ' | '\t' | '\r') || is_break(letter))
    };
    letters.iter().enumerate().any(|(index, letter)| match letter {
        '#' => index == 0 || blank(index - 1),
        ',' | '[' | ']' | '{' | '}' | '&' | '*' | '!' | '|' | '>' | '\'' | '"' | '%' | '@' | '`' => index == 0,
        '?' | '-' if index == 0 => blank(1),
        ':' => blank(index + 1),
        _ => false,
    })
}
