//! Proving that what a snapshot needs is there: without any key by checksums, with an identity block by block.
//!
//! Nothing is written. What is damaged is named, with the snapshots or files that it hurts, and the rest is still looked at.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Result;
use chassis::failure::{Exit, Failure};
use chassis::progress::Progress;
use chassis::retry::Stop;
use serde::Serialize;

use crate::block::BlockKey;
use crate::crypt::Identities;
use crate::depot::Depot;
use crate::manifest::{BlockRef, Entry, Line, PackLine};
use crate::names::SnapshotId;
use crate::reader::{BlockDecoder, SnapshotReader, open_pack};

const THREADS: usize = 2;

/// How closely to look without a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Everything is there and has its size.
    Presence,
    /// Every stored byte is read and its checksum compared.
    Checksums,
}

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Finding {
    /// The object.
    pub object: String,
    /// What is wrong with it.
    pub what: String,
    /// What it hurts: snapshots, or files of the one that was looked at (at most a hundred).
    pub hurts: Vec<String>,
}

/// What was looked at and found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Verified {
    /// Snapshots looked at.
    pub snapshots: u64,
    /// Packs looked at.
    pub packs: u64,
    /// Blocks looked at (only with an identity).
    pub blocks: u64,
    /// Bytes read.
    pub bytes: u64,
    /// What is wrong; empty if all is well.
    pub findings: Vec<Finding>,
}

/// How many files a finding names.
const HURTS_MAX: usize = 100;

/// Looks at the snapshots given, without any key. Packs that several need are read once.
pub fn verify(
    depot: &Depot,
    ids: &[SnapshotId],
    depth: Depth,
    progress: &Progress,
    stop: &Stop,
) -> Result<Verified> {
    let mut verified = Verified { snapshots: ids.len() as u64, ..Verified::default() };
    let mut needed: BTreeMap<PackKey, BTreeSet<&SnapshotId>> = BTreeMap::new();
    for id in ids {
        let finding = |object: String, error: &anyhow::Error| Finding {
            object,
            what: format!("{error:#}"),
            hurts: vec![id.to_string()],
        };
        let needs = match depot.needs(id) {
            Ok(needs) => needs,
            Err(error) => {
                verified.findings.push(finding(id.needs_object(), &error));
                continue;
            }
        };
        let (sum, size) = needs.manifest;
        let sum = (depth == Depth::Checksums).then_some(sum);
        if let Err(error) = depot.find(&id.manifest_object(), Some(size), sum) {
            verified.findings.push(finding(id.manifest_object(), &error));
        }
        for line in needs.packs {
            needed.entry(PackKey(line)).or_default().insert(id);
        }
    }
    let packs: Vec<(PackKey, BTreeSet<&SnapshotId>)> = needed.into_iter().collect();
    progress.begin("verify", packs.iter().map(|(key, _)| key.0.size).sum());
    let check = |(PackKey(line), ids): &(PackKey, BTreeSet<&SnapshotId>)| {
        let object = line.pack.pack_object();
        let sum = (depth == Depth::Checksums).then_some(line.pack);
        let found = depot.find(&object, Some(line.size), sum);
        progress.add_bytes(line.size);
        let hurts = || ids.iter().map(ToString::to_string).collect();
        found.err().map(|error| Finding { object, what: format!("{error:#}"), hurts: hurts() })
    };
    let findings = in_parallel(&packs, stop, check)?;
    verified.packs = packs.len() as u64;
    if depth == Depth::Checksums {
        verified.bytes = packs.iter().map(|(key, _)| key.0.size).sum();
    }
    verified.findings.extend(findings.into_iter().flatten());
    verified.findings.sort();
    Ok(verified)
}

/// A pack line as a key: ordered by name.
#[derive(Clone, Copy, PartialEq, Eq)]
struct PackKey(PackLine);

impl PartialOrd for PackKey {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for PackKey {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.0.pack, self.0.size).cmp(&(other.0.pack, other.0.size))
    }
}

/// Runs `check` over all items on a few threads.
fn in_parallel<T: Sync, R: Send>(
    items: &[T],
    stop: &Stop,
    check: impl Fn(&T) -> R + Sync,
) -> Result<Vec<R>> {
    let next = AtomicUsize::new(0);
    let results = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                while !stop.is_stopped()
                    && let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed))
                {
                    let result = check(item);
                    results.lock().expect("no holder panics").push(result);
                }
            });
        }
    });
    if stop.is_stopped() {
        return Err(Failure::new(Exit::Interrupted, "stopped before the end").into());
    }
    Ok(results.into_inner().expect("no holder panics"))
}

/// A block that a snapshot needs: 48 bytes each in memory, 16 MB for 20 GB of files.
struct Wanted {
    pack: u32,
    offset: u32,
    stored: u32,
    length: u32,
    file: u32,
    name: [u8; 24],
}

