//! A spool with two ends: sources put messages in, the reader takes them out and acknowledges.
//!
//! A source calls [`Inbox::put`] for each message and [`Inbox::commit`] when none is waiting: one sync for many. The
//! reader hears of it through a channel that holds one hint.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Result;
use chassis::retry::Stop;
use crossbeam_channel::Sender;

use crate::document::UnixNanos;
use crate::spool::record::Record;
use crate::spool::{Damage, Limits, Spool};

/// How often somebody who waits for room looks whether he is to stop.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// What happened to messages.
#[derive(Debug, Default)]
pub struct Counts {
    /// Taken.
    pub taken: AtomicU64,
    /// Taken, but not whole.
    pub cut: AtomicU64,
    /// Lost, since there was no room and the sender could not be made to wait.
    pub dropped: AtomicU64,
    /// Lost in the system's buffer of a UDP socket before they could be read.
    pub overflowed: AtomicU64,
    /// Connections that were refused, since there were too many.
    pub refused: AtomicU64,
}

/// The queue of one source.
#[derive(Debug)]
pub struct Inbox {
    spool: Mutex<Spool>,
    room: Condvar,
    hint: Sender<()>,
    /// For metrics.
    pub counts: Counts,
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// It is in the spool.
    Taken,
    /// There is no room, or the disk fails.
    Refused,
}

impl Inbox {
    /// Opens the spool of a directory; `hint` wakes the reader.
    pub fn open(
        dir: &Path,
        limits: Limits,
        identity: u64,
        hint: Sender<()>,
    ) -> Result<(Self, Damage)> {
        let (spool, damage) = Spool::open(dir, limits, identity)?;
        let spool = Mutex::new(spool);
        Ok((Self { spool, room: Condvar::new(), hint, counts: Counts::default() }, damage))
    }

    /// Takes a message if there is room.
    pub fn put(&self, read_at: UnixNanos, cut_bytes: u32, message: &[u8]) -> Put {
        let outcome = self.lock().append(read_at, cut_bytes, message);
        self.judge(outcome, cut_bytes)
    }

    /// Takes a message, and waits for room as long as it must; refused only when stopped.
    pub fn put_patiently(
        &self,
        read_at: UnixNanos,
        cut_bytes: u32,
        message: &[u8],
        stop: &Stop,
    ) -> Put {
        while !stop.is_stopped() {
            let mut spool = self.lock();
            let outcome = spool.append(read_at, cut_bytes, message);
            if self.judge(outcome, cut_bytes) == Put::Taken {
                return Put::Taken;
            }
            // What is not durable is not shipped, and then there will never be room.
            report(spool.sync());
            let _ = self.hint.try_send(());
            drop(self.room.wait_timeout(spool, POLL_INTERVAL));
        }
        Put::Refused
    }

    fn judge(&self, outcome: Result<bool>, cut_bytes: u32) -> Put {
        match outcome {
            Ok(true) => {
                self.counts.taken.fetch_add(1, Relaxed);
                self.counts.cut.fetch_add(u64::from(cut_bytes > 0), Relaxed);
                return Put::Taken;
            }
            Ok(false) => {}
            Err(error) => report(Err(error)),
        }
        Put::Refused
    }

    /// Makes durable what was put, and wakes the reader.
    pub fn commit(&self) {
        self.commit_with(|_| Ok(()));
    }

    /// As [`commit`](Self::commit); `then` is done while nothing can be acknowledged. False if something failed.
    pub fn commit_with(&self, then: impl FnOnce(&Spool) -> Result<()>) -> bool {
        let mut spool = self.lock();
        let outcome = spool.sync().and_then(|()| then(&spool));
        drop(spool);
        let is_done = outcome.is_ok();
        report(outcome);
        let _ = self.hint.try_send(());
        is_done
    }

    /// See [`Spool::read`]. The messages are taken while sources wait: be quick.
    pub fn read(&self, bytes: usize, take: &mut impl FnMut(Record<'_>)) -> Result<usize> {
        self.lock().read(bytes, take)
    }

    /// See [`Spool::acknowledge`].
    pub fn acknowledge(&self, sequence: u64) -> Result<()> {
        self.lock().acknowledge(sequence)?;
        self.room.notify_all();
        Ok(())
    }

    /// The spool itself.
    pub fn lock(&self) -> MutexGuard<'_, Spool> {
        self.spool.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn report(outcome: Result<()>) {
    if let Err(error) = outcome {
        tracing::warn!("a spool takes nothing: {error:#}");
    }
}
