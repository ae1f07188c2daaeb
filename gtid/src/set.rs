//! Sets of transactions, for both flavours alike.
//!
//! Written as MySQL writes them, `uuid:1-5:7,uuid:tag:9`, with the domain in place of the UUID for
//! MariaDB: `0:1-100`. A MariaDB server itself knows positions only ([`Position`](super::Position)).

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{Gtid, GtidError, Intervals, Stream, number};

/// The numbers of each stream.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct GtidSet(BTreeMap<Stream, Intervals>);

impl GtidSet {
    /// Whether there is no transaction in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The streams and their numbers; none is empty.
    pub fn iter(&self) -> impl Iterator<Item = (&Stream, &Intervals)> {
        self.0.iter()
    }

    /// The numbers of a stream.
    pub fn of(&self, stream: &Stream) -> Option<&Intervals> {
        self.0.get(stream)
    }

    /// How many transactions (MariaDB: numbers) there are.
    pub fn size(&self) -> u64 {
        self.0.values().fold(0, |sum, intervals| sum.saturating_add(intervals.size()))
    }

    /// How many intervals there are in all streams.
    pub fn interval_count(&self) -> usize {
        self.0.values().map(Intervals::count).sum()
    }

    /// Adds a transaction.
    pub fn insert(&mut self, gtid: &Gtid) {
        self.insert_range(gtid.stream(), gtid.number(), gtid.number());
    }

    /// Adds the numbers from `first` to `last`.
    pub fn insert_range(&mut self, stream: Stream, first: u64, last: u64) {
        if first <= last {
            self.0.entry(stream).or_default().insert(first, last);
        }
    }

    /// Whether a transaction is in it.
    pub fn contains(&self, gtid: &Gtid) -> bool {
        self.0.get(&gtid.stream()).is_some_and(|numbers| numbers.contains(gtid.number()))
    }

    /// Whether all of `other` is in it.
    pub fn contains_all(&self, other: &Self) -> bool {
        other.iter().all(|(stream, theirs)| {
            self.0.get(stream).is_some_and(|ours| ours.contains_all(theirs))
        })
    }

    /// All of both.
    pub fn union(&self, other: &Self) -> Self {
        let mut sum = self.clone();
        sum.add(other);
        sum
    }

    /// Adds all of `other`.
    pub fn add(&mut self, other: &Self) {
        for (stream, theirs) in other.iter() {
            let ours = self.0.entry(stream.clone()).or_default();
            theirs.iter().for_each(|(first, last)| ours.insert(first, last));
        }
    }

    /// What is not in `other`.
    pub fn subtract(&self, other: &Self) -> Self {
        self.map(|stream, ours| {
            other.0.get(stream).map_or_else(|| ours.clone(), |theirs| ours.subtract(theirs))
        })
    }

    /// What is in both.
    pub fn intersect(&self, other: &Self) -> Self {
        self.map(|stream, ours| {
            other.0.get(stream).map(|theirs| ours.intersect(theirs)).unwrap_or_default()
        })
    }

    /// What is missing in each stream between its first and its last.
    pub fn gaps(&self) -> Self {
        self.map(|_, ours| ours.gaps())
    }

    fn map(&self, with: impl Fn(&Stream, &Intervals) -> Intervals) -> Self {
        let mapped = self.0.iter().map(|(stream, ours)| (stream.clone(), with(stream, ours)));
        Self(mapped.filter(|(_, numbers)| !numbers.is_empty()).collect())
    }
}

impl fmt::Display for GtidSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, (stream, numbers)) in self.0.iter().enumerate() {
            let comma = if place == 0 { "" } else { "," };
            write!(f, "{comma}{stream}:{numbers}")?;
        }
        Ok(())
    }
}

impl FromStr for GtidSet {
    type Err = GtidError;

