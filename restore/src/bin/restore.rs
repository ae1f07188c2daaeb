//! `restore`: brings a backup back. The plot is in `restore::command`.

use std::process::ExitCode;

use anyhow::{Context, Result};
use chassis::failure::{Exit, report};
use chassis::log::LogConfig;
use chassis::shutdown::Shutdown;
use clap::Parser;
use restore::command::{Arguments, run};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let json = arguments.json;
    match main_inner(&arguments) {
        Ok(exit) => exit.into(),
        Err(error) => report(&error, json).into(),
    }
}

fn main_inner(arguments: &Arguments) -> Result<Exit> {
    let log = chassis::log::start(&LogConfig::default(), "restore")?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .context("start runtime for signals")?;
    let shutdown = Shutdown::default();
    let guard = runtime.enter();
    shutdown.signals()?;
    drop(guard);
    run(arguments, &shutdown.stop(), &log.bars, chrono::Utc::now())
}
