//! What `backupctl status` says about the log archive: how far a backup can be brought, what is
//! missing, and which backup still waits for its logs. Told from the names in the depots, so that it
//! is right when the daemon is dead.

use std::fmt::Write;

use chrono::{DateTime, Utc};
use database::gtid::GtidSet;
use database::replica::Have;
use depot::log::{Catalog, Timeline};
use depot::names::JobName;
use serde::Serialize;

use super::survey::Surveyed;
use crate::archive::LogStatus;
use crate::config::Config;
use crate::daemon::answers::JobStatus;
use crate::report::RunReport;

/// The archive of one log job, in the depot that has most.
#[derive(Debug, Serialize)]
pub(super) struct LogWindow {
    pub job: JobName,
    /// The newest timeline.
    pub timeline: Option<Timeline>,
    /// The end of the last backup that the archive brings forward.
    pub from: Option<DateTime<Utc>>,
    /// The last commit that it can be brought to.
    pub to: Option<DateTime<Utc>>,
    /// What is missing between what is there.
    pub holes: GtidSet,
    /// The last backup ends with transactions that are not archived yet.
    pub waiting: Option<String>,
    /// By how much the slowest depot is behind; none if the daemon does not answer.
    pub behind_seconds: Option<f64>,
}

/// One for each log job.
pub(super) fn windows(
    config: &Config,
    surveyed: &[Surveyed],
    jobs: &[JobStatus],
    live: &[(JobName, LogStatus)],
    now: DateTime<Utc>,
) -> Vec<LogWindow> {
    let catalogs: Vec<Catalog> = surveyed
        .iter()
        .filter_map(|depot| depot.result.as_ref().ok())
        .filter_map(|(depot, _)| depot.logs().ok())
        .map(|listing| Catalog::of(&listing))
        .collect();
    config
        .log_jobs()
        .map(|(name, _, log)| {
            let base = log.base.clone().or_else(|| only_database(config));
            let report = jobs
                .iter()
                .find(|job| Some(&job.job) == base.as_ref())
                .and_then(|job| job.last_good.as_ref());
            let behind = live.iter().find(|(job, _)| job == name).map(|(_, log)| log.behind(now));
            window(name, &catalogs, report, behind)
        })
        .collect()
}

fn only_database(config: &Config) -> Option<JobName> {
    let mut names = config.jobs.iter().filter(|(_, job)| job.database.is_some());
    let (name, _) = names.next()?;
    names.next().is_none().then(|| name.clone())
}

fn window(
    job: &JobName,
    catalogs: &[Catalog],
    base: Option<&RunReport>,
    behind_seconds: Option<f64>,
) -> LogWindow {
    let newest = catalogs.iter().filter_map(|catalog| catalog.newest(job.as_str()));
    let newest = newest.max_by_key(|(timeline, archive)| (timeline.number, archive.latest()));
    let none = LogWindow {
        job: job.clone(),
        timeline: None,
        from: None,
        to: None,
        holes: GtidSet::default(),
        waiting: base
            .map(|report| report.snapshot.as_ref().map(ToString::to_string).unwrap_or_default()),
        behind_seconds,
    };
    let Some((timeline, archive)) = newest else { return none };
    let timeline = Some(timeline.clone());
    let holes = archive.holes();
    let Some(position) = base.and_then(|report| Some((report, base_set(report.gtid.as_deref()?)?)))
    else {
        return LogWindow { timeline, holes, waiting: None, ..none };
    };
    let (report, set) = position;
    let reach = archive.reach(&set);
    // A backup is good when what it ends with is archived: only then does the log go on from it.
    let is_there = set.iter().all(|(stream, numbers)| {
        archive.union.of(stream).is_some_and(|there| there.last() >= numbers.last())
    });
    let snapshot = report.snapshot.as_ref().map(ToString::to_string).unwrap_or_default();
    LogWindow {
        timeline,
        from: Some(report.ended),
        to: reach.to,
        holes,
        waiting: (!is_there).then_some(snapshot),
        ..none
    }
}

/// The end of a backup as a set; MariaDB writes it as a position.
fn base_set(text: &str) -> Option<GtidSet> {
    use database::version::Flavour::{MariaDb, MySql};
    let parsed = [MariaDb, MySql].into_iter().find_map(|flavour| Have::parse(flavour, text).ok());
    parsed.map(|have| have.to_set())
}

/// The line of one archive.
pub(super) fn line(window: &LogWindow) -> String {
    let second = |time: DateTime<Utc>| time.format("%F %T").to_string();
    let mut line = match (&window.timeline, window.from, window.to) {
        (None, ..) => format!("log {}: nothing archived yet", window.job),
        (Some(timeline), Some(from), Some(to)) => format!(
            "log {}: restorable {} .. {} UTC, to any transaction (timeline {timeline})",
            window.job,
            second(from.min(to)),
            second(to)
        ),
        (Some(timeline), ..) => {
            format!(
                "log {}: archived, no backup to bring forward (timeline {timeline})",
                window.job
            )
        }
    };
    if !window.holes.is_empty() {
        write!(line, "; HOLES: {}", window.holes).expect("a string takes any text");
    }
    if let Some(waiting) = &window.waiting {
        write!(line, "; {waiting} is waiting for logs").expect("a string takes any text");
    }
    match window.behind_seconds {
        Some(seconds) => write!(line, "; {seconds:.0} s behind"),
        None => write!(line, "; nobody archives"),
    }
    .expect("a string takes any text");
    line
}
