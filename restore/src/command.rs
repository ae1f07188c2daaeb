//! The command line of `restore`: what can be typed, and the plot of what is done.
//!
//! Everything that can be refused is refused before the first byte is written: key, backup, chain, packs,
//! tool, target. It needs no daemon. The plan and the report go to standard output, everything else to
//! standard error.

mod arguments;
mod find;
mod point;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use chassis::cli::Stdout;
use chassis::clock::{local_zone, parse_time};
use chassis::failure::{Exit, Failure};
use chassis::progress::{Bar, Bars, Progress};
use chassis::retry::Stop;
use chassis::units::ByteSize;
use chrono::{DateTime, Utc};
use clap::CommandFactory;
use database::tablespace::TableName;
use depot::crypt::Identities;
use depot::depot::{Depot, SnapshotInfo};
use depot::manifest::SnapshotKind;
use depot::names::SnapshotId;

use crate::chain::{Loaded, load, plan, plan_without_key, unmatched};
use crate::config::{CONFIG_PATH, Config, open_first};
use crate::plan::{Chosen, Plan, Wanted, Which, choose};
use crate::prepare::spaces::AnotherSpace;
use crate::prepare::{Preparation, find_tool, positions_of};
use crate::report::{Report, plan_text};
use crate::run::{Options, free_bytes, restore};
use crate::select::Selection;
use crate::target::{Found, Marker, look};

pub use self::arguments::{Arguments, Command, Find};
pub use self::find::Did;

/// Threads beyond the number of cores: while one waits for the depot or the disk, another decodes.
const WORKERS_EXTRA: usize = 1;
const WORKERS_MAX: usize = 256;
/// Backups with a wrong time that are named.
const PASSED_OVER_SHOWN_MAX: usize = 3;

/// Does what was asked for; returns [`Exit::Partial`] if not everything is as it was.
pub fn run(arguments: &Arguments, stop: &Stop, bars: &Bars, now: DateTime<Utc>) -> Result<Exit> {
    match &arguments.command {
        Some(Command::Find(find)) => return find::run(arguments, find, stop, now),
        Some(command) => return print_help(command),
        None => {}
    }
    if let Some(goal) = point::goal_of(arguments, now)? {
        return point::run(arguments, goal, stop, bars, now);
    }
    let target = target_of(arguments)?;
    let config_path = arguments.config.clone().unwrap_or_else(|| CONFIG_PATH.into());
    let config = Config::load(&config_path, arguments.config.is_some())?;
    let wanted = wanted(arguments, now)?;
    let identities = identities(arguments, &config)?;
    let depot = open_first(config.depots_to_try(arguments.depot.as_deref())?, stop)?;
    let snapshots = depot.snapshots()?;
    let Chosen { id, passed_over } = choose(&snapshots, &wanted)?;
    warn_of_clocks(&passed_over);
    let session = Session { arguments, depot: &depot, snapshots: &snapshots, stop, bars, now };
    match (identities, target) {
        (None, _) => session.show_plan_without_key(&id),
        (Some(identities), _) if arguments.plan => session.show_plan(&id, &identities),
        (Some(identities), Some(target)) => session.restore(&id, &identities, &target),
        (Some(_), None) => Err(no_target().into()),
    }
}

fn print_help(command: &Command) -> Result<Exit> {
    let mut out = Stdout::default();
    match command {
        Command::Completions { shell } => {
            chassis::cli::completions(Arguments::command(), *shell, &mut out)?;
        }
        Command::Man => chassis::cli::man(Arguments::command(), &mut out)?,
        Command::Find(_) => {}
    }
    out.finish().map(|()| Exit::Done)
}

/// What was not chosen though its name says that it is newer.
fn warn_of_clocks(passed_over: &[SnapshotId]) {
    let mut ids = passed_over.iter().rev();
    for id in ids.by_ref().take(PASSED_OVER_SHOWN_MAX) {
        tracing::warn!("{id} is passed over: it says that it began after it had arrived");
    }
    if ids.len() > 0 {
        tracing::warn!("so are {} more", ids.len());
    }
}

/// A target, unless only the plan is wanted.
fn target_of(arguments: &Arguments) -> Result<Option<PathBuf>> {
    match &arguments.target {
        None if !arguments.plan => Err(no_target().into()),
        target => Ok(target.clone()),
    }
}

