//! Certificates for tests: an authority made for the purpose, and what it signs for `localhost`. Made by `openssl`.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::process::run;

/// The certificates of one server, in a directory that the caller keeps.
#[derive(Clone, Debug)]
pub struct Certificates {
    dir: PathBuf,
}

impl Certificates {
    /// Makes an authority, a server's certificate for `localhost` and 127.0.0.1, and a client's.
    pub fn make(dir: &Path) -> Result<Self> {
        fs::create_dir_all(dir)?;
        let made = Self { dir: dir.to_owned() };
        let mut authority =
            made.openssl("req -x509 -nodes -days 3 -subj /CN=holdfast-test-authority");
        authority.args(NEW_KEY).args(["-keyout", "authority.key", "-out", "authority.pem"]);
        run(&mut authority, "").context("make certificate authority")?;
        fs::write(dir.join("names"), "subjectAltName=DNS:localhost,IP:127.0.0.1\n")?;
        for name in ["server", "client"] {
            made.sign(name).with_context(|| format!("make certificate of {name}"))?;
        }
        Ok(made)
    }

    fn sign(&self, name: &str) -> Result<()> {
        let file = |extension: &str| format!("{name}.{extension}");
        let mut request = self.openssl("req -nodes");
        request.args(NEW_KEY).arg("-subj").arg(format!("/O=holdfast-test/CN={name}"));
        request.arg("-keyout").arg(file("key")).arg("-out").arg(file("request"));
        run(&mut request, "")?;
        let mut sign = self.openssl("x509 -req -days 3 -CAcreateserial -extfile names");
        sign.args(["-CA", "authority.pem", "-CAkey", "authority.key"]);
        sign.arg("-in").arg(file("request")).arg("-out").arg(file("pem"));
        run(&mut sign, "").map(drop)
    }

    fn openssl(&self, arguments: &str) -> Command {
        let mut command = Command::new("openssl");
        command.current_dir(&self.dir).args(arguments.split(' ').map(OsStr::new));
        command
    }

    /// The authority's certificate: what a client must trust.
    pub fn authority(&self) -> PathBuf {
        self.dir.join("authority.pem")
    }

    /// Certificate and key of a client that the authority vouches for.
    pub fn client(&self) -> (PathBuf, PathBuf) {
        (self.dir.join("client.pem"), self.dir.join("client.key"))
    }
}

/// A key of the kind that is made at once, unencrypted, as PKCS #8.
const NEW_KEY: [&str; 4] = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"];
