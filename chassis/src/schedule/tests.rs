//! The schedule against a table of cases with the changes of clocks in Berlin and New York, and
//! against an oracle that looks at every minute.

use std::collections::BTreeSet;

use chrono::{Datelike, Timelike};
use chrono_tz::{America::New_York, Asia::Kolkata, Australia::Lord_Howe, Europe::Berlin, UTC};
use proptest::prelude::*;

use super::*;

fn at(text: &str) -> DateTime<Utc> {
    DateTime::parse_from_rfc3339(text).unwrap().with_timezone(&Utc)
}

/// Checks that exactly `expected` (RFC 3339 with any offset) follow `after`.
fn check(expression: &str, zone: Tz, after: &str, expected: &[&str]) {
    let schedule = Schedule::parse(expression, zone).unwrap();
    let expected: Vec<_> = expected.iter().map(|text| at(text)).collect();
    let next: Vec<_> = schedule.upcoming(at(after)).take(expected.len()).collect();
    assert_eq!(next, expected, "{schedule} after {after}");
}

#[test]
fn plain_times_follow_one_another() {
    check("30 2 * * *", UTC, "2026-11-23T02:30:00Z", &["2026-11-24T02:30:00Z"]);
    check("30 2 * * *", UTC, "2026-11-23T02:29:59.5Z", &["2026-11-23T02:30:00Z"]);
    check(
        "*/20 8-9 * * *",
        UTC,
        "2026-11-23T08:25:00Z",
        &["2026-11-23T08:40:00Z", "2026-11-23T09:00:00Z"],
    );
    check("0 2 * * 7", UTC, "2026-11-23T00:00:00Z", &["2026-11-29T02:00:00Z"]);
    check("0 12 * * *", Kolkata, "2026-11-23T00:00:00Z", &["2026-11-23T06:30:00Z"]);
    check(
        "@monthly",
        Berlin,
        "2026-11-23T00:00:00Z",
        &["2026-12-01T00:00:00+01:00", "2027-01-01T00:00:00+01:00"],
    );
}

#[test]
fn either_of_two_restricted_days_suffices() {
    // The example of crontab(5): the 1st and 15th of each month, plus every Friday.
    check(
        "30 4 1,15 * 5",
        UTC,
        "2026-11-23T00:00:00Z",
        &["2026-11-27T04:30:00Z", "2026-12-01T04:30:00Z", "2026-12-04T04:30:00Z"],
    );
    // A star makes it both: a Monday with an odd number.
    check(
        "0 0 */2 * 1",
        UTC,
        "2026-11-01T00:00:00Z",
        &["2026-11-09T00:00:00Z", "2026-11-23T00:00:00Z"],
    );
    // On a Friday the 13th, once.
    check(
        "0 0 13 * fri",
        UTC,
        "2026-11-12T00:00:00Z",
        &["2026-11-13T00:00:00Z", "2026-11-20T00:00:00Z"],
    );
}

#[test]
fn the_leap_day_is_waited_for() {
    check(
        "0 0 29 2 *",
        UTC,
        "2026-01-01T00:00:00Z",
        &["2028-02-29T00:00:00Z", "2032-02-29T00:00:00Z"],
    );
    let century = Schedule::parse("0 0 29 2 *", UTC).unwrap();
    assert_eq!(century.next_after(at("2096-03-01T00:00:00Z")), None);
}

#[test]
fn a_skipped_time_runs_once_right_after_the_gap() {
    check(
        "30 2 * * *",
        Berlin,
        "2026-03-28T12:00:00Z",
        &["2026-03-29T03:00:00+02:00", "2026-03-30T02:30:00+02:00"],
    );
    check(
        "*/10 2 * * *",
        New_York,
        "2026-03-08T05:00:00Z",
        &["2026-03-08T03:00:00-04:00", "2026-03-09T02:00:00-04:00"],
    );
    // The end of the gap is due by itself: not twice.
    check(
        "30 2,3 * * *",
        Berlin,
        "2026-03-29T00:00:00Z",
        &["2026-03-29T03:00:00+02:00", "2026-03-29T03:30:00+02:00", "2026-03-30T02:30:00+02:00"],
    );
    check(
        "0 2,3 * * *",
        Berlin,
        "2026-03-29T00:00:00Z",
        &["2026-03-29T03:00:00+02:00", "2026-03-30T02:00:00+02:00"],
    );
}

