//! A repair of text copied from web pages: non-breaking spaces where YAML and Jinja want plain ones.

use render::yaml::Warning;

const NO_BREAK: char = '\u{a0}';

/// Makes plain spaces of those in indentation and between Jinja's brackets; others may be meant. Warns once a file.
pub(super) fn mend(text: &str, file: &str) -> Option<(String, Warning)> {
    if !text.contains(NO_BREAK) {
        return None;
    }
    let mended: Vec<String> = text.lines().map(mend_line).collect();
    let (line, corrected) =
        mended.iter().zip(text.lines()).position(|(new, old)| new != old).map(|at| (at + 1, &mended[at]))?;
    let message = "this line has non-breaking spaces, as copied from a web page".to_owned();
    let warning = Warning { file: file.to_owned(), line, message, corrected: corrected.clone() };
    Some((mended.join("\n") + "\n", warning))
}

fn mend_line(line: &str) -> String {
    let body = line.trim_start_matches([' ', NO_BREAK]);
    let indent = line.chars().count() - body.chars().count();
    let mut mended = " ".repeat(indent);
    let mut rest = body;
    let first = |text: &str, one: &str, other: &str| text.find(one).into_iter().chain(text.find(other)).min();
    while let Some(start) = first(rest, "{{", "{%") {
        let end = first(&rest[start..], "}}", "%}").map_or(rest.len(), |end| start + end);
        mended.push_str(&rest[..start]);
        mended.push_str(&rest[start..end].replace(NO_BREAK, " "));
        rest = &rest[end..];
    }
    mended + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spaces_are_mended_where_they_cannot_be_meant() {
        assert_eq!(mend("a: b\n", "x"), None);
        assert_eq!(mend("a: 'b\u{a0}c'\n", "x"), None);
        let (text, warning) = mend("a:\n\u{a0} b: 'x\u{a0}y {{ z\u{a0}}} \u{a0}{%\u{a0}if z %}'\n", "x").unwrap();
        assert_eq!(text, "a:\n  b: 'x\u{a0}y {{ z }} \u{a0}{% if z %}'\n");
        assert_eq!((warning.line, warning.corrected.as_str()), (2, "  b: 'x\u{a0}y {{ z }} \u{a0}{% if z %}'"));
    }
}
