//! A restore to a point: the way to it is found, shown or gone.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use chassis::cli::Stdout;
use chassis::failure::Exit;
use chassis::progress::{Bar, Bars, Progress};
use chassis::retry::Stop;
use chrono::{DateTime, Utc};
use depot::crypt::Identities;
use depot::depot::{Depot, SnapshotInfo};
use depot::log::{Catalog, Head};
use depot::names::SnapshotId;

use super::request::{check_parts, request};
use super::{Arguments, keys, no_target, site, warn, workers};
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
    check_parts(arguments)?;
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
    let mut catalog = Catalog::of(&listing);
    loop {
        let scene = Scene {
            depot: &depot,
            identities: &identities,
            snapshots: &snapshots,
            catalog: &catalog,
            begins: &begins,
            stop,
        };
        let session = Session { arguments, goal: goal.clone(), scene, bars, now };
        let found = session.find_way().and_then(|(state, way)| {
            let checked = session.check(&way)?;
            Ok((state, way, checked))
        });
        match found {
            Ok((state, way, checked)) => return session.act(&state, &way, checked),
            Err(error) => match error.downcast_ref::<read::Damaged>() {
                Some(damaged) => {
                    tracing::warn!("{damaged}; it is looked for elsewhere");
                    catalog.remove(&damaged.stored.clone());
                }
                None => return Err(error),
            },
        }
    }
}

/// The backup as it was read, and the heads of the pieces.
pub(super) type Checked = (Vec<Loaded>, Vec<Head>);

/// A restore to a point.
pub(super) struct Session<'a> {
    pub arguments: &'a Arguments,
    pub goal: Goal,
    pub scene: Scene<'a>,
    bars: &'a Bars,
    pub now: DateTime<Utc>,
}

impl Session<'_> {
    pub(super) fn depot(&self) -> &Depot {
        self.scene.depot
    }

    pub(super) fn snapshots(&self) -> &[SnapshotInfo] {
        self.scene.snapshots
    }

    fn identities(&self) -> &Identities {
        self.scene.identities
    }

    /// The way that an unfinished restore of the same request went, or a new one.
    fn find_way(&self) -> Result<(State, Way)> {
        let request = request(self.arguments);
        let left = match &self.arguments.target {
            None => None,
            Some(target) if self.arguments.with_files => site::left(target)?,
            Some(target) => state::read(target)?,
        };
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
    fn check(&self, way: &Way) -> Result<Checked> {
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

    pub(super) fn load(&self, id: &SnapshotId) -> Result<Vec<Loaded>> {
        load(self.depot(), self.snapshots(), id, self.identities(), &Selection::all())
    }

    /// Where the database goes: with files beside it, into a directory of its own.
    fn database_target(&self, state: &State) -> Option<PathBuf> {
        let target = self.arguments.target.clone()?;
        let is_beside = self.arguments.with_files;
        Some(if is_beside { target.join(state.snapshot.job.as_str()) } else { target })
    }

    fn act(&self, state: &State, way: &Way, checked: Checked) -> Result<Exit> {
        if self.arguments.plan {
            return self.show_plan(state, way, &checked);
        }
        let report = if self.arguments.with_files {
            site::restore(self, state, way, checked)?
        } else {
            self.restore(state, way, checked)?
        };
        self.print(&report)
    }

    fn plan(&self, state: &State, way: &Way, (loaded, heads): &Checked) -> Result<PointPlan> {
        let mut backup = plan(self.depot(), loaded, self.now)?;
        if let Some(target) = self.database_target(state) {
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
        Ok(PointPlan::new(parts, &way.chain, heads))
    }

    fn show_plan(&self, state: &State, way: &Way, checked: &Checked) -> Result<Exit> {
        let mut plan = self.plan(state, way, checked)?;
        if self.arguments.with_files {
            plan.files = site::plans(self, state)?;
        }
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

    pub(super) fn restore(&self, state: &State, way: &Way, checked: Checked) -> Result<Report> {
        let target = self.database_target(state).expect("it was checked above");
        let tool = find_tool(&way.base.positions)?;
        let plan = self.plan(state, way, &checked)?;
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
        let replay = self.replay(state, &way.base, plan.log_bytes)?;
        let options = self.options(&target, prepare, replay)?;
        match self.restore_once(checked.0, &options) {
            Err(error) if error.is::<BeginAgain>() => {
                tracing::warn!("{error:#}: the backup is restored again");
                state::forget(&target)?;
                self.restore_once(self.load(&state.snapshot)?, &options)
            }
            result => result,
        }
    }

    fn print(&self, report: &Report) -> Result<Exit> {
        let mut out = Stdout::default();
        if self.arguments.json {
            out.json(report)?;
        } else {
            out.write_all(report.text().as_bytes())?;
        }
        out.finish()?;
        Ok(if report.is_whole() { Exit::Done } else { Exit::Partial })
    }

    pub(super) fn restore_once(&self, loaded: Vec<Loaded>, options: &Options) -> Result<Report> {
        let shown = Bar::start(self.bars).follow(options.progress.clone());
        let result = restore(self.depot(), self.identities(), loaded, options, self.now);
        drop(shown);
        result
    }

    fn replay(&self, state: &State, base: &Base, bytes: u64) -> Result<Replay> {
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
        let selection = replay.state.request.clone();
        let whole = self.whole(target)?;
        Ok(Options { selection, prepare: Some(prepare), replay: Some(replay), ..whole })
    }

    /// How all of a backup is restored as it is.
    pub(super) fn whole(&self, target: &Path) -> Result<Options> {
        let arguments = self.arguments;
        Ok(Options {
            // The report has commands with it, which may be run elsewhere.
            target: std::path::absolute(target).context("make path of target absolute")?,
            selection: Vec::new(),
            unmatched: Vec::new(),
            delta: false,
            delete: false,
            keep_going: false,
            set_owner: rustix::process::geteuid().is_root() && !arguments.no_owner,
            prepare: None,
            replay: None,
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
