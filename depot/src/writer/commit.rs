//! The end of a run: packs that a depot had missed, the needs list, then the manifest. The order is
//! a promise.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use chassis::failure::{Exit, Failure};
use chrono::Utc;

use super::collect::Collected;
use super::shared::{BODY_FILE, Target, lock, spool_file};
use super::{CACHE_FILE, DepotOutcome, Report, SnapshotWriter, fingerprint};
use crate::crypt::Recipients;
use crate::manifest::{FORMAT_VERSION, Head, Line, PackLine, SnapshotState, Totals, write_line};
use crate::names::{Sha256, SnapshotId};
use crate::needs::Needs;
use crate::store::Body;

/// A run may not last longer: the keeper may take what it refers to 72 hours after it condemned it.
const RUN_MAX: Duration = Duration::from_hours(48);
const MANIFEST_FILE: &str = "manifest.spool";
const COPY_FILE: &str = "copy.spool";

/// What is put into every depot.
struct Commit {
    id: SnapshotId,
    needs: Needs,
    manifest: PathBuf,
}

impl SnapshotWriter {
    /// Commits the snapshot to every depot that is well. `positions` is what a database backup has
    /// to say.
    ///
    /// It fails if no depot has the snapshot in the end; then nothing is committed anywhere.
    pub fn finish(mut self, positions: Option<serde_json::Value>) -> Result<Report> {
        ensure!(self.open.is_empty(), "a file was not closed: this is a bug");
        self.send_batch()?;
        let collected = self.stages.join(&self.shared)?;
        self.check_age()?;
        let packs = self.shared.pack_table()?;
        let totals = Totals {
            entries: collected.entries,
            bytes: collected.bytes,
            stored: self.shared.stored.load(Ordering::Relaxed),
        };
        let head = self.head(positions);
        let state = head.state;
        let commit = self.write_manifest(head, &packs, totals, &collected)?;
        let depots = self.commit_all(&commit);
        if depots.iter().all(|depot| depot.error.is_some()) {
            self.shared.check()?;
        }
        let cache = self.options.state_dir.join(CACHE_FILE);
        let fingerprint = fingerprint(&self.options);
        // The snapshot is committed: without the cache the next one is a full upload, nothing
        // worse.
        if let Err(error) = collected.cache.finish(&cache, &self.options.id, &fingerprint, &packs) {
            tracing::warn!("keep cache of this run: {error:#}");
        }
        for name in [BODY_FILE, MANIFEST_FILE, COPY_FILE] {
            drop(std::fs::remove_file(self.options.state_dir.join(name)));
        }
        Ok(Report {
            id: self.options.id.clone(),
            state,
            totals,
            depots,
            problems: std::mem::take(&mut self.problems),
            seconds: self.clock.elapsed().as_secs_f64(),
        })
    }

    /// A run that is too old may refer to packs that the keeper takes. Both clocks count: one
    /// stands still while a machine is suspended, the other may be set back.
    fn check_age(&self) -> Result<()> {
        let by_calendar = (Utc::now() - self.started).to_std().unwrap_or_default();
        ensure!(
            self.clock.elapsed().max(by_calendar) < RUN_MAX,
            Failure::new(Exit::Failed, "the run took longer than 48 hours")
                .hint("split the job, or lift its bandwidth limit")
        );
        Ok(())
    }

    fn head(&self, positions: Option<serde_json::Value>) -> Head {
        let options = &self.options;
        let is_complete = self.problems.is_empty();
        Head {
            holdfast: FORMAT_VERSION,
            id: options.id.clone(),
            job: options.id.job.clone(),
            host: options.id.host.clone(),
            kind: options.kind,
            started: self.started,
            ended: Utc::now(),
            state: if is_complete { SnapshotState::Complete } else { SnapshotState::Partial },
            parent: options.parent.clone(),
            cuts: options.tuning.cuts.clone(),
            key: options.key.0,
            program: options.program.clone(),
            root: options.root.clone(),
            positions,
            problems: self.problems.clone(),
        }
    }

