//! Parameters and the arguments bound to them, with the texts that Python and Salt have for a bad fit.

use proto::value::{Map, MapExt, Value};

use super::{CallError, Function, ModuleContext};

/// One parameter of a function.
#[derive(Debug, Clone, Copy)]
pub struct Param {
    /// The name, as a keyword argument says it.
    pub name: &'static str,
    /// What it takes.
    pub takes: Takes,
}

/// What a parameter takes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Takes {
    /// All further keyword arguments, and the publication's fields as `__pub_<field>` (Python's `**kwargs`).
    Keywords,
    /// A value that may be left out.
    Optional(Fallback),
    /// A value that must be given.
    Required,
    /// All further positional arguments (Python's `*args`).
    Rest,
}

/// What stands in for an argument that was left out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Fallback {
    /// A truth value.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// Python's `None`.
    None,
    /// Text.
    Text(&'static str),
}

impl From<Fallback> for Value {
    fn from(fallback: Fallback) -> Value {
        match fallback {
            Fallback::Bool(flag) => flag.into(),
            Fallback::Int(number) => number.into(),
            Fallback::None => Value::Null,
            Fallback::Text(text) => text.into(),
        }
    }
}

impl Param {
    /// Returns a parameter that takes all further keyword arguments.
    pub const fn keywords() -> Param {
        Param { name: "kwargs", takes: Takes::Keywords }
    }

    /// Returns a parameter that may be left out.
    pub const fn optional(name: &'static str, fallback: Fallback) -> Param {
        Param { name, takes: Takes::Optional(fallback) }
    }

    /// Returns a parameter that must be given.
    pub const fn required(name: &'static str) -> Param {
        Param { name, takes: Takes::Required }
    }

    /// Returns a parameter that takes all further positional arguments.
    pub const fn rest() -> Param {
        Param { name: "args", takes: Takes::Rest }
    }

    fn is_named(&self) -> bool {
        matches!(self.takes, Takes::Optional(_) | Takes::Required)
    }
}

/// Arguments that fit a function's parameters.
#[derive(Debug, Clone, Default)]
pub struct Args {
    named: Map,
    rest: Vec<Value>,
    extra: Map,
}

impl Args {
    /// Binds arguments to the function's parameters, as Python would.
    pub fn bind(
        function: &Function,
        cx: &ModuleContext,
        positional: Vec<Value>,
        keyword: Map,
    ) -> Result<Args, CallError> {
        let mut args = Args::default();
        args.place_positional(function, positional)?;
        args.place_keyword(function, keyword)?;
        args.fill_in(function)?;
        if takes(function, Takes::Keywords) {
            for (field, value) in &cx.job.publication {
                args.extra.set(&format!("__pub_{}", field.to_key()), value.clone());
            }
        }
        Ok(args)
    }

    fn place_positional(&mut self, function: &Function, positional: Vec<Value>) -> Result<(), CallError> {
        let given = positional.len();
        let mut values = positional.into_iter();
        for (param, value) in positional_params(function).zip(values.by_ref()) {
            self.named.set(param.name, value);
        }
        // `zip` asks the parameters first, so no value is lost when they run out.
        self.rest = values.collect();
        if self.rest.is_empty() || takes(function, Takes::Rest) {
            return Ok(());
        }
        Err(CallError::BadArguments(too_many(function, given)))
    }

    fn place_keyword(&mut self, function: &Function, keyword: Map) -> Result<(), CallError> {
        let mut unknown = Vec::new();
        for (key, value) in keyword {
            let name = key.to_key();
            if function.params.iter().any(|param| param.is_named() && param.name == name) {
                if self.named.at(&name).is_some() {
                    let python = python_name(function);
                    return Err(CallError::BadArguments(format!(
                        "{python}() got multiple values for argument '{name}'"
                    )));
                }
                self.named.set(&name, value);
            } else if takes(function, Takes::Keywords) {
                self.extra.set(&name, value);
            } else {
                unknown.push(format!("{name}={}", plain_text(&value)));
            }
        }
        if unknown.is_empty() {
            return Ok(());
        }
        let list = unknown.join(", ");
        Err(CallError::Invocation(format!("The following keyword arguments are not valid: {list}")))
    }

