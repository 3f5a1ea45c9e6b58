//! The functions behind `salt[…]` in pillar files: what can be answered from the minion's grains, what is known of its
//! pillar, and the options. Nothing runs and nothing is read.

use std::sync::Arc;

use proto::map;
use proto::target::glob::Glob;
use proto::value::{Map, MapExt, Value};
use render::jinja::Functions;

use super::merge::{Lists, recurse};

/// What the functions see.
pub(super) struct PillarFunctions {
    pub(super) grains: Arc<Map>,
    pub(super) opts: Arc<Map>,
    pub(super) pillar: Arc<Map>,
}

/// Positional and keyword arguments of a call.
struct Call<'a> {
    name: &'a str,
    args: Vec<Value>,
    kwargs: Map,
}

impl Call<'_> {
    fn value(&self, at: usize, name: &str) -> Option<&Value> {
        self.args.get(at).or_else(|| self.kwargs.at(name))
    }

    fn text(&self, at: usize, name: &str) -> Result<String, String> {
        let value = self.value(at, name).ok_or_else(|| format!("{} needs the argument '{name}'", self.name))?;
        Ok(value.to_key())
    }

    fn text_or(&self, at: usize, name: &str, default: &str) -> String {
        self.value(at, name).and_then(Value::as_str).unwrap_or(default).to_owned()
    }

    fn or_default(&self, found: Option<&Value>, at: usize) -> Value {
        let default = || self.value(at, "default").cloned().unwrap_or_else(|| "".into());
        found.cloned().unwrap_or_else(default)
    }
}

impl Functions for PillarFunctions {
    fn call(&self, name: &str, args: Vec<Value>, kwargs: Map) -> Result<Value, String> {
        let call = Call { name, args, kwargs };
        match name {
            "config.get" | "config.option" => self.config_get(&call),
            "grains.fetch" | "grains.get" => get(&call, &self.grains, 2),
            "grains.filter_by" => self.filter_by(&call),
            "grains.has_value" => {
                let found = get(&call, &self.grains, 2)?;
                Ok(found.is_truthy().into())
            }
            "grains.item" => {
                let one = |key: &Value| Some((key.clone(), traverse(&self.grains, &key.to_key(), ":")?.clone()));
                Ok(Value::Map(call.args.iter().filter_map(one).collect()))
            }
            "grains.items" => Ok(Value::Map((*self.grains).clone())),
            "pillar.fetch" | "pillar.get" => get(&call, &self.pillar, 3),
            "pillar.items" => Ok(Value::Map((*self.pillar).clone())),
            "test.arg" => Ok(map! { "args" => call.args, "kwargs" => call.kwargs }.into()),
            "test.echo" => call.value(0, "text").cloned().ok_or_else(|| "test.echo needs a text".to_owned()),
            "test.ping" => Ok(true.into()),
            _ => Err(format!(
                "the function '{name}' is not available in pillar files: nothing runs on the master for a template"
            )),
        }
    }
}

/// `get(key, default='', delimiter=':')`, where the delimiter's place differs.
fn get(call: &Call<'_>, data: &Map, delimiter_at: usize) -> Result<Value, String> {
    let delimiter = call.text_or(delimiter_at, "delimiter", ":");
    Ok(call.or_default(traverse(data, &call.text(0, "key")?, &delimiter), 1))
}

impl PillarFunctions {
    fn config_get(&self, call: &Call<'_>) -> Result<Value, String> {
        let key = call.text(0, "key")?;
        let delimiter = call.text_or(2, "delimiter", ":");
        let found =
            [&self.opts, &self.grains, &self.pillar].into_iter().find_map(|data| traverse(data, &key, &delimiter));
        Ok(call.or_default(found, 1))
    }

