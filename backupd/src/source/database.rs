//! A database server as the source of a backup: the server's own tool copies it while it runs.
//!
//! The tool's stream is taken apart into files as it comes; nothing is staged on disk. A run counts only if the tool
//! ended with 0 and its last words are those of success, the stream ended where it should, every metadata file is
//! there and says what it should, and no table was left out. Anything else is an error and nothing is committed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use chassis::failure::{Exit, Failure};
use chassis::progress::Progress;
use chassis::retry::Stop;
use database::info::{BackupKind, Positions, missing_files, required_files};
use database::options::OptionFile;
use database::server::ServerState;
use database::tool::{self, BackupRequest, ToolAt, backup_command};
use database::xbstream::Reader;
use depot::writer::SnapshotWriter;

use crate::config::DatabaseJob;
use crate::process::{Ended, Group};
use crate::state::make_private_dir;

mod aria;
pub mod chain;
mod intake;
mod log;
mod pending;
mod pipe;

use intake::Intake;
use log::ToolLog;
use pipe::ToolPipe;

/// After the last byte of its stream, the tool has nothing left to do but to end.
const END_TIMEOUT: Duration = Duration::from_mins(1);
/// One that failed is about to end, too.
const FAILED_TIMEOUT: Duration = Duration::from_secs(1);
/// Lines of the tool's log in the message of a failure.
const LINES_IN_ERROR: usize = 3;

/// A server that answered, and the tool that fits it.
#[derive(Debug)]
pub struct Ready {
    /// The server.
    pub server: ServerState,
    /// The tool.
    pub tool: ToolAt,
    /// Where the server listens, and its data directory, for people.
    pub description: String,
}

/// Looks for the tool and asks the server what it is. Errors say what to do.
pub fn prepare(job: &DatabaseJob) -> Result<Ready> {
    let tool = tool::find(job.tool)?;
    let options = OptionFile::read(&job.option_file, job.tool)?;
    options.check_private()?;
    let server = ServerState::read(&options)?;
    let description = format!("{} ({})", options.endpoint(), server.datadir.display());
    Ok(Ready { server, tool, description })
}

/// Where a run keeps what it needs besides the stream.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The state directory of the job.
    pub dir: &'a Path,
    /// Ends the run.
    pub stop: &'a Stop,
    /// Counts bytes.
    pub progress: &'a Progress,
}

/// Runs the tool into the writer: everything, or the pages changed since `from_lsn`. Returns where the backup stands.
pub fn back_up(
    job: &DatabaseJob,
    ready: &Ready,
    from_lsn: Option<u64>,
    writer: &mut SnapshotWriter,
    place: Place<'_>,
) -> Result<Positions> {
    place.progress.begin("copy database", ready.server.data_bytes);
    let target_dir = empty_dir(&place.dir.join("tool"))?;
    let request = BackupRequest {
        option_file: job.option_file.clone(),
        socket: None,
        target_dir: target_dir.clone(),
        parallel: job.parallel,
        throttle: job.throttle,
        incremental_lsn: from_lsn,
        galera_info: ready.server.galera.is_some(),
        extra: job.extra_args.clone(),
    };
    let mut command = backup_command(&ready.tool, &request)?;
    let mut group = Group::spawn(&mut command)?;
    let log = ToolLog::start(&mut group, &place.dir.join("last-tool.log"))?;
    let taken = take_stream(job, &mut group, writer, place);
    let metadata = conclude(ready.tool.tool, &mut group, &log, taken, place.stop)?;
    drop(std::fs::remove_dir_all(&target_dir));
    check_whole(ready, &log, &metadata)?;
    let positions = Positions::parse(job.tool, &metadata.files)?;
    check_positions(&positions, from_lsn)?;
    Ok(positions)
}

/// What the stream had in it.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    /// The content of the metadata files.
    pub files: BTreeMap<String, Vec<u8>>,
    /// Names of all files at the top.
    pub top: Vec<PathBuf>,
}

/// Why the stream was not taken to its end.
enum Trouble {
    /// It is not what it should be, or does not come: the tool may know why.
    Stream(anyhow::Error),
    /// We could not take it; what the tool says then is only that nobody reads any more.
    Ours(anyhow::Error),
}

