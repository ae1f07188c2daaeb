//! A backup and what it builds on: found, read, and checked against what the depot has.

use std::collections::HashSet;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use chassis::failure::{Exit, Failure, exit_of, hint_of};
use chrono::{DateTime, Utc};
use database::tablespace::{TableName, base_of, is_file_of, no_table, tablespace_of};
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
    /// Whether all of the backup was read, whatever was asked for.
    pub is_whole: bool,
}

/// Reads the manifests of a backup and of those that it builds on; the full one comes first.
///
/// Fails before anything is written if one of them is not in the depot, or if it has none of the tables. Where
/// single tables cannot be told apart by the names of their files, all of it is taken.
pub fn load(
    depot: &Depot,
    snapshots: &[SnapshotInfo],
    id: &SnapshotId,
    identities: &Identities,
    selection: &Selection,
) -> Result<Vec<Loaded>> {
    let chain = load_only(depot, snapshots, id, identities, selection)?;
    let tables = selection.tables_wanted();
    if tables.is_empty() {
        return Ok(chain);
    }
    let why = if chain.iter().any(|loaded| loaded.tree.has_renames) {
        "tables were renamed or dropped while this backup was taken"
    } else {
        check_tables(&chain, tables)?;
        if is_rooted(&chain) {
            return Ok(chain);
        }
        "a table has another name, or is another one, in an earlier backup of the chain"
    };
    tracing::warn!("{why}: all of it is restored");
    load_only(depot, snapshots, id, identities, &Selection::all())
}

/// The last backup of a chain names every table that there was, with all its pages or with those that changed.
fn check_tables(chain: &[Loaded], tables: &[TableName]) -> Result<()> {
    let last = &chain.last().expect("a chain has a backup").tree;
    for table in tables {
        let has = last.entries.iter().any(|node| is_file_of(&node.path, table));
        ensure!(has, no_table(table));
    }
    Ok(())
}

/// Whether the pages of each changed tablespace have an earlier file of that name to go to. If not, it was renamed
/// between two backups: the tool finds it by its number, if all files are there, and makes an empty one otherwise.
fn is_rooted(chain: &[Loaded]) -> bool {
    let mut known: HashSet<PathBuf> = HashSet::new();
    for loaded in chain {
        let paths = || loaded.tree.entries.iter().map(|node| &*node.path);
        let has_base = |path: &Path| base_of(path).is_none_or(|base| known.contains(&base));
        if !paths().all(has_base) {
            return false;
        }
        known.extend(paths().filter_map(tablespace_of));
    }
    true
}

fn load_only(
    depot: &Depot,
    snapshots: &[SnapshotInfo],
    id: &SnapshotId,
    identities: &Identities,
    selection: &Selection,
) -> Result<Vec<Loaded>> {
    let trees = follow(id, snapshots, |id| {
        let open = || SnapshotReader::open(depot, id, identities);
        let mut tree = Tree::read(open, selection)
            .map_err(with_advice)
            .with_context(|| format!("read backup {id} in depot `{}`", depot.name()))?;
        sort_by_pack(&mut tree);
        let parent = tree.head.parent.clone();
        Ok((tree, parent))
    })?;
    check_kinds(&trees)?;
    let is_whole = selection.is_all();
    let loaded = trees.into_iter().enumerate();
    let chain: Vec<_> =
        loaded.map(|(link, (_, tree))| Loaded { tree, place: place_of(link), is_whole }).collect();
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

/// Reads a backup and those that it builds on, each by `read`, which tells the next; the full one comes first.
fn follow<T>(
    id: &SnapshotId,
    snapshots: &[SnapshotInfo],
    mut read: impl FnMut(&SnapshotId) -> Result<(T, Option<SnapshotId>)>,
) -> Result<Vec<(SnapshotId, T)>> {
    let mut chain = vec![id.clone()];
    let mut found = Vec::new();
    loop {
        let (one, parent) = read(chain.last().expect("it begins with one"))?;
        found.push(one);
        let Some(parent) = parent else { break };
        check_link(&chain, &parent, snapshots)?;
        chain.push(parent);
    }
    Ok(chain.into_iter().zip(found).rev().collect())
}

/// The patterns of a selection that match nothing of a chain, as they were written.
pub fn unmatched(chain: &[Loaded], patterns: &[Vec<u8>]) -> Result<Vec<String>> {
    let mut unmatched = Vec::new();
    for pattern in patterns {
        let one = Selection::of(std::slice::from_ref(pattern))?;
        let has = |tree: &Tree| {
            let dirs = tree.dirs.iter().map(|dir| &dir.path);
            let mut paths = dirs.chain(tree.entries.iter().map(|node| &node.path));
            paths.any(|path| one.wants(path.as_os_str().as_bytes()))
        };
        if !chain.iter().any(|loaded| has(&loaded.tree)) {
            unmatched.push(String::from_utf8_lossy(pattern).into_owned());
        }
    }
    Ok(unmatched)
}

fn check_kinds(trees: &[(SnapshotId, Tree)]) -> Result<()> {
    let trees = || trees.iter().map(|(_, tree)| tree);
    let is_chain = trees().count() > 1;
    let is_database = trees().all(|tree| tree.head.kind == SnapshotKind::Database);
    ensure!(!is_chain || is_database, "a backup of files builds on another one");
    let is_empty = trees().all(|tree| tree.entries.is_empty() && tree.dirs.is_empty());
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
    let chain = follow(id, snapshots, |id| {
        let needs = depot.needs(id)?;
        let parent = needs.parent.clone();
        Ok((needs, parent))
    })?;
    let present = present(depot, chain.iter().flat_map(|(_, needs)| &needs.packs))?;
    let parts = chain.iter().map(|(id, needs)| link_of_needs(id, needs, &present)).collect();
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
