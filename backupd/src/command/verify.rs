//! `backupctl verify`: proves that what is stored is whole. Nothing is changed.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Result;
use chassis::failure::{Exit, Failure};
use chassis::progress::{Bar, Bars, Progress};
use chassis::retry::Stop;
use chassis::units::ByteSize;
use clap::Args;
use depot::crypt::Identities;
use depot::depot::Depot;
use depot::names::SnapshotId;
use depot::verify::{Depth, Verified, verify, verify_deep};

use super::output::{Colour, escaped, note, paint, print, print_json};
use super::survey::{Turns, depot_names, in_turn, no_such, open, turns_json};
use super::{Context, DepotName, Id};

/// What to look at, and how closely.
#[derive(Debug, Args)]
pub struct VerifyArguments {
    /// These backups; all of them if none is named
    ids: Vec<Id>,
    /// Look only whether everything is there and has its size
    #[arg(long, conflicts_with = "deep")]
    quick: bool,
    /// Decrypt every block too; needs a secret key, so not on a server of the cluster
    #[arg(long, requires = "identity")]
    deep: bool,
    /// A file with a secret key
    #[arg(short, long, value_name = "FILE", requires = "deep")]
    identity: Vec<PathBuf>,
    /// Only in these depots
    #[arg(long)]
    depot: Vec<DepotName>,
}

pub(super) fn run(context: &Context, arguments: &VerifyArguments) -> Result<Exit> {
    let config = context.config()?;
    let identities =
        if arguments.deep { Some(Identities::from_files(&arguments.identity)?) } else { None };
    let mut seen = HashSet::new();
    let (turns, exit) = in_turn(depot_names(&config, &arguments.depot)?, |name| {
        let depot = open(&config, name, &Stop::never())?;
        let ids = wanted(&depot, &arguments.ids)?;
        let verified = look(&depot, &ids, arguments.quick, identities.as_ref())?;
        seen.extend(ids);
        if !context.json {
            show(name, &verified)?;
        }
        Ok(verified)
    })?;
    if context.json {
        print_json(&turns_json(&turns))?;
    }
    let unseen = arguments.ids.iter().find(|id| !seen.contains(*id));
    conclude(&turns, exit, unseen, seen.is_empty())
}

/// Damage is the worst that can be told. What no depot has may be in one that did not answer.
fn conclude(
    turns: &Turns<Verified>,
    exit: Exit,
    unseen: Option<&Id>,
    is_empty: bool,
) -> Result<Exit> {
    let mut looked = turns.iter().filter_map(|(_, result)| result.as_ref().ok());
    let is_damaged = looked.any(|verified| !verified.findings.is_empty());
    match unseen {
        Some(id) if is_damaged || exit != Exit::Done => {
            note(&format!("warning: no depot that answers has a backup `{id}`"));
        }
        Some(id) => return Err(no_such(id)),
        None if is_empty && exit == Exit::Done => {
            return Err(Failure::new(Exit::Nothing, "there is no backup to verify").into());
        }
        None => {}
    }
    Ok(if is_damaged { Exit::Failed } else { exit })
}

/// Those that were named and are here; or all.
fn wanted(depot: &Depot, named: &[SnapshotId]) -> Result<Vec<SnapshotId>> {
    let found = depot.snapshots()?.into_iter().map(|info| info.id);
    Ok(found.filter(|id| named.is_empty() || named.contains(id)).collect())
}

fn look(
    depot: &Depot,
    ids: &[SnapshotId],
    quick: bool,
    identities: Option<&Identities>,
) -> Result<Verified> {
    let progress = Arc::new(Progress::default());
    let _bar = Bar::start(&Bars::new()).follow(Arc::clone(&progress));
    let stop = Stop::never();
    let Some(identities) = identities else {
        let depth = if quick { Depth::Presence } else { Depth::Checksums };
        return verify(depot, ids, depth, &progress, &stop);
    };
    let mut sum = Verified::default();
    for id in ids {
        let one = verify_deep(depot, id, identities, &progress, &stop)?;
        sum.snapshots += one.snapshots;
        sum.packs += one.packs;
        sum.blocks += one.blocks;
        sum.bytes += one.bytes;
        sum.findings.extend(one.findings);
    }
    Ok(sum)
}

fn show(depot: &DepotName, verified: &Verified) -> Result<()> {
    let word = if verified.findings.is_empty() {
        paint("OK", Colour::Green)
    } else {
        paint("DAMAGED", Colour::Red)
    };
    print(&format!(
        "{depot}: {word}: {} backups, {} packs, {} read",
        verified.snapshots,
        verified.packs,
        ByteSize(verified.bytes)
    ))?;
    for finding in &verified.findings {
        print(&format!("{depot}: {}: {}", finding.object, finding.what))?;
        finding.hurts.iter().try_for_each(|hurt| print(&format!("  hurts {}", escaped(hurt))))?;
    }
    if !verified.findings.is_empty() {
        note("hint: take a new backup; what the damage does not hurt still restores");
    }
    Ok(())
}
