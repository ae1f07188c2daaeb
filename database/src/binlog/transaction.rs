//! Where transactions begin and end, and what each of them is.
//!
//! A transaction is what stands under one GTID: from the event with the id to the one that ends the
//! group, as the servers' appliers see it (MariaDB `sql/slave.cc: is_group_ending`, MySQL
//! `libs/mysql/binlog/event/trx_boundary_parser.cpp`).

use std::collections::HashMap;
use std::io::{Read, sink};

use serde::{Deserialize, Serialize};

use super::body::{GtidEvent, Query, TableMap};
use super::event::EventKind;
use super::read::{Event, EventReader};
use super::statement::understand;
use super::{BinlogError, Checksum, Statement, TableName};
use crate::gtid::Gtid;

/// More tables than this are not named.
const TABLES_MAX: usize = 64;
/// How much of a definition's text is kept, in bytes.
const TEXT_BYTES_MAX: usize = 256;
/// How much of a compressed transaction is looked at, in bytes.
const PAYLOAD_BYTES_MAX: u64 = 4 << 20;

/// One transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Its id.
    pub gtid: Gtid,
    /// Microseconds since 1970; see [`GtidEvent::committed`].
    pub committed: u64,
    /// The same, on the server that wrote it first.
    pub committed_first: u64,
    /// The tables it touched, and how; at most 64.
    pub tables: Vec<Touched>,
    /// Whether it touched more.
    pub has_more: bool,
    /// The beginning of the text of its first definition (or other statement that is not rows).
    pub text: Option<String>,
    /// It ended with `XA PREPARE`: its commit comes later, under another id.
    pub is_prepared: bool,
    /// See [`GtidEvent::is_atomic`].
    pub is_atomic: bool,
    /// How many events it has.
    pub events: u64,
    /// How many bytes they have.
    pub bytes: u64,
    /// A checksum of the events that does not depend on where they stand in a file: the same
    /// transaction asked of the same server again has the same.
    pub sum: u32,
}

/// A table that a transaction touched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Touched {
    /// The table.
    pub table: TableName,
    /// What was done to it, each once, in the order of the first time.
    pub statements: Vec<Statement>,
}

/// What an event means to the transaction it stands in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// It is not part of a transaction. If one was open it is `abandoned`: it has no end (the server
    /// died while writing it, and rolled it back), and what was read of it does not count.
    Outside {
        /// Whether one was open.
        abandoned: bool,
    },
    /// It begins a transaction.
    Begin {
        /// As above.
        abandoned: bool,
    },
    /// It belongs to the transaction.
    Inside,
    /// It ends the transaction, and belongs to it.
    End(Box<Summary>),
    /// The stream is alive, no more.
    Heartbeat,
}

/// Finds the transactions in a sequence of events.
#[derive(Debug, Default)]
pub struct Splitter {
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    summary: Summary,
    is_standalone: bool,
    is_mysql: bool,
    /// MySQL: there was a `BEGIN`, so that a statement does not end it.
    has_begun: bool,
    /// Numbers of table maps, and the places of their tables.
    maps: HashMap<u64, usize>,
    sum: crc32fast::Hasher,
}

impl Splitter {
    /// Whether a transaction has begun and not ended.
    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// The next event.
    pub fn step(&mut self, event: &Event<'_>) -> Result<Step, BinlogError> {
        let kind = event.header.kind;
        if kind.is_heartbeat() {
            return Ok(Step::Heartbeat);
        }
        if kind.is_gtid() {
            let abandoned = self.open.take().is_some();
            self.open = Some(Open::begin(event)?);
            return Ok(Step::Begin { abandoned });
        }
        if is_outside(kind) {
            return Ok(Step::Outside { abandoned: self.open.take().is_some() });
        }
        let Some(open) = &mut self.open else {
            if kind.is_query() || kind.rows().is_some() || kind == EventKind::XID {
                return Err(event.error("it stands under no GTID"));
            }
            return Ok(Step::Outside { abandoned: false });
        };
        open.summary.events += 1;
        open.summary.bytes += u64::from(event.header.length);
        event.sum_up(&mut open.sum);
        if !open.take(event)? {
            return Ok(Step::Inside);
        }
        let mut open = self.open.take().expect("it was open above");
        open.summary.sum = open.sum.finalize();
        Ok(Step::End(Box::new(open.summary)))
    }
}

/// Kinds that never stand in a transaction.
fn is_outside(kind: EventKind) -> bool {
    matches!(
        kind,
        EventKind::FORMAT_DESCRIPTION
            | EventKind::ROTATE
            | EventKind::STOP
            | EventKind::PREVIOUS_GTIDS
            | EventKind::MARIADB_GTID_LIST
            | EventKind::BINLOG_CHECKPOINT
    )
}

impl Open {
    fn begin(event: &Event<'_>) -> Result<Self, BinlogError> {
        let parsed = GtidEvent::parse(event)?;
        let Some(gtid) = parsed.gtid else {
            return Err(event.error("the transaction has no GTID: set gtid_mode=ON"));
        };
        let summary = Summary {
            gtid,
            committed: parsed.committed,
            committed_first: parsed.committed_first,
            tables: Vec::new(),
            has_more: false,
            text: None,
            is_prepared: false,
            is_atomic: parsed.is_atomic,
            events: 1,
            bytes: u64::from(event.header.length),
            sum: 0,
        };
        let mut sum = crc32fast::Hasher::new();
        event.sum_up(&mut sum);
        Ok(Self {
            summary,
            is_standalone: parsed.is_standalone,
            is_mysql: event.header.kind != EventKind::MARIADB_GTID,
            has_begun: false,
            maps: HashMap::new(),
            sum,
        })
    }

