//! The numbers that Prometheus reads. Their names are part of what the daemon promises:
//! `docs/operations.md` lists them.

use chrono::{DateTime, Utc};
use depot::names::JobName;

use super::Daemon;
use crate::keeper::{KeeperHistory, KeeperReport};
use crate::report::{Outcome, RunReport};
use crate::state::History;

impl Daemon {
    /// Counts a run that has ended.
    pub(super) fn show_report(&self, report: &RunReport) {
        let labels = [("job", report.job.as_str()), ("outcome", report.outcome.as_str())];
        self.registry
            .counter("holdfast_backup_runs_total", "Runs that ended, by outcome.", &labels)
            .increment();
        let job = [("job", report.job.as_str())];
        self.registry
            .counter("holdfast_backup_bytes_total", "Bytes that were backed up.", &job)
            .add(report.bytes);
        self.registry
            .counter("holdfast_backup_stored_bytes_total", "Bytes that were newly stored.", &job)
            .add(report.stored);
    }

    /// Shows the last runs; right after the start, too.
    pub(super) fn show_history(&self, name: &JobName, history: &History) {
        if let Some(last) = &history.last {
            self.show_last(name, last);
        }
        if let Some(good) = &history.last_good {
            let help = "When the last run ended that was done wholly, in seconds since 1970.";
            self.gauge(
                "holdfast_backup_last_success_timestamp_seconds",
                help,
                name,
                secs(good.ended),
            );
        }
    }

    fn show_last(&self, name: &JobName, last: &RunReport) {
        let help = "When the last run ended, in seconds since 1970.";
        self.gauge("holdfast_backup_last_run_timestamp_seconds", help, name, secs(last.ended));
        let help = "1 if the last run was done wholly or in part, 0 if it failed.";
        let is_good = f64::from(u8::from(last.outcome != Outcome::Failed));
        self.gauge("holdfast_backup_last_run_success", help, name, is_good);
        let help = "Files that the last run could not store as they were.";
        self.gauge("holdfast_backup_last_run_problems", help, name, last.problems.len() as f64);
        if last.outcome == Outcome::Failed {
            return;
        }
        let help = "How long the last run took that did not fail.";
        self.gauge("holdfast_backup_duration_seconds", help, name, last.duration().as_secs_f64());
        let help = "Size of the last backup.";
        self.gauge("holdfast_backup_size_bytes", help, name, last.bytes as f64);
        let help = "Bytes that the last backup newly stored.";
        self.gauge("holdfast_backup_last_stored_bytes", help, name, last.stored as f64);
        for depot in &last.depots {
            let labels = [("job", name.as_str()), ("depot", depot.name.as_str())];
            let help = "1 if the last backup is in the depot.";
            let is_there = f64::from(u8::from(depot.error.is_none()));
            self.registry.gauge("holdfast_backup_in_depot", help, &labels).set(is_there);
        }
    }

    /// Shows whether a job is running.
    pub(super) fn show_running(&self, name: &JobName, is_running: bool) {
        let value = f64::from(u8::from(is_running));
        self.gauge("holdfast_backup_running", "1 while the job runs.", name, value);
    }

    /// Counts a run of the keeper that has ended.
    pub(super) fn count_keeper(&self, report: &KeeperReport) {
        for depot in &report.depots {
            let labels = [("depot", depot.name.as_str())];
            let help = "Backups that the keeper deleted.";
            self.registry
                .counter("holdfast_keeper_deleted_backups_total", help, &labels)
                .add(depot.snapshots);
            let help = "Bytes that the keeper freed.";
            self.registry
                .counter("holdfast_keeper_freed_bytes_total", help, &labels)
                .add(depot.freed_bytes);
        }
    }

    /// Shows the keeper's last run; right after the start, too.
    pub(super) fn show_keeper(&self, history: &KeeperHistory) {
        if let Some(good) = history.last_good {
            let help =
                "When the keeper's last run ended that was done wholly, in seconds since 1970.";
            let metric = "holdfast_keeper_last_success_timestamp_seconds";
            self.registry.gauge(metric, help, &[]).set(secs(good));
        }
        let Some(last) = &history.last else { return };
        let help = "When the keeper's last run ended, in seconds since 1970.";
        let metric = "holdfast_keeper_last_run_timestamp_seconds";
        self.registry.gauge(metric, help, &[]).set(secs(last.ended));
        for depot in &last.depots {
            let labels = [("depot", depot.name.as_str())];
            let help = "1 if the keeper's last run verified and pruned the depot.";
            let is_kept = f64::from(u8::from(depot.error.is_none()));
            self.registry.gauge("holdfast_keeper_depot_kept", help, &labels).set(is_kept);
            let help = "Objects that the keeper's last run found damaged or missing.";
            let metric = "holdfast_keeper_damaged_objects";
            self.registry.gauge(metric, help, &labels).set(depot.damaged as f64);
        }
    }

    /// Shows whether the keeper is at work.
    pub(super) fn show_keeper_running(&self, is_running: bool) {
        let value = f64::from(u8::from(is_running));
        self.registry.gauge("holdfast_keeper_running", "1 while the keeper runs.", &[]).set(value);
    }

    /// Shows whether the configuration in force is the one in the file.
    pub(super) fn show_reload(&self, is_good: bool) {
        let help = "1 if the last reading of the configuration succeeded.";
        let value = f64::from(u8::from(is_good));
        self.registry.gauge("holdfast_backup_config_good", help, &[]).set(value);
    }

    fn gauge(&self, metric: &'static str, help: &'static str, job: &JobName, value: f64) {
        self.registry.gauge(metric, help, &[("job", job.as_str())]).set(value);
    }
}

fn secs(time: DateTime<Utc>) -> f64 {
    time.timestamp() as f64
}
