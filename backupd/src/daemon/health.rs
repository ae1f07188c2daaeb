//! What is wrong, told from the last runs. Pure, and the same for `/healthz` and `backupctl status`.

use chassis::units::format_duration;
use chrono::{DateTime, Utc};
use depot::names::JobName;

use super::Daemon;
use crate::config::Job;
use crate::report::Outcome;
use crate::state::History;

/// A job that was due more often than this since its last good run is overdue.
pub(super) const DUE_TIMES_MAX: usize = 2;

impl Daemon {
    /// All reasons for which somebody should look; none if all is well.
    pub(super) fn reasons(&self, now: DateTime<Utc>) -> Vec<String> {
        let config = self.config();
        let mut reasons = Vec::new();
        for job in self.jobs.all() {
            if let Some(configured) = config.jobs.get(&job.name) {
                reasons.extend(reasons_of(&job.name, configured, &job.history(), now));
            }
        }
        reasons.extend(self.keeper_reasons(now));
        reasons.extend(self.log_reasons(now));
        reasons
    }
}

fn reasons_of(name: &JobName, job: &Job, history: &History, now: DateTime<Utc>) -> Vec<String> {
    let mut reasons = Vec::new();
    if let Some(last) = &history.last {
        if last.outcome == Outcome::Failed {
            let error = last.error.as_deref().unwrap_or("unknown");
            reasons.push(format!("job {name}: last run failed: {error}"));
        }
        for depot in &last.depots {
            if let Some(error) = &depot.error {
                reasons.push(format!("job {name}: not in depot {}: {error}", depot.name));
            }
        }
    }
    reasons.extend(overdue(name, job, history, now));
    reasons
}

/// A run that is in some depot counts here: that the others lack it is a reason of its own.
fn overdue(name: &JobName, job: &Job, history: &History, now: DateTime<Utc>) -> Option<String> {
    let schedule = job.schedule.as_ref()?.in_zone(job.time_zone);
    let good = [&history.last, &history.last_good]
        .into_iter()
        .flatten()
        .filter(|report| report.snapshot.is_some())
        .map(|report| report.started)
        .max();
    let since = good.or(history.known_since)?;
    let missed =
        schedule.upcoming(since).take_while(|due| *due <= now).take(DUE_TIMES_MAX + 1).count();
    if missed <= DUE_TIMES_MAX {
        return None;
    }
    let age = format_duration((now - since).to_std().unwrap_or_default());
    Some(match good {
        Some(_) => format!("job {name}: overdue, the last backup is {age} old"),
        None => format!("job {name}: overdue, there is no backup after {age}"),
    })
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;
    use depot::manifest::SnapshotKind;

    use super::*;
    use crate::report::{DepotResult, RunReport};

    fn job() -> Job {
        chassis::config::parse("x", "schedule = '@hourly'\n[files]\nroot = '/x'\n").unwrap()
    }

    fn report(outcome: Outcome, at: DateTime<Utc>) -> RunReport {
        let name = "site".parse().unwrap();
        let error = anyhow::anyhow!("disk is full");
        let failed = RunReport::failed(&name, SnapshotKind::Files, at, at, &error);
        match outcome {
            Outcome::Failed => failed,
            _ => RunReport {
                outcome,
                error: None,
                snapshot: Some("site--20261123T021500Z--web1".parse().unwrap()),
                ..failed
            },
        }
    }

    fn check(history: &History, minutes: i64, expected: &[&str]) {
        let now = start() + TimeDelta::minutes(minutes);
        let reasons = reasons_of(&"site".parse().unwrap(), &job(), history, now);
        assert_eq!(reasons, expected, "after {minutes} minutes");
    }

    fn start() -> DateTime<Utc> {
        DateTime::from_timestamp(1_795_392_000, 0).unwrap()
    }

    #[test]
    fn a_job_is_overdue_when_it_was_due_thrice_without_a_backup() {
        let new = History { known_since: Some(start()), ..History::default() };
        check(&new, 179, &[]);
        check(&new, 180, &["job site: overdue, there is no backup after 3 h 00 min"]);
        let good = report(Outcome::Done, start());
        let good = History { last: Some(good.clone()), last_good: Some(good), ..new };
        check(&good, 179, &[]);
        check(&good, 200, &["job site: overdue, the last backup is 3 h 20 min old"]);
        check(&History::default(), 500, &[]);
    }

    #[test]
    fn a_failed_run_and_a_silent_depot_are_told() {
        let failed = History { last: Some(report(Outcome::Failed, start())), ..History::default() };
        check(&failed, 10, &["job site: last run failed: disk is full"]);
        let depot = DepotResult { name: "b".into(), error: Some("not reachable".into()) };
        let partial = RunReport { depots: vec![depot], ..report(Outcome::Partial, start()) };
        let partial = History { last: Some(partial), ..History::default() };
        check(&partial, 10, &["job site: not in depot b: not reachable"]);
    }
}
