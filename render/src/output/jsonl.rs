//! `--out jsonl`: one compact JSON document per line, for programs. Not Salt's; strict JSON whatever the value.

use proto::value::Value;

use super::json_writer::{Beyond, JsonWriter, Layout, Order};
use super::style::Style;
use super::{Format, Outputter};

pub(super) const OUTPUTTER: Outputter = Outputter {
    name: "jsonl",
    format: Format::Jsonl,
    help: "one compact JSON document per line",
    print: |value, style| Some(text(value, style)),
};

/// Returns the document, without a line end.
pub(super) fn text(value: &Value, style: &Style) -> String {
    JsonWriter { style, layout: Layout::Compact, order: Order::Kept, beyond: Beyond::Strict, key_paint: None }
        .document(value)
}
