//! A restore to a point: the way to it is found, shown or gone.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use chassis::cli::Stdout;
use chassis::clock::{local_zone, parse_time};
use chassis::failure::{Exit, Failure};
use chassis::progress::{Bar, Bars, Progress};
use chassis::retry::Stop;
use chrono::{DateTime, Utc};
use depot::crypt::Identities;
use depot::depot::{Depot, SnapshotInfo};
use depot::log::{Catalog, Chain, Head};
use depot::names::SnapshotId;

use super::{Arguments, keys, no_target, warn, workers};
use crate::chain::{Loaded, load, plan};
use crate::config::{CONFIG_PATH, Config, open_first};
use crate::point::base::{Base, Only, Scene, Way};
use crate::point::plan::{Parts, PointPlan, cut_text};
use crate::point::timeline::{Begins, choose, others};
use crate::point::{Goal, read};
use crate::prepare::{Preparation, find_tool};
use crate::replay::state::{self, Stage, State};
use crate::replay::{BeginAgain, Replay, galera};
use crate::report::Report;
use crate::run::{Options, free_bytes, restore};
use crate::select::Selection;
use crate::target::{Marker, look};

/// Appliers by default: more are not quicker on few cores.
const REPLAY_WORKERS_MAX: usize = 8;
/// The server's memory for pages, if nothing is said: a quarter of what is free, within these.
const MEMORY_MIN: u64 = 128 << 20;
const MEMORY_MAX: u64 = 4 << 30;

/// The point that is asked for; none if it is a plain restore.
pub(super) fn goal_of(arguments: &Arguments, now: DateTime<Utc>) -> Result<Option<Goal>> {
    let goal = match arguments {
        Arguments { point_in_time: Some(text), .. } => {
            Goal::Time(parse_time(text, now, local_zone())?)
        }
        Arguments { to_gtid: Some(gtid), .. } => Goal::To(gtid.clone()),
        Arguments { before_gtid: Some(gtid), .. } => Goal::Before(gtid.clone()),
        Arguments { to_latest: true, .. } => Goal::Latest,
        _ => {
            refuse_without_point(arguments)?;
            return Ok(None);
        }
    };
    if !arguments.table.is_empty() || !arguments.path.is_empty() {
        let message =
            "parts of a database cannot be brought to a point: the log is of the whole server";
        return Err(Failure::new(Exit::Usage, message)
            .hint("restore all of it to the point into a directory of its own, start a server there, and dump the table")
            .into());
    }
    if arguments.delta || arguments.keep_going {
        let message = "a point is reached in a new directory, from a whole backup";
        return Err(Failure::new(Exit::Usage, message)
            .hint("leave --delta and --keep-going away")
            .into());
    }
    Ok(Some(goal))
}

fn refuse_without_point(arguments: &Arguments) -> Result<(), Failure> {
    let named = [
        (arguments.timeline.is_some(), "--timeline"),
        (arguments.base.is_some(), "--base"),
        (arguments.with_files, "--with-files"),
        (arguments.binlog, "--binlog"),
        (arguments.galera_bootstrap, "--galera-bootstrap"),
        (arguments.replay_workers.is_some(), "--replay-workers"),
    ];
    match named.iter().find(|(is_given, _)| *is_given) {
        None => Ok(()),
        Some((_, name)) => Err(Failure::new(Exit::Usage, format!("{name} needs a point"))
            .hint("add --point-in-time, --to-gtid, --before-gtid or --to-latest")),
    }
}

