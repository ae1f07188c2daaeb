//! What the archive has, and how far a backup can be brought forward with it: pure decisions over
//! the names of pieces.
//!
//! The one promise is that nothing is promised that is not there: a point counts as reachable only
//! if every transaction between the backup and the point is in a piece of the same timeline, from
//! whatever source. Where two streams of ids have no order between them and one has a hole, the
//! other is promised only as far as pieces certainly come before the hole.
//!
//! One thing names cannot tell where there are several streams: that the last numbers of one are
//! missing while another goes on, since nothing of the first comes after them. The heads tell it.
//! Whoever has the key must compare them before a replay, link by link: see [`Link::follows`].

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use gtid::{GtidSet, Intervals, Stream};

use super::object::Listing;
use super::{Kind, LogObject, Timeline};
use crate::names::HostName;

/// All timelines that have pieces.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    /// Each timeline and what is there of it.
    pub archives: BTreeMap<Timeline, Archive>,
}

/// One timeline.
#[derive(Clone, Debug, Default)]
pub struct Archive {
    /// All pieces, tails and segments, of all sources.
    pub pieces: Vec<LogObject>,
    /// The transactions in them.
    pub union: GtidSet,
}

/// How far a backup can be brought.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    /// All that the database has at the furthest point; the backup's own set at least.
    pub set: GtidSet,
    /// The greatest commit time in it, if pieces take part.
    pub to: Option<DateTime<Utc>>,
    /// What is missing behind it, although later transactions are there.
    pub holes: GtidSet,
}

/// One piece of a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The piece.
    pub object: LogObject,
    /// The transactions to take from it; others of it are in earlier links or not wanted.
    pub take: GtidSet,
}

impl Link {
    /// Whether a piece can be replayed where a database has `state`: all that its head says was there
    /// before is there.
    pub fn follows(after: &GtidSet, state: &GtidSet) -> bool {
        state.contains_all(after)
    }
}

/// Why there is no chain.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// Transactions are missing.
    #[error("the archive has no {missing}")]
    Hole {
        /// Those that are wanted and not there.
        missing: GtidSet,
    },
    /// Pieces of several sources give no common order.
    #[error("the pieces of several sources contradict one another in their order")]
    Order,
}

/// The pieces that bring a backup to a point, in the order of replay.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chain {
    /// The pieces.
    pub links: Vec<Link>,
}

impl Chain {
    /// Bytes to fetch.
    pub fn bytes(&self) -> u64 {
        self.links.iter().map(|link| link.object.name.size).sum()
    }
}

impl Catalog {
    /// Sorts a listing by timelines.
    pub fn of(listing: &Listing) -> Self {
        let mut catalog = Self::default();
        for timeline in listing.begins.keys() {
            catalog.archives.entry(timeline.clone()).or_default();
        }
        for piece in &listing.pieces {
            catalog.archives.entry(piece.name.timeline.clone()).or_default().add(piece.clone());
        }
        catalog
    }

    /// Forgets a piece that turned out to be damaged.
    pub fn remove(&mut self, stored: &str) {
        self.archives.values_mut().for_each(|archive| archive.remove(stored));
    }

    /// The newest timeline of a job that has a piece.
    pub fn newest(&self, job: &str) -> Option<(&Timeline, &Archive)> {
        let of_job = |timeline: &Timeline| timeline.job.as_str() == job;
        self.archives
            .iter()
            .rev()
            .find(|(timeline, archive)| of_job(timeline) && !archive.pieces.is_empty())
    }
}

impl Archive {
    fn add(&mut self, piece: LogObject) {
        self.union.add(&piece.name.set);
        self.pieces.push(piece);
    }

    /// Forgets a piece that turned out to be damaged.
    pub fn remove(&mut self, stored: &str) {
        self.pieces.retain(|piece| piece.stored != stored);
        let sets = self.pieces.iter().map(|piece| &piece.name.set);
        self.union = sets.fold(GtidSet::default(), |union, set| union.union(set));
    }

    /// What is missing between what is there.
    pub fn holes(&self) -> GtidSet {
        self.union.gaps()
    }

    /// The hosts that wrote pieces.
    pub fn sources(&self) -> BTreeSet<&HostName> {
        self.pieces.iter().map(|piece| &piece.name.source).collect()
    }

    /// The greatest commit time of all pieces.
    pub fn latest(&self) -> Option<DateTime<Utc>> {
        self.pieces.iter().map(|piece| piece.name.to).max()
    }

    /// Tails that segments have made superfluous, whoever wrote them.
    pub fn covered_tails(&self) -> Vec<&LogObject> {
        let mut segments = GtidSet::default();
        for piece in self.pieces.iter().filter(|piece| piece.name.kind == Kind::Segment) {
            segments.add(&piece.name.set);
        }
        let is_covered = |piece: &&LogObject| {
            piece.name.kind == Kind::Tail && segments.contains_all(&piece.name.set)
        };
        self.pieces.iter().filter(is_covered).collect()
    }

