//! One file of a spool: a head and records with rising numbers. Only the last is written to.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::Damage;
use super::record::{
    HEAD_BYTES, MESSAGE_BYTES_MAX, Parsed, SEGMENT_HEAD_BYTES, parse, parse_segment_head,
    segment_head,
};

/// No segment is larger than this, whatever its owner asks for.
const SEGMENT_BYTES_MAX: u64 = 256 << 20;

/// A segment.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) path: PathBuf,
    /// No record has a number below this.
    pub(super) first: u64,
    /// No record has this number or one above.
    pub(super) next: u64,
    /// Of the whole file.
    pub(super) bytes: u64,
    /// Bytes that are durable.
    synced: u64,
    file: File,
    /// It is of this run and nothing of it failed: it may be written to.
    is_open: bool,
}

impl Segment {
    pub(super) fn create(dir: &Path, first: u64) -> Result<Self> {
        let path = dir.join(format!("segment-{first:016x}"));
        let mut options = File::options();
        let file = options.read(true).write(true).create(true).truncate(true).mode(0o600);
        let file = file.open(&path).context("make a spool segment")?;
        if let Err(error) = file.write_all_at(&segment_head(first), 0) {
            drop(fs::remove_file(&path));
            return Err(error).context("write a spool segment");
        }
        file.sync_all().context("sync a spool segment")?;
        chassis::durable::sync_dir(dir).context("sync a spool directory")?;
        let bytes = SEGMENT_HEAD_BYTES as u64;
        Ok(Self { path, first, next: first, bytes, synced: bytes, file, is_open: true })
    }

    pub(super) fn is_open(&self) -> bool {
        self.is_open
    }

    pub(super) fn is_unsynced(&self) -> bool {
        self.synced < self.bytes
    }

    /// Writes whole records at the end. What fails leaves nothing behind, and no more is written here.
    pub(super) fn append(&mut self, records: &[u8], next: u64) -> Result<()> {
        assert!(next > self.next, "{next} after {}", self.next);
        if let Err(error) = self.file.write_all_at(records, self.bytes) {
            self.is_open = self.file.set_len(self.bytes).is_ok();
            return Err(error).context("write a spool segment");
        }
        self.bytes += records.len() as u64;
        self.next = next;
        Ok(())
    }

    pub(super) fn sync(&mut self) -> Result<()> {
        self.file.sync_data().context("sync a spool segment")?;
        self.synced = self.bytes;
        Ok(())
    }

    /// Durable bytes from an offset after the head on, at least one whole record if there is one.
    pub(super) fn read(&self, offset: u64, length: usize, buffer: &mut Vec<u8>) -> Result<()> {
        let offset = offset + SEGMENT_HEAD_BYTES as u64;
        let there = self.synced.saturating_sub(offset);
        for length in [length, HEAD_BYTES + MESSAGE_BYTES_MAX] {
            let length = there.min(length as u64) as usize;
            buffer.resize(length, 0);
            self.file.read_exact_at(buffer, offset).context("read a spool segment")?;
            if length as u64 == there || matches!(parse(buffer), Parsed::Whole(..)) {
                break;
            }
        }
        Ok(())
    }
}

/// Opens all segments, in order. What is not whole at the end of one is cut off.
pub(super) fn open_all(dir: &Path, damage: &mut Damage) -> Result<VecDeque<Segment>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(dir).context("read a spool directory")? {
        let entry = entry.context("read a spool directory")?;
        if entry.file_name().to_string_lossy().starts_with("segment-") {
            paths.push(entry.path());
        }
    }
    paths.sort();
    let mut segments: VecDeque<Segment> = VecDeque::new();
    let last = paths.len().saturating_sub(1);
    for (at, path) in paths.into_iter().enumerate() {
        if let Some(segment) = open(path, at == last, damage)? {
            segments.push_back(segment);
        }
    }
    Ok(segments)
}

fn open(path: PathBuf, is_last: bool, damage: &mut Damage) -> Result<Option<Segment>> {
    let told = || format!("open {}", path.display());
    let file = File::options().read(true).write(true).open(&path).with_context(told)?;
    let length = file.metadata().with_context(told)?.len();
    anyhow::ensure!(length <= SEGMENT_BYTES_MAX, "{} has {length} bytes", path.display());
    let mut bytes = vec![0; length as usize];
    file.read_exact_at(&mut bytes, 0).with_context(told)?;
    let scanned = scan(&bytes)
        .map_err(|version| anyhow::anyhow!("version {version} is newer than this program"))
        .with_context(told)?;
    let wrong = length - scanned.bytes;
    *(if is_last { &mut damage.torn_bytes } else { &mut damage.bad_bytes }) += wrong;
    if scanned.bytes == 0 {
        // Its head was never durable, so nothing of it was taken.
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(error).with_context(told);
            }
            _ => return Ok(None),
        }
    }
    if wrong > 0 {
        file.set_len(scanned.bytes).with_context(told)?;
        file.sync_all().with_context(told)?;
    }
    Ok(Some(Segment {
        path,
        first: scanned.first,
        next: scanned.next,
        bytes: scanned.bytes,
        synced: scanned.bytes,
        file,
        is_open: false,
    }))
}

/// What the bytes of a segment hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scanned {
    /// From its head.
    pub first: u64,
    /// After its last record.
    pub next: u64,
    /// Up to the end of its last whole record; 0 if there is not even a head.
    pub bytes: u64,
}

/// Looks for the end of what is whole. `Err` is a newer version.
pub fn scan(bytes: &[u8]) -> Result<Scanned, u32> {
    let Some(first) = parse_segment_head(bytes)? else {
        return Ok(Scanned { first: 0, next: 0, bytes: 0 });
    };
    let mut scanned = Scanned { first, next: first, bytes: SEGMENT_HEAD_BYTES as u64 };
    let mut rest = &bytes[SEGMENT_HEAD_BYTES..];
    while let Parsed::Whole(record, size) = parse(rest) {
        if record.sequence < scanned.next || record.sequence == u64::MAX {
            break;
        }
        scanned.next = record.sequence + 1;
        scanned.bytes += size as u64;
        rest = &rest[size..];
    }
    Ok(scanned)
}
