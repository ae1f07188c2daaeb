//! A point in the history of a database: what was asked for, and which transactions that means.
//!
//! A point is a cut in the order of commits: a database at the point has every transaction before the
//! cut and none behind it. [`read`] and [`base`] look into the depot; the rest is pure.

pub mod base;
pub mod cut;
pub mod plan;
pub mod read;
pub mod timeline;

use std::str::FromStr;

use chrono::{DateTime, SecondsFormat, Utc};
use database::gtid::Gtid;
use depot::log::Timeline;

/// Which point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Goal {
    /// All that was committed up to a time, up to the first commit that is later.
    Time(DateTime<Utc>),
    /// Up to a transaction, with it.
    To(Gtid),
    /// Up to a transaction, without it.
    Before(Gtid),
    /// All that is there.
    Latest,
}

impl std::fmt::Display for Goal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Time(time) => f.write_str(&shown(*time)),
            Self::To(gtid) => write!(f, "{gtid}, with it"),
            Self::Before(gtid) => write!(f, "{gtid}, without it"),
            Self::Latest => f.write_str("the last transaction"),
        }
    }
}

/// A timeline as it is named: `shop.2`, or `2` where there is only one job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WantedTimeline {
    /// With the job.
    Name(Timeline),
    /// The number alone.
    Number(u32),
}

impl FromStr for WantedTimeline {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(number) = text.parse() {
            return Ok(Self::Number(number));
        }
        let named = text.parse().map(Self::Name);
        named.map_err(|_| format!("`{text}` is no timeline: write `shop.2`, or `2`"))
    }
}

/// A time for people: to the second if it has no more, to the microsecond otherwise.
pub fn shown(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::AutoSi, true)
}

/// A time of the log.
pub fn time_of(microseconds: u64) -> DateTime<Utc> {
    i64::try_from(microseconds).ok().and_then(DateTime::from_timestamp_micros).unwrap_or_default()
}
