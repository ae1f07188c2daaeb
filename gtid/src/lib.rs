//! Global transaction ids of both flavours, and sets of them.
//!
//! A MariaDB id is `domain-server-number`, a MySQL id is `uuid:number` or `uuid:tag:number`. What is
//! common to both: a transaction belongs to a [`Stream`] (the domain; the UUID and tag) and has a
//! number in it. In MariaDB the server is not part of the stream: two ids of one domain that differ
//! only in the server never stand in one history.
//!
//! The server of a source and the depot of its archive both handle them, and know nothing of one
//! another: so it is a crate of its own.
//!
//! Sources: MariaDB 10.11 `sql/rpl_gtid.cc`, MySQL 8.4 "GTID Sets". Nothing here does I/O.

mod intervals;
mod position;
mod set;
mod uuid;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

pub use self::intervals::Intervals;
pub use self::position::Position;
pub use self::set::GtidSet;
pub use self::uuid::Uuid;

/// The longest tag of a MySQL id, in bytes.
pub const TAG_BYTES_MAX: usize = 32;

/// A text that is no id, position or set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no {what}: write {form}")]
pub struct GtidError {
    /// What was read.
    pub text: String,
    /// What it should be.
    pub what: &'static str,
    /// How that looks.
    pub form: &'static str,
}

impl GtidError {
    fn gtid(text: &str) -> Self {
        Self {
            text: text.to_owned(),
            what: "GTID",
            form: "`0-1-100` for MariaDB, `uuid:100` or `uuid:tag:100` for MySQL",
        }
    }
}

/// Where numbers are counted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Stream {
    /// A replication domain of MariaDB.
    Domain(u32),
    /// A server (or cluster) of MySQL, and a tag or none.
    Server(Uuid, Option<String>),
}

impl Stream {
    /// Whether it is one of MariaDB.
    pub fn is_mariadb(&self) -> bool {
        matches!(self, Self::Domain(_))
    }
}

impl fmt::Display for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Domain(domain) => write!(f, "{domain}"),
            Self::Server(uuid, None) => write!(f, "{uuid}"),
            Self::Server(uuid, Some(tag)) => write!(f, "{uuid}:{tag}"),
        }
    }
}

impl FromStr for Stream {
    type Err = GtidError;

    fn from_str(text: &str) -> Result<Self, GtidError> {
        let error = || GtidError {
            text: text.to_owned(),
            what: "GTID stream",
            form: "`0`, `uuid` or `uuid:tag`",
        };
        if let Some(domain) = number(text) {
            return u32::try_from(domain).map(Self::Domain).map_err(|_| error());
        }
        let (uuid, tag) = match text.split_once(':') {
            Some((uuid, tag)) => (uuid, Some(parse_tag(tag).ok_or_else(error)?)),
            None => (text, None),
        };
        Ok(Self::Server(uuid.parse().map_err(|()| error())?, tag))
    }
}

impl TryFrom<String> for Stream {
    type Error = GtidError;

    fn try_from(text: String) -> Result<Self, GtidError> {
        text.parse()
    }
}

impl From<Stream> for String {
    fn from(stream: Stream) -> Self {
        stream.to_string()
    }
}

/// The id of one transaction.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Gtid {
    /// `domain-server-number`.
    MariaDb {
        /// The replication domain.
        domain: u32,
        /// The server that wrote it first.
        server: u32,
        /// The number in the domain; never 0.
        number: u64,
    },
    /// `uuid:number`, `uuid:tag:number`.
    MySql {
        /// The server or cluster that wrote it first.
        uuid: Uuid,
        /// Since MySQL 8.3.
        tag: Option<String>,
        /// The number; never 0.
        number: u64,
    },
}

impl Gtid {
    /// Where its number is counted.
    pub fn stream(&self) -> Stream {
        match self {
            Self::MariaDb { domain, .. } => Stream::Domain(*domain),
            Self::MySql { uuid, tag, .. } => Stream::Server(*uuid, tag.clone()),
        }
    }

    /// Its number in the stream.
    pub fn number(&self) -> u64 {
        match self {
            Self::MariaDb { number, .. } | Self::MySql { number, .. } => *number,
        }
    }
}

impl fmt::Display for Gtid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MariaDb { domain, server, number } => write!(f, "{domain}-{server}-{number}"),
            Self::MySql { number, .. } => write!(f, "{}:{number}", self.stream()),
        }
    }
}

impl FromStr for Gtid {
    type Err = GtidError;

    fn from_str(text: &str) -> Result<Self, GtidError> {
        let error = || GtidError::gtid(text);
        if let Some((stream, last)) = text.rsplit_once(':') {
            let number = number(last).filter(|number| *number > 0).ok_or_else(error)?;
            return match stream.parse() {
                Ok(Stream::Server(uuid, tag)) => Ok(Self::MySql { uuid, tag, number }),
                _ => Err(error()),
            };
        }
        let mut parts = text.split('-').map(number);
        let [Some(Some(domain)), Some(Some(server)), Some(Some(number)), None] =
            [parts.next(), parts.next(), parts.next(), parts.next()]
        else {
            return Err(error());
        };
        match (u32::try_from(domain), u32::try_from(server), number) {
            (Ok(domain), Ok(server), 1..) => Ok(Self::MariaDb { domain, server, number }),
            _ => Err(error()),
        }
    }
}

impl TryFrom<String> for Gtid {
    type Error = GtidError;

    fn try_from(text: String) -> Result<Self, GtidError> {
        text.parse()
    }
}

impl From<Gtid> for String {
    fn from(gtid: Gtid) -> Self {
        gtid.to_string()
    }
}

/// A decimal number without sign.
fn number(text: &str) -> Option<u64> {
    let is_plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_plain.then(|| text.parse().ok()).flatten()
}

/// A tag: a letter or underscore, then letters, digits and underscores; kept in small letters.
fn parse_tag(text: &str) -> Option<String> {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let first = text.bytes().next()?;
    let is_tag =
        text.len() <= TAG_BYTES_MAX && text.bytes().all(is_word) && !first.is_ascii_digit();
    is_tag.then(|| text.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_and_written_as_the_servers_do() {
        fn check(text: &str, expected: Option<&str>) {
            let gtid: Result<Gtid, _> = text.parse();
            assert_eq!(gtid.ok().map(|gtid| gtid.to_string()).as_deref(), expected, "{text}");
        }
        const UUID: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
        check("0-1-100", Some("0-1-100"));
        check(
            "4294967295-4294967295-18446744073709551615",
            Some("4294967295-4294967295-18446744073709551615"),
        );
        check("4294967296-1-1", None);
        check("0-1-0", None);
        check("0-1", None);
        check("0-1-1-1", None);
        check("0-1-+1", None);
        check(&format!("{UUID}:7"), Some(&format!("{UUID}:7")));
        check(&format!("{}:7", UUID.to_uppercase()), Some(&format!("{UUID}:7")));
        check(&format!("{UUID}:Blue_1:7"), Some(&format!("{UUID}:blue_1:7")));
        check(&format!("{UUID}:1blue:7"), None);
        check(&format!("{UUID}:0"), None);
        check("0:1", None);
        check(&UUID[1..], None);
        check("", None);
    }
}
