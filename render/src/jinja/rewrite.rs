//! Rewrites templates for the engine, line by line in place: Salt's own tags, Python's containers, and operators whose
//! results must be bounded.

use super::expression::Walker;
use super::lex::{self, Kind, Piece, Token};

/// Text between tags from this length on is booked each time it is written.
const BOOKED_TEXT: usize = 64;

/// A tag that is not understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BadTag {
    /// The line it begins on, from 1.
    pub(super) line: usize,
    /// What is wrong with it.
    pub(super) message: String,
}

/// Rewrites a template.
pub(super) fn rewrite(template: &str) -> Result<String, BadTag> {
    let mut out = String::with_capacity(template.len() * 2);
    let mut loads: Vec<(&str, String)> = Vec::new();
    let mut line = 1;
    for piece in lex::pieces(template) {
        let bad = |message: &str| BadTag { line, message: message.to_owned() };
        match piece {
            Piece::Data(text) => out.push_str(&booked(text)),
            Piece::Verbatim(text) => out.push_str(text),
            Piece::Tag { open, body, close } => {
                let tokens = lex::tokens(body).ok_or_else(|| bad("unexpected character in a tag"))?;
                let inside =
                    if open.starts_with("{{") { Walker::new(&tokens).all() } else { statement(&tokens, &mut loads) };
                let inside = inside.ok_or_else(|| bad("a tag that is not understood"))?;
                let missing = body.matches('\n').count().saturating_sub(inside.matches('\n').count());
                out.push_str(open);
                out.push_str(&inside);
                out.push_str(&"\n".repeat(missing));
                out.push(' ');
                out.push_str(close);
            }
        }
        line += match piece {
            Piece::Data(text) | Piece::Verbatim(text) => text.matches('\n').count(),
            Piece::Tag { body, .. } => body.matches('\n').count(),
        };
    }
    match loads.pop() {
        Some((kind, name)) => Err(BadTag { line, message: format!("the load_{kind} of '{name}' is never ended") }),
        None => Ok(out),
    }
}

/// Long texts may be written many times by a loop: each time counts. The mark stands inside the text, so that white space
/// control at its ends still works.
fn booked(text: &str) -> String {
    if text.len() < BOOKED_TEXT {
        return text.to_owned();
    }
    let mut letters = text.char_indices().peekable();
    while let Some((_, letter)) = letters.next() {
        let Some(&(at, next)) = letters.peek() else { break };
        if !letter.is_whitespace() && !next.is_whitespace() {
            let (before, after) = text.split_at(at);
            return format!("{before}{{{{ __spend({}) }}}}{after}", text.len());
        }
    }
    text.to_owned()
}

fn statement<'t>(tokens: &[Token<'t>], loads: &mut Vec<(&'t str, String)>) -> Option<String> {
    let (keyword, rest) = tokens.split_first()?;
    let breaks = "\n".repeat(keyword.breaks);
    let rest = match keyword.text {
        "from" | "import" | "include" => without_context(rest),
        _ => rest,
    };
    let mut walker = Walker::new(rest);
    let inside = match keyword.text {
        "import_json" | "import_text" | "import_yaml" => import(keyword.text, without_context(rest)),
        "load_json" | "load_text" | "load_yaml" => {
            let [word, name] = rest else { return None };
            if word.text != "as" || name.kind != Kind::Name {
                return None;
            }
            loads.push((keyword.text.strip_prefix("load_")?, name.text.to_owned()));
            Some(format!(" set __load_{}", loads.len()))
        }
        "endload" => {
            let depth = loads.len();
            let (kind, name) = loads.pop()?;
            Some(format!(" endset %}}{{% set {name} = __load(\"{kind}\", __load_{depth})"))
        }
        "profile" => Some(" if true".to_owned()),
        "endprofile" => Some(" endif".to_owned()),
        "for" => {
            let targets = until(&mut walker, "in")?;
            Some(format!(" for{targets}{}", walker.loop_over()?))
        }
        "call" if walker.is_next("(") => {
            let parameters = until(&mut walker, ")")?;
            Some(format!(" call{parameters}{}", walker.all()?))
        }
        // The engine's `do` knows calls only, Jinja's any expression.
        "do" => Some(format!(" set __done ={}", walker.all()?)),
        "set" => set(&mut walker),
        other => Some(format!(" {other}{}", walker.all()?)),
    };
    inside.map(|inside| breaks + &inside)
}

/// Takes tokens as they are, up to and with this one.
fn until(walker: &mut Walker<'_>, last: &str) -> Option<String> {
    let mut out = String::new();
    loop {
        let found = walker.is_next(last);
        out += &walker.take()?;
        if found {
            return Some(out);
        }
    }
}

/// Salt's imports see the context either way.
fn without_context<'a, 't>(tokens: &'a [Token<'t>]) -> &'a [Token<'t>] {
    match tokens {
        [rest @ .., with, context] if matches!(with.text, "with" | "without") && context.text == "context" => rest,
        all => all,
    }
}

fn import(keyword: &str, tokens: &[Token<'_>]) -> Option<String> {
    let [path @ .., word, name] = tokens else { return None };
    if word.text != "as" || word.kind != Kind::Name || name.kind != Kind::Name {
        return None;
    }
    let path = Walker::new(path).all()?;
    Some(format!(" set {} = __import(\"{}\",{path})", name.text, keyword.strip_prefix("import_")?))
}

/// What a name is set to is made ours and bounded; what goes into a namespace may hold no other.
fn set(walker: &mut Walker<'_>) -> Option<String> {
    let mut targets = String::new();
    while let Some(next) = walker.peek() {
        if next.text == "=" || next.text == "|" {
            break;
        }
        targets += &walker.take()?;
    }
    if !walker.is_next("=") {
        let filters = if walker.at_end() { String::new() } else { walker.take()? + &walker.all()? };
        return Some(format!(" set{targets}{filters}"));
    }
    let equals = walker.take()?;
    let mut values = walker.expression()?;
    let mut many = false;
    while walker.is_next(",") {
        many = true;
        values += &walker.take()?;
        if !walker.at_end() {
            values += &walker.expression()?;
        }
    }
    if !walker.at_end() {
        return None;
    }
    let own = if targets.contains('.') { "__own_inner" } else { "__own" };
    let values = if many { format!("__tuple([{values}])") } else { values };
    Some(format!(" set{targets}{equals} {own}({values})"))
}
