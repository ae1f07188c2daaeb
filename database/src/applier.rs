//! A server of our own that brings a prepared backup forward: it replicates from a
//! [`BinlogServer`](crate::binlog_server::BinlogServer), with its own applier.
//!
//! It listens on a socket in a private directory only, takes part in no cluster, runs no events, and
//! never outlives whoever started it: a shell that waits with it ends it in order as soon as the
//! other end of a pipe is gone, were it by `kill -9`. Relay logs and whatever else replication needs
//! are in a directory of their own, so that nothing of it stays in the data.
//!
//! # Safety against crashes
//! What was replayed is told by the server's own table of positions, which each transaction changes
//! together with its rows. The log is written at each commit and flushed by the system
//! (`innodb_flush_log_at_trx_commit=2`): the death of a process loses nothing. The loss of the whole
//! host may; the caller must notice that, and begin again.
//!
//! It starts without accounts, so that it can be logged in to, and then reads them: statements about
//! accounts can be replayed.

mod command;
mod settings;

use std::fs::File;
use std::io::PipeWriter;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use chassis::failure::{Exit, Failure};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Row, Value};
use rustix::process::{Pid, Signal, kill_process_group};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use self::settings::Statements;
use crate::binlog_server::Login;
use crate::options::OptionFile;
use crate::replica::Have;
use crate::scratch::START_TIME_MAX;
use crate::server::connect;
use crate::version::Flavour;

/// How long a shutdown may take before the server is killed: all changed pages are written.
const STOP_TIME_MAX: Duration = Duration::from_mins(10);
/// How long one answer may take.
const ANSWER_TIME_MAX: Duration = Duration::from_mins(2);
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// How much of the server's log goes into an error, in bytes.
const LOG_SHOWN_MAX: usize = 2000;
/// The server's log, in its directory.
const LOG: &str = "log";

/// How the server is started.
#[derive(Debug)]
pub struct ApplierOptions<'a> {
    /// `mariadbd` or `mysqld`, or a path to it.
    pub program: &'a Path,
    /// Who made the server that the backup is of.
    pub flavour: Flavour,
    /// The prepared backup; absolute.
    pub prepared: &'a Path,
    /// A private directory for relay logs and the server's log; absolute. It must be on
    /// a disk with room for relay logs.
    pub home: &'a Path,
    /// Memory for pages, in bytes.
    pub memory_bytes: u64,
    /// How many transactions may be applied at once.
    pub workers: usize,
    /// Whether what is replayed is written into a binary log of the restored server.
    pub log_bin: bool,
}

/// A running server.
#[derive(Debug)]
pub struct Applier {
    child: Child,
    /// The server ends when this is gone.
    tether: Option<PipeWriter>,
    home: PathBuf,
    /// The path of a socket must be short.
    socket: TempDir,
    runtime: Runtime,
    connection: Option<Conn>,
    statements: Statements,
    flavour: Flavour,
}

/// How the replay stands.
#[derive(Clone, Debug)]
pub struct Progress {
    /// All that is applied.
    pub have: Have,
    /// Why it does not go on, if it does not.
    pub error: Option<String>,
}

impl Applier {
    /// Starts a server and waits until it answers. Blocks. The server holds `lock` until it ends.
    pub fn start(options: &ApplierOptions<'_>, lock: Stdio) -> Result<Self> {
        let (reader, tether) = std::io::pipe().context("make pipe")?;
        let log = File::create(options.home.join(LOG)).context("create log of the server")?;
        let socket = tempfile::Builder::new().prefix("holdfast-").tempdir();
        let socket = socket.context("make directory for a socket")?;
        let mut command = command::command(options, socket.path())?;
        let started = command.stdin(lock).stdout(reader).stderr(log).spawn();
        let child = started.context("start a shell for the server")?;
        drop(command);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let mut applier = Self {
            child,
            tether: Some(tether),
            home: options.home.to_owned(),
            socket,
            runtime: runtime.context("start the runtime of a connection")?,
            connection: None,
            statements: Statements::of(options.flavour),
            flavour: options.flavour,
        };
        applier.connect()?;
        // From here on there are accounts again; this connection keeps its rights.
        applier.execute("FLUSH PRIVILEGES").context("read accounts")?;
        applier.execute("SET SESSION wait_timeout = 31536000").context("set up connection")?;
        Ok(applier)
    }

    fn connect(&mut self) -> Result<()> {
        let options = OptionFile {
            user: Some("root".into()),
            socket: Some(self.socket.path().join(command::SOCKET)),
            ..OptionFile::default()
        };
        let deadline = Instant::now() + START_TIME_MAX;
        loop {
            if let Ok(connection) = self.runtime.block_on(connect(&options)) {
                self.connection = Some(connection);
                return Ok(());
            }
            if let Some(status) = self.child.try_wait().context("look after the server")? {
                let words = self.last_words();
                let message = format!("server on the backup ended with {status}: {words}");
                return Err(Failure::new(Exit::Failed, message)
                    .hint("it must be of the series that the backup is of: the package mariadb-server-core, or --server PROGRAM")
                    .into());
            }
            if Instant::now() > deadline {
                let seconds = START_TIME_MAX.as_secs();
                bail!("server on the backup did not start in {seconds} s: {}", self.last_words());
            }
            thread::sleep(POLL_INTERVAL);
        }
    }

