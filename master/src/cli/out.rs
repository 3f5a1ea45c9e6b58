//! Where output goes: stdout or a file, through the outputters, flushed piece by piece.

use std::fs::OpenOptions;
use std::io::{self, IsTerminal as _, Write};

use anyhow::Context as _;
use proto::value::{Map, Value};
use render::output::{Colour, Controls, Format, Outcome, Style, render};

use super::globals::{Globals, OutputArgs};

/// Where output goes.
pub(crate) struct Out {
    sink: Box<dyn Write>,
    format: Option<Format>,
    style: Style,
}

impl Out {
    /// Opens the file, or stdout. An unknown outputter is refused here, before anything is done.
    pub(crate) fn open(globals: &Globals) -> anyhow::Result<Out> {
        Ok(Out { format: globals.format()?, ..Out::without_format(&globals.output)? })
    }

    /// As [`Out::open`], for verbs that read `--out` themselves.
    pub(crate) fn without_format(args: &OutputArgs) -> anyhow::Result<Out> {
        let style = style(args, args.out_file.is_none() && io::stdout().is_terminal());
        let sink: Box<dyn Write> = match &args.out_file {
            None => Box::new(io::stdout()),
            Some(path) => {
                let mut options = OpenOptions::new();
                options.create(true).append(args.out_file_append).truncate(!args.out_file_append).write(true);
                Box::new(options.open(path).with_context(|| format!("open {}", path.display()))?)
            }
        };
        Ok(Out { sink, format: None, style })
    }

    /// Returns the outputter that was asked for.
    pub(crate) fn format(&self) -> Option<Format> {
        self.format
    }

    /// Returns how to print.
    pub(crate) fn style(&self) -> &Style {
        &self.style
    }

    /// Writes text as it is.
    pub(crate) fn text(&mut self, text: &str) -> io::Result<()> {
        self.sink.write_all(text.as_bytes())?;
        self.sink.flush()
    }

    /// Prints a value with the outputter asked for, or else with this one.
    pub(crate) fn value(&mut self, otherwise: Format, value: &Value) -> io::Result<()> {
        self.outcome(otherwise, value, Outcome::Good)
    }

    /// As [`Out::value`], for what lists things: with `--out jsonl`, each is a line.
    pub(crate) fn items(&mut self, otherwise: Format, items: &Value) -> io::Result<()> {
        match (self.format, items) {
            (Some(Format::Jsonl), Value::List(items)) => items.iter().try_for_each(|item| self.value(otherwise, item)),
            (Some(Format::Jsonl), Value::Map(items)) => items.iter().try_for_each(|(name, item)| {
                self.value(otherwise, &Map::from_iter([(name.clone(), item.clone())]).into())
            }),
            _ => self.value(otherwise, items),
        }
    }

    /// As [`Out::value`], for a value that came from a success or a failure.
    pub(crate) fn outcome(&mut self, otherwise: Format, value: &Value, outcome: Outcome) -> io::Result<()> {
        let style = Style { outcome, ..self.style };
        self.text(&render(self.format.unwrap_or(otherwise), value, &style))
    }
}

/// Writes text to stderr. A reader that has gone away, or a closed stderr, changes nothing: `eprint!` would panic.
pub(crate) fn tell(text: &str) {
    let _ = io::stderr().write_all(text.as_bytes());
}

/// Colours and harmless control characters on a terminal; plain text elsewhere.
fn style(args: &OutputArgs, terminal: bool) -> Style {
    let unwanted = args.no_color || std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let colour = if args.force_color || (terminal && !unwanted) { Colour::Always } else { Colour::Never };
    let controls = if terminal { Controls::Escape } else { Controls::Keep };
    Style { colour, controls, indent: args.out_indent, outcome: Outcome::Good }
}
