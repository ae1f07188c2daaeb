//! The collector: takes batches in their order, fills packs, writes the body of the manifest and
//! the next cache.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::sync::Arc;

use anyhow::{Context, Result};
use crossbeam_channel::{Receiver, Sender};

use super::batch::{Batch, Item, Outcome};
use super::shared::{FullPack, Shared};
use crate::cache::{Cache, CacheWriter, OldBlock, Previous, SEGMENT_BLOCKS, Stamp};
use crate::manifest::{BlockRef, Entry, EntryKind, Line, StoredBlock, write_line};

/// Blocks in one line of a manifest.
const LINE_BLOCKS: usize = 4096;

/// What the collector is connected to.
pub struct Wiring {
    pub shared: Arc<Shared>,
    pub old: Option<Arc<Cache>>,
    pub input: Receiver<Batch>,
    pub free: Sender<Batch>,
    pub packs: Sender<FullPack>,
    pub pack_bytes: usize,
}

/// What it leaves: the open ends of the body and of the cache, and its counts.
pub struct Collected {
    /// The zstd frame of the entries, complete.
    pub body: File,
    /// The next cache, without index yet.
    pub cache: CacheWriter,
    pub entries: u64,
    pub bytes: u64,
}

#[derive(Default)]
struct FileState {
    refs: Vec<BlockRef>,
    has_lines: bool,
    segments: Vec<u64>,
    cached: Vec<OldBlock>,
}

struct Collector {
    wiring: Wiring,
    body: zstd::Encoder<'static, BufWriter<File>>,
    cache: CacheWriter,
    files: HashMap<u64, FileState>,
    pack: Option<FullPack>,
    /// The numbers that old packs have in this manifest.
    old_numbers: Vec<Option<u32>>,
    entries: u64,
    bytes: u64,
}

/// Collects until there are no more batches.
pub fn collect(wiring: Wiring, body: File, cache: CacheWriter) -> Result<Collected> {
    let body =
        zstd::Encoder::new(BufWriter::with_capacity(1 << 20, body), 3).context("prepare zstd")?;
    let old_packs = wiring.old.as_ref().map_or(0, |old| old.packs.len());
    let mut collector = Collector {
        pack: None,
        wiring,
        body,
        cache,
        files: HashMap::new(),
        old_numbers: vec![None; old_packs],
        entries: 0,
        bytes: 0,
    };
    let mut waiting = BTreeMap::new();
    let mut next = 0;
    for batch in collector.wiring.input.clone() {
        waiting.insert(batch.number, batch);
        while let Some(batch) = waiting.remove(&next) {
            next += 1;
            let batch = collector.take(batch)?;
            drop(collector.wiring.free.send(batch)); // Nobody waits for it once the feed has ended.
        }
    }
    collector.finish()
}

impl Collector {
    fn take(&mut self, mut batch: Batch) -> Result<Batch> {
        let items = std::mem::take(&mut batch.items);
        for item in items {
            match item {
                Item::Block { file, old, result, .. } => {
                    self.block(file, old, result, &batch.packed)?;
                }
                Item::Zeros { file } => self.refer(file, OldBlock::ZERO)?,
                Item::Close { file, entry, stamp } => self.close(file, *entry, stamp)?,
                Item::Abandon { file } => drop(self.files.remove(&file)),
                Item::Add(entry) => self.entry(*entry)?,
                Item::Keep { entry, stamp, previous } => self.keep(*entry, stamp, previous)?,
            }
        }
        batch.clear();
        Ok(batch)
    }

    fn block(
        &mut self,
        file: u64,
        old: Option<OldBlock>,
        result: Outcome,
        packed: &[u8],
    ) -> Result<()> {
        let block = match result {
            Outcome::Open => unreachable!("a worker looks at every block"),
            Outcome::Zeros => OldBlock::ZERO,
            Outcome::Same => self.renumber(old.expect("only an old block can be the same")),
            Outcome::New { name, at, stored } => {
                let (pack, offset) = self.store(&packed[at..at + stored])?;
                OldBlock { name, pack, offset, stored: stored as u32 }
            }
        };
        self.refer(file, block)
    }