#[test]
fn a_repeated_time_runs_the_first_time() {
    check(
        "30 2 * * *",
        Berlin,
        "2026-10-24T12:00:00Z",
        &["2026-10-25T02:30:00+02:00", "2026-10-26T02:30:00+01:00"],
    );
    check(
        "*/30 1 * * *",
        New_York,
        "2026-11-01T04:00:00Z",
        &["2026-11-01T01:00:00-04:00", "2026-11-01T01:30:00-04:00", "2026-11-02T01:00:00-05:00"],
    );
    // Asked in the second pass, what ran in the first is not due again.
    check(
        "45 2 * * *",
        Berlin,
        "2026-10-25T02:10:00+01:00",
        &["2026-10-26T02:45:00+01:00", "2026-10-27T02:45:00+01:00"],
    );
}

#[test]
fn every_hour_means_every_hour_that_passes() {
    check(
        "30 * * * *",
        Berlin,
        "2026-03-29T01:00:00+01:00",
        &["2026-03-29T01:30:00+01:00", "2026-03-29T03:30:00+02:00", "2026-03-29T04:30:00+02:00"],
    );
    check(
        "30 0-23 * * *",
        Berlin,
        "2026-10-25T02:00:00+02:00",
        &["2026-10-25T02:30:00+02:00", "2026-10-25T02:30:00+01:00", "2026-10-25T03:30:00+01:00"],
    );
    check(
        "10,50 * * * *",
        New_York,
        "2026-11-01T01:20:00-04:00",
        &["2026-11-01T01:50:00-04:00", "2026-11-01T01:10:00-05:00", "2026-11-01T01:50:00-05:00"],
    );
}

#[test]
fn a_day_that_never_comes_is_refused() {
    let error = Schedule::parse("0 0 30 2 *", UTC).unwrap_err();
    assert_eq!(
        error.to_string(),
        "schedule `0 0 30 2 *`: no month has such a day: it would never run"
    );
    Schedule::parse("0 0 30 2 1", UTC).expect("Mondays in February do");
    let failure = Failure::from(Schedule::parse("0 0 * * * *", UTC).unwrap_err());
    assert_eq!(failure.exit, Exit::Usage);
    assert!(failure.hint.is_some());
}

#[test]
fn configuration_points_at_a_wrong_expression() {
    #[derive(Debug, serde::Deserialize)]
    struct Config {
        schedule: Expression,
    }
    let text = "schedule = \"30 2 * * mon-fri\"";
    let config: Config = crate::config::parse("x.toml", text).unwrap();
    let schedule = config.schedule.in_zone(Berlin);
    assert_eq!(schedule.next_after(at("2026-11-28T00:00:00Z")), Some(at("2026-11-30T01:30:00Z")));
    let failure = crate::config::parse::<Config>("x.toml", "schedule = '30 25 * * *'").unwrap_err();
    let (first_line, _) = failure.message.split_once('\n').unwrap();
    assert_eq!(first_line, "x.toml:1:12: schedule `30 25 * * *`: hour: `25` is not one");
    assert_eq!(failure.hint.as_deref(), Some("hour is a number from 0 to 23"));
}

#[test]
fn a_schedule_shows_its_zone() {
    let schedule = Schedule::parse(" @daily ", Berlin).unwrap();
    assert_eq!(schedule.to_string(), "@daily (Europe/Berlin)");
}

/// The fields as sets, made at random; the oracle never sees the text.
#[derive(Debug, Clone)]
struct Fields {
    minutes: BTreeSet<u32>,
    hours: Option<BTreeSet<u32>>,
    days: Option<BTreeSet<u32>>,
    months: Option<BTreeSet<u32>>,
    weekdays: Option<BTreeSet<u32>>,
}

