//! The arguments of a runner's function: positional, then by name, as Python binds them.

use proto::value::{Map, MapExt, Value};

use crate::command::{CommandError, TargetText};

/// Arguments as they were given.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Args {
    /// Positional.
    pub arg: Vec<Value>,
    /// By name.
    pub kwarg: Map,
}

impl Args {
    /// Returns them as events show them: the named ones as one map at the end.
    pub fn as_fun_args(&self) -> Vec<Value> {
        let mut shown = self.arg.clone();
        if !self.kwarg.is_empty() {
            shown.push(self.kwarg.clone().into());
        }
        shown
    }

    /// Takes out the parameter of this name, which stands at this place among the positional ones.
    pub(crate) fn take(&mut self, place: usize, name: &str) -> Option<Value> {
        let named = self.kwarg.take(name);
        // A null is as good as nothing: Python's default.
        self.arg.get_mut(place).map(std::mem::take).or(named).filter(|value| !value.is_null())
    }

    /// Like [`Args::take`], for a parameter that must be there.
    pub(crate) fn need(&mut self, place: usize, name: &str, usage: &str) -> Result<Value, CommandError> {
        let missing = || invalid(&format!("missing 1 required positional argument: '{name}'"), usage);
        self.take(place, name).ok_or_else(missing)
    }

    /// Like [`Args::need`], for text; numbers count, because a jid on the command line looks like one.
    pub(crate) fn need_text(&mut self, place: usize, name: &str, usage: &str) -> Result<String, CommandError> {
        match self.need(place, name, usage)? {
            Value::Str(text) => Ok(text),
            Value::Int(number) => Ok(number.to_string()),
            other => Err(invalid(&format!("'{name}' must be text, not {}", other.kind()), usage)),
        }
    }

    /// Takes out how a target is to be read: `tgt_type`, by its older name `expr_form`, and `delimiter`.
    pub(super) fn target(&mut self, tgt: Value) -> TargetText {
        let mut text = |name: &str| match self.kwarg.take(name) {
            Some(Value::Str(text)) => Some(text),
            _ => None,
        };
        let (newer, older) = (text("tgt_type"), text("expr_form"));
        let delimiter = text("delimiter");
        TargetText { delimiter, ..TargetText::new(tgt, newer.or(older).as_deref()) }
    }

    /// Refuses what was given beyond `places` positional arguments, and every name that was not taken.
    pub(crate) fn finish(self, places: usize, usage: &str) -> Result<(), CommandError> {
        if self.arg.len() > places {
            let text = format!("takes {places} positional arguments but {} were given", self.arg.len());
            return Err(invalid(&text, usage));
        }
        match self.kwarg.keys().find(|name| !is_internal(name)) {
            Some(name) => Err(invalid(&format!("got an unexpected keyword argument '{}'", name.to_key()), usage)),
            None => Ok(()),
        }
    }
}

/// Tells whether Salt's own plumbing put this name there.
pub(super) fn is_internal(name: &Value) -> bool {
    name.as_str().is_some_and(|name| name.starts_with("__"))
}

pub(crate) fn invalid(what: &str, usage: &str) -> CommandError {
    CommandError::Invalid(format!("Passed invalid arguments: {what}; usage: {usage}"))
}
