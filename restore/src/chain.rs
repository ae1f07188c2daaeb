//! A backup and what it builds on: found, read, and checked against what the depot has.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use chassis::failure::{Exit, Failure, exit_of, hint_of};
use chrono::{DateTime, Utc};
use depot::crypt::Identities;
use depot::depot::{Depot, SnapshotInfo, is_outage};
use depot::manifest::{PackLine, SnapshotKind};
use depot::names::{PackId, SnapshotId, split_candidate};
use depot::reader::SnapshotReader;

use crate::fetch::sort_by_pack;
use crate::plan::{Plan, Present, check_link, link_of_needs, link_of_tree, place_of};
use crate::prepare::check_chain;
use crate::select::Selection;
use crate::tree::Tree;

/// One backup of a chain, read.
#[derive(Debug)]
pub struct Loaded {
    /// What is to be restored of it.
    pub tree: Tree,
    /// Where to, relative to the target.
    pub place: PathBuf,
}

/// Reads the manifests of a backup and of those that it builds on; the full one comes first.
///
/// Fails before anything is written if one of them is not in the depot. If tables of a database were renamed
/// while one of the backups was taken, single tables cannot be told apart, and all of it is taken.
pub fn load(
    depot: &Depot,
    snapshots: &[SnapshotInfo],
    id: &SnapshotId,
    identities: &Identities,
    selection: &Selection,
) -> Result<Vec<Loaded>> {
    let chain = load_only(depot, snapshots, id, identities, selection)?;
    if selection.is_tables() && chain.iter().any(|loaded| loaded.tree.has_renames) {
        tracing::warn!("tables were renamed while this backup was taken: all of it is restored");
        return load_only(depot, snapshots, id, identities, &Selection::all());
    }
    Ok(chain)
}

fn load_only(
    depot: &Depot,
    snapshots: &[SnapshotInfo],
    id: &SnapshotId,
    identities: &Identities,
    selection: &Selection,
) -> Result<Vec<Loaded>> {
    let mut chain = vec![id.clone()];
    let mut trees = Vec::new();
    loop {
        let id = chain.last().expect("it begins with one");
        let open = || SnapshotReader::open(depot, id, identities);
        let mut tree = Tree::read(open, selection)
            .map_err(with_advice)
            .with_context(|| format!("read backup {id} in depot `{}`", depot.name()))?;
        sort_by_pack(&mut tree);
        let parent = tree.head.parent.clone();
        trees.push(tree);
        let Some(parent) = parent else { break };
        check_link(&chain, &parent, snapshots)?;
        chain.push(parent);
    }
    trees.reverse();
    check_kinds(&trees)?;
    let loaded = trees.into_iter().enumerate();
    let chain: Vec<_> = loaded.map(|(link, tree)| Loaded { tree, place: place_of(link) }).collect();
    check_chain(&chain)?;
    Ok(chain)
}

/// A manifest that cannot be read is damaged, or was never whole.
fn with_advice(error: anyhow::Error) -> anyhow::Error {
    if is_outage(&error) || hint_of(&error).is_some() {
        return error;
    }
    let hint = "take an older backup with `--snapshot ID` or `--at TIME`, or another depot with \
                `--depot`; `backupctl list` shows what there is";
    let message = "it is damaged, or its upload was cut";
    Failure::new(exit_of(&error), message).hint(hint).because(error).into()
}

fn check_kinds(trees: &[Tree]) -> Result<()> {
    let is_chain = trees.len() > 1;
    let is_database = trees.iter().all(|tree| tree.head.kind == SnapshotKind::Database);
    ensure!(!is_chain || is_database, "a backup of files builds on another one");
    let is_empty = trees.iter().all(|tree| tree.entries.is_empty() && tree.dirs.is_empty());
    ensure!(
        !is_empty,
        Failure::new(Exit::Nothing, "nothing in the backup matches what was asked for")
            .hint("`backupctl show` lists what is in it; paths are relative to its root")
    );
    Ok(())
}

/// The plan for a chain that was read.
pub fn plan(depot: &Depot, chain: &[Loaded], now: DateTime<Utc>) -> Result<Plan> {
    let needed = chain.iter().flat_map(|loaded| {
        let tree = &loaded.tree;
        tree.blocks.chunk_by(|a, b| a.pack == b.pack).map(|b| &tree.packs[b[0].pack as usize])
    });
    let present = present(depot, needed)?;
    let parts = chain.iter().map(|loaded| link_of_tree(&loaded.tree, &present)).collect();
    Ok(Plan::new(depot.name(), parts, now))
}

/// The plan by the plain lists of needs alone: without any key, and without knowing the files.
pub fn plan_without_key(
    depot: &Depot,
    snapshots: &[SnapshotInfo],
    id: &SnapshotId,
    now: DateTime<Utc>,
) -> Result<Plan> {
    let mut chain = vec![id.clone()];
    let mut needs = Vec::new();
    loop {
        let found = depot.needs(chain.last().expect("it begins with one"))?;
        let parent = found.parent.clone();
        needs.push(found);
        let Some(parent) = parent else { break };
        check_link(&chain, &parent, snapshots)?;
        chain.push(parent);
    }
    let present = present(depot, needs.iter().flat_map(|needs| &needs.packs))?;
    let parts = chain.iter().zip(&needs).rev();
    let parts = parts.map(|(id, needs)| link_of_needs(id, needs, &present)).collect();
    Ok(Plan::new(depot.name(), parts, now))
}

/// The sizes of all candidates in the folders where these packs are. A pack that the keeper has condemned
/// counts: it can still be read.
fn present<'p>(depot: &Depot, packs: impl Iterator<Item = &'p PackLine>) -> Result<Present> {
    let mut is_needed = [false; 256];
    for pack in packs {
        is_needed[usize::from(pack.pack.0[0])] = true;
    }
    let mut present = Present::new();
    for (number, _) in is_needed.iter().enumerate().filter(|(_, is_needed)| **is_needed) {
        for info in depot.list(&format!("pack/{number:02x}"))? {
            let (name, _) = split_candidate(&info.name);
            let hex = name.rsplit('/').next().unwrap_or_default();
            let Ok(pack) = hex.parse::<PackId>() else { continue };
            present.entry(pack).or_default().push(info.size);
        }
    }
    Ok(present)
}
