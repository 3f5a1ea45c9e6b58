//! Jinja2 templates as Salt renders them: `minijinja` with Python's containers, printing and methods, Salt's tags and
//! filters, strict undefined values, and bounds on time and memory.
//!
//! - `lex`, `expression`, `rewrite`: templates are rewritten, line by line in place, before the engine reads them.
//! - `object`, `convert`, `print`: values. `method`, `text`, `format`, `ops`: what they can do.
//! - `builtin`, `json`, `salt` (a file for each subject), `function`: filters, tests and functions. `session`: the books of one rendering.

mod builtin;
mod convert;
mod expression;
mod format;
mod function;
mod json;
mod lex;
mod method;
mod object;
mod ops;
mod print;
mod rewrite;
mod salt;
mod session;
#[cfg(test)]
mod tests;
mod text;

pub use function::Functions;

use std::io;
use std::sync::Arc;
use std::time::SystemTime;

use minijinja::{Environment, Error, ErrorKind, State, UndefinedBehavior, Value};
use proto::value::Map;

use crate::yaml::Warning;

/// The longest template, in bytes.
pub const MAX_TEMPLATE_BYTES: usize = 1 << 20;
/// The longest text a template may render to, in bytes.
pub const MAX_OUTPUT_BYTES: usize = 8 << 20;
/// How many steps of the engine one rendering may take.
pub const MAX_STEPS: u64 = 1_000_000;
/// How deep templates, macros and loops may stand inside each other.
const MAX_RECURSION: usize = 120;
/// The name under which a template finds its own context.
const CONTEXT: &str = "__context";

/// Whether reactor files get their repairs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Repairs {
    /// No: exactly as Salt.
    #[default]
    Off,
    /// Yes, each with a warning.
    On,
}

/// Gives templates that include or import others their text.
pub trait Loader: Send + Sync {
    /// Returns the text of the template at this path (without `salt://`), or nothing if there is none.
    fn load(&self, path: &str) -> Result<Option<String>, String>;
}

impl<F> Loader for F
where
    F: Fn(&str) -> Result<Option<String>, String> + Send + Sync,
{
    fn load(&self, path: &str) -> Result<Option<String>, String> {
        self(path)
    }
}

/// What a template can see and do.
#[derive(Clone, Default)]
pub struct Context {
    /// Its variables.
    pub vars: Map,
    /// The functions behind `salt`; without them `salt` is undefined.
    pub functions: Option<Arc<dyn Functions>>,
    /// Where included and imported templates come from; without it there are none.
    pub loader: Option<Arc<dyn Loader>>,
    /// Whether `keys()`, `values()` and `items()` can be indexed.
    pub repairs: Repairs,
    /// The current time; without it, templates that ask for it fail.
    pub now: Option<SystemTime>,
}

/// A rendered template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered {
    /// The text.
    pub text: String,
    /// The repairs it needed.
    pub warnings: Vec<Warning>,
}

/// A template that cannot be rendered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}; line {line} ({file})")]
pub struct JinjaError {
    /// The template, as named by the caller or by the include.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// What is wrong there, in Salt's words where it has some.
    pub message: String,
}

/// Renders a template.
pub fn render(text: &str, name: &str, context: &Context) -> Result<Rendered, JinjaError> {
    let _guard = session::Guard::start(context.repairs, context.now);
    let rewritten = prepare(text).map_err(|bad| syntax_error(name, bad.line, &bad.message))?;
    let env = environment(context);
    let fail = |error: &Error| explain(error, name);
    let vars = variables(context).map_err(|error| fail(&error))?;
    let template = env.template_from_named_str(name, &rewritten).map_err(|error| fail(&error))?;
    let mut output = Output { bytes: Vec::new() };
    template.render_captured_to(vars, &mut output).map_err(|error| fail(&error))?;
    let mut rendered = String::from_utf8_lossy(&output.bytes).into_owned();
    // The engine drops a template's last line break, Salt puts it back.
    if text.ends_with('\n') {
        rendered.push('\n');
    }
    Ok(Rendered { text: rendered, warnings: warnings(text, name) })
}

fn prepare(text: &str) -> Result<String, rewrite::BadTag> {
    if text.len() > MAX_TEMPLATE_BYTES {
        let message = format!("the template is longer than {MAX_TEMPLATE_BYTES} bytes");
        return Err(rewrite::BadTag { line: 1, message });
    }
    rewrite::rewrite(text)
}

fn environment(context: &Context) -> Environment<'static> {
    let mut env = Environment::new();
    env.set_undefined_behavior(UndefinedBehavior::Strict);
    env.set_debug(true);
    env.set_fuel(Some(MAX_STEPS));
    env.set_recursion_limit(MAX_RECURSION);
    env.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    env.set_formatter(|out, _, value| {
        if value.is_undefined() {
            return Err(object::undefined());
        }
        let text = print::str(value);
        session::spend(text.len())?;
        out.write_str(&text).map_err(Error::from)
    });
    env.set_unknown_method_callback(|_: &mut State<'_, '_>, value, name, args| text::method(value, name, args));
    builtin::install(&mut env);
    salt::install(&mut env);
    function::install(&mut env);
    ops::install(&mut env);
    if let Some(loader) = context.loader.clone() {
        env.set_loader(move |path| {
            let path = path.strip_prefix("salt://").unwrap_or(path);
            let text = loader.load(path).map_err(|message| Error::new(ErrorKind::TemplateNotFound, message))?;
            let prepared = text.map(|text| prepare(&text)).transpose();
            prepared.map_err(|bad| {
                Error::new(ErrorKind::SyntaxError, format!("{} (line {} of {path})", bad.message, bad.line))
            })
        });
    }
    env
}

