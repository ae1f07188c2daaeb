//! The archives of binary logs: each runs from when it is configured until it is not, or the daemon
//! stops. A changed one is stopped and begun anew; the lock of the job keeps the two apart.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chassis::retry::Stop;
use chassis::units::format_duration;
use chrono::{DateTime, Utc};
use depot::names::JobName;

use super::answers::LogAnswer;
use super::{Daemon, lock};
use crate::archive::{Archiver, LogStatus};
use crate::config::{Config, Job};
use crate::state::JobState;

/// How often the numbers are brought up to date.
const SHOW_EVERY: Duration = Duration::from_secs(2);
/// How long to wait for another process, or for the archive before a change.
const LOCK_POLL: Duration = Duration::from_millis(500);
/// The archive is a problem when it is behind by this many times the lag that is allowed.
const LAG_FACTOR: u32 = 6;

/// All archives.
#[derive(Debug, Default)]
pub(super) struct Logs {
    by_name: Mutex<BTreeMap<JobName, Arc<LogHandle>>>,
}

/// One archive.
#[derive(Debug)]
struct LogHandle {
    stop: Stop,
    max_lag: Duration,
    state: Mutex<LogState>,
}

/// What is known of it.
#[derive(Debug, Default)]
struct LogState {
    /// None until it has the lock of its job.
    archiver: Option<Arc<Archiver>>,
    /// Why it does not run.
    error: Option<String>,
}

impl Daemon {
    /// Starts all archives.
    pub(super) fn start_logs(self: &Arc<Self>, config: &Arc<Config>) {
        for (name, job, _) in config.log_jobs() {
            self.start_log(config, name, job);
        }
        let daemon = Arc::clone(self);
        self.shutdown.spawn(async move {
            let token = daemon.shutdown.token.clone();
            while token.run_until_cancelled(tokio::time::sleep(SHOW_EVERY)).await.is_some() {
                daemon.show_logs();
            }
        });
    }

    /// Brings the archives in line with a new configuration.
    pub(super) fn change_logs(self: &Arc<Self>, old: &Config, new: &Arc<Config>) {
        let is_same = |name: &JobName, job: &Job| {
            old.jobs.get(name) == Some(job) && old.recipients == new.recipients
        };
        for name in old.log_jobs().map(|(name, ..)| name) {
            if new.jobs.get(name).is_none_or(|job| !is_same(name, job))
                && let Some(handle) = lock(&self.logs.by_name).remove(name)
            {
                handle.stop.stop();
                self.registry.forget("job", name.as_str());
            }
        }
        for (name, job, _) in new.log_jobs().filter(|(name, job, _)| !is_same(name, job)) {
            self.start_log(new, name, job);
        }
    }

    fn start_log(self: &Arc<Self>, config: &Arc<Config>, name: &JobName, job: &Job) {
        let Some(log) = &job.log else { return };
        let stop = self.shutdown.stop().child();
        let handle = Arc::new(LogHandle {
            stop: stop.clone(),
            max_lag: log.max_lag.0,
            state: Mutex::default(),
        });
        lock(&self.logs.by_name).insert(name.clone(), Arc::clone(&handle));
        let (config, name, job) = (Arc::clone(config), name.clone(), job.clone());
        self.shutdown.spawn(async move {
            let work = move || run_log(&config, &name, &job, &handle, &stop);
            if let Err(panic) = tokio::task::spawn_blocking(work).await {
                tracing::error!("an archive of a log panicked: {panic}");
            }
        });
    }

    /// How all archives stand.
    pub(super) fn log_answers(&self) -> Vec<LogAnswer> {
        let handles = lock(&self.logs.by_name).clone();
        handles
            .into_iter()
            .map(|(job, handle)| LogAnswer { job, status: handle.status() })
            .collect()
    }

    /// What is wrong with archives.
    pub(super) fn log_reasons(&self, now: DateTime<Utc>) -> Vec<String> {
        let handles = lock(&self.logs.by_name).clone();
        handles
            .iter()
            .flat_map(|(job, handle)| reasons_of(job, handle.max_lag, &handle.status(), now))
            .collect()
    }