    /// Reads what [`Display`](fmt::Display) writes, and what MySQL accepts: newlines, spaces, several
    /// tags behind one UUID.
    fn from_str(text: &str) -> Result<Self, GtidError> {
        let error = || GtidError {
            text: text.to_owned(),
            what: "GTID set",
            form: "`0:1-100` for MariaDB, `uuid:1-100` for MySQL",
        };
        let mut set = Self::default();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (first, rest) = part.split_once(':').ok_or_else(error)?;
            let mut stream: Stream = first.parse().map_err(|_| error())?;
            let mut is_open = true;
            for piece in rest.split(':').map(str::trim) {
                if piece.bytes().next().is_some_and(|byte| byte.is_ascii_digit()) {
                    let numbers = Intervals::parse(piece, ':').ok_or_else(error)?;
                    for (first, last) in numbers.iter() {
                        set.insert_range(stream.clone(), first, last);
                    }
                    is_open = false;
                } else {
                    stream = format!("{first}:{piece}").parse().map_err(|_| error())?;
                    is_open = true;
                }
            }
            if is_open || number(first).is_some() != stream.is_mariadb() {
                return Err(error());
            }
        }
        Ok(set)
    }
}

impl TryFrom<String> for GtidSet {
    type Error = GtidError;

    fn try_from(text: String) -> Result<Self, GtidError> {
        text.parse()
    }
}

impl From<GtidSet> for String {
    fn from(set: GtidSet) -> Self {
        set.to_string()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    const UUID: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";

    type Model = BTreeSet<Gtid>;

    fn gtid(stream: u8, number: u64) -> Gtid {
        let uuid = UUID.parse().unwrap();
        match stream {
            0 | 1 => Gtid::MariaDb { domain: stream.into(), server: 1, number },
            2 => Gtid::MySql { uuid, tag: None, number },
            _ => Gtid::MySql { uuid, tag: Some("blue".into()), number },
        }
    }

    fn set(model: &Model) -> GtidSet {
        let mut set = GtidSet::default();
        for gtid in model {
            set.insert(gtid);
        }
        set
    }

    fn some_gtids() -> impl Strategy<Value = Model> {
        prop::collection::btree_set((0_u8..4, 1_u64..20).prop_map(|(s, n)| gtid(s, n)), 0..40)
    }

    proptest! {
        #[test]
        fn operations_are_those_of_sets(x in some_gtids(), y in some_gtids()) {
            let (a, b) = (set(&x), set(&y));
            prop_assert_eq!(a.union(&b), set(&x.union(&y).cloned().collect()));
            prop_assert_eq!(a.subtract(&b), set(&x.difference(&y).cloned().collect()));
            prop_assert_eq!(a.intersect(&b), set(&x.intersection(&y).cloned().collect()));
            prop_assert_eq!(a.contains_all(&b), x.is_superset(&y));
            prop_assert_eq!(a.size(), x.len() as u64);
            prop_assert!(y.iter().all(|gtid| a.contains(gtid) == x.contains(gtid)));
            prop_assert_eq!(a.to_string().parse::<GtidSet>(), Ok(a));
        }
    }

    #[test]
    fn sets_are_read_as_servers_print_them() {
        fn check(text: &str, expected: Option<&str>) {
            let set: Result<GtidSet, _> = text.parse();
            assert_eq!(set.ok().map(|set| set.to_string()).as_deref(), expected, "{text}");
        }
        check("", Some(""));
        check("0:1-5:7,2:3", Some("0:1-5:7,2:3"));
        check("0:1-5:6", Some("0:1-6"));
        check(&format!("{UUID}:1-5:\n7"), Some(&format!("{UUID}:1-5:7")));
        check(
            &format!("{UUID}:1-5:blue:3:red:1-2"),
            Some(&format!("{UUID}:1-5,{UUID}:blue:3,{UUID}:red:1-2")),
        );
        for text in ["0", "0:", "0:blue:1", "0:0", "x:1", "0:5-1"] {
            check(text, None);
        }
        check(&format!("{UUID}:blue"), None);
    }
}
