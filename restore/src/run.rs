//! A restore from its beginning to its end: target, content, attributes, preparation, flush, and only then the
//! mark of an unfinished restore goes.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use chassis::failure::{Exit, exit_of};
use chassis::progress::Progress;
use chassis::retry::Stop;
use chrono::{DateTime, Utc};
use database::tablespace::TableName;
use database::tool::BackupTool;
use depot::crypt::Identities;
use depot::depot::Depot;
use depot::manifest::SnapshotKind;

use crate::beneath::Beneath;
use crate::chain::Loaded;
use crate::existing::{Options as ExistingOptions, keep_what_fits, make_dirs};
use crate::fetch::{Damage, Fetch, fetch, sort_by_pack};
use crate::place::{Place, place};
use crate::prepare::{self, Preparation, settings, spaces, steps};
use crate::replay::{self, Means, Replay, galera};
use crate::report::Report;
use crate::share::check_stop;
use crate::target::{Found, Marker, REPLAY, Target, extra, remove_tree};
use crate::tree::Tree;

/// How long a server that was left alone may take to end.
const ORPHAN_TIME_MAX: Duration = Duration::from_mins(5);
const ORPHAN_POLL_INTERVAL: Duration = Duration::from_millis(200);

/// What a restore is told.
#[derive(Clone, Debug)]
pub struct Options {
    /// The directory.
    pub target: PathBuf,
    /// The parts that were asked for, as they were written; all if empty.
    pub selection: Vec<String>,
    /// Those of them that are not in the backup.
    pub unmatched: Vec<String>,
    /// Whether the target may have something in it.
    pub delta: bool,
    /// Whether what the backup does not have is removed from it.
    pub delete: bool,
    /// Whether damage is noted and the rest restored.
    pub keep_going: bool,
    /// Whether owners are set; it takes root.
    pub set_owner: bool,
    /// How a database is made ready for a server; none: it is not.
    pub prepare: Option<Preparation>,
    /// What brings a prepared database forward; none: it stays as it was backed up.
    pub replay: Option<Replay>,
    /// Whether everything is flushed to the disk at the end.
    pub sync: bool,
    /// Threads.
    pub workers: usize,
    /// To stop early.
    pub stop: Stop,
    /// What is shown.
    pub progress: Arc<Progress>,
}

impl Options {
    /// The tables that are to be made ready for import; none if something else is restored.
    fn tables(&self) -> &[TableName] {
        self.prepare.as_ref().map_or(&[], |preparation| &preparation.tables)
    }
}

/// Restores a chain that was read. What is at its place already is not fetched.
pub fn restore(
    depot: &Depot,
    identities: &Identities,
    chain: Vec<Loaded>,
    options: &Options,
    now: DateTime<Utc>,
) -> Result<Report> {
    let clock = Instant::now();
    let chosen = chain.last().expect("a chain has a backup").tree.head.clone();
    let is_database = chosen.kind == SnapshotKind::Database;
    let positions = is_database.then(|| prepare::positions_of(&chosen)).transpose()?;
    let is_selected = chain.iter().any(|loaded| !loaded.is_whole);
    let marker = Marker::new(chosen.id.clone(), options.selection.clone(), now);
    let target = open(options, &marker)?;
    let mut report = Report::new(&chosen, depot.name(), &target);
    report.unmatched.clone_from(&options.unmatched);
    let session = Session { depot, identities, options, target: &target };
    let replay = options.replay.as_ref();
    let goes_on = replay.map_or(Ok(false), |replay| replay::can_go_on(&target, replay))?;
    if goes_on {
        report.next_steps = steps::start(target.root.path(), tool_of(options));
        session.replay(goes_on, &mut report)?;
        session.finish(&mut report, false)?;
        report.seconds = clock.elapsed().as_secs_f64();
        return Ok(report);
    }
    let mut parts = Vec::new();
    for loaded in chain {
        parts.push(session.fetch(loaded, &mut report)?);
    }
    // Before attributes: each removed name changes the time of its directory.
    session.handle_extra(&parts, &mut report)?;
    for part in &parts {
        session.place(part, &mut report)?;
    }
    let is_root_restored = parts.iter().any(Part::has_root);
    if is_selected && !options.tables().is_empty() {
        spaces::check(&parts)?;
    }
    let links = parts.len();
    drop(parts);
    if let Some(preparation) = &options.prepare {
        options.progress.begin("prepare", 0);
        let (set_owner, stop) = (options.set_owner, &options.stop);
        prepare::run(&target, links, preparation, set_owner, stop, &mut report)?;
    } else if let Some(positions) = positions {
        settings::look(&target.root, links, &mut report)?;
        report.next_steps = steps::before_start(&options.target, links, &positions);
    }
    session.replay(false, &mut report)?;
    session.finish(&mut report, is_root_restored)?;
    report.seconds = clock.elapsed().as_secs_f64();
    Ok(report)
}

