//! One run of one job, from its lock to its report.
//!
//! The order is: lock, `before` hook, depots, source, finish, `after` hooks, record. Nothing is committed unless all of
//! the source was read well and the writer has everything durable. A depot that is down is an outcome of its own and
//! not the end, unless all are. Blocking: the daemon calls it in `spawn_blocking`.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use chassis::failure::{Exit, Failure};
use chassis::progress::Progress;
use chassis::retry::Stop;
use chassis::units::format_duration;
use chrono::{DateTime, TimeDelta, Utc};
use depot::block::BlockKey;
use depot::depot::Depot;
use depot::manifest::{SnapshotKind, SnapshotState};
use depot::names::{JobName, SnapshotId};
use depot::writer::{Report, SnapshotWriter, WriterOptions};
use serde::{Deserialize, Serialize};

use crate::config::{Config, Job, Mode, Source};
use crate::report::{DepotResult, Outcome, RunReport};
use crate::source::files::{TreeSummary, backup_tree};
use crate::state::JobState;

mod database;
mod ending;
mod hooks;

pub use ending::{Ending, abandon_run};
use ending::{end_run, stopped};
use hooks::{HookFacts, HookLimits, run_hook};

/// What the program calls itself in manifests.
pub const PROGRAM: &str = concat!("backupd ", env!("CARGO_PKG_VERSION"));

/// A clock that is set back by less is waited out; ids stay in order.
const CLOCK_STEP_MAX: TimeDelta = TimeDelta::minutes(10);

/// How a run was asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RunOptions {
    /// Start a new LSN chain.
    pub full: bool,
    /// Read files too that look unchanged.
    pub rescan: bool,
    /// Go on although the clock is behind the last backup.
    pub accept_clock: bool,
}

/// A run that is being made.
#[derive(Clone, Copy, Debug)]
struct Run<'a> {
    config: &'a Config,
    name: &'a JobName,
    job: &'a Job,
    options: RunOptions,
    state: &'a JobState,
    stop: &'a Stop,
    progress: &'a Arc<Progress>,
}

/// Runs a job of the configuration. An error means that it was not even started: another run has it, or its state
/// directory cannot be used. Any other failure is in the report, which is recorded before it is returned.
pub fn run_job(
    config: &Config,
    name: &JobName,
    options: RunOptions,
    stop: &Stop,
    progress: &Arc<Progress>,
    ending: &Ending,
) -> Result<RunReport> {
    let job = config.jobs.get(name).with_context(|| format!("there is no job `{name}`"))?;
    let state = JobState::open(&config.job_dir(name))?;
    let _lock = state.lock(name)?;
    let run_stop = stop.child();
    let run = Run { config, name, job, options, state: &state, stop: &run_stop, progress };
    expect_as_before(job, &state, progress);
    tracing::info!(job = %name, "run starts");
    let started = Utc::now();
    // A panic is a bug of ours, and its message is on standard error. It must not keep the hooks from undoing what
    // `before` did, nor the failure from being recorded.
    let attempt = || run.attempt_in_time(started, stop);
    let mut report = catch_unwind(AssertUnwindSafe(attempt)).unwrap_or_else(|_| {
        let error = Failure::new(Exit::Failed, "the run panicked")
            .hint("this is a bug: its message is in the log of the daemon");
        RunReport::failed(name, kind_of(job), started, Utc::now(), &error.into())
    });
    if ending.claim() {
        end_run(name, job, &state, &mut report, stop);
    }
    Ok(report)
}

