//! Proving that what a snapshot needs is there: without any key by checksums, with an identity
//! block by block.
//!
//! Nothing is written. What is damaged is named, with the snapshots or files that it hurts, and the
//! rest is still looked at.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use chassis::progress::Progress;
use chassis::retry::Stop;
use chassis::share::share;
use serde::Serialize;

use crate::block::{BlockKey, Cuts};
use crate::crypt::Identities;
use crate::depot::{Depot, is_outage};
use crate::manifest::{Entry, PackLine};
use crate::names::{PackId, SnapshotId};
use crate::reader::{BlockDecoder, PackReader, SnapshotReader};

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

/// Looks at the snapshots given and at all that they build on, without any key. Packs that several
/// need are read once.
///
/// Fails if the depot is out of reach: that says nothing about what is in it.
pub fn verify(
    depot: &Depot,
    ids: &[SnapshotId],
    depth: Depth,
    progress: &Progress,
    stop: &Stop,
) -> Result<Verified> {
    let mut verified = Verified::default();
    let mut needed: BTreeMap<PackKey, BTreeSet<SnapshotId>> = BTreeMap::new();
    let mut open = ids.to_vec();
    let mut seen = BTreeSet::new();
    while let Some(id) = open.pop() {
        if !seen.insert(id.clone()) {
            continue;
        }
        let finding = |object: String, error: &anyhow::Error| Finding {
            object,
            what: format!("{error:#}"),
            hurts: vec![id.to_string()],
        };
        let needs = match depot.needs(&id) {
            Ok(needs) => needs,
            Err(error) if is_outage(&error) => return Err(error),
            Err(error) => {
                verified.findings.push(finding(id.needs_object(), &error));
                continue;
            }
        };
        let (sum, size) = needs.manifest;
        let sum = (depth == Depth::Checksums).then_some(sum);
        match depot.find(&id.manifest_object(), Some(size), sum) {
            Ok(_) => {}
            Err(error) if is_outage(&error) => return Err(error),
            Err(error) => verified.findings.push(finding(id.manifest_object(), &error)),
        }
        open.extend(needs.parent.clone());
        for line in needs.packs {
            needed.entry(PackKey(line)).or_default().insert(id.clone());
        }
    }
    verified.snapshots = seen.len() as u64;
    verify_packs(depot, needed, depth, &mut verified, progress, stop)?;
    verified.findings.sort();
    Ok(verified)
}

fn verify_packs(
    depot: &Depot,
    needed: BTreeMap<PackKey, BTreeSet<SnapshotId>>,
    depth: Depth,
    verified: &mut Verified,
    progress: &Progress,
    stop: &Stop,
) -> Result<()> {
    let listed: BTreeSet<(PackId, u64)> =
        depot.list_packs()?.into_iter().map(|(pack, info)| (pack, info.size)).collect();
    let packs: Vec<(PackKey, BTreeSet<SnapshotId>)> = needed.into_iter().collect();
    let bytes: u64 = packs.iter().map(|(key, _)| key.0.size).sum();
    progress.begin("verify", bytes);
    let check = |buffer: &mut Vec<u8>, (PackKey(line), ids): &(PackKey, BTreeSet<SnapshotId>)| {
        let object = line.pack.pack_object();
        let found = match depth {
            Depth::Presence if listed.contains(&(line.pack, line.size)) => Ok(()),
            Depth::Presence => depot.find(&object, Some(line.size), None).map(drop),
            Depth::Checksums => depot.get_into(&object, Some(line.size), Some(line.pack), buffer),
        };
        progress.add_bytes(line.size);
        let hurts = || ids.iter().map(ToString::to_string).collect();
        match found {
            Ok(()) => Ok(None),
            Err(error) if is_outage(&error) => Err(error),
            Err(error) => Ok(Some(Finding { object, what: format!("{error:#}"), hurts: hurts() })),
        }
    };
    let findings = share(THREADS, &packs, stop, || Ok(Vec::new()), check)?;
    verified.packs = packs.len() as u64;
    if depth == Depth::Checksums {
        verified.bytes = bytes;
    }
    verified.findings.extend(findings.into_iter().flatten());
    Ok(())
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
    let (mut wanted, paths, mut findings) = read_wanted(&mut reader, id)?;
    findings.extend(compare_with_needs(depot, id, &reader));
    wanted.sort_unstable_by_key(|block| (block.pack, block.offset));
    let groups: Vec<&[Wanted]> = wanted.chunk_by(|a, b| a.pack == b.pack).collect();
    let packs = reader.packs();
    progress.begin("verify", packs.iter().map(|line| line.size).sum());
    let key = BlockKey(reader.head().key);
    let state = || {
        let decoder = BlockDecoder::new(key.clone())?;
        Ok((PackReader::new(depot, identities), decoder))
    };
    let check = |(reader, decoder): &mut (PackReader<'_>, BlockDecoder), group: &&[Wanted]| {
        let found = check_pack(reader, decoder, packs, group, &paths)?;
        progress.add_bytes(packs.get(group[0].pack as usize).map_or(0, |line| line.size));
        Ok(found)
    };
    findings.extend(share(THREADS, &groups, stop, state, check)?.into_iter().flatten());
    findings.sort();
    Ok(Verified {
        snapshots: 1,
        packs: groups.len() as u64,
        blocks: wanted.len() as u64,
        bytes: packs.iter().map(|line| line.size).sum(),
        findings,
    })
}

