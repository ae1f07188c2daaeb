//! The keeper's driver: the same that jobs have, for the one schedule in `[keeper]`.

use std::sync::{Arc, Mutex};

use anyhow::{Context, Result};
use chassis::drive::{Activator, Reason, Status, Timing, driver};
use chassis::units::format_duration;
use chrono::{DateTime, Utc};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::answers::KeeperStatus;
use super::health::DUE_TIMES_MAX;
use super::{Daemon, lock};
use crate::config::{Config, Keeper};
use crate::keeper::{KeeperHistory, KeeperReport, run_keeper};
use crate::report::Outcome;

/// The keeper, for whoever shows it.
#[derive(Debug)]
pub(super) struct KeeperHandle {
    activator: Activator,
    status: watch::Receiver<Status<Option<KeeperReport>>>,
    stop: CancellationToken,
    history: Arc<Mutex<KeeperHistory>>,
}

impl KeeperHandle {
    pub(super) fn is_alive(&self) -> bool {
        self.stop.is_cancelled() || self.status.has_changed().is_ok()
    }
}

/// What a driver begins with.
pub(super) struct Prepared {
    timing: Timing,
    history: KeeperHistory,
}

/// Does what can fail. None if nothing is scheduled.
pub(super) fn prepare_keeper(config: &Config) -> Result<Option<Prepared>> {
    let Some(keeper) = &config.keeper else { return Ok(None) };
    let Some(expression) = &keeper.schedule else { return Ok(None) };
    let history = KeeperHistory::begin(&config.state_dir, Utc::now());
    let history = history.context("remember the keeper")?;
    let schedule = Some(expression.in_zone(keeper.time_zone));
    Ok(Some(Prepared { timing: Timing { schedule, jitter: keeper.jitter.0 }, history }))
}

impl Daemon {
    fn keeper(&self) -> Option<Arc<KeeperHandle>> {
        lock(&self.keeper).clone()
    }

    pub(super) fn keeper_is_alive(&self) -> bool {
        self.keeper().is_none_or(|keeper| keeper.is_alive())
    }

    /// Brings the driver in line with a configuration that was prepared: begins it, gives it a new timing, or ends it.
    /// A run that is on goes on to its end.
    pub(super) fn change_keeper(self: &Arc<Self>, prepared: Option<Prepared>) {
        match (self.keeper(), prepared) {
            (Some(handle), Some(prepared)) => handle.activator.set_timing(prepared.timing),
            (None, Some(prepared)) => self.start_keeper(prepared),
            (Some(handle), None) => {
                handle.stop.cancel();
                *lock(&self.keeper) = None;
            }
            (None, None) => {}
        }
    }

    fn start_keeper(self: &Arc<Self>, Prepared { timing, history }: Prepared) {
        let (driver, activator, status) = driver(timing, history.served);
        self.show_keeper(&history);
        let history = Arc::new(Mutex::new(history));
        let stop = self.shutdown.token.child_token();
        *lock(&self.keeper) = Some(Arc::new(KeeperHandle {
            activator,
            status,
            stop: stop.clone(),
            history: Arc::clone(&history),
        }));
        let daemon = Arc::clone(self);
        self.shutdown.spawn(async move {
            let work = |reason| daemon.keep(&history, reason);
            driver.run(stop, Utc::now, work).await;
        });
    }

    /// One run. None if the configuration has no keeper any more.
    async fn keep(
        self: &Arc<Self>,
        history: &Mutex<KeeperHistory>,
        reason: Reason,
    ) -> Option<KeeperReport> {
        let config = self.config();
        let stop = self.shutdown.stop();
        tracing::info!(?reason, "the keeper's run is due");
        self.show_keeper_running(true);
        let run = {
            let config = Arc::clone(&config);
            move || config.keeper.as_ref().map(|keeper| run_keeper(&config, keeper, &stop))
        };
        // A panic is a bug of ours: its message is on standard error; the daemon goes on.
        let report = tokio::task::spawn_blocking(run).await.unwrap_or_default();
        self.show_keeper_running(false);
        let report = report?;
        let mut history = lock(history);
        if let Err(error) = history.record(&config.state_dir, &report) {
            tracing::error!("failed to remember the keeper's run: {error:#}");
        }
        tracing::info!(outcome = report.outcome.as_str(), "the keeper's run ended");
        self.count_keeper(&report);
        self.show_keeper(&history);
        Some(report)
    }

    /// All of it; none if nothing is scheduled.
    pub(super) fn keeper_status(&self) -> Option<KeeperStatus> {
        let keeper = self.keeper()?;
        let history = lock(&keeper.history).clone();
        let status = keeper.status.borrow();
        Some(KeeperStatus {
            running: status.running,
            next_due: status.next_due,
            last: history.last,
            last_good: history.last_good,
        })
    }

    /// Why somebody should look.
    pub(super) fn keeper_reasons(&self, now: DateTime<Utc>) -> Vec<String> {
        let Some(handle) = self.keeper() else { return Vec::new() };
        let history = lock(&handle.history);
        let config = self.config();
        config.keeper.as_ref().map_or_else(Vec::new, |keeper| reasons_of(keeper, &history, now))
    }
}

fn reasons_of(keeper: &Keeper, history: &KeeperHistory, now: DateTime<Utc>) -> Vec<String> {
    let last = history.last.iter().filter(|last| last.outcome != Outcome::Done && !last.stopped);
    let depots = last.flat_map(|last| &last.depots);
    let told = depots.filter_map(|depot| Some((&depot.name, depot.error.as_ref()?)));
    let mut reasons: Vec<String> =
        told.map(|(name, error)| format!("keeper: depot {name}: {error}")).collect();
    reasons.extend(overdue(keeper, history, now));
    reasons
}

fn overdue(keeper: &Keeper, history: &KeeperHistory, now: DateTime<Utc>) -> Option<String> {
    let schedule = keeper.schedule.as_ref()?.in_zone(keeper.time_zone);
    let since = history.last_good?;
    let due = schedule.upcoming(since).take_while(|due| *due <= now).take(DUE_TIMES_MAX + 1);
    let age = format_duration((now - since).to_std().unwrap_or_default());
    (due.count() > DUE_TIMES_MAX)
        .then(|| format!("keeper: overdue, the last good run is {age} old"))
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;
    use crate::keeper::KeptDepot;

    #[test]
    fn a_depot_that_was_not_kept_and_a_keeper_that_rests_are_told() {
        let keeper: Keeper = chassis::config::parse("x", "schedule = '@hourly'").unwrap();
        let start = DateTime::from_timestamp(1_795_392_000, 0).unwrap();
        let depot =
            KeptDepot { name: "b".into(), error: Some("no".into()), ..KeptDepot::default() };
        let mut report = KeeperReport {
            outcome: Outcome::Failed,
            started: start,
            ended: start,
            stopped: false,
            depots: vec![depot],
        };
        let check = |report: &KeeperReport, minutes, expected: &[&str]| {
            let last = Some(report.clone());
            let history = KeeperHistory { last, last_good: Some(start), served: None };
            let now = start + TimeDelta::minutes(minutes);
            assert_eq!(reasons_of(&keeper, &history, now), expected);
        };
        check(&report, 10, &["keeper: depot b: no"]);
        report.stopped = true;
        check(&report, 179, &[]);
        check(&report, 180, &["keeper: overdue, the last good run is 3 h 00 min old"]);
    }
}