    fn last_words(&self) -> String {
        let log = std::fs::read(self.home.join(LOG)).unwrap_or_default();
        let start = log.len().saturating_sub(LOG_SHOWN_MAX);
        String::from_utf8_lossy(&log[start..]).trim().to_owned()
    }

    fn execute(&mut self, statement: &str) -> Result<()> {
        self.rows(statement).map(drop)
    }

    fn rows(&mut self, statement: &str) -> Result<Vec<Row>> {
        let Self { runtime, connection, .. } = self;
        let connection = connection.as_mut().context("the server is stopped")?;
        let asked = runtime.block_on(async {
            tokio::time::timeout(ANSWER_TIME_MAX, connection.query(statement)).await
        });
        let first = statement.split_whitespace().take(3).collect::<Vec<_>>().join(" ");
        let seconds = ANSWER_TIME_MAX.as_secs();
        let answer = asked.with_context(|| format!("wait {seconds} s for `{first}`"))?;
        answer.with_context(|| format!("execute `{first}`"))
    }

    fn text(&mut self, statement: &str) -> Result<String> {
        let rows = self.rows(statement)?;
        let value = rows.first().and_then(|row| row.as_ref(0)).map(text_of);
        value.context("the server gave no answer")
    }

    /// The server's version.
    pub fn version(&mut self) -> Result<String> {
        self.text("SELECT VERSION()")
    }

    /// All that is applied, as the data themselves say.
    pub fn have(&mut self) -> Result<Have> {
        let text = self.text(self.statements.have)?;
        Have::parse(self.flavour, &text).context("read position of the server")
    }

    /// Says where the backup stands.
    pub fn set_have(&mut self, have: &Have) -> Result<()> {
        for statement in self.statements.set_have(have) {
            self.execute(&statement).context("set position of the backup")?;
        }
        let set = self.have()?.to_set();
        ensure!(set == have.to_set(), "the server stands at {set} and not at {have}");
        Ok(())
    }

    /// Begins to replicate.
    pub fn follow(&mut self, login: &Login) -> Result<()> {
        for statement in self.statements.follow(login) {
            self.execute(&statement).context("start replay")?;
        }
        Ok(())
    }

    /// How it stands.
    pub fn progress(&mut self) -> Result<Progress> {
        let have = self.have()?;
        let rows = self.rows(self.statements.status)?;
        let row = rows.first().context("the server does not replicate")?;
        let value = |name: &str| row.get_opt::<Value, _>(name).and_then(Result::ok);
        let text = |name: &str| value(name).map(|value| text_of(&value)).unwrap_or_default();
        let is_ended = text(self.statements.applier_runs) == "No";
        let mut error = text("Last_SQL_Error");
        // A connection that breaks is made again; only what is refused for good ends it.
        if text(self.statements.receiver_runs) == "No" {
            error = format!("{error} {}", text("Last_IO_Error")).trim().into();
            if error.is_empty() {
                "the receiver has stopped".clone_into(&mut error);
            }
        } else if is_ended && error.is_empty() {
            "the applier has stopped".clone_into(&mut error);
        } else if !is_ended {
            error.clear();
        }
        Ok(Progress { have, error: (!error.is_empty()).then_some(error) })
    }

    /// Branches of distributed transactions that were prepared and neither committed nor rolled back.
    pub fn prepared(&mut self) -> Result<Vec<String>> {
        let rows = self.rows("XA RECOVER")?;
        Ok(rows.iter().filter_map(|row| row.as_ref(3)).map(text_of).collect())
    }

    /// Ends replication and forgets that there was any, and shuts the server down in order.
    pub fn finish(mut self) -> Result<()> {
        for statement in self.statements.end {
            self.execute(statement).context("end replay")?;
        }
        self.stop()
    }

    fn stop(&mut self) -> Result<()> {
        if let Some(connection) = self.connection.take() {
            drop(self.runtime.block_on(connection.disconnect()));
        }
        drop(self.tether.take());
        let deadline = Instant::now() + STOP_TIME_MAX;
        loop {
            if let Some(status) = self.child.try_wait().context("wait for the server")? {
                let words = self.last_words();
                ensure!(
                    is_clean(&self.home),
                    "the server did not stop in order ({status}): {words}"
                );
                return Ok(());
            }
            if Instant::now() > deadline {
                kill_process_group(Pid::from_child(&self.child), Signal::KILL).ok();
                self.child.wait().context("wait for the server")?;
                bail!("the server did not stop in {} s", STOP_TIME_MAX.as_secs());
            }
            thread::sleep(POLL_INTERVAL);
        }
    }
}

impl Drop for Applier {
    fn drop(&mut self) {
        if self.tether.is_some()
            && let Err(error) = self.stop()
        {
            tracing::warn!("{error:#}");
        }
    }
}

/// Whether the last server in a directory was shut down in order, by the last words of its log.
pub fn is_clean(home: &Path) -> bool {
    let log = std::fs::read(home.join(LOG)).unwrap_or_default();
    let start = log.len().saturating_sub(LOG_SHOWN_MAX);
    String::from_utf8_lossy(&log[start..]).contains("Shutdown complete")
}

fn text_of(value: &Value) -> String {
    match value {
        Value::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Value::NULL => String::new(),
        other => other.as_sql(true).trim_matches('\'').to_owned(),
    }
}
