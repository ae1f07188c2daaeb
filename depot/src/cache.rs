//! The block map of a job's last manifest, kept by the agent, which cannot read the manifest
//! itself.
//!
//! It only saves work: without it everything is read and stored again. So whatever looks wrong in
//! it (version, other keys, checksum) is treated as absent. Read by piece, so that memory does not
//! grow with the database: the index takes 16 bytes a file, an open file one segment of blocks.
//!
//! Layout, little endian: header, then records in the order of writing, then the index, the pack
//! table and the trailer. A record is `crc32(body) u32, length u32, body`; the body of a file is
//! its path, stamp, segments' places and last blocks.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use chassis::durable::NewFile;

use crate::manifest::{EntryPath, PackLine};
use crate::names::{Sha256, SnapshotId};

/// Blocks in a segment: what is held in memory of each open file.
pub const SEGMENT_BLOCKS: usize = 1024;
const MAGIC: &[u8; 8] = b"HFCACHE1";
const RECORD_BYTES: usize = 36;
const ZERO_PACK: u32 = u32::MAX;
const RECORD_BYTES_MAX: usize = 64 << 20;

/// What a file looked like when it was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamp {
    /// Size in bytes.
    pub size: u64,
    /// Time of the last change of content: seconds and nanoseconds.
    pub mtime: (i64, u32),
    /// Time of the last change of the inode.
    pub ctime: (i64, u32),
    /// Inode number; 0 never equals a real file.
    pub inode: u64,
}

/// A block of the last manifest: its name and its place in a pack of that manifest; a block of
/// zeros has no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OldBlock {
    /// The keyed hash of its content.
    pub name: [u8; 24],
    /// The number of its pack in that manifest; not checked.
    pub pack: u32,
    /// Where it begins in the payload of the pack.
    pub offset: u32,
    /// Its stored length.
    pub stored: u32,
}

impl OldBlock {
    /// A block of zeros.
    pub const ZERO: Self = Self { name: [0; 24], pack: ZERO_PACK, offset: 0, stored: 0 };

    /// Whether it is one of zeros.
    pub fn is_zero(&self) -> bool {
        self.pack == ZERO_PACK
    }
}

fn put_block(out: &mut Vec<u8>, block: &OldBlock) {
    out.extend_from_slice(&block.name);
    out.extend_from_slice(&block.pack.to_le_bytes());
    out.extend_from_slice(&block.offset.to_le_bytes());
    out.extend_from_slice(&block.stored.to_le_bytes());
}

fn take_blocks(bytes: &[u8]) -> Vec<OldBlock> {
    let word = |b: &[u8], at: usize| u32::from_le_bytes(b[at..at + 4].try_into().expect("4 bytes"));
    let block = |b: &[u8]| OldBlock {
        name: b[..24].try_into().expect("24 bytes"),
        pack: word(b, 24),
        offset: word(b, 28),
        stored: word(b, 32),
    };
    bytes.chunks_exact(RECORD_BYTES).map(block).collect()
}

fn path_hash(path: &EntryPath) -> u64 {
    let hash = blake3::hash(path.as_bytes());
    u64::from_le_bytes(hash.as_bytes()[..8].try_into().expect("8 bytes"))
}

/// Writes the cache of the manifest that is being made.
pub struct CacheWriter {
    out: BufWriter<NewFile>,
    at: u64,
    index: Vec<(u64, u64)>,
}

impl CacheWriter {
    /// Begins a new cache in `dir`.
    pub fn create(dir: &Path) -> Result<Self> {
        let mut out = BufWriter::with_capacity(1 << 20, NewFile::create(dir, 0o600)?);
        out.write_all(MAGIC).context("write cache")?;
        Ok(Self { out, at: MAGIC.len() as u64, index: Vec::new() })
    }

    fn record(&mut self, body: &[u8]) -> Result<u64> {
        let at = self.at;
        self.out.write_all(&crc32fast::hash(body).to_le_bytes()).context("write cache")?;
        self.out.write_all(&(body.len() as u32).to_le_bytes()).context("write cache")?;
        self.out.write_all(body).context("write cache")?;
        self.at += 8 + body.len() as u64;
        Ok(at)
    }

