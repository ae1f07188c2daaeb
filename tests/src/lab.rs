//! A host: keys, a depot, a configuration, and the programs run on them.
#![expect(clippy::unwrap_used, reason = "what fails here fails the test that it is a part of")]

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::program::{Said, program};
use crate::servers::process::{free_address, wait_until};

/// A host. Everything on it is below one scratch directory.
#[derive(Debug)]
pub struct Lab {
    scratch: TempDir,
    recipient: String,
    address: SocketAddr,
}

impl Lab {
    /// A host with a file tree, an empty depot `vault`, and these tables in its configuration besides.
    pub fn new(tables: &str) -> Self {
        // The path of a socket has at most 107 bytes.
        let scratch = tempfile::Builder::new().prefix("bd").tempdir().unwrap();
        let mut lab = Self { scratch, recipient: String::new(), address: free_address().unwrap() };
        let identity = lab.path("identity");
        let made = lab.ctl(&["keys", "generate", "--output", identity.to_str().unwrap()]).expect(0);
        made.stdout.trim().clone_into(&mut lab.recipient);
        fs::create_dir(lab.path("www")).unwrap();
        fs::write(lab.path("www/index.php"), "<?php phpinfo();").unwrap();
        lab.configure(tables);
        lab.ctl(&["depot", "init"]).expect(0);
        lab
    }

    /// A host with the job `site` of its file tree; `lines` are further keys of the job.
    pub fn with_site(lines: &str) -> Self {
        let lab = Self::new("");
        lab.configure(&lab.site(lines));
        lab
    }

    /// The tables of the job `site`.
    pub fn site(&self, lines: &str) -> String {
        let root = self.path("www");
        format!("[jobs.site]\n{lines}\n[jobs.site.files]\nroot = '{}'\n", root.display())
    }

    /// Writes the configuration anew.
    pub fn configure(&self, tables: &str) {
        self.write_config("backupd.toml", "control.sock", self.address, "", tables);
    }

    /// The same with further keys of the depot `vault`.
    pub fn configure_vault(&self, vault: &str, tables: &str) {
        self.write_config("backupd.toml", "control.sock", self.address, vault, tables);
    }

    /// A second daemon's configuration: all is the same but for where it listens.
    pub fn configure_second(&self, socket: &str, tables: &str) -> PathBuf {
        self.write_config("second.toml", socket, free_address().unwrap(), "", tables);
        self.path("second.toml")
    }

    fn write_config(
        &self,
        name: &str,
        socket: &str,
        address: SocketAddr,
        vault: &str,
        tables: &str,
    ) {
        let dir = self.scratch.path().display();
        let recipient = &self.recipient;
        let text = format!(
            "host = 'web1'\nstate-dir = '{dir}/state'\ncontrol-socket = '{dir}/{socket}'\n\
             metrics-listen = '{address}'\nrecipients = ['{recipient}']\n[depots.vault]\n{vault}\n\
             [depots.vault.directory]\npath = '{dir}/depot'\n{tables}"
        );
        fs::write(self.path(name), text).unwrap();
    }

    /// A path below the scratch directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    /// The file of the secret key.
    pub fn identity(&self) -> String {
        self.path("identity").to_str().unwrap().to_owned()
    }

    /// Runs `backupctl`.
    pub fn ctl(&self, arguments: &[&str]) -> Said {
        ctl(&self.path("backupd.toml"), arguments)
    }

    /// `restore` with the host's configuration and secret key.
    pub fn restore_command(&self, arguments: &[&str]) -> Command {
        let identity = self.identity();
        let arguments = [&["--identity", identity.as_str()], arguments].concat();
        command("restore", &self.path("backupd.toml"), &arguments)
    }

    /// Runs it.
    pub fn restore(&self, arguments: &[&str]) -> Said {
        Said::of(&self.restore_command(arguments).output().unwrap())
    }

    /// The ids of all backups, from `backupctl list`.
    pub fn ids(&self) -> Vec<String> {
        let listed = self.ctl(&["list", "--json"]);
        let rows = listed.json();
        let id = |row: &Value| row["id"].as_str().unwrap().to_owned();
        rows.as_array().unwrap().iter().map(id).collect()
    }

    /// Starts the daemon and waits until it is up.
    pub fn start(&self) -> Daemon {
        self.start_with(&self.path("backupd.toml"), &[])
    }

    /// Starts a daemon with another configuration and environment.
    pub fn start_with(&self, config: &Path, environment: &[(&str, &Path)]) -> Daemon {
        let log = config.with_extension("log");
        let file = fs::File::create(&log).unwrap();
        let mut command = Command::new(program("backupd"));
        command.arg("--config").arg(config).envs(environment.iter().copied());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file);
        let child = command.spawn().unwrap();
        let daemon = Daemon { child, log, address: self.address };
        daemon.wait_log("backupd is up");
        daemon
    }
}

/// Runs `backupctl` with a configuration.
pub fn ctl(config: &Path, arguments: &[&str]) -> Said {
    Said::of(&ctl_command(config, arguments).output().unwrap())
}

/// `backupctl` with a configuration.
pub fn ctl_command(config: &Path, arguments: &[&str]) -> Command {
    command("backupctl", config, arguments)
}

fn command(name: &str, config: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(program(name));
    command.arg("--config").arg(config).args(arguments).stdin(Stdio::null());
    command
}

/// Runs a daemon that is expected to end by itself.
pub fn start_failing(config: &Path) -> Said {
    let mut command = Command::new(program("backupd"));
    Said::of(&command.arg("--config").arg(config).stdin(Stdio::null()).output().unwrap())
}

/// A running daemon; killed when dropped.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    log: PathBuf,
    address: SocketAddr,
}

impl Daemon {
    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits until it has logged these words.
    #[track_caller]
    pub fn wait_log(&self, words: &str) {
        wait_for(words, || self.log().contains(words), || self.log());
    }

    /// Waits for its end; returns its exit code.
    pub fn end(mut self) -> i32 {
        let mut code = None;
        wait_until("ends", || {
            code = self.child.try_wait()?.map(|status| status.code().unwrap_or(-1));
            Ok(code.is_some())
        })
        .unwrap_or_else(|error| panic!("{error}: {}", self.log()));
        code.unwrap()
    }

    /// Stops it in order.
    pub fn stop(self) {
        self.signal(Signal::TERM);
        assert_eq!(self.end(), 0);
    }

    /// Gets one of its pages.
    pub fn page(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(self.address).unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Waits until something is so; shows `context` if it never is.
#[track_caller]
pub fn wait_for(what: &str, is_so: impl Fn() -> bool, context: impl Fn() -> String) {
    wait_until(what, || Ok(is_so())).unwrap_or_else(|error| panic!("{error}: {}", context()));
}

/// A shell command as a hook.
pub fn shell(script: &str) -> String {
    format!("['/bin/sh', '-c', '''{script}''']")
}
