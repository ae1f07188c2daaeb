//! A look into all depots at once: which answer, and which backups they hold. No key is needed.
//!
//! Each depot is asked on a thread of its own and only once, without retries: who asks is waiting at a terminal.

use std::collections::BTreeMap;
use std::thread;

use anyhow::Result;
use chassis::failure::{Exit, Failure, hint_of};
use chassis::retry::Stop;
use depot::depot::{Depot, SnapshotInfo};
use depot::names::SnapshotId;
use serde::Serialize;
use serde_json::{Value, json};

use super::output::note;
use crate::config::{Config, DepotName};

/// What one depot said.
#[derive(Debug)]
pub(super) struct Surveyed {
    /// Its name in the configuration.
    pub name: DepotName,
    /// The open depot and its backups by id.
    pub result: Result<(Depot, BTreeMap<SnapshotId, SnapshotInfo>)>,
}

/// Asks the depots of these names.
pub(super) fn survey(config: &Config, names: &[DepotName]) -> Vec<Surveyed> {
    thread::scope(|scope| {
        let asked: Vec<_> =
            names.iter().map(|name| (name, scope.spawn(|| look_into(config, name)))).collect();
        asked
            .into_iter()
            .map(|(name, thread)| Surveyed {
                name: name.clone(),
                result: thread
                    .join()
                    .unwrap_or_else(|_| Err(anyhow::anyhow!("the look into it panicked"))),
            })
            .collect()
    })
}

fn look_into(
    config: &Config,
    name: &DepotName,
) -> Result<(Depot, BTreeMap<SnapshotId, SnapshotInfo>)> {
    let depot = open_once(config, name)?;
    let found = depot.snapshots()?;
    let by_id = found.into_iter().map(|info| (info.id.clone(), info)).collect();
    Ok((depot, by_id))
}

/// Opens a depot for someone who waits: one attempt.
pub(super) fn open_once(config: &Config, name: &DepotName) -> Result<Depot> {
    let once = Stop::new();
    once.stop();
    Depot::open(name.as_str(), store_of(config, name)?, &once)
}

/// Opens a depot for long work, with retries.
pub(super) fn open(config: &Config, name: &DepotName, stop: &Stop) -> Result<Depot> {
    Depot::open(name.as_str(), store_of(config, name)?, stop)
}

fn store_of<'c>(config: &'c Config, name: &DepotName) -> Result<&'c depot::store::StoreConfig> {
    config.depots.get(name).ok_or_else(|| config.no_such_depot(name).into())
}

/// The names that were asked for, or all of them.
pub(super) fn depot_names(config: &Config, wanted: &[DepotName]) -> Result<Vec<DepotName>> {
    if wanted.is_empty() {
        return Ok(config.depots.keys().cloned().collect());
    }
    for name in wanted {
        store_of(config, name)?;
    }
    Ok(wanted.to_vec())
}

/// Says on standard error which depots did not answer; fails if none did.
///
/// Returns how the command ends if it goes on without them.
pub(super) fn report_silent(surveyed: &[Surveyed]) -> Result<Exit> {
    let mut exit = Exit::Done;
    for depot in surveyed {
        if let Err(error) = &depot.result {
            note(&format!("warning: {error:#}"));
            exit = Exit::Partial;
        }
    }
    if !surveyed.is_empty() && surveyed.iter().all(|depot| depot.result.is_err()) {
        return Err(Failure::new(Exit::Failed, "no depot answers")
            .hint("see the warnings above; `backupctl check` says more")
            .into());
    }
    Ok(exit)
}

/// What became of each depot, where they are done one after the other.
pub(super) type Turns<T> = Vec<(DepotName, Result<T>)>;

/// Does something with each depot. One that fails is told and does not stop the others; only if there is no other, its
/// error is that of the command.
pub(super) fn in_turn<T>(
    names: Vec<DepotName>,
    mut work: impl FnMut(&DepotName) -> Result<T>,
) -> Result<(Turns<T>, Exit)> {
    let is_only = names.len() == 1;
    let mut turns = Vec::new();
    let mut exit = Exit::Done;
    for name in names {
        let result = work(&name);
        if let Err(error) = result {
            if is_only {
                return Err(error);
            }
            note(&format!("warning: {name}: {error:#}"));
            if let Some(hint) = hint_of(&error) {
                note(&format!("hint: {hint}"));
            }
            exit = Exit::Partial;
            turns.push((name, Err(error)));
        } else {
            turns.push((name, result));
        }
    }
    if !turns.is_empty() && turns.iter().all(|(_, result)| result.is_err()) {
        return Err(Failure::new(Exit::Failed, "it failed in every depot")
            .hint("see the warnings above; `backupctl check` says more")
            .into());
    }
    Ok((turns, exit))
}

/// The same as JSON: what was done, or why not.
pub(super) fn turns_json<T: Serialize>(turns: &Turns<T>) -> Vec<Value> {
    let one = |(name, result): &(DepotName, Result<T>)| match result {
        Ok(done) => {
            let mut value = json!(done);
            value["depot"] = json!(name);
            value
        }
        Err(error) => {
            json!({ "depot": name, "error": format!("{error:#}"), "hint": hint_of(error) })
        }
    };
    turns.iter().map(one).collect()
}

/// The first depot that has a backup, opened.
pub(super) fn find(config: &Config, id: &SnapshotId, wanted: &[DepotName]) -> Result<Depot> {
    let surveyed = survey(config, &depot_names(config, wanted)?);
    report_silent(&surveyed)?;
    surveyed
        .into_iter()
        .filter_map(|depot| depot.result.ok())
        .find_map(|(depot, found)| found.contains_key(id).then_some(depot))
        .ok_or_else(|| no_such(id))
}

/// The error for a backup that is nowhere.
pub(super) fn no_such(id: &SnapshotId) -> anyhow::Error {
    Failure::new(Exit::Nothing, format!("no depot has a backup `{id}`"))
        .hint("see `backupctl list`")
        .into()
}
