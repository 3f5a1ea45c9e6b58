//! `docs/reference/functions.md`: every execution function, from the minion's tables.

use std::fmt::Write as _;

use minion::modules::{self, Fallback, Function, Param, Takes};

use super::{MADE, expect_file};

const HEAD: &str = "
# Functions

What a job, a reaction or `halite-minion call` can run on a minion. `halite TARGET sys.doc FUN` and
`halite-minion call --local -d FUN` print the same there. `*args` and `**kwargs` stand for any further arguments.
";

#[test]
fn the_page_of_functions_is_fresh() {
    let mut page = format!("{MADE}\n{HEAD}");
    let names = modules::all().iter().map(|table| table[0].module());
    let links: Vec<String> = names.map(|name| format!("[{name}](#{name})")).collect();
    writeln!(page, "\n{}.", links.join(", ")).unwrap();
    for table in modules::all() {
        writeln!(page, "\n## {}", table[0].module()).unwrap();
        table.iter().for_each(|function| entry(&mut page, function));
    }
    expect_file("docs/reference/functions.md", &page);
}

#[test]
fn every_function_says_what_it_does_and_has_an_example() {
    let broken = modules::all().iter().copied().flatten().filter(|function| {
        let (text, examples) = parts(function);
        text.trim().is_empty() || !examples.contains(function.name)
    });
    let findings: Vec<String> =
        broken.map(|function| format!("{}: its doc needs a first line and an example", function.name)).collect();
    super::expect_none(&findings);
}

/// Returns the text of a function's documentation, and its examples.
fn parts(function: &Function) -> (&str, &str) {
    let (text, examples) = function.doc.split_once("CLI Example").unwrap_or((function.doc, ""));
    (text, examples.split_once("bash\n").map_or("", |(_, examples)| examples))
}

fn entry(page: &mut String, function: &Function) {
    let params: Vec<String> = function.params.iter().map(param).collect();
    let (text, examples) = parts(function);
    writeln!(page, "\n### {}\n\n`{}({})`\n", function.name, function.name, params.join(", ")).unwrap();
    writeln!(page, "{}", paragraphs(text)).unwrap();
    let examples: Vec<String> = examples.lines().map(str::trim).filter(|line| !line.is_empty()).map(ours).collect();
    writeln!(page, "\n```sh\n{}\n```", examples.join("\n")).unwrap();
}

/// Writes an example with our names.
fn ours(line: &str) -> String {
    let call = line.strip_prefix("salt-call ").map(|rest| format!("halite-minion call {rest}"));
    let job = || line.strip_prefix("salt ").map(|rest| format!("halite {rest}"));
    call.or_else(job).unwrap_or_else(|| line.to_owned())
}

fn param(param: &Param) -> String {
    let name = param.name;
    match param.takes {
        Takes::Keywords => format!("**{name}"),
        Takes::Optional(Fallback::Bool(true)) => format!("{name}=True"),
        Takes::Optional(Fallback::Bool(false)) => format!("{name}=False"),
        Takes::Optional(Fallback::Int(number)) => format!("{name}={number}"),
        Takes::Optional(Fallback::None) => format!("{name}=None"),
        Takes::Optional(Fallback::Text(text)) => format!("{name}='{text}'"),
        Takes::Required => name.to_owned(),
        Takes::Rest => format!("*{name}"),
    }
}

/// Turns a doc string into Markdown: a line with indented ones under it is a parameter and what it means.
fn paragraphs(text: &str) -> String {
    let lines: Vec<&str> = text.trim().lines().collect();
    let mut out: Vec<String> = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let is_name = lines.get(at + 1).is_some_and(|next| next.starts_with("    ")) && !line.starts_with("    ");
        match line.strip_prefix("    ") {
            _ if is_name && !line.is_empty() => {
                if out.last().is_some_and(|last| !last.is_empty() && !last.starts_with("- ") && !last.starts_with("  "))
                {
                    out.push(String::new());
                }
                out.push(format!("- `{line}`:"));
            }
            Some(meaning) => out.push(format!("  {}", meaning.trim())),
            None => out.push((*line).to_owned()),
        }
    }
    super::plain(&out.join("\n").replace("``", "`"))
}
