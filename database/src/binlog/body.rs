//! What is in the events that we read. Every length is checked: a log may be damaged or forged.

use std::io::Read;

use mysql_common::binlog::BinlogCtx;
use mysql_common::binlog::consts::BinlogVersion;
use mysql_common::binlog::events::{FormatDescriptionEvent, GtidEvent as LibraryEvent};
use mysql_common::io::ParseBuf;

use super::event::{EventKind, HEADER_BYTES};
use super::read::Event;
use super::{BinlogError, HEAD_BYTES_MAX};
use crate::gtid::{Gtid, GtidSet, Position, Stream, Uuid};

/// More intervals than this are in no set that a server could work with.
const INTERVALS_MAX: u64 = 1 << 20;

/// The bits of MariaDB's flags that we ask.
mod mariadb_flags {
    pub const STANDALONE: u8 = 1;
    pub const TRANSACTIONAL: u8 = 2;
    pub const DDL: u8 = 32;
}

/// The event that begins a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GtidEvent {
    /// Its id; none in MySQL's anonymous transactions.
    pub gtid: Option<Gtid>,
    /// Microseconds since 1970: when it was committed on this server (MySQL), or when the statement
    /// that committed it began, in whole seconds (MariaDB; that is all its log says).
    pub committed: u64,
    /// The same, on the server that wrote it first.
    pub committed_first: u64,
    /// MariaDB: it is a single statement without a commit after it.
    pub is_standalone: bool,
    /// MariaDB: it changes definitions.
    pub is_ddl: bool,
    /// All that it does is done or not done at once, together with what a replica notes of it. In
    /// MariaDB it is only so for rows in tables of transactional engines.
    pub is_atomic: bool,
}

/// A statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// The default database; may be empty.
    pub database: String,
    /// The text, as far as it is looked at; bytes that are not UTF-8 are replaced.
    pub text: String,
}

/// The end of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rotate {
    /// Where to go on in the next.
    pub position: u64,
    /// The name of the next.
    pub file: String,
}

/// A table for rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableMap {
    /// The number that row events refer to it by.
    pub id: u64,
    /// Its database.
    pub database: String,
    /// Its name.
    pub table: String,
}

/// Takes bytes from the front.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (front, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(front)
    }

    /// A number of up to eight bytes, the least first.
    fn number(&mut self, count: usize) -> Option<u64> {
        let bytes = self.take(count)?;
        Some(bytes.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
    }

    fn text(&mut self, count: usize) -> Option<String> {
        self.take(count).map(|bytes| String::from_utf8_lossy(bytes).into_owned())
    }
}

impl GtidEvent {
    /// Reads one of either flavour.
    pub fn parse(event: &Event<'_>) -> Result<Self, BinlogError> {
        let parsed = match event.header.kind {
            EventKind::MARIADB_GTID => mariadb_gtid(event),
            EventKind::GTID_TAGGED => tagged_gtid(event),
            _ => mysql_gtid(event),
        };
        parsed.ok_or_else(|| event.error("it is no GTID event"))
    }
}

fn mariadb_gtid(event: &Event<'_>) -> Option<GtidEvent> {
    let mut bytes = Bytes(event.body);
    let number = bytes.number(8).filter(|number| *number > 0)?;
    let domain = bytes.number(4)? as u32;
    let flags = bytes.number(1)? as u8;
    let committed = u64::from(event.header.time) * 1_000_000;
    Some(GtidEvent {
        gtid: Some(Gtid::MariaDb { domain, server: event.header.server_id, number }),
        committed,
        committed_first: committed,
        is_standalone: flags & mariadb_flags::STANDALONE != 0,
        is_ddl: flags & mariadb_flags::DDL != 0,
        is_atomic: flags & mariadb_flags::TRANSACTIONAL != 0 && flags & mariadb_flags::DDL == 0,
    })
}

fn mysql_gtid(event: &Event<'_>) -> Option<GtidEvent> {
    const HAS_ORIGINAL: u64 = 1 << 55;
    let mut bytes = Bytes(event.body);
    let _flags = bytes.number(1)?;
    let uuid = Uuid(bytes.take(16)?.try_into().ok()?);
    let number = bytes.number(8)?;
    let mut times = None;
    // The logical clock of parallel appliers comes first; servers before 5.7.5 have none.
    if bytes.number(1) == Some(2) && bytes.take(16).is_some() {
        times = bytes.number(7).and_then(|here| match here & HAS_ORIGINAL {
            0 => Some((here, here)),
            _ => Some((here & !HAS_ORIGINAL, bytes.number(7)?)),
        });
    }
    let seconds = u64::from(event.header.time) * 1_000_000;
    let (committed, committed_first) = times.unwrap_or((seconds, seconds));
    let is_anonymous = event.header.kind == EventKind::ANONYMOUS_GTID;
    if !is_anonymous && number == 0 {
        return None;
    }
    let gtid = (!is_anonymous).then_some(Gtid::MySql { uuid, tag: None, number });
    Some(GtidEvent {
        gtid,
        committed,
        committed_first,
        is_standalone: false,
        is_ddl: false,
        is_atomic: true,
    })
}

