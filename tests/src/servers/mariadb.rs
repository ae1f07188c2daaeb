//! A real MariaDB on a scratch data directory, with a socket and option files of its own.
//!
//! It needs the packages mariadb-server-core and mariadb-client, and no service. It is set for quick tests, not for
//! keeping data: nothing waits for the disk.

use std::ffi::OsString;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

use super::process::{free_address, run, wait_until};

/// How a server is started.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Whether it writes a binary log, into its data directory.
    pub log_bin: bool,
    /// Whether it listens on a loopback port too.
    pub tcp: bool,
    /// Further options for `mariadbd`, the last one of a name wins.
    pub extra: Vec<String>,
}

/// A server. Its processes and files are gone when it is dropped, but for a data directory that it was started on.
#[derive(Debug)]
pub struct MariaDb {
    child: Option<Child>,
    home: TempDir,
    datadir: PathBuf,
    address: Option<SocketAddr>,
    options: Options,
}

impl MariaDb {
    /// Makes an empty data directory (in about a second) and starts a server on it.
    pub fn start(options: Options) -> Result<Self> {
        let home = home()?;
        let datadir = home.path().join("data");
        let mut install = Command::new("mariadb-install-db");
        install.args(["--no-defaults", "--auth-root-authentication-method=normal"]);
        install.args(["--skip-test-db", "--skip-name-resolve", SMALL_REDO_LOG]);
        install.args(as_root()).arg(option("--datadir=", &datadir));
        install.arg(option("--tmpdir=", home.path()));
        run(&mut install, "").context("make data directory")?;
        Self::launch(home, datadir, options)
    }

    /// Starts a server on a directory that exists, such as a restored one; it stays when the server is dropped.
    pub fn start_on(datadir: &Path, options: Options) -> Result<Self> {
        Self::launch(home()?, datadir.to_path_buf(), options)
    }

    fn launch(home: TempDir, datadir: PathBuf, options: Options) -> Result<Self> {
        let address = options.tcp.then(free_address).transpose()?;
        let mut server = Self { child: None, home, datadir, address, options };
        server.start_again()?;
        Ok(server)
    }

    /// Starts the server after [`stop`](Self::stop) or [`kill`](Self::kill), on the same socket and port.
    pub fn start_again(&mut self) -> Result<()> {
        let log = File::options().create(true).append(true).open(self.log())?;
        let mut command = Command::new("mariadbd");
        command.args(["--no-defaults", "--innodb-buffer-pool-size=64M", SMALL_REDO_LOG]);
        command.args(["--innodb-flush-log-at-trx-commit=0", "--loose-innodb-doublewrite=OFF"]);
        command.args(as_root()).arg(option("--datadir=", &self.datadir));
        command.arg(option("--socket=", &self.socket()));
        command.arg(option("--pid-file=", &self.home.path().join("pid")));
        // Every server removes what other servers have in their temporary directory when it starts.
        command.arg(option("--tmpdir=", self.home.path()));
        match self.address {
            Some(address) => {
                command.arg("--bind-address=127.0.0.1").arg(format!("--port={}", address.port()))
            }
            None => command.arg("--skip-networking"),
        };
        if self.options.log_bin {
            command.args(["--log-bin=binlog", "--server-id=1", "--log-slave-updates"]);
        }
        command.args(&self.options.extra);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        self.child = Some(command.spawn().context("start mariadbd")?);
        wait_until("answers", || self.answers())
    }

    fn answers(&mut self) -> Result<bool> {
        let child = self.child.as_mut().context("the server was not started")?;
        if let Some(status) = child.try_wait()? {
            let log = fs::read_to_string(self.log()).unwrap_or_default();
            bail!("mariadbd ended: {status}: {log}");
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

    /// The loopback address, if it listens on one.
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// The server's error log.
    pub fn log(&self) -> PathBuf {
        self.home.path().join("log")
    }

    /// An option file, 0600, for `root` over the socket.
    pub fn option_file(&self) -> Result<PathBuf> {
        self.option_file_for("root", "")
    }

    /// An option file, 0600, for an account over the socket; without a password if it is empty.
    pub fn option_file_for(&self, user: &str, password: &str) -> Result<PathBuf> {
        use std::io::Write;
        let path = self.home.path().join(format!("{user}.cnf"));
        let mut text = format!("[client]\nuser={user}\nsocket={}\n", self.socket().display());
        if !password.is_empty() {
            text = format!("{text}password=\"{password}\"\n");
        }
        let mut file =
            File::options().create(true).write(true).truncate(true).mode(0o600).open(&path)?;
        file.write_all(text.as_bytes())?;
        Ok(path)
    }

    /// Runs statements as `root`, in one session.
    pub fn sql(&self, statements: &str) -> Result<()> {
        self.client(statements).map(drop)
    }

    /// The rows of a query: columns separated by tabs, rows by newlines, without a head.
    pub fn query(&self, query: &str) -> Result<String> {
        self.client(query)
    }

    fn client(&self, statements: &str) -> Result<String> {
        let mut command = Command::new("mariadb");
        command.args(["--no-defaults", "--user=root", "--batch", "--raw", "--skip-column-names"]);
        command.arg("--default-character-set=utf8mb4").arg(option("--socket=", &self.socket()));
        run(&mut command, statements)
    }

    /// Shuts down in order, as for a package upgrade.
    pub fn stop(&mut self) -> Result<()> {
        self.sql("SHUTDOWN")?;
        let mut child = self.child.take().context("the server was not started")?;
        let status = child.wait()?;
        ensure!(status.success(), "mariadbd ended with {status}");
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

impl Drop for MariaDb {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Quick to make and to copy.
const SMALL_REDO_LOG: &str = "--innodb-log-file-size=16M";

/// A socket's path may be 107 bytes long, so it is kept short.
fn home() -> Result<TempDir> {
    Ok(tempfile::Builder::new().prefix("mdb").tempdir()?)
}

/// `mariadbd` does not run as root unless told to.
fn as_root() -> Option<&'static str> {
    rustix::process::geteuid().is_root().then_some("--user=root")
}

fn option(name: &str, value: &Path) -> OsString {
    let mut option = OsString::from(name);
    option.push(value);
    option
}
