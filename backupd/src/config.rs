//! What `backupd.toml` may say, read strictly and checked whole before anything starts.
//!
//! The structures here are the reference of the file: one field a key, with its default. What a type cannot say (a
//! depot that nobody defined, two kinds of source in one job) is checked in [`check`], once, at load; after that the
//! rest of the program relies on it. No secret is in the file: it names files that hold them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Result;
use chassis::config::nearest;
use chassis::failure::{Exit, Failure};
use chassis::schedule::Expression;
use chassis::units::Span;
use chrono_tz::Tz;
use depot::crypt::Recipients;
use depot::names::{HostName, JobName, Label};
use depot::store::StoreConfig;
use serde::Deserialize;

mod check;
mod database;
mod keeper;
mod log;

pub use database::{DatabaseJob, Mode};
pub use keeper::{Keeper, Verify};
pub use log::LogJob;

/// The name of a depot in the configuration.
pub type DepotName = Label;

/// Where both programs look for their configuration.
pub const CONFIG_PATH: &str = "/etc/holdfast/backupd.toml";

/// The whole file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// How this host is called in the names of its backups. Never change it: the next backup would be a first one.
    pub host: HostName,
    /// What the daemon remembers between runs: about 50 bytes for each block of the last backups.
    #[serde(default = "default_state_dir")]
    pub state_dir: PathBuf,
    /// The unix socket for `backupctl`; made with mode 0600.
    #[serde(default = "default_control_socket")]
    pub control_socket: PathBuf,
    /// Where `/metrics` and `/healthz` are served; loopback unless there is a reason.
    #[serde(default = "default_metrics_listen")]
    pub metrics_listen: std::net::SocketAddr,
    /// Let other hosts read these pages.
    #[serde(default)]
    pub metrics_remote: bool,
    /// Public keys that everything is encrypted to: `age1...` or `ssh-ed25519 ...`.
    #[serde(default)]
    pub recipients: Vec<String>,
    /// A file of public keys, one a line, in addition to `recipients`.
    pub recipients_file: Option<PathBuf>,
    /// The key of the blocks' names; `STATE-DIR/block.key` if not given, made at the first start.
    pub block_key_file: Option<PathBuf>,
    /// What is logged and where to.
    #[serde(default)]
    pub log: chassis::log::LogConfig,
    /// Where backups are stored.
    #[serde(default)]
    pub depots: BTreeMap<DepotName, StoreConfig>,
    /// What is backed up, and when.
    #[serde(default)]
    pub jobs: BTreeMap<JobName, Job>,
    /// Retention; only on the host that may delete.
    pub keeper: Option<Keeper>,
    /// What `restore` reads when it is given this file; it is not looked at here.
    pub restore: Option<serde::de::IgnoredAny>,
}

/// One job: a source, its schedule and where it goes.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Job {
    /// Five crontab fields or `@daily` and its kin; without it the job runs only when asked to.
    pub schedule: Option<Expression>,
    /// The time zone of the schedule.
    #[serde(default = "default_time_zone", deserialize_with = "parse_time_zone")]
    pub time_zone: Tz,
    /// A scheduled run starts up to this much later, by chance, so that many hosts do not start as one.
    #[serde(default)]
    pub jitter: Span,
    /// The depots it goes to; all of them if not given.
    pub depots: Option<Vec<DepotName>>,
    /// The longest that a run may take; at most 48 hours.
    #[serde(default = "default_deadline")]
    pub deadline: Span,
    /// A command that runs first. If it fails, there is no backup.
    #[serde(default)]
    pub before: Vec<String>,
    /// A command that runs at the end of every run that began, however far it got and however it ended.
    #[serde(default)]
    pub after: Vec<String>,
    /// A command that runs after a run that failed.
    #[serde(default)]
    pub after_failed: Vec<String>,
    /// The longest that each of these commands may take. Once the daemon is stopping, `before` is ended and the others
    /// have 4 seconds.
    #[serde(default = "default_hook_timeout")]
    pub hook_timeout: Span,
    /// A tree of files.
    pub files: Option<FilesJob>,
    /// A database server.
    pub database: Option<DatabaseJob>,
    /// The binary log of a database server.
    pub log: Option<LogJob>,
}

/// A tree of files.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct FilesJob {
    /// The directory; it must be absolute.
    pub root: PathBuf,
    /// Only what matches one of these patterns, and the directories above; everything if empty.
    #[serde(default)]
    pub include: Vec<String>,
    /// Nothing that matches one of these patterns, nor what is below it.
    #[serde(default)]
    pub exclude: Vec<String>,
    /// Do not cross into other file systems.
    #[serde(default)]
    pub one_file_system: bool,
    /// Store extended attributes, and with them access lists.
    #[serde(default = "default_true")]
    pub xattrs: bool,
    /// Back up a root without any entry too; otherwise it is taken for one that is not mounted.
    #[serde(default)]
    pub allow_empty: bool,
}

