//! `backupctl list`: the backups in the depots, told by their names and plain lists. No key is needed.

use std::collections::BTreeMap;

use anyhow::Result;
use chassis::failure::Exit;
use chassis::units::ByteSize;
use chrono::{DateTime, Utc};
use clap::Args;
use depot::depot::Depot;
use depot::manifest::{SnapshotKind, SnapshotState};
use depot::names::{JobName, SnapshotId};
use serde::Serialize;

use super::output::{minute, note, print, print_json, table};
use super::survey::{Surveyed, depot_names, report_silent, survey};
use super::{Context, DepotName};

/// What to list.
#[derive(Debug, Args)]
pub struct ListArguments {
    /// Only backups of this job
    #[arg(long)]
    job: Option<JobName>,
    /// Only what is in this depot
    #[arg(long)]
    depot: Option<DepotName>,
}

/// A backup, and where it is.
#[derive(Debug, Serialize)]
struct Row {
    id: SnapshotId,
    /// From the plain list; none if it cannot be read.
    kind: Option<SnapshotKind>,
    state: Option<SnapshotState>,
    parent: Option<SnapshotId>,
    bytes: Option<u64>,
    stored: Option<u64>,
    depots: Vec<Copy>,
}

#[derive(Debug, Serialize)]
struct Copy {
    name: DepotName,
    arrived: DateTime<Utc>,
}

pub(super) fn run(context: &Context, arguments: &ListArguments) -> Result<Exit> {
    let config = context.config()?;
    let surveyed = survey(&config, &depot_names(&config, arguments.depot.as_slice())?);
    let exit = report_silent(&surveyed)?;
    let rows = rows(&surveyed, arguments.job.as_ref());
    if context.json {
        print_json(&rows)?;
    } else if !rows.is_empty() {
        print(&render(&rows))?;
    }
    if rows.is_empty() && exit == Exit::Done {
        note("there is no such backup");
        return Ok(Exit::Nothing);
    }
    Ok(exit)
}

fn rows(surveyed: &[Surveyed], job: Option<&JobName>) -> Vec<Row> {
    let mut rows: BTreeMap<&SnapshotId, Row> = BTreeMap::new();
    for depot in surveyed {
        let Ok((open, found)) = &depot.result else { continue };
        for (id, info) in found.iter().filter(|(id, _)| job.is_none_or(|job| id.job == *job)) {
            let row = rows.entry(id).or_insert_with(|| row(open, id));
            row.depots.push(Copy { name: depot.name.clone(), arrived: info.arrived });
        }
    }
    rows.into_values().collect()
}

fn row(depot: &Depot, id: &SnapshotId) -> Row {
    let needs = depot.needs(id).inspect_err(|error| note(&format!("warning: {error:#}"))).ok();
    let needs = needs.as_ref();
    Row {
        id: id.clone(),
        kind: needs.map(|needs| needs.kind),
        state: needs.map(|needs| needs.state),
        parent: needs.and_then(|needs| needs.parent.clone()),
        bytes: needs.map(|needs| needs.bytes),
        stored: needs.map(|needs| needs.stored),
        depots: Vec::new(),
    }
}

fn render(rows: &[Row]) -> String {
    let size =
        |bytes: Option<u64>| bytes.map_or("?".to_owned(), |bytes| ByteSize(bytes).to_string());
    let cells: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            let names: Vec<&str> = row.depots.iter().map(|copy| copy.name.as_str()).collect();
            let arrived = row.depots.iter().map(|copy| copy.arrived).min();
            vec![
                row.id.to_string(),
                kind_word(row.kind, row.parent.is_some()).to_owned(),
                state_word(row.state).to_owned(),
                size(row.bytes),
                size(row.stored),
                arrived.map(minute).unwrap_or_default(),
                names.join(","),
            ]
        })
        .collect();
    table(&["ID", "KIND", "STATE", "SIZE", "STORED", "ARRIVED (UTC)", "DEPOTS"], &cells, &[3, 4])
}

/// The kind of a backup as people read it.
pub(super) fn kind_word(kind: Option<SnapshotKind>, has_parent: bool) -> &'static str {
    match (kind, has_parent) {
        (None, _) => "?",
        (Some(SnapshotKind::Files), _) => "files",
        (Some(SnapshotKind::Database), false) => "database",
        (Some(SnapshotKind::Database), true) => "increment",
    }
}

/// Its state as people read it.
pub(super) fn state_word(state: Option<SnapshotState>) -> &'static str {
    match state {
        None => "?",
        Some(SnapshotState::Complete) => "complete",
        Some(SnapshotState::Partial) => "partial",
    }
}
