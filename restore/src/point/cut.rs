//! Where the cut is: which transactions are in and which are out.
//!
//! A log has an order, the order of commits, and times that do not follow it: MariaDB logs when the
//! statement that commits began, a session may set its own time, and a clock may be set back. So a
//! time means the longest beginning of the log in which no transaction is later: nothing is in that
//! was logged as later than the point, and nothing is in without all that came before it. What comes
//! behind the cut and says that it is earlier is counted and told.

use std::collections::VecDeque;

use anyhow::Result;
use chrono::{DateTime, Utc};
use database::binlog::{Statement, Summary};
use database::gtid::{Gtid, GtidSet, Intervals, Stream};
use depot::log::{Archive, Broken, Chain, Link};
use serde::{Deserialize, Serialize};

use super::{Goal, time_of};

/// Transactions that are told on either side of the cut.
const SHOWN_MAX: usize = 5;

/// A transaction, for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Transaction {
    /// Its id.
    pub gtid: Gtid,
    /// When it was committed.
    pub committed: DateTime<Utc>,
    /// What it did, and to which tables: `insert shop.orders`.
    pub did: Vec<String>,
    /// The text of a definition.
    pub text: Option<String>,
    /// Its size in the log.
    pub bytes: u64,
}

impl Transaction {
    /// Of what was found in the log.
    pub fn of(summary: &Summary) -> Self {
        let word = |statement: &Statement| format!("{statement:?}").to_lowercase();
        let did = summary.tables.iter().map(|touched| {
            let words: Vec<String> = touched.statements.iter().map(word).collect();
            format!("{} {}", words.join("+"), touched.table).trim_start().to_owned()
        });
        let mut did: Vec<String> = did.collect();
        if summary.has_more {
            did.push("and more".to_owned());
        }
        Self {
            gtid: summary.gtid.clone(),
            committed: time_of(summary.committed),
            did,
            text: summary.text.clone(),
            bytes: summary.bytes,
        }
    }

    /// One line: id, time, what it did.
    pub fn line(&self) -> String {
        let time = super::shown(self.committed);
        let what = match &self.text {
            Some(text) => text.split_whitespace().collect::<Vec<_>>().join(" "),
            None => self.did.join(", "),
        };
        format!("{}  {time}  {what}", self.gtid)
    }
}

/// A cut.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Cut {
    /// All that a database at the point has.
    pub upto: GtidSet,
    /// The last transactions that are in, the last one last.
    pub inside: Vec<Transaction>,
    /// The first transactions that are out.
    pub outside: Vec<Transaction>,
    /// How many behind the cut, as far as was looked, say that they are not later than the point.
    pub earlier_outside: u64,
    /// The first of them.
    pub earlier_first: Option<Transaction>,
}

/// Why a point cannot be reached from a backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unreachable {
    /// The backup has it already.
    InBackup,
    /// Something is missing before it. What can be reached, and when that was committed.
    Hole(GtidSet, Option<DateTime<Utc>>),
    /// It is later than all that is there.
    After(Option<DateTime<Utc>>),
    /// No such transaction is in the archive.
    Unknown,
    /// The pieces have no common order.
    Order,
}

/// What came of the search.
pub type Found = Result<(Cut, Chain), Unreachable>;

/// Finds the cut behind a backup that has `base`. `read` reads the transactions of a piece into a
/// window, until that has enough.
pub fn find(
    goal: &Goal,
    archive: &Archive,
    base: &GtidSet,
    mut read: impl FnMut(&Link, &mut Window) -> Result<()>,
) -> Result<Found> {
    let reach = archive.reach(base);
    let chain = match archive.chain(base, &reach.set) {
        Ok(chain) => chain,
        Err(Broken::Hole { missing }) => return Ok(Err(Unreachable::Hole(missing, reach.to))),
        Err(Broken::Order) => return Ok(Err(Unreachable::Order)),
    };
    let links = &chain.links;
    let first = match goal {
        Goal::Time(time) => links.iter().position(|link| link.object.name.to > *time),
        Goal::To(gtid) | Goal::Before(gtid) if base.contains(gtid) => {
            return Ok(Err(Unreachable::InBackup));
        }
        Goal::To(gtid) | Goal::Before(gtid) => {
            links.iter().position(|link| link.take.contains(gtid))
        }
        Goal::Latest => None,
    };
    let Some(first) = first else {
        if let Some(reason) = beyond(goal, archive, &reach) {
            return Ok(Err(reason));
        }
        let mut window = Window::new(&Goal::Latest);
        if let Some(last) = links.last() {
            read(last, &mut window)?;
        }
        let inside = window.inside.into();
        return Ok(Ok((Cut { upto: reach.set, inside, ..Cut::default() }, chain)));
    };
    let mut upto = base.clone();
    links[..first].iter().for_each(|link| upto.add(&link.take));
    let mut window = Window::new(goal);
    let mut at = first;
    while at < links.len() && !window.is_cut {
        let is_before = matches!(goal, Goal::Time(time) if links[at].object.name.to <= *time);
        if !is_before {
            window.taken = GtidSet::default();
            read(&links[at], &mut window)?;
        }
        let part = if window.is_cut { window.part_of(&links[at]) } else { links[at].take.clone() };
        upto.add(&part);
        at += 1;
    }
    if !window.is_found {
        return Ok(Err(Unreachable::Unknown));
    }
    if window.inside.is_empty() && at > 1 {
        let mut before = Window::new(&Goal::Latest);
        read(&links[at - 2], &mut before)?;
        window.inside = before.inside;
    }
    if window.outside.is_empty() && at < links.len() {
        read(&links[at], &mut window)?;
    }
    let cut = window.into_cut(upto);
    let chain = archive.chain(base, &cut.upto);
    Ok(chain.map(|chain| (cut, chain)).map_err(|_| Unreachable::Order))
}

