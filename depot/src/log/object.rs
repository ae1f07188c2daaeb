//! Pieces of the log as objects: sealed by an agent, listed by anyone, opened with a key.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};

use anyhow::{Context, Result};
use chrono::{DateTime, Utc};

use super::{Begin, Head, Kind, LogName, Timeline};
use crate::crypt::{Identities, Recipients};
use crate::depot::{Depot, ObjectReader};
use crate::names::{Sha256, split_candidate};
use crate::store::{Body, ObjectInfo};

/// The encryption has a header and pieces of 64 KiB; a head is nearly always in the first of them.
const HEAD_AHEAD_BYTES: u64 = 68 << 10;

/// Level of zstd: a tail is soon garbage, a segment stays.
fn level(kind: Kind) -> i32 {
    match kind {
        Kind::Tail => 1,
        Kind::Segment => 3,
    }
}

/// A piece that is ready to be put.
#[derive(Clone, Debug)]
pub struct SealedLog {
    /// The checksum of it.
    pub sum: Sha256,
    /// Its size in bytes.
    pub size: u64,
    /// The name that it is put under.
    pub name: LogName,
}

/// A piece that is there whole, as far as its size tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogObject {
    /// What its name says.
    pub name: LogName,
    /// The candidate of the name that has the right size.
    pub stored: String,
    /// When it arrived, by the store's clock.
    pub arrived: DateTime<Utc>,
}

/// What is in the folder of the archive.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    /// Pieces, in the order of their names; each once.
    pub pieces: Vec<LogObject>,
    /// Objects that are torn, or of no meaning.
    pub torn: Vec<ObjectInfo>,
    /// How timelines began.
    pub begins: BTreeMap<Timeline, ObjectInfo>,
}

/// Compresses and encrypts a binlog file behind its head.
pub fn seal(
    head: &Head,
    mut binlog: impl Read,
    recipients: &Recipients,
    output: impl Write,
) -> Result<SealedLog> {
    let mut summing = Summing { output, sum: sha2::Digest::new(), size: 0 };
    let mut sealed = recipients.encrypt(&mut summing)?;
    sealed.write_all(&head.to_frame()?).context("write piece of log")?;
    let mut compressed = zstd::Encoder::new(sealed, level(head.kind)).context("compress log")?;
    io::copy(&mut binlog, &mut compressed).context("compress log")?;
    let sealed = compressed.finish().context("compress log")?;
    sealed.finish().context("encrypt log")?.flush().context("write piece of log")?;
    let (sum, size) = (Sha256(sha2::Digest::finalize(summing.sum).into()), summing.size);
    let name = LogName::new(
        head.timeline.clone(),
        head.source.clone(),
        head.kind,
        head.set.clone(),
        head.committed,
        (size, sum),
    );
    Ok(SealedLog { sum, size, name })
}

/// Sums up what passes through.
struct Summing<W> {
    output: W,
    sum: sha2::Sha256,
    size: u64,
}

impl<W: Write> Write for Summing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.output.write(bytes)?;
        sha2::Digest::update(&mut self.sum, &bytes[..count]);
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}

/// A piece that is open: its head, and the binlog file as a stream.
pub type LogReader<R> = zstd::Decoder<'static, io::BufReader<crate::crypt::PlainReader<R>>>;

/// Opens a piece: its head, and the binlog file behind it. What is read is authentic, by the
/// encryption, but whether it ends too early only the zstd frame tells: read it to the end.
pub fn read_head<R: Read>(
    stored: R,
    identities: &Identities,
) -> Result<(Head, LogReader<io::BufReader<R>>)> {
    let mut payload = identities.decrypt(io::BufReader::new(stored))?;
    let head = Head::read_frame(&mut payload)?;
    let log = zstd::Decoder::new(payload).context("decompress log")?;
    Ok((head, log))
}

impl Depot {
    /// Lists the archive. `job` narrows it to one job.
    pub fn logs(&self) -> Result<Listing> {
        Ok(sort(self.list(super::FOLDER)?))
    }

    /// Puts a piece of log that lies in a file.
    pub fn put_log(&self, sealed: &SealedLog, body: Body<'_>) -> Result<()> {
        self.put(&sealed.name.object(), body, sealed.size, sealed.sum)
    }

    /// Opens a piece that is there.
    pub fn open_log(
        &self,
        object: &LogObject,
        identities: &Identities,
    ) -> Result<(Head, LogReader<io::BufReader<ObjectReader<'_>>>)> {
        let mut stored = self.open_object(&object.stored, object.name.size);
        stored.read_far_ahead();
        read_head(stored, identities).with_context(|| format!("open `{}`", object.stored))
    }

    /// The head of a piece that is there; little more than that is fetched.
    pub fn log_head(&self, object: &LogObject, identities: &Identities) -> Result<Head> {
        let stored = self.open_object(&object.stored, object.name.size);
        stored.ahead().store(HEAD_AHEAD_BYTES, std::sync::atomic::Ordering::Relaxed);
        let head = read_head(stored, identities).map(|(head, _)| head);
        head.with_context(|| format!("open `{}`", object.stored))
    }

    /// How a timeline began; none if nothing that can be read says so.
    pub fn log_begin(&self, info: &ObjectInfo) -> Result<Option<Begin>> {
        Ok(self.read_text(info)?.and_then(|text| Begin::parse(&text).ok()))
    }
}

fn sort(objects: Vec<ObjectInfo>) -> Listing {
    let mut listing = Listing::default();
    for info in objects {
        let (object, _) = split_candidate(&info.name);
        let text = object.rsplit('/').next().unwrap_or_default();
        if let Some(Ok(timeline)) = text.strip_suffix(".begin").map(str::parse) {
            listing.begins.insert(timeline, info);
            continue;
        }
        match text.parse::<LogName>() {
            Ok(name) if name.size == info.size => {
                let arrived = info.arrived.into();
                // Of two whole candidates either will do.
                if listing.pieces.last().is_none_or(|last| last.name != name) {
                    listing.pieces.push(LogObject { name, stored: info.name, arrived });
                }
            }
            _ => listing.torn.push(info),
        }
    }
    listing
}

impl Listing {
    /// The timelines of a job, in order.
    pub fn timelines<'a>(&'a self, job: &'a str) -> impl Iterator<Item = &'a Timeline> {
        self.begins.keys().filter(move |timeline| timeline.job.as_str() == job)
    }

    /// The segments of a source in a timeline.
    pub fn of<'a>(
        &'a self,
        timeline: &'a Timeline,
        kind: Kind,
    ) -> impl Iterator<Item = &'a LogObject> {
        self.pieces
            .iter()
            .filter(move |piece| piece.name.timeline == *timeline && piece.name.kind == kind)
    }
}
