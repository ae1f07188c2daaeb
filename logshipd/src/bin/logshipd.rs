//! The program: arguments in, exit code out.

use std::process::ExitCode;

use chassis::failure::report;
use clap::Parser;
use logshipd::command::{Arguments, run};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    run(&arguments).unwrap_or_else(|error| report(&error, arguments.json)).into()
}
