//! The systemd journal, by `journalctl -o json --follow`: each entry is one line of JSON, which goes into an
//! inbox as it is.
//!
//! Where to go on is the cursor of the last entry that is durable in the spool; it is written in the same breath.
//! journalctl is started again, after a rest, whenever it ends. Binary fields come as arrays of numbers, which are
//! left to the parser. The journal can wait: while there is no room, nothing is read.

use std::fs;
use std::io::{ErrorKind, Read};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use chassis::retry::{Backoff, Stop};
use chrono::Utc;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::inbox::{Inbox, Put};

/// How often it is looked whether to stop.
const POLL_INTERVAL: Duration = Duration::from_millis(200);
const CHUNK_BYTES: usize = 64 << 10;
/// One that ran this long was well.
const GOOD_RUN: Duration = Duration::from_mins(1);
const CURSOR_BYTES_MAX: usize = 1024;
const CURSOR_NAME: &str = "cursor";
const CURSOR_KEY: &[u8] = b"\"__CURSOR\"";
const RESTS: Backoff = Backoff {
    attempts_max: u32::MAX,
    first: Duration::from_millis(500),
    factor: 2,
    max: Duration::from_mins(1),
    jitter: 0.3,
};

/// What is read of which journal.
#[derive(Clone, Debug)]
pub struct Options {
    /// The program.
    pub journalctl: PathBuf,
    /// A file or a directory with journals instead of that of the system.
    pub source: Option<PathBuf>,
    /// The first time, begin with what is there instead of what comes.
    pub from_beginning: bool,
    /// The longest entry, as JSON; the rest is cut off, and marked.
    pub entry_bytes: usize,
    /// Where the cursor is kept, next to the spool.
    pub state_dir: PathBuf,
}

/// Follows the journal until it is stopped.
pub fn follow(options: Options, inbox: Arc<Inbox>, stop: Stop) -> Result<JoinHandle<()>> {
    let saved = load_cursor(&options.state_dir)?;
    let mut cursor = last_in_spool(&inbox)?.or(saved);
    let run = move || {
        let mut attempt = 0;
        while !stop.is_stopped() {
            let started = Instant::now();
            let outcome = run_once(&options, &mut cursor, &inbox, &stop);
            if stop.is_stopped() {
                return;
            }
            attempt = if started.elapsed() >= GOOD_RUN { 1 } else { attempt + 1 };
            let wait = RESTS.wait(attempt, rand::random());
            match outcome {
                Ok(said) => tracing::warn!(?wait, "journalctl ended, is started again: {said}"),
                Err(error) => tracing::warn!(?wait, "failed to follow the journal: {error:#}"),
            }
            stop.wait_timeout(wait);
        }
    };
    thread::Builder::new().name("journal".into()).spawn(run).context("start the journal's thread")
}

/// The command for a place to go on from.
pub fn command(options: &Options, cursor: Option<&str>) -> Command {
    let mut command = Command::new(&options.journalctl);
    command.args(["--output=json", "--follow", "--no-pager", "--all", "--quiet"]);
    match (cursor, options.from_beginning) {
        (Some(cursor), _) => command.arg("--no-tail").arg(format!("--after-cursor={cursor}")),
        (None, true) => command.arg("--no-tail"),
        (None, false) => command.arg("--lines=0"),
    };
    if let Some(source) = &options.source {
        let kind = if source.is_dir() { "directory" } else { "file" };
        command.arg(format!("--{kind}={}", source.display()));
    }
    command.env("LC_ALL", "C.UTF-8");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Until journalctl ends; returns what it said of that.
fn run_once(
    options: &Options,
    cursor: &mut Option<String>,
    inbox: &Inbox,
    stop: &Stop,
) -> Result<String> {
    let mut child = command(options, cursor.as_deref()).spawn().context("start journalctl")?;
    let mut output = child.stdout.take().context("journalctl has no output")?;
    let outcome = read_lines(&mut output, options, cursor, inbox, stop);
    drop(output);
    drop(child.kill());
    outcome?;
    last_words(child)
}

fn last_words(mut child: Child) -> Result<String> {
    let mut said = String::new();
    if let Some(errors) = child.stderr.take() {
        let _ = errors.take(2000).read_to_string(&mut said);
    }
    let status = child.wait().context("wait for journalctl")?;
    Ok(format!("{status}: {}", said.trim()))
}

fn read_lines(
    output: &mut ChildStdout,
    options: &Options,
    cursor: &mut Option<String>,
    inbox: &Inbox,
    stop: &Stop,
) -> Result<()> {
    let mut lines = Lines { limit: options.entry_bytes, ..Lines::default() };
    let mut buffer = vec![0; CHUNK_BYTES];
    let timeout = Timespec { tv_sec: 0, tv_nsec: POLL_INTERVAL.as_nanos() as i64 };
    while !stop.is_stopped() {
        let mut ready = [PollFd::from_borrowed_fd(output.as_fd(), PollFlags::IN)];
        match poll(&mut ready, Some(&timeout)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => continue,
            result => result.context("wait for journalctl")?,
        };
        let length = match output.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(length) => length,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error).context("read journalctl's output"),
        };
        let mut newest = None;
        lines.feed(&buffer[..length], &mut |line, cut_bytes| {
            let read_at = Utc::now().timestamp_nanos_opt().unwrap_or_default();
            if inbox.put_patiently(read_at, cut_bytes, line, stop) == Put::Taken {
                newest = cursor_of(line).or(newest.take());
            }
        });
        let Some(newest) = newest else { continue };
        if inbox.commit_with(|_| save_cursor(&options.state_dir, &newest)) {
            *cursor = Some(newest);
        } else {
            // What is not durable is read again, after a rest.
            anyhow::bail!("the spool or the cursor cannot be written");
        }
    }
    Ok(())
}

