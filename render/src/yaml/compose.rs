//! Events to nodes: anchors are resolved, nothing is interpreted yet. Every node knows where it began.

use std::collections::HashMap;
use std::rc::Rc;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Span, StrInput, Tag as EventTag};

use super::{Fault, MAX_DEPTH, MAX_NODES, MAX_TEXT_BYTES, Position};

/// A node of the document. Aliases share it.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) position: Position,
    pub(super) tag: Tag,
    pub(super) kind: Kind,
}

/// What a node holds.
#[derive(Debug)]
pub(super) enum Kind {
    Mapping(Vec<Pair>),
    Scalar { text: String, plain: bool },
    Sequence(Vec<Rc<Node>>),
}

/// A key and its value.
pub(super) type Pair = (Rc<Node>, Rc<Node>);

/// The tag a node was written with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Tag {
    /// None: the resolver decides.
    None,
    /// `!!name`.
    Core(String),
    /// Any other tag.
    Other(String),
}

/// Reads the one document of a text; none if the text is empty.
pub(super) fn compose(text: &str) -> Result<Option<Rc<Node>>, Fault> {
    if text.len() > MAX_TEXT_BYTES {
        return Err(Fault::new(Position { line: 1, column: 1 }, format!("text is longer than {MAX_TEXT_BYTES} bytes")));
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    check_characters(text)?;
    let mut pads = HashMap::new();
    let mut padded = text.to_owned();
    let mut budget = MAX_RETRY_BYTES.max(2 * text.len());
    loop {
        match compose_text(&padded, &pads) {
            Err(fault) if fault.message == TAB && budget > padded.len() => {
                budget -= padded.len();
                if !space_out(&mut padded, fault.position) {
                    return Err(fault);
                }
            }
            Err(fault) if fault.message == SHALLOW_QUOTE && budget > padded.len() => {
                budget -= padded.len();
                if !pad_quoted(&mut padded, fault.position, &mut pads) {
                    return Err(fault);
                }
            }
            Err(fault) if SHALLOW.contains(&fault.message.as_str()) && budget > padded.len() => {
                budget -= padded.len();
                if !pad_line(&mut padded, fault.position.line, &mut pads) {
                    return Err(fault);
                }
            }
            result => return result,
        }
    }
}

/// What the event parser refuses and libyaml takes: brackets and quotes that go on further left than their mapping.
const SHALLOW: [&str; 2] = ["invalid indentation", "invalid indentation in flow construct"];
/// The same for a quoted text, which is marked where it begins.
const SHALLOW_QUOTE: &str = "invalid indentation in quoted scalar";
/// The same for a tab behind a key.
const TAB: &str = "':' must be followed by a valid YAML whitespace";
/// How much text may be read again because of that, in bytes.
const MAX_RETRY_BYTES: usize = 32 << 20;

/// Moves a line inside brackets or quotes, where white space means nothing, behind all lines above it.
fn pad_line(text: &mut String, line: usize, pads: &mut HashMap<usize, usize>) -> bool {
    let mut start = 0;
    let mut deepest = 0;
    for above in text.split_inclusive('\n').take(line - 1) {
        deepest = deepest.max(above.len() - above.trim_start_matches(' ').len());
        start += above.len();
    }
    if start >= text.len() || deepest >= MAX_PAD || pads.insert(line, deepest + 1).is_some() {
        return false;
    }
    text.insert_str(start, &" ".repeat(deepest + 1));
    true
}

/// Moves the further lines of the quoted text at this place.
fn pad_quoted(text: &mut String, at: Position, pads: &mut HashMap<usize, usize>) -> bool {
    let before: usize = text.split_inclusive('\n').take(at.line - 1).map(str::len).sum();
    let pad = pads.get(&at.line).copied().unwrap_or_default();
    let Some((column, quote)) = text[before..].char_indices().nth(at.column - 1 + pad) else { return false };
    let mut last = at.line;
    let mut letters = text[before + column..].chars().skip(1).peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '\n' => last += 1,
            '\\' if quote == '"' => last += usize::from(letters.next() == Some('\n')),
            letter if letter == quote && (quote == '"' || letters.next_if_eq(&quote).is_none()) => break,
            _ => {}
        }
    }
    let mut moved = false;
    for line in at.line + 1..=last {
        moved |= pad_line(text, line, pads);
    }
    moved
}

/// Makes spaces of the tabs behind the colon that this place is just after.
fn space_out(text: &mut String, at: Position) -> bool {
    let Some(start) = text.split_inclusive('\n').take(at.line - 1).map(str::len).reduce(|a, b| a + b).or(Some(0))
    else {
        return false;
    };
    let Some(colon) = text[start..].lines().next().and_then(|line| line.find(":\t")) else { return false };
    let blank = start + colon + 1;
    let len = text[blank..].bytes().take_while(|byte| *byte == b'\t').count();
    text.replace_range(blank..blank + len, &" ".repeat(len));
    true
}

