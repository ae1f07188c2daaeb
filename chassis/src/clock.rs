//! Points in time as people write them on a command line.
//!
//! A local time that a change of clocks makes ambiguous or skips is refused with what to write
//! instead: a restore must not guess by an hour.

use std::fs;

use chrono::{DateTime, Days, LocalResult, NaiveDate, NaiveDateTime, NaiveTime, TimeZone, Utc};
use chrono_tz::Tz;

use crate::failure::{Exit, Failure};

const FORMS: &str = "write \"2026-11-23 02:10:00 Europe/Berlin\", \"2026-11-23T02:10:00Z\", \
                     \"yesterday 03:00\" or \"10 minutes ago\"";

/// Reads a point in time:
///
/// - RFC 3339: `2026-11-23T02:10:00+01:00`, also with a blank instead of the `T`;
/// - local: `2026-11-23 02:10[:00[.123]]`, `2026-11-23` (midnight), in `zone_default` or in the
///   zone written after it;
/// - by day: `today 03:00`, `yesterday 03:00 Europe/Berlin` (midnight if no time is given);
/// - by distance: `now`, `10 minutes ago`, `1h30m ago`.
pub fn parse_time(
    text: &str,
    now: DateTime<Utc>,
    zone_default: Tz,
) -> Result<DateTime<Utc>, Failure> {
    let text = text.trim();
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Ok(time.with_timezone(&Utc));
    }
    if text == "now" {
        return Ok(now);
    }
    if let Some(distance) = text.strip_suffix("ago") {
        return parse_ago(text, distance, now);
    }
    let (local, zone) = split_zone(text, zone_default)?;
    let today = now.with_timezone(&zone).date_naive();
    let local = parse_local(local, today).ok_or_else(|| refuse(text))?;
    resolve(local, zone)
}

fn refuse(text: &str) -> Failure {
    Failure::new(Exit::Usage, format!("`{text}` is not a point in time")).hint(FORMS)
}

fn parse_ago(text: &str, distance: &str, now: DateTime<Utc>) -> Result<DateTime<Utc>, Failure> {
    let distance =
        humantime::parse_duration(distance.trim()).map_err(|error| refuse(text).because(error))?;
    chrono::TimeDelta::from_std(distance)
        .ok()
        .and_then(|distance| now.checked_sub_signed(distance))
        .ok_or_else(|| refuse(text))
}

/// Takes the name of a zone from the end, if there is one: it is the only word that begins with a
/// capital letter.
fn split_zone(text: &str, zone_default: Tz) -> Result<(&str, Tz), Failure> {
    let Some((local, zone)) = text.rsplit_once(' ') else {
        return Ok((text, zone_default));
    };
    if !zone.starts_with(|c: char| c.is_ascii_uppercase()) {
        return Ok((text, zone_default));
    }
    match zone {
        "Z" => Ok((local.trim_end(), Tz::UTC)),
        _ => zone.parse().map(|zone| (local.trim_end(), zone)).map_err(|_| {
            let message = format!("`{zone}` is not a time zone");
            Failure::new(Exit::Usage, message).hint("write a name such as `Europe/Berlin` or `UTC`")
        }),
    }
}

fn parse_local(text: &str, today: NaiveDate) -> Option<NaiveDateTime> {
    let (day, time) = text.split_once([' ', 'T']).unwrap_or((text, "00:00"));
    let day = match day {
        "today" => today,
        "yesterday" => today.checked_sub_days(Days::new(1))?,
        _ => NaiveDate::parse_from_str(day, "%Y-%m-%d").ok()?,
    };
    let time = time.trim();
    let time = NaiveTime::parse_from_str(time, "%H:%M:%S%.f")
        .or_else(|_| NaiveTime::parse_from_str(time, "%H:%M"))
        .ok()?;
    Some(day.and_time(time))
}

fn resolve(local: NaiveDateTime, zone: Tz) -> Result<DateTime<Utc>, Failure> {
    match zone.from_local_datetime(&local) {
        LocalResult::Single(time) => Ok(time.with_timezone(&Utc)),
        LocalResult::Ambiguous(first, second) => {
            let message = format!("{local} occurs twice in {zone}: the clocks are set back");
            let hint = format!("write `{}` or `{}`", first.to_rfc3339(), second.to_rfc3339());
            Err(Failure::new(Exit::Usage, message).hint(hint))
        }
        LocalResult::None => {
            let message = format!("{local} does not exist in {zone}: the clocks are set forward");
            Err(Failure::new(Exit::Usage, message).hint("write a time before or after the gap"))
        }
    }
}