/// The point as it was typed: a restore that goes on must be of the same.
fn request(arguments: &Arguments) -> Vec<String> {
    let gtid = |name: &str, gtid: &Option<database::gtid::Gtid>| {
        gtid.as_ref().map(|gtid| format!("{name} {gtid}"))
    };
    let time = arguments.point_in_time.as_ref().map(|text| format!("--point-in-time {text}"));
    let timeline = arguments.timeline.as_ref().map(|timeline| format!("--timeline {timeline:?}"));
    let latest = arguments.to_latest.then(|| "--to-latest".to_owned());
    [
        time,
        gtid("--to-gtid", &arguments.to_gtid),
        gtid("--before-gtid", &arguments.before_gtid),
        latest,
        timeline,
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Plans or restores.
pub(super) fn run(
    arguments: &Arguments,
    goal: Goal,
    stop: &Stop,
    bars: &Bars,
    now: DateTime<Utc>,
) -> Result<Exit> {
    if arguments.target.is_none() && !arguments.plan {
        return Err(no_target().into());
    }
    let config_path = arguments.config.clone().unwrap_or_else(|| CONFIG_PATH.into());
    let config = Config::load(&config_path, arguments.config.is_some())?;
    let identities = keys(&arguments.identity, &config)?;
    let depot = open_first(config.depots_to_try(arguments.depot.as_deref())?, stop)?;
    let snapshots = depot.snapshots()?;
    let listing = depot.logs()?;
    let mut begins = Begins::new();
    for (timeline, info) in &listing.begins {
        begins.extend(depot.log_begin(info)?.map(|begin| (timeline.clone(), begin)));
    }
    let catalog = Catalog::of(&listing);
    let session = Session {
        arguments,
        goal,
        scene: Scene {
            depot: &depot,
            identities: &identities,
            snapshots: &snapshots,
            catalog: &catalog,
            begins: &begins,
            stop,
        },
        bars,
        now,
    };
    let target = database_target(arguments);
    let (state, way) = session.find_way(target.as_deref())?;
    if arguments.plan {
        return session.show_plan(&state, &way);
    }
    session.restore(&state, &way, &target.expect("it was checked above"))
}

/// Where the database goes: with files beside it, into a directory of its own.
fn database_target(arguments: &Arguments) -> Option<PathBuf> {
    arguments.target.clone()
}

struct Session<'a> {
    arguments: &'a Arguments,
    goal: Goal,
    scene: Scene<'a>,
    bars: &'a Bars,
    now: DateTime<Utc>,
}

impl Session<'_> {
    fn depot(&self) -> &Depot {
        self.scene.depot
    }

    fn snapshots(&self) -> &[SnapshotInfo] {
        self.scene.snapshots
    }

    fn identities(&self) -> &Identities {
        self.scene.identities
    }

    /// The way that an unfinished restore of the same request went, or a new one.
    fn find_way(&self, target: Option<&Path>) -> Result<(State, Way)> {
        let request = request(self.arguments);
        let left = target.map_or(Ok(None), state::read)?;
        if let Some(left) = left.filter(|left| left.request == request) {
            tracing::info!("an unfinished restore to {} goes on", left.point);
            let base = self.scene.base(&left.snapshot)?;
            let archive = self.scene.archive_of(&left.timeline)?;
            let chain = archive.chain(&base.set(), &left.cut.upto);
            let chain = chain.context("find the log that the unfinished restore needs")?;
            let cut = left.cut.clone();
            return Ok((left, Way { base, cut, chain }));
        }
        let goal = &self.goal;
        let (catalog, begins) = (self.scene.catalog, self.scene.begins);
        let timeline = choose(catalog, begins, goal, self.arguments.timeline.as_ref())?;
        for other in others(catalog, &timeline, goal) {
            tracing::warn!(
                "timeline {other} has a transaction of that id too: name it with --timeline if it is meant"
            );
        }
        let only = Only {
            snapshot: self.arguments.base.clone(),
            job: self.arguments.job.clone(),
            host: self.arguments.host.clone(),
        };
        let way = self.scene.way(goal, &timeline, &only)?;
        let state = State {
            request,
            snapshot: way.base.head.id.clone(),
            timeline,
            point: goal.to_string(),
            cut: way.cut.clone(),
            stage: Stage::Restoring,
            boot: state::boot(),
        };
        Ok((state, way))
    }

    /// Reads the backup, and the heads of all pieces of log; everything that can be refused is.
    fn check(&self, way: &Way) -> Result<(Vec<Loaded>, Vec<Head>)> {
        let Way { base, chain, .. } = way;
        let server = (base.positions.flavour, base.positions.server_version.as_str());
        let heads = read::check_chain(
            self.depot(),
            self.identities(),
            chain,
            &base.set(),
            server,
            workers(self.arguments),
            self.scene.stop,
        )?;
        if self.arguments.galera_bootstrap && base.positions.galera.is_none() {
            return Err(galera::not_galera().into());
        }
        Ok((self.load(&base.head.id)?, heads))
    }

    fn load(&self, id: &SnapshotId) -> Result<Vec<Loaded>> {
        load(self.depot(), self.snapshots(), id, self.identities(), &Selection::all())
    }

    fn plan(&self, state: &State, way: &Way) -> Result<(PointPlan, Vec<Loaded>)> {
        let (loaded, heads) = self.check(way)?;
        let mut backup = plan(self.depot(), &loaded, self.now)?;
        if let Some(target) = database_target(self.arguments) {
            let marker = Marker::new(state.snapshot.clone(), state.request.clone(), self.now);
            backup.found = Some(look(&target, &marker, false)?.0);
            backup.free_bytes = free_bytes(&target);
            backup.target = Some(target);
        }
        let parts = Parts {
            backup,
            point: state.point.clone(),
            timeline: state.timeline.clone(),
            from: way.base.have.to_string(),
            cut: way.cut.clone(),
        };
        Ok((PointPlan::new(parts, &way.chain, &heads), loaded))
    }

    fn show_plan(&self, state: &State, way: &Way) -> Result<Exit> {
        let (plan, _) = self.plan(state, way)?;
        let mut out = Stdout::default();
        if self.arguments.json {
            out.json(&plan)?;
        } else {
            out.write_all(plan.text().as_bytes())?;
        }
        out.finish()?;
        plan.backup.check()?;
        Ok(Exit::Done)
    }

    fn restore(&self, state: &State, way: &Way, target: &Path) -> Result<Exit> {
        let tool = find_tool(&way.base.positions)?;
        let (plan, loaded) = self.plan(state, way)?;
        plan.backup.check()?;
        warn(&plan.backup);
        for line in cut_text(&plan.cut).lines() {
            tracing::info!("{line}");
        }
        let prepare = Preparation {
            positions: way.base.positions.clone(),
            tool,
            tables: Vec::new(),
            memory_bytes: self.arguments.prepare_memory.0,
            server: self.arguments.server.clone(),
        };
        let replay = self.replay(state, &way.base, &way.chain, plan.log_bytes)?;
        let options = self.options(target, prepare, replay)?;
        let report = match self.restore_once(loaded, &options) {
            Err(error) if error.is::<BeginAgain>() => {
                tracing::warn!("{error:#}: the backup is restored again");
                state::forget(target)?;
                self.restore_once(self.load(&state.snapshot)?, &options)
            }
            result => result,
        }?;
        let mut out = Stdout::default();
        if self.arguments.json {
            out.json(&report)?;
        } else {
            out.write_all(report.text().as_bytes())?;
        }
        out.finish()?;
        Ok(if report.is_whole() { Exit::Done } else { Exit::Partial })
    }

    fn restore_once(&self, loaded: Vec<Loaded>, options: &Options) -> Result<Report> {
        let shown = Bar::start(self.bars).follow(options.progress.clone());
        let result = restore(self.depot(), self.identities(), loaded, options, self.now);
        drop(shown);
        result
    }

    fn replay(&self, state: &State, base: &Base, _: &Chain, bytes: u64) -> Result<Replay> {
        let arguments = self.arguments;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let memory = match arguments.prepare_memory.0 {
            0 => (free_memory() / 4).clamp(MEMORY_MIN, MEMORY_MAX),
            given => given.max(MEMORY_MIN),
        };
        Ok(Replay {
            state: State { boot: state::boot(), ..state.clone() },
            positions: base.positions.clone(),
            have: base.have.clone(),
            archive: Arc::new(self.scene.archive_of(&state.timeline)?.clone()),
            bytes,
            server: arguments.server.clone(),
            memory_bytes: memory,
            workers: arguments.replay_workers.unwrap_or(cores.min(REPLAY_WORKERS_MAX)),
            log_bin: arguments.binlog,
            galera_bootstrap: arguments.galera_bootstrap,
        })
    }

    fn options(&self, target: &Path, prepare: Preparation, replay: Replay) -> Result<Options> {
        let arguments = self.arguments;
        Ok(Options {
            // The report has commands with it, which may be run elsewhere.
            target: std::path::absolute(target).context("make path of target absolute")?,
            selection: replay.state.request.clone(),
            unmatched: Vec::new(),
            delta: false,
            delete: false,
            keep_going: false,
            set_owner: rustix::process::geteuid().is_root() && !arguments.no_owner,
            prepare: Some(prepare),
            replay: Some(replay),
            sync: !arguments.no_sync,
            workers: workers(arguments),
            stop: self.scene.stop.clone(),
            progress: Arc::new(Progress::default()),
        })
    }
}

/// Memory that programs can have, in bytes; 0 if that cannot be told.
fn free_memory() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kib.unwrap_or_default() << 10
}
