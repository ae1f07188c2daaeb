//! Reading an object of any size through ranges.

use std::io::{self, Read, Seek, SeekFrom};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Depot, explain_to_reader};
use crate::store::StoreError;

const READ_AHEAD_BYTES: u64 = 4 << 20;
const READ_AHEAD_BYTES_MAX: u64 = 32 << 20;

/// Reads an object through ranges, so that one of any size needs little memory.
pub struct ObjectReader<'d> {
    depot: &'d Depot,
    name: String,
    size: u64,
    ahead: Arc<AtomicU64>,
    at: u64,
    held_at: u64,
    held: Vec<u8>,
}

impl<'d> ObjectReader<'d> {
    pub(super) fn new(depot: &'d Depot, name: &str, size: u64) -> Self {
        let ahead = Arc::new(AtomicU64::new(READ_AHEAD_BYTES));
        let name = name.to_owned();
        Self { depot, name, size, ahead, at: 0, held_at: 0, held: Vec::new() }
    }

    /// For one who reads all of it.
    pub(crate) fn read_far_ahead(&mut self) {
        self.ahead.store(READ_AHEAD_BYTES_MAX, Ordering::Relaxed);
    }

    /// How many bytes the next request fetches, to be set before a seek to a place whose length is
    /// known.
    pub fn ahead(&self) -> Arc<AtomicU64> {
        self.ahead.clone()
    }

    fn fetch(&mut self) -> Result<(), StoreError> {
        let ahead = self.ahead.load(Ordering::Relaxed).clamp(1, READ_AHEAD_BYTES_MAX);
        let length = ahead.min(self.size - self.at);
        let read = || self.depot.store.read_range(&self.name, self.at, length as usize);
        self.held = self.depot.again(read)?;
        self.held_at = self.at;
        Ok(())
    }
}

impl Read for ObjectReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at >= self.size || buffer.is_empty() {
            return Ok(0);
        }
        let held_end = self.held_at + self.held.len() as u64;
        if !(self.held_at..held_end).contains(&self.at) {
            self.fetch().map_err(explain_to_reader)?;
            if self.held.is_empty() {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "object is cut short"));
            }
        }
        let from = (self.at - self.held_at) as usize;
        let count = buffer.len().min(self.held.len() - from);
        buffer[..count].copy_from_slice(&self.held[from..from + count]);
        self.at += count as u64;
        Ok(count)
    }
}

impl Seek for ObjectReader<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let target = match to {
            SeekFrom::Start(offset) => Some(offset),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
            SeekFrom::End(by) => self.size.checked_add_signed(by),
        };
        self.at = target.ok_or_else(|| io::Error::other("seek before the start"))?;
        Ok(self.at)
    }
}