fn no_target() -> Failure {
    Failure::new(Exit::Usage, "no target is named")
        .hint("name a new directory: `--target /srv/restored`, or look first with --plan")
}

/// The keys; none only if a plan can do without.
fn identities(arguments: &Arguments, config: &Config) -> Result<Option<Identities>> {
    if arguments.identity.is_empty() && config.restore.identity_file.is_none() && arguments.plan {
        return Ok(None);
    }
    keys(&arguments.identity, config).map(Some)
}

/// The keys that are named, or configured.
fn keys(named: &[PathBuf], config: &Config) -> Result<Identities> {
    let mut files = named.to_vec();
    if files.is_empty() {
        files.extend(config.restore.identity_file.clone());
    }
    if files.is_empty() {
        return Err(Failure::new(Exit::Usage, "no key is named that opens the backup")
            .hint("name the file that `backupctl keys generate` made: `--identity key.txt`")
            .into());
    }
    Identities::from_files(&files)
}

fn wanted(arguments: &Arguments, now: DateTime<Utc>) -> Result<Wanted> {
    let which = match (&arguments.at, &arguments.snapshot) {
        (Some(at), _) => Which::At(parse_time(at, now, local_zone())?),
        (None, Some(id)) => Which::Id(id.clone()),
        (None, None) => Which::Latest,
    };
    Ok(Wanted { which, job: arguments.job.clone(), host: arguments.host.clone() })
}

struct Session<'a> {
    arguments: &'a Arguments,
    depot: &'a Depot,
    snapshots: &'a [SnapshotInfo],
    stop: &'a Stop,
    bars: &'a Bars,
    now: DateTime<Utc>,
}

