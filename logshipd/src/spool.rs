//! A bounded queue on disk for messages that cannot be read again: syslog, datagrams, the journal.
//!
//! Messages are appended to segment files; what [`Spool::sync`] has made durable can be read, and only that, so a
//! number that a store has seen never comes to mean another message. [`Spool::acknowledge`] moves the beginning and
//! removes segments that are wholly before it. Its end after a crash may be a part of a record: that is cut off.
//! A spool that is full takes nothing; what its owner does then depends on whether the sender can be made to wait.

pub mod record;
mod segment;

pub use segment::{Scanned, scan};

use std::collections::VecDeque;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use self::record::{HEAD_BYTES, MESSAGE_BYTES_MAX, Parsed, Record};
use self::segment::Segment;
use crate::document::UnixNanos;

const STATE_NAME: &str = "acknowledged";
const STATE_MAGIC: &str = "logshipd-spool";
const STATE_VERSION: u32 = 1;
/// Of a number: those below count within a run.
const RUN_BITS: u32 = 40;
/// What is read at a time, at least.
const READ_BYTES: usize = 64 << 10;

/// What a spool holds at most.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// All segments together.
    pub bytes: u64,
    /// After how many bytes the next segment begins.
    pub segment_bytes: u64,
}

/// What was found to be wrong when a spool was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Damage {
    /// Bytes at the end that were no whole record: what a crash leaves.
    pub torn_bytes: u64,
    /// Bytes elsewhere that are not what was written, and are passed over.
    pub bad_bytes: u64,
}

/// What is remembered apart from the messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State {
    /// Of this spool and no other: part of the ids of its documents.
    pub identity: u64,
    /// How often it was opened.
    pub run: u64,
    /// Everything up to this number is shipped.
    pub acknowledged: u64,
}

/// The queue.
#[derive(Debug)]
pub struct Spool {
    dir: PathBuf,
    limits: Limits,
    state: State,
    /// The number of the next record.
    next: u64,
    segments: VecDeque<Segment>,
    /// Where the next record is read: which segment, by its first number, and at which byte.
    read: (u64, u64),
    /// Appended to the last segment, but not yet written.
    pending: Vec<u8>,
}

impl Spool {
    /// Opens the spool of a directory, which is made if it is not there. `identity` is for a new one.
    pub fn open(dir: &Path, limits: Limits, identity: u64) -> Result<(Self, Damage)> {
        fs::create_dir_all(dir).context("make a spool directory")?;
        let known = read_state(dir)?;
        let State { identity, run, acknowledged } =
            known.unwrap_or(State { identity, run: 0, acknowledged: 0 });
        let mut damage = Damage::default();
        let mut segments = segment::open_all(dir, &mut damage)?;
        // Each run has numbers of its own, so that none is given twice whatever a crash has taken away.
        let seen = segments.back().map_or(0, |last| last.next >> RUN_BITS);
        let run = run.max(seen) + 1;
        let next = run << RUN_BITS;
        for empty in segments.iter().filter(|segment| segment.next == segment.first) {
            fs::remove_file(&empty.path).context("remove an empty spool segment")?;
        }
        segments.retain(|segment| segment.next > segment.first);
        let mut spool = Self {
            dir: dir.to_owned(),
            limits,
            state: State { identity, run, acknowledged },
            next,
            segments,
            read: (0, 0),
            pending: Vec::new(),
        };
        spool.write_state()?;
        spool.remove_acknowledged()?;
        spool.rewind();
        Ok((spool, damage))
    }

    /// Part of the ids of its documents, with the sequence number.
    pub fn identity(&self) -> u64 {
        self.state.identity
    }

    /// Bytes of all segments.
    pub fn bytes(&self) -> u64 {
        let written: u64 = self.segments.iter().map(|segment| segment.bytes).sum();
        written + self.pending.len() as u64
    }

    /// Whether a message of this length would be refused.
    pub fn is_full_for(&self, length: usize) -> bool {
        self.bytes() + (HEAD_BYTES + length) as u64 > self.limits.bytes
    }

    /// Takes a message; false if there is no room, and an error if the disk fails: then nothing is taken.
    /// It is safe after [`sync`](Self::sync). What is
    /// longer than [`MESSAGE_BYTES_MAX`] is cut.
    pub fn append(&mut self, read_at: UnixNanos, cut_bytes: u32, message: &[u8]) -> Result<bool> {
        let kept = &message[..message.len().min(MESSAGE_BYTES_MAX)];
        if self.is_full_for(kept.len()) {
            return Ok(false);
        }
        let more = u32::try_from(message.len() - kept.len()).unwrap_or(u32::MAX);
        let cut_bytes = cut_bytes.saturating_add(more);
        if self.pending.len() >= READ_BYTES {
            self.write_pending()?;
        }
        Record { sequence: self.next, read_at, cut_bytes, message: kept }.write(&mut self.pending);
        self.next += 1;
        Ok(true)
    }

