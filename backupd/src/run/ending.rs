//! The end of a run: hooks, the record of it, and a word in the log. It happens once, also for a
//! run that is left behind.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use chassis::failure::{Exit, Failure};
use chassis::retry::Stop;
use chassis::units::format_duration;
use chrono::{DateTime, Utc};
use depot::names::JobName;

use super::hooks::{HookFacts, HookLimits, run_hook};
use super::kind_of;
use crate::config::{Config, Job};
use crate::report::{Outcome, RunReport};
use crate::state::JobState;

/// While the daemon is stopping, a hook may take this long: something may have to be put back in
/// order.
const HOOK_TIMEOUT_STOPPING: Duration = Duration::from_secs(4);

/// The end of a run: hooks, record. It happens once, whoever comes first: the run itself, or the
/// daemon that cannot wait for it any longer.
#[derive(Debug, Default)]
pub struct Ending(AtomicBool);

impl Ending {
    /// Whether the caller is the one who ends it.
    pub(super) fn claim(&self) -> bool {
        !self.0.swap(true, Ordering::AcqRel)
    }
}

/// Ends a run that does not come to a safe point in time, when the program is about to end: an
/// upload hangs, or the line is slow. It was told to stop, so it commits nothing any more. None if
/// it has come to its end by itself.
pub fn abandon_run(
    config: &Config,
    name: &JobName,
    started: DateTime<Utc>,
    ending: &Ending,
    stop: &Stop,
) -> Option<RunReport> {
    let job = config.jobs.get(name)?;
    if !ending.claim() {
        return None;
    }
    let error = stopped().into();
    let mut report = RunReport::failed(name, kind_of(job), started, Utc::now(), &error);
    end_run(name, job, &JobState::at(&config.job_dir(name)), &mut report, stop);
    Some(report)
}

/// Remembers how a run ended, and runs the hooks after it. It is recorded first: the program may be
/// ended while a hook still runs. `stop` is the daemon's.
pub(super) fn end_run(
    name: &JobName,
    job: &Job,
    state: &JobState,
    report: &mut RunReport,
    stop: &Stop,
) {
    record(state, report);
    if !run_after_hooks(name, job, report, stop) {
        record(state, report);
    }
    log_end(report);
}

fn record(state: &JobState, report: &mut RunReport) {
    if let Err(error) = state.record(report).context("record the run") {
        report.spoil(&error);
    }
}

/// Why a run ended that the daemon stopped.
pub(super) fn stopped() -> Failure {
    Failure::new(Exit::Interrupted, "the run was stopped; there is no backup of it")
        .hint("start it again with `backupctl now`; a scheduled run is made up for")
}

/// These run even when the daemon is stopping: they may have to undo what `before` did. False if one
/// failed.
fn run_after_hooks(name: &JobName, job: &Job, report: &mut RunReport, stop: &Stop) -> bool {
    let timeout = job.hook_timeout.0;
    let limits = HookLimits { timeout, stop, after_stop: HOOK_TIMEOUT_STOPPING };
    let mut is_good = true;
    let mut hooks = vec![("after", &job.after)];
    if report.outcome == Outcome::Failed {
        hooks.push(("after-failed", &job.after_failed));
    }
    for (what, command) in hooks {
        let facts = HookFacts {
            job: name.as_str(),
            snapshot: report.snapshot.as_ref().map(ToString::to_string).unwrap_or_default(),
            state: report.outcome.as_str(),
            error: report.error.as_deref().unwrap_or_default(),
        };
        if let Err(error) = run_hook(what, command, &facts, limits) {
            is_good = false;
            report.spoil(&error);
            report.hint.get_or_insert_with(|| super::hooks::HINT.to_owned());
        }
    }
    is_good
}

fn log_end(report: &RunReport) {
    let took = format_duration(report.duration());
    let job = &report.job;
    match (&report.outcome, &report.error) {
        (Outcome::Failed, error) => {
            let error = error.as_deref().unwrap_or("unknown");
            tracing::error!(%job, took, hint = report.hint, "run failed: {error}");
        }
        (Outcome::Partial, error) => {
            let problems = report.problems.len();
            tracing::warn!(%job, took, problems, error, "run ended in part");
        }
        (Outcome::Done, _) => {
            let (bytes, stored) = (report.bytes, report.stored);
            tracing::info!(%job, took, bytes, stored, "run done");
        }
    }
}
