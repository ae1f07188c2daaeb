//! A place to back up a tree in: a scratch directory with a depot, keys and a state directory.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use backupd::config::FilesJob;
use backupd::source::files::{TreeSummary, backup_tree};
use chassis::progress::Progress;
use chassis::retry::Stop;
use chrono::{DateTime, TimeDelta, Utc};
use depot::block::BlockKey;
use depot::crypt::{Identities, Recipients, generate_identity};
use depot::depot::Depot;
use depot::manifest::SnapshotKind;
use depot::names::SnapshotId;
use depot::store::StoreConfig;
use depot::store::directory::DirectoryConfig;
use depot::writer::{Report, SnapshotWriter, Tuning, WriterOptions};
use restore::select::Selection;
use restore::{chain, run};
use tempfile::TempDir;
use tests::tree::{Tree, describe, stored};

/// A depot and what a job needs beside it.
pub struct Lab {
    scratch: TempDir,
    depot: Arc<Depot>,
    recipients: Recipients,
    identities: Identities,
    key: BlockKey,
    time: DateTime<Utc>,
    /// Of the run at hand; a new one for each.
    pub progress: Arc<Progress>,
    /// Stops the run at hand.
    pub stop: Stop,
}

impl Lab {
    /// With an empty depot and an empty directory `tree`.
    pub fn new() -> Result<Self> {
        // Not in /tmp: it may be a file system without extended attributes.
        let scratch = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).context("make scratch")?;
        let path = scratch.path().join("depot");
        fs::create_dir(scratch.path().join("tree")).context("make tree")?;
        let directory = Some(DirectoryConfig { path });
        let depot = Depot::init("lab", &StoreConfig { directory, ..StoreConfig::default() })?;
        let (secret, public) = generate_identity();
        let identity = scratch.path().join("identity");
        fs::write(&identity, secret.expose()).context("write identity")?;
        Ok(Self {
            identities: Identities::from_file(&identity)?,
            recipients: Recipients::parse(&[public])?,
            scratch,
            depot: Arc::new(depot),
            key: BlockKey::generate(),
            time: Utc::now(),
            progress: Arc::default(),
            stop: Stop::new(),
        })
    }

    /// The directory that is backed up.
    pub fn root(&self) -> PathBuf {
        self.scratch.path().join("tree")
    }

    /// A job for all of it.
    pub fn job(&self) -> FilesJob {
        FilesJob {
            root: self.root(),
            include: Vec::new(),
            exclude: Vec::new(),
            one_file_system: false,
            xattrs: true,
            allow_empty: false,
        }
    }

    /// Another directory beside it.
    pub fn outside(&self) -> &Path {
        self.scratch.path()
    }

    /// One run; each is a minute later by its id.
    pub fn back_up(&mut self, job: &FilesJob, rescan: bool) -> Result<(TreeSummary, Report)> {
        self.time += TimeDelta::minutes(1);
        let options = WriterOptions {
            id: SnapshotId::new("site".parse()?, self.time, "web1".parse()?),
            kind: SnapshotKind::Files,
            root: job.root.display().to_string(),
            program: "tests".to_owned(),
            key: self.key.clone(),
            recipients: self.recipients.clone(),
            parent: None,
            state_dir: self.scratch.path().join("state"),
            tuning: Tuning::default(),
            stop: self.stop.clone(),
            progress: Arc::clone(&self.progress),
        };
        let mut writer = SnapshotWriter::start(options, vec![Arc::clone(&self.depot)])?;
        let summary = backup_tree(job, rescan, &mut writer, &self.stop, &self.progress)?;
        Ok((summary, writer.finish(None)?))
    }

    /// What comes back: a snapshot restored into a new directory, which is removed again.
    pub fn restored(&self, id: &SnapshotId) -> Result<Tree> {
        let target = self.scratch.path().join("restored");
        let snapshots = self.depot.snapshots()?;
        let (depot, identities) = (&self.depot, &self.identities);
        let chain = chain::load(depot, &snapshots, id, identities, &Selection::all())?;
        let options = run::Options {
            unmatched: Vec::new(),
            target: target.clone(),
            selection: Vec::new(),
            delta: false,
            delete: false,
            keep_going: false,
            set_owner: rustix::process::geteuid().is_root(),
            prepare: None,
            replay: None,
            sync: false,
            workers: 2,
            stop: Stop::never(),
            progress: Arc::default(),
        };
        run::restore(depot, identities, chain, &options, Utc::now())?;
        let tree = describe(&target);
        fs::remove_dir_all(&target).context("remove restored tree")?;
        tree
    }

    /// What a snapshot holds.
    pub fn stored(&self, id: &SnapshotId) -> Result<Tree> {
        stored(&self.depot, id, &self.identities)
    }
}

/// Waits until the change times of all files are old enough to be trusted in the next run.
pub fn settle() {
    std::thread::sleep(Duration::from_millis(2100));
}