    /// Picks from a map by a grain: patterns in the order of their texts, then the default; over a base, under a merge.
    fn filter_by(&self, call: &Call<'_>) -> Result<Value, String> {
        let lookup = call.value(0, "lookup_dict").and_then(Value::as_map).ok_or("grains.filter_by needs a map")?;
        let grain = call.text_or(1, "grain", "os_family");
        let values = match traverse(&self.grains, &grain, ":") {
            Some(Value::List(members)) => members.clone(),
            Some(value) => vec![value.clone()],
            None => vec![Value::Null],
        };
        let mut keys: Vec<(String, &Value)> = lookup.iter().map(|(key, value)| (key.to_key(), value)).collect();
        keys.sort_by(|one, other| one.0.cmp(&other.0));
        let matching = |value: &Value| {
            let text = value.to_key();
            keys.iter().find(|(key, _)| Glob::new(key).matches(&text)).map(|(_, found)| (*found).clone())
        };
        let default = call.text_or(3, "default", "default");
        let found = values.iter().find_map(matching).or_else(|| lookup.at(&default).cloned());
        let base = call.value(4, "base").and_then(Value::as_str).and_then(|base| lookup.at(base)).cloned();
        let merge = call.value(2, "merge").filter(|merge| !merge.is_null()).cloned();
        let layers = [base, found, merge].into_iter().flatten();
        Ok(layers.reduce(over).unwrap_or(Value::Null))
    }
}

/// Lays one value over another: maps are merged.
fn over(below: Value, above: Value) -> Value {
    match (below, above) {
        (Value::Map(mut below), Value::Map(above)) => {
            recurse(&mut below, above, Lists::Replace);
            below.into()
        }
        (_, above) => above,
    }
}

/// Follows a nested key into maps and lists.
pub(super) fn traverse<'a>(data: &'a Map, key: &str, delimiter: &str) -> Option<&'a Value> {
    if let Some(whole) = data.at(key) {
        return Some(whole);
    }
    let mut parts = key.split(delimiter);
    let mut at = data.at(parts.next()?)?;
    for part in parts {
        at = match at {
            Value::Map(map) => map.at(part).or_else(|| map.get(&Value::from(part.parse::<i64>().ok()?)))?,
            Value::List(items) => match part.parse::<usize>() {
                Ok(index) => items.get(index)?,
                Err(_) => items.iter().find_map(|item| item.get(part))?,
            },
            _ => return None,
        };
    }
    Some(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(name: &str, args: Vec<Value>, kwargs: Map) -> Result<Value, String> {
        let grains = map! { "os_family" => "Debian", "site" => map! { "dc" => "x" }, "roles" => vec!["db", "web"] };
        let functions = PillarFunctions {
            grains: Arc::new(grains),
            opts: Arc::new(map! { "id" => "m1" }),
            pillar: Arc::new(map! { "known" => 1 }),
        };
        functions.call(name, args, kwargs)
    }

    #[test]
    fn grains_pillar_and_options_are_looked_up() {
        assert_eq!(call("grains.get", vec!["site:dc".into()], Map::new()), Ok("x".into()));
        assert_eq!(call("grains.get", vec!["none".into(), 7.into()], Map::new()), Ok(7.into()));
        assert_eq!(call("grains.get", vec!["site|dc".into()], map! { "delimiter" => "|" }), Ok("x".into()));
        assert_eq!(call("pillar.get", vec!["known".into()], Map::new()), Ok(1.into()));
        assert_eq!(call("config.get", vec!["id".into()], Map::new()), Ok("m1".into()));
        assert!(call("cmd.run", vec!["id".into()], Map::new()).unwrap_err().contains("not available"));
    }

    #[test]
    fn a_map_is_filtered_by_a_grain() {
        let lookup = || {
            map! { "Debian" => map! { "pkg" => "apache2" }, "Red*" => map! { "pkg" => "httpd" },
            "default" => map! { "port" => 80, "pkg" => "x" } }
        };
        let by = |kwargs: Map| call("grains.filter_by", vec![lookup().into()], kwargs);
        assert_eq!(by(Map::new()), Ok(map! { "pkg" => "apache2" }.into()));
        assert_eq!(by(map! { "base" => "default" }), Ok(map! { "port" => 80, "pkg" => "apache2" }.into()));
        assert_eq!(by(map! { "grain" => "none" }), Ok(map! { "port" => 80, "pkg" => "x" }.into()));
        assert_eq!(by(map! { "merge" => map! { "k" => 1 } }), Ok(map! { "pkg" => "apache2", "k" => 1 }.into()));
        let roles = map! { "web" => 1, "x" => 2 };
        assert_eq!(call("grains.filter_by", vec![roles.into(), "roles".into()], Map::new()), Ok(1.into()));
    }
}
