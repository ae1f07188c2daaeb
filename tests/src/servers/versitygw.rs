//! A real S3 server: `versitygw` with its files in a scratch directory, on a loopback port of its own.
//!
//! The program is the one that `$HOLDFAST_VERSITYGW` names, or that the build put into the user's cache, or the first
//! in the path.

use std::fs::{self, Permissions};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};
use chassis::units::Span;
use depot::store::s3::S3Config;
use tempfile::TempDir;

use super::accounts::random_password;
use super::process::{Process, free_address};

/// The bucket that every server begins with.
pub const BUCKET: &str = "depot";

const ACCESS_KEY: &str = "holdfast-test";

/// The server. Everything of it is gone when it is dropped.
#[derive(Debug)]
pub struct VersityGw {
    process: Option<Process>,
    dir: TempDir,
    address: SocketAddr,
    secret_key: String,
}

impl VersityGw {
    /// Starts a server with one empty bucket and a new key pair.
    pub fn start() -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let secret_key = random_password()?;
        fs::create_dir_all(dir.path().join("data").join(BUCKET))?;
        let mut server = Self { process: None, dir, address: free_address()?, secret_key };
        server.write_credentials("credentials", &server.secret_key)?;
        server.write_credentials("wrong-credentials", "not the secret")?;
        server.start_again()?;
        Ok(server)
    }

    fn write_credentials(&self, name: &str, secret: &str) -> Result<()> {
        let path = self.dir.path().join(name);
        let text = format!(
            "[default]\naws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {secret}\n"
        );
        fs::write(&path, text)?;
        Ok(fs::set_permissions(path, Permissions::from_mode(0o600))?)
    }

    /// Stops the server; its files stay.
    pub fn stop(&mut self) {
        self.process = None;
    }

    /// Starts it again after [`stop`](Self::stop), on the same port.
    pub fn start_again(&mut self) -> Result<()> {
        let mut command = Command::new(program());
        command.arg("--port").arg(self.address.to_string()).args(["--quiet", "posix"]);
        command.arg(self.dir.path().join("data"));
        command.env("ROOT_ACCESS_KEY", ACCESS_KEY).env("ROOT_SECRET_KEY", &self.secret_key);
        let log = self.dir.path().join("log");
        let mut process = Process::start(&mut command, &log)
            .context("versitygw: `go install github.com/versity/versitygw/cmd/versitygw@v1.8.0`")?;
        if let Err(error) = process.wait_listening(self.address) {
            bail!("start versitygw: {error:#}\n{}", fs::read_to_string(log).unwrap_or_default());
        }
        self.process = Some(process);
        Ok(())
    }

    /// How a store reaches the bucket.
    pub fn config(&self) -> S3Config {
        S3Config {
            endpoint: Some(format!("http://{}", self.address)),
            bucket: BUCKET.to_owned(),
            prefix: String::new(),
            region: "us-east-1".to_owned(),
            path_style: true,
            credentials_file: Some(self.dir.path().join("credentials")),
            timeout: Span::from_secs(10),
            connections: 4,
        }
    }

    /// How a store reaches the bucket through a line that leads to the server, as a depot's table of a configuration.
    pub fn table(&self, line: SocketAddr) -> String {
        format!(
            "endpoint = 'http://{line}'\nbucket = '{BUCKET}'\npath-style = true\n\
             credentials-file = '{}'\ntimeout = '3s'\n",
            self.dir.path().join("credentials").display(),
        )
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The secret half of the key pair.
    pub fn secret_key(&self) -> &str {
        &self.secret_key
    }

    /// As [`config`](Self::config), with a wrong secret.
    pub fn config_with_wrong_keys(&self) -> S3Config {
        let credentials = self.dir.path().join("wrong-credentials");
        S3Config { credentials_file: Some(credentials), ..self.config() }
    }

    /// Where the bucket is on the disk of this machine.
    pub fn bucket_path(&self) -> PathBuf {
        self.dir.path().join("data").join(BUCKET)
    }
}

fn program() -> PathBuf {
    if let Some(path) = std::env::var_os("HOLDFAST_VERSITYGW") {
        return path.into();
    }
    let built = std::env::home_dir().map(|home| home.join(".cache/holdfast/bin/versitygw"));
    built.filter(|path| path.exists()).unwrap_or_else(|| "versitygw".into())
}
