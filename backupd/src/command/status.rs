//! `backupctl status`: what can be restored comes first, then how the last runs ended and what comes next.
//!
//! The depots are looked into by this command, so that the first lines are right even when the daemon is dead; the rest
//! is then told from what the daemon remembered.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use chassis::control::Client;
use chassis::failure::{Exit, hint_of};
use chrono::{DateTime, Utc};
use depot::depot::{Depot, is_outage};
use depot::names::{HostName, JobName, SnapshotId};
use serde::Serialize;

use super::Context;
use super::logs::{self, LogWindow};
use super::output::{Colour, escaped, minute, note, paint, print, print_json, table};
use super::survey::{Surveyed, depot_names, survey};
use crate::config::{Config, DepotName, Keeper, Mode, Source};
use crate::daemon::answers::{JobStatus, KeeperStatus, StatusAnswer};
use crate::report::RunReport;
use crate::state::JobState;

/// What can be restored of one job on one host.
#[derive(Debug, PartialEq, Serialize)]
struct Window {
    job: JobName,
    host: HostName,
    /// None if there is nothing.
    from: Option<DateTime<Utc>>,
    to: Option<DateTime<Utc>>,
    backups: usize,
}

#[derive(Debug, Serialize)]
struct DepotState {
    name: DepotName,
    backups: usize,
    /// Why it did not answer.
    error: Option<String>,
}

#[derive(Debug, Serialize)]
struct Shown {
    restorable: Vec<Window>,
    logs: Vec<LogWindow>,
    depots: Vec<DepotState>,
    /// None if it does not answer, or if there is nothing for it to do.
    daemon: Option<StatusAnswer>,
    error: Option<String>,
}

pub(super) fn run(context: &Context) -> Result<Exit> {
    let config = context.config()?;
    let answer = if needs_daemon(&config) { Some(ask(&config)?) } else { None };
    let surveyed = survey(&config, &depot_names(&config, &[])?);
    let restorable = windows(&config, &restorable_ids(&config, &surveyed));
    let jobs = match &answer {
        Some(Ok(answer)) => answer.jobs.clone(),
        _ => remembered(&config),
    };
    let live = match &answer {
        Some(Ok(answer)) => answer.logs.as_slice(),
        _ => &[],
    };
    let live: Vec<_> = live.iter().map(|log| (log.job.clone(), log.status.clone())).collect();
    let logs = logs::windows(&config, &surveyed, &jobs, &live, Utc::now());
    let is_good = answer.as_ref().is_none_or(is_well)
        && surveyed.iter().all(|depot| depot.result.is_ok())
        && logs.iter().all(|log| log.holes.is_empty());
    if context.json {
        let (daemon, error) = match answer.transpose() {
            Ok(daemon) => (daemon, None),
            Err(error) => (None, Some(format!("{error:#}"))),
        };
        print_json(&Shown { restorable, logs, depots: depot_states(&surveyed), daemon, error })?;
    } else {
        print(&render(&config, &restorable, &logs, &jobs, &surveyed))?;
        if let Some(Ok(StatusAnswer { keeper: Some(keeper), .. })) = &answer {
            print(&keeper_line(keeper))?;
        }
        tell_troubles(answer.as_ref(), &surveyed);
    }
    Ok(if is_good { Exit::Done } else { Exit::Failed })
}

/// The host of a depot has nothing for a daemon to do, unless its keeper runs by a schedule.
fn needs_daemon(config: &Config) -> bool {
    let is_scheduled = |keeper: &Keeper| keeper.schedule.is_some();
    !config.jobs.is_empty() || config.keeper.as_ref().is_some_and(is_scheduled)
}

/// The outer error is ours.
fn ask(config: &Config) -> Result<Result<StatusAnswer>> {
    let client = Client::new(&config.control_socket, "backupd");
    Ok(super::runtime()?.block_on(client.get_json("/status")))
}

fn is_well(answer: &Result<StatusAnswer>) -> bool {
    let is_well =
        |answer: &StatusAnswer| answer.reasons.is_empty() && answer.reload_error.is_none();
    answer.as_ref().is_ok_and(is_well)
}

/// What the daemon wrote down, for when it does not answer.
fn remembered(config: &Config) -> Vec<JobStatus> {
    let status = |job: &JobName| {
        let history = JobState::at(&config.job_dir(job)).history();
        JobStatus {
            job: job.clone(),
            running: None,
            progress: None,
            next_due: None,
            last: history.last,
            last_good: history.last_good,
        }
    };
    config.run_jobs().map(|(job, _)| status(job)).collect()
}

