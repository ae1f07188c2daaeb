//! The files of a schedule, and the model of what must be in the store.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use flate2::Compression;
use flate2::write::GzEncoder;

pub use super::schedule::LOGS;
use super::{Line, Step};

/// A log that is written to.
#[derive(Debug)]
struct Log {
    path: PathBuf,
    writer: File,
    next: u64,
    /// What is still to be written of a line that was begun.
    rest: Vec<u8>,
}

/// Logs in a folder.
#[derive(Debug)]
pub struct Stage {
    seed: u64,
    logs: Vec<Log>,
    /// By line, the number of the step that ended it.
    written: BTreeMap<Line, usize>,
    history: Vec<String>,
}

impl Stage {
    /// Makes empty logs in an existing folder.
    pub fn new(folder: &Path, seed: u64) -> Result<Self> {
        let log = |number: u32| {
            let path = folder.join(format!("app-{number}.log"));
            Ok(Log { writer: append(&path)?, path, next: 0, rest: Vec::new() })
        };
        let logs = (0..LOGS).map(log).collect::<Result<_>>()?;
        Ok(Self { seed, logs, written: BTreeMap::new(), history: Vec::new() })
    }

    /// Every line that was written to its end.
    pub fn written(&self) -> &BTreeMap<Line, usize> {
        &self.written
    }

    /// What was done to the log of a line around the step that ended it.
    pub fn story(&self, line: Line) -> String {
        let Some(at) = self.written.get(&line) else { return "never written".to_owned() };
        let (from, to) = (at.saturating_sub(2), (at + 8).min(self.history.len()));
        let steps = (from..to).map(|at| format!("\n    step {at}: {}", self.history[at]));
        format!("written by step {at}{}", steps.collect::<String>())
    }

    /// Does a step on files, and notes any other. `settle` waits until all that is written is in the store; it is
    /// called before what would destroy something that is read by nobody yet, and says whether that was reached.
    pub fn act(&mut self, step: &Step, settle: impl FnOnce(&Self) -> Result<bool>) -> Result<()> {
        self.history.push(format!("{step:?}"));
        match *step {
            Step::Write { log, lines } => self.write(log, lines),
            Step::WritePart { log } => self.write_part(log),
            Step::Rotate { log } => {
                self.shift(log)?;
                self.reopen(log)
            }
            Step::RotateLate { log } => {
                self.shift(log)?;
                self.write(log, 3)?;
                self.reopen(log)
            }
            Step::Compress { log } => self.compress(log),
            Step::Redate { log, seconds } => self.redate(log, seconds),
            Step::Truncate { log } | Step::Delete { log } | Step::Recreate { log } => {
                // A part of a line would be torn in two, and then no reader can help.
                self.write(log, 0)?;
                if settle(self)? {
                    return self.destroy(step);
                }
                self.history.pop();
                self.history.push(format!("{step:?}, passed over"));
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Ends every line that was begun.
    pub fn finish(&mut self) -> Result<()> {
        (0..LOGS).try_for_each(|log| self.act(&Step::Write { log, lines: 1 }, |_| Ok(true)))
    }

    fn log(&mut self, log: u32) -> &mut Log {
        &mut self.logs[log as usize]
    }

    fn write(&mut self, log: u32, lines: u32) -> Result<()> {
        let (seed, step) = (self.seed, self.history.len() - 1);
        let Log { writer, next, rest, .. } = &mut self.logs[log as usize];
        let mut text = std::mem::take(rest);
        if !text.is_empty() {
            self.written.insert(Line { log, number: *next - 1 }, step);
        }
        for _ in 0..lines {
            let line = Line { log, number: *next };
            text.extend_from_slice(line.text(seed).as_bytes());
            text.push(b'\n');
            self.written.insert(line, step);
            *next += 1;
        }
        writer.write_all(&text).context("write a log")
    }

    fn write_part(&mut self, log: u32) -> Result<()> {
        self.write(log, 0)?;
        let seed = self.seed;
        let log_state = self.log(log);
        let mut text = Line { log, number: log_state.next }.text(seed).into_bytes();
        text.push(b'\n');
        // Anywhere, also within a letter or before the end only.
        let at = 1 + (seed ^ log_state.next) as usize % (text.len() - 1);
        log_state.rest = text.split_off(at);
        log_state.next += 1;
        log_state.writer.write_all(&text).context("write a log")
    }

    /// `log.2` becomes `log.3`, and so on up to the log itself.
    fn shift(&mut self, log: u32) -> Result<()> {
        let path = self.log(log).path.clone();
        make_room(&path)?;
        fs::rename(&path, rotated(&path, 1, "")).context("rotate a log")
    }

    /// A line that was begun is ended in the old file, as a writer does that opens anew between two writes.
    fn reopen(&mut self, log: u32) -> Result<()> {
        self.write(log, 0)?;
        let log = self.log(log);
        log.writer = append(&log.path)?;
        Ok(())
    }

    fn compress(&mut self, log: u32) -> Result<()> {
        let path = self.log(log).path.clone();
        let plain = (1..=highest(&path)).map(|number| (number, rotated(&path, number, "")));
        let Some((number, from)) = plain.into_iter().find(|(_, from)| from.exists()) else {
            return Ok(());
        };
        let to = rotated(&path, number, ".gz");
        let mut encoder = GzEncoder::new(File::create(&to)?, Compression::default());
        encoder.write_all(&fs::read(&from)?)?;
        encoder.finish()?;
        fs::remove_file(from).context("remove what is compressed")
    }

    fn redate(&mut self, log: u32, seconds: i64) -> Result<()> {
        let writer = &self.log(log).writer;
        let now = writer.metadata()?.modified()?;
        let by = Duration::from_secs(seconds.unsigned_abs());
        let then = if seconds < 0 { now - by } else { now + by };
        writer.set_modified(then).context("set a time")
    }

    fn destroy(&mut self, step: &Step) -> Result<()> {
        match *step {
            Step::Truncate { log } => {
                let path = self.log(log).path.clone();
                make_room(&path)?;
                fs::copy(&path, rotated(&path, 1, ""))?;
                self.log(log).writer.set_len(0).context("truncate a log")
            }
            Step::Delete { log } => {
                let path = &self.logs[log as usize].path;
                let names = ["", ".gz"].map(|packed| rotated(path, highest(path), packed));
                names
                    .iter()
                    .filter(|name| name.exists())
                    .try_for_each(|name| fs::remove_file(name).context("remove a rotated file"))
            }
            Step::Recreate { log } => {
                let log = self.log(log);
                fs::remove_file(&log.path)?;
                log.writer = append(&log.path)?;
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

fn append(path: &Path) -> Result<File> {
    let file = File::options().create(true).append(true).open(path);
    file.with_context(|| format!("open {}", path.display()))
}

/// Moves every rotated file one number up.
fn make_room(path: &Path) -> Result<()> {
    for number in (1..=highest(path)).rev() {
        for packed in ["", ".gz"] {
            let from = rotated(path, number, packed);
            if from.exists() {
                fs::rename(&from, rotated(path, number + 1, packed))?;
            }
        }
    }
    Ok(())
}

fn rotated(path: &Path, number: u32, packed: &str) -> PathBuf {
    PathBuf::from(format!("{}.{number}{packed}", path.display()))
}

/// The number of the oldest rotated file; 0 if there is none.
fn highest(path: &Path) -> u32 {
    let is_there = |number: &u32| ["", ".gz"].iter().any(|p| rotated(path, *number, p).exists());
    (1..200).rev().find(is_there).unwrap_or(0)
}