impl Session<'_> {
    fn show_plan_without_key(&self, id: &SnapshotId) -> Result<Exit> {
        let mut plan = plan_without_key(self.depot, self.snapshots, id, self.now)?;
        self.look_at_target(&mut plan)?;
        self.print_plan(&plan)
    }

    fn show_plan(&self, id: &SnapshotId, identities: &Identities) -> Result<Exit> {
        let chain = self.load(id, identities, &self.selection()?)?;
        let mut plan = plan(self.depot, &chain, self.now)?;
        plan.unmatched = unmatched(&chain, &self.patterns())?;
        self.preparation(&chain)?;
        self.look_at_target(&mut plan)?;
        self.print_plan(&plan)
    }

    fn print_plan(&self, plan: &Plan) -> Result<Exit> {
        let mut out = Stdout::default();
        if self.arguments.json {
            out.json(plan)?;
        } else {
            out.write_all(plan_text(plan).as_bytes())?;
        }
        out.finish()?;
        if !self.arguments.keep_going {
            plan.check()?;
        }
        let is_whole = plan.is_complete() && plan.missing.is_empty() && plan.unmatched.is_empty();
        Ok(if is_whole { Exit::Done } else { Exit::Partial })
    }

    fn look_at_target(&self, plan: &mut Plan) -> Result<()> {
        let Some(target) = &self.arguments.target else { return Ok(()) };
        let marker = Marker::new(plan.chosen().id.clone(), self.selection_texts(), self.now);
        let found = look(target, &marker, self.arguments.delta)?.0;
        self.check_delta(plan, found)?;
        plan.found = Some(found);
        plan.free_bytes = free_bytes(target);
        plan.target = Some(target.clone());
        Ok(())
    }

    /// A tool that prepares a database takes whatever is in its directory for a part of it.
    fn check_delta(&self, plan: &Plan, found: Found) -> Result<(), Failure> {
        let is_database = plan.chosen().kind == SnapshotKind::Database;
        let is_all = self.selection_texts().is_empty();
        if found != Found::Existing || !is_database || !is_all || self.arguments.delete {
            return Ok(());
        }
        let message = "a database cannot be restored beside other files";
        Err(Failure::new(Exit::Usage, message)
            .hint("add --delete to remove what the backup does not have, or name a new directory"))
    }

    fn selection_texts(&self) -> Vec<String> {
        let paths = self.arguments.path.iter().map(|path| path.to_string_lossy().into_owned());
        paths.chain(self.arguments.table.iter().map(TableName::quoted)).collect()
    }

    fn patterns(&self) -> Vec<Vec<u8>> {
        use std::os::unix::ffi::OsStrExt;
        self.arguments.path.iter().map(|path| path.as_bytes().to_vec()).collect()
    }

    fn selection(&self) -> Result<Selection> {
        if self.arguments.table.is_empty() {
            return Selection::of(&self.patterns());
        }
        Ok(Selection::tables(self.arguments.table.clone()))
    }

    fn load(
        &self,
        id: &SnapshotId,
        identities: &Identities,
        selection: &Selection,
    ) -> Result<Vec<Loaded>> {
        load(self.depot, self.snapshots, id, identities, selection)
    }

    /// The tool for preparing, if that is asked for.
    fn preparation(&self, chain: &[Loaded]) -> Result<Option<Preparation>> {
        let arguments = self.arguments;
        if !arguments.prepare && arguments.table.is_empty() {
            return Ok(None);
        }
        let chosen = &chain.last().expect("a chain has a backup").tree.head;
        let positions = positions_of(chosen)?;
        Ok(Some(Preparation {
            tool: find_tool(&positions)?,
            positions,
            tables: arguments.table.clone(),
            memory_bytes: arguments.prepare_memory.0,
            server: arguments.server.clone(),
        }))
    }

    fn restore(&self, id: &SnapshotId, identities: &Identities, target: &Path) -> Result<Exit> {
        let chain = self.load(id, identities, &self.selection()?)?;
        let result = match self.restore_chain(chain, identities, target) {
            Err(error) if error.is::<AnotherSpace>() => {
                tracing::warn!("{error:#}: all of the backup is restored");
                let chain = self.load(id, identities, &Selection::all())?;
                self.restore_chain(chain, identities, target)
            }
            result => result,
        };
        self.print_report(&result?)
    }

    fn restore_chain(
        &self,
        chain: Vec<Loaded>,
        identities: &Identities,
        target: &Path,
    ) -> Result<Report> {
        let arguments = self.arguments;
        let prepare = self.preparation(&chain)?;
        let mut plan = plan(self.depot, &chain, self.now)?;
        self.look_at_target(&mut plan)?;
        if !arguments.keep_going {
            plan.check()?;
        }
        warn(&plan);
        let progress = Arc::new(Progress::default());
        let options = Options {
            // The report has commands with it, which may be run elsewhere.
            target: std::path::absolute(target).context("make path of target absolute")?,
            selection: self.selection_texts(),
            unmatched: unmatched(&chain, &self.patterns())?,
            delta: arguments.delta,
            delete: arguments.delete,
            keep_going: arguments.keep_going,
            set_owner: rustix::process::geteuid().is_root() && !arguments.no_owner,
            prepare,
            replay: None,
            sync: !arguments.no_sync,
            workers: workers(arguments),
            stop: self.stop.clone(),
            progress: progress.clone(),
        };
        let shown = Bar::start(self.bars).follow(progress);
        let result = restore(self.depot, identities, chain, &options, self.now);
        drop(shown);
        result
    }

    fn print_report(&self, report: &Report) -> Result<Exit> {
        let mut out = Stdout::default();
        if self.arguments.json {
            out.json(report)?;
        } else {
            out.write_all(report.text().as_bytes())?;
        }
        out.finish()?;
        Ok(if report.is_whole() { Exit::Done } else { Exit::Partial })
    }
}

/// What the user should know before it begins.
fn warn(plan: &Plan) {
    if !plan.is_complete() {
        tracing::warn!("this backup is PARTIAL: some files are not sound, the report names them");
    }
    for missing in &plan.missing {
        tracing::warn!("pack {}: {}", missing.pack, missing.what);
    }
    if plan.free_bytes.is_some_and(|free| free < plan.bytes) {
        let (free, bytes) = (plan.free_bytes.unwrap_or_default(), plan.bytes);
        tracing::warn!(
            "the target's disk may be too small: {} free, {} to come",
            ByteSize(free),
            ByteSize(bytes)
        );
    }
    tracing::info!("restoring {} from depot `{}`", plan.chosen().id, plan.depot);
}

fn workers(arguments: &Arguments) -> usize {
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    arguments.workers.unwrap_or(cores + WORKERS_EXTRA).clamp(1, WORKERS_MAX)
}
