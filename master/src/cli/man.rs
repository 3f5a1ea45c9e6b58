//! `halite man`: the manual pages, made from the same text as `--help`.

use std::path::PathBuf;

use anyhow::Context as _;

use super::exit;
use super::globals::Globals;
use super::out::Out;
use super::parse;

/// Print the manual page, or write all of them to a directory
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Examples:\n  halite man | man -l -\n  halite man --dir /usr/local/share/man/man1")]
pub(crate) struct ManArgs {
    /// Write one page per verb to this directory
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// Prints or writes the pages.
pub(super) fn run(globals: &Globals, args: &ManArgs) -> anyhow::Result<u8> {
    let command = parse::documented();
    if let Some(dir) = &args.dir {
        let write = || format!("write manual pages to {}", dir.display());
        std::fs::create_dir_all(dir).with_context(write)?;
        clap_mangen::generate_to(command, dir).with_context(write)?;
        return Ok(exit::OK);
    }
    let mut page = Vec::new();
    clap_mangen::Man::new(command).render(&mut page)?;
    Out::without_format(&globals.output)?.text(&String::from_utf8(page)?)?;
    Ok(exit::OK)
}