fn take_stream(
    job: &DatabaseJob,
    group: &mut Group,
    writer: &mut SnapshotWriter,
    place: Place<'_>,
) -> Result<Taken, Trouble> {
    let stdout = group.child().stdout.take().expect("the command pipes its output");
    let pipe = ToolPipe::new(stdout, job.stall_timeout.0, place.stop.clone());
    let mut reader = Reader::new(pipe, job.tool);
    let mut intake = Intake::new(writer, place.dir);
    let mut payload = Vec::new();
    let stream =
        |error| Trouble::Stream(anyhow::Error::new(error).context("read the tool's stream"));
    while let Some(chunk) = reader.next(&mut payload).map_err(stream)? {
        intake.take(&chunk, &payload).map_err(Trouble::Ours)?;
    }
    intake.finish().map_err(Trouble::Ours)
}

/// Waits for the tool's end and decides.
fn conclude(
    tool: tool::BackupTool,
    group: &mut Group,
    log: &ToolLog,
    taken: Result<Taken, Trouble>,
    stop: &Stop,
) -> Result<Taken> {
    let taken = match taken {
        Ok(taken) => Ok(taken),
        Err(Trouble::Stream(error)) => Err(error),
        Err(Trouble::Ours(error)) => {
            group.end();
            return Err(error);
        }
    };
    // A tool that failed ends by itself now; one that hangs, or whose stream is bad, is ended.
    let patience = if taken.is_ok() { END_TIMEOUT } else { FAILED_TIMEOUT };
    let ended = group.wait(Instant::now() + patience, stop)?;
    group.end();
    let said = log.finish();
    let problem = match (taken, ended) {
        (Ok(taken), Ended::Exited(status)) if status.success() && said.is_complete => {
            return Ok(taken);
        }
        (Ok(_), Ended::Exited(status)) if status.success() => {
            "ended well but did not say `completed OK!`".to_owned()
        }
        (Err(error), Ended::Exited(status)) if status.success() => format!("{error:#}"),
        (_, Ended::Exited(status)) => format!("ended with {status}"),
        (Ok(_), Ended::Late) => "did not end after the end of its stream".to_owned(),
        (Ok(_), Ended::Stopped) => "was stopped".to_owned(),
        (Err(error), Ended::Late | Ended::Stopped) => format!("was ended: {error:#}"),
    };
    let last = said.last_lines(LINES_IN_ERROR);
    let failure = Failure::new(Exit::Failed, format!("{tool} {problem}; its last words: {last}"));
    let advice =
        said.advice.unwrap_or_else(|| format!("its whole log is in {}", said.path.display()));
    Err(failure.hint(advice).into())
}

/// The exit code proves nothing: what must be there is looked for.
fn check_whole(ready: &Ready, log: &ToolLog, taken: &Taken) -> Result<()> {
    let required = required_files(ready.server.log_bin, ready.server.galera.is_some());
    let missing = missing_files(&required, |path| taken.top.iter().any(|top| top == path));
    ensure!(
        missing.is_empty(),
        Failure::new(Exit::Failed, format!("{} left out {}", ready.tool.tool, missing.join(", ")))
            .hint(
                "the tool said that all is well, but the backup could not be restored: report it"
            )
    );
    let skipped = log.skipped();
    ensure!(
        !skipped.is_cut,
        Failure::new(
            Exit::Failed,
            format!("{} left out too many tables to look at", ready.tool.tool)
        )
        .hint("run `SET GLOBAL innodb_log_checkpoint_now=ON` on the server, then try again")
    );
    let left_out = skipped.paths.into_iter().find(|path| ready.server.datadir.join(path).exists());
    if let Some(path) = left_out {
        let message =
            format!("{} left out {}, which still exists", ready.tool.tool, path.display());
        return Err(Failure::new(Exit::Failed, message)
            .hint("run `SET GLOBAL innodb_log_checkpoint_now=ON` on the server, then try again")
            .into());
    }
    Ok(())
}

fn check_positions(positions: &Positions, from_lsn: Option<u64>) -> Result<()> {
    let expected = if from_lsn.is_some() { BackupKind::Incremental } else { BackupKind::Full };
    ensure!(
        positions.kind == expected,
        "the tool made a {:?} backup, not a {expected:?} one",
        positions.kind
    );
    ensure!(!positions.partial, "the tool copied only some tables");
    let start = from_lsn.unwrap_or_default();
    ensure!(
        positions.from_lsn == start && positions.to_lsn >= start,
        "the backup goes from LSN {} to {}, not on from {start}: the server's data was replaced",
        positions.from_lsn,
        positions.to_lsn
    );
    Ok(())
}

/// Makes a directory that is surely empty and only ours.
fn empty_dir(path: &Path) -> Result<PathBuf> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("empty {}", path.display()));
        }
        _ => {}
    }
    make_private_dir(path)?;
    Ok(path.to_owned())
}
