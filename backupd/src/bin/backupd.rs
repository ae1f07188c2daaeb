//! The daemon's program: arguments, configuration, log, and then the daemon until a signal ends it.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use backupd::config::Config;
use backupd::daemon::{self, Arguments};
use chassis::failure::{Exit, report};
use chassis::shutdown::Shutdown;
use clap::Parser;

/// What is still blocked after everything was asked to stop is left behind after this.
const ABANDON_AFTER: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    run(&arguments).unwrap_or_else(|error| report(&error, false)).into()
}

fn run(arguments: &Arguments) -> Result<Exit> {
    let config = Config::load(&arguments.config)?;
    if arguments.check {
        return Ok(Exit::Done);
    }
    let log = chassis::log::start(&config.log, "backupd")?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("start the runtime")?;
    let exit = runtime.block_on(daemon::run(&arguments.config, config, Shutdown::default()));
    runtime.shutdown_timeout(ABANDON_AFTER);
    if log.lines_lost() > 0 {
        tracing::warn!("the log file lacks {} lines: its disk was too slow", log.lines_lost());
    }
    exit
}
