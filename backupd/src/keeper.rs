//! One run of the keeper: each depot that it keeps is verified as the configuration says, and what the rules let go is
//! deleted. `backupctl prune` and the daemon come by the same way.
//!
//! A depot in which something is damaged is told and not pruned: what is old may be all that is whole. Nor is one whose
//! newest backup does not fit the clock, see [`check_clock`]. Each depot is an outcome of its own.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use chassis::durable;
use chassis::failure::{Exit, Failure};
use chassis::progress::Progress;
use chassis::retry::Stop;
use chrono::{DateTime, Utc};
use depot::depot::Depot;
use depot::retention::{Plan, Policy, Pruned, Survey, check_clock, perform, plan, survey};
use depot::verify::{Depth, verify};
use serde::{Deserialize, Serialize};

use crate::config::{Config, DepotName, Keeper, Verify};
use crate::report::Outcome;
use crate::state::make_private_dir;

/// No job can have this name.
const STATE_DIR: &str = "_keeper";
const HISTORY_FILE: &str = "last-run.json";
/// So many findings of a depot are named in a report; all are counted.
const FINDINGS_MAX: usize = 100;

/// What became of one depot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct KeptDepot {
    /// Its name in the configuration.
    pub name: String,
    /// Backups that were verified.
    pub verified: u64,
    /// Objects that are damaged or missing.
    pub damaged: u64,
    /// The first of them, with what is wrong.
    pub findings: Vec<String>,
    /// Backups that are gone.
    pub snapshots: u64,
    /// Packs that were condemned.
    pub condemned: u64,
    /// Objects of packs that are gone.
    pub objects: u64,
    /// Pieces of the log that are gone.
    pub logs: u64,
    /// Bytes that this freed.
    pub freed_bytes: u64,
    /// Why it was not kept.
    pub error: Option<String>,
}

/// One run of the keeper.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeeperReport {
    /// How it ended: partial if some depots were kept.
    pub outcome: Outcome,
    /// When it started.
    pub started: DateTime<Utc>,
    /// When it ended.
    pub ended: DateTime<Utc>,
    /// Whether the daemon stopped it: then it is made up for.
    #[serde(default)]
    pub stopped: bool,
    /// Each depot.
    pub depots: Vec<KeptDepot>,
}

/// What is remembered of the keeper's runs. It may be lost.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct KeeperHistory {
    /// The last run.
    pub last: Option<KeeperReport>,
    /// When the last one ended that was done wholly.
    pub last_good: Option<DateTime<Utc>>,
    /// Due times up to here are dealt with.
    pub served: Option<DateTime<Utc>>,
}

impl KeeperHistory {
    /// What was written; empty if there is nothing that can be read.
    pub fn read(state_dir: &Path) -> Self {
        let bytes = fs::read(state_dir.join(STATE_DIR).join(HISTORY_FILE)).unwrap_or_default();
        serde_json::from_slice(&bytes).unwrap_or_default()
    }

    /// Remembers that there is a keeper: what was due before is not made up for.
    pub fn begin(state_dir: &Path, now: DateTime<Utc>) -> Result<Self> {
        let mut history = Self::read(state_dir);
        if history.served.is_none() {
            history.served = Some(now);
            history.write(state_dir)?;
        }
        Ok(history)
    }

    /// Takes a run in.
    pub fn record(&mut self, state_dir: &Path, report: &KeeperReport) -> Result<()> {
        if report.outcome == Outcome::Done {
            self.last_good = Some(report.ended);
        }
        if !report.stopped {
            self.served = Some(report.started);
        }
        self.last = Some(report.clone());
        self.write(state_dir)
    }

    fn write(&self, state_dir: &Path) -> Result<()> {
        let dir = state_dir.join(STATE_DIR);
        make_private_dir(&dir)?;
        let bytes = serde_json::to_vec_pretty(self).context("encode the keeper's history")?;
        durable::write_replace(&dir.join(HISTORY_FILE), &bytes, 0o600)?;
        Ok(())
    }
}

