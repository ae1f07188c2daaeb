//! A real OpenSSH server on a loopback port of its own, with keys and a configuration of its own. Needs root.
//!
//! It serves only SFTP, to two accounts: one that may do everything, and the append-only one of
//! `docs/operations.md`, which can add files and never change one.

use std::fs::{self, Permissions};
use std::net::SocketAddr;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use chassis::units::Span;
use depot::store::sftp::SftpConfig;
use rustix::process::Signal;
use tempfile::TempDir;

use super::accounts::{APPEND_ONLY, Accounts, NORMAL};
use super::process::{Process, free_address, run};

/// Not below /tmp: the server refuses to confine an account in a directory below one that all may write to.
const PARENT: &str = "/var/lib";
/// The host keys of the server, the one that `known_hosts` holds first.
const HOST_KEYS: [&str; 3] = ["ed25519", "rsa", "ecdsa"];
const FORCED: &str = "internal-sftp -l INFO";
const APPEND_FORCED: &str = "internal-sftp -l INFO -u 0222 \
    -P remove,rmdir,mkdir,rename,posix-rename,setstat,fsetstat,lsetstat,symlink,hardlink";

/// One of the two accounts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Account {
    /// May do everything.
    Normal,
    /// Can add files only.
    AppendOnly,
}

impl Account {
    /// The name to log in with.
    pub fn user(self) -> &'static str {
        match self {
            Self::Normal => NORMAL,
            Self::AppendOnly => APPEND_ONLY,
        }
    }
}

/// A way to log in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Login<'a> {
    /// The account's password.
    Password,
    /// A key file without passphrase.
    Key,
    /// A key file with a passphrase.
    LockedKey,
    /// An agent that holds the key.
    Agent(&'a Agent),
}

/// The server. Everything of it is gone when it is dropped.
#[derive(Debug)]
pub struct Sshd {
    // Dropped in this order: the process first, the accounts last.
    process: Option<Process>,
    dir: TempDir,
    address: SocketAddr,
    _accounts: Accounts,
}