    /// Looks at an event; says whether it is the last one.
    fn take(&mut self, event: &Event<'_>) -> Result<bool, BinlogError> {
        let kind = event.header.kind;
        if kind.is_query() {
            return Ok(self.query(&Query::parse(event)?));
        }
        if kind == EventKind::TABLE_MAP {
            let map = TableMap::parse(event)?;
            self.table_map(map);
            return Ok(false);
        }
        if let Some(statement) = kind.rows() {
            return Ok(self.rows(event, statement));
        }
        match kind {
            EventKind::XID => Ok(true),
            EventKind::XA_PREPARE => {
                // The first byte tells whether it was committed at once.
                self.summary.is_prepared = event.body.first() == Some(&0);
                Ok(true)
            }
            EventKind::TRANSACTION_PAYLOAD => {
                self.payload(event.body);
                Ok(true)
            }
            EventKind::EXECUTE_LOAD_QUERY | EventKind::INCIDENT => Ok(self.is_standalone),
            _ => Ok(false),
        }
    }

    fn query(&mut self, query: &Query) -> bool {
        let text = query.text.trim();
        if matches!(text, "COMMIT" | "ROLLBACK") {
            return true;
        }
        if text.starts_with("XA COMMIT") || text.starts_with("XA ROLLBACK") {
            self.keep_text(text);
            return true;
        }
        if text == "BEGIN" || text.starts_with("XA START") || text.starts_with("XA END") {
            self.has_begun = true;
            return false;
        }
        let (statement, tables) = understand(&query.database, text);
        self.keep_text(text);
        for table in tables {
            self.touch(table, Some(statement));
        }
        if !self.is_mysql {
            return self.is_standalone;
        }
        if text.ends_with("START TRANSACTION") {
            self.has_begun = true;
        }
        !self.has_begun
    }

    fn keep_text(&mut self, text: &str) {
        if self.summary.text.is_none() {
            let length = text.floor_char_boundary(TEXT_BYTES_MAX);
            self.summary.text = Some(text[..length].to_owned());
        }
    }

    fn table_map(&mut self, map: TableMap) {
        let table = TableName { database: map.database, table: map.table };
        if let Some(place) = self.touch(table, None) {
            self.maps.insert(map.id, place);
        }
    }

    fn rows(&mut self, event: &Event<'_>, statement: Statement) -> bool {
        const STATEMENT_ENDS: u8 = 1;
        let Some(front) = event.body.get(..8) else { return false };
        let id = front[..6].iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        if let Some(place) = self.maps.get(&id) {
            add_once(&mut self.summary.tables[*place].statements, statement);
        }
        self.is_standalone && front[6] & STATEMENT_ENDS != 0
    }

    /// The place of a table in the summary; none if there are too many.
    fn touch(&mut self, table: TableName, statement: Option<Statement>) -> Option<usize> {
        let tables = &mut self.summary.tables;
        let place = tables.iter().position(|touched| touched.table == table);
        if place.is_none() && tables.len() == TABLES_MAX {
            self.summary.has_more = true;
            return None;
        }
        let place = place.unwrap_or_else(|| {
            tables.push(Touched { table, statements: Vec::new() });
            tables.len() - 1
        });
        if let Some(statement) = statement {
            add_once(&mut tables[place].statements, statement);
        }
        Some(place)
    }

    /// Looks into a compressed transaction as far as its head reaches.
    fn payload(&mut self, body: &[u8]) {
        self.summary.has_more = true;
        let Some(compressed) = payload_of(body) else { return };
        let Ok(decoder) = zstd::Decoder::new(compressed) else { return };
        let decoder = decoder.take(PAYLOAD_BYTES_MAX);
        let mut reader = EventReader::of_events(decoder, Checksum::None);
        loop {
            match reader.next(&mut sink()) {
                Ok(Some(event)) => drop(self.take(&event)),
                // Only a payload that was read to its end is known whole.
                Ok(None) => break self.summary.has_more = false,
                Err(_) => break,
            }
        }
    }
}

fn add_once(statements: &mut Vec<Statement>, statement: Statement) {
    if !statements.contains(&statement) {
        statements.push(statement);
    }
}

/// The compressed part of a payload event: fields of kind, length and value come before it, ended
/// by a kind of 0. Only zstd (0) is known.
fn payload_of(body: &[u8]) -> Option<&[u8]> {
    let mut rest = body;
    loop {
        match packed(&mut rest)? {
            0 => return Some(rest),
            2 => {
                packed(&mut rest)?;
                if packed(&mut rest)? != 0 {
                    return None;
                }
            }
            _ => {
                let length = usize::try_from(packed(&mut rest)?).ok()?;
                rest = rest.get(length..)?;
            }
        }
    }
}

/// A number of MySQL's protocol: one byte, or one that tells the length of what follows.
fn packed(bytes: &mut &[u8]) -> Option<u64> {
    let (first, rest) = bytes.split_first()?;
    let length = match first {
        ..=250 => 0,
        252 => 2,
        253 => 3,
        254 => 8,
        _ => return None,
    };
    let (number, rest) = rest.split_at_checked(length)?;
    *bytes = rest;
    if length == 0 {
        return Some(u64::from(*first));
    }
    Some(number.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
}