/// The furthest a line is moved.
const MAX_PAD: usize = 1_000;

fn compose_text(text: &str, pads: &HashMap<usize, usize>) -> Result<Option<Rc<Node>>, Fault> {
    let mut composer = Composer { parser: Parser::new_from_str(text), anchors: HashMap::new(), nodes: 0, pads };
    let root = loop {
        match composer.next()? {
            (Event::DocumentStart(_), _) => {
                let (event, span) = composer.next()?;
                break composer.node(event, span, 0)?;
            }
            (Event::StreamEnd, _) => return Ok(None),
            _ => {}
        }
    };
    loop {
        match composer.next()? {
            (Event::StreamEnd, _) => return Ok(Some(root)),
            (Event::DocumentStart(_), span) => {
                return Err(Fault::new(composer.position(span.start), "expected a single document, but found another"));
            }
            _ => {}
        }
    }
}

/// PyYAML's reader takes printable characters only.
fn check_characters(text: &str) -> Result<(), Fault> {
    let (mut line, mut column) = (1, 1);
    for letter in text.chars() {
        let printable = matches!(letter,
            '\t' | '\n' | '\r' | ' '..='~' | '\u{85}' | '\u{a0}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..);
        if !printable {
            let message = format!("character {} is not allowed", letter.escape_unicode());
            return Err(Fault::new(Position { line, column }, message));
        }
        (line, column) = if letter == '\n' { (line + 1, 1) } else { (line, column + 1) };
    }
    Ok(())
}

struct Composer<'t> {
    /// How far lines were moved.
    pads: &'t HashMap<usize, usize>,
    parser: Parser<'t, StrInput<'t>>,
    anchors: HashMap<usize, Rc<Node>>,
    nodes: usize,
}

impl<'t> Composer<'t> {
    fn next(&mut self) -> Result<(Event<'t>, Span), Fault> {
        match self.parser.next_event() {
            Some(Ok(event)) => Ok(event),
            Some(Err(error)) => Err(Fault::new(self.position(*error.marker()), error.info())),
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    fn node(&mut self, event: Event<'t>, span: Span, depth: usize) -> Result<Rc<Node>, Fault> {
        let position = self.position(span.start);
        self.nodes += 1;
        if depth > MAX_DEPTH {
            return Err(Fault::new(position, format!("nested deeper than {MAX_DEPTH} levels")));
        }
        if self.nodes > MAX_NODES {
            return Err(Fault::new(position, format!("more than {MAX_NODES} values")));
        }
        let (anchor, tag, kind) = match event {
            Event::Alias(anchor) => return self.alias(anchor, position),
            Event::Scalar(text, style, anchor, tag) => {
                let plain = style == ScalarStyle::Plain;
                (anchor, tag, Kind::Scalar { text: text.into_owned(), plain })
            }
            Event::SequenceStart(anchor, tag) => (anchor, tag, Kind::Sequence(self.items(depth)?)),
            Event::MappingStart(anchor, tag) => (anchor, tag, Kind::Mapping(self.pairs(depth)?)),
            other => return Err(Fault::new(position, format!("unexpected {other:?}"))),
        };
        let node = Rc::new(Node { position, tag: read_tag(tag.as_deref()), kind });
        if anchor > 0 {
            self.anchors.insert(anchor, Rc::clone(&node));
        }
        Ok(node)
    }

    fn position(&self, mark: Marker) -> Position {
        let line = mark.line().max(1);
        let pad = self.pads.get(&line).copied().unwrap_or_default();
        Position { line, column: (mark.col() + 1).saturating_sub(pad).max(1) }
    }

    fn alias(&self, anchor: usize, position: Position) -> Result<Rc<Node>, Fault> {
        let node = self.anchors.get(&anchor);
        node.cloned().ok_or_else(|| Fault::new(position, "found an alias inside the value it stands for"))
    }

    fn items(&mut self, depth: usize) -> Result<Vec<Rc<Node>>, Fault> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(items),
                (event, span) => items.push(self.node(event, span, depth + 1)?),
            }
        }
    }

    fn pairs(&mut self, depth: usize) -> Result<Vec<Pair>, Fault> {
        let mut pairs = Vec::new();
        loop {
            let (event, span) = self.next()?;
            if event == Event::MappingEnd {
                return Ok(pairs);
            }
            let key = self.node(event, span, depth + 1)?;
            let (event, span) = self.next()?;
            let value = self.node(event, span, depth + 1)?;
            pairs.push((key, value));
        }
    }
}

fn read_tag(tag: Option<&EventTag>) -> Tag {
    let Some(tag) = tag else { return Tag::None };
    let whole = format!("{}{}", tag.handle, tag.suffix);
    match whole.strip_prefix("tag:yaml.org,2002:") {
        Some(name) => Tag::Core(name.to_owned()),
        // libyaml, which Salt reads with, takes `!` for no tag at all.
        None if whole == "!" || whole.is_empty() => Tag::None,
        None => Tag::Other(whole),
    }
}