/// The one source of a job.
#[derive(Clone, Copy, Debug)]
pub enum Source<'a> {
    /// A tree of files.
    Files(&'a FilesJob),
    /// A database server.
    Database(&'a DatabaseJob),
    /// The binary log of a database server: it is archived all the time, and never run.
    Log(&'a LogJob),
}

impl Job {
    /// Its source.
    pub fn source(&self) -> Source<'_> {
        match (&self.files, &self.database) {
            (Some(files), _) => Source::Files(files),
            (None, Some(database)) => Source::Database(database),
            (None, None) => {
                Source::Log(self.log.as_ref().expect("a job without a source is refused at load"))
            }
        }
    }
}

impl Config {
    /// Reads and checks a file. Errors are failures with [`chassis::failure::Exit::Usage`] that name file and key.
    pub fn load(path: &Path) -> Result<Self> {
        let (name, text) = (path.display().to_string(), chassis::config::read(path)?);
        let mut config: Self = chassis::config::parse(&name, &text)?;
        config.make_absolute(path.parent().unwrap_or(Path::new(".")));
        check::check(&config).map_err(|check::Refusal { key, failure }| {
            chassis::config::placed(&name, &text, &key, failure)
        })?;
        Ok(config)
    }

    /// Paths of keys in the file are relative to the file.
    fn make_absolute(&mut self, folder: &Path) {
        for path in [&mut self.recipients_file, &mut self.block_key_file].into_iter().flatten() {
            *path = folder.join(&path);
        }
        self.depots.values_mut().for_each(|store| store.make_absolute(folder));
    }

    /// The jobs that have runs: all but those that archive a log.
    pub fn run_jobs(&self) -> impl Iterator<Item = (&JobName, &Job)> {
        self.jobs.iter().filter(|(_, job)| job.log.is_none())
    }

    /// The jobs that archive a log.
    pub fn log_jobs(&self) -> impl Iterator<Item = (&JobName, &Job, &LogJob)> {
        self.jobs.iter().filter_map(|(name, job)| Some((name, job, job.log.as_ref()?)))
    }

    /// The names of the depots that a job goes to.
    pub fn depots_of<'a>(&'a self, job: &'a Job) -> Vec<&'a DepotName> {
        job.depots
            .as_ref()
            .map_or_else(|| self.depots.keys().collect(), |names| names.iter().collect())
    }

    /// The error for the name of a depot that is not defined.
    pub fn no_such_depot(&self, name: &DepotName) -> Failure {
        let known: Vec<&str> = self.depots.keys().map(DepotName::as_str).collect();
        let hint = match nearest(name.as_str(), known.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("defined in this file: {}", known.join(", ")),
        };
        Failure::new(Exit::Usage, format!("no depot is called `{name}`")).hint(hint)
    }

    /// All recipients, those of the file too.
    pub fn recipients(&self) -> Result<Recipients> {
        let mut texts = self.recipients.clone();
        if let Some(path) = &self.recipients_file {
            texts.extend(Recipients::from_file(path)?.texts().iter().cloned());
        }
        Recipients::parse(&texts)
    }

    /// Where a job keeps what it remembers.
    pub fn job_dir(&self, job: &JobName) -> PathBuf {
        self.state_dir.join(job.as_str())
    }

    /// Where the key of the blocks' names is.
    pub fn block_key_path(&self) -> PathBuf {
        self.block_key_file.clone().unwrap_or_else(|| self.state_dir.join("block.key"))
    }
}

fn default_state_dir() -> PathBuf {
    PathBuf::from("/var/lib/backupd")
}

fn default_control_socket() -> PathBuf {
    PathBuf::from("/run/backupd/control.sock")
}

fn default_metrics_listen() -> std::net::SocketAddr {
    ([127, 0, 0, 1], 9180).into()
}

pub(crate) fn default_time_zone() -> Tz {
    Tz::UTC
}

/// The parser of the crate has no advice.
pub(crate) fn parse_time_zone<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Tz, D::Error> {
    let name = String::deserialize(deserializer)?;
    name.parse().map_err(|_| {
        let problem =
            format!("`{name}` is not a time zone: write `UTC` or such as `Europe/Berlin`");
        serde::de::Error::custom(problem)
    })
}

fn default_deadline() -> Span {
    Span::from_secs(24 * 3600)
}

fn default_hook_timeout() -> Span {
    Span::from_secs(10 * 60)
}

fn default_true() -> bool {
    true
}
