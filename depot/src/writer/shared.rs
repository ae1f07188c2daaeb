//! What the stages of a run share: the table of packs, the state of each depot, the first failure,
//! the bounds.

use std::collections::{HashMap, HashSet};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use chassis::failure::{Exit, Failure};
use chassis::retry::Stop;
use crossbeam_channel::{Receiver, RecvTimeoutError, SendTimeoutError, Sender, bounded};

use super::batch::Batch;
use super::collect::{Collected, Wiring, collect};
use super::{WriterOptions, compress, ship};
use crate::cache::{Cache, CacheWriter};
use crate::depot::{Depot, is_outage};
use crate::manifest::PackLine;
use crate::names::{PackId, SnapshotId};

/// How often a stage that waits looks whether the run has failed.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Sealed packs alive at once, over all depots.
const SEALED_MAX: usize = 4;
const SEALERS: usize = 2;
/// Earlier snapshots whose needs lists prove what a depot has.
const PROOFS_MAX: usize = 3;
pub const BODY_FILE: &str = "body.spool";

/// A pack that is full, not yet encrypted.
pub struct FullPack {
    pub number: u32,
    pub payload: Vec<u8>,
}

/// A depot in this run.
pub struct Target {
    pub depot: Arc<Depot>,
    /// The packs that are proven to be there: named by a committed snapshot and still of their
    /// size, or put by this run.
    pub packs: Mutex<HashMap<PackId, u64>>,
    /// The packs that the keeper has condemned.
    pub condemned: Mutex<HashSet<PackId>>,
    /// Why it is left out, once it has failed.
    pub error: Mutex<Option<String>>,
}

impl Target {
    pub fn fail(&self, error: &anyhow::Error) {
        let mut slot = lock(&self.error);
        if slot.is_none() {
            tracing::error!(depot = self.depot.name(), "depot is left out of this run: {error:#}");
            *slot = Some(format!("{error:#}"));
        }
    }

    /// A pack of the right size in a listing may be what a crash has left. So only those count that
    /// a committed snapshot of this job and host names: they were acknowledged as durable. Any
    /// other is put again, which reads back what is there.
    fn survey(&self, id: &SnapshotId, cached: Option<&SnapshotId>) -> Result<()> {
        let depot = &self.depot;
        let sizes = depot.pack_sizes()?;
        *lock(&self.condemned) = depot.condemned()?;
        let snapshots = depot.snapshots()?;
        ensure!(
            !snapshots.iter().any(|snapshot| snapshot.id == *id),
            Failure::new(Exit::Failed, format!("there is a snapshot `{id}` already"))
                .hint("does another host call itself the same? Set `host` in the configuration")
        );
        let mine = |s: &&SnapshotId| s.job == id.job && s.host == id.host;
        let known = snapshots.iter().map(|s| &s.id).filter(mine).rev().take(PROOFS_MAX);
        let mut proofs: Vec<&SnapshotId> = known.collect();
        let all = snapshots.iter().map(|s| &s.id);
        proofs.extend(cached.filter(|cached| all.clone().any(|id| id == *cached)));
        let mut packs = lock(&self.packs);
        for proof in proofs {
            match depot.needs(proof) {
                Ok(needs) => packs.extend(
                    needs
                        .packs
                        .iter()
                        .filter(|line| {
                            sizes.get(&line.pack).is_some_and(|s| s.contains(&line.size))
                        })
                        .map(|line| (line.pack, line.size)),
                ),
                Err(error) if is_outage(&error) => return Err(error),
                Err(error) => tracing::warn!("a snapshot is not whole: {error:#}"),
            }
        }
        Ok(())
    }

    pub fn has(&self, line: &PackLine) -> bool {
        lock(&self.packs).get(&line.pack) == Some(&line.size)
    }

    pub fn is_well(&self) -> bool {
        lock(&self.error).is_none()
    }
}

/// A mutex whose holder cannot leave the content half changed: poison is ignored.
pub fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// State that the stages share.
pub struct Shared {
    pub targets: Vec<Target>,
    pub stop: Stop,
    pub stored: AtomicU64,
    table: Mutex<Vec<Option<PackLine>>>,
    failure: Mutex<Option<anyhow::Error>>,
    has_failed: AtomicBool,
    spares: (Sender<Vec<u8>>, Receiver<Vec<u8>>),
    pack_bytes: usize,
}

impl Shared {
    pub fn new(options: &WriterOptions, depots: Vec<Arc<Depot>>) -> Self {
        let target = |depot| Target {
            depot,
            packs: Mutex::new(HashMap::new()),
            condemned: Mutex::new(HashSet::new()),
            error: Mutex::new(None),
        };
        Self {
            targets: depots.into_iter().map(target).collect(),
            stop: options.stop.clone(),
            stored: AtomicU64::new(0),
            table: Mutex::new(Vec::new()),
            failure: Mutex::new(None),
            has_failed: AtomicBool::new(false),
            spares: bounded(SEALERS + 2),
            pack_bytes: options.tuning.pack_bytes,
        }
    }

