//! What an event sets off: its files rendered, compiled and checked. Nothing happens here.

use proto::map;
use proto::tag::Tag;
use proto::value::{Map, Value};
use render::python;
use render::yaml::Warning;

use super::Loaded;
use super::high::{self, Chunk, High};
use super::reactions::{self, Reaction};
use super::report::{self, Fault};
use super::rules::{Rule, Step};
use super::sls::Files;

/// How many reactions one event may set off.
const MAX_CHUNKS: usize = 1_000;
/// How arguments that do not count should be written.
const ARGUMENTS: &str = "- args: [{name: value}]";

/// What one event sets off.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// What to do, in order. Each chunk builds a reaction.
    pub(super) chunks: Vec<Chunk>,
    /// What was mended while reading.
    pub(super) warnings: Vec<Warning>,
    /// What does not happen, and why.
    pub(super) faults: Vec<Fault>,
}

/// Renders the files of an event and compiles them.
pub(super) fn plan(loaded: &Loaded, files: &mut Files, steps: &[Step], tag: &Tag, data: &Map) -> Plan {
    let mut plan = Plan::default();
    let mut high = High::new();
    for Step { rule, path } in steps {
        let mut rendered = files.render(loaded, path, tag, data);
        rendered.high.values_mut().for_each(|declaration| declaration.rule.clone_from(rule));
        rendered.faults.iter_mut().for_each(|fault| fault.rule = Some(rule.clone()));
        // As in Salt: an id that comes again replaces the earlier one, in its place.
        high.extend(rendered.high);
        plan.warnings.extend(rendered.warnings);
        plan.faults.extend(rendered.faults);
    }
    match high::compile(&high) {
        Ok(chunks) => chunks.into_iter().for_each(|chunk| plan.check(files, chunk)),
        Err(errors) => {
            let shown = |texts: Vec<String>| python::repr(&Value::from(texts));
            let error = format!(
                "Unable to render reactions for event {tag} due to errors ({}) in one or more of the sls files ({})",
                shown(errors),
                shown(steps.iter().map(|step| step.path.clone()).collect())
            );
            plan.faults.push(Fault { error, ..Fault::default() });
        }
    }
    if plan.chunks.len() > MAX_CHUNKS {
        let error = format!("Event {tag} sets off {} reactions; at most {MAX_CHUNKS} are allowed", plan.chunks.len());
        plan.faults.push(Fault { error, ..Fault::default() });
        plan.chunks.clear();
    }
    plan
}

impl Plan {
    /// Keeps a chunk that builds a reaction; says what is wrong with any other.
    fn check(&mut self, files: &mut Files, chunk: Chunk) {
        match reactions::build(&chunk, "") {
            Ok(_) if !is_available(&chunk) => {
                let state = reactions::kind_name(&chunk.state);
                let Chunk { id, fun, .. } = &chunk;
                let error = format!("Reactor '{id}' failed to execute {state} '{fun}': function not available");
                self.faults.push(Fault::of(chunk, error));
            }
            Ok(reaction) => {
                for message in reaction.notes {
                    let (file, corrected) = (chunk.sls.clone(), ARGUMENTS.to_owned());
                    let warning = Warning { file, line: 0, message, corrected };
                    if files.is_new(&warning) {
                        self.warnings.push(warning);
                    }
                }
                self.chunks.push(chunk);
            }
            Err(error) => self.faults.push(Fault::of(chunk, error.to_string())),
        }
    }
}

/// Tells whether there is such a function on the master. Functions of minions are theirs to know.
fn is_available(chunk: &Chunk) -> bool {
    match reactions::kind_name(&chunk.state) {
        "runner" => crate::runners::find(&chunk.fun).is_some(),
        "wheel" => crate::wheel::is_known(&chunk.fun),
        _ => true,
    }
}

/// Shows what an event would set off: `reactor test`. Guard rails do not count here.
pub(super) fn preview(loaded: &Loaded, files: &mut Files, tag: &Tag, data: &Map) -> Value {
    if super::state::is_own(tag.as_str(), data) {
        return map! { "tag" => tag.as_str(), "ignored" => "it is an event of the reactor itself" }.into();
    }
    let rules: Vec<&Rule> = loaded.rules.matching(tag.as_str()).collect();
    let steps: Vec<Step> = rules.iter().flat_map(|rule| rule.steps()).collect();
    let plan = plan(loaded, files, &steps, tag, data);
    let matched = rules.iter().map(|rule| map! { "rule" => rule.tag.as_str(), "files" => rule.paths.clone() });
    let reactions = plan.chunks.iter().filter_map(|chunk| {
        let reaction = reactions::build(chunk, "").ok()?;
        Some(shown(chunk, reaction))
    });
    let warnings = plan.warnings.iter().map(report::warning_map);
    let errors = plan.faults.iter().map(|fault| fault.to_map(tag.as_str()));
    map! {
        "tag" => tag.as_str(),
        "rules" => matched.collect::<Vec<_>>(),
        "reactions" => reactions.collect::<Vec<_>>(),
        "warnings" => warnings.collect::<Vec<_>>(),
        "errors" => errors.collect::<Vec<_>>(),
    }
    .into()
}

fn shown(chunk: &Chunk, reaction: Reaction) -> Map {
    let mut shown = map! { "id" => chunk.id.as_str(), "rule" => chunk.rule.as_str(), "file" => chunk.sls.as_str(),
    "type" => reactions::kind_name(&chunk.state), "fun" => chunk.fun.as_str() };
    shown.extend(reactions::describe(&reaction.command));
    shown
}
