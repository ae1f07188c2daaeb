//! Packs become files: each worker fetches a pack, decrypts it, decodes its blocks and writes them to their places.
//!
//! A pack of which little is needed is fetched in parts. Nothing waits for anything else: with a worker or two
//! more than cores, one fetches while another decodes. A worker holds one pack, at most twice 32 MiB, and a
//! few open files.
//!
//! Errors of the depot's content are damage: with `keep_going` they are noted with the files that they hurt,
//! and what can be had of a damaged pack is still restored, 64 KiB by 64 KiB. Errors of writing are errors.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::fs::FileExt;

use anyhow::{Context, Result, ensure};
use chassis::failure::{Exit, Failure};
use chassis::progress::Progress;
use chassis::retry::Stop;
use depot::block::BlockKey;
use depot::crypt::Identities;
use depot::depot::{Depot, is_outage};
use depot::manifest::PackLine;
use depot::names::PackId;
use depot::reader::{BlockDecoder, PackReader};
use serde::{Deserialize, Serialize};

use crate::beneath::Beneath;
use crate::share::share;
use crate::tree::{Block, Tree};

/// Files that one worker keeps open.
const OPEN_FILES_MAX: usize = 16;
/// Parts of a pack nearer than this are fetched as one.
const GAP_BYTES: u64 = 64 << 10;
/// Damaged files that a message names.
const NAMES_MAX: usize = 10;

/// What fetching needs.
#[derive(Clone, Copy, Debug)]
pub struct Fetch<'a> {
    /// Where the packs are.
    pub depot: &'a Depot,
    /// What opens them.
    pub identities: &'a Identities,
    /// What to fetch.
    pub tree: &'a Tree,
    /// Where to.
    pub root: &'a Beneath,
    /// Threads.
    pub workers: usize,
    /// Whether damage is noted and the rest restored.
    pub keep_going: bool,
    /// To stop early.
    pub stop: &'a Stop,
    /// Counts bytes of content written.
    pub progress: &'a Progress,
}

/// A pack that could not be used, wholly or in part.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Damage {
    /// Its name.
    pub pack: PackId,
    /// What is wrong.
    pub what: String,
    /// The files that are not whole because of it.
    pub files: Vec<String>,
}

impl Damage {
    /// In one line.
    pub fn summary(&self) -> String {
        format!("pack {}: {}{}", self.pack, self.what, hurt(&self.files))
    }

    fn refusal(&self) -> Failure {
        Failure::new(Exit::Failed, self.summary())
            .hint("restore the rest with --keep-going, or take it from another depot or backup")
    }
}

/// The files that something hurts, as the end of a sentence; nothing if none are known.
pub fn hurt(files: &[String]) -> String {
    let shown = &files[..files.len().min(NAMES_MAX)];
    match files.len() - shown.len() {
        _ if files.is_empty() => String::new(),
        0 => format!("; it hurts {}", shown.join(", ")),
        more => format!("; it hurts {} and {more} more files", shown.join(", ")),
    }
}

/// Fetches all blocks of the tree, which are sorted by pack for it; returns the damage that was met.
pub fn fetch(fetch: Fetch<'_>) -> Result<Vec<Damage>> {
    let blocks = &fetch.tree.blocks;
    assert!(blocks.is_sorted_by_key(|b| (b.pack, b.offset)), "blocks are sorted by pack");
    let packs: Vec<&[Block]> = blocks.chunk_by(|a, b| a.pack == b.pack).collect();
    let worker = || Worker::new(fetch);
    let damage =
        share(fetch.workers, &packs, fetch.stop, worker, |worker, blocks| worker.restore(blocks))?;
    Ok(damage.into_iter().flatten().collect())
}

/// Sorts blocks as [`fetch()`] wants them.
pub fn sort_by_pack(tree: &mut Tree) {
    tree.blocks.sort_unstable_by_key(|block| (block.pack, block.offset, block.file, block.at));
}

/// A part of a pack's payload, and where it begins in it.
struct Part<'p> {
    offset: u64,
    bytes: Cow<'p, [u8]>,
}

struct Worker<'a> {
    packs: PackReader<'a>,
    output: Output<'a>,
}

impl<'a> Worker<'a> {
    fn new(fetch: Fetch<'a>) -> Result<Self> {
        let decoder = BlockDecoder::new(BlockKey(fetch.tree.head.key))?;
        let files = OpenFiles { root: fetch.root, tree: fetch.tree, open: Vec::new() };
        let packs = PackReader::new(fetch.depot, fetch.identities);
        Ok(Self { packs, output: Output { fetch, decoder, files } })
    }

