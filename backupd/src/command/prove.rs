//! `backupctl check` of a log job: has the server write an event that changes nothing, and waits
//! until it is in a depot.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use chassis::failure::{Exit, Failure};
use chassis::units::format_duration;
use database::checks::Check;
use database::gtid::GtidSet;
use database::options::OptionFile;
use database::replica;
use database::server::ServerState;
use depot::depot::Depot;
use depot::log::Catalog;
use depot::names::JobName;

use super::check::of_result;
use super::survey::open_once;
use crate::config::{Config, Job, LogJob};

/// How often to look.
const POLL: Duration = Duration::from_millis(250);
/// How many times the lag that is allowed to wait, and how long at least.
const PATIENCE_FACTOR: u32 = 3;
const PATIENCE_MIN: Duration = Duration::from_secs(10);

/// One condition for each depot of the job.
pub(super) fn prove(config: &Config, name: &JobName, job: &Job, log: &LogJob) -> Vec<Check> {
    let written = match write(log) {
        Ok(written) => written,
        Err(error) => return vec![of_result("new event", Err(error))],
    };
    let began = Instant::now();
    let depots = config.depots_of(job).into_iter();
    let prove = |depot| {
        let arrived = open_once(config, depot)
            .and_then(|depot| wait(&depot, name, log, &written, began))
            .map(|took| format!("in depot {depot} after {}", format_duration(took)));
        of_result("new event", arrived)
    };
    depots.map(prove).collect()
}

/// What the server has with the new event.
fn write(log: &LogJob) -> Result<GtidSet> {
    let options = OptionFile::read(&log.option_file, log.tool)?;
    let server = ServerState::read(&options)?;
    let have = replica::prove(&options, server.flavour).map_err(|error| {
        Failure::new(Exit::Failed, "have the server write an event")
            .hint("the account needs RELOAD for this proof; archiving does without")
            .because(error)
    })?;
    Ok(have.to_set())
}

fn wait(
    depot: &Depot,
    job: &JobName,
    log: &LogJob,
    written: &GtidSet,
    began: Instant,
) -> Result<Duration> {
    let patience = (log.max_lag.0 * PATIENCE_FACTOR).max(PATIENCE_MIN);
    loop {
        let catalog = Catalog::of(&depot.logs().context("look into the depot")?);
        let archive = catalog.newest(job.as_str());
        let missing = match &archive {
            Some((_, archive)) => ends(written).subtract(&archive.union),
            None => written.clone(),
        };
        if missing.is_empty() {
            return Ok(began.elapsed());
        }
        if began.elapsed() > patience {
            let waited = format_duration(patience);
            return Err(Failure::new(
                Exit::Failed,
                format!("{missing} is not there after {waited}"),
            )
            .hint("is backupd running? `backupctl status` says why the log does not come in")
            .into());
        }
        thread::sleep(POLL);
    }
}

/// The last transaction of each stream: what was before may be older than the archive.
fn ends(set: &GtidSet) -> GtidSet {
    let mut ends = GtidSet::default();
    for (stream, numbers) in set.iter() {
        let last = numbers.last().unwrap_or_default();
        ends.insert_range(stream.clone(), last, last);
    }
    ends
}