/// The keeper goes by the needs list: one that names less than the manifest would let it take what
/// is needed.
fn compare_with_needs(
    depot: &Depot,
    id: &SnapshotId,
    reader: &SnapshotReader<'_>,
) -> Option<Finding> {
    let finding =
        |what: String| Finding { object: id.needs_object(), what, hurts: vec![id.to_string()] };
    let needs = match depot.needs(id) {
        Ok(needs) => needs,
        Err(error) => return Some(finding(format!("{error:#}"))),
    };
    let named: BTreeSet<PackKey> = needs.packs.into_iter().map(PackKey).collect();
    let missing = reader.packs().iter().find(|line| !named.contains(&PackKey(**line)))?;
    Some(finding(format!("it does not name pack {}", missing.pack)))
}

type Contents = (Vec<Wanted>, Vec<String>, Vec<Finding>);

fn read_wanted(reader: &mut SnapshotReader<'_>, id: &SnapshotId) -> Result<Contents> {
    let cuts = reader.head().cuts.clone();
    let mut findings = Vec::new();
    let mut wanted = Vec::new();
    let mut paths = Vec::new();
    while let Some(entry) = reader.next_entry()? {
        let path = entry.path.lossy().into_owned();
        if let Err(error) = add_wanted(&cuts, &entry, paths.len() as u32, &mut wanted) {
            let (object, what) = (id.manifest_object(), format!("{error:#}"));
            findings.push(Finding { object, what, hurts: vec![path.clone()] });
        }
        paths.push(path);
    }
    Ok((wanted, paths, findings))
}

fn add_wanted(cuts: &Cuts, entry: &Entry, file: u32, wanted: &mut Vec<Wanted>) -> Result<()> {
    for piece in entry.pieces(cuts) {
        let piece = piece?;
        let Some(block) = piece.stored else { continue };
        let (pack, offset, stored, name, length) =
            (block.pack, block.offset, block.stored, block.name, piece.length as u32);
        wanted.push(Wanted { pack, offset, stored, length, file, name });
    }
    Ok(())
}

fn check_pack(
    reader: &mut PackReader<'_>,
    decoder: &mut BlockDecoder,
    packs: &[PackLine],
    group: &[Wanted],
    paths: &[String],
) -> Result<Option<Finding>> {
    let number = group[0].pack;
    let hurts = || names(group.iter(), paths);
    let Some(line) = packs.get(number as usize) else {
        let what = "the manifest names no such pack".to_owned();
        let object = format!("pack number {number}");
        return Ok(Some(Finding { object, what, hurts: hurts() }));
    };
    let object = line.pack.pack_object();
    let payload = match reader.open(line) {
        Ok(payload) => payload,
        Err(error) if is_outage(&error) => return Err(error),
        Err(error) => {
            let what = format!("{error:#}");
            return Ok(Some(Finding { object, what, hurts: hurts() }));
        }
    };
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
    Ok(what.map(|what| Finding { object, what, hurts }))
}

fn names<'a>(blocks: impl Iterator<Item = &'a Wanted>, paths: &[String]) -> Vec<String> {
    let files: BTreeSet<u32> = blocks.map(|block| block.file).collect();
    files.iter().take(HURTS_MAX).map(|file| paths[*file as usize].clone()).collect()
}
