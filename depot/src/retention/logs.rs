//! Which pieces of the log nothing needs any more.
//!
//! A backup that is kept needs the log from its end on. What arrived so long before its manifest that
//! the run had not begun is older than that. Times are the store's.

use std::collections::HashSet;

use chrono::{DateTime, TimeDelta, Utc};

use crate::log::{Catalog, Kind, Listing, LogObject};
use crate::names::split_candidate;

/// A covered tail stays for so long: somebody may be reading it.
const TAIL_AGE_MIN: TimeDelta = TimeDelta::days(1);
/// A run lasts at most so long: what arrived before it began, its backup has in it.
const RUN_MAX: TimeDelta = TimeDelta::hours(48);

/// Objects to delete. `oldest` is when the manifest of the oldest database backup arrived that is
/// kept; without one every segment stays.
pub(super) fn garbage(
    listing: &Listing,
    oldest: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
) -> Vec<String> {
    let catalog = Catalog::of(listing);
    let mut covered: HashSet<&str> = HashSet::new();
    for archive in catalog.archives.values() {
        covered.extend(archive.covered_tails().into_iter().map(|piece| piece.stored.as_str()));
    }
    let is_needless = |piece: &&LogObject| {
        let is_old = now - piece.arrived > TAIL_AGE_MIN;
        let is_before = oldest.is_some_and(|oldest| piece.arrived < oldest - RUN_MAX);
        let is_covered = piece.name.kind == Kind::Tail && covered.contains(piece.stored.as_str());
        is_old && (is_covered || is_before)
    };
    let pieces = listing.pieces.iter().filter(is_needless).map(|piece| piece.stored.clone());
    let torn = listing
        .torn
        .iter()
        .filter(|info| now - DateTime::<Utc>::from(info.arrived) > RUN_MAX)
        .filter(|info| split_candidate(&info.name).0.strip_suffix(".age").is_some())
        .map(|info| info.name.clone());
    pieces.chain(torn).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::LogName;
    use crate::names::Sha256;

    const DAY: i64 = 86_400;

    fn piece(set: &str, kind: Kind, arrived_day: i64) -> LogObject {
        let name = LogName::new(
            "shop.1".parse().unwrap(),
            "db1".parse().unwrap(),
            kind,
            set.parse().unwrap(),
            (0, 0),
            (7, Sha256::of(set.as_bytes())),
        );
        let arrived = DateTime::from_timestamp(arrived_day * DAY, 0).unwrap();
        LogObject { stored: name.object(), name, arrived }
    }

    #[test]
    fn covered_tails_and_what_is_older_than_every_backup_go() {
        let day = |day: i64| DateTime::from_timestamp(day * DAY, 0).unwrap();
        let pieces = vec![
            piece("0:1-9", Kind::Segment, 1),
            piece("0:10-19", Kind::Segment, 8),
            piece("0:20-29", Kind::Segment, 10),
            piece("0:11", Kind::Tail, 8),
            piece("0:21", Kind::Tail, 20),
            piece("0:30", Kind::Tail, 12),
        ];
        let listing = Listing { pieces, ..Listing::default() };
        let gone = |oldest: Option<i64>, now: i64| {
            let gone = garbage(&listing, oldest.map(day), day(now));
            let part = |name: &String| name.split("--").nth(3).unwrap().to_owned();
            gone.iter().map(part).collect::<Vec<_>>()
        };
        assert_eq!(gone(None, 20), ["0.11"]);
        assert_eq!(gone(None, 22), ["0.11", "0.21"]);
        assert_eq!(gone(Some(9), 20), ["0.1-9", "0.11"]);
        assert_eq!(gone(Some(10), 20), ["0.1-9", "0.11"]);
        assert_eq!(gone(Some(11), 20), ["0.1-9", "0.10-19", "0.11"]);
    }
}
