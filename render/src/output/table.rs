//! `--out table`: lists as rows in boxes, under the keys that hold them.
//!
//! A list of texts has one column, a list of lists one row each, a list of maps a header of its keys. Lists of mixed kinds and
//! plain values show nothing, as in Salt. Two departures, where Salt's table loses data: rows of unequal length are
//! filled up with empty cells, and text wrapped over several lines keeps all of them.

use proto::value::{Map, Value};

use crate::python;

use super::style::{Paint, Style};
use super::{Format, Outputter, nested, order};

pub(super) const OUTPUTTER: Outputter = Outputter {
    name: "table",
    format: Format::Table,
    help: "lists as rows in boxes",
    print: |value, style| {
        let mut table = Table { style, lines: Vec::new() };
        table.value(value, 0)?;
        Some(table.lines.join("\n"))
    },
};

/// A cell wider than this is wrapped at spaces.
const CELL_WIDTH: usize = 50;

struct Table<'a> {
    style: &'a Style,
    lines: Vec<String>,
}

impl Table<'_> {
    /// Adds a value, or returns nothing if a list in it cannot be rows.
    fn value(&mut self, value: &Value, indent: usize) -> Option<()> {
        match value {
            Value::List(items) => self.rows(items, indent),
            Value::Map(map) => nested::entries(map).into_iter().try_for_each(|(key, inner)| {
                let key = self.style.clean(&key).into_owned();
                self.line(indent, Paint::DarkGray, &key, ":");
                self.line(indent, Paint::DarkGray, "----------", "");
                let deeper = if inner.as_list().is_some() { indent } else { indent + 4 };
                self.value(inner, deeper)
            }),
            _ => Some(()),
        }
    }

    fn rows(&mut self, items: &[Value], indent: usize) -> Option<()> {
        let Some(first) = items.first() else { return Some(()) };
        if items.iter().any(|item| item.kind() != first.kind()) {
            return Some(());
        }
        let mut rows = Vec::with_capacity(items.len() + 1);
        if let Value::Map(map) = first {
            rows.push(order::sorted(map).into_iter().map(|(key, _)| label(key)).collect());
        }
        for item in items {
            rows.push(cells(item)?);
        }
        self.boxes(&rows, indent + 4);
        Some(())
    }

    /// Draws rows of cells, a line above and below each.
    fn boxes(&mut self, rows: &[Vec<String>], indent: usize) {
        let rows: Vec<Vec<Vec<String>>> =
            rows.iter().map(|row| row.iter().map(|cell| self.cell_lines(cell)).collect()).collect();
        let count = rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            let lines = rows.iter().filter_map(|row| row.get(column)).flatten();
            lines.map(|line| line.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..count).map(width).collect();
        let rule = "-".repeat(widths.iter().sum::<usize>() + 3 * count + 1);
        self.line(indent, Paint::LightGray, &rule, "");
        for row in &rows {
            let height = row.iter().map(Vec::len).max().unwrap_or(1);
            for at in 0..height {
                let cell = |(column, width): (usize, &usize)| {
                    centre(row.get(column).and_then(|lines| lines.get(at)).map_or("", String::as_str), *width)
                };
                let cells: Vec<String> = widths.iter().enumerate().map(cell).collect();
                self.line(indent, Paint::White, &format!("| {} |", cells.join(" | ")), "");
            }
            self.line(indent, Paint::LightGray, &rule, "");
        }
    }

    fn cell_lines(&self, cell: &str) -> Vec<String> {
        wrap(&self.style.clean(cell)).split('\n').map(str::to_owned).collect()
    }

    fn line(&mut self, indent: usize, paint: Paint, text: &str, suffix: &str) {
        self.lines.push(format!("{:indent$}{}{suffix}", "", self.style.paint(paint, text)));
    }
}

/// Returns the cells of one row. Salt cannot show rows that are numbers, nor cells of lists that are not text.
fn cells(row: &Value) -> Option<Vec<String>> {
    match row {
        Value::List(cells) => cells.iter().map(|cell| cell.as_str().map(str::to_owned)).collect(),
        Value::Map(map) => Some(sorted_cells(map)),
        Value::Str(text) => Some(vec![text.clone()]),
        _ => None,
    }
}

fn sorted_cells(map: &Map) -> Vec<String> {
    order::sorted(map).into_iter().map(|(_, value)| python::str(value)).collect()
}

/// Returns a key as a column's label: `last_move` is `Last Move` (Python's `title`).
fn label(key: &Value) -> String {
    let mut within_word = false;
    let mut label = String::new();
    for c in python::str(key).replace('_', " ").chars() {
        if within_word {
            label.extend(c.to_lowercase());
        } else {
            label.extend(c.to_uppercase());
        }
        within_word = c.is_alphabetic();
    }
    label
}

/// Breaks text at spaces where the next word would pass the width of a cell.
fn wrap(text: &str) -> String {
    let mut words = text.split(' ');
    let mut wrapped = words.next().unwrap_or_default().to_owned();
    for word in words {
        let line = wrapped.rsplit('\n').next().unwrap_or_default().chars().count();
        let next = word.split('\n').next().unwrap_or_default().chars().count();
        wrapped.push(if line + next >= CELL_WIDTH { '\n' } else { ' ' });
        wrapped.push_str(word);
    }
    wrapped
}

/// Centres text as Python's `str.center`: the odd space goes left only where the width is odd.
fn centre(text: &str, width: usize) -> String {
    let space = width.saturating_sub(text.chars().count());
    let left = space / 2 + (space & width & 1);
    format!("{:left$}{text}{:right$}", "", "", right = space - left)
}
