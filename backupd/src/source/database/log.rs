//! What the tool says on standard error: written to a private file, its last lines kept, and looked through.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use anyhow::{Context, Result};
use database::tool::{advice, is_complete, skipped_tablespace};

use crate::process::{Group, Tail, for_each_line};

/// The file does not grow beyond this; the tool writes a line or two for each table.
const LOG_BYTES_MAX: u64 = 64 << 20;
/// So many tables that were left out are looked at.
const SKIPPED_MAX: usize = 10_000;
const TAIL_LINES: usize = 40;

/// Reads along on a thread of its own.
#[derive(Debug)]
pub(super) struct ToolLog {
    path: PathBuf,
    tail: Tail,
    skipped: Arc<Mutex<Skipped>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// The tables that the tool left out because it took them for dropped, relative to the data directory.
#[derive(Clone, Debug, Default)]
pub(super) struct Skipped {
    /// At most [`SKIPPED_MAX`].
    pub paths: Vec<PathBuf>,
    /// There were more.
    pub is_cut: bool,
}

/// What it said, in the end.
#[derive(Debug)]
pub(super) struct Said {
    /// Where all of it is.
    pub path: PathBuf,
    /// Whether its last line says that it worked.
    pub is_complete: bool,
    /// What the user can do about it.
    pub advice: Option<String>,
    lines: Vec<String>,
}

impl Said {
    /// The last lines in one.
    pub(super) fn last_lines(&self, count: usize) -> String {
        self.lines[self.lines.len().saturating_sub(count)..].join(" | ")
    }
}

impl ToolLog {
    /// Takes the standard error of a command that was just started.
    pub(super) fn start(group: &mut Group, path: &Path) -> Result<Self> {
        let stderr = group.child().stderr.take().context("take the tool's log")?;
        let mut file = create(path)?;
        let tail = Tail::default();
        let skipped = Arc::new(Mutex::new(Skipped::default()));
        let thread = std::thread::spawn({
            let (tail, skipped) = (tail.clone(), Arc::clone(&skipped));
            move || {
                let mut written = 0;
                for_each_line(stderr, |line| {
                    tail.push(line);
                    note_skipped(line, &mut lock(&skipped));
                    written += line.len() as u64 + 1;
                    if written <= LOG_BYTES_MAX {
                        // A full disk must not end the backup; the tail is what counts.
                        drop(writeln!(file, "{line}"));
                    }
                });
            }
        });
        Ok(Self { path: path.to_owned(), tail, skipped, thread: Mutex::new(Some(thread)) })
    }

    /// Waits for the last line: the command must have ended.
    pub(super) fn finish(&self) -> Said {
        if let Some(thread) = lock(&self.thread).take() {
            drop(thread.join());
        }
        let lines = self.tail.last(TAIL_LINES);
        let text = lines.join("\n");
        Said {
            path: self.path.clone(),
            is_complete: is_complete(&text),
            advice: advice(&text),
            lines,
        }
    }

    /// What the tool left out.
    pub(super) fn skipped(&self) -> Skipped {
        lock(&self.skipped).clone()
    }
}

fn note_skipped(line: &str, skipped: &mut Skipped) {
    let Some(path) = skipped_tablespace(line) else { return };
    skipped.is_cut |= skipped.paths.len() == SKIPPED_MAX;
    if !skipped.is_cut {
        skipped.paths.push(PathBuf::from(path));
    }
}

fn create(path: &Path) -> Result<File> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("create {}", path.display()))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_tables_than_are_looked_at_are_not_forgotten() {
        let mut skipped = Skipped::default();
        let line = "[00] We assume that table was dropped and ignore the tablespace ./a/b.ibd";
        for _ in 0..SKIPPED_MAX {
            note_skipped(line, &mut skipped);
        }
        assert!(!skipped.is_cut);
        note_skipped(line, &mut skipped);
        assert!(skipped.is_cut && skipped.paths.len() == SKIPPED_MAX);
    }
}
