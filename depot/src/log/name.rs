//! Names of pieces of the log: parsed at the edge, and written in one spelling only.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, NaiveDateTime, TimeDelta, Utc};
use gtid::GtidSet;
use serde::{Deserialize, Serialize};

use crate::names::{HostName, JobName, Sha256};

/// No name is longer, in bytes, without the folder.
pub const NAME_BYTES_MAX: usize = 240;
/// What is in a name besides job, source and set.
const REST_BYTES: usize = 105;
const TIME_FORMAT: &str = "%Y%m%dT%H%M%SZ";
const SUM_DIGITS: usize = 16;

/// A text that names no piece of the log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no name in the log archive")]
pub struct LogNameError(String);

fn error(text: &str) -> LogNameError {
    LogNameError(text.chars().take(NAME_BYTES_MAX).collect())
}

/// One history of a database: `<job>.<n>`. Ordered by job and number.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Timeline {
    /// The job that archives it.
    pub job: JobName,
    /// Counted from 1.
    pub number: u32,
}

impl Timeline {
    /// The object that says how it began.
    pub fn begin_object(&self) -> String {
        format!("{}/{self}.begin", super::FOLDER)
    }
}

impl fmt::Display for Timeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}.{}", self.job, self.number))
    }
}

impl FromStr for Timeline {
    type Err = LogNameError;

    fn from_str(text: &str) -> Result<Self, LogNameError> {
        let parse = || {
            let (job, number) = text.rsplit_once('.')?;
            let timeline = Self { job: job.parse().ok()?, number: number.parse().ok()? };
            (timeline.number > 0 && timeline.to_string() == text).then_some(timeline)
        };
        parse().ok_or_else(|| error(text))
    }
}

impl TryFrom<String> for Timeline {
    type Error = LogNameError;

    fn try_from(text: String) -> Result<Self, LogNameError> {
        text.parse()
    }
}

impl From<Timeline> for String {
    fn from(timeline: Timeline) -> Self {
        timeline.to_string()
    }
}

/// How a piece came to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A few seconds of log.
    Tail,
    /// Many tails in one.
    Segment,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tail => "tail",
            Self::Segment => "segment",
        })
    }
}

/// The name of a piece of the log.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LogName {
    /// The history that it is of.
    pub timeline: Timeline,
    /// The host whose agent wrote it.
    pub source: HostName,
    /// Tail or segment.
    pub kind: Kind,
    /// The transactions in it.
    pub set: GtidSet,
    /// The least commit time in it, to the second, rounded down.
    pub from: DateTime<Utc>,
    /// The greatest commit time in it, to the second, rounded up.
    pub to: DateTime<Utc>,
    /// The size of the object in bytes: one that is shorter is torn.
    pub size: u64,
    /// The beginning of its SHA-256 in hexadecimal digits.
    pub sum: String,
}

impl LogName {
    /// Times are in microseconds since 1970.
    pub fn new(
        timeline: Timeline,
        source: HostName,
        kind: Kind,
        set: GtidSet,
        committed: (u64, u64),
        (size, sum): (u64, Sha256),
    ) -> Self {
        let second = |micros: u64| {
            let seconds = i64::try_from(micros / 1_000_000).unwrap_or_default();
            DateTime::from_timestamp(seconds, 0).unwrap_or_default()
        };
        let rounds_up = !committed.1.is_multiple_of(1_000_000);
        let to = second(committed.1) + TimeDelta::seconds(i64::from(rounds_up));
        let sum = sum.to_string()[..SUM_DIGITS].to_owned();
        Self { timeline, source, kind, set, from: second(committed.0), to, size, sum }
    }

    /// The object of this name.
    pub fn object(&self) -> String {
        format!("{}/{self}", super::FOLDER)
    }

    /// Whether the name is that of an object of this checksum.
    pub fn fits(&self, sum: Sha256) -> bool {
        sum.to_string().starts_with(&self.sum)
    }

    /// How long the text of a set may be in the names of a source, in bytes.
    pub fn set_bytes_max(timeline: &Timeline, source: &HostName) -> usize {
        let taken = REST_BYTES + timeline.job.as_str().len() + source.as_str().len();
        NAME_BYTES_MAX.saturating_sub(taken)
    }

    /// A set as names have it.
    pub fn set_text(set: &GtidSet) -> String {
        set.to_string().replace(':', ".").replace(',', "..")
    }
}

