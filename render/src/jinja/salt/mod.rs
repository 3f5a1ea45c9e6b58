//! Salt's filters. Here are those that read and write YAML and JSON; the others have a file for each subject.

mod date;
mod dicts;
mod hash;
mod lists;
mod network;
mod refused;
mod regular;
mod scalars;
#[cfg(test)]
mod tests;

use minijinja::{Environment, Error, ErrorKind, Value};

use super::builtin::{Filter, defined, install_own};
use super::convert::{Args, from_jinja, to_jinja};
use super::json::{self, Look};
use super::method;
use super::object::{Dict, List};
use super::print;
use super::session::{self, failure};
use super::text;
use crate::yaml::{self, Source};

pub(super) use lists::is_list;

/// The filters, alphabetically.
const FILTERS: &[(&str, Filter)] = &[
    ("json", to_json),
    ("load_json", |value, _| load("json", &print::str(defined(value)?))),
    ("load_yaml", |value, _| load("yaml", &print::str(defined(value)?))),
    ("method_call", method_call),
    ("python", |value, _| text::bounded(print::repr(defined(value)?))),
    ("tojson", tojson),
    ("yaml", to_yaml),
    ("yaml_dquote", |value, _| text::bounded(yaml::double_quoted(&print::str(defined(value)?)))),
    ("yaml_encode", yaml_encode),
    ("yaml_squote", |value, _| text::bounded(yaml::single_quoted(&print::str(defined(value)?)))),
];

/// Gives the environment Salt's filters and tests.
pub(super) fn install(env: &mut Environment<'_>) {
    let tables = [
        FILTERS,
        date::FILTERS,
        dicts::FILTERS,
        hash::FILTERS,
        lists::FILTERS,
        network::FILTERS,
        regular::FILTERS,
        scalars::FILTERS,
    ];
    for table in tables {
        install_own(env, table);
    }
    refused::install(env);
    regular::install(env);
}

/// Reads a text as YAML, JSON or text: what `load_yaml` and its kin do.
pub(super) fn load(kind: &str, content: &str) -> Result<Value, Error> {
    session::spend(content.len())?;
    match kind {
        "json" => {
            let json =
                serde_json::from_str(content).map_err(|error| failure(format!("unable to load json: {error}")))?;
            to_jinja(&proto::value::Value::from_json(&json))
        }
        "yaml" => {
            let value = yaml::load(content, &Source { name: "<load_yaml>" });
            to_jinja(&value.map_err(|error| failure(format!("unable to load yaml: {error}")))?)
        }
        _ => Ok(Value::from(content)),
    }
}

fn to_json(value: &Value, args: &Args<'_>) -> Result<Value, Error> {
    let look = Look { sorted: args.flag(0, "sort_keys", true), indent: json::indent(args, 1)?, ..Look::default() };
    text::bounded(json::dumps(defined(value)?, &look)?)
}

/// Calls a method by its name; one that there is not gives nothing.
fn method_call(value: &Value, args: &Args<'_>) -> Result<Value, Error> {
    let (name, rest) = (args.text(0, "f_name")?, args.places().get(1..).unwrap_or_default());
    let called = match (value.downcast_object::<List>(), value.downcast_object::<Dict>()) {
        (Some(list), _) => method::list(&list, &name, rest),
        (_, Some(dict)) => method::dict(&dict, &name, rest),
        _ => text::method(value, &name, rest),
    };
    let missing = |error: &Error| matches!(error.kind(), ErrorKind::UndefinedError | ErrorKind::UnknownMethod);
    match called {
        Err(error) if missing(&error) && !value.is_undefined() => Ok(Value::from(())),
        called => called,
    }
}

/// Salt's own: keys stay in their order unless asked otherwise.
fn tojson(value: &Value, args: &Args<'_>) -> Result<Value, Error> {
    let known = ["ensure_ascii", "indent", "sort_keys"];
    if let Some((name, _)) = args.names().iter().find(|(name, _)| !known.contains(&name.as_str())) {
        return Err(failure(format!("tojson does not know the option '{name}'")));
    }
    let named = |name: &str, default: bool| args.flag(usize::MAX, name, default);
    let look = Look {
        ascii: named("ensure_ascii", true),
        html_safe: true,
        sorted: named("sort_keys", false),
        indent: json::indent(args, 0)?,
    };
    text::bounded(json::dumps(defined(value)?, &look)?)
}

fn to_yaml(value: &Value, args: &Args<'_>) -> Result<Value, Error> {
    let value = from_jinja(value)?;
    if args.flag(0, "flow_style", true) {
        return text::bounded(yaml::flow(&value));
    }
    let written = yaml::dump(&value);
    let written = written.trim();
    text::bounded(written.strip_suffix("\n...").unwrap_or(written).to_owned())
}

fn yaml_encode(value: &Value, _: &Args<'_>) -> Result<Value, Error> {
    match from_jinja(value)? {
        proto::value::Value::List(_) | proto::value::Value::Map(_) => {
            Err(failure("yaml_encode() only works with YAML scalar data"))
        }
        proto::value::Value::Str(content) => text::bounded(yaml::double_quoted(&content)),
        scalar => text::bounded(yaml::flow(&scalar)),
    }
}