    /// Restores the blocks of one pack. Damage is an error unless it shall be kept going.
    fn restore(&mut self, blocks: &[Block]) -> Result<Option<Damage>> {
        let Self { packs, output } = self;
        let Fetch { tree, keep_going, .. } = output.fetch;
        let pack = &tree.packs[blocks[0].pack as usize];
        let damage = match open(packs, blocks, pack) {
            Ok(parts) => output.write(blocks, &parts)?,
            Err(error) if is_outage(&error) => return Err(error),
            Err(error) if keep_going => salvage(packs, output, blocks, &error)?,
            Err(error) => Some(output.damage(blocks, &error)),
        };
        output.fetch.progress.add_items(1);
        match damage {
            Some(damage) if !keep_going => Err(damage.refusal().into()),
            damage => Ok(damage),
        }
    }
}

/// Opens what is needed of a pack.
fn open<'p>(
    packs: &'p mut PackReader<'_>,
    blocks: &[Block],
    pack: &PackLine,
) -> Result<Vec<Part<'p>>> {
    let How::Parts(spans) = how(blocks, pack) else {
        return Ok(vec![Part { offset: 0, bytes: packs.open(pack)?.into() }]);
    };
    let parts = packs.open_parts(pack, &spans)?.into_iter().zip(spans);
    Ok(parts
        .map(|(bytes, (offset, _))| Part { offset: offset.into(), bytes: bytes.into() })
        .collect())
}

/// Takes the blocks of a damaged pack that can still be read, one by one.
fn salvage(
    packs: &PackReader<'_>,
    output: &mut Output<'_>,
    blocks: &[Block],
    whole: &anyhow::Error,
) -> Result<Option<Damage>> {
    let mut hurt = Vec::new();
    for same in blocks.chunk_by(|a, b| a.offset == b.offset) {
        crate::share::check_stop(output.fetch.stop)?;
        let length = same.iter().map(|b| b.stored).max().unwrap_or_default();
        let part = packs.salvage((same[0].offset, length)).ok();
        let part = part.map(|bytes| Part { offset: same[0].offset.into(), bytes: bytes.into() });
        if output.write(same, part.as_slice())?.is_some() {
            hurt.extend_from_slice(same);
        }
    }
    Ok((!hurt.is_empty()).then(|| output.damage(&hurt, whole)))
}

/// Where blocks go.
struct Output<'a> {
    fetch: Fetch<'a>,
    decoder: BlockDecoder,
    files: OpenFiles<'a>,
}

impl Output<'_> {
    /// Decodes and writes blocks; the ones that cannot be decoded are damage.
    fn write(&mut self, blocks: &[Block], parts: &[Part<'_>]) -> Result<Option<Damage>> {
        let Fetch { tree, progress, .. } = self.fetch;
        let mut lost: Option<(anyhow::Error, Vec<Block>)> = None;
        for same in
            blocks.chunk_by(|a, b| (a.offset, a.stored, a.name) == (b.offset, b.stored, b.name))
        {
            let length = tree.length(&same[0]);
            let decoded = slice(parts, &same[0])
                .context("a block is outside of the pack")
                .and_then(|stored| self.decoder.decode(stored, &same[0].name, length as usize));
            let content = match decoded {
                Ok(content) => content,
                Err(error) => {
                    lost.get_or_insert((error, Vec::new())).1.extend_from_slice(same);
                    continue;
                }
            };
            for block in same {
                ensure!(tree.length(block) == length, "one block has two lengths");
                self.files.write(block, content)?;
                progress.add_bytes(length);
            }
        }
        Ok(lost.map(|(error, blocks)| self.damage(&blocks, &error)))
    }

    fn damage(&self, blocks: &[Block], error: &anyhow::Error) -> Damage {
        let tree = self.fetch.tree;
        let pack = tree.packs[blocks[0].pack as usize].pack;
        Damage { pack, what: format!("{error:#}"), files: files_of(tree, blocks) }
    }
}

/// The files that blocks belong to, for people.
pub fn files_of(tree: &Tree, blocks: &[Block]) -> Vec<String> {
    let files: BTreeSet<u32> = blocks.iter().map(|block| block.file).collect();
    files.into_iter().map(|file| tree.path_of(file).display().to_string()).collect()
}

