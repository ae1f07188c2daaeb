//! Reading a snapshot back: its manifest as a stream, packs whole or in part, blocks checked
//! against their names.

use std::collections::HashMap;
use std::io::{BufRead, BufReader};

use anyhow::{Context, Result, bail, ensure};

use crate::block::{BLOCK_BYTES_MAX, BlockKey};
use crate::crypt::{Identities, PlainReader};
use crate::depot::{Depot, ObjectReader, is_outage};
use crate::manifest::{BlockRef, Entry, Head, Line, PackLine, Totals, read_line};
use crate::names::SnapshotId;

mod pack;

pub use pack::PackReader;

/// A snapshot of more packs is refused: 128 TB.
const PACKS_MAX: usize = 8 << 20;

type ManifestInput<'d> =
    BufReader<zstd::Decoder<'static, BufReader<PlainReader<BufReader<ObjectReader<'d>>>>>>;

/// A manifest that is being read.
pub struct SnapshotReader<'d> {
    head: Head,
    packs: Vec<PackLine>,
    input: ManifestInput<'d>,
    buffer: Vec<u8>,
    pending: Option<Line>,
    entries: u64,
    totals: Option<Totals>,
    /// Blocks of files whose entry has not come yet.
    begun: HashMap<u64, Vec<BlockRef>>,
}

impl<'d> SnapshotReader<'d> {
    /// Opens a snapshot and reads the head and the packs of its manifest.
    pub fn open(depot: &'d Depot, id: &SnapshotId, identities: &Identities) -> Result<Self> {
        Self::open_inner(depot, id, identities)
            .with_context(|| format!("read manifest of `{id}` in depot `{}`", depot.name()))
    }

    fn open_inner(depot: &'d Depot, id: &SnapshotId, identities: &Identities) -> Result<Self> {
        let object = id.manifest_object();
        let info = match depot.needs(id) {
            Ok(needs) => {
                let (sum, size) = needs.manifest;
                let found = depot.find(&object, Some(size), None)?;
                // Mostly there is one candidate; of several, one may have the size but not the
                // content.
                if found.name == object {
                    found
                } else {
                    depot.find(&object, Some(size), Some(sum))?
                }
            }
            // Without its needs list a manifest can still be read: it is authenticated by itself.
            Err(error) if is_outage(&error) => return Err(error),
            Err(_) => depot.find(&object, None, None)?,
        };
        let plain = identities.decrypt(BufReader::new(depot.open_object(&info.name, info.size)))?;
        let mut decoder = zstd::Decoder::with_buffer(BufReader::with_capacity(128 << 10, plain))
            .context("read zstd frame")?;
        decoder.window_log_max(27).context("limit zstd window")?;
        let mut input = BufReader::with_capacity(128 << 10, decoder);
        let mut buffer = Vec::new();
        let Some(Line::Head(head)) = read_line(&mut input, &mut buffer)? else {
            bail!("manifest does not begin with a head");
        };
        ensure!(head.id == *id, "manifest is that of `{}`", head.id);
        let mut reader = Self {
            head: *head,
            packs: Vec::new(),
            input,
            buffer,
            pending: None,
            entries: 0,
            totals: None,
            begun: HashMap::new(),
        };
        reader.read_packs()?;
        Ok(reader)
    }

    fn read_packs(&mut self) -> Result<()> {
        loop {
            match read_line(&mut self.input, &mut self.buffer)? {
                Some(Line::Pack(pack)) if self.packs.len() < PACKS_MAX => self.packs.push(pack),
                Some(Line::Pack(_)) => bail!("manifest names more than {PACKS_MAX} packs"),
                other => {
                    self.pending = other;
                    return Ok(());
                }
            }
        }
    }

    /// The head.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// The packs, in the order of their numbers.
    pub fn packs(&self) -> &[PackLine] {
        &self.packs
    }

    /// The totals, once all lines were read.
    pub fn totals(&self) -> Option<Totals> {
        self.totals
    }

    /// The next entry with all of its blocks; `None` after an end that fits what was read.
    pub fn next_entry(&mut self) -> Result<Option<Entry>> {
        while let Some(line) = self.next_line()? {
            match line {
                Line::Blocks { file, mut blocks } => {
                    self.begun.entry(file).or_default().append(&mut blocks);
                }
                Line::Entry(mut entry) => {
                    let begun = entry.file.take().and_then(|file| self.begun.remove(&file));
                    if let Some(mut blocks) = begun {
                        blocks.append(&mut entry.blocks);
                        entry.blocks = blocks;
                    }
                    return Ok(Some(*entry));
                }
                Line::Head(_) | Line::Pack(_) | Line::End(_) => {
                    bail!("manifest has a line out of order")
                }
            }
        }
        Ok(None)
    }

    /// The next [`Line::Entry`] or [`Line::Blocks`]; `None` after an end that fits what was read.
    pub fn next_line(&mut self) -> Result<Option<Line>> {
        if self.totals.is_some() {
            return Ok(None);
        }
        let next = match self.pending.take() {
            Some(line) => Some(line),
            None => read_line(&mut self.input, &mut self.buffer).context("read manifest")?,
        };
        match next {
            None => bail!("manifest is cut short"),
            Some(Line::Head(_) | Line::Pack(_)) => bail!("manifest has a line out of order"),
            Some(Line::End(totals)) => {
                ensure!(totals.entries == self.entries, "manifest has lost entries");
                ensure!(self.input.fill_buf()?.is_empty(), "manifest goes on after its end");
                self.totals = Some(totals);
                Ok(None)
            }
            Some(line) => {
                self.entries += u64::from(matches!(line, Line::Entry(_)));
                Ok(Some(line))
            }
        }
    }
}

/// Decompresses blocks and checks them against their names. One for each thread.
pub struct BlockDecoder {
    key: BlockKey,
    zstd: zstd::bulk::Decompressor<'static>,
    buffer: Vec<u8>,
}

impl BlockDecoder {
    /// A decoder for a manifest with this key.
    pub fn new(key: BlockKey) -> Result<Self> {
        let zstd = zstd::bulk::Decompressor::new().context("prepare zstd")?;
        Ok(Self { key, zstd, buffer: Vec::new() })
    }

    /// The content of a block of `length` bytes from its stored bytes.
    pub fn decode<'a>(
        &'a mut self,
        stored: &'a [u8],
        name: &[u8; 24],
        length: usize,
    ) -> Result<&'a [u8]> {
        ensure!(length as u64 <= BLOCK_BYTES_MAX, "block of {length} bytes is too long");
        let block = if stored.len() == length {
            stored
        } else {
            self.buffer.resize(BLOCK_BYTES_MAX as usize, 0);
            let into = &mut self.buffer[..length];
            let count = self.zstd.decompress_to_buffer(stored, into).context("decompress block")?;
            ensure!(count == length, "block has {count} bytes, not {length}");
            &self.buffer[..length]
        };
        ensure!(self.key.name(block) == *name, "block does not have the content of its name");
        Ok(block)
    }
}
