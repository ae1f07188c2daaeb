//! The two system accounts that the tests' SSH server lets in. Needs root.
//!
//! They exist while any test uses them: every user holds a shared lock on one file, and who can make it exclusive at
//! his end was the last and removes them. A run that was killed leaves them to the next one.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use rustix::fs::{FlockOperation, flock};

use super::process::run;

/// An account that may do all that SFTP can.
pub const NORMAL: &str = "holdfast-test";
/// An account that can only add files.
pub const APPEND_ONLY: &str = "holdfast-append";

const LOCK_FILE: &str = "/run/holdfast-tests.lock";
const PASSWORD_FILE: &str = "/run/holdfast-tests.password";

/// Both accounts, with one password. Kept while this lives.
#[derive(Debug)]
pub struct Accounts {
    lock: File,
    password: String,
}

impl Accounts {
    /// Makes the accounts unless they are there.
    pub fn acquire() -> Result<Self> {
        ensure!(rustix::process::geteuid().is_root(), "SSH tests make accounts: run them as root");
        let lock = File::options().create(true).append(true).mode(0o600).open(LOCK_FILE)?;
        loop {
            flock(&lock, FlockOperation::LockShared)?;
            if let Some(password) = existing()? {
                return Ok(Self { lock, password });
            }
            // Going from shared to exclusive lets others in between, so look again.
            flock(&lock, FlockOperation::LockExclusive)?;
            if existing()?.is_none() {
                make().context("make test accounts")?;
            }
        }
    }

    /// The password of both.
    pub fn password(&self) -> &str {
        &self.password
    }
}

impl Drop for Accounts {
    fn drop(&mut self) {
        if flock(&self.lock, FlockOperation::NonBlockingLockExclusive).is_ok() {
            remove();
        }
    }
}

/// The password, if the accounts and their password are there.
fn existing() -> Result<Option<String>> {
    let users = fs::read_to_string("/etc/passwd")?;
    let has = |name: &str| users.lines().any(|line| line.split(':').next() == Some(name));
    if !has(NORMAL) || !has(APPEND_ONLY) {
        return Ok(None);
    }
    Ok(fs::read_to_string(PASSWORD_FILE).ok().filter(|password| !password.is_empty()))
}

fn make() -> Result<()> {
    remove();
    let password = random_password()?;
    let script = "chomp($p = <STDIN>); print crypt($p, q($6$holdfast$))";
    let hash = run(Command::new("perl").args(["-e", script]), &password)?;
    for name in [NORMAL, APPEND_ONLY] {
        let mut command = Command::new("useradd");
        command.args(["--system", "--no-create-home", "--home-dir", "/nonexistent"]);
        command.args(["--shell", "/usr/sbin/nologin", "--password", &hash, name]);
        run(&mut command, "")?;
    }
    let mut file =
        File::options().create(true).write(true).truncate(true).mode(0o600).open(PASSWORD_FILE)?;
    Ok(file.write_all(password.as_bytes())?)
}

/// A password that nobody has used before.
pub(super) fn random_password() -> Result<String> {
    use std::io::Read;
    let mut bytes = [0; 16];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(format!("{:032x}", u128::from_le_bytes(bytes)))
}

fn remove() {
    for name in [NORMAL, APPEND_ONLY] {
        // It may not be there; `--force` because a session just killed may still be dying.
        drop(run(Command::new("userdel").args(["--force", name]), ""));
    }
    drop(fs::remove_file(PASSWORD_FILE));
}
