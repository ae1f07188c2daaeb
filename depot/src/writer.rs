//! Writing one snapshot: files become blocks, blocks become packs, packs go to all depots, the
//! manifest is the commit.
//!
//! The caller feeds files from one thread. Behind it: workers name and compress blocks; the
//! collector puts results back in order, fills packs and writes the manifest's body to a spool
//! file; sealers encrypt packs; shippers put them into the depots.
//! ```text
//! feed -> workers -> collector -> sealers -> shippers (some for each depot)          finish:
//! needs, manifest
//! ```
//! Every stage is bounded: a fixed set of batches goes round between feed and collector, and a
//! fixed number of sealed packs is alive. So memory is that of the packs in flight, whatever the
//! size of the database. A depot that fails for good is left out from then on; when all have
//! failed, the run has. Dropping the writer without [`SnapshotWriter::finish`] commits nothing.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use chassis::failure::{Exit, Failure};
use chassis::progress::Progress;
use chassis::retry::Stop;
use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::block::{BlockKey, Cuts};
use crate::cache::{Cache, OldBlock};
pub use crate::cache::{Previous, Stamp};
use crate::crypt::Recipients;
use crate::depot::Depot;
use crate::manifest::{
    Attributes, Entry, EntryKind, EntryPath, Problem, SnapshotKind, SnapshotState, Totals,
};
use crate::names::{Sha256, SnapshotId};

mod batch;
mod collect;
mod commit;
mod compress;
mod shared;
mod ship;

use batch::{Batch, Item};
use shared::{Shared, Stages};

const BATCH_BYTES: usize = 1 << 20;
const BATCH_ITEMS: usize = 1024;
/// Problems that a head names.
const PROBLEMS_MAX: usize = 10_000;
const PROBLEMS_BYTES_MAX: usize = 4 << 20;
/// Of the path of the first problem, and of what is wrong with it.
const PROBLEM_BYTES_MAX: usize = 64 << 10;
/// Blocks of kept files in a batch: 36 bytes each.
const BATCH_HELD_BLOCKS: usize = 16 << 10;
const PACK_BYTES_MAX: usize = 31 << 20;
const CACHE_FILE: &str = "cache";

/// What is measured and chosen in `docs/performance.md`.
#[derive(Clone, Debug)]
pub struct Tuning {
    /// Level of zstd.
    pub level: i32,
    /// Threads that name and compress blocks.
    pub workers: usize,
    /// Payload of a pack in bytes.
    pub pack_bytes: usize,
    /// Where files are cut.
    pub cuts: Cuts,
    /// Threads that put packs into one depot.
    pub shippers: usize,
}

impl Default for Tuning {
    fn default() -> Self {
        let workers = std::thread::available_parallelism().map_or(2, usize::from).clamp(1, 8);
        Self { level: 1, workers, pack_bytes: 16 << 20, cuts: Cuts::standard(), shippers: 2 }
    }
}

/// What a run is told.
#[derive(Debug)]
pub struct WriterOptions {
    /// The new snapshot.
    pub id: SnapshotId,
    /// What is backed up.
    pub kind: SnapshotKind,
    /// The directory or server that is read, for the head.
    pub root: String,
    /// The program with its version, for the head.
    pub program: String,
    /// The key of block names.
    pub key: BlockKey,
    /// To whom everything is encrypted.
    pub recipients: Recipients,
    /// The snapshot that an LSN increment builds on.
    pub parent: Option<SnapshotId>,
    /// A directory of this job alone, held by the caller's lock: cache and spool files.
    pub state_dir: PathBuf,
    /// Sizes and numbers.
    pub tuning: Tuning,
    /// Stops the run at the next safe point.
    pub stop: Stop,
    /// Counts bytes read.
    pub progress: Arc<Progress>,
}

/// How a depot came out of a run.
#[derive(Clone, Debug, Serialize)]
pub struct DepotOutcome {
    /// The depot's name.
    pub name: String,
    /// Why the snapshot is not in it; `None` if it is.
    pub error: Option<String>,
    /// Earlier snapshots that were brought to it, because it had missed them.
    pub caught_up: u64,
}

/// What a run has stored.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The snapshot.
    pub id: SnapshotId,
    /// Whether all of it is there.
    pub state: SnapshotState,
    /// Entries, bytes, bytes stored.
    pub totals: Totals,
    /// One for each depot; at least one has the snapshot.
    pub depots: Vec<DepotOutcome>,
    /// Files that are not as they were.
    pub problems: Vec<Problem>,
    /// Seconds since the start.
    pub seconds: f64,
}

/// A file that is being written; unique in its run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileNumber(u64);

struct OpenFile {
    path: EntryPath,
    previous: Option<Previous>,
    /// Where the block begins that is being filled.
    offset: u64,
    /// Its number in the file.
    number: usize,
    block: Vec<u8>,
}

/// A run. Fed from one thread.
pub struct SnapshotWriter {
    options: WriterOptions,
    started: DateTime<Utc>,
    clock: Instant,
    shared: Arc<Shared>,
    stages: Stages,
    cache: Option<Arc<Cache>>,
    /// Of the cache's packs, those that a living depot has.
    usable: Vec<bool>,
    open: HashMap<FileNumber, OpenFile>,
    next_file: u64,
    batch: Batch,
    spare_blocks: Vec<Vec<u8>>,
    problems: Vec<Problem>,
    problems_bytes: usize,
}