/// The outermost names: a miss is noted in Jinja's words.
#[derive(Debug)]
struct Variables {
    values: std::collections::HashMap<String, Value>,
}

impl minijinja::value::Object for Variables {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let name = key.as_str()?;
        if name == CONTEXT {
            return Some(Value::from_dyn_object(Arc::clone(self)));
        }
        let found = self.values.get(name).cloned();
        let global = name.starts_with("__") || function::GLOBALS.contains(&name);
        if found.is_none() && !global {
            session::note_missing(format!("'{name}' is undefined"));
        }
        found
    }
}

fn variables(context: &Context) -> Result<Value, Error> {
    let mut values = std::collections::HashMap::new();
    for (name, value) in &context.vars {
        values.insert(name.to_key(), convert::to_jinja(value)?);
    }
    if let Some(functions) = &context.functions {
        values.insert("salt".to_owned(), function::Salt::value(Arc::clone(functions)));
    }
    Ok(Value::from_object(Variables { values }))
}

/// Holds what is rendered, up to the limit.
struct Output {
    bytes: Vec<u8>,
}

impl io::Write for Output {
    fn write(&mut self, part: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + part.len() > MAX_OUTPUT_BYTES {
            return Err(io::Error::other("the rendered text is too long"));
        }
        self.bytes.extend_from_slice(part);
        Ok(part.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn syntax_error(file: &str, line: usize, message: &str) -> JinjaError {
    JinjaError { file: file.to_owned(), line, message: format!("Jinja syntax error: {message}") }
}

/// Says an engine's error in Salt's words.
fn explain(error: &Error, name: &str) -> JinjaError {
    // What happened inside an included template is said there.
    let mut inner = error;
    while let Some(next) = std::error::Error::source(inner).and_then(|source| source.downcast_ref::<Error>()) {
        inner = next;
    }
    let detail = inner.detail().unwrap_or_default();
    let message = match inner.kind() {
        ErrorKind::SyntaxError => format!("Jinja syntax error: {detail}"),
        ErrorKind::UndefinedError => format!("Jinja variable {}", missing(detail)),
        ErrorKind::UnknownFilter => format!("Jinja syntax error: no filter named '{}'", word(detail, "filter ")),
        ErrorKind::UnknownTest => format!("Jinja syntax error: no test named '{}'", word(detail, "test ")),
        ErrorKind::UnknownFunction => match session::missing() {
            Some(missing) => format!("Jinja variable {missing}"),
            None => format!("Jinja error: {detail}"),
        },
        ErrorKind::OutOfFuel => format!("Jinja error: the template takes more than {MAX_STEPS} steps"),
        ErrorKind::WriteFailure => format!("Jinja error: the rendered text is longer than {MAX_OUTPUT_BYTES} bytes"),
        ErrorKind::InvalidOperation if !detail.is_empty() => format!("Jinja error: {detail}"),
        kind if detail.is_empty() => format!("Jinja error: {kind}"),
        kind => format!("Jinja error: {kind}: {detail}"),
    };
    JinjaError {
        file: inner.name().unwrap_or(name).to_owned(),
        line: inner.line().or_else(|| error.line()).unwrap_or(1),
        message,
    }
}

/// Names what was undefined. The engine's own words serve where the lookup was not in one of our objects.
fn missing(detail: &str) -> String {
    match session::missing() {
        Some(missing) if detail.is_empty() || names_same(&missing, detail) => missing,
        Some(missing) if !detail.contains('`') => missing,
        _ if detail.is_empty() => "is undefined".to_owned(),
        _ => detail.replace("__", ""),
    }
}

fn names_same(missing: &str, detail: &str) -> bool {
    let wanted = missing.split('\'').rfind(|part| !part.is_empty() && !part.contains(' '));
    wanted.is_some_and(|wanted| detail.contains(wanted)) || missing.contains("no element")
}

fn word<'a>(detail: &'a str, before: &str) -> &'a str {
    let rest = detail.split_once(before).map_or(detail, |(_, rest)| rest);
    rest.split_whitespace().next().unwrap_or(rest)
}

/// Names each line that indexes a view.
fn warnings(text: &str, file: &str) -> Vec<Warning> {
    let mut warnings = Vec::new();
    for method in session::indexed_views() {
        let call = format!(".{method}()");
        for (index, line) in text.lines().enumerate() {
            let Some((before, after)) = line.split_once(&call) else { continue };
            if !after.trim_start().starts_with('[') {
                continue;
            }
            let subject = before.rsplit([' ', '{', '(', '|', ',', '=']).next().unwrap_or(before);
            let corrected = line.trim().replacen(&format!("{subject}{call}"), &format!("({subject}{call} | list)"), 1);
            let message = format!("{method}() cannot be indexed");
            warnings.push(Warning { file: file.to_owned(), line: index + 1, message, corrected });
        }
    }
    warnings
}
