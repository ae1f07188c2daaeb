//! Checksums of events: none, or CRC32 in the last four bytes.

use super::event::{EventKind, HEADER_BYTES, flags};

/// Length of a checksum in bytes.
pub(super) const CHECKSUM_BYTES: usize = 4;

/// Where the kind and the flags are in an event.
const KIND_AT: usize = 4;
const FLAGS_AT: usize = 17;

/// How events are protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checksum {
    /// Not at all (`binlog_checksum=NONE`).
    None,
    /// CRC32 of all bytes before it.
    Crc32,
}

impl Checksum {
    /// From the byte of a format description.
    pub(super) fn of_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::None),
            1 => Some(Self::Crc32),
            _ => None,
        }
    }

    /// Length in bytes.
    pub(super) fn length(self) -> usize {
        match self {
            Self::None => 0,
            Self::Crc32 => CHECKSUM_BYTES,
        }
    }
}

/// A checksum on its way. In a format description the flag of a file in use does not count: the
/// server clears it when it closes the file, and leaves the checksum.
#[derive(Debug)]
pub(super) struct Summing(crc32fast::Hasher);

impl Summing {
    pub(super) fn begin(header: &[u8; HEADER_BYTES]) -> Self {
        let mut header = *header;
        if header[KIND_AT] == EventKind::FORMAT_DESCRIPTION.0 {
            header[FLAGS_AT] &= !(flags::IN_USE as u8);
        }
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&header);
        Self(hasher)
    }

    pub(super) fn add(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub(super) fn end(self) -> [u8; CHECKSUM_BYTES] {
        self.0.finalize().to_le_bytes()
    }
}

/// Puts the right checksum into the last four bytes of a whole event that was changed.
///
/// # Panics
/// If the event is shorter than a header and a checksum.
pub fn seal(event: &mut [u8]) {
    let at = event.len() - CHECKSUM_BYTES;
    let mut header = [0; HEADER_BYTES];
    header.copy_from_slice(&event[..HEADER_BYTES]);
    let mut sum = Summing::begin(&header);
    sum.add(&event[HEADER_BYTES..at]);
    let sum = sum.end();
    event[at..].copy_from_slice(&sum);
}
