//! What goes over the control socket: the daemon writes it, `backupctl` reads it.

use chassis::drive::Running;
use chassis::progress::Snapshot;
use chrono::{DateTime, Utc};
use depot::names::{HostName, JobName};
use serde::{Deserialize, Serialize};

use crate::archive::LogStatus;
use crate::keeper::KeeperReport;
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
    /// The keeper, if its runs are scheduled.
    #[serde(default)]
    pub keeper: Option<KeeperStatus>,
    /// The archives of logs.
    #[serde(default)]
    pub logs: Vec<LogAnswer>,
}

/// The keeper.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct KeeperStatus {
    /// The run that is on.
    pub running: Option<Running>,
    /// When the next one begins by itself.
    pub next_due: Option<DateTime<Utc>>,
    /// The last run, however it ended.
    pub last: Option<KeeperReport>,
    /// When the last one ended that was done wholly.
    pub last_good: Option<DateTime<Utc>>,
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

/// The answer to `POST /jobs/NAME/run?wait=false`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Accepted {
    /// Always true.
    pub accepted: bool,
}
