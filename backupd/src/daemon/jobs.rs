//! The drivers of all jobs. A scheduled run and one that was asked for come by the same way: a driver calls
//! `Daemon::run_one`, never twice at once for one job.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result};
use chassis::drive::{Activator, Reason, Status, Timing, driver};
use chassis::failure::{Exit, Failure};
use chassis::progress::{Progress, Snapshot};
use chrono::{DateTime, Utc};
use depot::names::JobName;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::answers::JobStatus;
use super::{Daemon, lock};
use crate::config::{Config, Job};
use crate::report::RunReport;
use crate::run::{Ending, RunOptions, abandon_run, kind_of, run_job};
use crate::state::{History, JobState};

/// All jobs that are configured.
#[derive(Debug, Default)]
pub(super) struct Jobs {
    by_name: Mutex<BTreeMap<JobName, Arc<JobHandle>>>,
    /// Those that are no longer configured; a run of theirs may still be on.
    leaving: Mutex<Vec<Arc<JobHandle>>>,
}

/// One job, for whoever asks or shows.
#[derive(Debug)]
pub(super) struct JobHandle {
    pub name: JobName,
    pub activator: Activator,
    pub status: watch::Receiver<Status<RunReport>>,
    stop: CancellationToken,
    hand: Arc<Hand>,
}

/// What a driver has in hand.
#[derive(Debug)]
struct Hand {
    /// How the next run was asked for.
    options: Mutex<RunOptions>,
    /// How far the run is that is on.
    progress: Mutex<Option<Arc<Progress>>>,
    /// The run that is on.
    current: Mutex<Option<Current>>,
    history: Mutex<History>,
}

/// A run that is on.
#[derive(Clone, Debug)]
struct Current {
    started: DateTime<Utc>,
    /// The configuration that it began with.
    config: Arc<Config>,
    ending: Arc<Ending>,
}

impl Jobs {
    pub(super) fn get(&self, name: &JobName) -> Option<Arc<JobHandle>> {
        lock(&self.by_name).get(name).cloned()
    }

    pub(super) fn all(&self) -> Vec<Arc<JobHandle>> {
        lock(&self.by_name).values().cloned().collect()
    }

    /// Whether a driver's job is still configured.
    fn has(&self, name: &JobName, hand: &Arc<Hand>) -> bool {
        self.get(name).is_some_and(|job| Arc::ptr_eq(&job.hand, hand))
    }

    fn remove(&self, name: &JobName) -> Option<Arc<JobHandle>> {
        let job = lock(&self.by_name).remove(name)?;
        let mut leaving = lock(&self.leaving);
        leaving.retain(|job| job.status.has_changed().is_ok());
        leaving.push(Arc::clone(&job));
        Some(job)
    }

    /// False if a driver ended without having been stopped.
    pub(super) fn all_alive(&self) -> bool {
        self.all().iter().all(|job| job.stop.is_cancelled() || job.status.has_changed().is_ok())
    }

    /// One line.
    pub(super) fn summary(&self) -> String {
        let mut line = String::new();
        for job in self.all() {
            let status = job.status.borrow();
            let words = match (&status.running, status.next_due) {
                (Some(_), _) => "running".to_owned(),
                (None, Some(due)) => due.format("next %a %H:%M UTC").to_string(),
                (None, None) => "on demand".to_owned(),
            };
            write!(line, "{}{}: {words}", if line.is_empty() { "" } else { "; " }, job.name)
                .expect("a string takes any text");
        }
        if line.is_empty() { "no jobs".to_owned() } else { line }
    }
}

impl JobHandle {
    /// Asks for a run with these options.
    pub(super) fn ask(&self, options: RunOptions) -> chassis::drive::Ticket {
        {
            let mut wanted = lock(&self.hand.options);
            wanted.full |= options.full;
            wanted.rescan |= options.rescan;
            wanted.accept_clock |= options.accept_clock;
        }
        self.activator.ask()
    }

    /// How far the run is that is on.
    pub(super) fn progress(&self) -> Option<Snapshot> {
        lock(&self.hand.progress).as_ref().map(|progress| progress.snapshot())
    }

    /// The last runs.
    pub(super) fn history(&self) -> History {
        lock(&self.hand.history).clone()
    }

    /// All of it.
    pub(super) fn shown(&self) -> JobStatus {
        let status = self.status.borrow().clone();
        let history = self.history();
        JobStatus {
            job: self.name.clone(),
            running: status.running,
            progress: self.progress(),
            next_due: status.next_due,
            last: history.last,
            last_good: history.last_good,
        }
    }
}

/// A job whose driver can be started or changed: nothing can fail any more.
#[derive(Debug)]
pub(super) struct Prepared {
    name: JobName,
    timing: Timing,
    history: History,
}

/// Does all that can fail for the jobs of a configuration, before any of it is in force.
pub(super) fn prepare_jobs(config: &Config) -> Result<Vec<Prepared>> {
    let prepare = |(name, job): (&JobName, &Job)| {
        let state = JobState::open(&config.job_dir(name))?;
        let history = state.begin(Utc::now()).context("remember the job")?;
        Ok(Prepared { name: name.clone(), timing: timing(job), history })
    };
    config.run_jobs().map(prepare).collect()
}

