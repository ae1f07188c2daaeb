//! Reading a snapshot back: its manifest as a stream, packs whole or in part, blocks checked
//! against their names.

use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::sync::atomic::Ordering;

use anyhow::{Context, Result, bail, ensure};

use crate::block::{BLOCK_BYTES_MAX, BlockKey};
use crate::crypt::{Identities, PlainReader};
use crate::depot::{Depot, ObjectReader, is_outage};
use crate::manifest::{Head, Line, PackLine, Totals, read_line};
use crate::names::{PackId, SnapshotId};

/// A snapshot of more packs is refused: 128 TB.
const PACKS_MAX: usize = 8 << 20;
const AGE_CHUNK_BYTES: u64 = 64 << 10;
const AGE_TAG_BYTES: u64 = 16;
/// Ranges nearer than this are fetched as one.
const RANGE_GAP_BYTES: u32 = 256 << 10;
/// Enough for the header of an age file with a dozen recipients.
const HEADER_BYTES: u64 = 4 << 10;

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

/// Fetches a whole pack and decrypts its payload.
///
/// The checksum is only looked at if that fails, to find a better candidate: decrypting proves the
/// content.
pub fn open_pack(depot: &Depot, pack: &PackLine, identities: &Identities) -> Result<Vec<u8>> {
    let object = pack.pack.pack_object();
    let open = |sum| {
        let stored = depot.get(&object, Some(pack.size), sum)?;
        identities.decrypt_bytes(&stored).with_context(|| format!("open pack {}", pack.pack))
    };
    match open(None) {
        Err(error) if !is_outage(&error) => open(Some(pack.pack)).map_err(|_| error),
        other => other,
    }
}

/// Fetches and decrypts parts of a pack's payload, given as offset and length; parts that are near
/// one another in one request.
pub fn open_pack_ranges(
    depot: &Depot,
    pack: &PackLine,
    identities: &Identities,
    ranges: &[(u32, u32)],
) -> Result<Vec<Vec<u8>>> {
    match read_ranges(depot, pack, identities, ranges, None) {
        Err(error) if !is_outage(&error) => {
            read_ranges(depot, pack, identities, ranges, Some(pack.pack)).map_err(|_| error)
        }
        other => other,
    }
}

fn read_ranges(
    depot: &Depot,
    pack: &PackLine,
    identities: &Identities,
    ranges: &[(u32, u32)],
    sum: Option<PackId>,
) -> Result<Vec<Vec<u8>>> {
    let found = depot.find(&pack.pack.pack_object(), Some(pack.size), sum)?;
    let mut order: Vec<usize> = (0..ranges.len()).collect();
    order.sort_unstable_by_key(|&i| ranges[i]);
    let object = depot.open_object(&found.name, pack.size);
    let ahead = object.ahead();
    ahead.store(HEADER_BYTES, Ordering::Relaxed);
    let mut plain = identities.decrypt(BufReader::with_capacity(HEADER_BYTES as usize, object))?;
    let mut parts = vec![Vec::new(); ranges.len()];
    for group in order.chunk_by(|&a, &b| is_near(ranges[a], ranges[b])) {
        ahead.store(stored_span(ranges, group), Ordering::Relaxed);
        for &i in group {
            let (offset, length) = ranges[i];
            ensure!(
                u64::from(offset) + u64::from(length) <= pack.size,
                "part of pack {} lies outside of it",
                pack.pack
            );
            let mut part = vec![0; length as usize];
            plain
                .seek(SeekFrom::Start(u64::from(offset)))
                .and_then(|_| plain.read_exact(&mut part))
                .with_context(|| format!("read part of pack {}", pack.pack))?;
            parts[i] = part;
        }
    }
    Ok(parts)
}

fn is_near(one: (u32, u32), next: (u32, u32)) -> bool {
    next.0.saturating_sub(one.0.saturating_add(one.1)) <= RANGE_GAP_BYTES
}

/// How many stored bytes hold the parts of a group, which are sorted by offset.
fn stored_span(ranges: &[(u32, u32)], group: &[usize]) -> u64 {
    let from = u64::from(ranges[group[0]].0) / AGE_CHUNK_BYTES;
    let end = |&i: &usize| u64::from(ranges[i].0) + u64::from(ranges[i].1);
    let to = group.iter().map(end).max().unwrap_or_default().div_ceil(AGE_CHUNK_BYTES);
    (to - from) * (AGE_CHUNK_BYTES + AGE_TAG_BYTES)
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
