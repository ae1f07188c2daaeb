//! What the daemon remembers of one job between runs, in `STATE-DIR/JOB`: the lock, the last runs
//! and the LSN chain.
//!
//! All of it may be lost: the next backup is then a full one, and nothing worse. The block cache is
//! there too, and is the depot crate's. Files are private and written durably.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use chassis::durable;
use chassis::failure::{Exit, Failure};
use chrono::{DateTime, Utc};
use depot::names::{JobName, SnapshotId};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::report::{Outcome, RunReport};

/// The last run and the last good one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct History {
    /// The last run, however it ended.
    pub last: Option<RunReport>,
    /// The last run that was done wholly.
    pub last_good: Option<RunReport>,
    /// Due times up to here are dealt with: later ones that have passed were missed. A run that was
    /// stopped or killed does not count.
    pub served: Option<DateTime<Utc>>,
    /// When the daemon met the job for the first time.
    pub known_since: Option<DateTime<Utc>>,
    /// The last backup, even of a run that was done only in part: the next id is after it.
    #[serde(default)]
    pub last_snapshot: Option<SnapshotId>,
}

impl History {
    /// Adds a run that has ended. The same run may be added again.
    pub fn add(&mut self, report: &RunReport) {
        if report.outcome == Outcome::Done {
            self.last_good = Some(report.clone());
        }
        if let Some(id) = &report.snapshot {
            self.last_snapshot = Some(id.clone());
        }
        if report.exit != Exit::Interrupted as u8 {
            self.served = Some(report.started);
        }
        self.last = Some(report.clone());
    }

    /// The time of the last backup's id. A file of an earlier version does not name that backup.
    pub fn last_time(&self) -> Option<DateTime<Utc>> {
        let of_reports = || {
            let reports = [&self.last_good, &self.last].into_iter().flatten();
            reports.filter_map(|report| report.snapshot.as_ref()).map(|id| id.time).max()
        };
        self.last_snapshot.as_ref().map(|id| id.time).or_else(of_reports)
    }
}

/// The LSN chain that the next increment can build on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chain {
    /// The full backup and its increments, oldest first.
    pub snapshots: Vec<SnapshotId>,
    /// Up to where the newest of them reaches.
    pub to_lsn: u64,
    /// The server it is of; an increment on another server's full backup would be garbage.
    pub server: String,
}

/// The directory of one job.
#[derive(Clone, Debug)]
pub struct JobState {
    dir: PathBuf,
}

/// The right to run a job; given back when dropped or when the process ends.
#[derive(Debug)]
pub struct JobLock {
    file: File,
}

impl Drop for JobLock {
    /// A process that is just being started may still hold the file: closing it would not unlock it.
    fn drop(&mut self) {
        let _ = self.file.unlock();
    }
}

impl JobState {
    /// Opens the directory, which is made (0700) if it is not there.
    pub fn open(dir: &Path) -> Result<Self> {
        make_private_dir(dir)?;
        Ok(Self { dir: dir.to_owned() })
    }

    /// The same for readers: nothing is made.
    pub fn at(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Takes the right to run the job, or fails at once with [`Exit::Busy`], naming the process
    /// that has it.
    pub fn lock(&self, job: &JobName) -> Result<JobLock> {
        let path = self.dir.join("lock");
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .with_context(|| format!("open {}", path.display()))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(busy(job, &mut file).into()),
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("lock {}", path.display()));
            }
        }
        file.set_len(0)
            .and_then(|()| writeln!(file, "{}", std::process::id()))
            .context("write lock")?;
        Ok(JobLock { file })
    }

    /// The last runs; empty if there were none, or if the file is not readable as such.
    pub fn history(&self) -> History {
        self.read("last-run.json").unwrap_or_default()
    }

    /// Remembers that the daemon knows the job: what was due before is not made up for.
    pub fn begin(&self, now: DateTime<Utc>) -> Result<History> {
        let mut history = self.history();
        if history.served.is_none() {
            history.served = Some(now);
            history.known_since = Some(now);
            self.write("last-run.json", &history)?;
        }
        Ok(history)
    }

    /// Remembers how a run ended.
    pub fn record(&self, report: &RunReport) -> Result<()> {
        let mut history = self.history();
        history.add(report);
        self.write("last-run.json", &history)
    }

    /// The LSN chain, if there is one.
    pub fn chain(&self) -> Option<Chain> {
        self.read("chain.json")
    }

    /// Remembers the chain, or forgets it.
    pub fn set_chain(&self, chain: Option<&Chain>) -> Result<()> {
        match chain {
            Some(chain) => self.write("chain.json", chain),
            None => match fs::remove_file(self.dir.join("chain.json")) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    Err(error).context("remove chain.json")
                }
                _ => Ok(()),
            },
        }
    }

    /// A file that is missing or damaged is as good as none: all that it costs is a full backup.
    fn read<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        let path = self.dir.join(name);
        let bytes = fs::read(&path).ok()?;
        serde_json::from_slice(&bytes)
            .inspect_err(|error| tracing::warn!("ignoring {}: {error}", path.display()))
            .ok()
    }

    fn write<T: Serialize>(&self, name: &str, value: &T) -> Result<()> {
        let bytes = serde_json::to_vec_pretty(value).with_context(|| format!("encode {name}"))?;
        durable::write_replace(&self.dir.join(name), &bytes, 0o600)?;
        Ok(())
    }
}