    /// Writes a full segment of a file's blocks and says where it is.
    pub fn segment(&mut self, blocks: &[OldBlock]) -> Result<u64> {
        let mut body = Vec::with_capacity(blocks.len() * RECORD_BYTES);
        for block in blocks {
            put_block(&mut body, block);
        }
        self.record(&body)
    }

    /// Writes a file: its segments are full ones, `tail` what comes after them.
    pub fn file(
        &mut self,
        path: &EntryPath,
        stamp: Stamp,
        segments: &[u64],
        tail: &[OldBlock],
    ) -> Result<()> {
        let mut body = Vec::with_capacity(128 + segments.len() * 8 + tail.len() * RECORD_BYTES);
        body.extend_from_slice(&(path.as_bytes().len() as u32).to_le_bytes());
        body.extend_from_slice(path.as_bytes());
        for word in [stamp.size, stamp.mtime.0 as u64, stamp.ctime.0 as u64, stamp.inode] {
            body.extend_from_slice(&word.to_le_bytes());
        }
        for word in [stamp.mtime.1, stamp.ctime.1, segments.len() as u32] {
            body.extend_from_slice(&word.to_le_bytes());
        }
        for at in segments {
            body.extend_from_slice(&at.to_le_bytes());
        }
        for block in tail {
            put_block(&mut body, block);
        }
        let at = self.record(&body)?;
        self.index.push((path_hash(path), at));
        Ok(())
    }

    /// Ends the cache and puts it in the place of the old one, durably.
    pub fn finish(
        mut self,
        path: &Path,
        id: &SnapshotId,
        fingerprint: &Sha256,
        packs: &[PackLine],
    ) -> Result<()> {
        let mut body = Vec::with_capacity(self.index.len() * 16);
        self.index.sort_unstable();
        for (hash, at) in std::mem::take(&mut self.index) {
            body.extend_from_slice(&hash.to_le_bytes());
            body.extend_from_slice(&at.to_le_bytes());
        }
        let index_at = self.large_record(&body)?;
        body.clear();
        for pack in packs {
            body.extend_from_slice(&pack.pack.0);
            body.extend_from_slice(&pack.size.to_le_bytes());
        }
        let packs_at = self.large_record(&body)?;
        body.clear();
        body.extend_from_slice(&index_at.to_le_bytes());
        body.extend_from_slice(&packs_at.to_le_bytes());
        body.extend_from_slice(&fingerprint.0);
        body.extend_from_slice(id.to_string().as_bytes());
        let trailer_at = self.record(&body)?;
        self.out.write_all(&trailer_at.to_le_bytes()).context("write cache")?;
        let file = self
            .out
            .into_inner()
            .map_err(std::io::IntoInnerError::into_error)
            .context("write cache")?;
        file.replace(path).context("replace cache")
    }

    /// Index and pack table may be larger than a record's limit: they are a record of records'
    /// lengths.
    fn large_record(&mut self, body: &[u8]) -> Result<u64> {
        let at = self.at;
        for piece in body.chunks(RECORD_BYTES_MAX / 2) {
            self.record(piece)?;
        }
        self.record(&[])?;
        Ok(at)
    }
}

/// The cache of the last manifest, open for looking things up.
pub struct Cache {
    file: File,
    /// The snapshot that it is of.
    pub id: SnapshotId,
    /// The packs of that manifest.
    pub packs: Vec<PackLine>,
    index: HashMap<u64, u64>,
}

/// What the last manifest had of a file.
pub struct Previous {
    /// What the file looked like.
    pub stamp: Stamp,
    segments: Vec<u64>,
    tail: Vec<OldBlock>,
    window: Option<(usize, Vec<OldBlock>)>,
}

impl Cache {
    /// Opens the cache if it is there, whole, and made with the same keys and cuts (`fingerprint`).
    pub fn open(path: &Path, fingerprint: &Sha256) -> Option<Self> {
        if !path.exists() {
            return None;
        }
        Self::read(path, fingerprint)
            .inspect_err(|error| tracing::warn!("cache is not used: {error:#}"))
            .ok()
            .flatten()
    }

