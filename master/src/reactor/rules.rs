//! Which tags set off which files: the option `reactor`, compiled.

use proto::map;
use proto::target::glob::Glob;
use proto::value::Value;
use render::yaml::ReactorEntry;

/// One entry of the option.
#[derive(Debug)]
pub(super) struct Rule {
    /// The tag glob, as written: rate limits and events name the rule by it.
    pub(super) tag: String,
    /// Its files.
    pub(super) paths: Vec<String>,
    glob: Glob,
    prefix: String,
}

/// All entries, in the order of the configuration.
#[derive(Debug)]
pub(super) struct Rules {
    rules: Vec<Rule>,
}

impl Rules {
    pub(super) fn new(entries: Vec<ReactorEntry>) -> Rules {
        let compile = |entry: ReactorEntry| {
            let glob = Glob::new(&entry.tag);
            Rule { prefix: glob.literal_prefix(), glob, tag: entry.tag, paths: entry.paths }
        };
        Rules { rules: entries.into_iter().map(compile).collect() }
    }

    /// Returns the rules that match a tag, in order. The prefix is compared first: it decides most cases.
    pub(super) fn matching<'a>(&'a self, tag: &'a str) -> impl Iterator<Item = &'a Rule> {
        self.rules.iter().filter(move |rule| tag.starts_with(&rule.prefix) && rule.glob.matches(tag))
    }

    /// Tells whether there is a rule of this tag glob.
    pub(super) fn has(&self, tag: &str) -> bool {
        self.rules.iter().any(|rule| rule.tag == tag)
    }

    /// Returns the rules as `reactor.list` shows them.
    pub(super) fn list(&self) -> Value {
        let shown = |rule: &Rule| map! { rule.tag.as_str() => rule.paths.clone() };
        self.rules.iter().map(shown).collect::<Vec<_>>().into()
    }
}
