//! `backupctl export`: a backup as a tar file, for people who have tar and nothing else.

use std::io::{BufWriter, IntoInnerError, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use chassis::durable::NewFile;
use chassis::failure::{Exit, Failure};
use chassis::progress::{Bar, Bars, Progress};
use clap::Args;
use depot::crypt::Identities;
use depot::depot::Depot;
use depot::export::tar;

use super::output::{note, with_stdout};
use super::survey::find;
use super::{Context, DepotName, Id};

/// Which backup, and where it goes.
#[derive(Debug, Args)]
pub struct ExportArguments {
    /// The backup, as `backupctl list` names it
    id: Id,
    /// A file with a secret key
    #[arg(short, long, value_name = "FILE", required = true)]
    identity: Vec<PathBuf>,
    /// Write to this file, which must not exist, and not to standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Read it from this depot
    #[arg(long)]
    depot: Option<DepotName>,
}

pub(super) fn run(context: &Context, arguments: &ExportArguments) -> Result<Exit> {
    ensure!(
        arguments.output.is_some() || !std::io::stdout().is_terminal(),
        Failure::new(Exit::Usage, "a tar file is nothing for a terminal")
            .hint("name a file with --output, or pipe it into tar")
    );
    let identities = Identities::from_files(&arguments.identity)?;
    let config = context.config()?;
    let depot = find(&config, &arguments.id, arguments.depot.as_slice())?;
    let progress = Arc::new(Progress::default());
    progress.begin("export", depot.needs(&arguments.id).map_or(0, |needs| needs.bytes));
    let bar = Bar::start(&Bars::new()).follow(Arc::clone(&progress));
    let mut entries = None;
    match &arguments.output {
        Some(path) => entries = Some(to_file(&depot, arguments, &identities, &progress, path)?),
        None => with_stdout(|out| {
            entries = Some(tar(&depot, &arguments.id, &identities, out, &progress)?.1);
            Ok(())
        })?,
    }
    drop(bar);
    match entries {
        Some(entries) if context.json => {
            note(&serde_json::json!({ "id": arguments.id, "entries": entries }).to_string());
        }
        Some(entries) => note(&format!("{entries} entries")),
        // The reader had seen enough.
        None => {}
    }
    Ok(Exit::Done)
}

/// The file appears when it is whole.
fn to_file(
    depot: &Depot,
    arguments: &ExportArguments,
    identities: &Identities,
    progress: &Progress,
    path: &Path,
) -> Result<u64> {
    ensure!(
        !path.exists(),
        Failure::new(Exit::Failed, format!("{} exists", path.display()))
            .hint("name another file; nothing is overwritten")
    );
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let output = BufWriter::with_capacity(1 << 20, NewFile::create(dir, 0o600)?);
    let (mut output, entries) = tar(depot, &arguments.id, identities, output, progress)?;
    output.flush().context("write tar file")?;
    output
        .into_inner()
        .map_err(IntoInnerError::into_error)
        .context("write tar file")?
        .publish(path)?;
    Ok(entries)
}