/// The backups that some depot can give back: of an increment, its whole chain must be there.
fn restorable_ids(config: &Config, surveyed: &[Surveyed]) -> Vec<SnapshotId> {
    let mut ids: Vec<SnapshotId> = Vec::new();
    for depot in surveyed {
        let Ok((open, found)) = &depot.result else { continue };
        let mut parents: BTreeMap<&SnapshotId, Option<SnapshotId>> = BTreeMap::new();
        for id in found.keys() {
            let parent = if may_be_increment(config, &id.job) {
                let Ok(needs) = open.needs(id) else { continue };
                needs.parent
            } else {
                None
            };
            parents.insert(id, parent);
        }
        drop_torn(open, &mut parents);
        ids.extend(parents.keys().filter(|id| has_chain(id, &parents)).map(|id| (*id).clone()));
    }
    ids.sort();
    ids.dedup();
    ids
}

/// The newest of each job and host may be one whose upload was cut: nobody can restore that.
fn drop_torn(depot: &Depot, parents: &mut BTreeMap<&SnapshotId, Option<SnapshotId>>) {
    let mut seen = BTreeSet::new();
    let newest_first: Vec<&SnapshotId> = parents.keys().rev().copied().collect();
    for id in newest_first {
        let source = (&id.job, &id.host);
        if seen.contains(&source) {
            continue;
        }
        match depot.needs(id) {
            Err(error) if !is_outage(&error) => drop(parents.remove(id)),
            _ => drop(seen.insert(source)),
        }
    }
}

fn may_be_increment(config: &Config, job: &JobName) -> bool {
    match config.jobs.get(job).map(|job| job.source()) {
        Some(Source::Files(_) | Source::Log(_)) => false,
        Some(Source::Database(database)) => database.mode == Mode::Lsn,
        None => true,
    }
}

fn has_chain(id: &SnapshotId, parents: &BTreeMap<&SnapshotId, Option<SnapshotId>>) -> bool {
    let mut id = id;
    // A chain cannot be longer than there are backups: a circle ends here.
    for _ in 0..=parents.len() {
        match parents.get(id) {
            Some(Some(parent)) => id = parent,
            Some(None) => return true,
            None => return false,
        }
    }
    false
}

/// One window for each job and host; for a configured job there is one even if it is empty.
fn windows(config: &Config, ids: &[SnapshotId]) -> Vec<Window> {
    let mut by_source: BTreeMap<(JobName, HostName), Vec<&SnapshotId>> = BTreeMap::new();
    for (job, _) in config.run_jobs() {
        by_source.insert((job.clone(), config.host.clone()), Vec::new());
    }
    for id in ids {
        let source = (id.job.clone(), id.host.clone());
        // Whoever has jobs sees his own; the keeper sees all.
        if config.jobs.is_empty() || by_source.contains_key(&source) {
            by_source.entry(source).or_default().push(id);
        }
    }
    by_source
        .into_iter()
        .map(|((job, host), ids)| Window {
            job,
            host,
            from: ids.iter().map(|id| id.time).min(),
            to: ids.iter().map(|id| id.time).max(),
            backups: ids.len(),
        })
        .collect()
}

fn depot_states(surveyed: &[Surveyed]) -> Vec<DepotState> {
    let state = |depot: &Surveyed| DepotState {
        name: depot.name.clone(),
        backups: depot.result.as_ref().map_or(0, |(_, found)| found.len()),
        error: depot.result.as_ref().err().map(|error| format!("{error:#}")),
    };
    surveyed.iter().map(state).collect()
}

fn render(
    config: &Config,
    windows: &[Window],
    logs: &[LogWindow],
    jobs: &[JobStatus],
    surveyed: &[Surveyed],
) -> String {
    let mut lines: Vec<String> = windows.iter().map(|window| window_line(config, window)).collect();
    if windows.is_empty() {
        lines.push("restorable: nothing".to_owned());
    }
    lines.extend(logs.iter().map(logs::line));
    if !jobs.is_empty() {
        let rows: Vec<Vec<String>> =
            jobs.iter().map(|job| job_row(config, job, surveyed)).collect();
        lines.push(String::new());
        lines.push(table(
            &["JOB", "LAST GOOD (UTC)", "LAST RUN", "NEXT RUN", "DEPOTS"],
            &rows,
            &[],
        ));
    }
    lines.join("\n")
}

