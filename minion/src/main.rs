//! `halite-minion`: hands the command line to `halite_minion::cli`. Nothing else happens here.

use std::process::ExitCode;

use halite_minion::executor::runas;
use halite_minion::{cli, host};

fn main() -> ExitCode {
    let mut args = std::env::args_os();
    // Before there is any thread: this process is about to become another program with another user's rights.
    if args.nth(1).is_some_and(|first| first == runas::SUBCOMMAND) {
        std::process::exit(runas::main(args));
    }
    host::keep_little_memory();
    cli::main(std::env::args_os())
}
