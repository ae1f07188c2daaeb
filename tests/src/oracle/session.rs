//! A client that runs steps, and what it recorded of them.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, bail};
use chrono::{DateTime, Utc};

use super::model::Model;

/// A step that the server has acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Its GTID, and the number in it: all steps are of one domain, so the numbers are the order of commits.
    pub gtid: String,
    /// As above.
    pub number: u64,
    /// When it was sent.
    pub sent: DateTime<Utc>,
    /// When the server had said yes.
    pub acknowledged: DateTime<Utc>,
    /// Its time in the log is one that the session has set.
    pub is_set_back: bool,
}

/// What one session did.
#[derive(Clone, Debug)]
pub struct Record {
    /// Its number.
    pub session: u32,
    /// Its steps, in their order.
    pub steps: Vec<Step>,
    /// When it died: it may have sent one step more.
    pub died: Option<DateTime<Utc>>,
    /// What its client said then.
    pub last_words: String,
}

/// Runs steps until told to stop, or until the server is away.
pub(super) fn run(socket: &Path, mut model: Model, done: &AtomicBool) -> Record {
    let mut record = Record {
        session: model.session(),
        steps: Vec::new(),
        died: None,
        last_words: String::new(),
    };
    let Ok(mut client) = Client::start(socket) else { return record };
    // What is prepared is also committed: nothing waits for ever when the oracle has ended.
    while !done.load(Ordering::Relaxed) || model.is_pending() {
        let statements = model.step();
        let sent = Utc::now();
        let Ok(gtid) = client.run(&statements.text) else {
            record.died = Some(Utc::now());
            record.last_words = client.last_words();
            break;
        };
        record.steps.push(Step {
            number: gtid.rsplit('-').next().and_then(|text| text.parse().ok()).unwrap_or(0),
            gtid,
            sent,
            acknowledged: Utc::now(),
            is_set_back: statements.is_set_back,
        });
    }
    record
}

/// The server's own client as a process that reads statements from a pipe.
struct Client {
    child: Child,
    output: BufReader<std::process::ChildStdout>,
}

impl Client {
    fn start(socket: &Path) -> Result<Self> {
        let mut command = Command::new("mariadb");
        command.args(["--no-defaults", "--user=root", "--batch", "--raw", "--skip-column-names"]);
        command.args(["--unbuffered", "--skip-reconnect", "--default-character-set=utf8mb4"]);
        command.arg("--socket").arg(socket).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.stderr(Stdio::piped()).spawn().context("start client")?;
        let output = child.stdout.take().context("client without output")?;
        Ok(Self { child, output: BufReader::new(output) })
    }

    /// What it complained about at its end.
    fn last_words(&mut self) -> String {
        let mut words = String::new();
        if let Some(mut errors) = self.child.stderr.take() {
            drop(errors.read_to_string(&mut words));
        }
        words
    }

    /// The GTID of the transaction that a step made.
    fn run(&mut self, statements: &str) -> Result<String> {
        let input = self.child.stdin.as_mut().context("client without input")?;
        input.write_all(statements.as_bytes())?;
        input.write_all(b"\nSELECT CONCAT('gtid ', @gtid);\n")?;
        input.flush()?;
        let mut line = String::new();
        while self.output.read_line(&mut line)? > 0 {
            if let Some(gtid) = line.trim_end().strip_prefix("gtid ") {
                return Ok(gtid.to_owned());
            }
            line.clear();
        }
        bail!("the session has ended")
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
