//! Nodes to values: tags, merge keys, duplicate keys. Aliases are expanded here, so the expansion is bounded here.

use std::collections::HashMap;
use std::rc::Rc;

use proto::value::{Map, Value};

use super::compose::{Kind, Node, Pair, Tag};
use super::resolve::{self, Scalar};
use super::{Fault, MAX_DEPTH, MAX_EXPANDED_BYTES, MAX_NODES, Position};

/// Builds the value of a document.
pub(super) fn construct(root: &Node) -> Result<Value, Fault> {
    Builder { nodes: 0, bytes: 0 }.value(root, 0)
}

struct Builder {
    nodes: usize,
    bytes: usize,
}

impl Builder {
    fn value(&mut self, node: &Node, depth: usize) -> Result<Value, Fault> {
        self.spend(node, depth)?;
        match (&node.kind, &node.tag) {
            (_, Tag::Other(tag)) => Err(unknown_tag(node.position, tag)),
            (_, Tag::Core(name)) if name.starts_with("python/") => {
                Err(Fault::new(node.position, format!("tag '!!{name}' makes Python objects and is refused")))
            }
            (Kind::Scalar { text, plain }, tag) => scalar(text, *plain, tag, node.position),
            (Kind::Sequence(items), tag) => self.sequence(items, tag, node.position, depth),
            (Kind::Mapping(pairs), tag) => self.tagged_mapping(pairs, tag, node.position, depth),
        }
    }

    fn spend(&mut self, node: &Node, depth: usize) -> Result<(), Fault> {
        self.nodes += 1;
        if let Kind::Scalar { text, .. } = &node.kind {
            self.bytes += text.len();
        }
        if self.nodes > MAX_NODES || self.bytes > MAX_EXPANDED_BYTES || depth > MAX_DEPTH {
            return Err(Fault::new(node.position, "aliases expand to too large a document"));
        }
        Ok(())
    }

    fn sequence(&mut self, items: &[Rc<Node>], tag: &Tag, at: Position, depth: usize) -> Result<Value, Fault> {
        match tag {
            Tag::Core(name) if name == "omap" || name == "pairs" => self.pairs(items, depth),
            Tag::Core(name) if name != "seq" => Err(unfit(at, name, "sequence")),
            _ => items.iter().map(|item| self.value(item, depth + 1)).collect::<Result<_, _>>().map(Value::List),
        }
    }

    /// `!!omap` and `!!pairs`: a list of (key, value).
    fn pairs(&mut self, items: &[Rc<Node>], depth: usize) -> Result<Value, Fault> {
        let mut pairs = Vec::new();
        for item in items {
            let Kind::Mapping(entries) = &item.kind else {
                return Err(Fault::new(item.position, "expected a mapping of length 1"));
            };
            let [(key, value)] = entries.as_slice() else {
                return Err(Fault::new(item.position, "expected a single mapping item"));
            };
            pairs.push(Value::List(vec![self.value(key, depth + 2)?, self.value(value, depth + 2)?]));
        }
        Ok(Value::List(pairs))
    }

    fn tagged_mapping(&mut self, pairs: &[Pair], tag: &Tag, at: Position, depth: usize) -> Result<Value, Fault> {
        match tag {
            Tag::Core(name) if name == "set" => {
                let map = self.mapping(pairs, depth)?;
                Ok(Value::List(map.into_keys().collect()))
            }
            Tag::Core(name) if name == "str" => Err(unfit(at, name, "mapping")),
            Tag::Core(name) if name != "map" => Err(unfit(at, name, "mapping")),
            _ => self.mapping(pairs, depth).map(Value::Map),
        }
    }

    fn mapping(&mut self, pairs: &[Pair], depth: usize) -> Result<Map, Fault> {
        let mut merged = Vec::new();
        for (key, value) in pairs.iter().filter(|(key, _)| is_merge(key)) {
            flatten(key, value, depth, &mut merged)?;
        }
        let mut map = Map::new();
        for (key, value) in &merged {
            let name = self.key(key, depth)?;
            let value = self.value(value, depth + 1)?;
            map.insert(name, value);
        }
        let mut lines: HashMap<Value, usize> = HashMap::new();
        for (key, value) in pairs.iter().filter(|(key, _)| !is_merge(key)) {
            let name = self.key(key, depth)?;
            if let Some(first) = lines.insert(name.clone(), key.position.line) {
                let again = key.position.line;
                let name = name.to_key();
                let message = format!("found conflicting ID '{name}': first on line {first}, again on line {again}");
                return Err(Fault::new(key.position, message));
            }
            let value = self.value(value, depth + 1)?;
            map.insert(name, value);
        }
        Ok(map)
    }