fn parse_set(text: &str) -> Option<GtidSet> {
    text.replace("..", ",").replace('.', ":").parse().ok()
}

fn parse_time(text: &str) -> Option<DateTime<Utc>> {
    NaiveDateTime::parse_from_str(text, TIME_FORMAT).ok().map(|time| time.and_utc())
}

impl fmt::Display for LogName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { timeline, source, kind, set, from, to, size, sum } = self;
        let set = Self::set_text(set);
        let (from, to) = (from.format(TIME_FORMAT), to.format(TIME_FORMAT));
        write!(f, "{timeline}--{source}--{kind}--{set}--{from}..{to}--{size}-{sum}.age")
    }
}

impl FromStr for LogName {
    type Err = LogNameError;

    fn from_str(text: &str) -> Result<Self, LogNameError> {
        let parse = || {
            let mut parts = text.strip_suffix(".age")?.split("--");
            let mut next = || parts.next();
            let timeline = next()?.parse().ok()?;
            let source = next()?.parse().ok()?;
            let kind = match next()? {
                "tail" => Kind::Tail,
                "segment" => Kind::Segment,
                _ => return None,
            };
            let set = parse_set(next()?).filter(|set| !set.is_empty())?;
            let (from, to) = next()?.split_once("..")?;
            let (from, to) = (parse_time(from)?, parse_time(to)?);
            let (size, sum) = next()?.split_once('-')?;
            let (size, sum) = (size.parse().ok()?, sum.to_owned());
            let is_sum = sum.len() == SUM_DIGITS && sum.bytes().all(|b| b.is_ascii_hexdigit());
            let name = Self { timeline, source, kind, set, from, to, size, sum };
            (is_sum && name.to_string() == text).then_some(name)
        };
        parse().ok_or_else(|| error(text))
    }
}

impl TryFrom<String> for LogName {
    type Error = LogNameError;

    fn try_from(text: String) -> Result<Self, LogNameError> {
        text.parse()
    }
}

impl From<LogName> for String {
    fn from(name: LogName) -> Self {
        name.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UUID: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";

    fn name(set: &str) -> LogName {
        LogName::new(
            "shop.1".parse().unwrap(),
            "db1".parse().unwrap(),
            Kind::Segment,
            set.parse().unwrap(),
            (1_700_000_000_000_000, 1_700_000_300_000_001),
            (4711, Sha256::of(b"x")),
        )
    }

    #[test]
    fn names_read_as_written() {
        let sets =
            ["0:1-2400", "0:1-5:9,7:1-3", &format!("{UUID}:5-77,{UUID}:blue_1:3"), "4294967295:1"];
        for set in sets {
            let name = name(set);
            assert_eq!(name.to_string().parse(), Ok(name.clone()), "{name}");
            crate::store::check_name(&name.object()).unwrap();
        }
        assert_eq!(
            name("0:1-2400").to_string(),
            "shop.1--db1--segment--0.1-2400--20231114T221320Z..20231114T221821Z\
             --4711-2d711642b726b044.age"
        );
        assert!(name("0:1").fits(Sha256::of(b"x")) && !name("0:1").fits(Sha256::of(b"y")));
    }

    #[test]
    fn other_names_are_refused() {
        let good = name("0:1-24").to_string();
        for (from, to) in [
            ("shop.1", "shop.0"),
            ("shop.1", "shop.01"),
            ("shop.1", "shop"),
            ("segment", "piece"),
            ("0.1-24", ""),
            ("0.1-24", "0.24-1"),
            ("0.1-24", "0.1-3.2-24"),
            ("20231114T221320Z", "2023-11-14"),
            (".age", ""),
            (".age", "--x.age"),
            ("2d711642b726b044", "2d711642b726b04"),
        ] {
            let bad = good.replacen(from, to, 1);
            assert!(bad.parse::<LogName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_name_with_a_set_of_the_allowed_length_is_not_too_long() {
        let label = "a".repeat(40);
        let timeline = Timeline { job: label.parse().unwrap(), number: u32::MAX };
        let source: HostName = label.parse().unwrap();
        let room = LogName::set_bytes_max(&timeline, &source);
        let set = "0:100-999";
        let length = LogName { timeline, source, ..name(set) }.to_string().len();
        assert!(length - set.len() + room <= NAME_BYTES_MAX, "{length} {room}");
        // One interval of MySQL fits at any rate, unless its tag is very long.
        assert!(room >= UUID.len() + 1 + 2, "{room}");
    }
}