impl Run<'_> {
    /// Attempts the run and stops it at its deadline.
    fn attempt_in_time(&self, started: DateTime<Utc>, daemon_stop: &Stop) -> RunReport {
        let is_late = AtomicBool::new(false);
        let ended = Stop::new();
        let attempt = thread::scope(|scope| {
            // Dropped by a panic too, or the watch below would go on to the deadline.
            let guard = StopOnDrop(&ended);
            scope.spawn(|| {
                if !ended.wait_timeout(self.job.deadline.0) {
                    is_late.store(true, Ordering::Relaxed);
                    self.stop.stop();
                }
            });
            let attempt = self.attempt(started);
            drop(guard);
            attempt
        });
        attempt.unwrap_or_else(|error| {
            let error = self.explain(error, is_late.into_inner(), daemon_stop);
            RunReport::failed(self.name, kind_of(self.job), started, Utc::now(), &error)
        })
    }

    /// What was cut short says that it was; why is known here.
    fn explain(&self, error: anyhow::Error, is_late: bool, daemon_stop: &Stop) -> anyhow::Error {
        if daemon_stop.is_stopped() {
            return stopped().because(error).into();
        }
        if is_late {
            let limit = format_duration(self.job.deadline.0);
            return Failure::new(Exit::Failed, format!("the run took longer than {limit}"))
                .hint(format!("raise `jobs.{}.deadline`, or find out what is slow", self.name))
                .because(error)
                .into();
        }
        error
    }

    fn attempt(&self, started: DateTime<Utc>) -> Result<RunReport> {
        let id = self.snapshot_id(started)?;
        self.run_before_hook(&id)?;
        let (depots, silent) = self.open_depots()?;
        let done = match self.job.source() {
            Source::Files(files) => {
                let mut writer =
                    self.start_writer(&id, None, files.root.display().to_string(), &depots)?;
                let rescan = self.options.rescan;
                let found = backup_tree(files, rescan, &mut writer, self.stop, self.progress)
                    .with_context(|| format!("back up {}", files.root.display()))?;
                Done { tree: Some(found), ..Done::new(writer.finish(None)?) }
            }
            Source::Database(database) => self.back_up_database(database, &id, &depots)?,
            Source::Log(_) => return Err(never_run(self.name).into()),
        };
        let Done { report, parent, gtid, tree, remembered } = done;
        let report = self.report(started, report, parent, silent);
        let mut report = RunReport { gtid, tree, ..report };
        if let Err(error) = remembered {
            report.spoil(&error);
        }
        Ok(report)
    }

    /// The id of this run: its time is after that of the last one.
    fn snapshot_id(&self, started: DateTime<Utc>) -> Result<SnapshotId> {
        let last = self.state.history().last_time();
        let time = next_time(started, last, self.options.accept_clock)?;
        Ok(SnapshotId::new(self.name.clone(), time, self.config.host.clone()))
    }

    /// Opens all depots of the job at once. Those that do not open are outcomes, unless none does.
    fn open_depots(&self) -> Result<(Vec<Arc<Depot>>, Vec<DepotResult>)> {
        let names = self.config.depots_of(self.job);
        let results: Vec<_> = thread::scope(|scope| {
            let threads: Vec<_> = names
                .iter()
                .map(|name| {
                    let store = &self.config.depots[*name];
                    scope.spawn(move || Depot::open(name.as_str(), store, self.stop))
                })
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.join().expect("opening does not panic"))
                .collect()
        });
        let mut depots = Vec::new();
        let mut silent = Vec::new();
        for (name, result) in names.iter().zip(results) {
            match result {
                Ok(depot) => depots.push(Arc::new(depot)),
                Err(error) if depots.is_empty() && silent.len() + 1 == names.len() => {
                    return Err(error);
                }
                Err(error) => {
                    tracing::warn!(job = %self.name, depot = %name, "going on without it: {error:#}");
                    let error = Some(format!("{error:#}"));
                    silent.push(DepotResult { name: name.to_string(), error });
                }
            }
        }
        Ok((depots, silent))
    }

    fn start_writer(
        &self,
        id: &SnapshotId,
        parent: Option<SnapshotId>,
        root: String,
        depots: &[Arc<Depot>],
    ) -> Result<SnapshotWriter> {
        let options = WriterOptions {
            id: id.clone(),
            kind: kind_of(self.job),
            root,
            program: PROGRAM.to_owned(),
            key: BlockKey::load(&self.config.block_key_path())?,
            recipients: self.config.recipients()?,
            parent,
            state_dir: self.state.dir().to_owned(),
            tuning: depot::writer::Tuning::default(),
            stop: self.stop.clone(),
            progress: Arc::clone(self.progress),
        };
        SnapshotWriter::start(options, depots.to_vec())
    }

    fn report(
        &self,
        started: DateTime<Utc>,
        report: Report,
        parent: Option<SnapshotId>,
        silent: Vec<DepotResult>,
    ) -> RunReport {
        let mut depots: Vec<DepotResult> = report
            .depots
            .into_iter()
            .map(|depot| DepotResult { name: depot.name, error: depot.error })
            .chain(silent)
            .collect();
        depots.sort_by(|left, right| left.name.cmp(&right.name));
        let is_whole = report.state == SnapshotState::Complete
            && depots.iter().all(|depot| depot.error.is_none());
        let (outcome, exit) =
            if is_whole { (Outcome::Done, Exit::Done) } else { (Outcome::Partial, Exit::Partial) };
        RunReport {
            job: self.name.clone(),
            outcome,
            exit: exit as u8,
            snapshot: Some(report.id),
            kind: kind_of(self.job),
            parent,
            gtid: None,
            started,
            ended: Utc::now(),
            entries: report.totals.entries,
            bytes: report.totals.bytes,
            stored: report.totals.stored,
            tree: None,
            problems: report.problems,
            depots,
            error: None,
            hint: None,
        }
    }

    fn run_before_hook(&self, id: &SnapshotId) -> Result<()> {
        let facts = HookFacts {
            job: self.name.as_str(),
            snapshot: id.to_string(),
            state: "starting",
            error: "",
        };
        let timeout = self.job.hook_timeout.0;
        let limits = HookLimits { timeout, stop: self.stop, after_stop: Duration::ZERO };
        run_hook("before", &self.job.before, &facts, limits).map_err(|error| {
            let hint = format!("there is no backup without it; {}", hooks::HINT);
            Failure::new(Exit::Failed, format!("{error:#}")).hint(hint).into()
        })
    }
}

