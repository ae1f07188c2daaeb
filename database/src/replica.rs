//! A replica that only listens: it asks a server for its binary log from a set of ids on, and reads
//! events as they come.
//!
//! The protocol is spoken here and not by `mysql_async`, whose stream knows no ids of MariaDB, holds
//! each event twice and unpacks compressed transactions into memory. What is hard about logging in
//! (hashes, keys) is `mysql_common`'s. Nothing blocks for longer than [`POLL`]: the caller gets
//! [`Received::Idle`] and can look whether there is something else to do.
//!
//! Sources: MariaDB "Replication Protocol", MySQL 8.4 "Replication Protocol"; `sql/slave.cc` for what
//! a replica says before it asks for the log.

mod login;
mod packets;

use std::io::Write;
use std::time::Duration;

use crate::binlog::{BinlogError, Checksum, Event, EventReader};
use crate::gtid::{GtidSet, Position, Stream};
use crate::options::OptionFile;
use crate::version::Flavour;

pub use self::packets::POLL;
use self::packets::Wire;

/// A server without news says so this often.
pub const HEARTBEAT: Duration = Duration::from_secs(5);
/// A server that is silent for longer is gone.
pub const SILENCE_MAX: Duration = Duration::from_secs(30);

/// "Could not find the position in the binary log", and everything like it.
const FATAL_READING_BINLOG: u16 = 1236;
/// Commands of the protocol.
const COM_QUIT: u8 = 1;
const COM_QUERY: u8 = 3;
const COM_BINLOG_DUMP: u8 = 18;
const COM_REGISTER_SLAVE: u8 = 21;
const COM_BINLOG_DUMP_GTID: u8 = 30;
/// The text of statements that changed rows too: otherwise MariaDB leaves it out.
const SEND_ANNOTATE_ROWS: u16 = 2;
/// Use ids, not file and position.
const THROUGH_GTID: u16 = 4;

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub enum ReplicaError {
    /// The connection could not be made, or broke.
    #[error("connection to the server")]
    Connection(#[source] std::io::Error),
    /// The server refused something.
    #[error("the server says: {message} ({code})")]
    Server {
        /// Its number.
        code: u16,
        /// Its words.
        message: String,
    },
    /// What is to come next is not in the server's log any more.
    #[error("the server has purged what comes next: {0}")]
    Purged(String),
    /// The server's history is another one.
    #[error("the server's history does not continue the archive: {0}")]
    Diverged(String),
    /// The stream is damaged.
    #[error(transparent)]
    Binlog(#[from] BinlogError),
    /// It was asked to stop.
    #[error("stopped")]
    Stopped,
    /// The server said something else than the protocol wants.
    #[error("the server's answer makes no sense: {0}")]
    Protocol(String),
}

impl From<std::io::Error> for ReplicaError {
    fn from(error: std::io::Error) -> Self {
        Self::Connection(error)
    }
}

/// What there is already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Have {
    /// MariaDB: everything up to a position.
    Position(Position),
    /// MySQL: these transactions.
    Set(GtidSet),
}

impl Have {
    /// Nothing.
    pub fn nothing(flavour: Flavour) -> Self {
        match flavour {
            Flavour::MariaDb => Self::Position(Position::default()),
            Flavour::MySql | Flavour::Percona => Self::Set(GtidSet::default()),
        }
    }

    /// Reads it as the server of a flavour prints it.
    pub fn parse(flavour: Flavour, text: &str) -> Result<Self, crate::gtid::GtidError> {
        match flavour {
            Flavour::MariaDb => text.parse().map(Self::Position),
            Flavour::MySql | Flavour::Percona => text.parse().map(Self::Set),
        }
    }

    /// As a set.
    pub fn to_set(&self) -> GtidSet {
        match self {
            Self::Position(position) => position.to_set(),
            Self::Set(set) => set.clone(),
        }
    }

    /// Adds a transaction that follows.
    pub fn advance(&mut self, gtid: &crate::gtid::Gtid) {
        match self {
            Self::Position(position) => position.advance(gtid),
            Self::Set(set) => set.insert(gtid),
        }
    }
}

impl std::fmt::Display for Have {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Position(position) => position.fmt(f),
            Self::Set(set) => set.fmt(f),
        }
    }
}

/// What came.
#[derive(Debug)]
pub enum Received<'a> {
    /// An event, of which all bytes were copied.
    Event(Event<'a>),
    /// Nothing for a while.
    Idle,
}

/// A connection that the log comes through.
#[derive(Debug)]
pub struct Replica {
    reader: EventReader<Wire>,
    /// The packet of the next event is there.
    has_begun: bool,
}

