//! What is in a depot, as the keeper sees it without any key.

use std::collections::{HashMap, HashSet};
use std::io::Read;

use anyhow::{Context, Result};
use chrono::{DateTime, Utc};

use crate::depot::Depot;
use crate::manifest::PackLine;
use crate::names::{PackId, SnapshotId, split_candidate};
use crate::needs::Needs;

/// A committed snapshot.
#[derive(Clone, Debug)]
pub struct Kept {
    /// Its id.
    pub id: SnapshotId,
    /// When its manifest arrived, by the store's clock.
    pub arrived: DateTime<Utc>,
    /// What it needs.
    pub needs: Needs,
    /// Marked by `backupctl keep`.
    pub marked: bool,
}

/// A needs list without a manifest.
#[derive(Clone, Debug)]
pub struct Orphan {
    /// The object.
    pub name: String,
    /// When it arrived.
    pub arrived: DateTime<Utc>,
    /// What it needs, as far as it can be read.
    pub packs: Vec<PackLine>,
}

/// A list of packs that an earlier prune has condemned.
#[derive(Clone, Debug)]
pub struct Condemned {
    /// The object.
    pub name: String,
    /// When it was written.
    pub arrived: DateTime<Utc>,
    /// The packs.
    pub packs: Vec<PackId>,
}

/// A stored pack, or a torn candidate of one.
#[derive(Clone, Debug)]
pub struct PackObject {
    /// The object.
    pub name: String,
    /// The pack that it is a candidate of.
    pub pack: PackId,
    /// Stored size in bytes.
    pub size: u64,
    /// When it arrived.
    pub arrived: DateTime<Utc>,
}

/// Everything that retention decides over.
#[derive(Clone, Debug, Default)]
pub struct Survey {
    /// Committed snapshots, in the order of their ids.
    pub snapshots: Vec<Kept>,
    /// Needs lists of runs that are not committed.
    pub orphans: Vec<Orphan>,
    /// Lists of condemned packs.
    pub condemned: Vec<Condemned>,
    /// All objects of packs.
    pub packs: Vec<PackObject>,
}

/// Reads what is there. It fails if one needs list of a committed snapshot cannot be read: then nothing may be deleted, since
/// nobody knows what that snapshot needs.
pub fn survey(depot: &Depot) -> Result<Survey> {
    let mut survey = Survey::default();
    let marks = depot.list("keep")?;
    let marks: HashSet<&str> =
        marks.iter().filter_map(|info| info.name.strip_prefix("keep/")).collect();
    // Packs are listed before snapshots: a pack that arrives in between is then not seen at all.
    for number in 0..=255 {
        for info in depot.list(&format!("pack/{number:02x}"))? {
            let (name, _) = split_candidate(&info.name);
            let hex = name.rsplit('/').next().unwrap_or_default();
            let Ok(pack) = hex.parse() else { continue };
            let arrived = info.arrived.into();
            survey.packs.push(PackObject { pack, size: info.size, arrived, name: info.name });
        }
    }
    survey.condemned = read_condemned(depot)?;
    for snapshot in depot.snapshots()? {
        let needs = depot
            .needs(&snapshot.id)
            .context("nothing is pruned while a snapshot's needs are unknown")?;
        let marked = marks.contains(snapshot.id.to_string().as_str());
        survey.snapshots.push(Kept {
            id: snapshot.id,
            arrived: snapshot.arrived,
            needs,
            marked,
        });
    }
    survey.orphans = read_orphans(depot, &survey.snapshots)?;
    Ok(survey)
}

fn read_text(depot: &Depot, name: &str, size: u64) -> Result<String> {
    let mut text = String::new();
    let read = depot.open_object(name, size).read_to_string(&mut text);
    read.with_context(|| format!("read `{name}`"))?;
    Ok(text)
}

fn read_condemned(depot: &Depot) -> Result<Vec<Condemned>> {
    let mut lists = Vec::new();
    for info in depot.list("condemned")? {
        let text = read_text(depot, &info.name, info.size)?;
        let packs = text.lines().filter_map(|line| line.parse().ok()).collect();
        lists.push(Condemned { packs, arrived: info.arrived.into(), name: info.name });
    }
    Ok(lists)
}

fn read_orphans(depot: &Depot, snapshots: &[Kept]) -> Result<Vec<Orphan>> {
    let committed: HashMap<&SnapshotId, &Kept> = snapshots.iter().map(|k| (&k.id, k)).collect();
    let mut orphans = Vec::new();
    for info in depot.list("snapshot")? {
        let (name, _) = split_candidate(&info.name);
        let Some(text) = name.strip_prefix("snapshot/").and_then(|n| n.strip_suffix(".needs"))
        else {
            continue;
        };
        if text.parse::<SnapshotId>().is_ok_and(|id| committed.contains_key(&id)) {
            continue;
        }
        let text = read_text(depot, &info.name, info.size)?;
        let packs = Needs::parse(&text).map(|needs| needs.packs).unwrap_or_default();
        orphans.push(Orphan { packs, arrived: info.arrived.into(), name: info.name });
    }
    Ok(orphans)
}