    /// Learns which packs each depot surely has; one that cannot say is left out.
    pub fn survey_depots(&self, id: &SnapshotId, cached: Option<&SnapshotId>) {
        std::thread::scope(|scope| {
            for target in &self.targets {
                scope.spawn(|| {
                    if let Err(error) = target.survey(id, cached) {
                        target.fail(&error);
                    }
                });
            }
        });
    }

    /// For each pack of the cache, whether a living depot has it whole.
    pub fn usable(&self, packs: &[PackLine]) -> Vec<bool> {
        let well: Vec<_> = self.targets.iter().filter(|t| t.is_well()).collect();
        packs.iter().map(|line| well.iter().any(|target| target.has(line))).collect()
    }

    /// Notes the first failure; everything stops soon after.
    pub fn fail(&self, error: anyhow::Error) {
        lock(&self.failure).get_or_insert(error);
        self.has_failed.store(true, Ordering::Release);
    }

    pub fn has_failed(&self) -> bool {
        self.has_failed.load(Ordering::Acquire)
    }

    /// The failure, if there was one, or that the run was stopped, or that no depot is left.
    pub fn check(&self) -> Result<()> {
        if self.has_failed() {
            let error = lock(&self.failure).take();
            return Err(error.unwrap_or_else(|| anyhow!("the run has failed before")));
        }
        if self.stop.is_stopped() {
            return Err(Failure::new(Exit::Interrupted, "stopped before the end").into());
        }
        if self.targets.iter().all(|target| !target.is_well()) {
            let errors = self.targets.iter().map(|target| {
                let error = lock(&target.error).clone().unwrap_or_default();
                format!("`{}`: {error}", target.depot.name())
            });
            let errors = errors.collect::<Vec<_>>().join("; ");
            let message = format!("no depot can be written to: {errors}");
            return Err(Failure::new(Exit::Failed, message)
                .hint("`backupctl check` looks at each depot")
                .into());
        }
        Ok(())
    }

    /// A new number in the table of packs; an old pack is known at once, a new one when it is
    /// sealed.
    pub fn new_pack(&self, line: Option<PackLine>) -> u32 {
        let mut table = lock(&self.table);
        table.push(line);
        u32::try_from(table.len() - 1).expect("a run has far fewer than 2^32 packs")
    }

    pub fn seal_pack(&self, number: u32, line: PackLine) {
        lock(&self.table)[number as usize] = Some(line);
        self.stored.fetch_add(line.size, Ordering::Relaxed);
    }

    /// The whole table, when all packs are sealed.
    pub fn pack_table(&self) -> Result<Vec<PackLine>> {
        let table = lock(&self.table);
        table.iter().copied().collect::<Option<_>>().context("a pack was not sealed")
    }

    pub fn spare_payload(&self) -> Vec<u8> {
        self.spares.1.try_recv().unwrap_or_else(|_| Vec::with_capacity(self.pack_bytes))
    }

    pub fn give_back(&self, mut payload: Vec<u8>) {
        payload.clear();
        drop(self.spares.0.try_send(payload)); // With enough spares it is freed.
    }
}

/// The threads of a run and the channels into them.
pub struct Stages {
    shared: Arc<Shared>,
    work: Option<Sender<Batch>>,
    free: Receiver<Batch>,
    next_batch: u64,
    threads: Vec<JoinHandle<()>>,
    collector: Option<JoinHandle<Option<Collected>>>,
}

/// Runs a stage; its error, or its panic, is the run's.
fn stage<T>(shared: &Arc<Shared>, run: impl FnOnce() -> Result<T>) -> Option<T> {
    struct OnPanic<'a>(&'a Shared);
    impl Drop for OnPanic<'_> {
        fn drop(&mut self) {
            if std::thread::panicking() {
                self.0.fail(anyhow!("a thread of the writer panicked: this is a bug"));
            }
        }
    }
    let guard = OnPanic(shared);
    let result = run().map_err(|error| shared.fail(error)).ok();
    drop(guard);
    result
}

/// A stage that leaves nothing behind.
fn finish_stage(shared: &Arc<Shared>, run: impl FnOnce() -> Result<()>) {
    let _: Option<()> = stage(shared, run);
}

fn spawn<T: Send + 'static>(
    name: &str,
    run: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>> {
    std::thread::Builder::new().name(name.to_owned()).spawn(run).context("start thread")
}

pub fn spool_file(dir: &Path, name: &str) -> Result<File> {
    let path = dir.join(name);
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&path)
        .with_context(|| format!("create `{}`", path.display()))
}

