//! `docs/reference/runners.md`: every function of the master, from its tables and the comments of what they run.

use std::fmt::Write as _;

use master::runners;

use super::{MADE, cell, expect_file, expect_none, read};

const HEAD: &str = "
# Runners

Functions that run on the master: `halite run FUN [ARGS]…`, the runner type of a reaction, and `salt-run`. Every run is
announced as `salt/run/<jid>/new` and ended with `salt/run/<jid>/ret`. `halite run state.event` is no runner but the
event stream in Salt's words; see `halite events`.

| call | what it does |
|---|---|
";

#[test]
fn the_page_of_runners_is_fresh() {
    let mut page = format!("{MADE}\n{HEAD}");
    for (fun, usage, doc) in all() {
        assert!(usage.starts_with(&fun), "{usage:?} is how {fun} is called");
        writeln!(page, "| `{}` | {} |", cell(usage), cell(&doc)).unwrap();
    }
    expect_file("docs/reference/runners.md", &page);
}

#[test]
fn every_runner_says_what_it_does() {
    let silent = all().into_iter().filter(|(_, _, doc)| doc.is_empty());
    expect_none(&silent.map(|(fun, _, _)| format!("{fun}: what it runs has no `///`")).collect::<Vec<_>>());
}

/// Returns all functions: name, usage, what they do.
fn all() -> Vec<(String, &'static str, String)> {
    let each = runners::all().iter().flat_map(|runner| {
        let source = read(&format!("master/src/runners/{}.rs", runner.name));
        let each = runner.functions.iter().map(move |function| {
            let fun = format!("{}.{}", runner.name, function.name);
            let doc = documented(&source, function.name).unwrap_or_default();
            (fun, function.usage, doc)
        });
        each.collect::<Vec<_>>()
    });
    each.collect()
}

/// Returns the doc comment of what a line of a table runs.
fn documented(source: &str, function: &str) -> Option<String> {
    let (_, entry) = source.split_once(&format!("name: \"{function}\", usage"))?;
    let (_, run) = entry.split_once("run: ")?;
    let run = run.split_once("Box::pin(").filter(|(before, _)| !before.contains('}')).map_or(run, |(_, run)| run);
    let name: String = run.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    let (before, _) = source.split_once(&format!("fn {name}("))?;
    let before = &before[..before.rfind('\n')? + 1];
    let lines: Vec<&str> = before.lines().rev().map_while(|line| line.trim().strip_prefix("///")).collect();
    Some(lines.iter().rev().map(|line| line.trim()).collect::<Vec<_>>().join(" "))
}
