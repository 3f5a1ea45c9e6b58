//! `halite`: the operator's command.

use std::process::ExitCode;

fn main() -> ExitCode {
    halite_master::cli::main()
}
