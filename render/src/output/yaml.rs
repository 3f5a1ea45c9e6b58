//! `--out yaml`: block style, keys sorted, as PyYAML dumps.

use proto::value::Value;

use crate::yaml::{KeyOrder, dump_in};

use super::style::Style;
use super::{Format, Outputter};

pub(super) const OUTPUTTER: Outputter = Outputter {
    name: "yaml",
    format: Format::Yaml,
    help: "YAML, keys sorted",
    print: |value, style| Some(print(value, style)),
};

fn print(value: &Value, style: &Style) -> String {
    let mut document = dump_in(value, KeyOrder::Sorted);
    // Salt's dumper is libyaml, which does not close a document that is one plain scalar; PyYAML's own does.
    if !matches!(value, Value::List(_) | Value::Map(_)) && document.ends_with("\n...\n") {
        document.truncate(document.len() - "...\n".len());
    }
    // The dumper already escapes what is not printable; cleaning again leaves no gap.
    style.clean(&document).into_owned()
}
