//! What the applier gets: the transactions from where it stands to the cut, piece by piece out of the
//! depot, each decrypted and decompressed as it is sent.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};
use chassis::failure::{Exit, Failure};
use database::binlog::Summary;
use database::binlog_server::{After, EventStream, Feed};
use database::gtid::{GtidSet, Stream};
use database::replica::Have;
use depot::log::{Archive, Link};

use super::{Means, Replay};
use crate::point::read;
use crate::share::check_stop;

pub(super) struct Supply<'a> {
    means: Means<'a>,
    replay: &'a Replay,
    /// Without the pieces that turned out to be damaged.
    archive: Mutex<Archive>,
    has_other_way: AtomicBool,
    transactions: AtomicU64,
    bytes: AtomicU64,
}

impl<'a> Supply<'a> {
    pub fn new(means: Means<'a>, replay: &'a Replay) -> Self {
        Self {
            means,
            replay,
            archive: Mutex::new((*replay.archive).clone()),
            has_other_way: AtomicBool::new(false),
            transactions: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
        }
    }

    fn archive(&self) -> MutexGuard<'_, Archive> {
        self.archive.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Transactions and bytes that were sent.
    pub fn sent(&self) -> (u64, u64) {
        (self.transactions.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed))
    }

    /// Whether a piece failed and others have what was in it: the applier must ask anew.
    pub fn has_other_way(&self) -> bool {
        self.has_other_way.swap(false, Ordering::Relaxed)
    }

    /// Sends what comes after `have`.
    pub fn feed(&self, have: &Have, stream: &mut EventStream) -> Result<After> {
        let upto = &self.replay.state.cut.upto;
        let mut state = have.to_set();
        let chain = self.archive().chain(&state, upto)?;
        let mut feed = Feed::default();
        for link in &chain.links {
            check_stop(self.means.stop)?;
            if let Err(error) = self.piece(link, &state, &mut feed, stream) {
                if stream.is_gone() || self.means.stop.is_stopped() {
                    return Err(error);
                }
                return self.without(link, &state, error);
            }
            state.add(&link.take);
        }
        Ok(After::Stay)
    }

    fn piece(
        &self,
        link: &Link,
        state: &GtidSet,
        feed: &mut Feed,
        stream: &mut EventStream,
    ) -> Result<()> {
        let (head, log) = self.means.depot.open_log(&link.object, self.means.identities)?;
        read::check_head(&head, &link.object)?;
        read::check_follows(&head, self.replay.positions.flavour, link, state)?;
        let count = |summary: &Summary| {
            self.transactions.fetch_add(1, Ordering::Relaxed);
            self.bytes.fetch_add(summary.bytes, Ordering::Relaxed);
            self.means.progress.add_bytes(summary.bytes);
        };
        feed.file(log, stream, |gtid| link.take.contains(gtid), count)
    }

    /// Goes on without a piece that cannot be read, if others have what was in it.
    fn without(&self, link: &Link, state: &GtidSet, error: anyhow::Error) -> Result<After> {
        let upto = &self.replay.state.cut.upto;
        let stored = &link.object.stored;
        let mut archive = self.archive();
        archive.pieces.retain(|piece| piece.stored != *stored);
        let sets = archive.pieces.iter().map(|piece| &piece.name.set);
        archive.union = sets.fold(GtidSet::default(), |union, set| union.union(set));
        if archive.chain(state, upto).is_ok() {
            tracing::warn!("`{stored}` is passed over, others have what is in it: {error:#}");
            self.has_other_way.store(true, Ordering::Relaxed);
            return Ok(After::HangUp);
        }
        let reachable = state.intersect(upto);
        let message = format!("`{stored}` is damaged, and nothing else has {}", link.take);
        let hint = format!(
            "what comes before it can be restored, with {reachable}: `--before-gtid` with the first of the piece; \
             or copy the object from another depot"
        );
        Err(Failure::new(Exit::Failed, message).hint(hint).because(error).into())
    }

    /// Whether all that may have been going on where the applier stands can be taken back by InnoDB.
    pub fn is_next_atomic(&self, state: &GtidSet) -> Result<bool> {
        let upto = &self.replay.state.cut.upto;
        let left = upto.subtract(state);
        let chain = self.archive().chain(state, upto)?;
        let mut seen: Vec<Stream> = Vec::new();
        let streams = left.iter().count();
        let mut is_atomic = true;
        let Means { depot, identities, stop, .. } = self.means;
        for link in &chain.links {
            read::transactions(depot, identities, link, stop, &mut |summary| {
                let stream = summary.gtid.stream();
                if !seen.contains(&stream) {
                    is_atomic &= summary.is_atomic;
                    seen.push(stream);
                }
                seen.len() < streams
            })
            .context("look at what comes next")?;
            if seen.len() == streams {
                break;
            }
        }
        Ok(is_atomic)
    }
}
