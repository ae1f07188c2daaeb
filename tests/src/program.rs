//! The programs of the suite as tests run them: built once, and what they said.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::LazyLock;

use serde_json::Value;

/// The folder of the programs, built once for all tests.
static PROGRAMS: LazyLock<PathBuf> = LazyLock::new(|| {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo)
        .args(["build", "--quiet", "--workspace", "--bins"])
        .status()
        .expect("the tests are run by cargo");
    assert!(built.success(), "the programs do not build");
    // target/debug/deps/daemon-0123: the programs are two folders up.
    let test = std::env::current_exe().expect("a running program has a path");
    test.parent().and_then(Path::parent).expect("cargo puts tests two folders down").to_owned()
});

/// The path of `backupd`, `backupctl` or `restore`.
pub fn program(name: &str) -> PathBuf {
    PROGRAMS.join(name)
}

/// What a run of a program said.
#[derive(Clone, Debug)]
pub struct Said {
    /// The exit code; -1 if a signal ended it.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Said {
    /// From what a process has left.
    pub fn of(output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let code = output.status.code().unwrap_or(-1);
        Self { code, stdout: text(&output.stdout), stderr: text(&output.stderr) }
    }

    /// Expects an exit code; shows what was said if it is another.
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        self
    }

    /// Expects words on standard output.
    #[track_caller]
    pub fn expect_out(self, words: &str) -> Self {
        assert!(self.stdout.contains(words), "no `{words}` in: {}", self.stdout);
        self
    }

    /// Expects words on standard error.
    #[track_caller]
    pub fn expect_error(self, words: &str) -> Self {
        assert!(self.stderr.contains(words), "no `{words}` in: {}", self.stderr);
        self
    }

    /// Standard output as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).expect(&self.stdout)
    }
}
