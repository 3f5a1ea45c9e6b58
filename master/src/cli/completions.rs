//! `halite completions SHELL`: what a shell needs to complete our words.

use clap_complete::Shell;

use super::exit;
use super::globals::Globals;
use super::out::Out;
use super::parse;

/// Print completions for a shell
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Example:\n  halite completions bash > /etc/bash_completion.d/halite")]
pub(crate) struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

/// Prints the script.
pub(super) fn run(globals: &Globals, args: &CompletionsArgs) -> anyhow::Result<u8> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut parse::documented(), "halite", &mut script);
    Out::without_format(&globals.output)?.text(&String::from_utf8(script)?)?;
    Ok(exit::OK)
}