impl Stages {
    /// Starts all threads.
    pub fn start(
        shared: &Arc<Shared>,
        options: &WriterOptions,
        old: Option<Arc<Cache>>,
    ) -> Result<Self> {
        let workers = options.tuning.workers.max(1);
        let batches = workers * 2 + 3;
        let (work, work_out) = bounded(batches);
        let (done, done_out) = bounded(batches);
        let (free_in, free) = bounded(batches);
        let (packs, packs_out) = bounded(1);
        for _ in 0..batches {
            free_in.send(Batch::default()).expect("there is room for all batches");
        }
        let mut threads = Vec::new();
        for _ in 0..workers {
            let (shared, key, level) = (shared.clone(), options.key.clone(), options.tuning.level);
            let (input, output) = (work_out.clone(), done.clone());
            let work = move || compress::work(&key, level, &input, &output);
            threads.push(spawn("compress", move || finish_stage(&shared, work))?);
        }
        drop(done);
        let body = spool_file(&options.state_dir, BODY_FILE)?;
        let cache = CacheWriter::create(&options.state_dir)?;
        let pack_bytes = options.tuning.pack_bytes;
        let wiring = Wiring {
            shared: shared.clone(),
            old,
            input: done_out,
            free: free_in,
            packs,
            pack_bytes,
        };
        let for_stage = shared.clone();
        let collector =
            spawn("collect", move || stage(&for_stage, || collect(wiring, body, cache)))?;
        threads.append(&mut Self::start_shipping(shared, options, &packs_out)?);
        let shared = shared.clone();
        Ok(Self {
            shared,
            work: Some(work),
            free,
            next_batch: 0,
            threads,
            collector: Some(collector),
        })
    }

    fn start_shipping(
        shared: &Arc<Shared>,
        options: &WriterOptions,
        packs: &Receiver<FullPack>,
    ) -> Result<Vec<JoinHandle<()>>> {
        let mut threads = Vec::new();
        let mut targets = Vec::new();
        for index in 0..shared.targets.len() {
            let (send, receive) = bounded(SEALED_MAX);
            targets.push(send);
            for _ in 0..options.tuning.shippers.max(1) {
                let (shared, receive) = (shared.clone(), receive.clone());
                let run = move || {
                    finish_stage(&shared, || {
                        ship::ship(&shared, index, &receive);
                        Ok(())
                    });
                };
                threads.push(spawn("ship", run)?);
            }
        }
        let (buffers, buffers_out) = bounded(SEALED_MAX);
        for _ in 0..SEALED_MAX {
            buffers.send(Vec::new()).expect("there is room for all buffers");
        }
        for _ in 0..SEALERS {
            let sealer = ship::Sealer {
                shared: shared.clone(),
                recipients: options.recipients.clone(),
                input: packs.clone(),
                targets: targets.clone(),
                buffers: (buffers.clone(), buffers_out.clone()),
            };
            let shared = shared.clone();
            threads.push(spawn("seal", move || finish_stage(&shared, || sealer.seal_all()))?);
        }
        Ok(threads)
    }

    /// An empty batch, as soon as there is one.
    pub fn free_batch(&mut self, shared: &Shared) -> Result<Batch> {
        loop {
            match self.free.recv_timeout(LOOK_EVERY) {
                Ok(mut batch) => {
                    batch.number = self.next_batch;
                    self.next_batch += 1;
                    return Ok(batch);
                }
                Err(RecvTimeoutError::Timeout) => shared.check()?,
                Err(RecvTimeoutError::Disconnected) => return Err(ended(shared)),
            }
        }
    }

    /// Hands a batch to the workers.
    pub fn send(&mut self, shared: &Shared, mut batch: Batch) -> Result<()> {
        shared.check()?;
        let work = self.work.as_ref().context("the writer has ended")?;
        loop {
            match work.send_timeout(batch, LOOK_EVERY) {
                Ok(()) => return Ok(()),
                Err(SendTimeoutError::Timeout(back)) => {
                    shared.check()?;
                    batch = back;
                }
                Err(SendTimeoutError::Disconnected(_)) => return Err(ended(shared)),
            }
        }
    }

    /// Ends the feed and waits for all threads; what the collector has left, unless something
    /// failed.
    pub fn join(&mut self, shared: &Shared) -> Result<Collected> {
        self.work = None;
        let collector = self.collector.take().context("the writer has ended")?;
        let collected = collector.join().ok().flatten();
        for thread in self.threads.drain(..) {
            drop(thread.join()); // A panic is noted by its stage.
        }
        shared.check()?;
        collected.context("the collector has failed")
    }
}

impl Drop for Stages {
    /// Ends an abandoned run: nothing is committed, all threads are gone when it returns.
    fn drop(&mut self) {
        if self.collector.is_some() {
            self.shared.fail(anyhow!("the run was abandoned"));
        }
        self.work = None;
        drop(self.collector.take().map(JoinHandle::join));
        for thread in self.threads.drain(..) {
            drop(thread.join());
        }
    }
}

fn ended(shared: &Shared) -> anyhow::Error {
    shared.check().err().unwrap_or_else(|| anyhow!("a stage of the writer has ended early"))
}