/// Opens the target. A server that a killed replay has left there is just ending.
fn open(options: &Options, marker: &Marker) -> Result<Target> {
    let deadline = Instant::now() + ORPHAN_TIME_MAX;
    loop {
        match Target::open(&options.target, marker, options.delta) {
            Err(error)
                if exit_of(&error) == Exit::Busy
                    && options.target.join(REPLAY).exists()
                    && Instant::now() < deadline =>
            {
                tracing::info!("waiting for the end of another restore's server");
                options.stop.wait_timeout(ORPHAN_POLL_INTERVAL);
                check_stop(&options.stop)?;
            }
            opened => return opened,
        }
    }
}

/// The tool that made the backup.
fn tool_of(options: &Options) -> BackupTool {
    options.prepare.as_ref().map_or(BackupTool::MariaDb, |preparation| preparation.tool.tool)
}

/// One backup of the chain, whose content is in the target.
pub struct Part {
    /// What was restored.
    pub tree: Tree,
    /// Relative to the target.
    place: PathBuf,
    /// Where it is.
    pub root: Beneath,
}

impl Part {
    /// Whether the target itself is part of it.
    fn has_root(&self) -> bool {
        self.tree.dirs.iter().any(|dir| &*dir.path == Path::new(".") && dir.attributes.is_some())
    }

    /// All names that it has, from the target on.
    fn names(&self) -> impl Iterator<Item = PathBuf> {
        let dirs = self.tree.dirs.iter().map(|dir| &*dir.path);
        let entries = self.tree.entries.iter().map(|node| &*node.path);
        let above = self.place.ancestors().map(Path::to_owned);
        let below = dirs.chain(entries).map(|path| self.place.join(path));
        // `./a/.` and `a` are one name.
        above
            .chain(below)
            .map(|path| path.components().filter(|c| *c != Component::CurDir).collect())
    }
}

struct Session<'a> {
    depot: &'a Depot,
    identities: &'a Identities,
    options: &'a Options,
    target: &'a Target,
}

