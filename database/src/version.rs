//! Versions and flavours of servers and tools, as far as they decide what fits together.
//!
//! A version is three numbers; suffixes such as `-MariaDB-0+deb12u1-log` only tell the flavour.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Who made the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Flavour {
    /// MariaDB, with or without Galera.
    MariaDb,
    /// MySQL of Oracle.
    MySql,
    /// Percona Server for MySQL, or Percona XtraDB Cluster.
    Percona,
}

impl Flavour {
    /// Reads the flavour from `@@version` and `@@version_comment`; the comment may be empty.
    pub fn of(version: &str, comment: &str) -> Self {
        if version.contains("MariaDB") || comment.to_ascii_lowercase().contains("mariadb") {
            return Self::MariaDb;
        }
        // Percona numbers its releases behind MySQL's: 8.0.35-27, and 8.0.35-27.1 for the cluster.
        let release = version.split_once('-').map_or("", |(_, release)| release);
        if comment.contains("Percona") || release.starts_with(|c: char| c.is_ascii_digit()) {
            return Self::Percona;
        }
        Self::MySql
    }
}

impl fmt::Display for Flavour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::MariaDb => "MariaDB",
            Self::MySql => "MySQL",
            Self::Percona => "Percona Server",
        })
    }
}

/// The three numbers of a version; ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Version {
    /// 10 of 10.11.19.
    pub major: u32,
    /// 11 of 10.11.19.
    pub minor: u32,
    /// 19 of 10.11.19; 0 where there is none.
    pub patch: u32,
}

impl Version {
    /// A version from its numbers.
    pub const fn of(major: u32, minor: u32, patch: u32) -> Self {
        Self { major, minor, patch }
    }

    /// Whether both are of one release series, as 10.11.2 and 10.11.19 are.
    pub fn same_series(self, other: Self) -> bool {
        (self.major, self.minor) == (other.major, other.minor)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// A text that does not start with a version number.
#[derive(Debug, thiserror::Error)]
#[error("not a version: {0:?}")]
pub struct NotAVersion(String);

impl FromStr for Version {
    type Err = NotAVersion;

    fn from_str(text: &str) -> Result<Self, NotAVersion> {
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let numbers: Option<Vec<u32>> =
            text[..end].trim_end_matches('.').split('.').map(|n| n.parse().ok()).collect();
        match numbers.as_deref() {
            Some([major, minor]) => Ok(Self::of(*major, *minor, 0)),
            Some([major, minor, patch, ..]) => Ok(Self::of(*major, *minor, *patch)),
            _ => Err(NotAVersion(text.chars().take(40).collect())),
        }
    }
}

impl TryFrom<String> for Version {
    type Error = NotAVersion;

    fn try_from(text: String) -> Result<Self, NotAVersion> {
        text.parse()
    }
}

impl From<Version> for String {
    fn from(version: Version) -> Self {
        version.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_up_to_their_suffix() {
        let check =
            |text: &str, expected| assert_eq!(text.parse::<Version>().ok(), expected, "{text}");
        check("10.11.19-MariaDB-0+deb12u1-log", Some(Version::of(10, 11, 19)));
        check("8.0.35-27.1", Some(Version::of(8, 0, 35)));
        check("8.4", Some(Version::of(8, 4, 0)));
        check("", None);
        check("MariaDB", None);
        check("10..3", None);
        check("99999999999.1.1", None);
    }

    #[test]
    fn the_flavour_is_told_from_the_version_and_the_comment() {
        let check =
            |version, comment, expected| assert_eq!(Flavour::of(version, comment), expected);
        check("10.11.19-MariaDB-log", "Debian 12", Flavour::MariaDb);
        check("8.0.35-27", "Percona Server (GPL), Release 27", Flavour::Percona);
        check("8.0.35-27.1", "", Flavour::Percona);
        check("8.0.35", "MySQL Community Server - GPL", Flavour::MySql);
        check("8.0.35-debug", "", Flavour::MySql);
    }
}
