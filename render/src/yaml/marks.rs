//! Where the values of a document stand in its text.

use std::collections::HashMap;

use super::compose::{Kind, Node};

/// How deep positions are remembered: enough to point at an option's entry.
const MARK_DEPTH: usize = 5;

/// A place in a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Position {
    /// The line, from 1.
    pub line: usize,
    /// The column, from 1.
    pub column: usize,
}

/// The positions of a document's upper levels, by path.
#[derive(Debug, Clone, Default)]
pub struct Marks {
    positions: HashMap<Vec<String>, Position>,
}

impl Marks {
    /// Returns where the value at a path begins: keys as written, list items by index (`["reactor", "0"]`). For the value
    /// of a mapping key this is the place of the key.
    pub fn at(&self, path: &[&str]) -> Option<Position> {
        let path: Vec<String> = path.iter().map(|&step| step.to_owned()).collect();
        self.positions.get(&path).copied()
    }

    pub(super) fn of(root: &Node) -> Marks {
        let mut marks = Marks::default();
        marks.note(root, root.position, &mut Vec::new());
        marks
    }

    fn note(&mut self, node: &Node, position: Position, path: &mut Vec<String>) {
        self.positions.insert(path.clone(), position);
        if path.len() >= MARK_DEPTH {
            return;
        }
        match &node.kind {
            Kind::Scalar { .. } => {}
            Kind::Sequence(items) => {
                for (index, item) in items.iter().enumerate() {
                    path.push(index.to_string());
                    self.note(item, item.position, path);
                    path.pop();
                }
            }
            Kind::Mapping(pairs) => {
                for (key, value) in pairs {
                    let Kind::Scalar { text, .. } = &key.kind else { continue };
                    path.push(text.clone());
                    self.note(value, key.position, path);
                    path.pop();
                }
            }
        }
    }
}
