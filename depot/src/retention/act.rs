//! Doing what a plan says, in the order that keeps every promise when it is cut anywhere:
//! manifests, needs, then packs.

use anyhow::{Context, Result, ensure};
use chassis::failure::{Exit, Failure};
use chrono::{DateTime, Utc};
use serde::Serialize;

use super::Plan;
use super::survey::read_marks;
use crate::depot::{CANDIDATES_MAX, Depot, explain};
use crate::names::{SnapshotId, candidate};
use crate::store::{Body, StoreError};

/// What was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Pruned {
    /// Snapshots that are gone.
    pub snapshots: u64,
    /// Packs that were condemned.
    pub condemned: u64,
    /// Objects of packs that are gone.
    pub objects: u64,
    /// Pieces of the log that are gone.
    pub logs: u64,
}

/// Deletes what the plan says. Every step is whole by itself; the next prune goes on where this one
/// was cut.
pub fn perform(depot: &Depot, plan: &Plan, now: DateTime<Utc>) -> Result<Pruned> {
    let mut pruned = Pruned::default();
    let marks = read_marks(depot)?;
    let going = || plan.verdicts.iter().filter(|verdict| !verdict.keep);
    let newly_marked = going().find(|verdict| marks.contains(&verdict.id.to_string()));
    if let Some(verdict) = newly_marked {
        return Err(Failure::new(Exit::Busy, format!("`{}` was just marked to stay", verdict.id))
            .hint("run the prune again: it plans anew")
            .into());
    }
    for verdict in going() {
        delete_candidates(depot, &verdict.id.manifest_object())?;
        delete_candidates(depot, &verdict.id.needs_object())?;
        pruned.snapshots += 1;
    }
    for name in plan.orphans.iter().chain(&plan.proofs) {
        delete(depot, name)?;
    }
    for name in &plan.logs {
        delete(depot, name)?;
        pruned.logs += 1;
    }
    for name in &plan.delete {
        delete(depot, name)?;
        pruned.objects += 1;
    }
    for torn in &plan.torn {
        if depot.checksum_of(&torn.whole)? == torn.pack {
            delete(depot, &torn.name)?;
            pruned.objects += 1;
        }
    }
    // Only when its packs are gone: agents must not refer to a pack that is about to go.
    for name in &plan.spent {
        delete(depot, name)?;
    }
    if !plan.condemn.is_empty() {
        let lines = plan.condemn.iter().map(|pack| format!("{pack}\n"));
        let text = lines.collect::<String>();
        let name =
            format!("condemned/{}--{:08x}", now.format("%Y%m%dT%H%M%SZ"), rand::random::<u32>());
        let body = Body::Bytes(text.as_bytes());
        depot.store().create(&name, body).map_err(explain).context("condemn packs")?;
        pruned.condemned = plan.condemn.len() as u64;
    }
    Ok(pruned)
}

fn delete(depot: &Depot, name: &str) -> Result<()> {
    match depot.store().delete(name) {
        Ok(()) | Err(StoreError::Missing { .. }) => Ok(()),
        Err(error) => Err(explain(error)).with_context(|| format!("delete `{name}`")),
    }
}

fn delete_candidates(depot: &Depot, object: &str) -> Result<()> {
    // The last one first, so that a cut leaves no candidate behind a gap.
    (0..CANDIDATES_MAX).rev().try_for_each(|number| delete(depot, &candidate(object, number)))
}

/// Marks a snapshot to stay, whatever the policy says.
pub fn keep(depot: &Depot, id: &SnapshotId) -> Result<()> {
    let known = depot.snapshots()?.iter().any(|snapshot| snapshot.id == *id);
    ensure!(
        known,
        Failure::new(Exit::Nothing, format!("there is no snapshot `{id}`"))
            .hint("`backupctl list` shows what is there")
    );
    match depot.store().create(&format!("keep/{id}"), Body::Bytes(b"")) {
        Ok(()) | Err(StoreError::Exists { .. }) => Ok(()),
        Err(error) => Err(explain(error)).with_context(|| format!("mark `{id}`")),
    }
}

/// Takes the mark away; an account that may only add cannot do that.
pub fn unkeep(depot: &Depot, id: &SnapshotId) -> Result<()> {
    delete(depot, &format!("keep/{id}"))
}
