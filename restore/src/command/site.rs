//! The whole site at a point: the database, and the files of all jobs as of the newest backup before.
//!
//! What is done is kept in the target until all is done, so that the same command goes on, to the same
//! point and with the same backups.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use chassis::durable;
use chassis::failure::{Exit, Failure};
use chrono::{DateTime, Utc};
use depot::manifest::SnapshotKind;
use depot::names::{HostName, JobName, SnapshotId};
use serde::{Deserialize, Serialize};

use super::point::{Checked, Session};
use crate::chain::plan;
use crate::plan::Plan;
use crate::point::Goal;
use crate::point::base::Way;
use crate::replay::state::State;
use crate::report::Report;

/// The file in the target that says that not all is done.
const FILE: &str = ".restore-site-unfinished";
const BYTES_MAX: u64 = 32 << 20;

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Site {
    /// The point.
    state: State,
    /// The backups of files, by their directories.
    files: BTreeMap<String, SnapshotId>,
    /// Jobs without a backup at or before the point.
    missing: Vec<String>,
    /// The directories that are done, with their reports.
    done: BTreeMap<String, Report>,
}

fn read(target: &Path) -> Result<Option<Site>> {
    let path = target.join(FILE);
    match std::fs::metadata(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).context("look at the state of the restore"),
        Ok(found) => ensure!(found.len() <= BYTES_MAX, "{} is too long", path.display()),
    }
    let text = std::fs::read(&path).context("read the state of the restore")?;
    serde_json::from_slice(&text)
        .with_context(|| format!("read {}: of another version?", path.display()))
}

fn write(target: &Path, site: &Site) -> Result<()> {
    let text = serde_json::to_vec_pretty(site).context("write the state of the restore")?;
    durable::write_replace(&target.join(FILE), &text, 0o600).context("mark the target")
}

/// What an unfinished restore in the target is of.
pub(super) fn left(target: &Path) -> Result<Option<State>> {
    Ok(read(target)?.map(|site| site.state))
}

/// Restores everything that is not done.
pub(super) fn restore(
    session: &Session<'_>,
    state: &State,
    way: &Way,
    checked: Checked,
) -> Result<Report> {
    let target = session.arguments.target.as_deref().expect("it was checked before");
    let mut site = match read(target)?.filter(|site| site.state.request == state.request) {
        Some(site) => site,
        None => begin(session, state, target)?,
    };
    let database = state.snapshot.job.to_string();
    let mut report = if let Some(done) = site.done.get(&database) {
        done.clone()
    } else {
        let report = session.restore(state, way, checked)?;
        site.done.insert(database, report.clone());
        write(target, &site)?;
        report
    };
    for (dir, id) in site.files.clone() {
        if !site.done.contains_key(&dir) {
            let options = session.whole(&target.join(&dir))?;
            let files = session.restore_once(session.load(&id)?, &options)?;
            site.done.insert(dir.clone(), files);
            write(target, &site)?;
        }
        report.site.push(site.done[&dir].clone());
    }
    report.files_missing.clone_from(&site.missing);
    std::fs::remove_file(target.join(FILE)).context("remove the mark of an unfinished restore")?;
    durable::sync_dir(target)?;
    Ok(report)
}

fn begin(session: &Session<'_>, state: &State, target: &Path) -> Result<Site> {
    use std::os::unix::fs::DirBuilderExt;
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true).mode(0o700);
    builder.create(target).with_context(|| format!("make {}", target.display()))?;
    let mut names = std::fs::read_dir(target).context("list the target")?;
    let is_empty = names.next().is_none();
    ensure!(
        is_empty,
        Failure::new(Exit::Usage, format!("the target {} is not empty", target.display()))
            .hint("name a new directory")
    );
    let (files, missing) = choose(session, state)?;
    let site = Site { state: state.clone(), files, missing, done: BTreeMap::new() };
    write(target, &site)?;
    Ok(site)
}

/// The plans of all files.
pub(super) fn plans(session: &Session<'_>, state: &State) -> Result<Vec<Plan>> {
    let (files, missing) = choose(session, state)?;
    for job in missing {
        tracing::warn!("{job} has no backup at or before the point");
    }
    let mut plans = Vec::new();
    for (dir, id) in files {
        let loaded = session.load(&id)?;
        let mut plan = plan(session.depot(), &loaded, session.now)?;
        plan.target = session.arguments.target.as_ref().map(|target| target.join(dir));
        plans.push(plan);
    }
    Ok(plans)
}

/// The newest backup at or before the point of every job of files, by its directory, and those that
/// have none.
fn choose(
    session: &Session<'_>,
    state: &State,
) -> Result<(BTreeMap<String, SnapshotId>, Vec<String>)> {
    let time = time_of(session, state)?;
    let ids = || session.snapshots().iter().map(|info| &info.id);
    let pairs: BTreeSet<(&JobName, &HostName)> = ids().map(|id| (&id.job, &id.host)).collect();
    let (mut files, mut missing) = (BTreeMap::new(), Vec::new());
    for &(job, host) in &pairs {
        let of_pair = || ids().filter(|id| (&id.job, &id.host) == (job, host));
        let newest = of_pair().max_by_key(|id| id.time).expect("a pair has a backup");
        if session.scene.head(newest)?.kind != SnapshotKind::Files {
            continue;
        }
        let is_alone = pairs.iter().filter(|(other, _)| *other == job).count() == 1;
        let dir = if is_alone { job.to_string() } else { format!("{job}--{host}") };
        match of_pair().filter(|id| id.time <= time).max_by_key(|id| id.time) {
            Some(id) => drop(files.insert(dir, id.clone())),
            None => missing.push(format!("{job} of {host}")),
        }
    }
    Ok((files, missing))
}

/// When the point is: for a transaction, when it was committed.
fn time_of(session: &Session<'_>, state: &State) -> Result<DateTime<Utc>> {
    Ok(match (&session.goal, state.cut.inside.last()) {
        (Goal::Latest, _) => session.now,
        (Goal::Time(time), _) => *time,
        (_, Some(last)) => last.committed,
        (_, None) => session.scene.base(&state.snapshot)?.head.ended,
    })
}
