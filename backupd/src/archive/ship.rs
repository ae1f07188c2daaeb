//! From the spool into one depot: each piece at once as a tail, and many of them later as a segment.
//!
//! Every depot has its own place in the spool, so that one that is away holds up no other. A piece
//! goes when it is in a segment of every depot.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use chassis::durable;
use chrono::Utc;
use database::gtid::GtidSet;
use depot::depot::{Depot, explain};
use depot::log::{Head, Kind, LogName, Timeline, seal};
use depot::names::Sha256;
use depot::store::{Body, StoreError};
use serde::{Deserialize, Serialize};

use super::receive::{flavour_text, ignore_missing};
use super::spool::{Piece, read_json};
use super::{Archiver, lock};

/// How often the spool is looked at.
const POLL: Duration = Duration::from_millis(200);

/// Up to where a depot has the spool.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Shipped {
    /// Pieces below this are there, as tails or in segments.
    tails: u64,
    /// Pieces below this are there in segments.
    segments: u64,
    /// The last object.
    last: Option<Sha256>,
    /// The last segment.
    last_segment: Option<Sha256>,
    /// Timelines whose beginning is there.
    begun: BTreeSet<Timeline>,
    /// All that is there.
    upto: String,
}

/// One depot of one archive.
struct Shipping<'a> {
    archiver: &'a Archiver,
    place: usize,
    shipped: Shipped,
}

impl Archiver {
    fn shipped_path(&self, place: usize) -> std::path::PathBuf {
        self.spool.dir().join(format!("depot-{}.shipped", self.depots[place].0))
    }

    /// Ships to a depot until it is stopped.
    pub(super) fn ship(&self, place: usize) {
        let shipped = read_json(&self.shipped_path(place)).unwrap_or_default();
        let mut shipping = Shipping { archiver: self, place, shipped };
        shipping.show(None);
        let mut failures = 0;
        while !self.stop.is_stopped() {
            let Err(error) = shipping.ship_all(&mut failures) else { continue };
            if self.stop.is_stopped() {
                return;
            }
            failures += 1;
            let depot = &self.depots[place].0;
            tracing::warn!(job = %self.name, %depot, "the log does not go out: {error:#}");
            shipping.show(Some(format!("{error:#}")));
            self.wait_after(failures);
        }
    }

    /// Removes pieces that every depot has in a segment.
    fn clean_spool(&self) -> Result<()> {
        let below = |place| {
            read_json::<Shipped>(&self.shipped_path(place)).map_or(0, |shipped| shipped.segments)
        };
        let all = (0..self.depots.len()).map(below).min().unwrap_or_default();
        self.spool.remove_below(all)?;
        let spool_bytes = self.spool.bytes();
        self.tell(|status| status.spool_bytes = spool_bytes);
        Ok(())
    }
}

impl Shipping<'_> {
    /// Opens the depot and ships what there is, again and again.
    fn ship_all(&mut self, failures: &mut u32) -> Result<()> {
        let (name, store) = &self.archiver.depots[self.place];
        let stop = &self.archiver.stop;
        let depot = Depot::open(name.as_str(), store, stop)?;
        self.show(None);
        while !stop.is_stopped() {
            if self.ship_next(&depot)? {
                *failures = 0;
            } else if stop.wait_timeout(POLL) {
                break;
            }
            self.show(None);
        }
        Ok(())
    }

    /// Ships a segment if one is due, else a tail. False if there is nothing to do.
    fn ship_next(&mut self, depot: &Depot) -> Result<bool> {
        let waiting = self.archiver.spool.from(self.shipped.segments);
        let run = run_of(&waiting, self.archiver);
        if is_due(run, waiting.len(), self.archiver) {
            self.put(depot, Kind::Segment, run)?;
            self.archiver.clean_spool()?;
            return Ok(true);
        }
        let next = waiting.iter().find(|piece| piece.number >= self.shipped.tails);
        match next {
            Some(piece) => self.put(depot, Kind::Tail, &[Arc::clone(piece)]).map(|()| true),
            None => Ok(false),
        }
    }

    fn put(&mut self, depot: &Depot, kind: Kind, pieces: &[Arc<Piece>]) -> Result<()> {
        let (Some(first), Some(last)) = (pieces.first(), pieces.last()) else { return Ok(()) };
        self.put_begin(depot, &first.timeline)?;
        let head = self.head(kind, pieces);
        let path = self.archiver.spool.dir().join(format!(".sealed-{}", self.place));
        let file = File::create(&path).context("write sealed log")?;
        let mut output = BufWriter::new(file);
        let binlog = Merged::open(self.archiver, pieces)?;
        let sealed = seal(&head, binlog, &self.archiver.recipients, &mut output)?;
        output.flush().context("write sealed log")?;
        depot.put_log(&sealed, Body::File(&path))?;
        fs::remove_file(&path).or_else(ignore_missing).context("remove sealed log")?;
        self.shipped.last = Some(sealed.sum);
        self.shipped.tails = self.shipped.tails.max(last.number + 1);
        self.shipped.upto.clone_from(&last.upto);
        if kind == Kind::Segment {
            self.shipped.last_segment = Some(sealed.sum);
            self.shipped.segments = last.number + 1;
        }
        self.remember()
    }

    fn remember(&self) -> Result<()> {
        let text = serde_json::to_vec(&self.shipped).context("encode what is shipped")?;
        let path = self.archiver.shipped_path(self.place);
        durable::write_replace(&path, &text, 0o600).context("remember what is shipped")
    }

    /// A timeline is known in every depot before its first piece is there.
    fn put_begin(&mut self, depot: &Depot, timeline: &Timeline) -> Result<()> {
        if self.shipped.begun.contains(timeline) {
            return Ok(());
        }
        let path = self.archiver.spool.dir().join(format!("{timeline}.begin"));
        // Without it the timeline is one that was joined: whoever opened it says so.
        if let Ok(text) = fs::read(&path) {
            match depot.store().create(&timeline.begin_object(), Body::Bytes(&text)) {
                Ok(()) | Err(StoreError::Exists { .. }) => {}
                Err(error) => return Err(explain(error)).context("say how the timeline began"),
            }
        }
        self.shipped.begun.insert(timeline.clone());
        Ok(())
    }

    fn head(&self, kind: Kind, pieces: &[Arc<Piece>]) -> Head {
        let (first, last) = (&pieces[0], &pieces[pieces.len() - 1]);
        let before = match kind {
            Kind::Segment => self.shipped.last_segment,
            Kind::Tail => self.shipped.last,
        };
        let heads: u64 = pieces[1..].iter().map(|piece| piece.head.len() as u64).sum();
        Head {
            version: Head::VERSION,
            timeline: first.timeline.clone(),
            source: self.archiver.host.clone(),
            kind,
            flavour: flavour_text(first.flavour).to_owned(),
            server: last.server.clone(),
            server_id: last.server_id,
            after: first.after.clone(),
            upto: last.upto.clone(),
            set: set_of(pieces),
            first: first.first.clone(),
            last: last.last.clone(),
            committed: pieces.iter().fold(first.committed, |sum, piece| {
                (sum.0.min(piece.committed.0), sum.1.max(piece.committed.1))
            }),
            transactions: pieces.iter().map(|piece| piece.transactions).sum(),
            bytes: pieces.iter().map(|piece| piece.bytes).sum::<u64>() - heads,
            before,
        }
    }

    /// Shows how far the depot is.
    fn show(&self, error: Option<String>) {
        let waiting = self.archiver.spool.from(self.shipped.tails);
        let (upto, place) = (self.shipped.upto.clone(), self.place);
        let bytes = waiting.iter().map(|piece| piece.bytes).sum();
        let waiting_since = waiting.iter().map(|piece| piece.received).min();
        let mut status = lock(&self.archiver.status);
        let lag = &mut status.depots[place];
        (lag.bytes, lag.waiting_since, lag.upto, lag.error) = (bytes, waiting_since, upto, error);
    }
}