/// Opens the manifest of one snapshot with an identity, and every block that it needs.
pub fn verify_deep(
    depot: &Depot,
    id: &SnapshotId,
    identities: &Identities,
    progress: &Progress,
    stop: &Stop,
) -> Result<Verified> {
    let mut reader = SnapshotReader::open(depot, id, identities)?;
    let (mut wanted, paths) = read_wanted(&mut reader)?;
    wanted.sort_unstable_by_key(|block| (block.pack, block.offset));
    let groups: Vec<&[Wanted]> = wanted.chunk_by(|a, b| a.pack == b.pack).collect();
    let packs = reader.packs();
    progress.begin("verify", packs.iter().map(|line| line.size).sum());
    let key = BlockKey(reader.head().key);
    let check = |group: &&[Wanted]| {
        let found = check_pack(depot, packs, identities, &key, group, &paths);
        progress.add_bytes(packs.get(group[0].pack as usize).map_or(0, |line| line.size));
        found
    };
    let mut findings: Vec<Finding> = in_parallel(&groups, stop, check)?.into_iter().flatten().collect();
    findings.sort();
    Ok(Verified {
        snapshots: 1,
        packs: groups.len() as u64,
        blocks: wanted.len() as u64,
        bytes: packs.iter().map(|line| line.size).sum(),
        findings,
    })
}

fn read_wanted(reader: &mut SnapshotReader<'_>) -> Result<(Vec<Wanted>, Vec<String>)> {
    let mut wanted = Vec::new();
    let mut paths = Vec::new();
    let mut earlier: BTreeMap<u64, Vec<BlockRef>> = BTreeMap::new();
    while let Some(line) = reader.next_line()? {
        match line {
            Line::Blocks { file, mut blocks } => earlier.entry(file).or_default().append(&mut blocks),
            Line::Entry(entry) => {
                let mut refs = entry.file.and_then(|n| earlier.remove(&n)).unwrap_or_default();
                refs.extend(&entry.blocks);
                add_wanted(reader, &entry, &refs, paths.len() as u32, &mut wanted);
                paths.push(entry.path.lossy().into_owned());
            }
            Line::Head(_) | Line::Pack(_) | Line::End(_) => {}
        }
    }
    Ok((wanted, paths))
}

fn add_wanted(
    reader: &SnapshotReader<'_>,
    entry: &Entry,
    refs: &[BlockRef],
    file: u32,
    wanted: &mut Vec<Wanted>,
) {
    let mut places = reader.head().cuts.blocks_of(entry.size);
    for block in refs {
        match block {
            BlockRef::Zeros(count) => drop(places.nth(*count as usize - 1)),
            BlockRef::Stored(block) => {
                let length = places.next().map_or(0, |(_, length)| length as u32);
                let (pack, offset, stored, name) =
                    (block.pack, block.offset, block.stored, block.name);
                wanted.push(Wanted { pack, offset, stored, length, file, name });
            }
        }
    }
}

fn check_pack(
    depot: &Depot,
    packs: &[PackLine],
    identities: &Identities,
    key: &BlockKey,
    group: &[Wanted],
    paths: &[String],
) -> Option<Finding> {
    let number = group[0].pack;
    let Some(line) = packs.get(number as usize) else {
        let what = "the manifest names no such pack".to_owned();
        return Some(Finding { object: format!("pack number {number}"), what, hurts: hurts(group, paths) });
    };
    let object = line.pack.pack_object();
    let payload = match open_pack(depot, line, identities) {
        Ok(payload) => payload,
        Err(error) => {
            let what = format!("{error:#}");
            return Some(Finding { object, what, hurts: hurts(group, paths) });
        }
    };
    let mut decoder = BlockDecoder::new(key.clone()).ok()?;
    let mut bad = Vec::new();
    let mut what = None;
    for (index, block) in group.iter().enumerate() {
        let from = block.offset as usize;
        let stored = payload.get(from..from + block.stored as usize);
        let checked = match stored {
            Some(stored) => decoder.decode(stored, &block.name, block.length as usize).map(drop),
            None => Err(anyhow::anyhow!("block lies outside the pack")),
        };
        if let Err(error) = checked {
            what.get_or_insert(format!("{error:#}"));
            bad.push(&group[index]);
        }
    }
    let hurts = names(bad.into_iter(), paths);
    what.map(|what| Finding { object, what, hurts })
}

fn hurts(group: &[Wanted], paths: &[String]) -> Vec<String> {
    names(group.iter(), paths)
}

fn names<'a>(blocks: impl Iterator<Item = &'a Wanted>, paths: &[String]) -> Vec<String> {
    let files: BTreeSet<u32> = blocks.map(|block| block.file).collect();
    files.iter().take(HURTS_MAX).map(|file| paths[*file as usize].clone()).collect()
}
