//! Which history is followed, and which backups belong to it.

use std::collections::BTreeMap;

use chassis::failure::{Exit, Failure};
use chrono::{DateTime, TimeDelta, Utc};
use depot::log::{Begin, Catalog, Chain, Timeline};

use super::{Goal, WantedTimeline};

/// A log that goes on behind a backup has commits that are later than the backup. The time of a long
/// statement is that of its beginning, and clocks differ a little.
const COMMIT_AGE_MAX: TimeDelta = TimeDelta::minutes(10);

/// How the timelines began, as far as it can be read.
pub type Begins = BTreeMap<Timeline, Begin>;

/// Chooses the timeline of a point: the one that is named, or the newest that the point can be in.
pub fn choose(
    catalog: &Catalog,
    begins: &Begins,
    goal: &Goal,
    wanted: Option<&WantedTimeline>,
) -> Result<Timeline, Failure> {
    let has_pieces = |timeline: &&Timeline| !catalog.archives[*timeline].pieces.is_empty();
    let all: Vec<&Timeline> = catalog.archives.keys().filter(has_pieces).collect();
    if all.is_empty() {
        return Err(Failure::new(Exit::Nothing, "the depot has no archive of a binary log").hint(
            "a job of the kind `log` makes one; a backup alone is restored without a point",
        ));
    }
    let fits = |timeline: &&&Timeline| match wanted {
        None => true,
        Some(WantedTimeline::Name(name)) => **timeline == name,
        Some(WantedTimeline::Number(number)) => timeline.number == *number,
    };
    let found: Vec<&Timeline> = all.iter().filter(fits).copied().collect();
    let list = |timelines: &[&Timeline]| {
        timelines.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    };
    if found.is_empty() {
        return Err(Failure::new(Exit::Nothing, "the archive has no such timeline")
            .hint(format!("there are {}", list(&all))));
    }
    if found.iter().any(|timeline| timeline.job != found[0].job) {
        let message = format!("the depot has archives of several jobs: {}", list(&found));
        return Err(Failure::new(Exit::Usage, message).hint("choose with --timeline"));
    }
    let began = |timeline: &Timeline| begins.get(timeline).map(|begin| begin.began);
    let can_have = |timeline: &&&Timeline| match goal {
        Goal::Time(time) => began(timeline).is_none_or(|began| began <= *time),
        Goal::To(gtid) | Goal::Before(gtid) => catalog.archives[**timeline].union.contains(gtid),
        Goal::Latest => true,
    };
    let newest = found.iter().rev().find(can_have).or(match goal {
        Goal::Time(_) => found.first(),
        _ => found.last(),
    });
    Ok((*newest.expect("there is one")).clone())
}

/// Other timelines of the job that have the transaction too.
pub fn others(catalog: &Catalog, chosen: &Timeline, goal: &Goal) -> Vec<Timeline> {
    let (Goal::To(gtid) | Goal::Before(gtid)) = goal else { return Vec::new() };
    let has = |(timeline, archive): &(&Timeline, &depot::log::Archive)| {
        timeline.job == chosen.job && *timeline != chosen && archive.union.contains(gtid)
    };
    catalog.archives.iter().filter(has).map(|(timeline, _)| timeline.clone()).collect()
}

/// The timeline of a job that a backup belongs to: the newest that had begun when it was begun, or the
/// first.
pub fn of_backup(begins: &Begins, job: &str, started: DateTime<Utc>) -> Option<u32> {
    let of_job = begins.iter().filter(|(timeline, _)| timeline.job.as_str() == job);
    let mut numbers = of_job.map(|(timeline, begin)| (timeline.number, begin.began));
    let first = numbers.next()?;
    let last = numbers.rfind(|(_, began)| *began <= started);
    Some(last.unwrap_or(first).0)
}

/// Whether a log can be what followed a backup: it has nothing at all, or something that was committed
/// after the backup was begun. Of a server that was put back in between, it has not.
pub fn goes_on(chain: &Chain, started: DateTime<Utc>) -> bool {
    let latest = chain.links.iter().map(|link| link.object.name.to).max();
    latest.is_none_or(|latest| latest >= started - COMMIT_AGE_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begins() -> Begins {
        let begin = |hour: u32| Begin {
            began: format!("2026-11-23T{hour:02}:00:00Z").parse().unwrap(),
            source: "db1".parse().unwrap(),
            flavour: "mariadb".into(),
            cluster: None,
            after: String::new(),
            why: "test".into(),
        };
        [("shop.1", 1), ("shop.2", 5), ("other.1", 9)]
            .map(|(name, hour)| (name.parse().unwrap(), begin(hour)))
            .into()
    }

    #[test]
    fn a_backup_belongs_to_the_timeline_that_was_open() {
        let check = |hour: u32, expected: u32| {
            let started = format!("2026-11-23T{hour:02}:30:00Z").parse().unwrap();
            assert_eq!(of_backup(&begins(), "shop", started), Some(expected), "{hour}");
        };
        check(0, 1);
        check(1, 1);
        check(4, 1);
        check(5, 2);
        check(23, 2);
        assert_eq!(of_backup(&begins(), "none", Utc::now()), None);
    }

    #[test]
    fn a_timeline_is_named_with_its_job_or_by_its_number() {
        assert_eq!("2".parse(), Ok(WantedTimeline::Number(2)));
        assert_eq!("shop.2".parse(), Ok(WantedTimeline::Name("shop.2".parse().unwrap())));
        assert!("shop".parse::<WantedTimeline>().is_err());
    }
}