impl Sshd {
    /// Starts a server with new host keys and empty accounts.
    pub fn start() -> Result<Self> {
        let accounts = Accounts::acquire()?;
        let dir = tempfile::Builder::new().prefix("holdfast-sshd-").tempdir_in(PARENT)?;
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755))?;
        write_private(&dir.path().join("password"), accounts.password())?;
        write_private(&dir.path().join("passphrase"), "open sesame")?;
        let mut server = Self { process: None, dir, address: free_address()?, _accounts: accounts };
        server.make_login_keys()?;
        server.make_folders()?;
        server.make_host_keys()?;
        server.run().context("start sshd")?;
        Ok(server)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The TCP port.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// The known_hosts file with the server's first key of the moment.
    pub fn known_hosts(&self) -> PathBuf {
        self.path("known_hosts")
    }

    /// Writes a known_hosts file of another name with one of the server's keys: `ed25519`, `rsa` or `ecdsa`.
    pub fn known_hosts_of(&self, kind: &str) -> Result<PathBuf> {
        let file = self.path(&format!("known_hosts.{kind}"));
        self.write_known_hosts(&file, kind)?;
        Ok(file)
    }

    fn write_known_hosts(&self, file: &Path, kind: &str) -> Result<()> {
        let key = fs::read_to_string(self.path(&format!("host_{kind}.pub")))?;
        Ok(fs::write(file, format!("[127.0.0.1]:{} {key}", self.port()))?)
    }

    /// Where the account's depot is on the disk of this machine.
    pub fn folder(&self, account: Account) -> PathBuf {
        self.path(account.user()).join("depot")
    }

    /// Makes a folder in the account's depot, as the administrator would.
    pub fn make_folder(&self, account: Account, name: &str) -> Result<()> {
        let mut path = self.folder(account);
        for segment in name.split('/') {
            path.push(segment);
            if !path.is_dir() {
                fs::create_dir(&path)?;
                give(&path, account)?;
            }
        }
        Ok(())
    }

    /// How a store reaches the account.
    pub fn config(&self, account: Account, login: Login<'_>) -> SftpConfig {
        let mut config = SftpConfig {
            host: "127.0.0.1".to_owned(),
            port: self.port(),
            user: account.user().to_owned(),
            path: match account {
                Account::Normal => self.folder(account).display().to_string(),
                Account::AppendOnly => "/depot".to_owned(),
            },
            password_file: None,
            key_file: None,
            passphrase_file: None,
            agent: false,
            agent_socket: None,
            known_hosts: Some(self.known_hosts()),
            connections: 2,
            timeout: Span::from_secs(10),
            keepalive: Span::from_secs(15),
        };
        match login {
            Login::Password => config.password_file = Some(self.path("password")),
            Login::Key => config.key_file = Some(self.path("login")),
            Login::LockedKey => {
                config.key_file = Some(self.path("login_locked"));
                config.passphrase_file = Some(self.path("passphrase"));
            }
            Login::Agent(agent) => {
                config.agent = true;
                config.agent_socket = Some(agent.socket());
            }
        }
        config
    }

    /// The same through a line that leads to the server, as a depot's table of a configuration.
    pub fn table(&self, account: Account, login: Login<'_>, line: SocketAddr) -> Result<String> {
        let known_hosts = self.path("known_hosts.line");
        let key = fs::read_to_string(self.path(&format!("host_{}.pub", HOST_KEYS[0])))?;
        fs::write(&known_hosts, format!("[127.0.0.1]:{} {key}", line.port()))?;
        let config = self.config(account, login);
        let mut table = format!(
            "host = '127.0.0.1'\nport = {}\nuser = '{}'\npath = '{}'\nknown-hosts = '{}'\n\
             timeout = '3s'\n",
            line.port(),
            config.user,
            config.path,
            known_hosts.display(),
        );
        let files = [("password-file", config.password_file), ("key-file", config.key_file)];
        for (key, file) in files.into_iter().filter_map(|(key, file)| Some((key, file?))) {
            table.extend([key, " = '", &file.display().to_string(), "'\n"]);
        }
        Ok(table)
    }

    /// The account's password.
    pub fn password(&self) -> Result<String> {
        Ok(fs::read_to_string(self.path("password"))?)
    }

    /// Lets the account add to its depot and read in it, as `docs/operations.md` tells the administrator to after
    /// `depot init`.
    pub fn open_depot(&self, account: Account) -> Result<()> {
        let folder = self.folder(account);
        run(Command::new("chgrp").args(["-R", account.user()]).arg(&folder), "")?;
        let mut command = Command::new("find");
        command.arg(&folder).args(["-type", "d", "-exec", "chmod", "2770", "{}", "+"]);
        run(&mut command, "").map(drop)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The private key without passphrase.
    pub fn key_file(&self) -> PathBuf {
        self.path("login")
    }

    /// Cuts all connections at once, and returns how many processes of the server were killed for it.
    pub fn kill_sessions(&self) -> usize {
        self.signal_sessions(Signal::KILL)
    }

    /// Makes all connections fall silent, as if the line were dead.
    pub fn freeze_sessions(&self) -> usize {
        self.signal_sessions(Signal::STOP)
    }

    fn signal_sessions(&self, signal: Signal) -> usize {
        self.process.as_ref().map_or(0, |process| process.signal_descendants(signal))
    }

    /// Stops the server and cuts all connections.
    pub fn stop(&mut self) {
        self.process = None;
    }

    /// Starts the server again after [`stop`](Self::stop), on the same port.
    pub fn start_again(&mut self) -> Result<()> {
        self.run()
    }

    /// Restarts the server with other host keys; `known_hosts` keeps the old one.
    pub fn change_host_keys(&mut self) -> Result<()> {
        self.stop();
        let old = fs::read(self.known_hosts())?;
        self.make_host_keys()?;
        fs::write(self.known_hosts(), old)?;
        self.run()
    }

    fn run(&mut self) -> Result<()> {
        fs::create_dir_all("/run/sshd")?;
        let config = self.path("sshd_config");
        fs::write(&config, self.sshd_config())?;
        // The server runs itself anew for each connection: it wants its absolute path.
        let mut command = Command::new("/usr/sbin/sshd");
        command.args(["-D", "-e", "-f"]).arg(&config);
        let log = self.path("log");
        let mut process = Process::start(&mut command, &log)?;
        if let Err(error) = process.wait_listening(self.address) {
            bail!("{error:#}\n{}", fs::read_to_string(log).unwrap_or_default());
        }
        self.process = Some(process);
        Ok(())
    }

    fn sshd_config(&self) -> String {
        let dir = self.dir.path().display();
        let keys = HOST_KEYS.map(|kind| format!("HostKey {dir}/host_{kind}")).join("\n");
        format!(
            "ListenAddress {}\n{keys}\nPidFile none\nUsePAM no\nStrictModes no\nLogLevel VERBOSE\n\
             AllowUsers {NORMAL} {APPEND_ONLY}\nAuthorizedKeysFile {dir}/authorized_keys\n\
             PasswordAuthentication yes\nKbdInteractiveAuthentication no\nMaxStartups 100\n\
             AllowTcpForwarding no\nX11Forwarding no\nPermitTTY no\n\
             Subsystem sftp internal-sftp\n\
             Match User {NORMAL}\n    ForceCommand {FORCED}\n\
             Match User {APPEND_ONLY}\n    ChrootDirectory {dir}/{APPEND_ONLY}\n    \
             ForceCommand {APPEND_FORCED}\n",
            self.address,
        )
    }

    fn make_host_keys(&self) -> Result<()> {
        for kind in HOST_KEYS {
            make_key(&self.path(&format!("host_{kind}")), kind, "")?;
        }
        self.write_known_hosts(&self.known_hosts(), HOST_KEYS[0])
    }

    fn make_login_keys(&self) -> Result<()> {
        make_key(&self.path("login"), "ed25519", "")?;
        make_key(&self.path("login_locked"), "ed25519", "open sesame")?;
        let keys = fs::read_to_string(self.path("login.pub"))?
            + &fs::read_to_string(self.path("login_locked.pub"))?;
        Ok(fs::write(self.path("authorized_keys"), keys)?)
    }

    fn make_folders(&self) -> Result<()> {
        for account in [Account::Normal, Account::AppendOnly] {
            fs::create_dir_all(self.folder(account))?;
            give(&self.folder(account), account)?;
        }
        Ok(())
    }
}

