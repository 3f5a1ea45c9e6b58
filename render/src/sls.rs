//! SLS files: the `#!` line, then Jinja, then YAML.

use std::sync::Arc;
use std::time::SystemTime;

use proto::value::{Map, MapExt, Value};

use crate::jinja::{self, Functions, JinjaError, Loader, Repairs};
use crate::yaml::{self, Source, Warning, YamlError};

/// What an SLS file can see. What is none is undefined in it.
#[derive(Clone, Default)]
pub struct Context {
    /// The event's tag.
    pub tag: Option<String>,
    /// The event's data.
    pub data: Option<Value>,
    /// The daemon's options.
    pub opts: Option<Value>,
    /// Facts about the host.
    pub grains: Option<Value>,
    /// The pillar.
    pub pillar: Option<Value>,
    /// The environment, `base` unless said otherwise.
    pub saltenv: Option<String>,
    /// The current time, for `strftime`.
    pub now: Option<SystemTime>,
    /// Further variables.
    pub extra: Map,
    /// The functions behind `salt`.
    pub functions: Option<Arc<dyn Functions>>,
    /// Where included and imported templates come from.
    pub loader: Option<Arc<dyn Loader>>,
}

/// An SLS file that cannot be rendered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RenderError {
    /// The template fails.
    #[error(transparent)]
    Jinja(#[from] JinjaError),
    /// The first line asks for a renderer that there is not.
    #[error("{file}:1: the renderer '{renderer}' is not supported; known are jinja and yaml")]
    Renderer {
        /// The file.
        file: String,
        /// The renderer asked for.
        renderer: String,
    },
    /// What the template renders to is not YAML.
    #[error(transparent)]
    Yaml(#[from] YamlError),
}

impl RenderError {
    /// Returns the file and the line (from 1) that are at fault.
    pub fn place(&self) -> (&str, usize) {
        match self {
            RenderError::Jinja(error) => (&error.file, error.line),
            RenderError::Renderer { file, .. } => (file, 1),
            RenderError::Yaml(error) => (&error.file, error.line),
        }
    }
}

/// Renders an SLS file. With repairs on (reactor files), what they mend is among the warnings.
pub fn render_sls(
    text: &str,
    name: &str,
    context: &Context,
    repairs: Repairs,
) -> Result<(Value, Vec<Warning>), RenderError> {
    let pipe = pipe(text, name)?;
    let mut warnings = Vec::new();
    let mut rendered = without_shebang(text);
    if pipe.contains(&"jinja") {
        let done = jinja::render(&rendered, name, &context.for_jinja(repairs))?;
        (rendered, warnings) = (done.text, done.warnings);
    }
    if !pipe.contains(&"yaml") {
        return Ok((Value::from(rendered), warnings));
    }
    let value = match repairs {
        Repairs::Off => yaml::load(&rendered, &Source { name })?,
        Repairs::On => {
            let (value, mended) = yaml::load_with_repairs(&rendered, name)?;
            warnings.extend(mended);
            value
        }
    };
    Ok((value, warnings))
}

impl Context {
    fn for_jinja(&self, repairs: Repairs) -> jinja::Context {
        let mut vars = self.extra.clone();
        let texts = [("tag", &self.tag), ("saltenv", &self.saltenv)];
        for (name, text) in texts.into_iter().filter_map(|(name, text)| Some((name, text.as_ref()?))) {
            vars.set(name, text.as_str());
        }
        let values = [("data", &self.data), ("opts", &self.opts), ("grains", &self.grains), ("pillar", &self.pillar)];
        for (name, value) in values.into_iter().filter_map(|(name, value)| Some((name, value.as_ref()?))) {
            vars.set(name, value.clone());
        }
        jinja::Context { vars, functions: self.functions.clone(), loader: self.loader.clone(), repairs, now: self.now }
    }
}

/// Reads the renderers of the `#!` line: `jinja|yaml` if there is none.
fn pipe<'t>(text: &'t str, file: &str) -> Result<Vec<&'t str>, RenderError> {
    let Some(line) = shebang(text) else { return Ok(vec!["jinja", "yaml"]) };
    let renderers: Vec<&str> = line.split('|').filter_map(|part| part.split_whitespace().next()).collect();
    match renderers.iter().find(|renderer| !matches!(**renderer, "jinja" | "yaml")) {
        Some(other) => Err(RenderError::Renderer { file: file.to_owned(), renderer: (*other).to_owned() }),
        None => Ok(renderers),
    }
}

/// Returns what stands behind `#!`, unless it is a program's path.
fn shebang(text: &str) -> Option<&str> {
    let line = text.lines().next()?.strip_prefix("#!")?;
    (!line.trim_start().starts_with('/') && !line.trim().is_empty()).then_some(line)
}

/// Leaves the first line empty, so that the others keep their numbers.
fn without_shebang(text: &str) -> String {
    match shebang(text) {
        Some(_) => text.find('\n').map_or_else(String::new, |at| text[at..].to_owned()),
        None => text.to_owned(),
    }
}
