//! The header of an event, and the kinds of events.

use std::fmt;

/// Length of the header in bytes.
pub const HEADER_BYTES: usize = 19;

/// Flags in the header.
pub mod flags {
    /// The file is being written, or was when the server died; in its first event only.
    pub const IN_USE: u16 = 0x01;
    /// The statement depends on the session, such as one with a temporary table.
    pub const THREAD_SPECIFIC: u16 = 0x04;
    /// Made up for the stream; it is in no file.
    pub const ARTIFICIAL: u16 = 0x20;
    /// A reader that does not know it may pass it over.
    pub const IGNORABLE: u16 = 0x80;
}

/// What an event is. Numbers up to 50 are MySQL's, from 160 on MariaDB's.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct EventKind(pub u8);

impl EventKind {
    /// A statement, or `BEGIN`, `COMMIT` and the like.
    pub const QUERY: Self = Self(2);
    /// The server stopped.
    pub const STOP: Self = Self(3);
    /// The file ends; the name of the next.
    pub const ROTATE: Self = Self(4);
    /// Part of the next statement: a counter.
    pub const INTVAR: Self = Self(5);
    /// Part of the next statement: random seeds.
    pub const RAND: Self = Self(13);
    /// Part of the next statement: a variable.
    pub const USER_VAR: Self = Self(14);
    /// The format of what follows.
    pub const FORMAT_DESCRIPTION: Self = Self(15);
    /// A transaction of a transactional engine was committed.
    pub const XID: Self = Self(16);
    /// Part of a `LOAD DATA`.
    pub const BEGIN_LOAD_QUERY: Self = Self(17);
    /// The statement of a `LOAD DATA`.
    pub const EXECUTE_LOAD_QUERY: Self = Self(18);
    /// A table, for the row events that follow.
    pub const TABLE_MAP: Self = Self(19);
    /// Something happened that the log does not tell.
    pub const INCIDENT: Self = Self(26);
    /// Nothing happened; in streams only.
    pub const HEARTBEAT: Self = Self(27);
    /// MySQL: begins a transaction.
    pub const GTID: Self = Self(33);
    /// MySQL: begins a transaction without id.
    pub const ANONYMOUS_GTID: Self = Self(34);
    /// MySQL: what is in the files before.
    pub const PREVIOUS_GTIDS: Self = Self(35);
    /// `XA PREPARE`.
    pub const XA_PREPARE: Self = Self(38);
    /// MySQL: a whole transaction, compressed.
    pub const TRANSACTION_PAYLOAD: Self = Self(40);
    /// MySQL: nothing happened; since 8.0.26.
    pub const HEARTBEAT_V2: Self = Self(41);
    /// MySQL: begins a transaction; since 8.3.
    pub const GTID_TAGGED: Self = Self(42);
    /// MariaDB: the text of the statement whose rows follow.
    pub const ANNOTATE_ROWS: Self = Self(160);
    /// MariaDB: which files crash recovery needs.
    pub const BINLOG_CHECKPOINT: Self = Self(161);
    /// MariaDB: begins a transaction.
    pub const MARIADB_GTID: Self = Self(162);
    /// MariaDB: what is in the files before.
    pub const MARIADB_GTID_LIST: Self = Self(163);
    /// MariaDB: what follows is encrypted.
    pub const START_ENCRYPTION: Self = Self(164);
    /// MariaDB: a compressed statement.
    pub const QUERY_COMPRESSED: Self = Self(165);

    /// What its rows do, if it has rows.
    pub fn rows(self) -> Option<super::Statement> {
        use super::Statement::{Delete, Insert, Update};
        match self.0 {
            23 | 30 | 166 | 169 => Some(Insert),
            24 | 31 | 39 | 167 | 170 => Some(Update),
            25 | 32 | 168 | 171 => Some(Delete),
            _ => None,
        }
    }

    /// Whether it is a statement.
    pub fn is_query(self) -> bool {
        self == Self::QUERY || self == Self::QUERY_COMPRESSED
    }

    /// Whether it begins a transaction.
    pub fn is_gtid(self) -> bool {
        matches!(self, Self::GTID | Self::ANONYMOUS_GTID | Self::GTID_TAGGED | Self::MARIADB_GTID)
    }

    /// Whether it only says that the stream is alive.
    pub fn is_heartbeat(self) -> bool {
        matches!(self, Self::HEARTBEAT | Self::HEARTBEAT_V2)
    }
}

impl fmt::Debug for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EventKind({})", self.0)
    }
}

/// The header of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Seconds since 1970: when the statement began, by the clock of the server (or of the session)
    /// that wrote it first.
    pub time: u32,
    /// What it is.
    pub kind: EventKind,
    /// The server that wrote it first.
    pub server_id: u32,
    /// Length in bytes, header and checksum included.
    pub length: u32,
    /// Where the next event begins in the server's file; 0 in events that were made up.
    pub next_position: u32,
    /// See [`flags`].
    pub flags: u16,
}

impl Header {
    /// Reads a header. Nothing is checked.
    pub fn parse(bytes: &[u8; HEADER_BYTES]) -> Self {
        let number = |at: usize| u32::from_le_bytes([0, 1, 2, 3].map(|place| bytes[at + place]));
        Self {
            time: number(0),
            kind: EventKind(bytes[4]),
            server_id: number(5),
            length: number(9),
            next_position: number(13),
            flags: u16::from_le_bytes([bytes[17], bytes[18]]),
        }
    }

    /// The bytes of it.
    pub fn to_bytes(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[0..4].copy_from_slice(&self.time.to_le_bytes());
        bytes[4] = self.kind.0;
        bytes[5..9].copy_from_slice(&self.server_id.to_le_bytes());
        bytes[9..13].copy_from_slice(&self.length.to_le_bytes());
        bytes[13..17].copy_from_slice(&self.next_position.to_le_bytes());
        bytes[17..19].copy_from_slice(&self.flags.to_le_bytes());
        bytes
    }

    /// Whether it was made up for the stream and is in no file.
    pub fn is_artificial(&self) -> bool {
        self.flags & flags::ARTIFICIAL != 0
    }
}