fn set_of(pieces: &[Arc<Piece>]) -> GtidSet {
    let mut set = GtidSet::default();
    for piece in pieces {
        set.add(&piece.set);
    }
    set
}

/// The pieces from the first on that fit together into one segment.
fn run_of<'a>(waiting: &'a [Arc<Piece>], archiver: &Archiver) -> &'a [Arc<Piece>] {
    let Some(first) = waiting.first() else { return waiting };
    let mut bytes = 0;
    let mut set = GtidSet::default();
    let room = LogName::set_bytes_max(&first.timeline, &archiver.host);
    let mut after = &first.after;
    let mut count = 0;
    for piece in waiting {
        set.add(&piece.set);
        let is_next = piece.timeline == first.timeline
            && piece.head == first.head
            && piece.after == *after
            && bytes < archiver.config.segment_size.0
            && (set.interval_count() <= 1 || LogName::set_text(&set).len() <= room);
        if !is_next {
            break;
        }
        bytes += piece.bytes;
        after = &piece.upto;
        count += 1;
    }
    &waiting[..count]
}

/// A segment is due when it is large or old enough, or when what comes next does not fit to it.
fn is_due(run: &[Arc<Piece>], waiting: usize, archiver: &Archiver) -> bool {
    let Some(first) = run.first() else { return false };
    let bytes: u64 = run.iter().map(|piece| piece.bytes).sum();
    let age = (Utc::now() - first.received).to_std().unwrap_or_default();
    run.len() < waiting
        || bytes >= archiver.config.segment_size.0
        || age >= archiver.config.segment_age.0
}

/// Several pieces as one binlog file: the head of the first, and the transactions of all.
struct Merged {
    files: std::vec::IntoIter<BufReader<File>>,
    now: Option<BufReader<File>>,
}

impl Merged {
    fn open(archiver: &Archiver, pieces: &[Arc<Piece>]) -> Result<Self> {
        let mut files = Vec::new();
        for (place, piece) in pieces.iter().enumerate() {
            let path = archiver.spool.path(piece.number);
            let mut file = File::open(&path).with_context(|| format!("open {}", path.display()))?;
            let length = file.metadata().context("look at spool")?.len();
            ensure!(length == piece.bytes, "{} has {length} bytes", path.display());
            if place > 0 {
                file.seek(SeekFrom::Start(piece.head.len() as u64)).context("read spool")?;
            }
            files.push(BufReader::with_capacity(128 << 10, file));
        }
        let mut files = files.into_iter();
        let now = files.next();
        Ok(Self { files, now })
    }
}

impl Read for Merged {
    fn read(&mut self, bytes: &mut [u8]) -> std::io::Result<usize> {
        while let Some(file) = &mut self.now {
            let count = file.read(bytes)?;
            if count > 0 || bytes.is_empty() {
                return Ok(count);
            }
            self.now = self.files.next();
        }
        Ok(0)
    }
}