impl SnapshotWriter {
    /// Looks at the depots, opens the cache of the last run and starts the threads.
    pub fn start(options: WriterOptions, depots: Vec<Arc<Depot>>) -> Result<Self> {
        ensure!(!depots.is_empty(), "there is no depot to write to");
        std::fs::create_dir_all(&options.state_dir)
            .with_context(|| format!("create `{}`", options.state_dir.display()))?;
        check_options(&options, &depots)?;
        let clock = (Instant::now(), Utc::now());
        let fingerprint = fingerprint(&options);
        let cache = Cache::open(&options.state_dir.join(CACHE_FILE), &fingerprint).map(Arc::new);
        let shared = Arc::new(Shared::new(&options, depots));
        shared.survey_depots(&options.id, cache.as_ref().map(|cache| &cache.id));
        shared.check()?;
        let usable = cache.as_ref().map_or_else(Vec::new, |cache| shared.usable(&cache.packs));
        let mut stages = Stages::start(&shared, &options, cache.clone())?;
        let batch = stages.free_batch(&shared)?;
        Ok(Self {
            options,
            started: clock.1,
            clock: clock.0,
            shared,
            stages,
            cache,
            usable,
            open: HashMap::new(),
            next_file: 0,
            batch,
            spare_blocks: Vec::new(),
            problems: Vec::new(),
            problems_bytes: 0,
        })
    }

    /// The snapshot that unchanged files and blocks are compared with.
    pub fn previous_id(&self) -> Option<&SnapshotId> {
        self.cache.as_ref().map(|cache| &cache.id)
    }

    /// What the last manifest of this job and host had of a file.
    pub fn previous(&mut self, path: &EntryPath) -> Result<Option<Previous>> {
        self.shared.check()?;
        Ok(self.cache.as_ref().and_then(|cache| cache.find(path)))
    }

    /// Adds an entry without content: a directory, a link.
    pub fn add(&mut self, entry: Entry) -> Result<()> {
        ensure!(entry.kind != EntryKind::File, "a file was added without content: this is a bug");
        self.batch.items.push(Item::Add(Box::new(entry)));
        self.send_full_batch()
    }

    /// Adds a file that has not changed, without reading it. Says false if a block of it is not in
    /// any depot any more: then it must be read.
    pub fn keep(&mut self, entry: Entry, stamp: Stamp, mut previous: Previous) -> Result<bool> {
        let Some(cache) = &self.cache else { return Ok(false) };
        if entry.kind != EntryKind::File || entry.size != previous.stamp.size {
            return Ok(false);
        }
        let count = self.options.tuning.cuts.blocks_of(entry.size).count();
        if count != previous.block_count() {
            return Ok(false);
        }
        for number in 0..count {
            match cache.block(&mut previous, number) {
                Some(block) if self.is_usable(&block) => {}
                _ => return Ok(false),
            }
        }
        previous.let_go();
        self.options.progress.add_bytes(entry.size);
        self.batch.held_blocks += previous.held_blocks();
        self.batch.items.push(Item::Keep { entry: Box::new(entry), stamp, previous });
        self.send_full_batch()?;
        Ok(true)
    }

    /// Begins a file. Several may be open at once.
    pub fn open(&mut self, path: EntryPath) -> Result<FileNumber> {
        let previous = self.previous(&path)?;
        let number = FileNumber(self.next_file);
        self.next_file += 1;
        let block = self.spare_blocks.pop().unwrap_or_default();
        self.open.insert(number, OpenFile { path, previous, offset: 0, number: 0, block });
        Ok(number)
    }

    /// The next bytes of a file.
    pub fn write(&mut self, file: FileNumber, mut data: &[u8]) -> Result<()> {
        self.options.progress.add_bytes(data.len() as u64);
        while !data.is_empty() {
            let state = self.open.get_mut(&file).context("file is not open")?;
            let size = self.options.tuning.cuts.size_at(state.offset) as usize;
            if state.block.is_empty() && data.len() >= size {
                let (block, rest) = data.split_at(size);
                self.push_block(file, block)?;
                data = rest;
                continue;
            }
            let (part, rest) = data.split_at(data.len().min(size - state.block.len()));
            state.block.extend_from_slice(part);
            data = rest;
            if state.block.len() == size {
                self.push_held_block(file)?;
            }
        }
        Ok(())
    }

    /// The next `length` bytes of a file are zeros: a hole.
    pub fn skip(&mut self, file: FileNumber, mut length: u64) -> Result<()> {
        self.options.progress.add_bytes(length);
        while length > 0 {
            let state = self.open.get_mut(&file).context("file is not open")?;
            let size = self.options.tuning.cuts.size_at(state.offset);
            let room = size - state.block.len() as u64;
            if room == size && length >= size {
                state.offset += size;
                state.number += 1;
                self.batch.items.push(Item::Zeros { file: file.0 });
                length -= size;
                self.send_full_batch()?;
                continue;
            }
            let part = room.min(length);
            state.block.resize(state.block.len() + part as usize, 0);
            length -= part;
            if part == room {
                self.push_held_block(file)?;
            }
        }
        Ok(())
    }

