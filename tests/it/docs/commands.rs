//! `docs/reference/cli.md` and `man/`: every verb and option, from the same tables as `--help`.

use std::fmt::Write as _;

use clap::{Arg, Command, CommandFactory as _};
use master::arguments::Arguments;

use super::{MADE, cell, expect_file, expect_none, plain};

const HEAD: &str = "
# Command line

Every program, verb and option, as `--help` and the manual pages have them. `halite` started under the names `salt`,
`salt-key` or `salt-run`, and `halite-minion` under `salt-call`, take the words of those programs.
";

/// Returns every program, with its verbs.
fn programs() -> Vec<Command> {
    let ours = master::cli::commands().into_iter();
    let mut programs: Vec<Command> = ours.chain([Arguments::command(), minion::cli::command()]).collect();
    programs.iter_mut().for_each(Command::build);
    programs
}

/// Calls `visit` for a command and all below it that are shown, with the words that lead to it.
fn walk(command: &Command, words: &str, visit: &mut impl FnMut(&str, &Command)) {
    visit(words, command);
    let shown = command.get_subcommands().filter(|verb| verb.get_name() != "help" && !verb.is_hide_set());
    shown.for_each(|verb| walk(verb, &format!("{words} {}", verb.get_name()), visit));
}

#[test]
fn every_help_has_an_example_and_says_what_each_option_is() {
    let mut findings = Vec::new();
    for program in programs() {
        walk(&program, program.get_name(), &mut |words, command| {
            let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            if !after.contains("Example") || !after.contains(words.split(' ').next().unwrap_or_default()) {
                findings.push(format!("`{words} --help` has no example"));
            }
            if command.get_about().is_none() {
                findings.push(format!("`{words} --help` does not say what it is for"));
            }
            let silent = shown(command).filter(|arg| arg.get_help().is_none());
            findings.extend(silent.map(|arg| format!("`{words} --help` does not say what {} is", arg.get_id())));
        });
    }
    expect_none(&findings);
}

#[test]
fn the_page_of_commands_is_fresh() {
    let mut page = format!("{MADE}\n{HEAD}");
    for program in programs() {
        let globals: Vec<String> = program.get_arguments().filter(|arg| arg.is_global_set()).map(id).collect();
        walk(&program, program.get_name(), &mut |words, command| {
            let top = words == program.get_name();
            entry(&mut page, words, command, if top { &[] } else { &globals });
        });
    }
    expect_file("docs/reference/cli.md", &page);
}

fn id(arg: &Arg) -> String {
    arg.get_id().to_string()
}

/// Returns the arguments that help shows, but for help itself.
fn shown(command: &Command) -> impl Iterator<Item = &Arg> {
    command.get_arguments().filter(|arg| !arg.is_hide_set() && !matches!(arg.get_id().as_str(), "help" | "version"))
}

fn entry(page: &mut String, words: &str, command: &Command, globals: &[String]) {
    let level = if words.contains(' ') { "###" } else { "##" };
    let about = command.get_long_about().or(command.get_about()).map(ToString::to_string).unwrap_or_default();
    let usage = command.clone().render_usage().to_string();
    let usage: Vec<&str> = usage.trim_start_matches("Usage: ").lines().map(str::trim).collect();
    let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    writeln!(page, "\n{level} {words}\n\n{}.\n", plain(about.trim_end_matches('.'))).unwrap();
    writeln!(page, "```text\n{}\n\n{after}\n```", usage.join("\n")).unwrap();
    let own: Vec<&Arg> = shown(command).filter(|arg| !globals.contains(&id(arg))).collect();
    if !own.is_empty() {
        page.push_str("\n| option | meaning |\n|---|---|\n");
        own.iter().for_each(|arg| writeln!(page, "| {} | {} |", spelling(arg), cell(&meaning(arg))).unwrap());
    }
    if !globals.is_empty() {
        let program = words.split(' ').next().unwrap_or_default();
        writeln!(page, "\nAnd the options of [`{program}`](#{program}) itself.").unwrap();
    }
}

/// Returns how an argument is written: `-o`, `--option VALUE`.
fn spelling(arg: &Arg) -> String {
    let value = arg.get_value_names().filter(|_| arg.get_action().takes_values()).unwrap_or_default();
    let value: String = value.iter().map(|name| format!(" {name}")).collect();
    if arg.is_positional() {
        return format!("`{}`", value.trim_start());
    }
    let short = arg.get_short().map(|short| format!("`-{short}`"));
    let long = arg.get_long().map(|long| format!("`--{long}{value}`"));
    short.into_iter().chain(long).collect::<Vec<_>>().join(", ")
}

fn meaning(arg: &Arg) -> String {
    let mut text = arg.get_help().map(|help| help.to_string().trim_end_matches('.').to_owned()).unwrap_or_default();
    let values: Vec<String> = arg
        .get_possible_values()
        .iter()
        .filter(|value| !value.is_hide_set())
        .map(|value| value.get_name().to_owned())
        .collect();
    if !values.is_empty() && arg.get_action().takes_values() {
        write!(text, ": {}", values.join(", ")).unwrap();
    }
    let defaults: Vec<String> =
        arg.get_default_values().iter().map(|value| value.to_string_lossy().into_owned()).collect();
    if !defaults.is_empty() && arg.get_action().takes_values() {
        write!(text, " [default: {}]", defaults.join(" ")).unwrap();
    }
    if let Some(aliases) = arg.get_visible_aliases().filter(|aliases| !aliases.is_empty()) {
        write!(text, " (also --{})", aliases.join(", --")).unwrap();
    }
    if let Some(variable) = arg.get_env() {
        write!(text, " [env: {}]", variable.to_string_lossy()).unwrap();
    }
    text
}

#[test]
fn the_manual_pages_are_fresh() {
    for program in [master::cli::commands()[0].clone(), Arguments::command(), minion::cli::command()] {
        let name = program.get_name().to_owned();
        let mut page = Vec::new();
        // Without a date and a version a page changes only when its text does.
        let manual = clap_mangen::Man::new(program).date("").source(format!("{name} (Halite)"));
        manual.render(&mut page).unwrap();
        expect_file(&format!("man/{name}.1"), &String::from_utf8(page).unwrap());
    }
}

#[test]
fn the_manual_can_be_written_whole() {
    let fleet = halite_tests::Fleet::new().start();
    let dir = fleet.site.dir().join("man");
    fleet.halite(&["man", "--dir", dir.to_str().unwrap()]).expect_code(0);
    for page in ["halite", "halite-key-accept", "halite-master", "halite-minion"] {
        let text = std::fs::read_to_string(dir.join(format!("{page}.1"))).unwrap();
        assert!(text.contains(".TH") && text.contains("Example"), "{page}: {text}");
    }
}
