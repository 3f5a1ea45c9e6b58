//! What templates can call: Jinja2's globals, `salt['module.function'](…)`, and the loading of other templates.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use minijinja::value::{Enumerator, Kwargs, Object, ObjectRepr, Rest, ValueOrKwargs};
use minijinja::{Environment, Error, State, Value};
use proto::value::{Map, Value as OurValue};

use super::convert::{Args, from_jinja, split_args, to_jinja};
use super::method;
use super::object::{Dict, own_inner, undefined};
use super::print;
use super::salt;
use super::session::{self, failure};

/// The functions that templates call as `salt['test.echo']('x')`.
pub trait Functions: Send + Sync {
    /// Calls a function. The error's text is shown to the template's author.
    fn call(&self, name: &str, args: Vec<OurValue>, kwargs: Map) -> Result<OurValue, String>;
}

/// The `salt` of templates.
pub(super) struct Salt {
    functions: Arc<dyn Functions>,
    /// `salt.test` on the way to `salt.test.echo`, or a whole name.
    name: String,
}

impl Salt {
    pub(super) fn value(functions: Arc<dyn Functions>) -> Value {
        Value::from_object(Salt { functions, name: String::new() })
    }

    fn step(&self, name: &str) -> Salt {
        let name = if self.name.is_empty() { name.to_owned() } else { format!("{}.{name}", self.name) };
        Salt { functions: Arc::clone(&self.functions), name }
    }

    fn run(&self, args: &[Value]) -> Result<Value, Error> {
        session::spend(1)?;
        let (places, names) = split_args(args);
        let places = places.iter().map(from_jinja).collect::<Result<_, _>>()?;
        let names = names.iter().map(|(name, value)| Ok((OurValue::from(name.as_str()), from_jinja(value)?)));
        let result = self.functions.call(&self.name, places, names.collect::<Result<Map, Error>>()?);
        to_jinja(&result.map_err(|message| failure(format!("{}: {message}", self.name)))?)
    }
}

impl fmt::Debug for Salt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<salt {}>", self.name)
    }
}

impl Object for Salt {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        Some(Value::from_object(self.step(key.as_str()?)))
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::NonEnumerable
    }

    fn call(self: &Arc<Self>, _: &mut State<'_, '_>, args: &[Value]) -> Result<Value, Error> {
        self.run(args)
    }

    fn call_method(self: &Arc<Self>, _: &mut State<'_, '_>, name: &str, args: &[Value]) -> Result<Value, Error> {
        self.step(name).run(args)
    }
}

/// The names of the functions that every template has.
pub(super) const GLOBALS: [&str; 7] = ["cycler", "dict", "joiner", "namespace", "odict", "raise", "range"];

/// Gives the environment its functions.
pub(super) fn install(env: &mut Environment<'_>) {
    let native = env.globals().find(|(name, _)| *name == "namespace").map(|(_, value)| value);
    if let Some(namespace) = native {
        env.add_function(
            "namespace",
            move |state: &mut State<'_, '_>, args: Rest<ValueOrKwargs>| -> Result<Value, Error> {
                session::count_namespace()?;
                let pairs = method::pairs(&Args::new(&args.into_values()))?;
                let pairs = pairs.into_iter().map(|(key, value)| Ok((print::str(&key), own_inner(&value)?)));
                let pairs = pairs.collect::<Result<Vec<(String, Value)>, Error>>()?;
                let names: Kwargs = pairs.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
                namespace.call(state, &[Value::from(names)])
            },
        );
    }
    env.remove_global("debug");
    // Salt's `odict` is Python's `OrderedDict`; here all maps keep their order.
    env.add_function("dict", dict);
    env.add_function("odict", dict);
    env.add_function("raise", |message: Value| -> Result<Value, Error> { Err(failure(print::str(&message))) });
    env.add_function("cycler", |args: Rest<ValueOrKwargs>| -> Result<Value, Error> {
        session::count_namespace()?;
        let values: Vec<Value> = args.into_values().iter().map(own_inner).collect::<Result<_, _>>()?;
        if values.is_empty() {
            return Err(failure("at least one item has to be provided"));
        }
        Ok(Value::from_object(Cycler { values, at: Mutex::new(0) }))
    });
    env.add_function("joiner", |mark: Option<Value>| -> Result<Value, Error> {
        session::count_namespace()?;
        let mark = mark.map_or_else(|| ", ".to_owned(), |mark| print::str(&mark));
        Ok(Value::from_object(Joiner { mark, used: Mutex::new(false) }))
    });
    env.add_function("__load", |kind: &str, content: &str| salt::load(kind, content));
    env.add_function("__import", |state: &mut State<'_, '_>, kind: &str, path: Value| -> Result<Value, Error> {
        if path.is_undefined() {
            return Err(undefined());
        }
        session::import(|| {
            let template = state.get_template(&print::str(&path))?;
            let context = state.lookup(super::CONTEXT).unwrap_or_default();
            let content = template.render(context)?;
            salt::load(kind, &content)
        })
    });
}

fn dict(args: Rest<ValueOrKwargs>) -> Result<Value, Error> {
    let dict = Dict::default();
    for (key, value) in method::pairs(&Args::new(&args.into_values()))? {
        dict.insert(&key, &value)?;
    }
    Ok(Value::from_object(dict))
}

/// Jinja2's `cycler`.
#[derive(Debug)]
struct Cycler {
    values: Vec<Value>,
    at: Mutex<usize>,
}

impl Object for Cycler {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let at = *self.at.lock().unwrap_or_else(PoisonError::into_inner);
        (key.as_str() == Some("current")).then(|| self.values[at].clone())
    }

    fn call_method(self: &Arc<Self>, _: &mut State<'_, '_>, name: &str, _: &[Value]) -> Result<Value, Error> {
        let mut at = self.at.lock().unwrap_or_else(PoisonError::into_inner);
        match name {
            "next" => {
                let value = self.values[*at].clone();
                *at = (*at + 1) % self.values.len();
                Ok(value)
            }
            "reset" => {
                *at = 0;
                Ok(Value::from(()))
            }
            _ => Err(minijinja::ErrorKind::UnknownMethod.into()),
        }
    }
}

/// Jinja2's `joiner`.
#[derive(Debug)]
struct Joiner {
    mark: String,
    used: Mutex<bool>,
}

impl Object for Joiner {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn call(self: &Arc<Self>, _: &mut State<'_, '_>, _: &[Value]) -> Result<Value, Error> {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let mark = if *used { self.mark.as_str() } else { "" };
        *used = true;
        Ok(Value::from(mark))
    }
}
