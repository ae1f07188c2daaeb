//! The live archive of a server's binary log: a job of the kind `log`.
//!
//! # Layout
//! - `receive`: from the server into the spool, by a thread of its own
//! - `piece`, `spool`: what waits on this host's disk
//! - `ship`: from the spool into a depot, by a thread for each
//! - `timeline`: which history the server goes on with
//!
//! The server is never held up: where the spool is full, no more is read. What the server sends is
//! durable here before it counts as received, and goes on by transaction ids after any interruption.
//! A thread that fails says so in [`LogStatus`] and tries again; only a stop ends it.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use chassis::retry::{Backoff, Stop};
use chrono::{DateTime, Utc};
use depot::crypt::Recipients;
use depot::names::JobName;
use depot::store::StoreConfig;
use serde::{Deserialize, Serialize};

use crate::config::{Config, DepotName, Job, LogJob};

mod piece;
mod receive;
mod ship;
mod spool;
mod timeline;

use spool::{Place, Spool};

/// How long to wait before the next attempt after failures in a row.
const BACKOFF: Backoff = Backoff {
    attempts_max: u32::MAX,
    first: Duration::from_millis(500),
    factor: 2,
    max: Duration::from_secs(30),
    jitter: 0.3,
};

/// How the archive of one server stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LogStatus {
    /// The history that is archived.
    pub timeline: Option<String>,
    /// Whether the log comes in now.
    pub connected: bool,
    /// Why it does not.
    pub error: Option<String>,
    /// All that was received and is durable.
    pub upto: String,
    /// The commit time of the last transaction that was received.
    pub last_commit: Option<DateTime<Utc>>,
    /// When the oldest transaction was received that is in no closed piece yet.
    pub open_since: Option<DateTime<Utc>>,
    /// When the server was last heard of.
    pub heard: Option<DateTime<Utc>>,
    /// Bytes in the spool.
    pub spool_bytes: u64,
    /// Whether the spool is full, so that nothing is read from the server.
    pub is_full: bool,
    /// What the server had purged before it was archived, as found since the start.
    pub holes: Vec<String>,
    /// The depots.
    pub depots: Vec<DepotLag>,
}

/// How far a depot is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DepotLag {
    /// Its name.
    pub name: String,
    /// Since when the oldest transaction waits that is not in it; none if none waits.
    pub waiting_since: Option<DateTime<Utc>>,
    /// Bytes that are not in it.
    pub bytes: u64,
    /// All that is in it.
    pub upto: String,
    /// Why the last attempt failed.
    pub error: Option<String>,
}

impl LogStatus {
    /// Seconds by which the farthest depot is behind what was committed.
    pub fn behind(&self, now: DateTime<Utc>) -> f64 {
        let waits = self.depots.iter().filter_map(|depot| depot.waiting_since);
        let silent = self.heard.filter(|_| !self.connected || self.is_full);
        let since = waits.chain(silent).chain(self.open_since).min();
        since.map_or(0.0, |since| (now - since).as_seconds_f64().max(0.0))
    }

    /// Bytes that the farthest depot lacks.
    pub fn behind_bytes(&self) -> u64 {
        self.depots.iter().map(|depot| depot.bytes).max().unwrap_or_default()
    }
}

/// What all threads of one archive share.
#[derive(Debug)]
pub struct Archiver {
    name: JobName,
    config: LogJob,
    host: depot::names::HostName,
    server_id: u32,
    depots: Vec<(DepotName, StoreConfig)>,
    recipients: Recipients,
    spool: Spool,
    place: Mutex<Option<Place>>,
    status: Mutex<LogStatus>,
    stop: Stop,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Archiver {
    /// Opens the spool of a job. Nothing runs yet.
    pub fn open(config: &Config, name: &JobName, job: &Job, stop: Stop) -> Result<Arc<Self>> {
        let log = job.log.clone().context("it is no log job")?;
        let dir: PathBuf = config.job_dir(name).join("spool");
        let (spool, place) = Spool::open(&dir).context("open spool")?;
        let depots: Vec<_> = config
            .depots_of(job)
            .into_iter()
            .map(|depot| (depot.clone(), config.depots[depot].clone()))
            .collect();
        let status = LogStatus {
            timeline: place.as_ref().map(|place| place.timeline.to_string()),
            upto: place.as_ref().map(|place| place.upto.clone()).unwrap_or_default(),
            spool_bytes: spool.bytes(),
            depots: depots
                .iter()
                .map(|(name, _)| DepotLag { name: name.to_string(), ..DepotLag::default() })
                .collect(),
            ..LogStatus::default()
        };
        Ok(Arc::new(Self {
            server_id: log.server_id.unwrap_or_else(|| own_id(&config.host, name)),
            name: name.clone(),
            config: log,
            host: config.host.clone(),
            depots,
            recipients: config.recipients()?,
            spool,
            place: Mutex::new(place),
            status: Mutex::new(status),
            stop,
        }))
    }

    /// How it stands.
    pub fn status(&self) -> LogStatus {
        lock(&self.status).clone()
    }

    fn tell(&self, change: impl FnOnce(&mut LogStatus)) {
        change(&mut lock(&self.status));
    }

    /// Runs until it is stopped.
    pub fn run(&self) {
        thread::scope(|scope| {
            for place in 0..self.depots.len() {
                scope.spawn(move || self.ship(place));
            }
            self.receive();
        });
    }

    /// Waits after a failure; true if it was stopped.
    fn wait_after(&self, failures: u32) -> bool {
        self.stop.wait_timeout(BACKOFF.wait(failures, rand_chance()))
    }
}

/// A share of a wait; two agents that fail together shall not come back together.
fn rand_chance() -> f64 {
    f64::from(std::process::id() % 100) / 100.0
}

/// An id that no server is likely to have: the upper half of the range, by host and job.
fn own_id(host: &depot::names::HostName, job: &JobName) -> u32 {
    let sum = depot::names::Sha256::of(format!("{host} {job}").as_bytes());
    u32::from_le_bytes([sum.0[0], sum.0[1], sum.0[2], sum.0[3]]) | 0x8000_0000
}