/// How a pack is fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum How {
    /// All of it at once.
    Whole,
    /// These parts of its payload: offset and length.
    Parts(Vec<(u32, u32)>),
}

/// How to fetch these blocks of a pack, which are sorted by offset: in parts if they are less than half of it.
pub fn how(blocks: &[Block], pack: &PackLine) -> How {
    let spans = spans(blocks);
    let needed: u64 = spans.iter().map(|(_, length)| u64::from(*length) + GAP_BYTES).sum();
    if needed > pack.size / 2 { How::Whole } else { How::Parts(spans) }
}

/// The parts of a payload that hold these blocks, which are sorted by offset.
fn spans(blocks: &[Block]) -> Vec<(u32, u32)> {
    let mut spans: Vec<(u64, u64)> = Vec::new();
    for block in blocks {
        let (start, end) =
            (u64::from(block.offset), u64::from(block.offset) + u64::from(block.stored));
        match spans.last_mut() {
            Some((_, last)) if start <= *last + GAP_BYTES => *last = end.max(*last),
            _ => spans.push((start, end)),
        }
    }
    let clip = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
    spans.into_iter().map(|(start, end)| (clip(start), clip(end - start))).collect()
}

fn slice<'p>(parts: &'p [Part<'_>], block: &Block) -> Option<&'p [u8]> {
    let offset = u64::from(block.offset);
    let after = parts.partition_point(|part| part.offset <= offset);
    let part = parts.get(after.checked_sub(1)?)?;
    let from = (offset - part.offset) as usize;
    part.bytes.get(from..from.checked_add(block.stored as usize)?)
}

/// The files that a worker writes to, the latest first.
struct OpenFiles<'a> {
    root: &'a Beneath,
    tree: &'a Tree,
    open: Vec<(u32, File)>,
}

impl OpenFiles<'_> {
    fn write(&mut self, block: &Block, content: &[u8]) -> Result<()> {
        let path = self.tree.path_of(block.file);
        let written = self.file(block.file).and_then(|file| file.write_all_at(content, block.at));
        written.map_err(|error| write_failure(error, &self.root.full(path)))
    }

    fn file(&mut self, number: u32) -> std::io::Result<&File> {
        match self.open.iter().position(|(known, _)| *known == number) {
            Some(0) => {}
            Some(at) => self.open[..=at].rotate_right(1),
            None => {
                let file = self.root.create(self.tree.path_of(number))?;
                self.open.truncate(OPEN_FILES_MAX - 1);
                self.open.insert(0, (number, file));
            }
        }
        Ok(&self.open[0].1)
    }
}

/// An error of writing, with advice.
pub fn write_failure(error: std::io::Error, path: &std::path::Path) -> anyhow::Error {
    use std::io::ErrorKind;
    let message = format!("write {}", path.display());
    let hint = match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            "free space on the target's disk; the same command goes on where this one stopped"
        }
        ErrorKind::PermissionDenied => "run as root, or name a target that is yours",
        ErrorKind::ReadOnlyFilesystem => "mount the target for writing, or name another",
        _ => return anyhow::Error::new(error).context(message),
    };
    Failure::new(Exit::Failed, message).hint(hint).because(error).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(offset: u32, stored: u32) -> Block {
        Block { at: 0, file: 0, pack: 0, offset, stored, name: [0; 24] }
    }

    #[test]
    fn near_blocks_are_fetched_together_and_far_ones_apart() {
        let blocks = [block(0, 10), block(5, 2), block(100, 50), block(1_000_000, 7)];
        assert_eq!(spans(&blocks), [(0, 150), (1_000_000, 7)]);
        assert!(spans(&[]).is_empty());
    }

    #[test]
    fn a_block_outside_of_what_was_fetched_is_none() {
        let parts =
            [(10, 1), (100, 2)].map(|(offset, n)| Part { offset, bytes: vec![n; 10].into() });
        assert_eq!(slice(&parts, &block(12, 3)), Some(&[1, 1, 1][..]));
        assert_eq!(slice(&parts, &block(100, 10)), Some(&[2; 10][..]));
        for (offset, stored) in [(0, 1), (9, 1), (15, 6), (109, 2), (u32::MAX, u32::MAX)] {
            assert!(slice(&parts, &block(offset, stored)).is_none(), "{offset} {stored}");
        }
    }
}