    /// Ends a file.
    pub fn close(
        &mut self,
        file: FileNumber,
        attributes: Option<Attributes>,
        sparse: bool,
        stamp: Stamp,
    ) -> Result<()> {
        self.push_held_block(file)?;
        let state = self.open.remove(&file).context("file is not open")?;
        let entry = Entry {
            path: state.path,
            kind: EntryKind::File,
            target: None,
            size: state.offset,
            attributes,
            sparse,
            file: None,
            blocks: Vec::new(),
        };
        self.spare_blocks.push(state.block);
        self.batch.items.push(Item::Close { file: file.0, entry: Box::new(entry), stamp });
        self.send_full_batch()
    }

    /// Gives a file that is open another path.
    pub fn rename(&mut self, file: FileNumber, path: EntryPath) -> Result<()> {
        self.open.get_mut(&file).context("file is not open")?.path = path;
        Ok(())
    }

    /// Forgets what was written of a file: it changed while it was read.
    pub fn abandon(&mut self, file: FileNumber) -> Result<()> {
        let mut state = self.open.remove(&file).context("file is not open")?;
        state.block.clear();
        self.spare_blocks.push(state.block);
        self.batch.items.push(Item::Abandon { file: file.0 });
        self.send_full_batch()
    }

    /// Notes a file that is not as it was: the snapshot becomes partial. They are in one line of the
    /// manifest, so not more than ten thousand are named, nor more than four MiB of them; the first
    /// is, cut short.
    pub fn problem(&mut self, mut problem: Problem) {
        if self.problems.is_empty() {
            shorten(&mut problem.path);
            shorten(&mut problem.what);
        }
        let bytes = self.problems_bytes + problem.path.len() + problem.what.len();
        if self.problems.len() < PROBLEMS_MAX && bytes <= PROBLEMS_BYTES_MAX {
            self.problems_bytes = bytes;
            self.problems.push(problem);
        }
    }

    fn is_usable(&self, block: &OldBlock) -> bool {
        block.is_zero() || self.usable.get(block.pack as usize).copied().unwrap_or(false)
    }

    fn push_held_block(&mut self, file: FileNumber) -> Result<()> {
        let state = self.open.get_mut(&file).context("file is not open")?;
        if state.block.is_empty() {
            return Ok(());
        }
        let mut block = std::mem::take(&mut state.block);
        self.push_block(file, &block)?;
        block.clear();
        if let Some(state) = self.open.get_mut(&file) {
            state.block = block;
        }
        Ok(())
    }

    fn push_block(&mut self, file: FileNumber, block: &[u8]) -> Result<()> {
        let state = self.open.get_mut(&file).context("file is not open")?;
        let old = match (&self.cache, &mut state.previous) {
            (Some(cache), Some(previous)) => cache.block(previous, state.number),
            _ => None,
        };
        state.offset += block.len() as u64;
        state.number += 1;
        let old = old.filter(|old| !old.is_zero() && self.is_usable(old));
        self.batch.push_block(file.0, block, old);
        self.send_full_batch()
    }

    fn send_full_batch(&mut self) -> Result<()> {
        let batch = &self.batch;
        if batch.raw.len() >= BATCH_BYTES
            || batch.items.len() >= BATCH_ITEMS
            || batch.held_blocks >= BATCH_HELD_BLOCKS
        {
            self.send_batch()?;
        }
        Ok(())
    }

    fn send_batch(&mut self) -> Result<()> {
        let next = self.stages.free_batch(&self.shared)?;
        let full = std::mem::replace(&mut self.batch, next);
        self.stages.send(&self.shared, full)
    }
}

fn shorten(text: &mut String) {
    text.truncate(text.floor_char_boundary(PROBLEM_BYTES_MAX));
}

fn check_options(options: &WriterOptions, depots: &[Arc<Depot>]) -> Result<()> {
    options.tuning.cuts.check()?;
    ensure!(
        options.tuning.pack_bytes <= PACK_BYTES_MAX,
        "packs are at most {PACK_BYTES_MAX} bytes"
    );
    for (number, depot) in depots.iter().enumerate() {
        let twin = depots[..number].iter().find(|other| other.id() == depot.id());
        if let Some(twin) = twin {
            let message = format!("depots `{}` and `{}` are the same", twin.name(), depot.name());
            return Err(Failure::new(Exit::Usage, message)
                .hint("name it once; a copied depot needs a depot.toml with an id of its own")
                .into());
        }
    }
    Ok(())
}

/// What a cache depends on: with another key, other recipients or other cuts, nothing may be
/// referred to.
fn fingerprint(options: &WriterOptions) -> Sha256 {
    let mut texts = options.recipients.texts().to_vec();
    texts.sort();
    let key = options.key.name(b"fingerprint");
    Sha256::of(format!("{:?} {:?} {texts:?}", key, options.tuning.cuts).as_bytes())
}
