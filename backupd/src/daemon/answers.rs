//! What goes over the control socket: the daemon writes it, `backupctl` reads it.

use chassis::drive::Running;
use chassis::progress::Snapshot;
use chrono::{DateTime, Utc};
use depot::names::{HostName, JobName};
use serde::{Deserialize, Serialize};

use crate::archive::LogStatus;
use crate::report::RunReport;

/// `GET /status`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StatusAnswer {
    /// The host, as it calls itself.
    pub host: HostName,
    /// The daemon's version.
    pub version: String,
    /// When it started.
    pub started: DateTime<Utc>,
    /// Why the last reload was refused.
    pub reload_error: Option<String>,
    /// What is wrong; nothing if all is well.
    pub reasons: Vec<String>,
    /// All jobs by name.
    pub jobs: Vec<JobStatus>,
    /// The archives of logs.
    #[serde(default)]
    pub logs: Vec<LogAnswer>,
}

/// One archive of a log.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LogAnswer {
    /// The job.
    pub job: JobName,
    /// How it stands.
    pub status: LogStatus,
}

/// One job.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct JobStatus {
    /// Its name.
    pub job: JobName,
    /// The run that is on.
    pub running: Option<Running>,
    /// How far that is.
    pub progress: Option<Snapshot>,
    /// When the next one begins by itself.
    pub next_due: Option<DateTime<Utc>>,
    /// The last run, however it ended.
    pub last: Option<RunReport>,
    /// The last run that was done wholly.
    pub last_good: Option<RunReport>,
}

/// A line of the answer to `POST /jobs/NAME/run`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RunEvent {
    /// How far it is.
    Progress(Snapshot),
    /// The last line: how it ended.
    Report(Box<RunReport>),
    /// The last line: it never began or was left behind, because the daemon is stopping.
    Stopped,
}

/// The answer to `POST /jobs/NAME/run?wait=false` and `POST /reload`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Accepted {
    /// Always true.
    pub accepted: bool,
}

/// One line of `GET /schedule`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NextRun {
    /// The job.
    pub job: JobName,
    /// When it begins by itself, jitter included; none if only on demand.
    pub next_due: Option<DateTime<Utc>>,
}
