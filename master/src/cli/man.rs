//! `halite man`: the manual pages, made from the same text as `--help`. The daemons are no part of the command: their pages
//! are those in `man/`, which a test keeps fresh.

use std::path::PathBuf;

use anyhow::Context as _;

use super::exit;
use super::globals::Globals;
use super::out::Out;
use super::parse;

/// The pages of the daemons.
const DAEMONS: [(&str, &str); 2] = [
    ("halite-master.1", include_str!("../../../man/halite-master.1")),
    ("halite-minion.1", include_str!("../../../man/halite-minion.1")),
];

/// Print the manual page, or write all of them, the daemons' too, to a directory
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Examples:\n  halite man | man -l -\n  halite man --dir /usr/local/share/man/man1")]
pub(crate) struct ManArgs {
    /// Write a page for each program and verb to this directory
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
        for (name, page) in DAEMONS {
            std::fs::write(dir.join(name), page).with_context(write)?;
        }
        return Ok(exit::OK);
    }
    let mut page = Vec::new();
    clap_mangen::Man::new(command).render(&mut page)?;
    Out::without_format(&globals.output)?.text(&String::from_utf8(page)?)?;
    Ok(exit::OK)
}
