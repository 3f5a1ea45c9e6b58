//! `--out no_return`: how Salt shows minions that did not return. As nested in plain text; red under cyan in colour.

use proto::value::Value;

use super::style::{Paint, Style};
use super::{Format, Outputter, nested};

pub(super) const OUTPUTTER: Outputter = Outputter {
    name: "no_return",
    format: Format::NoReturn,
    help: "minions that did not return, in red",
    print: |value, style| {
        let mut lines = Vec::new();
        add(&mut lines, value, 0, style);
        Some(lines.join("\n"))
    },
};

fn add(lines: &mut Vec<String>, value: &Value, indent: usize, style: &Style) {
    match value {
        Value::Str(text) => {
            let text = style.clean(text);
            lines.extend(text.split('\n').map(|line| style.paint(Paint::Red, &format!("{:indent$}{line}", ""))));
        }
        Value::Map(map) => {
            for (key, inner) in nested::entries(map) {
                let key = style.clean(&key);
                lines.push(format!("{}:", style.paint(Paint::Cyan, &format!("{:indent$}{key}", ""))));
                add(lines, inner, indent + 4, style);
            }
        }
        _ => {}
    }
}
