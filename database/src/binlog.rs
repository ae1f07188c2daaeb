//! The binary log: files and streams of events, and the transactions in them.
//!
//! [`EventReader`] cuts bytes into events and checks their checksums; [`Splitter`] finds where
//! transactions begin and end and says what each of them is. Both hold at most [`HEAD_BYTES_MAX`]
//! of an event: a transaction of any size streams through.
//!
//! Sources: MariaDB 10.11 `sql/log_event.h`, MySQL 8.4 `libs/mysql/binlog/event/`. Only version 4 of
//! the format is read, which is MySQL from 5.6 and MariaDB from 10.0 on. What is in the rows stays
//! unread. Logs that the server encrypted are refused: over replication it sends them in the clear.

mod body;
mod checksum;
mod event;
mod read;
mod statement;
mod transaction;

pub use self::body::{GtidEvent, Query, Rotate, TableMap, gtid_list, previous_gtids, set_of_bytes};
pub use self::checksum::{Checksum, seal};
pub use self::event::{EventKind, HEADER_BYTES, Header, flags};
pub use self::read::{Event, EventReader};
pub use self::statement::{Statement, TableName};
pub use self::transaction::{Splitter, Step, Summary, Touched};

/// The first bytes of every file.
pub const MAGIC: [u8; 4] = [0xfe, b'b', b'i', b'n'];

/// How much of an event's body is looked at.
pub const HEAD_BYTES_MAX: usize = 64 << 10;

/// The longest event: `max_allowed_packet` can be 1 GiB, and a row may be a little longer.
pub const EVENT_BYTES_MAX: u32 = (1 << 30) + (1 << 20);

/// What is wrong with a binary log.
#[derive(Debug, thiserror::Error)]
pub enum BinlogError {
    /// It could not be read or copied.
    #[error("read binary log at byte {position}")]
    Io {
        /// Where.
        position: u64,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Other bytes.
    #[error("this is no binary log: it does not begin with the bytes fe 62 69 6e")]
    NotABinlog,
    /// It ends within an event.
    #[error("binary log ends within the event at byte {position}")]
    Truncated {
        /// Where the event begins.
        position: u64,
    },
    /// An event's checksum is wrong.
    #[error("event at byte {position} of the binary log has a wrong checksum")]
    Checksum {
        /// Where the event begins.
        position: u64,
    },
    /// The server encrypted it.
    #[error("binary log is encrypted by the server")]
    Encrypted,
    /// Anything else that no server writes.
    #[error("event at byte {position} of the binary log: {what}")]
    Malformed {
        /// Where the event begins.
        position: u64,
        /// What is wrong.
        what: String,
    },
}
