//! The drivers of all jobs. A scheduled run and one that was asked for come by the same way: a driver calls
//! `Daemon::run_one`, never twice at once for one job.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result};
use chassis::drive::{Activator, Reason, Status, Timing, driver};
use chassis::failure::{Exit, Failure};
use chassis::progress::{Progress, Snapshot};
use chassis::schedule::Schedule;
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
    /// When the run that is on began, and its end.
    ending: Mutex<Option<(DateTime<Utc>, Arc<Ending>)>>,
    history: Mutex<History>,
}

impl Jobs {
    pub(super) fn get(&self, name: &JobName) -> Option<Arc<JobHandle>> {
        lock(&self.by_name).get(name).cloned()
    }

    pub(super) fn all(&self) -> Vec<Arc<JobHandle>> {
        lock(&self.by_name).values().cloned().collect()
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

fn timing(job: &Job) -> Result<Timing> {
    let parse = |expression: &String| Schedule::parse(expression, job.time_zone);
    Ok(Timing { schedule: job.schedule.as_ref().map(parse).transpose()?, jitter: job.jitter.0 })
}

impl Daemon {
    /// Starts the drivers of all jobs.
    pub(super) fn start_jobs(self: &Arc<Self>, config: &Config) -> Result<()> {
        config.run_jobs().try_for_each(|(name, job)| self.start_job(config, name, job))
    }

    /// Brings the drivers in line with a new configuration. What can fail is done first.
    pub(super) fn change_jobs(self: &Arc<Self>, old: &Config, new: &Config) -> Result<()> {
        let changed = new.run_jobs().filter(|(name, job)| old.jobs.get(*name) != Some(*job));
        for (name, job) in changed {
            match self.jobs.get(name) {
                Some(handle) => handle.activator.set_timing(timing(job)?),
                None => self.start_job(new, name, job)?,
            }
        }
        let is_gone = |name: &&JobName| new.run_jobs().all(|(still, _)| still != *name);
        for name in old.run_jobs().map(|(name, _)| name).filter(is_gone) {
            self.end_job(name);
        }
        Ok(())
    }

    /// A run that is on goes on to its end.
    fn end_job(&self, name: &JobName) {
        if let Some(handle) = lock(&self.jobs.by_name).remove(name) {
            handle.stop.cancel();
            self.registry.forget("job", name.as_str());
            tracing::info!(job = %name, "is no longer configured");
        }
    }

    fn start_job(self: &Arc<Self>, config: &Config, name: &JobName, job: &Job) -> Result<()> {
        let state = JobState::open(&config.job_dir(name))?;
        let history = state.begin(Utc::now()).context("remember the job")?;
        let (driver, activator, status) = driver(timing(job)?, history.served);
        let hand = Arc::new(Hand {
            options: Mutex::default(),
            progress: Mutex::default(),
            ending: Mutex::default(),
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
        self.show_history(name, &history);
        lock(&self.jobs.by_name).insert(name.clone(), handle);
        let daemon = Arc::clone(self);
        let name = name.clone();
        self.shutdown.spawn(async move {
            let work = |reason| daemon.run_one(&name, &hand, reason);
            driver.run(stop, Utc::now, work).await;
        });
        Ok(())
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
        *lock(&hand.ending) = Some((started, Arc::clone(&ending)));
        let stop = self.shutdown.stop();
        let run = {
            let (config, name) = (Arc::clone(&config), name.clone());
            tracing::info!(job = %name, ?reason, "run is due");
            move || run_job(&config, &name, options, &stop, &progress, &ending)
        };
        // A panic is a bug of ours: its message is on standard error; the daemon goes on.
        let outcome = tokio::task::spawn_blocking(run).await.unwrap_or_else(|panic| {
            Err(Failure::new(Exit::Failed, "the run panicked").because(panic).into())
        });
        let report = outcome.unwrap_or_else(|error| not_run(&config, name, started, &error));
        let history = JobState::at(&config.job_dir(name)).history();
        self.show_report(&report);
        self.show_history(name, &history);
        self.show_running(name, false);
        *lock(&hand.history) = history;
        *lock(&hand.progress) = None;
        *lock(&hand.ending) = None;
        self.show_status();
        report
    }

    /// Ends the runs that are still on for good, all at once: only before the program ends.
    pub(super) async fn abandon_runs(&self) {
        let mut ends = JoinSet::new();
        for job in self.jobs.all() {
            let Some((started, ending)) = lock(&job.hand.ending).clone() else { continue };
            let (config, name) = (self.config(), job.name.clone());
            ends.spawn_blocking(move || abandon_run(&config, &name, started, &ending));
        }
        ends.join_all().await;
    }
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
