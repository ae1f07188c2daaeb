//! The command line of `logshipd`: what can be typed, and who does it.

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use chassis::cli::{Stdout, forgive_closed_stdout};
use chassis::control::Client;
use chassis::failure::Exit;
use chassis::shutdown::Shutdown;
use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;

use crate::client;
use crate::config::{CONFIG_PATH, Config};
use crate::daemon;
use crate::dashboards;
use crate::discover::discover;
use crate::fault::Fault;
use crate::pipeline::FileStatus;
use crate::setup;

mod explain;
mod replay;

/// Ship logs to Elasticsearch or OpenSearch, each line once.
#[derive(Debug, Parser)]
#[command(name = "logshipd", version, max_term_width = 100)]
pub struct Arguments {
    /// The configuration
    #[arg(long, global = true, value_name = "FILE", default_value = CONFIG_PATH)]
    pub config: PathBuf,
    /// Print JSON instead of text; of an error too
    #[arg(long, global = true)]
    pub json: bool,
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// What `logshipd` can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Ship until a signal ends it
    Run {
        /// End when everything that is there now is delivered
        #[arg(long)]
        once: bool,
        /// Where a test has the program killed, as PLACE:TIMES
        #[arg(long, hide = true)]
        die_at: Option<String>,
    },
    /// Check the configuration
    Check,
    /// Show which logs this host has by the configuration of its servers, and why
    Discover {
        /// Where the file system of the host begins
        #[arg(long, value_name = "DIR", default_value = "/")]
        root: PathBuf,
    },
    /// Show how an entry would be taken apart and what would be sent; ends with 3 if its format does not fit
    Explain(explain::ExplainArguments),
    /// Send again what the store refused and was set aside
    Replay,
    /// Make the store ready: templates and lifecycle; prints the plan first
    Setup(setup::Options),
    /// Print the dashboards, to be imported in Kibana or OpenSearch Dashboards
    Dashboards,
    /// Show how far every file is shipped
    Status,
    /// Print completions for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Print the manual page
    Man {
        /// Write the pages of all commands into this directory
        #[arg(value_name = "DIR")]
        dir: Option<PathBuf>,
    },
}

/// Does what was asked for.
pub fn run(arguments: &Arguments) -> Result<Exit> {
    match &arguments.command {
        Command::Run { once, die_at } => {
            let config = Config::load(&arguments.config)?;
            let log = chassis::log::start(&config.log, "logshipd")?;
            let fault = die_at.as_deref().and_then(Fault::parse).unwrap_or_default();
            let exit = {
                let shutdown = Shutdown::default();
                runtime()?.block_on(daemon::run(&arguments.config, config, *once, fault, shutdown))
            };
            drop(log);
            exit
        }
        Command::Check => Config::load(&arguments.config).map(|_| Exit::Done),
        Command::Discover { root } => print(|out| {
            let found = discover(root);
            if arguments.json {
                return out.json(&found);
            }
            write!(out, "{found}").context("write standard output")
        }),
        Command::Explain(explained) => explain::run(explained, arguments.json),
        Command::Replay => replay::run(&Config::load(&arguments.config)?, arguments.json),
        Command::Setup(options) => set_up(arguments, options),
        Command::Dashboards => print(|out| {
            out.write_all(dashboards::ndjson().as_bytes()).context("write standard output")
        }),
        Command::Status => status(arguments),
        Command::Completions { shell } => {
            print(|out| chassis::cli::completions(Arguments::command(), *shell, out))
        }
        Command::Man { dir: Some(dir) } => {
            chassis::cli::man_pages(Arguments::command(), dir).map(|()| Exit::Done)
        }
        Command::Man { dir: None } => print(|out| chassis::cli::man(Arguments::command(), out)),
    }
}

fn set_up(arguments: &Arguments, options: &setup::Options) -> Result<Exit> {
    let config = Config::load(&arguments.config)?;
    let client = client::Client::new(&config.store)?;
    let store = setup::Store::new(|method: &str, path: &str, body: Option<&[u8]>| {
        client.call(method, path, body, false)
    });
    let show = |plan: &setup::Plan| {
        let shown = print(|out| {
            if arguments.json {
                return out.json(plan);
            }
            write!(out, "{plan}").context("write standard output")
        });
        shown.map(drop)
    };
    setup::run(&store, options, show).map(|_| Exit::Done)
}

fn status(arguments: &Arguments) -> Result<Exit> {
    let config = Config::load(&arguments.config)?;
    let client = Client::new(&config.control_socket, "logshipd");
    let files: Vec<FileStatus> = runtime()?.block_on(client.get_json("/status"))?;
    print(|out| {
        if arguments.json {
            return out.json(&files);
        }
        for file in &files {
            let behind = chassis::units::ByteSize(file.behind_bytes);
            writeln!(
                out,
                "{}  {}  {behind} behind, {:.0} s",
                file.path.display(),
                file.place,
                file.behind_seconds
            )
            .context("write standard output")?;
        }
        Ok(())
    })
}

fn print(write: impl FnOnce(&mut Stdout) -> Result<()>) -> Result<Exit> {
    let mut out = Stdout::default();
    let written = write(&mut out);
    forgive_closed_stdout(written.and_then(|()| out.finish())).map(|()| Exit::Done)
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("start the runtime")
}
