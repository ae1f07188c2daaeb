//! `backupctl prune`: deletes what the retention rules let go. Only a host with `[keeper]` may.
//!
//! The plan is printed first. Packs go in two phases: they are condemned now, and deleted by a later prune.

use anyhow::{Result, ensure};
use chassis::failure::{Exit, Failure};
use chassis::retry::Stop;
use chassis::units::ByteSize;
use clap::Args;
use depot::retention::{Plan, Pruned, Verdict, perform};
use serde::Serialize;

use super::output::{minute, note, print, print_json, table};
use super::survey::{depot_names, in_turn, open, turns_json};
use super::{Context, DepotName};
use crate::config::{Config, Keeper};
use crate::keeper::{depots_of, plan_depot};

/// Whether to do it.
#[derive(Debug, Args)]
pub struct PruneArguments {
    /// Only show what would be done
    #[arg(long)]
    dry_run: bool,
    /// Prune although the clock looks wrong, or no backup has come for a week
    #[arg(long)]
    accept_clock: bool,
    /// Only in these depots
    #[arg(long)]
    depot: Vec<DepotName>,
}

#[derive(Debug, Serialize)]
struct Shown {
    plan: Plan,
    /// None with `--dry-run`.
    done: Option<Pruned>,
}

pub(super) fn run(context: &Context, arguments: &PruneArguments) -> Result<Exit> {
    let config = context.config()?;
    let keeper = keeper(&config)?;
    let names = kept_depots(&config, keeper, &arguments.depot)?;
    let (turns, exit) = in_turn(names, |name| {
        let depot = open(&config, name, &Stop::never())?;
        let (plan, now) = plan_depot(&depot, keeper, arguments.accept_clock || arguments.dry_run)?;
        if !context.json {
            show(name, &plan)?;
        }
        let done = if arguments.dry_run { None } else { Some(perform(&depot, &plan, now)?) };
        Ok(Shown { plan, done })
    })?;
    if context.json {
        print_json(&turns_json(&turns))?;
    } else if arguments.dry_run {
        note("nothing was deleted: --dry-run");
    }
    Ok(exit)
}

/// The rules, or why there are none.
pub(super) fn keeper(config: &Config) -> Result<&Keeper> {
    config.keeper.as_ref().ok_or_else(|| {
        Failure::new(Exit::Usage, "this host is not the keeper: it has no `[keeper]`")
            .hint(
                "run it on the host of the depot; a node that backs up must not be able to delete",
            )
            .into()
    })
}

/// The depots of the keeper, or those of them that were asked for.
pub(super) fn kept_depots(
    config: &Config,
    keeper: &Keeper,
    wanted: &[DepotName],
) -> Result<Vec<DepotName>> {
    let kept = depots_of(config, keeper);
    if wanted.is_empty() {
        return Ok(kept);
    }
    let names = depot_names(config, wanted)?;
    for name in &names {
        ensure!(
            kept.contains(name),
            Failure::new(Exit::Usage, format!("depot `{name}` is not kept by this host"))
                .hint("add it to `keeper.depots`")
        );
    }
    Ok(names)
}

fn show(name: &DepotName, plan: &Plan) -> Result<()> {
    let rows: Vec<Vec<String>> = plan.verdicts.iter().map(row).collect();
    if !rows.is_empty() {
        print(&table(&["", "ID", "ARRIVED (UTC)", "WHY"], &rows, &[]))?;
    }
    let goes = plan.verdicts.iter().filter(|verdict| !verdict.keep).count();
    print(&format!(
        "{name}: {} backups stay, {goes} go; {} packs to condemn ({}), {} objects to delete ({})",
        plan.verdicts.len() - goes,
        plan.condemn.len(),
        ByteSize(plan.condemned_bytes),
        plan.delete.len() + plan.orphans.len() + plan.spent.len() + plan.proofs.len(),
        ByteSize(plan.freed_bytes)
    ))
}

fn row(verdict: &Verdict) -> Vec<String> {
    let word = if verdict.keep { "stays" } else { "goes" };
    vec![
        word.to_owned(),
        verdict.id.to_string(),
        minute(verdict.arrived),
        verdict.reasons.join(", "),
    ]
}
