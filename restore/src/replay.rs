//! Bringing a prepared backup forward to a point, by the server's own applier.
//!
//! The server is started on the target itself, and replicates from a server of ours that reads the
//! archive as a stream: nothing of it is staged but the server's relay logs, which are bounded. What
//! is sent ends at the cut. When all of it is applied, replication is ended and forgotten, the server
//! is shut down in order, and its position is what the plan says, or it is an error.
//!
//! # Resuming
//! The position is in the data and changes with each transaction. A replay that was killed goes on
//! from there, unless something says that the position may not be right: the host was started anew
//! (the log of InnoDB is not flushed at each commit), or the server was killed and what comes next is
//! no transaction that InnoDB would have rolled back. Then the backup is restored again.

pub mod galera;
pub mod state;
mod supply;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use chassis::failure::{Exit, Failure};
use chassis::progress::Progress;
use chassis::retry::Stop;
use chassis::units::{format_duration, format_rate};
use database::applier::{self, Applier, ApplierOptions};
use database::binlog_server::{BinlogServer, Identity};
use database::gtid::GtidSet;
use database::info::Positions;
use database::replica::Have;
use database::version::Version;
use depot::crypt::Identities;
use depot::depot::Depot;
use depot::log::{Archive, Timeline};
use serde::Serialize;

use self::state::{Stage, State};
use self::supply::Supply;
use crate::share::check_stop;
use crate::target::{REPLAY, Target, remove_tree};

/// How often to look how far it is.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// What is to be replayed, and how.
#[derive(Clone, Debug)]
pub struct Replay {
    /// What was asked for, as it was typed, and what it means.
    pub state: State,
    /// Where the backup stands.
    pub positions: Positions,
    /// What it has.
    pub have: Have,
    /// The archive of the timeline.
    pub archive: Arc<Archive>,
    /// Bytes of log in the pieces.
    pub bytes: u64,
    /// The server program.
    pub server: PathBuf,
    /// Memory for the server's pages, in bytes.
    pub memory_bytes: u64,
    /// Transactions that are applied at once.
    pub workers: usize,
    /// Whether the replayed transactions are written to a binary log of the restored server.
    pub log_bin: bool,
    /// Whether a new cluster is to be bootstrapped from it.
    pub galera_bootstrap: bool,
}

/// What was done.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Replayed {
    /// The history that was followed.
    pub timeline: Timeline,
    /// What was asked for.
    pub point: String,
    /// Where the replay began.
    pub from: String,
    /// Where it ended: what the server itself says.
    pub reached: String,
    /// The last transaction that is in, if the plan saw one.
    pub last: Option<crate::point::cut::Transaction>,
    /// Whether an earlier run had done a part.
    pub resumed: bool,
    /// Transactions that were sent in this run.
    pub transactions: u64,
    /// Bytes of log that were sent in this run.
    pub bytes: u64,
    /// How long this run's replay took.
    pub seconds: f64,
    /// Distributed transactions that were prepared at the point and wait for their end.
    pub prepared: Vec<String>,
}

impl Replayed {
    /// Lines for people.
    pub fn lines(&self) -> Vec<String> {
        let duration = Duration::from_secs_f64(self.seconds);
        let resumed = if self.resumed { " (an earlier run had done a part)" } else { "" };
        let mut lines = vec![
            format!(
                "replayed {} transactions in {} ({}){resumed}",
                self.transactions,
                format_duration(duration),
                format_rate(self.bytes, duration)
            ),
            format!("point: {} of timeline {}", self.point, self.timeline),
            format!("reached, as the server itself says: {}", self.reached),
        ];
        lines.extend(self.last.iter().map(|last| format!("last transaction: {}", last.line())));
        lines.extend(self.prepared.iter().map(|name| {
            format!("distributed transaction {name} was prepared at the point: commit it or roll it back")
        }));
        lines
    }
}

/// What a replay works with.
#[derive(Clone, Copy, Debug)]
pub struct Means<'a> {
    /// The depot.
    pub depot: &'a Depot,
    /// The keys.
    pub identities: &'a Identities,
    /// The directory.
    pub target: &'a Target,
    /// To stop early.
    pub stop: &'a Stop,
    /// What is shown.
    pub progress: &'a Progress,
}

/// Whether the target has the prepared backup already, and a replay can go on in it. If not, it is
/// marked as one that begins.
pub fn can_go_on(target: &Target, replay: &Replay) -> Result<bool> {
    let left = state::read(target.root.path())?;
    if let Some(left) = left.filter(|left| left.is_of(&replay.state)) {
        match left.stage {
            Stage::Restoring => {}
            Stage::Replaying if left.boot != state::boot() => {
                tracing::warn!("this host was started anew since: the replay begins again");
            }
            Stage::Replaying => return Ok(true),
        }
    }
    remove_tree(&target.root, Path::new(REPLAY))?;
    target.root.make_root(Path::new(REPLAY))?;
    state::write(target.root.path(), &State { stage: Stage::Restoring, ..replay.state.clone() })?;
    Ok(false)
}