    fn fill_in(&mut self, function: &Function) -> Result<(), CallError> {
        let mut missing = Vec::new();
        for param in function.params {
            match param.takes {
                _ if self.named.at(param.name).is_some() => {}
                Takes::Optional(fallback) => self.named.set(param.name, fallback),
                Takes::Required => missing.push(format!("'{}'", param.name)),
                Takes::Keywords | Takes::Rest => {}
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        Err(CallError::BadArguments(too_few(function, &missing)))
    }

    /// Returns the arguments with another value for a named parameter.
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Args {
        self.named.set(name, value);
        self
    }

    /// Returns the value of a named parameter.
    pub fn value(&self, name: &str) -> &Value {
        self.named.at(name).unwrap_or(&Value::Null)
    }

    /// Returns a named parameter as text: numbers and truth values as Python prints them, nothing if it is `None`.
    pub fn text(&self, name: &str) -> Option<String> {
        Some(self.value(name)).filter(|value| !value.is_null()).map(plain_text)
    }

    /// Tells whether a named parameter is true in Python's sense.
    pub fn flag(&self, name: &str) -> bool {
        match self.value(name) {
            // Reactors write such things; Python would take any text for true.
            Value::Str(text) => !matches!(text.to_ascii_lowercase().as_str(), "" | "false" | "no" | "off" | "0"),
            value => value.is_truthy(),
        }
    }

    /// Returns a named parameter as a number, or says what Python says of one that is not.
    pub fn number(&self, name: &str) -> Result<Option<f64>, CallError> {
        let value = self.value(name);
        let number = match value {
            Value::Null => return Ok(None),
            Value::Str(text) => text.trim().parse::<f64>().ok().filter(|number| number.is_finite()),
            other => other.as_f64(),
        };
        number.map(Some).ok_or_else(|| CallError::Exception {
            kind: "ValueError",
            message: format!("could not convert {}: {}", value.kind(), python_repr(value)),
        })
    }

    /// Returns a named parameter as an integer, or says what Python's `int()` says.
    pub fn integer(&self, name: &str) -> Result<i64, CallError> {
        let value = self.value(name);
        let number = match value {
            Value::Bool(flag) => Some(i64::from(*flag)),
            Value::Int(number) => i64::try_from(*number).ok(),
            #[expect(clippy::cast_possible_truncation, reason = "int() truncates; `as` saturates at the ends")]
            Value::Float(number) if number.is_finite() => Some(*number as i64),
            Value::Str(text) => text.trim().parse().ok(),
            _ => None,
        };
        number.ok_or_else(|| CallError::Exception {
            kind: "ValueError",
            message: format!("invalid literal for int() with base 10: {}", python_repr(value)),
        })
    }

    /// Returns the further positional arguments.
    pub fn rest(&self) -> &[Value] {
        &self.rest
    }

    /// Returns the further keyword arguments, then the publication's fields.
    pub fn extra(&self) -> &Map {
        &self.extra
    }
}

/// Returns the parameters that positional arguments go to: what follows `*args` is given by name only.
fn positional_params(function: &Function) -> impl Iterator<Item = &'static Param> {
    function.params.iter().take_while(|param| param.is_named())
}

fn takes(function: &Function, what: Takes) -> bool {
    function.params.iter().any(|param| param.takes == what)
}

fn python_name(function: &Function) -> &'static str {
    function.name.split_once('.').map_or(function.name, |(_, name)| name)
}

fn too_many(function: &Function, given: usize) -> String {
    let named = positional_params(function).count();
    let required = positional_params(function).filter(|param| param.takes == Takes::Required).count();
    let limit = if named == required { named.to_string() } else { format!("from {required} to {named}") };
    let (plural, verb) = (if named == 1 { "" } else { "s" }, if given == 1 { "was" } else { "were" });
    format!("{}() takes {limit} positional argument{plural} but {given} {verb} given", python_name(function))
}

fn too_few(function: &Function, missing: &[String]) -> String {
    let (count, plural) = (missing.len(), if missing.len() == 1 { "" } else { "s" });
    let names = match missing {
        [one] => one.clone(),
        [one, two] => format!("{one} and {two}"),
        [first @ .., last] => format!("{}, and {last}", first.join(", ")),
        [] => String::new(),
    };
    format!("{}() missing {count} required positional argument{plural}: {names}", python_name(function))
}

/// Returns what Python's `str()` says of a value.
pub(crate) fn plain_text(value: &Value) -> String {
    match value {
        Value::Str(text) => text.clone(),
        other => python_repr(other),
    }
}

/// Returns what Python's `repr()` says of a value.
pub(crate) fn python_repr(value: &Value) -> String {
    match value {
        Value::Null => "None".to_owned(),
        Value::Bool(true) => "True".to_owned(),
        Value::Bool(false) => "False".to_owned(),
        Value::Int(number) => number.to_string(),
        Value::Float(number) => float_repr(*number),
        Value::Str(text) => text_repr(text),
        Value::Bytes(bytes) => format!("b'{}'", bytes.escape_ascii()),
        Value::List(items) => format!("[{}]", items.iter().map(python_repr).collect::<Vec<_>>().join(", ")),
        Value::Map(map) => {
            let pairs: Vec<String> =
                map.iter().map(|(key, value)| format!("{}: {}", python_repr(key), python_repr(value))).collect();
            format!("{{{}}}", pairs.join(", "))
        }
    }
}

