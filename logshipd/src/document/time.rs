//! Times as text, and the offset of a zone, with what was true of the last one kept.
//!
//! Lines of a log are of the same day and the same quarter of an hour most of the time; the calendar and
//! the table of the zone are asked once for each.

use chrono::{LocalResult, NaiveDateTime, Offset as _, TimeZone as _};
use chrono_tz::Tz;

use super::UnixNanos;

const SECOND: i64 = 1_000_000_000;
const DAY_SECONDS: i64 = 86_400;
/// Zones change their offset at whole quarters of an hour.
const QUARTER_SECONDS: i64 = 900;

/// What was true of the last time.
#[derive(Clone, Debug)]
pub struct Clock {
    day: i64,
    date: [u8; 11],
    zone: Option<(Tz, i64)>,
    offset_seconds: i64,
}

impl Default for Clock {
    fn default() -> Self {
        Self { day: 0, date: *b"1970-01-01T", zone: None, offset_seconds: 0 }
    }
}

impl Clock {
    /// Appends RFC 3339 in UTC.
    pub(super) fn format(&mut self, at: UnixNanos, text: &mut Vec<u8>) {
        let seconds = at.div_euclid(SECOND);
        let nanos = at.rem_euclid(SECOND);
        let day = seconds.div_euclid(DAY_SECONDS);
        if day != self.day {
            self.day = day;
            self.date = date(day);
        }
        let second = seconds.rem_euclid(DAY_SECONDS);
        let [h, m, s] = [second / 3600, second / 60 % 60, second % 60].map(two);
        let clock = [h[0], h[1], b':', m[0], m[1], b':', s[0], s[1]];
        text.extend_from_slice(&self.date);
        text.extend_from_slice(&clock);
        fraction(nanos, text);
        text.push(b'Z');
    }

    /// The time in UTC of a time that a clock on the wall of a zone shows. A time that was twice, when
    /// the clock went back, is the one next to when it was read; one that never was is an hour later.
    pub(crate) fn unix_of_wall(&mut self, seconds: i64, zone: Tz, read_at: UnixNanos) -> i64 {
        let quarter = seconds.div_euclid(QUARTER_SECONDS);
        if self.zone != Some((zone, quarter)) {
            let Some(offset) = offset(seconds, zone, read_at) else { return seconds };
            self.offset_seconds = offset.0;
            self.zone = offset.1.then_some((zone, quarter));
        }
        seconds - self.offset_seconds
    }
}

/// The offset, and whether it is sure.
fn offset(seconds: i64, zone: Tz, read_at: UnixNanos) -> Option<(i64, bool)> {
    let wall: NaiveDateTime = chrono::DateTime::from_timestamp(seconds, 0)?.naive_utc();
    let of = |time: &chrono::DateTime<Tz>| i64::from(time.offset().fix().local_minus_utc());
    match zone.from_local_datetime(&wall) {
        LocalResult::Single(time) => Some((of(&time), true)),
        LocalResult::Ambiguous(first, second) => {
            let away = |offset: i64| (seconds - offset).abs_diff(read_at.div_euclid(SECOND));
            let (first, second) = (of(&first), of(&second));
            Some((if away(second) < away(first) { second } else { first }, false))
        }
        LocalResult::None => {
            let before =
                zone.from_local_datetime(&(wall - chrono::Duration::hours(1))).earliest()?;
            Some((of(&before), false))
        }
    }
}

fn two(number: i64) -> [u8; 2] {
    [b'0' + (number / 10) as u8, b'0' + (number % 10) as u8]
}

/// The date of a day since 1970 (Howard Hinnant's `civil_from_days`). Nanoseconds in 64 bits end in 2262.
fn date(day: i64) -> [u8; 11] {
    let shifted = day + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let [y, z, m, d] = [year / 100, year % 100, month, day_of_month].map(two);
    [y[0], y[1], z[0], z[1], b'-', m[0], m[1], b'-', d[0], d[1], b'T']
}

fn fraction(nanos: i64, text: &mut Vec<u8>) {
    if nanos == 0 {
        return;
    }
    let mut digits = [b'0'; 10];
    digits[0] = b'.';
    let mut rest = nanos;
    for digit in digits[1..].iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    let length = match nanos {
        _ if nanos % 1_000_000 == 0 => 4,
        _ if nanos % 1000 == 0 => 7,
        _ => 10,
    };
    text.extend_from_slice(&digits[..length]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for day in (-100_000..100_000).step_by(97) {
            let expected =
                chrono::DateTime::from_timestamp(day * DAY_SECONDS, 0).unwrap().format("%Y-%m-%dT");
            assert_eq!(date(day), expected.to_string().as_bytes());
        }
    }

    #[test]
    fn a_time_that_was_twice_is_the_one_next_to_when_it_was_read() {
        let zone = chrono_tz::Europe::Berlin;
        // 2026-10-25 02:30 was at 00:30 and at 01:30 UTC.
        let wall = 1_792_895_400;
        let mut clock = Clock::default();
        assert_eq!(clock.unix_of_wall(wall, zone, (wall - 7200) * SECOND), wall - 7200);
        assert_eq!(clock.unix_of_wall(wall, zone, (wall - 3600) * SECOND), wall - 3600);
        // 2026-03-29 02:30 never was.
        let wall = 1_774_751_400;
        assert_eq!(clock.unix_of_wall(wall, zone, 0), wall - 3600);
    }
}