/// Makes a directory that only its owner may enter, with those above it.
pub fn make_private_dir(dir: &Path) -> Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|error| {
        Failure::new(Exit::Failed, format!("make directory {}", dir.display()))
            .hint("the daemon must be able to write its `state-dir`")
            .because(error)
            .into()
    })
}

fn busy(job: &JobName, file: &mut File) -> Failure {
    let mut holder = String::new();
    let is_read = file.rewind().and_then(|()| file.read_to_string(&mut holder)).is_ok();
    let by = match holder.trim() {
        pid if is_read && !pid.is_empty() => format!(" (process {pid})"),
        _ => String::new(),
    };
    Failure::new(Exit::Busy, format!("job `{job}` is running already{by}"))
        .hint("wait for it to end; see `backupctl status`")
}

#[cfg(test)]
mod tests {
    use chassis::failure::exit_of;
    use depot::manifest::SnapshotKind;

    use super::*;

    fn report(outcome: Outcome) -> RunReport {
        let time = DateTime::from_timestamp(1_795_400_000, 0).unwrap();
        let job: JobName = "site".parse().unwrap();
        let error = anyhow::anyhow!("no");
        RunReport { outcome, ..RunReport::failed(&job, SnapshotKind::Files, time, time, &error) }
    }

    #[test]
    fn two_runs_of_one_job_do_not_meet() {
        let dir = tempfile::tempdir().unwrap();
        let job: JobName = "site".parse().unwrap();
        let state = JobState::open(&dir.path().join("site")).unwrap();
        let lock = state.lock(&job).unwrap();
        let error = state.lock(&job).unwrap_err();
        assert_eq!(exit_of(&error), Exit::Busy);
        assert!(error.to_string().contains(&std::process::id().to_string()), "{error}");
        drop(lock);
        state.lock(&job).unwrap();
    }

    #[test]
    fn a_failed_run_does_not_hide_the_last_good_one() {
        let dir = tempfile::tempdir().unwrap();
        let state = JobState::open(dir.path()).unwrap();
        assert_eq!(state.history(), History::default());
        state.record(&report(Outcome::Done)).unwrap();
        state.record(&report(Outcome::Failed)).unwrap();
        let history = state.history();
        assert_eq!(history.last_good.unwrap().outcome, Outcome::Done);
        assert_eq!(history.last.unwrap().outcome, Outcome::Failed);
    }

    #[test]
    fn an_accepted_clock_sticks_even_if_the_run_was_partial() {
        let run = |outcome, id: &str| RunReport {
            snapshot: Some(id.parse().unwrap()),
            ..report(outcome)
        };
        let ahead = "site--20361123T021500Z--web1";
        let right = "site--20261123T021500Z--web1";
        let mut history = History::default();
        history.add(&run(Outcome::Done, ahead));
        history.add(&run(Outcome::Partial, right));
        history.add(&report(Outcome::Failed));
        let time = |id: &str| Some(id.parse::<SnapshotId>().unwrap().time);
        assert_eq!(history.last_time(), time(right));
        // What an earlier version wrote.
        history.last_snapshot = None;
        assert_eq!(history.last_time(), time(ahead));
    }

    #[test]
    fn a_damaged_memory_is_as_good_as_none() {
        let dir = tempfile::tempdir().unwrap();
        let state = JobState::open(dir.path()).unwrap();
        let id = "site--20261123T021500Z--web1".parse().unwrap();
        let chain = Chain { snapshots: vec![id], to_lsn: 7, server: "x".into() };
        state.set_chain(Some(&chain)).unwrap();
        assert_eq!(state.chain(), Some(chain));
        fs::write(dir.path().join("chain.json"), "{\"snapsh").unwrap();
        assert_eq!(state.chain(), None);
        state.set_chain(None).unwrap();
        state.set_chain(None).unwrap();
    }
}