    /// Makes everything that was appended durable, and readable.
    pub fn sync(&mut self) -> Result<()> {
        self.write_pending()?;
        let segments = self.segments.iter_mut().filter(|segment| segment.is_unsynced());
        segments.into_iter().try_for_each(Segment::sync)
    }

    fn write_pending(&mut self) -> Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let limit = self.limits.segment_bytes;
        let is_fit = |segment: &Segment| segment.is_open() && segment.bytes < limit;
        if !self.segments.back().is_some_and(is_fit) {
            let Parsed::Whole(record, _) = record::parse(&self.pending) else {
                unreachable!("only whole records are pending");
            };
            self.segments.push_back(Segment::create(&self.dir, record.sequence)?);
        }
        let segment = self.segments.back_mut().expect("there is one now");
        segment.append(&self.pending, self.next)?;
        self.pending.clear();
        Ok(())
    }

    /// Reads on where the last reading ended: at most about `bytes`, each durable record once. Returns how many.
    pub fn read(&mut self, bytes: usize, take: &mut impl FnMut(Record<'_>)) -> Result<usize> {
        let mut count = 0;
        let mut buffer = Vec::new();
        let mut taken = 0;
        while taken < bytes {
            let Some(at) = self.segments.iter().position(|segment| segment.first >= self.read.0)
            else {
                break;
            };
            let segment = &self.segments[at];
            if segment.first > self.read.0 {
                self.read = (segment.first, 0);
            }
            segment.read(self.read.1, READ_BYTES, &mut buffer)?;
            let mut rest = &buffer[..];
            while let Parsed::Whole(record, size) = record::parse(rest) {
                if record.sequence > self.state.acknowledged {
                    take(record);
                    count += 1;
                }
                rest = &rest[size..];
            }
            let size = buffer.len() - rest.len();
            self.read.1 += size as u64;
            taken += size;
            if size == 0 {
                if at + 1 == self.segments.len() {
                    break;
                }
                self.read = (segment.first + 1, 0);
            }
        }
        Ok(count)
    }

    /// Reading begins again after what is acknowledged.
    pub fn rewind(&mut self) {
        self.read = (0, 0);
    }

    /// Everything up to a number is shipped: durable when this returns. Room is made where that can be.
    pub fn acknowledge(&mut self, sequence: u64) -> Result<()> {
        assert!(sequence < self.next, "{sequence} is acknowledged, {} is next", self.next);
        if sequence <= self.state.acknowledged {
            return Ok(());
        }
        self.state.acknowledged = sequence;
        self.write_state()?;
        self.remove_acknowledged()
    }

    fn remove_acknowledged(&mut self) -> Result<()> {
        while self
            .segments
            .front()
            .is_some_and(|segment| segment.next <= self.state.acknowledged + 1)
        {
            let segment = self.segments.pop_front().expect("there is one");
            match fs::remove_file(&segment.path) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(error).context("remove a spool segment");
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn write_state(&self) -> Result<()> {
        let State { identity, run, acknowledged } = self.state;
        let body = format!("{identity:016x} {run} {acknowledged}");
        let sum = crc32fast::hash(body.as_bytes());
        let text = format!("{STATE_MAGIC} {STATE_VERSION} {sum:08x} {body}\n");
        let path = self.dir.join(STATE_NAME);
        chassis::durable::write_replace(&path, text.as_bytes(), 0o600).context("write spool state")
    }
}

fn read_state(dir: &Path) -> Result<Option<State>> {
    let path = dir.join(STATE_NAME);
    let text = match fs::read(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        text => text.context("read spool state")?,
    };
    let state = parse_state(&String::from_utf8_lossy(&text));
    state.map(Some).with_context(|| format!("read {}", path.display()))
}

/// Reads a state as it is written.
pub fn parse_state(text: &str) -> Result<State> {
    let words: Vec<&str> = text.trim_end().split(' ').collect();
    let [STATE_MAGIC, version, rest @ ..] = words.as_slice() else {
        anyhow::bail!("it is no state of a spool");
    };
    let version: u32 = version.parse().context("read its version")?;
    anyhow::ensure!(version <= STATE_VERSION, "version {version} is newer than this program");
    let [sum, identity, run, acknowledged] = rest else { anyhow::bail!("it is not whole") };
    let body = format!("{identity} {run} {acknowledged}");
    let is_good = u32::from_str_radix(sum, 16) == Ok(crc32fast::hash(body.as_bytes()));
    anyhow::ensure!(is_good, "it is damaged: its checksum does not fit");
    let identity = u64::from_str_radix(identity, 16)?;
    let (run, acknowledged) = (run.parse()?, acknowledged.parse()?);
    anyhow::ensure!(run < 1 << (64 - RUN_BITS - 1), "it was opened {run} times");
    Ok(State { identity, run, acknowledged })
}

#[cfg(test)]
mod tests;
