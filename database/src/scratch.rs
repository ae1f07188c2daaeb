//! A server of our own on a prepared backup, to ask it about its tables.
//!
//! It listens on a socket in a private directory only, lets InnoDB write nothing
//! (`innodb_read_only`), takes part in no cluster and no replication, and dies with its handle. Of
//! the settings in the backup it believes those of [`crate::settings`]. It needs `mariadbd` on this
//! host; nothing is installed as a service. Only tried with MariaDB; a `mysqld` of MySQL 8 has other
//! options.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use chassis::failure::{Exit, Failure};
use mysql_async::prelude::Queryable;
use tempfile::TempDir;

use crate::options::OptionFile;
use crate::server::{block_on, connect};
use crate::settings::{SETTINGS_FILE, SETTINGS_LENGTH_MAX, Settings};
use crate::tablespace::TableName;

/// How long the server may take to start. A prepared backup needs no recovery, so it is quick.
pub const START_TIME_MAX: Duration = Duration::from_mins(2);

const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// How much of the server's log goes into an error, in bytes.
const LOG_SHOWN_MAX: usize = 2000;

/// A running server on a prepared backup.
#[derive(Debug)]
pub struct ScratchServer {
    child: Child,
    home: TempDir,
    options: OptionFile,
}

impl ScratchServer {
    /// Starts `program` (`mariadbd`, or a path to it) on a prepared directory and waits until it
    /// answers. Blocks.
    ///
    /// InnoDB's files stay as they are; the logs of Aria may be brought up to date.
    pub fn start(program: &Path, prepared: &Path) -> anyhow::Result<Self> {
        let prepared = std::path::absolute(prepared).context("make path of backup absolute")?;
        let home = tempfile::Builder::new()
            .prefix("holdfast-")
            .tempdir()
            .context("make directory for a socket")?;
        let socket = home.path().join("sock");
        let settings = settings(&prepared, home.path())?;
        let mut command = command(program, &prepared, home.path(), &socket, settings.as_deref());
        let log = File::create(home.path().join("log")).context("create log of scratch server")?;
        let child = command.stderr(log).spawn().map_err(|error| {
            Failure::new(Exit::Failed, format!("start {} on the backup", program.display()))
                .hint("install the package mariadb-server-core: it brings the server without starting a service")
                .because(error)
        })?;
        let options =
            OptionFile { user: Some("root".into()), socket: Some(socket), ..OptionFile::default() };
        let mut server = Self { child, home, options };
        server.wait_until_ready()?;
        Ok(server)
    }

    /// The statement that made a table, as `SHOW CREATE TABLE` tells it. Blocks.
    pub fn create_statement(&self, table: &TableName) -> anyhow::Result<String> {
        let query = format!("SHOW CREATE TABLE {}", table.quoted());
        block_on(&self.options, async {
            let mut connection = connect(&self.options).await?;
            // Without this the names and defaults of other character sets would come as question
            // marks.
            connection.query_drop("SET NAMES utf8mb4").await.context("set character set")?;
            let row: Option<(String, String)> = connection
                .query_first(query)
                .await
                .with_context(|| format!("ask for table {table}"))?;
            drop(connection.disconnect().await);
            Ok(row.with_context(|| format!("find table {table} in the backup"))?.1)
        })
    }

    fn wait_until_ready(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + START_TIME_MAX;
        loop {
            let answer = block_on(&self.options, async {
                let connection = connect(&self.options).await?;
                drop(connection.disconnect().await);
                Ok(())
            });
            if answer.is_ok() {
                return Ok(());
            }
            if let Some(status) = self.child.try_wait().context("look after scratch server")? {
                bail!("server on the backup ended with {status}: {}", self.last_words());
            }
            if Instant::now() > deadline {
                let seconds = START_TIME_MAX.as_secs();
                bail!("server on the backup did not start in {seconds} s: {}", self.last_words());
            }
            std::thread::sleep(POLL_INTERVAL);
        }
    }

    fn last_words(&self) -> String {
        let log = std::fs::read(self.home.path().join("log")).unwrap_or_default();
        let start = log.len().saturating_sub(LOG_SHOWN_MAX);
        String::from_utf8_lossy(&log[start..]).trim().to_owned()
    }
}

impl Drop for ScratchServer {
    fn drop(&mut self) {
        // It wrote nothing, so there is nothing to shut down.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The backup's own layout of InnoDB files, sifted and in a file of our own; none if it has none.
pub(crate) fn settings(prepared: &Path, home: &Path) -> anyhow::Result<Option<PathBuf>> {
    let file = match File::open(prepared.join(SETTINGS_FILE)) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).context("open settings of the backup"),
    };
    let mut text = Vec::new();
    file.take(SETTINGS_LENGTH_MAX).read_to_end(&mut text).context("read settings of the backup")?;
    let settings = Settings::sift(&String::from_utf8_lossy(&text));
    let path = home.join(SETTINGS_FILE);
    std::fs::write(&path, settings.text).context("write settings of the backup")?;
    Ok(Some(path))
}

fn command(
    program: &Path,
    prepared: &Path,
    home: &Path,
    socket: &Path,
    settings: Option<&Path>,
) -> Command {
    let path = |name: &str, value: &Path| -> std::ffi::OsString {
        let mut option = std::ffi::OsString::from(name);
        option.push(value);
        option
    };
    let pid_file: PathBuf = home.join("pid");
    let mut command = Command::new(program);
    // Nothing of the server that is installed here.
    command.arg(match settings {
        Some(settings) => path("--defaults-file=", settings),
        None => "--no-defaults".into(),
    });
    command.arg(path("--datadir=", prepared));
    command.arg(path("--socket=", socket)).arg(path("--pid-file=", &pid_file));
    // Not the directory of other servers: a server that starts removes all temporary tables there.
    command.arg(path("--tmpdir=", home));
    command.args([
        "--innodb-read-only",
        "--skip-grant-tables",
        "--skip-networking",
        "--skip-log-bin",
    ]);
    command.args([
        "--skip-slave-start",
        "--event-scheduler=OFF",
        "--loose-wsrep-on=OFF",
        "--loose-wsrep-provider=none",
    ]);
    command.args([
        "--innodb-buffer-pool-load-at-startup=OFF",
        "--innodb-buffer-pool-dump-at-shutdown=OFF",
    ]);
    if rustix::process::getuid().is_root() {
        command.arg("--user=root");
    }
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command
}