/// The time zone of this host: where `/etc/localtime` points to, UTC if that cannot be told.
pub fn local_zone() -> Tz {
    fs::read_link("/etc/localtime")
        .ok()
        .and_then(|target| {
            let target = target.to_str()?.to_owned();
            target.split_once("zoneinfo/").map(|(_, name)| name.to_owned())
        })
        .or_else(|| fs::read_to_string("/etc/timezone").ok())
        .and_then(|name| name.trim().parse().ok())
        .unwrap_or(Tz::UTC)
}

#[cfg(test)]
mod tests {
    use chrono::{Duration, SecondsFormat};
    use chrono_tz::Europe::Berlin;
    use proptest::prelude::*;

    use super::*;

    fn now() -> DateTime<Utc> {
        Utc.with_ymd_and_hms(2026, 11, 23, 23, 30, 0).unwrap()
    }

    #[test]
    fn points_in_time_are_read_as_people_write_them() {
        fn check(text: &str, expected: &str) {
            let time = parse_time(text, now(), Berlin).unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!(time.to_rfc3339_opts(SecondsFormat::AutoSi, true), expected, "{text}");
        }
        check("2026-11-23T02:10:00Z", "2026-11-23T02:10:00Z");
        check("2026-11-23T02:10:00.250+01:00", "2026-11-23T01:10:00.250Z");
        check("2026-11-23 02:10:00+01:00", "2026-11-23T01:10:00Z");
        check("2026-11-23 02:10:00 America/New_York", "2026-11-23T07:10:00Z");
        check("2026-11-23 02:10 UTC", "2026-11-23T02:10:00Z");
        check("2026-11-23 02:10 Z", "2026-11-23T02:10:00Z");
        check("2026-11-23 02:10", "2026-11-23T01:10:00Z");
        check("2026-07-23 02:10:05.5", "2026-07-23T00:10:05.500Z");
        check("2026-11-23T02:10", "2026-11-23T01:10:00Z");
        check("2026-11-23", "2026-11-22T23:00:00Z");
        check("now", "2026-11-23T23:30:00Z");
        check(" 10 minutes ago ", "2026-11-23T23:20:00Z");
        check("1h30m ago", "2026-11-23T22:00:00Z");
        check("2 days ago", "2026-11-21T23:30:00Z");
        // In Berlin it is the 24th already.
        check("yesterday 03:00", "2026-11-23T02:00:00Z");
        check("yesterday 03:00 UTC", "2026-11-22T03:00:00Z");
        check("today", "2026-11-23T23:00:00Z");
    }

    #[test]
    fn what_is_not_a_time_is_refused_with_a_hint() {
        fn check(text: &str, message: &str, hint: &str) {
            let failure = parse_time(text, now(), Berlin).unwrap_err();
            assert!(failure.message.contains(message), "{text}: {}", failure.message);
            let advised = failure.hint.unwrap_or_default();
            assert!(advised.contains(hint), "{text}: {advised}");
        }
        check("", "`` is not a point in time", "yesterday 03:00");
        check("tomorrow", "not a point in time", "yesterday 03:00");
        check("2026-02-30 00:00", "not a point in time", "write");
        check("2026-11-23 25:00", "not a point in time", "write");
        check("ago", "not a point in time", "write");
        check("9999999999999 years ago", "not a point in time", "write");
        check("2026-11-23 02:10 Europe/Berln", "`Europe/Berln` is not a time zone", "UTC");
        check("2026-03-29 02:30", "does not exist in Europe/Berlin", "before or after");
        check("2026-10-25 02:30", "occurs twice in Europe/Berlin", "2026-10-25T02:30:00+02:00");
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused_without_panic(text: String) {
            drop(parse_time(&text, now(), Berlin));
            drop(parse_time(&format!("{text} ago"), now(), Berlin));
        }

        #[test]
        fn a_time_survives_being_written(secs in 0..4_000_000_000i64) {
            let time = DateTime::UNIX_EPOCH + Duration::seconds(secs);
            prop_assert_eq!(parse_time(&time.to_rfc3339(), now(), Berlin).unwrap(), time);
            let text = time.format("%Y-%m-%d %H:%M:%S UTC").to_string();
            prop_assert_eq!(parse_time(&text, now(), Berlin).unwrap(), time);
        }
    }
}
