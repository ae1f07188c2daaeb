//! Short texts: names, sizes, durations, times.

use std::fmt::{Debug, Display};
use std::path::{Component, Path};
use std::str::FromStr;
use std::time::Duration;

use chassis::schedule::{Expression, Schedule};
use chassis::units::{ByteSize, Span, format_duration, format_rate};
use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;
use database::filename::{filename_to_tablename, tablename_to_filename};
use database::tablespace::{TableName, is_file_of, is_needed_for};
use database::tool::{advice, is_complete, skipped_tablespace};
use database::version::{Flavour, Version};
use depot::crypt::Recipients;
use depot::names::{Label, Sha256, SnapshotId, candidate, split_candidate};
use depot::store::check_name;

/// Clocks of hosts are in this range: 1970 to 2105, in seconds.
const CLOCK_SECONDS_MAX: i64 = u32::MAX as i64;

/// What has one spelling only.
fn is_written_as_read<T: FromStr + Display>(text: &str) -> Option<T> {
    let value: T = text.parse().ok()?;
    assert_eq!(value.to_string(), text);
    Some(value)
}

/// Names of objects and of what is in them.
pub fn object_name(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    is_written_as_read::<Label>(text);
    if let Some(id) = is_written_as_read::<SnapshotId>(text) {
        for object in [id.manifest_object(), id.needs_object()] {
            assert!(check_name(&object).is_ok(), "{object:?}");
        }
    }
    if let Some(sum) = is_written_as_read::<Sha256>(text) {
        assert!(check_name(&sum.pack_object()).is_ok());
    }
    let (name, number) = split_candidate(text);
    assert_eq!(candidate(name, number), text);
    if check_name(text).is_ok() {
        let is_plain = |part: Component<'_>| matches!(part, Component::Normal(_));
        assert!(Path::new(text).components().all(is_plain), "{text:?}");
    }
    let _ = Recipients::parse(&[text.to_owned()]);
}

/// Names of tables and of their files, versions, and what the tools say.
pub fn filename(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Some(file) = tablename_to_filename(text) {
        assert!(file.is_empty() || is_one_part(&file), "{text:?} becomes {file:?}");
    }
    let name = filename_to_tablename(text);
    if let Some(file) = tablename_to_filename(&name) {
        assert_eq!(filename_to_tablename(&file), name);
    }
    if let Ok(table) = text.parse::<TableName>() {
        let again = table.quoted().parse::<TableName>();
        assert_eq!(again.as_ref().ok(), Some(&table), "{}", table.quoted());
        assert!(!is_file_of(Path::new(text), &table) || is_needed_for(Path::new(text), &table));
    }
    if let Ok(version) = text.parse::<Version>() {
        assert_eq!(version.to_string().parse::<Version>().ok(), Some(version));
    }
    let _ = Flavour::of(text, text).to_string();
    let _ = (is_complete(text), advice(text));
    if let Some(path) = skipped_tablespace(text) {
        assert!(text.contains(path));
    }
}

fn is_one_part(name: &str) -> bool {
    let mut parts = Path::new(name).components();
    matches!((parts.next(), parts.next()), (Some(Component::Normal(part)), None) if part == name)
}

/// Sizes and durations.
pub fn units(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(size) = text.parse::<ByteSize>() {
        is_same_in_json(&size);
        let _ = (size.to_string(), format_rate(size.0, Duration::from_nanos(1)));
        let _ = format_duration(Duration::from_nanos(size.0));
    }
    if let Ok(span) = text.parse::<Span>() {
        is_same_in_json(&span);
        assert_eq!(span.to_string().parse::<Span>().ok(), Some(span));
        let _ = (format_duration(span.0), format_rate(u64::MAX, span.0));
    }
}

fn is_same_in_json<T>(value: &T)
where
    T: serde::Serialize + serde::de::DeserializeOwned + PartialEq + Debug,
{
    let json = serde_json::to_string(value).expect("plain data is JSON");
    let read: T = serde_json::from_str(&json).expect("it was written by us");
    assert_eq!(&read, value);
}

/// A crontab expression; a time zone and a time in seconds may follow on lines of their own.
pub fn schedule(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut lines = text.split('\n');
    let expression = lines.next().unwrap_or_default();
    let zone = lines.next().and_then(|name| name.parse().ok()).unwrap_or(Tz::UTC);
    let seconds: i64 = lines.next().and_then(|text| text.parse().ok()).unwrap_or_default();
    let seconds = seconds.rem_euclid(CLOCK_SECONDS_MAX);
    let Ok(schedule) = Schedule::parse(expression, zone) else { return };
    is_same_in_json(&expression.parse::<Expression>().expect("it is a schedule"));
    let start = DateTime::from_timestamp(seconds, 0).expect("it is in range");
    check_schedule(&schedule, start);
}

fn check_schedule(schedule: &Schedule, start: DateTime<Utc>) {
    let due: Vec<DateTime<Utc>> = schedule.upcoming(start).take(3).collect();
    assert!(due.first().is_none_or(|due| *due > start), "{schedule} after {start}: {due:?}");
    assert!(due.is_sorted_by(|one, next| one < next), "{schedule}: {due:?}");
    for (number, due_at) in due.iter().enumerate() {
        let before = *due_at - TimeDelta::seconds(1);
        let found = schedule.upcoming(before).next();
        assert_eq!(found, Some(*due_at), "{schedule} after {start}, number {number} of {due:?}");
    }
}
