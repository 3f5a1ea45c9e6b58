//! What the doc comments of Rust structs say, read from the source: a page is made of them, so they cannot differ.

/// One field of a struct, or the struct itself.
#[derive(Debug, Default, Clone)]
pub(super) struct Item {
    /// Its name: of a field as configuration files have it.
    pub(super) name: String,
    /// Its doc comment, in one line.
    pub(super) doc: String,
    /// Its type, as written.
    pub(super) kind: String,
}

/// A struct with named fields, or without any.
#[derive(Debug, Default)]
pub(super) struct Struct {
    /// The struct.
    pub(super) item: Item,
    /// Its fields, in order.
    pub(super) fields: Vec<Item>,
}

/// Returns the doc comment that a file opens with, without its marks.
pub(super) fn head(text: &str) -> String {
    let lines = text.lines().take_while(|line| line.starts_with("//!"));
    let text = |line: &'_ str| line.strip_prefix("//! ").unwrap_or_default().to_owned();
    lines.map(text).collect::<Vec<_>>().join("\n")
}

/// Returns the structs of a file that are no tests.
pub(super) fn structs(text: &str) -> Vec<Struct> {
    let mut found = Vec::new();
    let mut pending = Item::default();
    let mut open: Option<Struct> = None;
    for line in text.lines().take_while(|line| !line.starts_with("#[cfg(test)]")) {
        let trimmed = line.trim();
        if let Some(doc) = trimmed.strip_prefix("///") {
            pending.doc = format!("{} {}", pending.doc, doc.trim()).trim().to_owned();
        } else if trimmed.starts_with("#[") {
            if let Some((_, name)) = trimmed.split_once("rename = \"") {
                name.split('"').next().unwrap_or_default().clone_into(&mut pending.name);
            }
        } else if line == "}" {
            found.extend(open.take());
        } else if let Some(open) = &mut open {
            open.fields.extend(field(trimmed, &mut pending));
        } else {
            open = declared(trimmed, &mut pending);
            if open.as_ref().is_some_and(|_| !trimmed.ends_with('{')) {
                found.extend(open.take());
            }
        }
    }
    found
}

fn field(line: &str, pending: &mut Item) -> Option<Item> {
    let taken = std::mem::take(pending);
    let (name, kind) = line.trim_end_matches(',').split_once(": ")?;
    let name = name.rsplit(' ').next().unwrap_or(name).trim_start_matches("r#");
    let name = if taken.name.is_empty() { name.to_owned() } else { taken.name };
    Some(Item { name, doc: taken.doc, kind: kind.to_owned() })
}

fn declared(line: &str, pending: &mut Item) -> Option<Struct> {
    let taken = std::mem::take(pending);
    let (before, rest) = line.split_once("struct ")?;
    if !before.is_empty() && !before.starts_with("pub") {
        return None;
    }
    let name: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    let kind = rest[name.len()..].to_owned();
    Some(Struct { item: Item { name, doc: taken.doc, kind }, fields: Vec::new() })
}

/// Splits `Meaning. Default: x.` into meaning and default; `No default.` is a default too.
pub(super) fn default(doc: &str) -> Option<(String, String)> {
    if let Some((meaning, rest)) = doc.split_once("No default.") {
        return Some((format!("{}{}", meaning, rest.trim_start()).trim().to_owned(), "must be given".to_owned()));
    }
    let (meaning, rest) = ["Default: ", "Defaults: "].iter().find_map(|word| doc.split_once(word))?;
    let (default, rest) = rest.split_once(". ").unwrap_or((rest.trim_end_matches('.'), ""));
    Some((format!("{meaning}{rest}").trim().to_owned(), default.trim().to_owned()))
}
