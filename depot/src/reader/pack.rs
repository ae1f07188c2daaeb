//! Packs are opened: whole, in parts, or what is left of a damaged one.

use std::io::{BufRead, BufReader, Cursor, Read, Seek, SeekFrom};
use std::sync::atomic::Ordering;

use anyhow::{Context, Result, ensure};

use crate::crypt::{Identities, PlainReader};
use crate::depot::{Depot, is_outage};
use crate::manifest::PackLine;
use crate::names::PackId;

const AGE_CHUNK_BYTES: u64 = 64 << 10;
const AGE_TAG_BYTES: u64 = 16;
/// Parts nearer than this are fetched in one request.
const PART_GAP_BYTES: u32 = 256 << 10;
/// Enough for the header of an age file with a dozen recipients.
const HEADER_BYTES: u64 = 4 << 10;

/// Opens one pack after another. Its buffers are used again, so keep one for each thread: they take
/// twice the size of a pack.
#[derive(Debug)]
pub struct PackReader<'a> {
    depot: &'a Depot,
    identities: &'a Identities,
    stored: Vec<u8>,
    payload: Vec<u8>,
}

impl<'a> PackReader<'a> {
    /// A reader of the packs of a depot.
    pub fn new(depot: &'a Depot, identities: &'a Identities) -> Self {
        Self { depot, identities, stored: Vec::new(), payload: Vec::new() }
    }

    /// Fetches a whole pack and decrypts its payload.
    ///
    /// The checksum is only looked at if that fails, to find a better candidate: decrypting proves
    /// that nothing has been changed by chance, and the names of the blocks that nothing was changed
    /// on purpose.
    pub fn open(&mut self, pack: &PackLine) -> Result<&[u8]> {
        match self.open_candidate(pack, None) {
            Err(error) if !is_outage(&error) => {
                self.open_candidate(pack, Some(pack.pack)).map_err(|_| error)?;
            }
            other => other?,
        }
        Ok(&self.payload)
    }

    fn open_candidate(&mut self, pack: &PackLine, sum: Option<PackId>) -> Result<()> {
        let object = pack.pack.pack_object();
        self.depot.get_into(&object, Some(pack.size), sum, &mut self.stored)?;
        let decrypted = self.identities.decrypt_into(&self.stored, &mut self.payload);
        decrypted.with_context(|| format!("open pack {}", pack.pack))
    }

    /// Fetches and decrypts parts of a pack's payload, given as offset and length; parts that are
    /// near one another in one request. If that fails, the whole pack is looked at.
    pub fn open_parts(&mut self, pack: &PackLine, parts: &[(u32, u32)]) -> Result<Vec<Vec<u8>>> {
        match fetch_parts(self.depot, pack, self.identities, parts) {
            Err(error) if !is_outage(&error) => {
                let payload = self.open(pack).map_err(|_| error)?;
                let part = |&(offset, length): &(u32, u32)| {
                    let part = payload.get(offset as usize..)?.get(..length as usize)?;
                    Some(part.to_vec())
                };
                let parts: Option<Vec<_>> = parts.iter().map(part).collect();
                parts.with_context(|| format!("part of pack {} lies outside of it", pack.pack))
            }
            other => other,
        }
    }

    /// A part of the pack that was opened last, without success: what can be had of a damaged pack,
    /// 64 KiB by 64 KiB.
    pub fn salvage(&self, (offset, length): (u32, u32)) -> Result<Vec<u8>> {
        let mut plain = self.identities.decrypt(Cursor::new(&self.stored[..]))?;
        read_part(&mut plain, offset, length)
    }
}

fn fetch_parts(
    depot: &Depot,
    pack: &PackLine,
    identities: &Identities,
    parts: &[(u32, u32)],
) -> Result<Vec<Vec<u8>>> {
    let found = depot.find(&pack.pack.pack_object(), Some(pack.size), None)?;
    let mut order: Vec<usize> = (0..parts.len()).collect();
    order.sort_unstable_by_key(|&i| parts[i]);
    let object = depot.open_object(&found.name, pack.size);
    let ahead = object.ahead();
    ahead.store(HEADER_BYTES, Ordering::Relaxed);
    let mut plain = identities.decrypt(BufReader::with_capacity(HEADER_BYTES as usize, object))?;
    let mut read = vec![Vec::new(); parts.len()];
    for group in order.chunk_by(|&a, &b| is_near(parts[a], parts[b])) {
        ahead.store(stored_span(parts, group), Ordering::Relaxed);
        for &i in group {
            let (offset, length) = parts[i];
            let end = u64::from(offset) + u64::from(length);
            ensure!(end <= pack.size, "part of pack {} lies outside of it", pack.pack);
            let part = read_part(&mut plain, offset, length);
            read[i] = part.with_context(|| format!("read part of pack {}", pack.pack))?;
        }
    }
    Ok(read)
}

/// Reads a part of a payload from the beginning of its chunk on.
///
/// A position at the beginning of a chunk that was not read yet makes `age` read the last chunk,
/// which may be damaged; one behind the end of a chunk makes it panic.
fn read_part<R: BufRead + Seek>(
    plain: &mut PlainReader<R>,
    offset: u32,
    length: u32,
) -> Result<Vec<u8>> {
    let chunk = u64::from(offset) / AGE_CHUNK_BYTES * AGE_CHUNK_BYTES;
    let before = u64::from(offset) - chunk;
    plain.seek(SeekFrom::Start(chunk + 1)).context("find part")?;
    plain.seek(SeekFrom::Start(chunk)).context("find part")?;
    let mut part = Vec::with_capacity((before + u64::from(length)) as usize);
    plain.take(before + u64::from(length)).read_to_end(&mut part).context("read part")?;
    ensure!(part.len() as u64 == before + u64::from(length), "it is cut short");
    part.drain(..before as usize);
    Ok(part)
}

fn is_near(one: (u32, u32), next: (u32, u32)) -> bool {
    next.0.saturating_sub(one.0.saturating_add(one.1)) <= PART_GAP_BYTES
}

/// How many stored bytes hold the parts of a group, which are sorted by offset.
fn stored_span(parts: &[(u32, u32)], group: &[usize]) -> u64 {
    let from = u64::from(parts[group[0]].0) / AGE_CHUNK_BYTES;
    let end = |&i: &usize| u64::from(parts[i].0) + u64::from(parts[i].1);
    let to = group.iter().map(end).max().unwrap_or_default().div_ceil(AGE_CHUNK_BYTES);
    (to - from) * (AGE_CHUNK_BYTES + AGE_TAG_BYTES)
}
