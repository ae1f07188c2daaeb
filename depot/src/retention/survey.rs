//! What is in a depot, as the keeper sees it without any key.

use std::collections::HashSet;

use anyhow::{Result, ensure};
use chassis::failure::{Exit, Failure};
use chrono::{DateTime, Utc};

use crate::depot::{Depot, PROOF_PREFIX, SnapshotObjects};
use crate::log::Listing;
use crate::manifest::PackLine;
use crate::names::{PackId, SnapshotId};
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
    /// Packs that other needs lists under its name want: torn ones, or ones that somebody else has
    /// put there.
    pub also: Vec<PackLine>,
    /// Marked by `backupctl keep`.
    pub marked: bool,
}

/// An object of a run that was not committed: a needs list without a manifest, or a manifest that
/// is not whole.
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

/// An object that a check of a host has left, to prove that it can write.
#[derive(Clone, Debug)]
pub struct Proof {
    /// The object.
    pub name: String,
    /// When it arrived.
    pub arrived: DateTime<Utc>,
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
    /// Runs that are not committed: their needs lists, and manifests that are not whole.
    pub orphans: Vec<Orphan>,
    /// Lists of condemned packs.
    pub condemned: Vec<Condemned>,
    /// All objects of packs.
    pub packs: Vec<PackObject>,
    /// What checks have left.
    pub proofs: Vec<Proof>,
    /// The archive of the log.
    pub logs: Listing,
}

/// Reads what is there. It fails if a manifest has no needs list that can be read: then nothing may
/// be deleted, since nobody knows what that snapshot needs.
pub fn survey(depot: &Depot) -> Result<Survey> {
    // The log comes first: a backup that arrives in between is then not known, and keeps no less.
    let mut survey = Survey { logs: depot.logs()?, ..Survey::default() };
    let marks = read_marks(depot)?;
    // Packs are listed before snapshots: a pack that arrives in between is then not seen at all.
    for (pack, info) in depot.list_packs()? {
        let (size, arrived) = (info.size, info.arrived.into());
        survey.packs.push(PackObject { name: info.name, pack, size, arrived });
    }
    for info in depot.list("condemned")? {
        let packs = depot.condemned_list(&info)?;
        survey.condemned.push(Condemned { packs, arrived: info.arrived.into(), name: info.name });
    }
    for info in depot.list("lease")? {
        if info.name.starts_with(PROOF_PREFIX) {
            survey.proofs.push(Proof { arrived: info.arrived.into(), name: info.name });
        }
    }
    for (id, objects) in depot.list_snapshots()? {
        add_snapshot(depot, id, objects, &marks, &mut survey)?;
    }
    Ok(survey)
}

/// The snapshots that are marked to stay.
pub fn read_marks(depot: &Depot) -> Result<HashSet<String>> {
    let marks = depot.list("keep")?;
    let names = marks.iter().filter_map(|info| info.name.strip_prefix("keep/"));
    Ok(names.map(str::to_owned).collect())
}

fn add_snapshot(
    depot: &Depot,
    id: SnapshotId,
    objects: SnapshotObjects,
    marks: &HashSet<String>,
    survey: &mut Survey,
) -> Result<()> {
    let mut lists = Vec::new();
    for info in &objects.needs {
        let Some(text) = depot.read_text(info)? else { continue };
        if let Ok(needs) = Needs::parse(&text) {
            lists.push(needs);
        }
    }
    // Committed means: a needs list whose manifest is there in its size. Arrived is the first such
    // manifest.
    let manifest_of = |needs: &Needs| {
        let fits = objects.manifests.iter().filter(|info| info.size == needs.manifest.1);
        fits.map(|info| DateTime::<Utc>::from(info.arrived)).min()
    };
    let fitting = lists.iter().position(|needs| manifest_of(needs).is_some());
    let Some(fitting) = fitting else {
        let is_unknown = lists.is_empty() && !objects.manifests.is_empty();
        ensure!(
            !is_unknown,
            Failure::new(Exit::Failed, format!("the needs of `{id}` are unknown")).hint(
                "nothing is pruned: verify the depot, or delete the objects of this snapshot"
            )
        );
        let packs: Vec<PackLine> = lists.into_iter().flat_map(|needs| needs.packs).collect();
        for info in objects.needs.into_iter().chain(objects.manifests) {
            let (arrived, packs) = (info.arrived.into(), packs.clone());
            survey.orphans.push(Orphan { name: info.name, arrived, packs });
        }
        return Ok(());
    };
    let needs = lists.swap_remove(fitting);
    let arrived = manifest_of(&needs).expect("it was just found");
    let also = lists.into_iter().flat_map(|needs| needs.packs).collect();
    let marked = marks.contains(&id.to_string());
    survey.snapshots.push(Kept { id, arrived, needs, also, marked });
    Ok(())
}