/// Why a point is behind all that can be reached; none if all that can be reached is the point.
fn beyond(goal: &Goal, archive: &Archive, reach: &depot::log::Reach) -> Option<Unreachable> {
    let hole = || Unreachable::Hole(reach.holes.clone(), reach.to);
    match goal {
        Goal::Time(time) => {
            let is_last = reach.to.is_some_and(|to| *time <= to);
            match reach.holes.is_empty() {
                _ if is_last => None,
                true => Some(Unreachable::After(reach.to)),
                false => Some(hole()),
            }
        }
        Goal::To(gtid) | Goal::Before(gtid) => {
            let is_hidden = archive.union.contains(gtid) || reach.holes.contains(gtid);
            Some(if is_hidden { hole() } else { Unreachable::Unknown })
        }
        Goal::Latest => (!reach.holes.is_empty()).then(hole),
    }
}

/// The transactions on both sides of a cut, as they come by.
#[derive(Debug)]
pub struct Window {
    goal: Goal,
    inside: VecDeque<Transaction>,
    outside: Vec<Transaction>,
    /// Those of the piece that is being read that are in.
    taken: GtidSet,
    earlier_outside: u64,
    earlier_first: Option<Transaction>,
    is_cut: bool,
    /// The transaction that was named came by; any other goal has none.
    is_found: bool,
}

impl Window {
    fn new(goal: &Goal) -> Self {
        Self {
            goal: goal.clone(),
            inside: VecDeque::new(),
            outside: Vec::new(),
            taken: GtidSet::default(),
            earlier_outside: 0,
            earlier_first: None,
            is_cut: false,
            is_found: !matches!(goal, Goal::To(_) | Goal::Before(_)),
        }
    }

    /// Takes the next one. False if there are enough.
    pub fn add(&mut self, summary: &Summary) -> bool {
        let is_named = match &self.goal {
            Goal::To(gtid) | Goal::Before(gtid) => *gtid == summary.gtid,
            Goal::Time(_) | Goal::Latest => false,
        };
        self.is_found |= is_named;
        self.is_cut |= match &self.goal {
            Goal::Time(time) => time_of(summary.committed) > *time,
            Goal::Before(_) => is_named,
            Goal::To(_) | Goal::Latest => false,
        };
        if self.is_cut {
            return self.add_outside(summary);
        }
        if self.inside.len() == SHOWN_MAX {
            self.inside.pop_front();
        }
        self.inside.push_back(Transaction::of(summary));
        self.taken.insert(&summary.gtid);
        self.is_cut = matches!(self.goal, Goal::To(_)) && is_named;
        true
    }

    fn add_outside(&mut self, summary: &Summary) -> bool {
        if self.outside.len() < SHOWN_MAX {
            self.outside.push(Transaction::of(summary));
        }
        let Goal::Time(time) = self.goal else { return self.outside.len() < SHOWN_MAX };
        if time_of(summary.committed) <= time {
            self.earlier_outside += 1;
            self.earlier_first.get_or_insert_with(|| Transaction::of(summary));
        }
        true
    }

    /// What of a piece comes before the cut in it. Numbers that MariaDB left out belong to what comes
    /// behind them.
    fn part_of(&self, link: &Link) -> GtidSet {
        let mut part = GtidSet::default();
        for (stream, numbers) in self.taken.iter() {
            match (stream, numbers.last()) {
                (Stream::Domain(_), Some(last)) => {
                    let all = link.take.of(stream).cloned().unwrap_or_default();
                    let upto = all.intersect(&Intervals::of(1, last));
                    upto.iter().for_each(|(a, b)| part.insert_range(stream.clone(), a, b));
                }
                _ => numbers.iter().for_each(|(a, b)| part.insert_range(stream.clone(), a, b)),
            }
        }
        part
    }

    fn into_cut(self, upto: GtidSet) -> Cut {
        Cut {
            upto,
            inside: self.inside.into(),
            outside: self.outside,
            earlier_outside: self.earlier_outside,
            earlier_first: self.earlier_first,
        }
    }
}

#[cfg(test)]
mod tests;
