//! The command line of `backupctl`: what can be typed, and who does it.
//!
//! One module a command. `now` speaks with the daemon, and `status` where it can; all others work when it is dead.
//! Data goes to standard output, everything else to standard error.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use chassis::failure::Exit;
use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use depot::names::{JobName, SnapshotId};

use crate::config::{CONFIG_PATH, Config, DepotName};

mod check;
mod depots;
mod export;
mod keep;
mod keys;
mod list;
mod logs;
mod now;
mod output;
mod prove;
mod prune;
mod schedule;
mod show;
mod status;
mod survey;
mod verify;

/// Ask for backups, see what there is, and prove it.
#[derive(Debug, Parser)]
#[command(name = "backupctl", version, max_term_width = 100)]
pub struct Arguments {
    /// The configuration of the daemon
    #[arg(long, global = true, value_name = "FILE", default_value = CONFIG_PATH)]
    pub config: PathBuf,
    /// Print JSON instead of text; of an error too
    #[arg(long, global = true)]
    pub json: bool,
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// What `backupctl` can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Back up now, and wait for the end
    Now(now::NowArguments),
    /// Show what can be restored, how the last runs ended, and what comes next
    Status,
    /// List the backups in the depots
    List(list::ListArguments),
    /// Show one backup
    Show(show::ShowArguments),
    /// Show the next runs
    Schedule(schedule::ScheduleArguments),
    /// Check that everything a backup needs is there
    Check {
        /// Only these jobs
        jobs: Vec<JobName>,
    },
    /// Check what is stored; without any key
    Verify(verify::VerifyArguments),
    /// Delete what the retention rules let go
    Prune(prune::PruneArguments),
    /// Mark a backup so that it is never deleted
    Keep(keep::KeepArguments),
    /// Write a backup as a tar file
    Export(export::ExportArguments),
    /// Work on depots
    #[command(subcommand)]
    Depot(depots::DepotCommand),
    /// Work on the keys that open backups
    #[command(subcommand)]
    Keys(keys::KeysCommand),
    /// Print completions for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Print the manual page
    Man {
        /// Write the pages of all commands, and of backupd, into this directory
        #[arg(value_name = "DIR")]
        dir: Option<PathBuf>,
    },
}

/// What every command may use.
#[derive(Clone, Debug)]
pub struct Context {
    /// Where the configuration is.
    pub config_path: PathBuf,
    /// Whether to print JSON.
    pub json: bool,
}

impl Context {
    /// Reads the configuration.
    pub fn config(&self) -> Result<Config> {
        Config::load(&self.config_path)
    }
}

/// Does what was asked for.
pub fn run(arguments: Arguments) -> Result<Exit> {
    let context = Context { config_path: arguments.config, json: arguments.json };
    match arguments.command {
        Command::Now(arguments) => now::run(&context, &arguments),
        Command::Status => status::run(&context),
        Command::List(arguments) => list::run(&context, &arguments),
        Command::Show(arguments) => show::run(&context, &arguments),
        Command::Schedule(arguments) => schedule::run(&context, &arguments),
        Command::Check { jobs } => check::run(&context, &jobs),
        Command::Verify(arguments) => verify::run(&context, &arguments),
        Command::Prune(arguments) => prune::run(&context, &arguments),
        Command::Keep(arguments) => keep::run(&context, &arguments),
        Command::Export(arguments) => export::run(&context, &arguments),
        Command::Depot(command) => depots::run(&context, &command),
        Command::Keys(command) => keys::run(&context, &command),
        Command::Completions { shell } => {
            output::with_stdout(|out| chassis::cli::completions(Arguments::command(), shell, out))?;
            Ok(Exit::Done)
        }
        Command::Man { dir: Some(dir) } => {
            chassis::cli::man_pages(Arguments::command(), &dir)?;
            chassis::cli::man_pages(crate::daemon::Arguments::command(), &dir)?;
            Ok(Exit::Done)
        }
        Command::Man { dir: None } => {
            output::with_stdout(|out| chassis::cli::man(Arguments::command(), out))?;
            Ok(Exit::Done)
        }
    }
}

/// For the few commands that speak with the daemon.
fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("start the runtime")
}

/// A backup as it is named on the command line.
type Id = SnapshotId;
