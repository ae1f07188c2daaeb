//! `backupctl keep`: a mark in the depot that outlives every retention rule.

use anyhow::Result;
use chassis::failure::{Exit, exit_of};
use chassis::retry::Stop;
use clap::Args;
use depot::retention::{keep, unkeep};
use serde_json::json;

use super::output::{print, print_json};
use super::prune::{keeper, kept_depots};
use super::survey::{in_turn, no_such, open};
use super::{Context, DepotName, Id};

/// What to mark.
#[derive(Debug, Args)]
pub struct KeepArguments {
    /// The backup, as `backupctl list` names it
    id: Id,
    /// Take the mark away
    #[arg(long)]
    remove: bool,
    /// Only in these depots
    #[arg(long)]
    depot: Vec<DepotName>,
}

pub(super) fn run(context: &Context, arguments: &KeepArguments) -> Result<Exit> {
    let config = context.config()?;
    let names = kept_depots(&config, keeper(&config)?, &arguments.depot)?;
    let (turns, exit) = in_turn(names, |name| {
        let depot = open(&config, name, &Stop::never())?;
        let done = if arguments.remove {
            unkeep(&depot, &arguments.id)
        } else {
            keep(&depot, &arguments.id)
        };
        match done {
            Ok(()) => Ok(true),
            Err(error) if exit_of(&error) == Exit::Nothing => Ok(false),
            Err(error) => Err(error),
        }
    })?;
    let is_marked = |turn: &&(DepotName, Result<bool>)| matches!(turn.1, Ok(true));
    let marked: Vec<&DepotName> = turns.iter().filter(is_marked).map(|(name, _)| name).collect();
    if marked.is_empty() {
        return Err(no_such(&arguments.id));
    }
    let id = &arguments.id;
    if context.json {
        print_json(&json!({ "id": id, "kept": !arguments.remove, "depots": marked }))?;
    } else {
        let word = if arguments.remove { "is no longer kept" } else { "is kept" };
        let names: Vec<&str> = marked.iter().map(|name| name.as_str()).collect();
        print(&format!("{id} {word} in {}", names.join(", ")))?;
    }
    Ok(exit)
}
