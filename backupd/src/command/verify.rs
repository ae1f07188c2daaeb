//! `backupctl verify`: proves that what is stored is whole. Nothing is changed.

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
use serde::Serialize;

use super::output::{Colour, note, paint, print, print_json};
use super::survey::{depot_names, open};
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

/// What was found in one depot.
#[derive(Debug, Serialize)]
struct Looked {
    depot: DepotName,
    #[serde(flatten)]
    verified: Verified,
}

pub(super) fn run(context: &Context, arguments: &VerifyArguments) -> Result<Exit> {
    let config = context.config()?;
    let identities =
        if arguments.deep { Some(Identities::from_files(&arguments.identity)?) } else { None };
    let mut all = Vec::new();
    for name in depot_names(&config, &arguments.depot)? {
        let depot = open(&config, &name, &Stop::never())?;
        let ids = wanted(&depot, &arguments.ids)?;
        let verified = look(&depot, &ids, arguments.quick, identities.as_ref())?;
        all.push(Looked { depot: name, verified });
    }
    show(context, &all)?;
    if all.iter().any(|looked| !looked.verified.findings.is_empty()) {
        return Ok(Exit::Failed);
    }
    if all.iter().all(|looked| looked.verified.snapshots == 0) {
        return Err(match arguments.ids.first() {
            Some(id) => super::survey::no_such(id),
            None => Failure::new(Exit::Nothing, "there is no backup to verify").into(),
        });
    }
    Ok(Exit::Done)
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

fn show(context: &Context, all: &[Looked]) -> Result<()> {
    if context.json {
        return print_json(&all);
    }
    for Looked { depot, verified } in all {
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
            finding.hurts.iter().try_for_each(|hurt| print(&format!("  hurts {hurt}")))?;
        }
        if !verified.findings.is_empty() {
            note("hint: take a new backup; what the damage does not hurt still restores");
        }
    }
    Ok(())
}