/// Bytes become lines of a bounded length.
#[derive(Debug, Default)]
struct Lines {
    limit: usize,
    line: Vec<u8>,
    cut_bytes: u32,
}

impl Lines {
    fn feed(&mut self, bytes: &[u8], take: &mut impl FnMut(&[u8], u32)) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let text = piece.strip_suffix(b"\n");
            let content = text.unwrap_or(piece);
            let kept = content.len().min(self.limit - self.line.len());
            self.line.extend_from_slice(&content[..kept]);
            let cut = u32::try_from(content.len() - kept).unwrap_or(u32::MAX);
            self.cut_bytes = self.cut_bytes.saturating_add(cut);
            if text.is_some() {
                if !self.line.is_empty() {
                    take(&self.line, self.cut_bytes);
                }
                self.line.clear();
                self.line.shrink_to(CHUNK_BYTES);
                self.cut_bytes = 0;
            }
        }
    }
}

/// The cursor in an entry, which may be cut. It names the entry for ever, so it is also good for the id of a document.
pub fn cursor_of(entry: &[u8]) -> Option<String> {
    let is_key = |at: &usize| *at == 0 || entry[at - 1] != b'\\';
    let at = memchr::memmem::find_iter(entry, CURSOR_KEY).find(is_key)?;
    let rest = entry[at + CURSOR_KEY.len()..].trim_ascii_start().strip_prefix(b":")?;
    let rest = rest.trim_ascii_start().strip_prefix(b"\"")?;
    let end = memchr::memchr(b'"', rest).filter(|end| *end <= CURSOR_BYTES_MAX)?;
    let cursor = std::str::from_utf8(&rest[..end]).ok()?;
    is_cursor(cursor).then(|| cursor.to_owned())
}

/// `s=...;i=...;b=...`: hexadecimal digits and few other characters.
fn is_cursor(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b";=-".contains(&byte))
}

/// The cursor of the newest entry of the spool: newer than what is saved if a crash came in between.
fn last_in_spool(inbox: &Inbox) -> Result<Option<String>> {
    let mut last = None;
    let mut spool = inbox.lock();
    spool.rewind();
    while spool.read(CHUNK_BYTES, &mut |record| last = cursor_of(record.message))? > 0 {}
    spool.rewind();
    Ok(last)
}

fn save_cursor(dir: &Path, cursor: &str) -> Result<()> {
    let path = dir.join(CURSOR_NAME);
    let text = format!("logshipd-cursor 1 {cursor}\n");
    chassis::durable::write_replace(&path, text.as_bytes(), 0o600).context("write the cursor")
}

fn load_cursor(dir: &Path) -> Result<Option<String>> {
    let path = dir.join(CURSOR_NAME);
    let text = match fs::read_to_string(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        text => text.with_context(|| format!("read {}", path.display()))?,
    };
    let words: Vec<&str> = text.trim_end().split(' ').collect();
    match words[..] {
        ["logshipd-cursor", "1", cursor] if is_cursor(cursor) => Ok(Some(cursor.to_owned())),
        _ => anyhow::bail!("{} is no cursor of this version", path.display()),
    }
}

#[cfg(test)]
mod tests;
