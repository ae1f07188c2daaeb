//! One life of a log file: from its first line to its last, whatever it is called meanwhile.
//!
//! Nothing that was read is kept: half a line, or an entry that waits for more lines, is read again when the
//! file has grown. The file itself is the buffer. Each time, the bytes before the position are read with what
//! is new and must be what they were; a file that was truncated and written again is noticed by that.

use std::collections::VecDeque;
use std::io;
use std::time::{Duration, Instant};

use memchr::{memchr, memrchr};

use crate::checkpoint::Record;
use crate::identity::{FIRST_BYTES_MAX, HEAD_BYTES_MAX, Print};
use crate::input::Input;
use crate::parse::{Format, Joint};

/// What is read at a time.
pub const CHUNK_BYTES: usize = 256 << 10;

/// Where the file of a life is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Under the name that is written to.
    Live,
    /// Renamed, or a copy.
    Rotated,
    /// Deleted, but held open.
    Unlinked,
    /// Truncated, replaced or deleted: there is nothing to read from.
    Homeless,
}

/// How far a batch brings a life when it is acknowledged.
#[derive(Clone, Copy, Debug)]
struct Outstanding {
    batch: u64,
    end: u64,
    tail: Print,
    is_done: bool,
}

/// A life and what is going on with it.
#[derive(Debug)]
pub struct Life {
    /// What is remembered of it.
    pub record: Record,
    /// Which source it belongs to.
    pub source: usize,
    /// Where its file is.
    pub place: Place,
    /// Its file, open.
    pub input: Option<Input>,
    /// Where the next entry begins.
    pub read: u64,
    /// What stands before that.
    pub read_tail: Print,
    /// The offset in the last two checkpoints on disk.
    pub saved: u64,
    /// Since when nothing new was seen.
    pub quiet_since: Instant,
    /// When something of it was read last, in nanoseconds since 1970; 0 never.
    pub read_at: i64,
    outstanding: VecDeque<Outstanding>,
    /// How far the line at `read` is known to have no end.
    measured: u64,
}

/// An entry as it is in the file.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// Where it begins.
    pub offset: u64,
    /// Without its last newline.
    pub bytes: &'a [u8],
    /// Where the next one begins.
    pub end: u64,
    /// Bytes that are missing because it is too long.
    pub cut: u64,
    /// What stands before `end`, as far as it is at hand.
    pub before: &'a [u8],
}

/// How a reading ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// There may be more.
    More,
    /// All that is there was read.
    AtEnd,
    /// What was read before is not there any more.
    Replaced,
}

/// What bounds a reading.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// The longest entry.
    pub entry_bytes: usize,
    /// How long an entry waits for more lines.
    pub entry_age: Duration,
    /// Nobody writes to the file any more.
    pub is_final: bool,
}

impl Life {
    /// A life that goes on from what is remembered.
    pub fn new(
        record: Record,
        source: usize,
        place: Place,
        input: Option<Input>,
        now: Instant,
    ) -> Self {
        Self {
            source,
            place,
            input,
            read: record.offset,
            read_tail: record.tail,
            saved: record.offset,
            quiet_since: now,
            read_at: 0,
            outstanding: VecDeque::new(),
            measured: 0,
            record,
        }
    }

