//! Cuts a template into text, tags and expressions, and those into tokens. Nothing is interpreted.

/// A piece of a template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Piece<'t> {
    /// Text between tags.
    Data(&'t str),
    /// `{{ … }}` or `{% … %}`: how it opens (`{%-`), its inside, how it closes.
    Tag { open: &'t str, body: &'t str, close: &'t str },
    /// A comment, a raw block, or an unclosed rest: as it is.
    Verbatim(&'t str),
}

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Name,
    Number,
    Op,
    Text,
}

/// A token of an expression, and how many line breaks stand before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Token<'t> {
    pub(super) kind: Kind,
    pub(super) text: &'t str,
    pub(super) breaks: usize,
}

/// Cuts a template into pieces, which together are the whole template.
pub(super) fn pieces(template: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let mut rest = template;
    while let Some(at) = next_tag(rest) {
        if at > 0 {
            pieces.push(Piece::Data(&rest[..at]));
        }
        let (piece, len) = tag(&rest[at..]);
        pieces.push(piece);
        rest = &rest[at + len..];
    }
    if !rest.is_empty() {
        pieces.push(Piece::Data(rest));
    }
    pieces
}

fn next_tag(text: &str) -> Option<usize> {
    text.match_indices('{')
        .map(|(at, _)| at)
        .find(|&at| matches!(text.as_bytes().get(at + 1), Some(b'{' | b'%' | b'#')))
}

/// Reads the tag at the start of the text; returns it and its length.
fn tag(text: &str) -> (Piece<'_>, usize) {
    let verbatim = |len: usize| (Piece::Verbatim(&text[..len]), len);
    if text.starts_with("{#") {
        return verbatim(text.find("#}").map_or(text.len(), |at| at + 2));
    }
    let end = if text.starts_with("{{") { "}}" } else { "%}" };
    let open = if matches!(text.as_bytes().get(2), Some(b'-' | b'+')) { 3 } else { 2 };
    let Some(len) = tag_end(&text[open..], end) else { return verbatim(text.len()) };
    let body = &text[open..open + len];
    let signed = body.ends_with('-') || body.ends_with('+');
    let body = &body[..len - usize::from(signed)];
    let whole = open + len + 2;
    if end == "%}" && body.trim() == "raw" {
        return verbatim(raw_end(text, whole));
    }
    (Piece::Tag { open: &text[..open], body, close: &text[open + body.len()..whole] }, whole)
}

/// Finds where a tag's inside ends: texts and brackets hide the mark.
fn tag_end(text: &str, end: &str) -> Option<usize> {
    let mut depth = 0usize;
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        if depth == 0 && text[at..].starts_with(end) {
            return Some(at);
        }
        match bytes[at] {
            quote @ (b'\'' | b'"') => at = text_end(bytes, at, quote)?,
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        at += 1;
        while !text.is_char_boundary(at) {
            at += 1;
        }
    }
    None
}

fn text_end(bytes: &[u8], start: usize, quote: u8) -> Option<usize> {
    let mut at = start + 1;
    loop {
        match *bytes.get(at)? {
            b'\\' => at += 2,
            byte if byte == quote => return Some(at),
            _ => at += 1,
        }
    }
}

fn raw_end(text: &str, from: usize) -> usize {
    for (at, _) in text[from..].match_indices("{%") {
        let inside = text[from + at + 2..].trim_start_matches(['-', '+']).trim_start();
        if let Some(after) = inside.strip_prefix("endraw") {
            let after = after.trim_start().trim_start_matches(['-', '+']);
            if after.starts_with("%}") {
                return text.len() - after.len() + 2;
            }
        }
    }
    text.len()
}

/// Cuts the inside of a tag into tokens; nothing if a letter fits none.
pub(super) fn tokens(body: &str) -> Option<Vec<Token<'_>>> {
    let mut tokens = Vec::new();
    let mut rest = body;
    let mut breaks = 0;
    loop {
        let trimmed = rest.trim_start();
        breaks += rest[..rest.len() - trimmed.len()].matches('\n').count();
        rest = trimmed;
        let Some(first) = rest.chars().next() else { return Some(tokens) };
        let (kind, len) = token(rest, first)?;
        tokens.push(Token { kind, text: &rest[..len], breaks });
        rest = &rest[len..];
        breaks = 0;
    }
}

fn token(text: &str, first: char) -> Option<(Kind, usize)> {
    if first.is_alphabetic() || first == '_' {
        let end = text.find(|letter: char| !letter.is_alphanumeric() && letter != '_').unwrap_or(text.len());
        return Some((Kind::Name, end));
    }
    if first.is_ascii_digit() {
        return Some((Kind::Number, number_end(text)));
    }
    if first == '\'' || first == '"' {
        return text_end(text.as_bytes(), 0, first as u8).map(|end| (Kind::Text, end + 1));
    }
    const LONG: [&str; 6] = ["//", "**", "==", "!=", "<=", ">="];
    if LONG.iter().any(|op| text.starts_with(op)) {
        return Some((Kind::Op, 2));
    }
    "+-*/%~()[]{}<>=.,:|;".contains(first).then_some((Kind::Op, 1))
}

fn number_end(text: &str) -> usize {
    let bytes = text.as_bytes();
    if bytes[0] == b'0' && matches!(bytes.get(1), Some(b'x' | b'X' | b'o' | b'O' | b'b' | b'B')) {
        return bytes.iter().position(|byte| !byte.is_ascii_alphanumeric() && *byte != b'_').unwrap_or(bytes.len());
    }
    let digits =
        |from: usize| from + bytes[from..].iter().take_while(|byte| byte.is_ascii_digit() || **byte == b'_').count();
    let mut end = digits(0);
    if bytes.get(end) == Some(&b'.') && bytes.get(end + 1).is_some_and(u8::is_ascii_digit) {
        end = digits(end + 1);
    }
    if matches!(bytes.get(end), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
        if bytes.get(end + 1 + sign).is_some_and(u8::is_ascii_digit) {
            end = digits(end + 1 + sign);
        }
    }
    end
}