impl Replica {
    /// Logs in and asks for all that comes after `have`. `server_id` must be this replica's alone.
    pub fn connect(
        options: &OptionFile,
        server_id: u32,
        have: &Have,
    ) -> Result<Self, ReplicaError> {
        let mut wire = Wire::connect(&options.endpoint())?;
        login::log_in(&mut wire, options)?;
        let checksum = prepare(&mut wire, have)?;
        register(&mut wire, server_id)?;
        match have {
            Have::Position(_) => dump(&mut wire, server_id)?,
            Have::Set(set) => dump_gtid(&mut wire, server_id, set)?,
        }
        Ok(Self { reader: EventReader::of_events(wire, checksum), has_begun: false })
    }

    /// Waits for the server's first word: an event, or why it refuses.
    pub fn wait_for_first(&mut self, is_stopped: &dyn Fn() -> bool) -> Result<(), ReplicaError> {
        while !self.has_begun {
            if is_stopped() {
                return Err(ReplicaError::Stopped);
            }
            self.has_begun = self.reader.input().begin().map_err(explain)?;
        }
        Ok(())
    }

    /// The next event, or nothing for now. `copy` gets all bytes of the event.
    pub fn next(&mut self, copy: &mut impl Write) -> Result<Received<'_>, ReplicaError> {
        if !std::mem::take(&mut self.has_begun) && !self.reader.input().begin().map_err(explain)? {
            return Ok(Received::Idle);
        }
        match self.reader.next(copy) {
            Ok(Some(event)) => Ok(Received::Event(event)),
            Ok(None) => Err(ReplicaError::Protocol("an event is empty".to_owned())),
            Err(error) => Err(error.into()),
        }
    }
}

/// What the oldest log that a server has follows on.
pub fn oldest(options: &OptionFile, flavour: Flavour) -> Result<Have, ReplicaError> {
    let mut wire = Wire::connect(&options.endpoint())?;
    login::log_in(&mut wire, options)?;
    let text = if flavour == Flavour::MariaDb {
        let file = query(&mut wire, "SHOW BINARY LOGS")?;
        let file = file.ok_or_else(|| ReplicaError::Protocol("there is no log".to_owned()))?;
        query(&mut wire, &format!("SELECT BINLOG_GTID_POS('{file}', 4)"))?
    } else {
        query(&mut wire, "SELECT @@global.gtid_purged")?
    };
    wire.command(&[COM_QUIT])?;
    let text = text.unwrap_or_default();
    Have::parse(flavour, &text).map_err(|error| ReplicaError::Protocol(error.to_string()))
}

/// All that the server's log ever had.
pub fn written(options: &OptionFile, flavour: Flavour) -> Result<Have, ReplicaError> {
    let mut wire = Wire::connect(&options.endpoint())?;
    login::log_in(&mut wire, options)?;
    let question = match flavour {
        Flavour::MariaDb => "SELECT @@global.gtid_binlog_pos",
        Flavour::MySql | Flavour::Percona => "SELECT @@global.gtid_executed",
    };
    let text = query(&mut wire, question)?.unwrap_or_default();
    wire.command(&[COM_QUIT])?;
    Have::parse(flavour, &text).map_err(|error| ReplicaError::Protocol(error.to_string()))
}

/// Has the server write an event that changes nothing, and says what it has then. Needs `RELOAD`.
pub fn prove(options: &OptionFile, flavour: Flavour) -> Result<Have, ReplicaError> {
    let mut wire = Wire::connect(&options.endpoint())?;
    login::log_in(&mut wire, options)?;
    let statement = match flavour {
        Flavour::MariaDb => "FLUSH QUERY CACHE",
        Flavour::MySql | Flavour::Percona => "FLUSH OPTIMIZER_COSTS",
    };
    query(&mut wire, statement)?;
    wire.command(&[COM_QUIT])?;
    written(options, flavour)
}

/// What the server means when it refuses to go on.
fn explain(error: ReplicaError) -> ReplicaError {
    let ReplicaError::Server { code: FATAL_READING_BINLOG, message } = error else {
        return error;
    };
    let has = |words: &[&str]| words.iter().any(|word| message.contains(word));
    if has(&["purged", "too old"]) {
        return ReplicaError::Purged(message);
    }
    if has(&["not in the master's binlog", "diverged", "has more GTIDs", "higher sequence"]) {
        return ReplicaError::Diverged(message);
    }
    ReplicaError::Server { code: FATAL_READING_BINLOG, message }
}

