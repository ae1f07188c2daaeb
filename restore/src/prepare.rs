//! A physical copy of a database becomes one that a server starts on: the log and the increments are applied
//! by the tool that took the backup, single tables are made ready to be imported, files get the server's owner.
//!
//! What the tool says goes to a file beside the target. Whether it fits is asked before anything is fetched.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use chassis::failure::{Exit, Failure};
use chassis::retry::Stop;
use database::info::{BackupKind, Positions};
use database::tablespace::TableName;
use database::tool::{self, PrepareRequest, ToolAt};
use database::version::Version;
use depot::manifest::{Head, SnapshotKind};
use rustix::fs::{AtFlags, OFlags};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process_group};

use crate::beneath::Beneath;
use crate::chain::Loaded;
use crate::owners::{Ids, number_of};
use crate::plan::place_of;
use crate::report::Report;
use crate::share::check_stop;
use crate::target::{INCREMENTS, Target, remove_tree};

pub mod settings;
pub mod spaces;
pub mod steps;

const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// How long the tool may take to end after it was asked to.
const PATIENCE: Duration = Duration::from_secs(5);
/// How much of a failed tool's words goes into the error.
const TAIL_LINES: usize = 15;
const TAIL_BYTES_MAX: u64 = 64 << 10;

/// How a database is prepared; the tool has been found and fits.
#[derive(Clone, Debug)]
pub struct Preparation {
    /// Where the backups stand.
    pub positions: Positions,
    /// The tool.
    pub tool: ToolAt,
    /// Tables to be made ready for import; none: the whole server.
    pub tables: Vec<TableName>,
    /// Memory for applying the log in bytes; 0 for the tool's default.
    pub memory_bytes: u64,
    /// The server program that is asked how a table was made.
    pub server: PathBuf,
}

/// Where a database backup stands, as its manifest says.
pub fn positions_of(head: &Head) -> Result<Positions> {
    let refuse = || format!("read positions of {}", head.id);
    ensure!(head.kind == SnapshotKind::Database, wrong_kind(head));
    let positions = head.positions.clone().with_context(refuse)?;
    serde_json::from_value(positions).with_context(refuse)
}

fn wrong_kind(head: &Head) -> Failure {
    Failure::new(Exit::Usage, format!("{} is a backup of files, not of a database", head.id))
        .hint("--prepare and --table are for databases; choose one with --job")
}

/// Checks that a chain of a database begins with all pages, and that each backup continues the one before it.
pub fn check_chain(chain: &[Loaded]) -> Result<()> {
    let first = &chain.first().context("a chain has a backup")?.tree.head;
    if first.kind == SnapshotKind::Database && positions_of(first)?.kind != BackupKind::Full {
        let message = format!("{} has only changes, and names no backup that they go to", first.id);
        return Err(Failure::new(Exit::Failed, message)
            .hint("choose another backup: a full one")
            .into());
    }
    for pair in chain.windows(2) {
        let (parent, child) = (&pair[0].tree.head, &pair[1].tree.head);
        positions_of(child)?
            .check_parent(&positions_of(parent)?)
            .with_context(|| format!("apply {} to {}", child.id, parent.id))?;
    }
    Ok(())
}

/// Finds the tool for a backup and checks that it is of the server's series.
pub fn find_tool(positions: &Positions) -> Result<ToolAt> {
    let found = tool::find(positions.tool)?;
    let server: Version = positions.server_version.parse().context("read version of server")?;
    if !found.fits(server) {
        let message = format!(
            "{} {} cannot prepare a backup of {} {server}",
            found.tool, found.server, positions.flavour
        );
        let hint = format!(
            "install {} of the server's series, as new as the server",
            found.tool.facts().package
        );
        return Err(Failure::new(Exit::Failed, message).hint(hint).into());
    }
    if found.server < server {
        tracing::warn!("{} is older than the server of the backup, {server}", found.server);
    }
    Ok(found)
}

/// Prepares what was restored into `target`, of so many links.
pub fn run(
    target: &Target,
    links: usize,
    preparation: &Preparation,
    set_owner: bool,
    stop: &Stop,
    report: &mut Report,
) -> Result<()> {
    let root = &target.root;
    let full = root.path();
    let request = PrepareRequest {
        full: full.to_owned(),
        increments: (1..links).map(|link| full.join(place_of(link))).collect(),
        export: !preparation.tables.is_empty(),
        memory_bytes: preparation.memory_bytes,
    };
    let path = log_path(full)?;
    let mut log = open_log(&path)?;
    settings::sift(root, links, report)?;
    for mut command in tool::prepare_commands(&preparation.tool, &request)? {
        command.stdin(target.hold()?);
        run_tool(command, &mut log, &path, stop)?;
    }
    remove_tree(root, Path::new(INCREMENTS))?;
    report.notices.push(format!("what the tool said is in {}", path.display()));
    if preparation.tables.is_empty() {
        report.next_steps = steps::start(full, preparation.tool.tool);
    } else {
        steps::import(full, preparation, report)?;
    }
    if set_owner {
        give_to_server(root, report)?;
    }
    Ok(())
}

/// `TARGET.prepare.log`: the target itself is to hold nothing but the database.
fn log_path(target: &Path) -> Result<PathBuf> {
    let target = std::path::absolute(target).context("make path of target absolute")?;
    let mut name = target.file_name().context("the target has no name")?.to_owned();
    name.push(".prepare.log");
    Ok(target.with_file_name(name))
}