    /// How far a backup that has `base` can be brought.
    pub fn reach(&self, base: &GtidSet) -> Reach {
        let all = base.union(&self.union);
        let holes = holes_of(&all);
        let pieces: Vec<&LogObject> = self.pieces.iter().collect();
        let before: Vec<&LogObject> =
            if holes.is_empty() { pieces } else { before_holes(&pieces, base, &all, &holes) };
        let mut there = base.clone();
        for piece in &before {
            there.add(&piece.name.set);
        }
        let set = base.union(&contiguous(&there));
        let new = set.subtract(base);
        let adds = |piece: &&&LogObject| !piece.name.set.intersect(&new).is_empty();
        let to = before.iter().filter(adds).map(|piece| piece.name.to).max();
        Reach { set, to, holes }
    }

    /// The pieces that bring a backup that has `base` to where it has `upto` too.
    pub fn chain(&self, base: &GtidSet, upto: &GtidSet) -> Result<Chain, Broken> {
        let mut left = upto.subtract(base);
        let missing = left.subtract(&self.union);
        if !missing.is_empty() {
            return Err(Broken::Hole { missing });
        }
        let mut fronts = fronts(&self.pieces);
        let mut links = Vec::new();
        while !left.is_empty() {
            let next = fronts
                .iter_mut()
                .find_map(|(stream, front)| front.best(stream, &self.pieces, &left));
            let (place, take) = next.ok_or(Broken::Order)?;
            left = left.subtract(&take);
            links.push(Link { object: self.pieces[place].clone(), take });
        }
        Ok(Chain { links })
    }
}

/// The intervals of one stream in all pieces, by their beginning, and those that the replay has come
/// to.
#[derive(Debug, Default)]
struct Front {
    /// First number, last number, place of the piece.
    ahead: std::collections::VecDeque<(u64, u64, usize)>,
    open: Vec<(u64, u64, usize)>,
}

fn fronts(pieces: &[LogObject]) -> BTreeMap<Stream, Front> {
    let mut intervals: BTreeMap<Stream, Vec<(u64, u64, usize)>> = BTreeMap::new();
    for (place, piece) in pieces.iter().enumerate() {
        for (stream, numbers) in piece.name.set.iter() {
            let of_stream = intervals.entry(stream.clone()).or_default();
            of_stream.extend(numbers.iter().map(|(first, last)| (first, last, place)));
        }
    }
    let sorted = |(stream, mut list): (Stream, Vec<(u64, u64, usize)>)| {
        list.sort_unstable();
        (stream, Front { ahead: list.into(), open: Vec::new() })
    };
    intervals.into_iter().map(sorted).collect()
}

impl Front {
    /// Of the pieces that have the next number of the stream, and of every other stream nothing but
    /// what comes next there, the one that leads furthest; what to take of it, too.
    fn best(
        &mut self,
        stream: &Stream,
        pieces: &[LogObject],
        left: &GtidSet,
    ) -> Option<(usize, GtidSet)> {
        let next = left.of(stream)?.first()?;
        while self.ahead.front().is_some_and(|interval| interval.0 <= next) {
            self.open.extend(self.ahead.pop_front());
        }
        self.open.retain(|interval| interval.1 >= next);
        let is_next = |take: &GtidSet| {
            take.iter().all(|(stream, numbers)| {
                left.of(stream).and_then(Intervals::first) == numbers.first()
            })
        };
        let candidates = self.open.iter().map(|(.., place)| {
            let take = pieces[*place].name.set.intersect(left);
            (*place, take)
        });
        candidates
            .filter(|(_, take)| is_next(take))
            .max_by_key(|(place, take)| (take.size(), pieces[*place].name.kind, *place))
    }
}

/// What is missing in each stream before its last, its beginning too.
fn holes_of(all: &GtidSet) -> GtidSet {
    let mut holes = GtidSet::default();
    for (stream, numbers) in all.iter() {
        let whole = Intervals::of(1, numbers.last().unwrap_or_default());
        for (first, last) in whole.subtract(numbers).iter() {
            holes.insert_range(stream.clone(), first, last);
        }
    }
    holes
}

/// What is there without a hole from 1 on.
fn contiguous(all: &GtidSet) -> GtidSet {
    let mut set = GtidSet::default();
    for (stream, numbers) in all.iter() {
        if let Some((1, last)) = numbers.iter().next() {
            set.insert_range(stream.clone(), 1, last);
        }
    }
    set
}

/// The pieces that certainly come before all holes: a piece that reaches up to the hole, and those
/// that end before it does.
fn before_holes<'a>(
    pieces: &[&'a LogObject],
    base: &GtidSet,
    all: &GtidSet,
    holes: &GtidSet,
) -> Vec<&'a LogObject> {
    let mut before = pieces.to_vec();
    // With one stream numbers are the order.
    if all.iter().count() == 1 {
        return before;
    }
    for (stream, missing) in holes.iter() {
        let edge = missing.first().unwrap_or(1) - 1;
        let at_edge = |piece: &&&LogObject| has(&piece.name.set, stream, edge);
        let in_base = has(base, stream, edge);
        let last = pieces.iter().filter(at_edge).map(|piece| piece.name.to).min();
        before.retain(|piece| match last {
            Some(last) => has(&piece.name.set, stream, edge) || piece.name.to < last,
            None => false,
        });
        // The backup was taken after the edge, and nothing says how long after.
        if in_base && last.is_none() {
            return Vec::new();
        }
    }
    before
}

fn has(set: &GtidSet, stream: &Stream, number: u64) -> bool {
    set.of(stream).is_some_and(|numbers| numbers.contains(number))
}

#[cfg(test)]
mod tests;