fn window_line(config: &Config, window: &Window) -> String {
    let source = if window.host == config.host {
        window.job.to_string()
    } else {
        format!("{} of {}", window.job, window.host)
    };
    let count = match window.backups {
        1 => "1 backup".to_owned(),
        count => format!("{count} backups"),
    };
    match (window.from, window.to) {
        (Some(from), Some(to)) if from != to => {
            format!("restorable: {source} {} .. {} UTC ({count})", minute(from), minute(to))
        }
        (Some(from), _) => format!("restorable: {source} {} UTC ({count})", minute(from)),
        _ => format!("restorable: {source} nothing yet"),
    }
}

fn job_row(config: &Config, job: &JobStatus, surveyed: &[Surveyed]) -> Vec<String> {
    let good = job.last_good.as_ref().map_or("never".to_owned(), |report| minute(report.started));
    let last = job.last.as_ref().map_or("never".to_owned(), |report| {
        format!("{} {}", report.outcome.as_str(), minute(report.started))
    });
    let next = match (&job.running, job.next_due) {
        (Some(running), _) => format!("running since {}", running.since.format("%H:%M")),
        (None, Some(due)) => minute(due),
        (None, None) => "on demand".to_owned(),
    };
    let Some(configured) = config.jobs.get(&job.job) else {
        return vec![job.job.to_string(), good, last, next, String::new()];
    };
    let newest = newest_snapshot(job);
    let depots: Vec<String> = config
        .depots_of(configured)
        .into_iter()
        .map(|name| depot_word(name, newest, surveyed))
        .collect();
    vec![job.job.to_string(), good, last, next, depots.join(", ")]
}

fn keeper_line(keeper: &KeeperStatus) -> String {
    let last = keeper.last.as_ref().map_or("never ran".to_owned(), |report| {
        format!("{} {}", report.outcome.as_str(), minute(report.started))
    });
    let next = match (&keeper.running, keeper.next_due) {
        (Some(running), _) => format!("running since {}", running.since.format("%H:%M")),
        (None, Some(due)) => format!("next {}", minute(due)),
        (None, None) => "nothing is due".to_owned(),
    };
    format!("keeper: {last}, {next} (UTC)")
}

fn newest_snapshot(job: &JobStatus) -> Option<&SnapshotId> {
    let of =
        |report: &'_ Option<RunReport>| report.as_ref().and_then(|report| report.snapshot.clone());
    let is_last = of(&job.last).is_some();
    let report = if is_last { job.last.as_ref() } else { job.last_good.as_ref() };
    report.and_then(|report| report.snapshot.as_ref())
}

fn depot_word(name: &DepotName, newest: Option<&SnapshotId>, surveyed: &[Surveyed]) -> String {
    let found = surveyed.iter().find(|depot| depot.name == *name).map(|depot| &depot.result);
    match (found, newest) {
        (Some(Ok((_, found))), Some(id)) if !found.contains_key(id) => format!("{name} (behind)"),
        (Some(Ok(_)), _) => name.to_string(),
        _ => format!("{name} (down)"),
    }
}

fn tell_troubles(answer: Option<&Result<StatusAnswer>>, surveyed: &[Surveyed]) {
    let problem = paint("problem:", Colour::Red);
    match answer {
        None => {}
        Some(Err(error)) => {
            note(&format!("{problem} {error:#}"));
            if let Some(hint) = hint_of(error) {
                note(&format!("hint: {hint}"));
            }
        }
        Some(Ok(answer)) => {
            let tell = |reason: &str| note(&format!("{problem} {}", escaped(reason)));
            answer.reasons.iter().for_each(|reason| tell(reason));
            if let Some(error) = &answer.reload_error {
                note(&format!("{problem} the configuration was not taken over: {error}"));
            }
        }
    }
    for depot in surveyed {
        if let Err(error) = &depot.result {
            note(&format!("{problem} {error:#}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(time: &str) -> SnapshotId {
        format!("db--{time}--db1").parse().unwrap()
    }

    #[test]
    fn an_increment_without_its_chain_is_no_backup() {
        let (full, first, second) =
            (id("20261101T020000Z"), id("20261102T020000Z"), id("20261103T020000Z"));
        let whole: BTreeMap<_, _> =
            [(&full, None), (&first, Some(full.clone())), (&second, Some(first.clone()))].into();
        assert!(has_chain(&second, &whole));
        let broken: BTreeMap<_, _> = [(&full, None), (&second, Some(first.clone()))].into();
        assert!(!has_chain(&second, &broken));
        let circle: BTreeMap<_, _> =
            [(&first, Some(second.clone())), (&second, Some(first.clone()))].into();
        assert!(!has_chain(&second, &circle));
    }
}