/// MySQL writes this one with a serialization library of its own; `mysql_common` knows it.
fn tagged_gtid(event: &Event<'_>) -> Option<GtidEvent> {
    let format = FormatDescriptionEvent::new(BinlogVersion::Version4);
    let length = HEADER_BYTES + event.body.len();
    let context = BinlogCtx::new(length, &format, event.header.kind.0);
    let parsed: LibraryEvent = ParseBuf(event.body).parse(context).ok()?;
    let tag = parsed.tag().map(ToString::to_string).filter(|tag| !tag.is_empty());
    let number = Some(parsed.gno()).filter(|number| *number > 0)?;
    Some(GtidEvent {
        gtid: Some(Gtid::MySql { uuid: Uuid(parsed.sid()), tag, number }),
        committed: parsed.immediate_commit_timestamp(),
        committed_first: parsed.original_commit_timestamp(),
        is_standalone: false,
        is_ddl: false,
        is_atomic: true,
    })
}

impl Query {
    /// Reads a statement, compressed or not.
    pub fn parse(event: &Event<'_>) -> Result<Self, BinlogError> {
        query(event).ok_or_else(|| event.error("it is no statement"))
    }
}

fn query(event: &Event<'_>) -> Option<Query> {
    let mut bytes = Bytes(event.body);
    bytes.take(8)?; // The session, and how long it took.
    let database_length = bytes.number(1)? as usize;
    bytes.take(2)?; // The error that it ended with.
    let variables_length = bytes.number(2)? as usize;
    bytes.take(variables_length)?;
    let database = bytes.text(database_length)?;
    bytes.take(1)?;
    let text = if event.header.kind == EventKind::QUERY_COMPRESSED {
        inflate(bytes.0)?
    } else {
        bytes.0.to_vec()
    };
    Some(Query { database, text: String::from_utf8_lossy(&text).into_owned() })
}

/// MariaDB's own frame around zlib: flags and the size of the length, the length, the data.
fn inflate(compressed: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Bytes(compressed);
    let first = bytes.number(1)? as u8;
    if first & 0xf0 != 0x80 {
        return None;
    }
    bytes.take(usize::from(first & 0x07))?;
    let mut text = Vec::new();
    let limit = HEAD_BYTES_MAX as u64;
    // The event itself may be cut off: what can be read is enough.
    drop(flate2::read::ZlibDecoder::new(bytes.0).take(limit).read_to_end(&mut text));
    Some(text)
}

impl Rotate {
    /// Reads the name of the next file.
    pub fn parse(event: &Event<'_>) -> Result<Self, BinlogError> {
        let mut bytes = Bytes(event.body);
        let position = bytes.number(8).ok_or_else(|| event.error("it is no rotation"))?;
        let file = String::from_utf8_lossy(bytes.0).into_owned();
        Ok(Self { position, file })
    }
}

impl TableMap {
    /// Reads the name of a table. Its columns stay unread.
    pub fn parse(event: &Event<'_>) -> Result<Self, BinlogError> {
        let parse = || {
            let mut bytes = Bytes(event.body);
            let id = bytes.number(6)?;
            bytes.take(2)?;
            let mut name = || {
                let length = bytes.number(1)? as usize;
                let name = bytes.text(length)?;
                bytes.take(1).map(|_| name)
            };
            Some(Self { id, database: name()?, table: name()? })
        };
        parse().ok_or_else(|| event.error("it is no table"))
    }
}

/// What is in the files before, as MariaDB tells it. Events that were longer than
/// [`HEAD_BYTES_MAX`] are refused.
pub fn gtid_list(event: &Event<'_>) -> Result<Position, BinlogError> {
    let parse = || {
        let mut bytes = Bytes(event.body);
        let count = bytes.number(4)? & 0x0fff_ffff;
        let mut position = Position::default();
        for _ in 0..count {
            let domain = bytes.number(4)? as u32;
            let server = bytes.number(4)? as u32;
            let number = bytes.number(8)?;
            let last = position.0.entry(domain).or_insert((server, number));
            // The last of a domain comes last.
            *last = (server, number);
        }
        Some(position)
    };
    parse().ok_or_else(|| event.error("it is no GTID list"))
}

/// What is in the files before, as MySQL tells it, with tags or without.
pub fn previous_gtids(event: &Event<'_>) -> Result<GtidSet, BinlogError> {
    set_of_bytes(event.body).ok_or_else(|| event.error("it is no GTID set"))
}

/// A set as the protocol and the log have it.
pub fn set_of_bytes(body: &[u8]) -> Option<GtidSet> {
    let mut bytes = Bytes(body);
    let head = bytes.number(8)?;
    // The set with tags has a 1 at either end of the count.
    let has_tags = head & 0xff == 1 && head >> 56 == 1;
    let count = if has_tags { (head >> 8) & 0xffff_ffff_ffff } else { head };
    let mut set = GtidSet::default();
    for _ in 0..count {
        let uuid = Uuid(bytes.take(16)?.try_into().ok()?);
        let tag = if has_tags { tag(&mut bytes)? } else { String::new() };
        let tag = (!tag.is_empty()).then_some(tag);
        let intervals = bytes.number(8).filter(|count| *count <= INTERVALS_MAX)?;
        for _ in 0..intervals {
            let (first, end) = (bytes.number(8)?, bytes.number(8)?);
            if first == 0 || end <= first {
                return None;
            }
            set.insert_range(Stream::Server(uuid, tag.clone()), first, end - 1);
        }
    }
    Some(set)
}

/// The length of a tag is doubled, as numbers below 128 are in that library.
fn tag(bytes: &mut Bytes<'_>) -> Option<String> {
    let length = bytes.number(1)? as usize / 2;
    bytes.text(length)
}