    fn key(&mut self, key: &Node, depth: usize) -> Result<Value, Fault> {
        if let Kind::Scalar { text, plain: true } = &key.kind {
            // `=` is PyYAML's default key, which Salt's loader reads as text.
            if key.tag == Tag::None && resolve::resolve(text) == Scalar::Default {
                return Ok(Value::from(text.as_str()));
            }
        }
        match self.value(key, depth + 1)? {
            Value::List(_) | Value::Map(_) => Err(Fault::new(key.position, "found unacceptable key: not a scalar")),
            name => Ok(name),
        }
    }
}

fn is_merge(key: &Node) -> bool {
    match (&key.kind, &key.tag) {
        (Kind::Scalar { text, plain: true }, Tag::None) => text == "<<",
        (_, Tag::Core(name)) => name == "merge",
        _ => false,
    }
}

/// Collects what `<<` brings in, in the order in which later ones win.
fn flatten(key: &Node, value: &Node, depth: usize, merged: &mut Vec<Pair>) -> Result<(), Fault> {
    if depth > MAX_DEPTH || merged.len() > MAX_NODES {
        return Err(Fault::new(key.position, "merge keys expand to too large a document"));
    }
    match &value.kind {
        Kind::Mapping(pairs) => {
            for (inner, value) in pairs.iter().filter(|(inner, _)| is_merge(inner)) {
                flatten(inner, value, depth + 1, merged)?;
            }
            merged.extend(pairs.iter().filter(|(inner, _)| !is_merge(inner)).cloned());
            Ok(())
        }
        Kind::Sequence(items) if items.iter().all(|item| matches!(item.kind, Kind::Mapping(_))) => {
            // The first of several wins, so it comes last.
            items.iter().rev().try_for_each(|item| flatten(key, item, depth + 1, merged))
        }
        _ => Err(Fault::new(value.position, "expected a mapping or list of mappings for merging")),
    }
}

fn scalar(text: &str, plain: bool, tag: &Tag, at: Position) -> Result<Value, Fault> {
    let built = match tag {
        Tag::None if plain => match resolve::resolve(text) {
            Scalar::Bool => Ok(Value::Bool(resolve::bool_word(text).unwrap_or_default())),
            Scalar::Default => return Err(unknown_tag(at, "tag:yaml.org,2002:value")),
            Scalar::Float => resolve::float(text),
            Scalar::Int => resolve::int(text),
            Scalar::Merge => return Err(unknown_tag(at, "tag:yaml.org,2002:merge")),
            Scalar::Null => Ok(Value::Null),
            Scalar::Text => Ok(Value::from(text)),
        },
        Tag::Core(name) => match name.as_str() {
            "binary" => decode_base64(text).map(Value::Bytes),
            "bool" => resolve::bool_word(text).map(Value::Bool).ok_or_else(|| format!("'{text}' is not a truth value")),
            "float" => resolve::float(text),
            "int" => resolve::int(text),
            "null" => Ok(Value::Null),
            "str" | "timestamp" => Ok(Value::from(text)),
            "map" | "omap" | "pairs" | "seq" | "set" => return Err(unfit(at, name, "scalar")),
            _ => return Err(unknown_tag(at, &format!("tag:yaml.org,2002:{name}"))),
        },
        _ => Ok(Value::from(text)),
    };
    built.map_err(|message| Fault::new(at, message))
}

fn unknown_tag(at: Position, tag: &str) -> Fault {
    Fault::new(at, format!("could not determine a constructor for the tag '{tag}'"))
}

fn unfit(at: Position, tag: &str, kind: &str) -> Fault {
    Fault::new(at, format!("a {kind} cannot be a '!!{tag}'"))
}

/// Decodes base64, ignoring white space, as Python's `decodebytes` does.
pub(crate) fn decode_base64(text: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut held, mut padding) = (0u32, 0, 0);
    for letter in text.bytes().filter(|letter| !letter.is_ascii_whitespace()) {
        let digit = match letter {
            b'A'..=b'Z' => letter - b'A',
            b'a'..=b'z' => letter - b'a' + 26,
            b'0'..=b'9' => letter - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            b'=' => {
                padding += 1;
                continue;
            }
            _ => return Err("failed to decode base64 data: not a base64 letter".to_owned()),
        };
        bits = bits << 6 | u32::from(digit);
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held & 0xff) as u8);
        }
    }
    // A whole group has no bits over; a short one says by padding how many letters are missing.
    match (held, padding) {
        (0, 0) | (4, 2..) | (2, 1..) => Ok(bytes),
        _ => Err("failed to decode base64 data: incorrect padding".to_owned()),
    }
}