    fn write_manifest(
        &self,
        head: Head,
        packs: &[PackLine],
        totals: Totals,
        collected: &Collected,
    ) -> Result<Commit> {
        let (kind, state, parent) = (head.kind, head.state, head.parent.clone());
        let dir = &self.options.state_dir;
        let manifest =
            write_spool(dir, &self.options.recipients, head, packs, totals, &collected.body)
                .context("write manifest")?;
        let mut packs = packs.to_vec();
        packs.sort_unstable_by_key(|line| line.pack);
        packs.dedup();
        let needs = Needs {
            kind,
            state,
            parent,
            bytes: totals.bytes,
            stored: totals.stored,
            manifest,
            packs,
        };
        Ok(Commit { id: self.options.id.clone(), needs, manifest: dir.join(MANIFEST_FILE) })
    }

    fn commit_all(&self, commit: &Commit) -> Vec<DepotOutcome> {
        let mut outcomes = Vec::new();
        for target in &self.shared.targets {
            let mut caught_up = 0;
            if target.is_well() {
                // Earlier ones first, so that they arrive in their order.
                caught_up = self.catch_up(target, commit);
                self.commit_one(target, commit).unwrap_or_else(|error| target.fail(&error));
            }
            let (name, error) = (target.depot.name().to_owned(), lock(&target.error).clone());
            outcomes.push(DepotOutcome { name, error, caught_up });
        }
        outcomes
    }

    fn commit_one(&self, target: &Target, commit: &Commit) -> Result<()> {
        self.shared.check()?;
        self.bring_packs(target, &commit.needs.packs)?;
        let text = commit.needs.to_text();
        let sum = Sha256::of(text.as_bytes());
        let body = Body::Bytes(text.as_bytes());
        target.depot.put(&commit.id.needs_object(), body, text.len() as u64, sum)?;
        self.shared.check()?;
        self.check_age()?;
        let (sum, size) = commit.needs.manifest;
        target.depot.put(&commit.id.manifest_object(), Body::File(&commit.manifest), size, sum)
    }

    /// Copies packs that this depot lacks from another that has them. They are the same bytes
    /// everywhere.
    fn bring_packs(&self, target: &Target, packs: &[PackLine]) -> Result<()> {
        for line in packs {
            if target.has(line) {
                continue;
            }
            self.shared.check()?;
            let bytes = self.find_pack(target, line)?;
            let (object, body) = (line.pack.pack_object(), Body::Bytes(&bytes));
            if lock(&target.condemned).contains(&line.pack) {
                target.depot.put_anew(&object, body)?;
            } else {
                target.depot.put(&object, body, line.size, line.pack)?;
            }
            lock(&target.packs).insert(line.pack, line.size);
        }
        Ok(())
    }

    fn find_pack(&self, except: &Target, line: &PackLine) -> Result<Vec<u8>> {
        let object = line.pack.pack_object();
        let mut problem = None;
        for other in self.shared.targets.iter().filter(|t| t.depot.id() != except.depot.id()) {
            if !other.has(line) {
                continue;
            }
            match other.depot.get(&object, Some(line.size), Some(line.pack)) {
                Ok(bytes) => return Ok(bytes),
                Err(error) => problem = Some(error),
            }
        }
        let missing = || anyhow::anyhow!("no depot has pack {}", line.pack);
        Err(problem.unwrap_or_else(missing)).context("bring a pack that this depot has missed")
    }

    /// Brings earlier snapshots of this job and host that the depot missed: those after its own
    /// last one. What fails here is only a warning, since the new snapshot is there.
    fn catch_up(&self, target: &Target, commit: &Commit) -> u64 {
        let mut count = 0;
        for source in &self.shared.targets {
            if source.depot.id() == target.depot.id() || !source.is_well() {
                continue;
            }
            let missed = Self::missed(source, target, commit).and_then(|missed| {
                missed.iter().try_for_each(|id| {
                    self.copy_snapshot(source, target, id)?;
                    count += 1;
                    Ok(())
                })
            });
            if let Err(error) = missed {
                tracing::warn!(depot = target.depot.name(), "catch up: {error:#}");
            }
        }
        count
    }

