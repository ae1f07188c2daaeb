//! Reading one file into a snapshot: in pieces, past holes, and without spoiling the page cache.
//!
//! Whether the file held still is for the caller to see, by comparing what it looked like before
//! and after.

use std::io::IoSliceMut;
use std::num::NonZeroU64;
use std::os::fd::{AsFd, BorrowedFd};

use anyhow::Result;
use chassis::retry::Stop;
use depot::writer::{FileNumber, SnapshotWriter};
use rustix::fs::{Advice, SeekFrom, fadvise, seek};
use rustix::io::{Errno, ReadWriteFlags, pread, preadv2};

/// Bytes read by one call.
pub const PIECE_BYTES: usize = 1 << 20;
/// Files from this size on are dropped from the page cache behind the reader, if they were not in
/// it.
const DROP_BYTES_MIN: u64 = 4 << 20;
/// At so many places it is tried whether a file is in the page cache.
const PROBES: u64 = 4;

/// Why the content of a file is not stored.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file cannot be read: a problem of this file.
    #[error("read file")]
    File(#[from] Errno),
    /// The run cannot go on.
    #[error("store file")]
    Run(#[source] anyhow::Error),
}

/// An open file and how much of it is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Content<'a> {
    /// The file, open for reading.
    pub file: BorrowedFd<'a>,
    /// Its size; what it grows by meanwhile is not read.
    pub size: u64,
    /// It is worth looking for holes.
    pub holes: bool,
}

/// Where content goes.
pub struct Sink<'a> {
    /// The writer.
    pub writer: &'a mut SnapshotWriter,
    /// The file, open in the writer.
    pub number: FileNumber,
    /// For one piece: [`PIECE_BYTES`].
    pub buffer: &'a mut [u8],
    /// Looked at between pieces.
    pub stop: &'a Stop,
}

impl Content<'_> {
    /// Feeds the content to the writer. Says whether there was a hole; ends early if the file
    /// became shorter.
    pub fn store(self, sink: &mut Sink<'_>) -> Result<bool, ReadError> {
        let drops = self.size >= DROP_BYTES_MIN && !self.is_cached();
        if self.size > PIECE_BYTES as u64 {
            self.advise(0, 0, Advice::Sequential); // Doubles the read-ahead.
        }
        let mut holed = false;
        let mut at = 0;
        while at < self.size {
            let (begin, end) = self.data_from(at)?;
            if begin > at {
                holed = true;
                sink.writer.skip(sink.number, begin - at).map_err(ReadError::Run)?;
            }
            at = self.store_data(begin, end, drops, sink)?;
            if at < end {
                break;
            }
        }
        Ok(holed)
    }

    /// Feeds what is between two holes; says how far it came.
    fn store_data(
        self,
        mut at: u64,
        end: u64,
        drops: bool,
        sink: &mut Sink<'_>,
    ) -> Result<u64, ReadError> {
        while at < end {
            super::check_stop(sink.stop).map_err(ReadError::Run)?;
            let wanted = sink.buffer.len().min(usize::try_from(end - at).unwrap_or(usize::MAX));
            let length = pread(self.file, &mut sink.buffer[..wanted], at)?;
            if length == 0 {
                break;
            }
            let piece = &sink.buffer[..length];
            sink.writer.write(sink.number, piece).map_err(ReadError::Run)?;
            at += length as u64;
            if drops {
                // From the beginning: what is only in part in a range is not dropped with it.
                self.advise(0, at, Advice::DontNeed);
            }
        }
        Ok(at)
    }

    /// Says what is going to be read (0 bytes: up to the end). Only a wish: if it is not heard,
    /// reading is slower.
    fn advise(self, at: u64, length: u64, advice: Advice) {
        if let Err(error) = fadvise(self.file, at, NonZeroU64::new(length), advice) {
            tracing::trace!("advice is not taken: {error}");
        }
    }

    /// Where the next data begins and ends; both are the size if there is none.
    fn data_from(self, at: u64) -> Result<(u64, u64), Errno> {
        if !self.holes {
            return Ok((at, self.size));
        }
        let begin = match seek(self.file, SeekFrom::Data(at)) {
            Ok(begin) => begin.min(self.size),
            Err(Errno::NXIO) => return Ok((self.size, self.size)),
            // A file system that knows no holes.
            Err(Errno::INVAL) => return Ok((at, self.size)),
            Err(error) => return Err(error),
        };
        // The file may have become shorter since.
        let end = seek(self.file, SeekFrom::Hole(begin)).unwrap_or(self.size);
        Ok((begin, end.min(self.size)))
    }

    /// True if a part of the file is in the page cache, or if that cannot be told.
    ///
    /// A backup reads everything once and would fill the cache with what nobody asks for: so a
    /// large file is dropped from it behind the reader. But what was in the cache before is in use
    /// by the site, and stays.
    fn is_cached(self) -> bool {
        let is_cached_at = |at| {
            let mut byte = [0];
            let mut piece = [IoSliceMut::new(&mut byte)];
            !matches!(preadv2(self.file, &mut piece, at, ReadWriteFlags::NOWAIT), Err(Errno::AGAIN))
        };
        (0..PROBES).any(|probe| is_cached_at(self.size / PROBES * probe))
    }
}

impl<'a> Content<'a> {
    /// All of a file.
    pub fn of(file: &'a impl AsFd, size: u64, holes: bool) -> Self {
        Self { file: file.as_fd(), size, holes }
    }
}