/// What a run has done, before it is told.
struct Done {
    report: Report,
    /// The backup that this one builds on.
    parent: Option<SnapshotId>,
    /// The transactions up to its end.
    gtid: Option<String>,
    tree: Option<TreeSummary>,
    /// Why the chain could not be remembered.
    remembered: Result<()>,
}

impl Done {
    fn new(report: Report) -> Self {
        Self { report, parent: None, gtid: None, tree: None, remembered: Ok(()) }
    }
}

/// A log job has no runs.
fn never_run(name: &JobName) -> Failure {
    Failure::new(Exit::Usage, format!("job `{name}` archives a log all the time"))
        .hint("it is not run: see `backupctl status`")
}

/// Raises a stop when it goes out of scope.
struct StopOnDrop<'a>(&'a Stop);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// What a job backs up.
pub fn kind_of(job: &Job) -> SnapshotKind {
    match job.source() {
        Source::Files(_) => SnapshotKind::Files,
        Source::Database(_) | Source::Log(_) => SnapshotKind::Database,
    }
}

/// What is shown as the time left goes by the size of the last good backup. An increment by LSN says nothing of the
/// next one, nor of a full one.
fn expect_as_before(job: &Job, state: &JobState, progress: &Progress) {
    let is_whole_each_time = match job.source() {
        Source::Files(_) => true,
        Source::Database(database) => database.mode == Mode::Blocks,
        Source::Log(_) => false,
    };
    if is_whole_each_time && let Some(last) = state.history().last_good {
        progress.expect_bytes(last.bytes);
    }
}

/// The time of a run's id: now, but never before that of the last backup, since "the latest" must be the latest.
///
/// A small step back is smoothed over; a large one is refused, because one of the two times must be wrong.
fn next_time(
    now: DateTime<Utc>,
    last: Option<DateTime<Utc>>,
    accept_clock: bool,
) -> Result<DateTime<Utc>> {
    let Some(last) = last.filter(|last| now < *last + TimeDelta::seconds(1)) else {
        return Ok(now);
    };
    if accept_clock {
        return Ok(now);
    }
    if last - now <= CLOCK_STEP_MAX {
        return Ok(last + TimeDelta::seconds(1));
    }
    let behind = format_duration((last - now).to_std().unwrap_or_default());
    Err(Failure::new(Exit::Failed, format!("the clock is {behind} behind the last backup"))
        .hint("set the clock; if it is right now, run `backupctl now --accept-clock` once")
        .into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_stay_in_order_when_the_clock_does_not() {
        fn check(now: i64, last: Option<i64>, accept: bool, expected: Option<i64>) {
            let time = |secs| DateTime::from_timestamp(secs, 0).unwrap();
            let next = next_time(time(now), last.map(time), accept);
            assert_eq!(next.ok(), expected.map(time), "{now} {last:?} {accept}");
        }
        check(10_000, None, false, Some(10_000));
        check(10_000, Some(9_000), false, Some(10_000));
        check(10_000, Some(10_000), false, Some(10_001));
        check(10_000, Some(10_599), false, Some(10_600));
        check(10_000, Some(99_999), false, None);
        check(10_000, Some(99_999), true, Some(10_000));
    }
}