    /// What `source` has whole and `target` has not, after the last one that `target` has whole; of a
    /// target that has none, since it was made: what is older was never meant for it.
    fn missed(source: &Target, target: &Target, commit: &Commit) -> Result<Vec<SnapshotId>> {
        let mine = |id: &SnapshotId| {
            id.job == commit.id.job && id.host == commit.id.host && *id < commit.id
        };
        let ids = |target: &Target| -> Result<Vec<SnapshotId>> {
            let snapshots = target.depot.snapshots()?.into_iter().map(|s| s.id);
            Ok(snapshots.filter(mine).collect())
        };
        let have = ids(target)?;
        let last = have.iter().rev().find(|id| target.depot.needs(id).is_ok());
        let created = target.depot.created();
        let is_missed = |id: &SnapshotId| match last {
            Some(last) => id > last,
            None => created.is_some_and(|created| id.time >= created),
        };
        Ok(ids(source)?.into_iter().filter(is_missed).collect())
    }

    fn copy_snapshot(&self, source: &Target, target: &Target, id: &SnapshotId) -> Result<()> {
        let needs = source.depot.needs(id)?;
        self.bring_packs(target, &needs.packs)?;
        let text = needs.to_text();
        let sum = Sha256::of(text.as_bytes());
        let body = Body::Bytes(text.as_bytes());
        target.depot.put(&id.needs_object(), body, text.len() as u64, sum)?;
        let (sum, size) = needs.manifest;
        let found = source.depot.find(&id.manifest_object(), Some(size), Some(sum))?;
        let spool = self.options.state_dir.join(COPY_FILE);
        let mut out = spool_file(&self.options.state_dir, COPY_FILE)?;
        io::copy(&mut source.depot.open_object(&found.name, size), &mut out)
            .context("copy manifest")?;
        target.depot.put(&id.manifest_object(), Body::File(&spool), size, sum)
    }
}

/// Counts and hashes what goes through to a file.
struct Measured {
    out: BufWriter<File>,
    hash: sha2::Sha256,
    size: u64,
}

impl Write for Measured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        use sha2::Digest;
        let count = self.out.write(bytes)?;
        self.hash.update(&bytes[..count]);
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Writes the whole manifest, encrypted, to the spool file: head and packs, the body as it is, the
/// end: three zstd frames.
fn write_spool(
    dir: &Path,
    recipients: &Recipients,
    head: Head,
    packs: &[PackLine],
    totals: Totals,
    body: &File,
) -> Result<(Sha256, u64)> {
    use sha2::Digest;
    let out = BufWriter::with_capacity(1 << 20, spool_file(dir, MANIFEST_FILE)?);
    let measured = Measured { out, hash: sha2::Sha256::new(), size: 0 };
    let mut plain = recipients.encrypt(measured)?;
    let mut frame = zstd::Encoder::new(&mut plain, 3).context("prepare zstd")?;
    write_line(&mut frame, Line::Head(Box::new(head)))?;
    packs.iter().try_for_each(|line| write_line(&mut frame, Line::Pack(*line)))?;
    frame.finish().context("end zstd frame")?;
    let mut body = BufReader::with_capacity(1 << 20, body);
    body.seek(SeekFrom::Start(0)).context("rewind spool file")?;
    io::copy(&mut body.by_ref(), &mut plain).context("copy body")?;
    let mut frame = zstd::Encoder::new(&mut plain, 3).context("prepare zstd")?;
    write_line(&mut frame, Line::End(totals))?;
    frame.finish().context("end zstd frame")?;
    let mut measured = plain.finish().context("end age file")?;
    measured.flush().context("write spool file")?;
    Ok((Sha256(measured.hash.finalize().into()), measured.size))
}
