//! Names of what is stored: jobs, hosts, snapshots, packs and their objects. Parsed at the edge,
//! never built from bare strings elsewhere. See `docs/format.md`, section Objects.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, NaiveDateTime, Utc};
use serde::{Deserialize, Serialize};

const LABEL_BYTES_MAX: usize = 64;
const TIME_FORMAT: &str = "%Y%m%dT%H%M%SZ";
const TIME_BYTES: usize = 16;

/// A name that does not follow the rules of the format.
#[derive(Debug, thiserror::Error)]
#[error("`{text}` is not a {kind}: {rule}")]
pub struct NameError {
    text: String,
    kind: &'static str,
    rule: &'static str,
}

/// The name of a job or a host: 1 to 64 of `[a-z0-9._-]`, beginning with a letter or digit, without
/// `--`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Label(String);

/// The name of a job.
pub type JobName = Label;
/// The name of a host, as its agent calls itself.
pub type HostName = Label;

impl Label {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Label {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let error = |rule| NameError { text: text.chars().take(80).collect(), kind: "name", rule };
        let letter = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        if text.is_empty() || text.len() > LABEL_BYTES_MAX {
            return Err(error("it must have 1 to 64 characters"));
        }
        if !text.bytes().all(|b| letter(b) || b"._-".contains(&b)) {
            return Err(error("only a-z, 0-9, `.`, `_` and `-` are allowed"));
        }
        if !letter(text.as_bytes()[0]) || text.ends_with('-') {
            return Err(error("it must begin with a letter or digit and not end with `-`"));
        }
        if text.contains("--") {
            return Err(error("`--` is not allowed in it"));
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for Label {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<Label> for String {
    fn from(label: Label) -> Self {
        label.0
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// `<job>--<time>--<host>`: one backup. Ordered by time, then job, then host.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SnapshotId {
    /// The job that made it.
    pub job: JobName,
    /// When the run started by the agent's clock, to the second.
    pub time: DateTime<Utc>,
    /// The host that made it.
    pub host: HostName,
}

impl SnapshotId {
    /// The id of a run that starts at `time`; parts of a second are dropped.
    pub fn new(job: JobName, time: DateTime<Utc>, host: HostName) -> Self {
        let time = DateTime::from_timestamp(time.timestamp(), 0).unwrap_or(time);
        Self { job, time, host }
    }

    /// The object of the manifest.
    pub fn manifest_object(&self) -> String {
        format!("snapshot/{self}.age")
    }

    /// The object of the needs list.
    pub fn needs_object(&self) -> String {
        format!("snapshot/{self}.needs")
    }
}

impl PartialOrd for SnapshotId {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for SnapshotId {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.time, &self.job, &self.host).cmp(&(other.time, &other.job, &other.host))
    }
}

impl FromStr for SnapshotId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let error =
            |rule| NameError { text: text.chars().take(200).collect(), kind: "snapshot id", rule };
        let mut parts = text.splitn(3, "--");
        let (Some(job), Some(time), Some(host)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(error("it looks like `job--20261123T021500Z--host`"));
        };
        // chrono takes and writes years of more digits, with a sign that no object can have in its name.
        let parsed = NaiveDateTime::parse_from_str(time, TIME_FORMAT).ok();
        let parsed = parsed.filter(|_| time.len() == TIME_BYTES);
        let time = parsed.ok_or_else(|| error("its time looks like `20261123T021500Z`"))?;
        let id = Self { job: job.parse()?, time: time.and_utc(), host: host.parse()? };
        // chrono is lenient with digits; an id has one spelling only.
        if id.to_string() == text { Ok(id) } else { Err(error("it has another spelling")) }
    }
}

impl TryFrom<String> for SnapshotId {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<SnapshotId> for String {
    fn from(id: SnapshotId) -> Self {
        id.to_string()
    }
}

impl fmt::Display for SnapshotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}--{}--{}", self.job, self.time.format(TIME_FORMAT), self.host))
    }
}

/// SHA-256 of an object's stored bytes: the name of a pack, the checksum of a manifest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Sha256(pub [u8; 32]);

/// A pack is named by its checksum.
pub type PackId = Sha256;

impl Sha256 {
    /// The checksum of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        use sha2::Digest;
        Self(sha2::Sha256::digest(bytes).into())
    }

    /// The object of the pack of this name.
    pub fn pack_object(&self) -> String {
        let hex = self.to_string();
        format!("pack/{}/{hex}", &hex[..2])
    }
}

impl FromStr for Sha256 {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let error = || NameError {
            text: text.chars().take(80).collect(),
            kind: "SHA-256",
            rule: "it has 64 lower-case hexadecimal digits",
        };
        if text.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(error());
        }
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| error())?;
        Ok(Self(bytes))
    }
}

impl TryFrom<String> for Sha256 {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<Sha256> for String {
    fn from(sum: Sha256) -> Self {
        sum.to_string()
    }
}

impl fmt::Display for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&hex::encode(self.0))
    }
}

impl fmt::Debug for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The name of the `n`-th candidate of an object: `name`, `name.1`, ... `name.9`.
pub fn candidate(name: &str, n: u32) -> String {
    if n == 0 { name.to_owned() } else { format!("{name}.{n}") }
}

/// Splits a stored name into the object's name and the number of the candidate.
pub fn split_candidate(stored: &str) -> (&str, u32) {
    match stored.rsplit_once('.') {
        Some((name, digit)) if digit.len() == 1 && ("1"..="9").contains(&digit) => {
            (name, u32::from(digit.as_bytes()[0] - b'0'))
        }
        _ => (stored, 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_follow_the_rules() {
        for good in ["db", "web1", "a.b_c-d", "0"] {
            assert_eq!(good.parse::<Label>().expect(good).as_str(), good);
        }
        for bad in ["", "-a", "a--b", "A", "a/b", "..", "a b", "a-", &"x".repeat(65)] {
            assert!(bad.parse::<Label>().is_err(), "{bad}");
        }
    }

    #[test]
    fn snapshot_ids_read_as_written() {
        let text = "site-x--20261123T021500Z--web1";
        let id: SnapshotId = text.parse().expect("valid");
        assert_eq!(id.to_string(), text);
        assert_eq!(id.manifest_object(), "snapshot/site-x--20261123T021500Z--web1.age");
        for bad in [
            "site",
            "site--x--web1",
            "site--20261323T021500Z--web1",
            "--20261123T021500Z--",
            "site--+120261123T021500Z--web1",
        ] {
            assert!(bad.parse::<SnapshotId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn candidates_are_told_apart() {
        assert_eq!(candidate("a.age", 0), "a.age");
        assert_eq!(split_candidate("a.age.3"), ("a.age", 3));
        assert_eq!(split_candidate("a.age"), ("a.age", 0));
        assert_eq!(split_candidate("a.needs.10"), ("a.needs.10", 0));
    }
}