    fn read(path: &Path, fingerprint: &Sha256) -> Result<Option<Self>> {
        let file = File::open(path).context("open cache")?;
        let length = file.metadata().context("read size of cache")?.len();
        ensure!(length > 16, "cache is too short");
        let mut word = [0; 8];
        file.read_exact_at(&mut word, 0).context("read cache")?;
        ensure!(&word == MAGIC, "cache is of another version");
        file.read_exact_at(&mut word, length - 8).context("read cache")?;
        let trailer = read_record(&file, u64::from_le_bytes(word))?;
        ensure!(trailer.len() > 48, "cache is damaged");
        let (index_at, packs_at) = (word_at(&trailer, 0), word_at(&trailer, 8));
        if trailer[16..48] != fingerprint.0 {
            tracing::info!("keys or recipients have changed: everything is stored again");
            return Ok(None);
        }
        let id = std::str::from_utf8(&trailer[48..]).context("read cache")?.parse()?;
        let index = read_large(&file, index_at)?;
        let index = index.chunks_exact(16).map(|b| (word_at(b, 0), word_at(b, 8))).collect();
        let packs = read_large(&file, packs_at)?;
        let pack = |b: &[u8]| PackLine {
            pack: Sha256(b[..32].try_into().expect("32 bytes")),
            size: word_at(b, 32),
        };
        let packs = packs.chunks_exact(40).map(pack).collect();
        Ok(Some(Self { file, id, packs, index }))
    }

    /// What the last manifest had of `path`; nothing if that cannot be read.
    pub fn find(&self, path: &EntryPath) -> Option<Previous> {
        let at = *self.index.get(&path_hash(path))?;
        let body = read_record(&self.file, at)
            .inspect_err(|error| tracing::warn!("cache is damaged: {error:#}"))
            .ok()?;
        parse_file(&body, path)
    }

    /// The `number`-th block of a file, from 0.
    pub fn block(&self, previous: &mut Previous, number: usize) -> Option<OldBlock> {
        let (segment, within) = (number / SEGMENT_BLOCKS, number % SEGMENT_BLOCKS);
        let Some(&at) = previous.segments.get(segment) else {
            return previous.tail.get(number - previous.segments.len() * SEGMENT_BLOCKS).copied();
        };
        if previous.window.as_ref().is_none_or(|(held, _)| *held != segment) {
            let body = read_record(&self.file, at)
                .inspect_err(|error| tracing::warn!("cache is damaged: {error:#}"))
                .ok()?;
            previous.window = Some((segment, take_blocks(&body)));
        }
        previous.window.as_ref().and_then(|(_, blocks)| blocks.get(within).copied())
    }
}

impl Previous {
    /// Frees what was read of the file's segments; it is read again when it is asked for.
    pub(crate) fn let_go(&mut self) {
        self.window = None;
    }

    /// How many blocks it holds in memory.
    pub(crate) fn held_blocks(&self) -> usize {
        self.tail.len() + self.segments.len() / 4
    }

    /// How many blocks the file had.
    pub fn block_count(&self) -> usize {
        self.segments.len() * SEGMENT_BLOCKS + self.tail.len()
    }
}

fn word_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"))
}

fn parse_file(body: &[u8], path: &EntryPath) -> Option<Previous> {
    let half = |at: usize| Some(u32::from_le_bytes(body.get(at..at + 4)?.try_into().ok()?));
    let word = |at: usize| Some(u64::from_le_bytes(body.get(at..at + 8)?.try_into().ok()?));
    let length = half(0)? as usize;
    if body.get(4..4 + length)? != path.as_bytes() {
        return None;
    }
    let at = 4 + length;
    let stamp = Stamp {
        size: word(at)?,
        mtime: (word(at + 8)? as i64, half(at + 32)?),
        ctime: (word(at + 16)? as i64, half(at + 36)?),
        inode: word(at + 24)?,
    };
    let count = half(at + 40)? as usize;
    let places = body.get(at + 44..at + 44 + count * 8)?;
    let tail = take_blocks(body.get(at + 44 + count * 8..)?);
    let segments = places.chunks_exact(8).map(|b| word_at(b, 0)).collect();
    Some(Previous { stamp, segments, tail, window: None })
}