    /// An old block with the number that its pack has in this manifest.
    fn renumber(&mut self, mut block: OldBlock) -> OldBlock {
        if block.is_zero() {
            return block;
        }
        let shared = &self.wiring.shared;
        let old = self.wiring.old.as_ref().expect("an old block comes from a cache");
        let line = old.packs[block.pack as usize];
        let number = &mut self.old_numbers[block.pack as usize];
        block.pack = *number.get_or_insert_with(|| shared.new_pack(Some(line)));
        block
    }

    /// Puts stored bytes into the pack and says where they are.
    fn store(&mut self, stored: &[u8]) -> Result<(u32, u32)> {
        let room = self.wiring.pack_bytes.saturating_sub(stored.len());
        if self.pack.as_ref().is_some_and(|pack| pack.payload.len() > room) {
            self.send_pack()?;
        }
        let shared = &self.wiring.shared;
        let pack = self.pack.get_or_insert_with(|| FullPack {
            number: shared.new_pack(None),
            payload: shared.spare_payload(),
        });
        let offset = pack.payload.len() as u32;
        pack.payload.extend_from_slice(stored);
        Ok((pack.number, offset))
    }

    fn send_pack(&mut self) -> Result<()> {
        let Some(full) = self.pack.take() else { return Ok(()) };
        self.wiring.packs.send(full).ok().context("hand over pack: the sealers have ended")
    }

    fn refer(&mut self, file: u64, block: OldBlock) -> Result<()> {
        let state = self.files.entry(file).or_default();
        push_ref(&mut state.refs, &block);
        state.cached.push(block);
        if state.refs.len() >= LINE_BLOCKS {
            let blocks = std::mem::take(&mut state.refs);
            write_line(&mut self.body, Line::Blocks { file, blocks })?;
            state.has_lines = true;
        }
        if state.cached.len() == SEGMENT_BLOCKS {
            state.segments.push(self.cache.segment(&state.cached)?);
            state.cached.clear();
        }
        Ok(())
    }

    fn close(&mut self, file: u64, mut entry: Entry, stamp: Stamp) -> Result<()> {
        let state = self.files.remove(&file).unwrap_or_default();
        self.cache.file(&entry.path, stamp, &state.segments, &state.cached)?;
        entry.file = state.has_lines.then_some(file);
        entry.blocks = state.refs;
        self.entry(entry)
    }

    /// An unchanged file is a file whose blocks are all the old ones.
    fn keep(&mut self, entry: Entry, stamp: Stamp, mut previous: Previous) -> Result<()> {
        // Numbers of kept files come from the other end, so that they meet no number of the feed.
        let file = u64::from(u32::MAX) + self.entries;
        let old = self.wiring.old.clone().expect("a kept file comes from a cache");
        for number in 0..previous.block_count() {
            let block = old.block(&mut previous, number).context("read cache again")?;
            let block = self.renumber(block);
            self.refer(file, block)?;
        }
        self.close(file, entry, stamp)
    }

    fn entry(&mut self, entry: Entry) -> Result<()> {
        self.entries += 1;
        if entry.kind == EntryKind::File {
            self.bytes += entry.size;
        }
        write_line(&mut self.body, Line::Entry(Box::new(entry)))
    }

    fn finish(mut self) -> Result<Collected> {
        self.send_pack()?;
        let mut out = self.body.finish().context("end zstd frame")?;
        out.flush().context("write spool file")?;
        let body = out
            .into_inner()
            .map_err(std::io::IntoInnerError::into_error)
            .context("write spool file")?;
        Ok(Collected { body, cache: self.cache, entries: self.entries, bytes: self.bytes })
    }
}

fn push_ref(refs: &mut Vec<BlockRef>, block: &OldBlock) {
    if !block.is_zero() {
        let OldBlock { name, pack, offset, stored } = *block;
        refs.push(BlockRef::Stored(StoredBlock { name, pack, offset, stored }));
        return;
    }
    match refs.last_mut() {
        Some(BlockRef::Zeros(count)) if *count < u32::MAX => *count += 1,
        _ => refs.push(BlockRef::Zeros(1)),
    }
}
