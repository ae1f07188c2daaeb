//! The piece that is being written: events go into its file as they come, and what turns out not to
//! belong there is taken back.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result};
use chrono::{DateTime, Utc};
use database::binlog::Summary;
use database::gtid::{Gtid, GtidSet};
use database::replica::Have;

/// What is held in memory before it is written.
const BUFFER_BYTES: usize = 1 << 20;
/// Within one event no more than this is held.
const EVENT_BUFFER_BYTES: usize = 4 << 20;

/// A piece that is open.
#[derive(Debug)]
pub struct OpenPiece {
    /// Its number.
    pub number: u64,
    path: PathBuf,
    file: File,
    /// Bytes that are in the file, and those that are not yet.
    written: u64,
    buffer: Vec<u8>,
    /// Where the last whole transaction ends.
    whole: u64,
    /// What comes before the first transaction.
    pub head: Vec<u8>,
    /// What was there before it.
    pub after: Have,
    /// The whole transactions.
    pub content: Option<Content>,
}

/// What is in a piece.
#[derive(Clone, Debug)]
pub struct Content {
    /// The transactions.
    pub set: GtidSet,
    /// The first.
    pub first: Gtid,
    /// The last.
    pub last: Gtid,
    /// The least and the greatest commit time.
    pub committed: (u64, u64),
    /// How many.
    pub transactions: u64,
    /// When the first was received.
    pub received: (DateTime<Utc>, Instant),
}

impl OpenPiece {
    /// Begins a file with its head.
    pub fn create(path: PathBuf, number: u64, head: &[u8], after: Have) -> Result<Self> {
        use std::os::unix::fs::OpenOptionsExt;
        let mut options = File::options();
        options.create(true).truncate(true).read(true).write(true).mode(0o600);
        let file = options.open(&path).with_context(|| format!("make {}", path.display()))?;
        Ok(Self {
            number,
            path,
            file,
            written: 0,
            buffer: head.to_vec(),
            whole: head.len() as u64,
            head: head.to_vec(),
            after,
            content: None,
        })
    }

    /// Bytes so far.
    pub fn length(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    /// The bytes since `from`, which an event of ordinary length has just added.
    pub fn since(&self, from: u64) -> &[u8] {
        &self.buffer[(from - self.written) as usize..]
    }

    /// Makes room for an event.
    pub fn make_room(&mut self) -> io::Result<()> {
        if self.buffer.len() >= BUFFER_BYTES { self.write_out() } else { Ok(()) }
    }

    fn write_out(&mut self) -> io::Result<()> {
        self.file.write_all_at(&self.buffer, self.written)?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// Takes back all that came after a place.
    pub fn take_back(&mut self, to: u64) -> io::Result<()> {
        if to >= self.written {
            self.buffer.truncate((to - self.written) as usize);
            return Ok(());
        }
        self.buffer.clear();
        self.file.set_len(to)?;
        self.written = to;
        Ok(())
    }

    /// Takes back what is behind the last whole transaction.
    pub fn take_back_rest(&mut self) -> io::Result<()> {
        self.take_back(self.whole)
    }

    /// Counts a transaction that has come to its end. `before` is what was there before it.
    pub fn count(&mut self, summary: &Summary, set: GtidSet) {
        self.whole = self.length();
        let content = self.content.get_or_insert_with(|| Content {
            set: GtidSet::default(),
            first: summary.gtid.clone(),
            last: summary.gtid.clone(),
            committed: (summary.committed, summary.committed),
            transactions: 0,
            received: (Utc::now(), Instant::now()),
        });
        content.set = set;
        content.last = summary.gtid.clone();
        let (least, greatest) = content.committed;
        content.committed = (least.min(summary.committed), greatest.max(summary.committed));
        content.transactions += 1;
    }

    /// Ends the piece behind its last whole transaction, durably. What comes after that is the
    /// beginning of the next, which is at `next`.
    pub fn split(mut self, next: PathBuf, after: Have) -> Result<(u64, Self)> {
        let mut following = Self::create(next, self.number + 1, &self.head, after)?;
        self.write_out().context("write spool")?;
        if self.written > self.whole {
            self.file.seek(SeekFrom::Start(self.whole)).context("read spool")?;
            let mut rest = (&self.file).take(self.written - self.whole);
            io::copy(&mut rest, &mut following).context("copy spool")?;
            self.file.set_len(self.whole).context("cut spool")?;
        }
        self.file.sync_all().with_context(|| format!("flush {}", self.path.display()))?;
        Ok((self.whole, following))
    }
}

impl Write for OpenPiece {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.buffer.len() + bytes.len() > EVENT_BUFFER_BYTES {
            self.write_out()?;
        }
        self.buffer.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
