//! Keeps text that came from minions from talking to the terminal.
//!
//! A return, a tag or a grain may hold escape sequences that move the cursor, set the title or answer for the user.
//! On a terminal every C0 and C1 control character other than newline and tab is shown as its code, `\x1b`.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Returns the text with every control character but newline and tab written as `\x1b`.
pub fn clean(text: &str) -> Cow<'_, str> {
    escape(text, |c| c != '\n' && c != '\t')
}

/// Returns the text on one line: every control character, newline and tab too, written as `\x0a`.
pub fn clean_line(text: &str) -> Cow<'_, str> {
    escape(text, |_| true)
}

/// Escapes the control characters that `unwanted` names. All C1 codes are below U+0100, so two digits do.
fn escape(text: &str, unwanted: fn(char) -> bool) -> Cow<'_, str> {
    if !text.chars().any(|c| c.is_control() && unwanted(c)) {
        return Cow::Borrowed(text);
    }
    let mut cleaned = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if c.is_control() && unwanted(c) {
            let _ = write!(cleaned, "\\x{:02x}", u32::from(c));
        } else {
            cleaned.push(c);
        }
    }
    Cow::Owned(cleaned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn controls_become_codes_and_all_else_passes() {
        let check = |input: &str, expected: &str| assert_eq!(clean(input), expected);
        check("plain", "plain");
        check("a\tb\nc", "a\tb\nc");
        check("\x1b[2J\x1b]0;owned\x07", "\\x1b[2J\\x1b]0;owned\\x07");
        check("over\rwrite", "over\\x0dwrite");
        check("\u{9b}31m \u{7f} \u{85}", "\\x9b31m \\x7f \\x85");
        check("naïve – ünïcode 🎉", "naïve – ünïcode 🎉");
        assert_eq!(clean_line("salt/auth\n\tx"), "salt/auth\\x0a\\x09x");
    }

    #[test]
    fn clean_text_is_not_copied() {
        assert!(matches!(clean("plain"), Cow::Borrowed(_)));
    }
}