fn read_record(file: &File, at: u64) -> Result<Vec<u8>> {
    let mut head = [0; 8];
    file.read_exact_at(&mut head, at).context("read cache")?;
    let length = u32::from_le_bytes(head[4..].try_into().expect("4 bytes")) as usize;
    ensure!(length <= RECORD_BYTES_MAX, "record of cache is too long");
    let mut body = vec![0; length];
    file.read_exact_at(&mut body, at + 8).context("read cache")?;
    let expected = u32::from_le_bytes(head[..4].try_into().expect("4 bytes"));
    ensure!(crc32fast::hash(&body) == expected, "record of cache has a wrong checksum");
    Ok(body)
}

fn read_large(file: &File, mut at: u64) -> Result<Vec<u8>> {
    let mut whole = Vec::new();
    loop {
        let piece = read_record(file, at)?;
        if piece.is_empty() {
            return Ok(whole);
        }
        at += 8 + piece.len() as u64;
        whole.extend_from_slice(&piece);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(n: u32) -> OldBlock {
        OldBlock { name: [n as u8; 24], pack: n % 3, offset: n, stored: n + 1 }
    }

    fn write(dir: &Path) -> (std::path::PathBuf, SnapshotId, Sha256) {
        let id: SnapshotId = "db--20261123T021500Z--db1".parse().expect("valid");
        let fingerprint = Sha256::of(b"keys");
        let mut writer = CacheWriter::create(dir).expect("create");
        let blocks: Vec<_> = (0..SEGMENT_BLOCKS as u32).map(block).collect();
        let first = writer.segment(&blocks).expect("segment");
        let stamp = Stamp { size: 9, mtime: (-5, 6), ctime: (7, 8), inode: 1 };
        let path = EntryPath::new("a/b").expect("valid");
        writer.file(&path, stamp, &[first], &[block(5000), OldBlock::ZERO]).expect("file");
        let packs = [PackLine { pack: Sha256::of(b"p"), size: 12 }];
        let place = dir.join("cache");
        writer.finish(&place, &id, &fingerprint, &packs).expect("finish");
        (place, id, fingerprint)
    }

    #[test]
    fn blocks_are_found_as_written() {
        let dir = tempfile::tempdir().expect("scratch");
        let (place, id, fingerprint) = write(dir.path());
        let cache = Cache::open(&place, &fingerprint).expect("opens");
        assert_eq!(cache.id, id);
        assert_eq!(cache.packs.len(), 1);
        let path = EntryPath::new("a/b").expect("valid");
        let mut previous = cache.find(&path).expect("is there");
        assert_eq!(previous.stamp.mtime, (-5, 6));
        assert_eq!(previous.block_count(), SEGMENT_BLOCKS + 2);
        assert_eq!(cache.block(&mut previous, 17), Some(block(17)));
        assert_eq!(cache.block(&mut previous, SEGMENT_BLOCKS), Some(block(5000)));
        assert!(cache.block(&mut previous, SEGMENT_BLOCKS + 1).expect("is there").is_zero());
        assert_eq!(cache.block(&mut previous, SEGMENT_BLOCKS + 2), None);
        assert!(cache.find(&EntryPath::new("a/c").expect("valid")).is_none());
        assert!(Cache::open(&place, &Sha256::of(b"other keys")).is_none());
    }

    #[test]
    fn a_damaged_cache_is_as_good_as_none() {
        let dir = tempfile::tempdir().expect("scratch");
        let (place, _, fingerprint) = write(dir.path());
        let good = std::fs::read(&place).expect("read");
        let path = EntryPath::new("a/b").expect("valid");
        for at in (0..good.len()).step_by(101) {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            std::fs::write(&place, &bad).expect("write");
            let Some(cache) = Cache::open(&place, &fingerprint) else { continue };
            let Some(mut previous) = cache.find(&path) else { continue };
            for n in 0..SEGMENT_BLOCKS {
                if let Some(found) = cache.block(&mut previous, n) {
                    assert_eq!(found, block(n as u32), "byte {at} flipped");
                }
            }
        }
    }
}