fn timing(job: &Job) -> Timing {
    let schedule = job.schedule.as_ref().map(|expression| expression.in_zone(job.time_zone));
    Timing { schedule, jitter: job.jitter.0 }
}

impl Daemon {
    /// Brings the drivers in line with a configuration that was prepared.
    pub(super) fn change_jobs(self: &Arc<Self>, new: &Config, prepared: Vec<Prepared>) {
        for job in prepared {
            match self.jobs.get(&job.name) {
                Some(handle) => handle.activator.set_timing(job.timing),
                None => self.start_job(job),
            }
        }
        for job in self.jobs.all() {
            if !new.run_jobs().any(|(name, _)| *name == job.name) {
                self.end_job(&job.name);
            }
        }
    }

    /// A run that is on goes on to its end.
    fn end_job(&self, name: &JobName) {
        if let Some(handle) = self.jobs.remove(name) {
            handle.stop.cancel();
            self.registry.forget("job", name.as_str());
            tracing::info!(job = %name, "is no longer configured");
        }
    }

    fn start_job(self: &Arc<Self>, prepared: Prepared) {
        let Prepared { name, timing, history } = prepared;
        let (driver, activator, status) = driver(timing, history.served);
        let hand = Arc::new(Hand {
            options: Mutex::default(),
            progress: Mutex::default(),
            current: Mutex::default(),
            history: Mutex::new(history.clone()),
        });
        let stop = self.shutdown.token.child_token();
        let handle = Arc::new(JobHandle {
            name: name.clone(),
            activator,
            status,
            stop: stop.clone(),
            hand: Arc::clone(&hand),
        });
        self.show_history(&name, &history);
        lock(&self.jobs.by_name).insert(name.clone(), handle);
        let daemon = Arc::clone(self);
        self.shutdown.spawn(async move {
            let work = |reason| daemon.run_one(&name, &hand, reason);
            driver.run(stop, Utc::now, work).await;
        });
    }

    /// One run of one job, whatever woke the driver.
    async fn run_one(
        self: &Arc<Self>,
        name: &JobName,
        hand: &Arc<Hand>,
        reason: Reason,
    ) -> RunReport {
        let config = self.config();
        let options = std::mem::take(&mut *lock(&hand.options));
        let progress = Arc::new(Progress::default());
        *lock(&hand.progress) = Some(Arc::clone(&progress));
        self.show_running(name, true);
        self.show_status();
        let started = Utc::now();
        let ending = Arc::new(Ending::default());
        let current = Current { started, config: Arc::clone(&config), ending: Arc::clone(&ending) };
        *lock(&hand.current) = Some(current);
        let stop = self.shutdown.stop();
        let run = {
            let (config, name) = (Arc::clone(&config), name.clone());
            tracing::info!(job = %name, ?reason, "run is due");
            move || run_job(&config, &name, options, &stop, &progress, &ending)
        };
        // A panic here is a bug of ours: its message is on standard error; the daemon goes on.
        let outcome = tokio::task::spawn_blocking(run).await.unwrap_or_else(|panic| {
            Err(Failure::new(Exit::Failed, "the run panicked").because(panic).into())
        });
        let report = outcome.unwrap_or_else(|error| not_run(&config, name, started, &error));
        let history = with_report(JobState::at(&config.job_dir(name)).history(), &report);
        if self.jobs.has(name, hand) {
            self.show_report(&report);
            self.show_history(name, &history);
            self.show_running(name, false);
        }
        *lock(&hand.history) = history;
        *lock(&hand.progress) = None;
        *lock(&hand.current) = None;
        self.show_status();
        report
    }

    /// Ends the runs that are still on for good, all at once: only before the program ends.
    pub(super) async fn abandon_runs(&self) {
        let mut ends = JoinSet::new();
        let leaving = lock(&self.jobs.leaving).clone();
        for job in self.jobs.all().into_iter().chain(leaving) {
            let Some(run) = lock(&job.hand.current).clone() else { continue };
            let (stop, name) = (self.shutdown.stop(), job.name.clone());
            ends.spawn_blocking(move || {
                abandon_run(&run.config, &name, run.started, &run.ending, &stop)
            });
        }
        ends.join_all().await;
    }
}

/// A run that could not be recorded counts as long as the daemon lives: what is in the file is older.
fn with_report(mut recorded: History, report: &RunReport) -> History {
    if recorded.last.as_ref().is_none_or(|last| last.started != report.started) {
        recorded.add(report);
    }
    recorded
}

/// A run that could not even be recorded: another process has the job, or its directory is not usable.
fn not_run(
    config: &Config,
    name: &JobName,
    started: DateTime<Utc>,
    error: &anyhow::Error,
) -> RunReport {
    tracing::error!(job = %name, "failed to run: {error:#}");
    let kind = config.jobs.get(name).map_or(depot::manifest::SnapshotKind::Files, kind_of);
    RunReport::failed(name, kind, started, Utc::now(), error)
}
