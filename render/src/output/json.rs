//! `--out json`: one indented JSON document; `--out-indent -1` puts it on one line.

use proto::value::Value;

use super::json_writer::{Beyond, JsonWriter, Layout, Order};
use super::style::Style;
use super::{Format, Outputter};

pub(super) const OUTPUTTER: Outputter = Outputter {
    name: "json",
    format: Format::Json,
    help: "JSON, indented by four; --out-indent -1 for one line",
    print: |value, style| Some(text(value, style)),
};

/// Spaces per level if nobody asks for another number: Salt's.
const INDENT: i32 = 4;
/// The most spaces per level anyone can ask for, so that deep values do not become huge texts.
const MAX_INDENT: i32 = 64;

fn text(value: &Value, style: &Style) -> String {
    let indent = style.indent.unwrap_or(INDENT).min(MAX_INDENT);
    let layout = usize::try_from(indent).map_or(Layout::Line, Layout::Indent);
    JsonWriter { style, layout, order: Order::Kept, beyond: Beyond::Python, key_paint: None }.document(value)
}
