//! One record of a spool as bytes, and the head of a segment.
//!
//! A record is its length and checksum, four bytes each, its sequence number and time of arrival, eight each, how
//! many bytes were cut off its message, four, and the message; all numbers are little endian.

use crate::document::UnixNanos;

/// Of a record without its message.
pub const HEAD_BYTES: usize = 28;
/// No message is longer.
pub const MESSAGE_BYTES_MAX: usize = 1 << 20;
/// Of the head of a segment.
pub const SEGMENT_HEAD_BYTES: usize = 20;

const MAGIC: [u8; 8] = *b"holdlog\n";
const VERSION: u32 = 1;

/// A message that arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Its number in this spool; no two records ever have the same.
    pub sequence: u64,
    /// When it arrived.
    pub read_at: UnixNanos,
    /// How many bytes of it were too many and are not here; 1 if it is only known that there were some.
    pub cut_bytes: u32,
    /// What arrived.
    pub message: &'a [u8],
}

/// What stands at the beginning of some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed<'a> {
    /// A record, and how many bytes it has.
    Whole(Record<'a>, usize),
    /// The beginning of one, perhaps, or nothing.
    Short,
    /// No record.
    Damaged,
}

impl Record<'_> {
    /// Appends it to some bytes.
    pub fn write(&self, to: &mut Vec<u8>) {
        assert!(self.message.len() <= MESSAGE_BYTES_MAX, "{} bytes", self.message.len());
        let start = to.len();
        to.extend_from_slice(&(self.message.len() as u32).to_le_bytes());
        to.extend_from_slice(&[0; 4]);
        to.extend_from_slice(&self.sequence.to_le_bytes());
        to.extend_from_slice(&self.read_at.to_le_bytes());
        to.extend_from_slice(&self.cut_bytes.to_le_bytes());
        to.extend_from_slice(self.message);
        let sum = checksum(&to[start..]);
        to[start + 4..start + 8].copy_from_slice(&sum.to_le_bytes());
    }
}

/// Reads the record that some bytes begin with.
pub fn parse(bytes: &[u8]) -> Parsed<'_> {
    let Some(length) = bytes.first_chunk::<4>() else { return Parsed::Short };
    let length = u32::from_le_bytes(*length) as usize;
    if length > MESSAGE_BYTES_MAX {
        return Parsed::Damaged;
    }
    let Some(bytes) = bytes.get(..HEAD_BYTES + length) else { return Parsed::Short };
    let (head, message) = bytes.split_at(HEAD_BYTES);
    if four(&head[4..]) != checksum(bytes) {
        return Parsed::Damaged;
    }
    let record = Record {
        sequence: eight(&head[8..]),
        read_at: eight(&head[16..]) as i64,
        cut_bytes: four(&head[24..]),
        message,
    };
    Parsed::Whole(record, bytes.len())
}

/// The head of a segment whose first record has this number or a later one.
pub fn segment_head(first: u64) -> [u8; SEGMENT_HEAD_BYTES] {
    let mut head = [0; SEGMENT_HEAD_BYTES];
    head[..8].copy_from_slice(&MAGIC);
    head[8..12].copy_from_slice(&VERSION.to_le_bytes());
    head[12..].copy_from_slice(&first.to_le_bytes());
    head
}

/// The number in the head of a segment. `Err` is a newer version, `Ok(None)` no segment.
pub fn parse_segment_head(bytes: &[u8]) -> Result<Option<u64>, u32> {
    let Some(head) = bytes.first_chunk::<SEGMENT_HEAD_BYTES>() else { return Ok(None) };
    if head[..8] != MAGIC {
        return Ok(None);
    }
    match four(&head[8..]) {
        VERSION => Ok(Some(eight(&head[12..]))),
        version => Err(version),
    }
}

fn checksum(record: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&record[..4]);
    hasher.update(&record[8..]);
    hasher.finalize()
}

fn four(bytes: &[u8]) -> u32 {
    u32::from_le_bytes(*bytes.first_chunk().expect("the head is long enough"))
}

fn eight(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(*bytes.first_chunk().expect("the head is long enough"))
}
