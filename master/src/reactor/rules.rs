//! Which tags set off which files: the option `reactor`, compiled.

use proto::map;
use proto::target::glob::Glob;
use proto::value::{Map, MapExt, Value};
use render::yaml::ReactorEntry;

/// One entry of the option.
#[derive(Debug, Clone)]
pub(super) struct Rule {
    /// The tag glob, as written: rate limits and events name the rule by it.
    pub(super) tag: String,
    /// Its files.
    pub(super) paths: Vec<String>,
    glob: Glob,
    prefix: String,
}

/// One file of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Step {
    /// The rule's tag glob.
    pub(super) rule: String,
    /// The file, as written.
    pub(super) path: String,
}

impl Rule {
    fn new(tag: String, paths: Vec<String>) -> Rule {
        let glob = Glob::new(&tag);
        Rule { prefix: glob.literal_prefix(), glob, tag, paths }
    }

    /// Returns its files, each with the rule that it is of.
    pub(super) fn steps(&self) -> impl Iterator<Item = Step> {
        self.paths.iter().map(|path| Step { rule: self.tag.clone(), path: path.clone() })
    }
}

/// All entries, in the order of the configuration.
#[derive(Debug, Clone)]
pub(super) struct Rules {
    rules: Vec<Rule>,
}

impl Rules {
    pub(super) fn new(entries: Vec<ReactorEntry>) -> Rules {
        Rules { rules: entries.into_iter().map(|entry| Rule::new(entry.tag, entry.paths)).collect() }
    }

    /// Appends a rule.
    pub(super) fn add(&mut self, tag: String, paths: Vec<String>) {
        self.rules.push(Rule::new(tag, paths));
    }

    /// Takes the first rule of this tag glob out, as Salt does; tells whether there was one.
    pub(super) fn remove(&mut self, tag: &str) -> bool {
        let found = self.rules.iter().position(|rule| rule.tag == tag);
        found.map(|at| self.rules.remove(at)).is_some()
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

    /// Returns the rules, each with what is known of it.
    pub(super) fn show(&self, known: impl Fn(&str) -> Map) -> Value {
        let shown = |rule: &Rule| {
            let mut shown = map! { "rule" => rule.tag.as_str(), "files" => rule.paths.clone() };
            for (name, value) in known(&rule.tag) {
                shown.set(&name.to_key(), value);
            }
            shown
        };
        self.rules.iter().map(shown).collect::<Vec<_>>().into()
    }
}