fn some_of(range: std::ops::RangeInclusive<u32>) -> impl Strategy<Value = Option<BTreeSet<u32>>> {
    proptest::option::of(proptest::collection::btree_set(range, 1..5))
}

fn fields() -> impl Strategy<Value = Fields> {
    let minutes = proptest::collection::btree_set(0..=59u32, 1..5);
    (minutes, some_of(0..=4), some_of(1..=31), some_of(1..=12), some_of(0..=6)).prop_map(
        |(minutes, hours, days, months, weekdays)| Fields {
            minutes,
            hours,
            days,
            months,
            weekdays,
        },
    )
}

impl Fields {
    fn expression(&self) -> String {
        let list =
            |set: &BTreeSet<u32>| set.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
        let field = |set: &Option<BTreeSet<u32>>| set.as_ref().map_or("*".to_owned(), list);
        let Self { minutes, hours, days, months, weekdays } = self;
        let (hours, days, months) = (field(hours), field(days), field(months));
        format!("{} {hours} {days} {months} {}", list(minutes), field(weekdays))
    }

    fn matches(&self, local: NaiveDateTime) -> bool {
        let has = |set: &Option<BTreeSet<u32>>, n| set.as_ref().is_none_or(|set| set.contains(&n));
        let day = has(&self.days, local.day());
        let weekday = has(&self.weekdays, local.weekday().num_days_from_sunday());
        let both_restricted = self.days.is_some() && self.weekdays.is_some();
        self.minutes.contains(&local.minute())
            && has(&self.hours, local.hour())
            && has(&self.months, local.month())
            && if both_restricted { day || weekday } else { day && weekday }
    }

    /// Whether the minute that begins at `instant` is due.
    fn is_due(&self, zone: Tz, instant: DateTime<Utc>) -> bool {
        let local = |instant: DateTime<Utc>| instant.with_timezone(&zone).naive_local();
        let here = local(instant);
        if self.hours.is_none() {
            return self.matches(here);
        }
        let passed_before =
            || (1..=180).any(|back| local(instant - Duration::minutes(back)) == here);
        let previous = local(instant - Duration::minutes(1));
        let skipped = (here - previous).num_minutes() - 1;
        let in_gap = (1..=skipped).any(|n| self.matches(previous + Duration::minutes(n)));
        in_gap || (self.matches(here) && !passed_before())
    }
}

/// Zones with a change of clocks each, near which half of the cases start. Lord Howe moves by half
/// an hour.
const PLACES: [(Tz, &str); 7] = [
    (Berlin, "2026-03-29T01:00:00Z"),
    (Berlin, "2026-10-25T01:00:00Z"),
    (New_York, "2026-03-08T07:00:00Z"),
    (New_York, "2026-11-01T06:00:00Z"),
    (Lord_Howe, "2026-04-04T15:00:00Z"),
    (Lord_Howe, "2026-10-03T15:30:00Z"),
    (Kolkata, "2028-02-28T18:30:00Z"),
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn the_next_times_agree_with_a_look_at_every_minute(
        fields in fields(),
        place in 0..PLACES.len(),
        seconds_before in 0..2 * 86_400i64,
        seconds_after in 0..2 * 86_400i64,
    ) {
        let (zone, change) = PLACES[place];
        let Ok(schedule) = Schedule::parse(&fields.expression(), zone) else {
            return Ok(()); // The 31st of February.
        };
        let start = at(change) - Duration::seconds(seconds_before);
        let end = at(change) + Duration::seconds(seconds_after);
        let first_minute = start - Duration::seconds(start.timestamp().rem_euclid(60));
        let minutes = (end - first_minute).num_minutes();
        let due: Vec<_> = (1..=minutes)
            .map(|n| first_minute + Duration::minutes(n))
            .filter(|instant| fields.is_due(zone, *instant))
            .collect();

        let upcoming = schedule.upcoming(start);
        let found: Vec<_> = upcoming.take_while(|instant| *instant <= end).collect();
        prop_assert_eq!(&found, &due, "{}", schedule);
    }
}
