//! `backupctl keys`: make the key pair that opens backups, show its public half, and prove that it opens them.
//!
//! The secret half is written to one private file and nowhere else; it is never printed unless no file is named for a
//! terminal to show it. It belongs on no server of the cluster.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use chassis::durable::write_new;
use chassis::failure::{Exit, Failure};
use clap::Subcommand;
use depot::crypt::{Identities, generate_identity};
use depot::depot::Depot;
use depot::names::SnapshotId;
use depot::reader::SnapshotReader;
use serde::Serialize;

use super::output::{Colour, note, paint, print, print_json};
use super::survey::{depot_names, survey};
use super::{Context, DepotName};

/// What can be done with keys.
#[derive(Debug, Subcommand)]
pub enum KeysCommand {
    /// Make a new key pair: the secret key goes to a file, the public key is printed
    Generate {
        /// Where the secret key goes; the file must not exist
        #[arg(short, long, value_name = "FILE", default_value = "holdfast-identity.txt")]
        output: PathBuf,
    },
    /// Print the public key of a secret key
    Show {
        /// The file of the secret key
        #[arg(value_name = "FILE")]
        identity: PathBuf,
    },
    /// Prove that a secret key opens the newest backup of each depot
    Check {
        /// The file of the secret key
        #[arg(short, long, value_name = "FILE", required = true)]
        identity: Vec<PathBuf>,
        /// Only these depots
        depots: Vec<DepotName>,
    },
}

pub(super) fn run(context: &Context, command: &KeysCommand) -> Result<Exit> {
    match command {
        KeysCommand::Generate { output } => generate(context, output),
        KeysCommand::Show { identity } => show(context, identity),
        KeysCommand::Check { identity, depots } => check(context, identity, depots),
    }
}

fn generate(context: &Context, path: &Path) -> Result<Exit> {
    let (secret, public) = generate_identity();
    let mut text = String::new();
    let now = chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
    write!(text, "# created: {now}\n# public key: {public}\n{}\n", secret.expose())?;
    write_new(path, text.as_bytes(), 0o600).map_err(|error| {
        let hint = if error.is_already_exists() {
            "name another file with --output: a key is never overwritten, backups may need it"
        } else {
            "name a file in a directory that you may write to with --output"
        };
        Failure::new(Exit::Failed, format!("write {}", path.display())).hint(hint).because(error)
    })?;
    if context.json {
        print_json(&serde_json::json!({ "identity": path, "public": public }))?;
    } else {
        print(&public)?;
    }
    note(&format!("the secret key is in {}", path.display()));
    note(
        "put the public key into `recipients` on every host; keep the secret key off the servers,",
    );
    note(
        "in two safe places: without it no backup can be restored, with it everyone can read them",
    );
    Ok(Exit::Done)
}

fn show(context: &Context, path: &Path) -> Result<Exit> {
    let public = Identities::from_file(path)?.public();
    if public.is_empty() {
        return Err(Failure::new(Exit::Nothing, format!("{} is an ssh key", path.display()))
            .hint("its public key is in the file of the same name with `.pub`, or: `ssh-keygen -y`")
            .into());
    }
    if context.json {
        print_json(&public)?;
    } else {
        print(&public.join("\n"))?;
    }
    Ok(Exit::Done)
}

/// What the key is good for in one depot.
#[derive(Debug, Serialize)]
struct Opened {
    depot: DepotName,
    snapshot: Option<SnapshotId>,
    error: Option<String>,
}

fn check(context: &Context, paths: &[PathBuf], depots: &[DepotName]) -> Result<Exit> {
    let identities = Identities::from_files(paths)?;
    let config = context.config()?;
    let mut results = Vec::new();
    for depot in survey(&config, &depot_names(&config, depots)?) {
        let opened = depot.result.and_then(|(open, found)| {
            let newest = found.into_keys().next_back();
            newest.as_ref().map_or(Ok(()), |id| open_one(&open, id, &identities))?;
            Ok(newest)
        });
        let (snapshot, error) = match opened {
            Ok(snapshot) => (snapshot, None),
            Err(error) => (None, Some(format!("{error:#}"))),
        };
        results.push(Opened { depot: depot.name, snapshot, error });
    }
    report(context, &results)
}

fn open_one(depot: &Depot, id: &SnapshotId, identities: &Identities) -> Result<()> {
    SnapshotReader::open(depot, id, identities).map(drop).with_context(|| format!("open `{id}`"))
}

fn report(context: &Context, results: &[Opened]) -> Result<Exit> {
    if context.json {
        print_json(&results)?;
    } else {
        for result in results {
            print(&line(result))?;
        }
    }
    let has_failed = results.iter().any(|result| result.error.is_some());
    let has_opened = results.iter().any(|result| result.snapshot.is_some());
    Ok(match (has_failed, has_opened) {
        (true, _) => Exit::Failed,
        (false, true) => Exit::Done,
        (false, false) => Exit::Nothing,
    })
}

fn line(result: &Opened) -> String {
    let name = &result.depot;
    match (&result.error, &result.snapshot) {
        (Some(error), _) => format!("{name}: {}: {error}", paint("FAILED", Colour::Red)),
        (None, Some(id)) => format!("{name}: {}: opens {id}", paint("OK", Colour::Green)),
        (None, None) => format!("{name}: there is no backup to open"),
    }
}