/// Keeps all depots of the keeper. What goes wrong is in the report.
pub fn run_keeper(config: &Config, keeper: &Keeper, stop: &Stop) -> KeeperReport {
    let started = Utc::now();
    let mut depots = Vec::new();
    for name in depots_of(config, keeper) {
        let mut kept = KeptDepot { name: name.to_string(), ..KeptDepot::default() };
        if let Err(error) = keep_depot(config, keeper, &name, stop, &mut kept) {
            tracing::error!(depot = %name, "failed to keep the depot: {error:#}");
            kept.error = Some(format!("{error:#}"));
        }
        depots.push(kept);
    }
    let good = depots.iter().filter(|depot| depot.error.is_none()).count();
    let outcome = match good {
        _ if good == depots.len() => Outcome::Done,
        0 => Outcome::Failed,
        _ => Outcome::Partial,
    };
    KeeperReport { outcome, started, ended: Utc::now(), stopped: stop.is_stopped(), depots }
}

/// The depots that the keeper keeps.
pub fn depots_of(config: &Config, keeper: &Keeper) -> Vec<DepotName> {
    keeper.depots.clone().unwrap_or_else(|| config.depots.keys().cloned().collect())
}

fn keep_depot(
    config: &Config,
    keeper: &Keeper,
    name: &DepotName,
    stop: &Stop,
    kept: &mut KeptDepot,
) -> Result<()> {
    check_stop(stop)?;
    let depot = Depot::open(name.as_str(), &config.depots[name], stop)?;
    verify_depot(&depot, keeper.verify, stop, kept)?;
    check_stop(stop)?;
    let (made, now) = plan_depot(&depot, keeper, false)?;
    check_stop(stop)?;
    let Pruned { snapshots, condemned, objects, logs } = perform(&depot, &made, now)?;
    (kept.snapshots, kept.condemned) = (snapshots, condemned);
    (kept.objects, kept.logs) = (objects, logs);
    kept.freed_bytes = made.freed_bytes;
    tracing::info!(depot = %name, snapshots, condemned, objects, logs, "the depot is kept");
    Ok(())
}

fn verify_depot(depot: &Depot, how: Verify, stop: &Stop, kept: &mut KeptDepot) -> Result<()> {
    let depth = match how {
        Verify::Nothing => return Ok(()),
        Verify::Presence => Depth::Presence,
        Verify::Checksums => Depth::Checksums,
    };
    let ids: Vec<_> = depot.snapshots()?.into_iter().map(|info| info.id).collect();
    let verified = verify(depot, &ids, depth, &Progress::default(), stop)?;
    kept.verified = verified.snapshots;
    kept.damaged = verified.findings.len() as u64;
    let named = verified.findings.iter().take(FINDINGS_MAX);
    kept.findings = named.map(|finding| format!("{}: {}", finding.object, finding.what)).collect();
    ensure!(
        verified.findings.is_empty(),
        Failure::new(
            Exit::Failed,
            format!("{} objects are damaged: nothing is pruned", kept.damaged)
        )
        .hint("`backupctl verify` names what they hurt; `backupctl prune` prunes all the same")
    );
    Ok(())
}

/// What a prune of this depot would do, and the time that it goes by.
pub fn plan_depot(
    depot: &Depot,
    keeper: &Keeper,
    accept_clock: bool,
) -> Result<(Plan, DateTime<Utc>)> {
    let found = survey(depot)?;
    let now = Utc::now();
    if !accept_clock {
        check_clock(&found, now)?;
    }
    Ok((plan(&found, &policies(keeper, &found), keeper.grace.0, now), now))
}

/// The rule of each job that has backups.
fn policies(keeper: &Keeper, found: &Survey) -> BTreeMap<String, Policy> {
    let jobs = found.snapshots.iter().map(|kept| &kept.id.job);
    jobs.filter_map(|job| Some((job.to_string(), keeper.rule_of(job)?.clone()))).collect()
}

fn check_stop(stop: &Stop) -> Result<()> {
    if stop.is_stopped() {
        return Err(Failure::new(Exit::Interrupted, "stopped: the rest is kept next time").into());
    }
    Ok(())
}