/// Says that the backup is there and prepared.
pub fn mark_prepared(target: &Target, replay: &Replay) -> Result<()> {
    state::write(target.root.path(), &State { stage: Stage::Replaying, ..replay.state.clone() })
}

/// That what was left of an earlier run cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the server was killed within something that it cannot take back")]
pub struct BeginAgain;

/// Replays. `goes_on` tells that an earlier run did a part; fails with [`BeginAgain`] if that is of
/// no use.
pub fn run(means: Means<'_>, replay: &Replay, goes_on: bool) -> Result<Replayed> {
    let clock = Instant::now();
    let home = means.target.root.path().join(REPLAY);
    let was_killed = goes_on && state::was_started(&home) && !applier::is_clean(&home);
    let options = ApplierOptions {
        program: &replay.server,
        flavour: replay.positions.flavour,
        prepared: means.target.root.path(),
        home: &home,
        memory_bytes: replay.memory_bytes,
        workers: replay.workers,
        log_bin: replay.log_bin,
    };
    means.progress.begin("start server", 0);
    let mut applier = Applier::start(&options, means.target.hold()?)?;
    check_version(&applier.version()?, &replay.positions)?;
    let upto = &replay.state.cut.upto;
    let from = start_at(&mut applier, replay, goes_on)?;
    let supply = Supply::new(means, replay);
    if was_killed && !supply.is_next_atomic(&from.to_set())? {
        return Err(BeginAgain.into());
    }
    let server = BinlogServer::listen(Identity {
        flavour: replay.positions.flavour,
        version: replay.positions.server_version.clone(),
        server_id: 1,
    })?;
    means.progress.begin("replay", replay.bytes);
    let ended = Stop::new();
    std::thread::scope(|scope| {
        let serving = scope.spawn(|| {
            let is_stopped = || ended.is_stopped() || means.stop.is_stopped();
            server.serve(&is_stopped, |have, stream| supply.feed(have, stream))
        });
        let applied = if from.to_set() == *upto {
            Ok(())
        } else {
            applier.follow(server.login()).and_then(|()| {
                wait(
                    &mut applier,
                    means.stop,
                    upto,
                    &supply,
                    || serving.is_finished(),
                    server.login(),
                )
            })
        };
        ended.stop();
        let served = serving.join().map_err(|_| anyhow::anyhow!("the binlog server panicked"))?;
        // Why the log did not come is what matters, if it did not.
        served.and(applied)
    })?;
    let reached = applier.have()?;
    let prepared = applier.prepared()?;
    means.progress.begin("shut down", 0);
    applier.finish()?;
    ensure!(reached.to_set() == *upto, "the replay ended at {reached}, and not at {upto}");
    remove_tree(&means.target.root, Path::new(REPLAY))?;
    let (transactions, bytes) = supply.sent();
    Ok(Replayed {
        timeline: replay.state.timeline.clone(),
        point: replay.state.point.clone(),
        from: from.to_string(),
        reached: reached.to_string(),
        last: replay.state.cut.inside.last().cloned(),
        resumed: goes_on,
        transactions,
        bytes,
        seconds: clock.elapsed().as_secs_f64(),
        prepared,
    })
}

/// The position that the replay begins with, checked against the plan.
fn start_at(applier: &mut Applier, replay: &Replay, goes_on: bool) -> Result<Have> {
    let base = replay.have.to_set();
    if goes_on {
        let have = applier.have()?;
        let set = have.to_set();
        if set.contains_all(&base) && replay.state.cut.upto.contains_all(&set) {
            return Ok(have);
        }
        // It was killed before the first position was written.
        ensure!(
            base.contains_all(&set) || set.is_empty(),
            "the server stands at {have}, which is not on the way"
        );
    }
    applier.set_have(&replay.have)?;
    Ok(replay.have.clone())
}

fn wait(
    applier: &mut Applier,
    stop: &Stop,
    upto: &GtidSet,
    supply: &Supply<'_>,
    is_over: impl Fn() -> bool,
    login: &database::binlog_server::Login,
) -> Result<()> {
    loop {
        check_stop(stop)?;
        let progress = applier.progress()?;
        if progress.have.to_set().contains_all(upto) {
            return Ok(());
        }
        if is_over() {
            bail!("the log does not come any more");
        }
        if supply.has_other_way() {
            applier.follow(login)?;
            continue;
        }
        if let Some(error) = progress.error {
            let message = format!("the replay stopped behind {}: {error}", progress.have);
            return Err(Failure::new(Exit::Failed, message)
                .hint("restore up to there with --to-gtid, and look at what comes next with `restore find`")
                .into());
        }
        stop.wait_timeout(POLL_INTERVAL);
    }
}

fn check_version(version: &str, positions: &Positions) -> Result<()> {
    let (found, wanted): (Version, Version) = (
        version.parse().context("read version of the server")?,
        positions.server_version.parse().context("read version of the backup's server")?,
    );
    if found.same_series(wanted) {
        return Ok(());
    }
    let message = format!("the server on this host is {found}, and the backup is of {wanted}");
    Err(Failure::new(Exit::Failed, message)
        .hint("name a server of that series with --server: another one would change the data")
        .into())
}
