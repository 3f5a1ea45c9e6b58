//! Where Python finds white space and line ends: it knows more of them than Rust does.

/// Tells whether Python's `str.isspace` holds.
pub(super) fn is_space(c: char) -> bool {
    c.is_whitespace() || matches!(c, '\x1c'..='\x1f')
}

/// Returns the text without the space at its end, as `str.rstrip`.
pub(super) fn rstrip(text: &str) -> &str {
    text.trim_end_matches(is_space)
}

/// Returns the lines of a text without their ends, as `str.splitlines`.
pub(super) fn lines(text: &str) -> impl Iterator<Item = &str> {
    lines_with_ends(text).map(|line| line.strip_suffix("\r\n").unwrap_or_else(|| line.trim_end_matches(is_line_end)))
}

/// Returns the lines of a text with their ends, as `str.splitlines(True)`.
pub(super) fn lines_with_ends(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let (at, end) = rest.char_indices().find(|(_, c)| is_line_end(*c)).unwrap_or((rest.len(), '\0'));
        let after = match rest[at..].starts_with("\r\n") {
            true => at + 2,
            false if at < rest.len() => at + end.len_utf8(),
            false => at,
        };
        let (line, remainder) = rest.split_at(after);
        rest = remainder;
        (!line.is_empty()).then_some(line)
    })
}

fn is_line_end(c: char) -> bool {
    matches!(c, '\n' | '\r' | '\x0b' | '\x0c' | '\x1c'..='\x1e' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_end_where_python_ends_them() {
        let check =
            |input: &str, expected: &[&str]| assert_eq!(lines(input).collect::<Vec<_>>(), expected, "{input:?}");
        check("", &[]);
        check("a", &["a"]);
        check("a\n", &["a"]);
        check("a\n\nb", &["a", "", "b"]);
        check("a\r\nb\rc\r\r\nd", &["a", "b", "c", "", "d"]);
        check("\n", &[""]);
        check("a\x0bb\u{2028}c\u{85}d\x1ee", &["a", "b", "c", "d", "e"]);
        assert_eq!(lines_with_ends("a\r\nb\n\nc").collect::<Vec<_>>(), ["a\r\n", "b\n", "\n", "c"]);
    }

    #[test]
    fn space_at_the_end_goes() {
        assert_eq!(rstrip(" a \n\t\x1f\u{a0}"), " a");
        assert_eq!(rstrip(" \n"), "");
    }
}