/// Tells the server who we are and what we understand; returns how it will protect events.
fn prepare(wire: &mut Wire, have: &Have) -> Result<Checksum, ReplicaError> {
    let checksum = query(wire, "SELECT @@global.binlog_checksum")?;
    let checksum = match checksum.as_deref() {
        Some("CRC32") => Checksum::Crc32,
        _ => Checksum::None,
    };
    let period = HEARTBEAT.as_nanos();
    query(wire, "SET @master_binlog_checksum = @@global.binlog_checksum")?;
    query(wire, "SET @source_binlog_checksum = @@global.binlog_checksum")?;
    query(wire, &format!("SET @master_heartbeat_period = {period}"))?;
    query(wire, &format!("SET @source_heartbeat_period = {period}"))?;
    if let Have::Position(position) = have {
        // We know ids (4), and want neither gaps nor duplicates smoothed over.
        query(wire, "SET @mariadb_slave_capability = 4")?;
        query(wire, &format!("SET @slave_connect_state = '{position}'"))?;
        query(wire, "SET @slave_gtid_strict_mode = 0")?;
        query(wire, "SET @slave_gtid_ignore_duplicates = 0")?;
    }
    Ok(checksum)
}

/// Asks one question; the first column of the first row.
fn query(wire: &mut Wire, text: &str) -> Result<Option<String>, ReplicaError> {
    let mut command = vec![COM_QUERY];
    command.extend_from_slice(text.as_bytes());
    wire.command(&command)?;
    let first = wire.packet()?;
    match first.first() {
        Some(0) => return Ok(None),
        Some(_) => {}
        None => return Err(ReplicaError::Protocol("an empty packet".to_owned())),
    }
    let columns = usize::from(first[0]);
    // The columns, and the mark that ends them.
    for _ in 0..=columns {
        wire.packet()?;
    }
    let mut answer = None;
    loop {
        let row = wire.packet()?;
        if row.first() == Some(&0xfe) && row.len() < 9 {
            return Ok(answer);
        }
        let text = match row.split_first() {
            Some((length @ ..=250, rest)) => rest.get(..usize::from(*length)),
            Some((252, [low, high, rest @ ..])) => {
                rest.get(..usize::from(u16::from_le_bytes([*low, *high])))
            }
            _ => None,
        };
        answer = answer.or_else(|| text.map(|text| String::from_utf8_lossy(text).into_owned()));
    }
}

/// Shows up in `SHOW REPLICA HOSTS`.
fn register(wire: &mut Wire, server_id: u32) -> Result<(), ReplicaError> {
    let mut command = vec![COM_REGISTER_SLAVE];
    command.extend_from_slice(&server_id.to_le_bytes());
    // No host, user, password, port, rank or master.
    command.extend_from_slice(&[0; 3]);
    command.extend_from_slice(&[0; 2 + 4 + 4]);
    wire.command(&command)?;
    wire.packet().map(drop)
}

fn dump(wire: &mut Wire, server_id: u32) -> Result<(), ReplicaError> {
    let mut command = vec![COM_BINLOG_DUMP];
    // The position does not count: the server takes the ids that it was told.
    command.extend_from_slice(&4_u32.to_le_bytes());
    command.extend_from_slice(&SEND_ANNOTATE_ROWS.to_le_bytes());
    command.extend_from_slice(&server_id.to_le_bytes());
    wire.command(&command)
}

fn dump_gtid(wire: &mut Wire, server_id: u32, set: &GtidSet) -> Result<(), ReplicaError> {
    let encoded = encode_set(set);
    let mut command = vec![COM_BINLOG_DUMP_GTID];
    command.extend_from_slice(&THROUGH_GTID.to_le_bytes());
    command.extend_from_slice(&server_id.to_le_bytes());
    command.extend_from_slice(&0_u32.to_le_bytes());
    command.extend_from_slice(&4_u64.to_le_bytes());
    command.extend_from_slice(&(encoded.len() as u32).to_le_bytes());
    command.extend_from_slice(&encoded);
    wire.command(&command)
}

/// A set as the protocol has it; with tags if it has any, which servers know since 8.3.
fn encode_set(set: &GtidSet) -> Vec<u8> {
    let has_tags = set.iter().any(|(stream, _)| matches!(stream, Stream::Server(_, Some(_))));
    let count = set.iter().count() as u64;
    let head = if has_tags { 1 << 56 | count << 8 | 1 } else { count };
    let mut bytes = head.to_le_bytes().to_vec();
    for (stream, numbers) in set.iter() {
        let Stream::Server(uuid, tag) = stream else { continue };
        bytes.extend_from_slice(&uuid.0);
        if has_tags {
            let tag = tag.as_deref().unwrap_or_default();
            bytes.push(tag.len() as u8 * 2);
            bytes.extend_from_slice(tag.as_bytes());
        }
        bytes.extend_from_slice(&(numbers.count() as u64).to_le_bytes());
        for (first, last) in numbers.iter() {
            bytes.extend_from_slice(&first.to_le_bytes());
            bytes.extend_from_slice(&(last + 1).to_le_bytes());
        }
    }
    bytes
}
