//! A position of MariaDB: the last transaction of each domain, as in `@@gtid_slave_pos`.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{Gtid, GtidError, GtidSet, Stream};

/// The last `(server, number)` of each domain.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Position(pub BTreeMap<u32, (u32, u64)>);

impl Position {
    /// Whether it is the beginning of everything.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The last transaction of each domain.
    pub fn gtids(&self) -> impl Iterator<Item = Gtid> + '_ {
        self.0.iter().map(|(&domain, &(server, number))| Gtid::MariaDb { domain, server, number })
    }

    /// Moves on to a transaction that follows; ids of MySQL are passed over.
    pub fn advance(&mut self, gtid: &Gtid) {
        if let Gtid::MariaDb { domain, server, number } = *gtid {
            self.0.insert(domain, (server, number));
        }
    }

    /// Everything up to it.
    pub fn to_set(&self) -> GtidSet {
        let mut set = GtidSet::default();
        for (&domain, &(_, number)) in &self.0 {
            set.insert_range(Stream::Domain(domain), 1, number);
        }
        set
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts: Vec<String> = self.gtids().map(|gtid| gtid.to_string()).collect();
        f.write_str(&texts.join(","))
    }
}

impl FromStr for Position {
    type Err = GtidError;

    /// Reads `0-1-100,5-2-7`. A domain that is named twice (as in `@@gtid_binlog_state`) keeps its
    /// greatest number.
    fn from_str(text: &str) -> Result<Self, GtidError> {
        let mut position = Self::default();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let Gtid::MariaDb { domain, server, number } = part.parse()? else {
                return Err(GtidError::gtid(text));
            };
            let last = position.0.entry(domain).or_insert((server, number));
            if number >= last.1 {
                *last = (server, number);
            }
        }
        Ok(position)
    }
}

impl TryFrom<String> for Position {
    type Error = GtidError;

    fn try_from(text: String) -> Result<Self, GtidError> {
        text.parse()
    }
}

impl From<Position> for String {
    fn from(position: Position) -> Self {
        position.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_read_as_servers_print_them() {
        let position: Position = "0-1-100, 5-2-7,\n0-3-99".parse().unwrap();
        assert_eq!(position.to_string(), "0-1-100,5-2-7");
        assert_eq!(position.to_set().to_string(), "0:1-100,5:1-7");
        assert!("".parse::<Position>().unwrap().is_empty());
        assert!("0-1".parse::<Position>().is_err());
    }
}
