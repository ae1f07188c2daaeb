//! How a run ended: what the daemon remembers of it, the control socket sends and `backupctl`
//! shows.
//!
//! Plain data, written as JSON. A field is only ever added: files of an older version are read by a
//! newer one.

use chassis::failure::Exit;
use chrono::{DateTime, Utc};
use depot::manifest::{Problem, SnapshotKind};
use depot::names::{JobName, SnapshotId};
use serde::{Deserialize, Serialize};

use crate::source::files::TreeSummary;

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Everything is stored in every depot.
    Done,
    /// There is a backup, but not of every file, or not in every depot, or a hook after it failed.
    Partial,
    /// There is no backup.
    Failed,
}

impl Outcome {
    /// As people read it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Partial => "partial",
            Self::Failed => "failed",
        }
    }
}

/// What became of a run in one depot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DepotResult {
    /// Its name in the configuration.
    pub name: String,
    /// Why the backup is not there; none if it is.
    pub error: Option<String>,
}

/// One run of one job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunReport {
    /// The job.
    pub job: JobName,
    /// How it ended.
    pub outcome: Outcome,
    /// The exit code of a command that waited for it.
    pub exit: u8,
    /// The backup, if one was committed anywhere.
    pub snapshot: Option<SnapshotId>,
    /// What was backed up.
    pub kind: SnapshotKind,
    /// The backup that this one builds on, if it is an LSN increment.
    #[serde(default)]
    pub parent: Option<SnapshotId>,
    /// Transactions up to the end of a database backup.
    #[serde(default)]
    pub gtid: Option<String>,
    /// When it started.
    pub started: DateTime<Utc>,
    /// When it ended.
    pub ended: DateTime<Utc>,
    /// Files, directories and links.
    #[serde(default)]
    pub entries: u64,
    /// Size of all files in bytes.
    #[serde(default)]
    pub bytes: u64,
    /// Bytes that were newly stored.
    #[serde(default)]
    pub stored: u64,
    /// What was found in a tree of files, and what of it was left out; none of a database.
    #[serde(default)]
    pub tree: Option<TreeSummary>,
    /// Files that are not as they were.
    #[serde(default)]
    pub problems: Vec<Problem>,
    /// What became of it in each depot.
    #[serde(default)]
    pub depots: Vec<DepotResult>,
    /// Why it failed, or what went wrong after the backup was stored.
    #[serde(default)]
    pub error: Option<String>,
    /// What can be done about it.
    #[serde(default)]
    pub hint: Option<String>,
}

impl RunReport {
    /// A run that committed nothing.
    pub fn failed(
        job: &JobName,
        kind: SnapshotKind,
        started: DateTime<Utc>,
        ended: DateTime<Utc>,
        error: &anyhow::Error,
    ) -> Self {
        Self {
            job: job.clone(),
            outcome: Outcome::Failed,
            exit: chassis::failure::exit_of(error) as u8,
            snapshot: None,
            kind,
            parent: None,
            gtid: None,
            started,
            ended,
            entries: 0,
            bytes: 0,
            stored: 0,
            tree: None,
            problems: Vec::new(),
            depots: Vec::new(),
            error: Some(format!("{error:#}")),
            hint: chassis::failure::hint_of(error).map(str::to_owned),
        }
    }

    /// Notes that something after the backup went wrong: what is stored stays, but the run was not
    /// all that it should be.
    pub fn spoil(&mut self, error: &anyhow::Error) {
        let text = format!("{error:#}");
        self.error = Some(match self.error.take() {
            Some(earlier) => format!("{earlier}; {text}"),
            None => text,
        });
        if self.outcome == Outcome::Done {
            self.outcome = Outcome::Partial;
            self.exit = Exit::Partial as u8;
        }
    }

    /// How long it took.
    pub fn duration(&self) -> std::time::Duration {
        (self.ended - self.started).to_std().unwrap_or_default()
    }
}
