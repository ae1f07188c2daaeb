//! The command's program: arguments in, exit code out.

use std::process::ExitCode;

use backupd::command::{Arguments, run};
use chassis::failure::report;
use clap::Parser;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let json = arguments.json;
    run(arguments).unwrap_or_else(|error| report(&error, json)).into()
}