    /// Reads a chunk and hands out its whole entries.
    pub fn read(
        &mut self,
        format: Option<&Format>,
        bounds: &Bounds,
        buffer: &mut Vec<u8>,
        now: Instant,
        emit: &mut impl FnMut(&mut Self, Entry<'_>),
    ) -> io::Result<Outcome> {
        let Some(mut input) = self.input.take() else { return Ok(Outcome::AtEnd) };
        let outcome = self.read_from(&mut input, format, bounds, buffer, now, emit);
        self.input = Some(input);
        outcome
    }

    fn read_from(
        &mut self,
        input: &mut Input,
        format: Option<&Format>,
        bounds: &Bounds,
        buffer: &mut Vec<u8>,
        now: Instant,
        emit: &mut impl FnMut(&mut Self, Entry<'_>),
    ) -> io::Result<Outcome> {
        let size = input.metadata()?.len();
        if !input.is_packed() {
            if size < self.read {
                return Ok(Outcome::Replaced);
            }
            if size > self.record.size {
                self.quiet_since = now;
            }
            self.record.size = size;
        }
        let tail = self.read_tail.bytes as usize;
        let mut room = CHUNK_BYTES;
        loop {
            buffer.resize(tail + room, 0);
            let filled = input.read_at(buffer, self.read - tail as u64)?;
            if filled < tail && input.is_packed() {
                return Ok(Outcome::AtEnd);
            }
            if filled < tail || !self.read_tail.fits(&buffer[..tail]) {
                return Ok(Outcome::Replaced);
            }
            self.note_head(input, &buffer[tail..filled])?;
            let is_end = filled < tail + room;
            let is_final = bounds.is_final
                || (is_end && input.is_complete_at(self.read + (filled - tail) as u64));
            let is_ripe = is_end && (is_final || now - self.quiet_since >= bounds.entry_age);
            let data = &buffer[tail..filled];
            let ending = Ending { is_final: is_final && is_end, is_ripe };
            let split = Split { format, bounds, ending, base: self.read };
            let consumed = split.run(self, data, emit);
            if consumed > 0 {
                self.advance(consumed, &buffer[..tail + consumed]);
                return Ok(if is_end { Outcome::AtEnd } else { Outcome::More });
            }
            if is_end {
                return Ok(Outcome::AtEnd);
            }
            if room < bounds.entry_bytes + CHUNK_BYTES {
                room = bounds.entry_bytes + CHUNK_BYTES;
                continue;
            }
            return self.read_long(input, bounds, buffer, emit);
        }
    }

    /// A line that is longer than an entry may be: its beginning counts, and where it ends.
    fn read_long(
        &mut self,
        input: &mut Input,
        bounds: &Bounds,
        buffer: &mut [u8],
        emit: &mut impl FnMut(&mut Self, Entry<'_>),
    ) -> io::Result<Outcome> {
        let tail = self.read_tail.bytes as usize;
        let (kept, scratch) = buffer.split_at_mut(tail + bounds.entry_bytes);
        let kept_end = self.read + bounds.entry_bytes as u64;
        let mut at = self.measured.max(kept_end);
        let (end, before) = loop {
            let filled = input.read_at(scratch, at)?;
            if let Some(newline) = memchr(b'\n', &scratch[..filled]) {
                break (at + newline as u64 + 1, &scratch[..=newline]);
            }
            at += filled as u64;
            if filled < scratch.len() {
                if bounds.is_final || input.is_complete_at(at) {
                    break (at + 1, &scratch[..filled]);
                }
                self.measured = at;
                return Ok(Outcome::AtEnd);
            }
        };
        let is_whole = before.last() == Some(&b'\n');
        let next = if is_whole { end } else { end - 1 };
        let cut = end - 1 - kept_end;
        let bytes = &kept[tail..];
        emit(self, Entry { offset: self.read, bytes, end: next, cut, before });
        self.read_tail = Print::of_tail(before);
        self.read = next;
        self.measured = 0;
        Ok(Outcome::More)
    }

    fn advance(&mut self, consumed: usize, through: &[u8]) {
        self.read += consumed as u64;
        self.read_tail = Print::of_tail(through);
        self.measured = 0;
    }

    /// The hash of the beginning grows with the file.
    fn note_head(&mut self, input: &mut Input, data: &[u8]) -> io::Result<()> {
        let known = self.record.head.bytes as usize;
        if known >= HEAD_BYTES_MAX || self.read + data.len() as u64 <= known as u64 {
            return Ok(());
        }
        if self.read == 0 {
            self.record.head = Print::of_head(data);
            return Ok(());
        }
        let mut head = [0; HEAD_BYTES_MAX];
        let filled = input.read_at(&mut head, 0)?;
        self.record.head = Print::of_head(&head[..filled]);
        Ok(())
    }

    /// What tells this life from others, once it is there: the first line, or what there may be of it.
    pub fn first_line(&mut self) -> io::Result<Option<Vec<u8>>> {
        let Some(input) = &mut self.input else { return Ok(None) };
        let mut first = vec![0; FIRST_BYTES_MAX];
        let filled = input.read_at(&mut first, 0)?;
        first.truncate(filled);
        let newline = memchr(b'\n', &first);
        if newline.is_none() && filled < FIRST_BYTES_MAX {
            return Ok(None);
        }
        first.truncate(newline.unwrap_or(filled));
        Ok(Some(first))
    }

    /// Notes that a batch holds everything up to here.
    pub fn send_out(&mut self, batch: u64, end: u64, tail: Print) {
        debug_assert!(
            self.outstanding.back().is_none_or(|last| last.batch <= batch && last.end <= end)
        );
        match self.outstanding.back_mut().filter(|last| last.batch == batch) {
            Some(last) => (last.end, last.tail) = (end, tail),
            None => self.outstanding.push_back(Outstanding { batch, end, tail, is_done: false }),
        }
    }

    /// A batch is delivered; the offset moves over everything that is delivered without a gap.
    pub fn acknowledge(&mut self, batch: u64) {
        if let Some(found) = self.outstanding.iter_mut().find(|waiting| waiting.batch == batch) {
            found.is_done = true;
        }
        while let Some(first) = self.outstanding.front().filter(|first| first.is_done) {
            assert!(first.end >= self.record.offset, "{} after {}", first.end, self.record.offset);
            (self.record.offset, self.record.tail) = (first.end, first.tail);
            self.outstanding.pop_front();
        }
        self.record.cuts.retain(|cut| *cut > self.record.offset);
    }

    /// Whether everything that was read is delivered.
    pub fn is_settled(&self) -> bool {
        self.outstanding.is_empty() && self.record.offset == self.read
    }

    /// How many bytes are not delivered, as far as known.
    pub fn behind(&self) -> u64 {
        self.record.size.saturating_sub(self.record.offset)
    }
}

#[derive(Clone, Copy)]
struct Ending {
    /// Nothing will come any more: half a line is a line.
    is_final: bool,
    /// What waits for more has waited long enough.
    is_ripe: bool,
}

/// Cuts a chunk into entries.
struct Split<'a> {
    format: Option<&'a Format>,
    bounds: &'a Bounds,
    ending: Ending,
    base: u64,
}

impl Split<'_> {
    /// Returns how much of the data was handed out.
    fn run(
        &self,
        life: &mut Life,
        data: &[u8],
        emit: &mut impl FnMut(&mut Life, Entry<'_>),
    ) -> usize {
        let (mut start, mut at) = (0, 0);
        while let Some(length) = memchr(b'\n', &data[at..]) {
            let (newline, next) = (at + length, at + length + 1);
            if let Some(cut) = self.cut_within(life, at, newline) {
                self.emit(life, data, start, cut, cut, emit);
                (start, at) = (cut, cut);
                continue;
            }
            if next - start > self.bounds.entry_bytes && at > start {
                self.emit(life, data, start, at - 1, at, emit);
                start = at;
            }
            if newline - at > self.bounds.entry_bytes {
                self.emit_cut(life, data, at, newline, emit);
                (start, at) = (next, next);
                continue;
            }
            let open = &data[start..at.saturating_sub(1).max(start)];
            match self.format.map_or(Joint::Whole, |format| format.joint(&data[at..newline], open))
            {
                Joint::Continue => {}
                Joint::Start => {
                    if at > start {
                        self.emit(life, data, start, at - 1, at, emit);
                    }
                    start = at;
                }
                Joint::Whole => {
                    if at > start {
                        self.emit(life, data, start, at - 1, at, emit);
                    }
                    self.emit(life, data, at, newline, next, emit);
                    start = next;
                }
            }
            at = next;
            if life.record.cuts.contains(&(self.base + at as u64)) && at > start {
                self.emit(life, data, start, at - 1, at, emit);
                start = at;
            }
        }
        self.finish(life, data, start, at, emit)
    }

    /// What is left: an entry that may go on, and half a line.
    fn finish(
        &self,
        life: &mut Life,
        data: &[u8],
        start: usize,
        at: usize,
        emit: &mut impl FnMut(&mut Life, Entry<'_>),
    ) -> usize {
        if self.ending.is_final && at < data.len() && data.len() - start <= self.bounds.entry_bytes
        {
            life.record.cuts.push(self.base + data.len() as u64);
            self.emit(life, data, start, data.len(), data.len(), emit);
            return data.len();
        }
        if at > start && (self.ending.is_final || self.ending.is_ripe) {
            life.record.cuts.push(self.base + at as u64);
            self.emit(life, data, start, at - 1, at, emit);
            return at;
        }
        start
    }

    /// A place inside of a line where an entry was ended before.
    fn cut_within(&self, life: &Life, at: usize, newline: usize) -> Option<usize> {
        let inside =
            |cut: &&u64| **cut > self.base + at as u64 && **cut <= self.base + newline as u64;
        let cut = life.record.cuts.iter().filter(inside).min()?;
        Some((cut - self.base) as usize)
    }

    fn emit(
        &self,
        life: &mut Life,
        data: &[u8],
        start: usize,
        stop: usize,
        end: usize,
        emit: &mut impl FnMut(&mut Life, Entry<'_>),
    ) {
        let bytes = &data[start..stop];
        let (offset, before) = (self.base + start as u64, &data[..end]);
        emit(life, Entry { offset, bytes, end: self.base + end as u64, cut: 0, before });
    }

    fn emit_cut(
        &self,
        life: &mut Life,
        data: &[u8],
        at: usize,
        newline: usize,
        emit: &mut impl FnMut(&mut Life, Entry<'_>),
    ) {
        let bytes = &data[at..at + self.bounds.entry_bytes];
        let cut = (newline - at - self.bounds.entry_bytes) as u64;
        let (offset, end) = (self.base + at as u64, self.base + newline as u64 + 1);
        emit(life, Entry { offset, bytes, end, cut, before: &data[..=newline] });
    }
}

/// Where the last whole line of some bytes ends.
pub fn whole_lines(bytes: &[u8]) -> usize {
    memrchr(b'\n', bytes).map_or(0, |newline| newline + 1)
}