impl Session<'_> {
    /// Everything in the target is a restore's, or the user said that what is not in the backup may go.
    fn may_delete(&self) -> bool {
        self.target.owned || self.options.delete
    }

    /// Brings the content of one backup to its place.
    fn fetch(&self, loaded: Loaded, report: &mut Report) -> Result<Part> {
        let options = self.options;
        let (workers, stop, progress) = (options.workers, &options.stop, &*options.progress);
        check_stop(stop)?;
        let Loaded { mut tree, place, .. } = loaded;
        let root = self.target.root.make_root(&place)?;
        let is_new = self.target.found == Found::New;
        make_dirs(&root, &tree, is_new)?;
        if !is_new {
            let existing = ExistingOptions { workers, delete: self.may_delete(), stop, progress };
            report.bytes_kept += keep_what_fits(&root, &mut tree, existing)?;
            sort_by_pack(&mut tree);
        }
        progress.begin(format!("restore {}", tree.head.id), tree.content_bytes());
        let damage = fetch(Fetch {
            depot: self.depot,
            identities: self.identities,
            tree: &tree,
            root: &root,
            workers,
            keep_going: options.keep_going,
            stop,
            progress,
        })?;
        note(report, &tree, damage);
        tree.blocks = Vec::new();
        Ok(Part { tree, place, root })
    }

    /// Sets attributes and makes links.
    fn place(&self, part: &Part, report: &mut Report) -> Result<()> {
        let Options { set_owner, workers, ref stop, ref progress, .. } = *self.options;
        let (tree, root) = (&part.tree, &part.root);
        report.problems.extend(place(Place { tree, root, set_owner, workers, stop, progress })?);
        Ok(())
    }

    /// Removes or names what the backup does not have.
    fn handle_extra(&self, parts: &[Part], report: &mut Report) -> Result<()> {
        // Of a directory with something else in it, parts say nothing about the rest.
        let is_part = !self.options.selection.is_empty() && !self.target.owned;
        if self.target.found == Found::New || is_part {
            return Ok(());
        }
        let root = &self.target.root;
        let known: BTreeSet<PathBuf> = parts.iter().flat_map(Part::names).collect();
        let mut found = extra(root, &known)?;
        found.retain(|path| self.options.replay.is_none() || path != Path::new(REPLAY));
        if !self.may_delete() {
            report.extra = shown(&found);
            return Ok(());
        }
        for path in &found {
            check_stop(&self.options.stop)?;
            remove_tree(root, path)?;
        }
        // Those that a restore left itself are nobody's business.
        report.deleted = if self.target.owned { Vec::new() } else { shown(&found) };
        Ok(())
    }

    /// Brings the database forward, if that is wanted.
    fn replay(&self, goes_on: bool, report: &mut Report) -> Result<()> {
        let Options { stop, progress, set_owner, .. } = self.options;
        let Some(replay) = &self.options.replay else { return Ok(()) };
        if !goes_on {
            replay::mark_prepared(self.target, replay)?;
        }
        let Self { depot, identities, target, .. } = *self;
        let means = Means { depot, identities, target, stop, progress };
        report.replayed = Some(replay::run(means, replay, goes_on)?);
        if replay.galera_bootstrap {
            let galera = replay.positions.galera.as_ref().ok_or_else(galera::not_galera)?;
            galera::write_state(&target.root, galera)?;
            report.next_steps.extend(galera::steps(&replay.archive.union));
        }
        if *set_owner {
            prepare::give_to_server(&target.root, report)?;
        }
        Ok(())
    }

    fn finish(&self, report: &mut Report, is_root_restored: bool) -> Result<()> {
        if self.options.sync {
            self.options.progress.begin("flush to disk", 0);
            let flushed = self.target.root.sync();
            flushed.map_err(|error| crate::fetch::write_failure(error, self.target.root.path()))?;
        }
        let is_files = report.kind == SnapshotKind::Files;
        if is_files && !self.options.set_owner {
            let why =
                if rustix::process::geteuid().is_root() { "as asked for" } else { "not root" };
            report.notices.push(format!("owners were not set, nor set-id bits: {why}"));
        }
        self.target.finish(is_root_restored)
    }
}

fn shown(paths: &[PathBuf]) -> Vec<String> {
    paths.iter().map(|path| path.display().to_string()).collect()
}

fn note(report: &mut Report, tree: &Tree, damage: Vec<Damage>) {
    report.files += tree.files.len() as u64;
    report.entries += (tree.entries.len() + tree.dirs.len()) as u64;
    report.bytes += tree.bytes();
    report.bytes_fetched += tree.content_bytes();
    report.damage.extend(damage);
    report.problems_of_backup.extend(tree.head.problems.iter().cloned());
    let left_out = tree.left_out.iter();
    report.notices.extend(left_out.map(|path| format!("{path} was left out: the name is ours")));
}

/// A target that is there, for a look at its disk.
pub fn free_bytes(target: &Path) -> Option<u64> {
    let existing = target.ancestors().find(|path| path.is_dir() || path.as_os_str().is_empty())?;
    let existing = if existing.as_os_str().is_empty() { Path::new(".") } else { existing };
    Beneath::open(existing).and_then(|root| root.free_bytes().context("look at disk")).ok()
}
