//! A real MySQL on a scratch data directory, of the tree that `scripts/fetch-mysql` unpacks.
//!
//! It writes a binary log with GTIDs. The client is MariaDB's. A tree that is not there is an error that says how to
//! get it: no test passes without the server.

use std::ffi::OsString;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

use super::process::{free_address, run, wait_until};

/// A server. Its processes and files are gone when it is dropped, but for a data directory that it was started on.
#[derive(Debug)]
pub struct MySql {
    child: Option<Child>,
    home: TempDir,
    datadir: PathBuf,
    address: SocketAddr,
    extra: Vec<String>,
}

/// A program of the tree.
pub fn program(name: &str) -> Result<PathBuf> {
    let home = std::env::var_os("HOME").context("HOME is not set")?;
    let tree = Path::new(&home).join(".cache/holdfast/mysql");
    ensure!(
        tree.join("ready").exists(),
        "there is no MySQL in {}: run scripts/fetch-mysql, as scripts/test does",
        tree.display()
    );
    Ok(tree.join(name))
}

impl MySql {
    /// Starts a server on a new data directory, with further options; the last one of a name wins.
    pub fn start(extra: &[&str]) -> Result<Self> {
        let home = home()?;
        let datadir = home.path().join("data");
        let mut copy = Command::new("cp");
        copy.args(["-r", "--sparse=always", "--reflink=auto"]).arg(program("data")?).arg(&datadir);
        run(&mut copy, "").context("copy data directory")?;
        Self::launch(home, datadir, extra)
    }

    /// Starts a server on a directory that exists, such as a restored one.
    pub fn start_on(datadir: &Path, extra: &[&str]) -> Result<Self> {
        Self::launch(home()?, datadir.to_path_buf(), extra)
    }

    fn launch(home: TempDir, datadir: PathBuf, extra: &[&str]) -> Result<Self> {
        let extra = extra.iter().map(ToString::to_string).collect();
        let mut server = Self { child: None, home, datadir, address: free_address()?, extra };
        server.start_again()?;
        Ok(server)
    }

    /// Starts the server after [`stop`](Self::stop) or [`kill`](Self::kill), on the same socket and port.
    pub fn start_again(&mut self) -> Result<()> {
        let log = File::options().create(true).append(true).open(self.log())?;
        let mut command = Command::new(program("mysqld")?);
        command.args(["--innodb-buffer-pool-size=64M", "--innodb-redo-log-capacity=16M"]);
        command.args(["--innodb-flush-log-at-trx-commit=0", "--innodb-doublewrite=OFF"]);
        command.args(["--mysqlx=OFF", "--skip-name-resolve", "--performance-schema=OFF"]);
        command.args(["--log-bin=binlog", "--server-id=1"]);
        command.args(["--gtid-mode=ON", "--enforce-gtid-consistency=ON"]);
        if rustix::process::geteuid().is_root() {
            command.arg("--user=root");
        }
        command.arg(option("--datadir=", &self.datadir));
        command.arg(option("--socket=", &self.socket()));
        command.arg(option("--pid-file=", &self.home.path().join("pid")));
        command.arg(option("--tmpdir=", self.home.path()));
        command.arg("--bind-address=127.0.0.1").arg(format!("--port={}", self.address.port()));
        command.args(&self.extra);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        self.child = Some(command.spawn().context("start mysqld")?);
        wait_until("answers", || self.answers())
    }

    fn answers(&mut self) -> Result<bool> {
        let child = self.child.as_mut().context("the server was not started")?;
        if let Some(status) = child.try_wait()? {
            let log = fs::read_to_string(self.log()).unwrap_or_default();
            bail!("mysqld ended: {status}: {log}");
        }
        Ok(self.query("SELECT 1").is_ok())
    }

    /// The data directory.
    pub fn datadir(&self) -> &Path {
        &self.datadir
    }

    /// The socket.
    pub fn socket(&self) -> PathBuf {
        self.home.path().join("sock")
    }

    /// The loopback address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The server's error log.
    pub fn log(&self) -> PathBuf {
        self.home.path().join("log")
    }

    /// An option file, 0600, with these lines in `[client]`.
    pub fn option_file(&self, name: &str, lines: &str) -> Result<PathBuf> {
        use std::io::Write;
        let path = self.home.path().join(format!("{name}.cnf"));
        let mut file =
            File::options().create(true).write(true).truncate(true).mode(0o600).open(&path)?;
        file.write_all(format!("[client]\n{lines}\n").as_bytes())?;
        Ok(path)
    }

    /// Runs statements as `root`, in one session.
    pub fn sql(&self, statements: &str) -> Result<()> {
        self.query(statements).map(drop)
    }

    /// The rows of a query: columns separated by tabs, rows by newlines, without a head.
    pub fn query(&self, query: &str) -> Result<String> {
        let mut command = Command::new("mariadb");
        command.args(["--no-defaults", "--user=root", "--batch", "--raw", "--skip-column-names"]);
        command.arg("--default-character-set=utf8mb4").arg(option("--socket=", &self.socket()));
        run(&mut command, query)
    }

    /// The files of its binary log.
    pub fn binlogs(&self) -> Result<Vec<PathBuf>> {
        let names = self.query("SHOW BINARY LOGS")?;
        let names = names.lines().filter_map(|line| line.split('\t').next());
        Ok(names.map(|name| self.datadir.join(name)).collect())
    }

    /// Shuts down in order.
    pub fn stop(&mut self) -> Result<()> {
        self.sql("SHUTDOWN")?;
        let mut child = self.child.take().context("the server was not started")?;
        let status = child.wait()?;
        ensure!(status.success(), "mysqld ended with {status}");
        Ok(())
    }

    /// Ends the process at once, as a power cut does.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

impl Drop for MySql {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A socket's path may be 107 bytes long, so it is kept short.
fn home() -> Result<TempDir> {
    Ok(tempfile::Builder::new().prefix("my").tempdir()?)
}

fn option(name: &str, value: &Path) -> OsString {
    let mut option = OsString::from(name);
    option.push(value);
    option
}