/// An SSH agent that holds the key which the server knows.
#[derive(Debug)]
pub struct Agent {
    _process: Process,
    dir: TempDir,
}

impl PartialEq for Agent {
    fn eq(&self, other: &Self) -> bool {
        self.dir.path() == other.dir.path()
    }
}

impl Eq for Agent {}

impl Agent {
    /// Starts an agent, and gives it a key if there is one.
    pub fn start(key: Option<&Path>) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let socket = dir.path().join("socket");
        let mut command = Command::new("ssh-agent");
        command.arg("-D").arg("-a").arg(&socket);
        let process = Process::start(&mut command, &dir.path().join("log"))?;
        super::process::wait_until("listens", || Ok(socket.exists()))?;
        if let Some(key) = key {
            run(Command::new("ssh-add").arg(key).env("SSH_AUTH_SOCK", &socket), "")?;
        }
        Ok(Self { _process: process, dir })
    }

    /// Its socket.
    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("socket")
    }
}

fn make_key(path: &Path, kind: &str, passphrase: &str) -> Result<()> {
    for old in [path.to_owned(), path.with_extension("pub")] {
        drop(fs::remove_file(old));
    }
    let mut command = Command::new("ssh-keygen");
    command.args(["-q", "-t", kind, "-N", passphrase, "-C", "test", "-f"]).arg(path);
    if kind == "rsa" {
        command.args(["-b", "2048"]);
    }
    run(&mut command, "").map(drop)
}

fn write_private(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text)?;
    Ok(fs::set_permissions(path, Permissions::from_mode(0o600))?)
}

fn give(path: &Path, account: Account) -> Result<()> {
    let id = |option| -> Result<u32> {
        Ok(run(Command::new("id").args([option, account.user()]), "")?.parse()?)
    };
    Ok(chown(path, Some(id("-u")?), Some(id("-g")?))?)
}