    fn show_logs(&self) {
        let now = Utc::now();
        for LogAnswer { job, status } in self.log_answers() {
            let behind = status.behind(now);
            let numbers = [
                (
                    "holdfast_log_connected",
                    "1 while the log comes in.",
                    f64::from(status.connected),
                ),
                ("holdfast_log_behind_seconds", "Age of what is not in every depot.", behind),
                (
                    "holdfast_log_behind_bytes",
                    "Bytes of log that are not in every depot.",
                    status.behind_bytes() as f64,
                ),
                (
                    "holdfast_log_spool_bytes",
                    "Bytes of log on this host's disk.",
                    status.spool_bytes as f64,
                ),
                (
                    "holdfast_log_holes",
                    "Holes found since the start: log that was purged before it was archived.",
                    status.holes.len() as f64,
                ),
            ];
            for (metric, help, value) in numbers {
                self.registry.gauge(metric, help, &[("job", job.as_str())]).set(value);
            }
        }
    }
}

impl LogHandle {
    fn status(&self) -> LogStatus {
        let state = lock(&self.state);
        let mut status =
            state.archiver.as_ref().map(|archiver| archiver.status()).unwrap_or_default();
        status.error = status.error.or_else(|| state.error.clone());
        status
    }
}

/// Runs one archive as soon as nobody else has it.
fn run_log(config: &Config, name: &JobName, job: &Job, handle: &LogHandle, stop: &Stop) {
    while !stop.is_stopped() {
        let state = JobState::open(&config.job_dir(name));
        let opened = state.and_then(|state| {
            let lock = state.lock(name)?;
            Ok((lock, Archiver::open(config, name, job, stop.clone())?))
        });
        match opened {
            Ok((_lock, archiver)) => {
                *lock(&handle.state) =
                    LogState { archiver: Some(Arc::clone(&archiver)), error: None };
                tracing::info!(job = %name, "the archive of the log begins");
                archiver.run();
                return;
            }
            Err(error) => {
                lock(&handle.state).error = Some(format!("{error:#}"));
                stop.wait_timeout(LOCK_POLL);
            }
        }
    }
}

fn reasons_of(
    job: &JobName,
    max_lag: Duration,
    status: &LogStatus,
    now: DateTime<Utc>,
) -> Vec<String> {
    let mut reasons = Vec::new();
    if let Some(error) = &status.error {
        reasons.push(format!("job {job}: the log does not come in: {error}"));
    }
    if status.is_full {
        reasons.push(format!("job {job}: the spool is full, nothing is read from the server"));
    }
    for hole in &status.holes {
        reasons
            .push(format!("job {job}: HOLE in the log, {hole} was purged before it was archived"));
    }
    for depot in &status.depots {
        if let Some(error) = &depot.error {
            reasons
                .push(format!("job {job}: the log does not go into depot {}: {error}", depot.name));
        }
    }
    let behind = Duration::from_secs_f64(status.behind(now));
    if behind > max_lag * LAG_FACTOR {
        reasons.push(format!("job {job}: the log is {} behind", format_duration(behind)));
    }
    reasons
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;
    use crate::archive::DepotLag;

    #[test]
    fn an_archive_that_is_behind_or_has_a_hole_is_a_problem() {
        let now = DateTime::from_timestamp(1_795_392_000, 0).unwrap();
        let check = |status: &LogStatus, expected: &[&str]| {
            let lag = Duration::from_secs(5);
            assert_eq!(reasons_of(&"shop".parse().unwrap(), lag, status, now), expected);
        };
        let lag = |seconds| DepotLag {
            name: "a".into(),
            waiting_since: Some(now - TimeDelta::seconds(seconds)),
            ..DepotLag::default()
        };
        let good = LogStatus { connected: true, depots: vec![lag(20)], ..LogStatus::default() };
        check(&good, &[]);
        let late = LogStatus { depots: vec![lag(90)], ..good.clone() };
        check(&late, &["job shop: the log is 1 min 30 s behind"]);
        let hole = LogStatus { holes: vec!["0:5-9".into()], is_full: true, ..good };
        check(
            &hole,
            &[
                "job shop: the spool is full, nothing is read from the server",
                "job shop: HOLE in the log, 0:5-9 was purged before it was archived",
            ],
        );
    }
}