/// What is there may be a trap: a link, or a name of a file that matters, which root would write over.
fn open_log(path: &Path) -> Result<File> {
    let mut options = OpenOptions::new();
    options.create(true).read(true).write(true).mode(0o600);
    options.custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed());
    let refuse = |what: &str| {
        Failure::new(Exit::Failed, format!("write {}: {what}", path.display()))
            .hint("remove it, or choose a target in a directory that only you can write into")
    };
    let log = match options.open(path) {
        Err(error) if error.raw_os_error() == Some(Errno::LOOP.raw_os_error()) => {
            return Err(refuse("it is a symbolic link").into());
        }
        log => log.with_context(|| format!("write {}", path.display()))?,
    };
    let found = log.metadata().with_context(|| format!("look at {}", path.display()))?;
    let is_ours = found.uid() == rustix::process::geteuid().as_raw();
    ensure!(
        found.is_file() && found.nlink() == 1 && is_ours,
        refuse("it is not a file of ours with this name alone")
    );
    log.set_len(0).with_context(|| format!("write {}", path.display()))?;
    Ok(log)
}

fn run_tool(mut command: Command, log: &mut File, path: &Path, stop: &Stop) -> Result<()> {
    check_stop(stop)?;
    let start = log.seek(SeekFrom::End(0)).context("read log")?;
    let output = || log.try_clone().context("open log again");
    command.stdout(output()?).stderr(output()?);
    tracing::info!("running {}", steps::command_line(&command));
    let program = command.get_program().to_string_lossy().into_owned();
    let child = command.process_group(0).spawn();
    let status = wait(child.with_context(|| format!("start {program}"))?, stop)?;
    check_stop(stop)?;
    let said = tail(log, start)?;
    if status.success() && tool::is_complete(&said) {
        return Ok(());
    }
    let lines: Vec<&str> = said.lines().collect();
    let last = lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n  ");
    let message =
        format!("{program} did not prepare the backup ({status}); it said last:\n  {last}");
    let advice = tool::advice(&said);
    let hint = advice.unwrap_or_else(|| format!("all that it said is in {}", path.display()));
    Err(Failure::new(Exit::Failed, message).hint(hint).into())
}

/// Waits for the end; when asked to stop, ends the tool and all that it started.
fn wait(mut child: Child, stop: &Stop) -> Result<ExitStatus> {
    loop {
        if let Some(status) = child.try_wait().context("wait for the tool")? {
            return Ok(status);
        }
        if stop.wait_timeout(POLL_INTERVAL) {
            return end(child);
        }
    }
}

fn end(mut child: Child) -> Result<ExitStatus> {
    // Not collected yet, so the number is still its own. That it has just ended by itself is no error.
    kill_process_group(Pid::from_child(&child), Signal::TERM).ok();
    let (never, asked) = (Stop::never(), Instant::now());
    while asked.elapsed() < PATIENCE {
        if let Some(status) = child.try_wait().context("wait for the tool")? {
            return Ok(status);
        }
        never.wait_timeout(POLL_INTERVAL);
    }
    kill_process_group(Pid::from_child(&child), Signal::KILL).ok();
    child.wait().context("wait for the tool")
}

/// What was written from `start` on: its last part.
fn tail(log: &mut File, start: u64) -> Result<String> {
    let end = log.seek(SeekFrom::End(0)).context("read log")?;
    log.seek(SeekFrom::Start(start.max(end.saturating_sub(TAIL_BYTES_MAX)))).context("read log")?;
    let mut said = Vec::new();
    log.take(TAIL_BYTES_MAX).read_to_end(&mut said).context("read log")?;
    Ok(String::from_utf8_lossy(&said).into_owned())
}

/// Gives all files to the server's user, if this host has one.
pub(crate) fn give_to_server(target: &Beneath, report: &mut Report) -> Result<()> {
    let (Some(uid), Some(gid)) = (number_of("passwd", "mysql"), number_of("group", "mysql")) else {
        report.notices.push("this host has no user mysql: the files belong to root".to_owned());
        return Ok(());
    };
    let ids: Ids = (rustix::fs::Uid::from_raw(uid), rustix::fs::Gid::from_raw(gid));
    let mut open = vec![PathBuf::from(".")];
    while let Some(dir) = open.pop() {
        let names = target.list(&dir).with_context(|| format!("list {}", dir.display()))?;
        for (path, is_dir) in names {
            let given = target.at(&path, |parent, name| {
                let (user, group) = (Some(ids.0), Some(ids.1));
                Ok(rustix::fs::chownat(parent, name, user, group, AtFlags::SYMLINK_NOFOLLOW)?)
            });
            given.with_context(|| format!("set owner of {}", target.full(&path).display()))?;
            if is_dir {
                open.push(path);
            }
        }
    }
    let root = target.directory(Path::new("."))?;
    rustix::fs::fchown(root, Some(ids.0), Some(ids.1)).context("set owner of the target")?;
    report.notices.push("all files belong to mysql now".to_owned());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tool_that_is_stopped_ends_with_all_that_it_started() {
        let stop = Stop::new();
        stop.stop();
        let mut command = Command::new("sh");
        command.args(["-c", "sleep 600 & sleep 600"]).process_group(0);
        let status = wait(command.spawn().unwrap(), &stop).unwrap();
        assert!(!status.success());
    }

    #[test]
    fn the_last_words_of_a_failed_tool_are_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut log = open_log(&path).unwrap();
        let tool = |script: &str| {
            let mut command = Command::new("sh");
            command.args(["-c", script]);
            command
        };
        run_tool(tool("echo completed OK!"), &mut log, &path, &Stop::never()).unwrap();
        let error = run_tool(tool("echo it is broken; exit 1"), &mut log, &path, &Stop::never())
            .unwrap_err();
        assert!(format!("{error:#}").contains("it is broken"), "{error:#}");
        let error = run_tool(tool("echo done"), &mut log, &path, &Stop::never()).unwrap_err();
        assert!(!format!("{error:#}").contains("completed"), "only its own words count: {error:#}");
    }
}