fn float_repr(number: f64) -> String {
    match number {
        _ if number.is_nan() => "nan".to_owned(),
        _ if number.is_infinite() => if number > 0.0 { "inf" } else { "-inf" }.to_owned(),
        _ if number != 0.0 && !(1e-4..1e16).contains(&number.abs()) => {
            // Python writes two digits of exponent at least, and a sign always.
            let text = format!("{number:e}");
            let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
            let (sign, size) = exponent.strip_prefix('-').map_or(('+', exponent), |size| ('-', size));
            format!("{digits}e{sign}{size:0>2}")
        }
        _ => format!("{number:?}"),
    }
}

fn text_repr(text: &str) -> String {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    let mut out = String::with_capacity(text.len() + 2);
    out.push(quote);
    for letter in text.chars() {
        match letter {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            _ if letter == quote => out.extend(['\\', letter]),
            _ if u32::from(letter) < 0x20 || letter == '\x7f' => out.push_str(&format!("\\x{:02x}", u32::from(letter))),
            _ => out.push(letter),
        }
    }
    out.push(quote);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::modules::Outcome;
    use std::sync::Arc;

    fn nothing(_: &ModuleContext, _: Args) -> Result<Outcome, CallError> {
        Ok(Outcome::from(Value::Null))
    }

    const TWO: Function = Function {
        name: "m.two",
        doc: "Two.",
        params: &[Param::required("a"), Param::required("b"), Param::optional("c", Fallback::Int(3))],
        run: nothing,
    };
    const ANY: Function =
        Function { name: "m.any", doc: "Any.", params: &[Param::rest(), Param::keywords()], run: nothing };

    fn context() -> ModuleContext {
        ModuleContext::offline("m1", Arc::new(Map::new()), Arc::new(Map::new()))
    }

    fn refusal(positional: Vec<Value>, keyword: Map) -> String {
        Args::bind(&TWO, &context(), positional, keyword).expect_err("does not fit").to_string()
    }

    #[test]
    fn a_bad_fit_is_told_as_python_tells_it() {
        let one = Value::from(1);
        assert_eq!(refusal(vec![], Map::new()), "two() missing 2 required positional arguments: 'a' and 'b'");
        assert_eq!(
            refusal(vec![one.clone(); 4], Map::new()),
            "two() takes from 2 to 3 positional arguments but 4 were given"
        );
        assert_eq!(refusal(vec![one.clone()], proto::map! { "a" => 1 }), "two() got multiple values for argument 'a'");
        assert_eq!(
            refusal(vec![one.clone(), one], proto::map! { "d" => "x", "e" => true }),
            "The following keyword arguments are not valid: d=x, e=True"
        );
    }

    #[test]
    fn what_is_left_out_is_filled_in() {
        let args = Args::bind(&TWO, &context(), vec![Value::from("x")], proto::map! { "b" => "7" }).expect("fits");
        assert_eq!((args.text("a"), args.integer("b"), args.integer("c")), (Some("x".to_owned()), Ok(7), Ok(3)));
        assert_eq!(
            args.integer("a").expect_err("not a number").to_string(),
            "ValueError: invalid literal for int() with base 10: 'x'"
        );
    }

    #[test]
    fn keywords_come_before_the_publication() {
        let mut cx = context();
        cx.job.publication = proto::map! { "fun" => "m.any", "jid" => "1" };
        let args = Args::bind(&ANY, &cx, vec![Value::from(1)], proto::map! { "k" => 5 }).expect("fits");
        assert_eq!(args.rest(), [Value::from(1)]);
        assert_eq!(args.extra(), &proto::map! { "k" => 5, "__pub_fun" => "m.any", "__pub_jid" => "1" });
    }

    #[test]
    fn values_are_written_as_python_writes_them() {
        let check = |value: Value, expected: &str| assert_eq!(python_repr(&value), expected);
        check(Value::from(vec!["a'b", "c"]), r#"["a'b", 'c']"#);
        check(Value::from(proto::map! { "k" => Value::Null }), "{'k': None}");
        check(Value::from(1e16), "1e+16");
        check(Value::from(0.00001), "1e-05");
        check(Value::from(3.0), "3.0");
        check(Value::from("\u{1}\n"), r"'\x01\n'");
    }
}
