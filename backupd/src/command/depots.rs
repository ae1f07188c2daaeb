//! `backupctl depot`: make a new depot. Run once by whoever owns the place, or by the keeper;
//! agents need no such right.

use anyhow::Result;
use chassis::failure::Exit;
use clap::Subcommand;
use depot::depot::Depot;
use serde::Serialize;

use super::output::{print, print_json};
use super::survey::depot_names;
use super::{Context, DepotName};

/// What can be done with depots.
#[derive(Debug, Subcommand)]
pub enum DepotCommand {
    /// Make the folders and the description of new depots; harmless where that was done
    Init {
        /// Only these depots of the configuration
        names: Vec<DepotName>,
    },
}

#[derive(Debug, Serialize)]
struct Made {
    name: DepotName,
    id: String,
}

pub(super) fn run(context: &Context, command: &DepotCommand) -> Result<Exit> {
    let DepotCommand::Init { names } = command;
    let config = context.config()?;
    let mut made = Vec::new();
    for name in depot_names(&config, names)? {
        let depot = Depot::init(name.as_str(), &config.depots[&name])?;
        made.push(Made { name, id: depot.id().to_owned() });
    }
    if context.json {
        print_json(&made)?;
    } else {
        for depot in &made {
            print(&format!("depot {} is ready (id {})", depot.name, depot.id))?;
        }
    }
    Ok(Exit::Done)
}
