//! Times as logs write them, read by hand. Each function gives the time and what follows it.
//!
//! A day that no month has is refused; a leap second is the second before it.

use crate::document::{Document, UnixNanos};

use super::Context;

const SECOND: i64 = 1_000_000_000;

/// A time on the clock of a zone that is not named: seconds as if it were UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wall {
    pub seconds: i64,
    pub nanos: i64,
}

impl Wall {
    /// In the zone of the context.
    pub fn local(self, context: &Context, document: &mut Document) -> UnixNanos {
        let seconds = document.clock.unix_of_wall(self.seconds, context.zone, context.read_at);
        seconds.saturating_mul(SECOND).saturating_add(self.nanos)
    }

    /// At an offset east of UTC.
    pub fn offset(self, offset_seconds: i64) -> UnixNanos {
        (self.seconds - offset_seconds).saturating_mul(SECOND).saturating_add(self.nanos)
    }
}

/// `23/Nov/2026:13:01:56 +0000`: nginx `$time_local`, HAProxy `%T`.
#[inline]
pub(super) fn clf(text: &[u8]) -> Option<(UnixNanos, &[u8])> {
    let (wall, rest) = slashed_month(text)?;
    let (offset, rest) = zone(rest.strip_prefix(b" ")?)?;
    Some((wall.offset(offset), rest))
}

/// `23/Nov/2026:13:05:46[.007]`: HAProxy `%t` and `%tr`, local time.
#[inline]
pub(super) fn slashed_month(text: &[u8]) -> Option<(Wall, &[u8])> {
    let (head, rest) = text.split_at_checked(20)?;
    if head[2] != b'/' || head[6] != b'/' || head[11] != b':' {
        return None;
    }
    let month = month(&head[3..6])?;
    let day = days(four(&head[7..11])?, month, two(&head[..2])?)?;
    with_fraction(day, clock(&head[12..20])?, rest)
}

/// `2026/11/23 13:11:53`: nginx's error log, local time.
pub(super) fn slashed(text: &[u8]) -> Option<(Wall, &[u8])> {
    separated(text, b'/', b' ')
}

/// `2026-11-23 12:57:02[.123456]`, the hour also without its zero: MariaDB, ProxySQL, Galera; local time.
pub(super) fn dashed(text: &[u8]) -> Option<(Wall, &[u8])> {
    separated(text, b'-', b' ')
}

/// RFC 3339: `2026-11-23T12:35:19[.647804]` with `Z`, `+00:00` or `+0000`.
#[inline]
pub(super) fn rfc3339(text: &[u8]) -> Option<(UnixNanos, &[u8])> {
    let (wall, rest) = separated(text, b'-', b'T')?;
    let (offset, rest) = zone(rest)?;
    Some((wall.offset(offset), rest))
}

#[inline]
fn separated(text: &[u8], between: u8, before_clock: u8) -> Option<(Wall, &[u8])> {
    let (head, rest) = text.split_at_checked(11)?;
    if head[4] != between || head[7] != between || head[10] != before_clock {
        return None;
    }
    let day = days(four(&head[..4])?, two(&head[5..7])?, two(&head[8..10])?)?;
    let (second, rest) = padded_clock(rest)?;
    with_fraction(day, second, rest)
}

/// `23-Nov-2026 13:19:32[.123456]`: PHP; the zone, if there is one, follows.
pub(super) fn php(text: &[u8]) -> Option<(Wall, &[u8])> {
    let (head, rest) = text.split_at_checked(20)?;
    if head[2] != b'-' || head[6] != b'-' || head[11] != b' ' {
        return None;
    }
    let day = days(four(&head[7..11])?, month(&head[3..6])?, two(&head[..2])?)?;
    with_fraction(day, clock(&head[12..20])?, rest)
}

/// `261123 12:46:34`, the hour padded with a blank: the slow log of MariaDB, old error logs; local time.
pub(super) fn six_digits(text: &[u8]) -> Option<(Wall, &[u8])> {
    let (head, rest) = text.split_at_checked(7)?;
    if head[6] != b' ' {
        return None;
    }
    let day = days(2000 + two(&head[..2])?, two(&head[2..4])?, two(&head[4..6])?)?;
    let (second, rest) = padded_clock(rest)?;
    with_fraction(day, second, rest)
}

/// `Mon Nov 23 13:10:01 2026`: `ctime`, as lsyncd has it; local time.
pub(super) fn ctime(text: &[u8]) -> Option<(Wall, &[u8])> {
    let (head, rest) = text.split_at_checked(24)?;
    let is_weekday = head[..3].iter().all(u8::is_ascii_alphabetic);
    if !is_weekday || head[3] != b' ' || head[7] != b' ' || head[10] != b' ' || head[19] != b' ' {
        return None;
    }
    let day = days(four(&head[20..24])?, month(&head[4..7])?, padded(&head[8..10])?)?;
    Some((Wall { seconds: day * 86_400 + clock(&head[11..19])?, nanos: 0 }, rest))
}

/// `Nov  3 13:10:01`: RFC 3164; local time, and the year that puts it next to when it was read.
pub(super) fn rfc3164<'a>(text: &'a [u8], context: &Context) -> Option<(Wall, &'a [u8])> {
    let (head, rest) = text.split_at_checked(15)?;
    if head[3] != b' ' || head[6] != b' ' {
        return None;
    }
    let (month, day_of_month) = (month(&head[..3])?, padded(&head[4..6])?);
    let second = clock(&head[7..15])?;
    let read_at = context.read_at.div_euclid(SECOND);
    let year_now = 1970 + read_at.div_euclid(31_556_952);
    let candidates = (year_now - 1..=year_now + 1)
        .filter_map(|year| Some(days(year, month, day_of_month)? * 86_400 + second));
    let seconds = candidates.min_by_key(|seconds| {
        // What is more than two days ahead is of a year before rather than of a clock that is wrong.
        let is_ahead = seconds - read_at > 2 * 86_400;
        (is_ahead, seconds.abs_diff(read_at))
    })?;
    Some((Wall { seconds, nanos: 0 }, rest))
}

/// Seconds since 1970 with a fraction: nginx `$msec`.
pub(super) fn unix(text: &[u8]) -> Option<UnixNanos> {
    super::scan::nanos(text)
}

fn padded_clock(text: &[u8]) -> Option<(i64, &[u8])> {
    if text.get(1) == Some(&b':') {
        let (head, rest) = text.split_at_checked(7)?;
        let mut filled = [b'0'; 8];
        filled[1..].copy_from_slice(head);
        return Some((clock(&filled)?, rest));
    }
    let (head, rest) = text.split_at_checked(8)?;
    if head[0] == b' ' {
        let mut filled: [u8; 8] = head.try_into().ok()?;
        filled[0] = b'0';
        return Some((clock(&filled)?, rest));
    }
    Some((clock(head)?, rest))
}

/// `.digits`, if they follow.
#[inline]
fn with_fraction(day: i64, second: i64, text: &[u8]) -> Option<(Wall, &[u8])> {
    let seconds = day * 86_400 + second;
    let Some(digits) = text.strip_prefix(b".") else {
        return Some((Wall { seconds, nanos: 0 }, text));
    };
    let length = digits.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if length == 0 {
        return None;
    }
    let mut nanos = 0;
    let places = digits[..length].iter().map(|digit| digit - b'0').chain(std::iter::repeat(0));
    for digit in places.take(9) {
        nanos = nanos * 10 + i64::from(digit);
    }
    Some((Wall { seconds, nanos }, &digits[length..]))
}

/// `Z`, `+0000`, `+00:00`.
#[inline]
fn zone(text: &[u8]) -> Option<(i64, &[u8])> {
    let (&sign, rest) = text.split_first()?;
    let sign = match sign {
        b'Z' => return Some((0, rest)),
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let (hours, rest) = rest.split_at_checked(2)?;
    let (minutes, rest) = rest.strip_prefix(b":").unwrap_or(rest).split_at_checked(2)?;
    let (hours, minutes) = (two(hours)?, two(minutes)?);
    (hours < 24 && minutes < 60).then_some((sign * (hours * 3600 + minutes * 60), rest))
}

#[inline]
fn two(text: &[u8]) -> Option<i64> {
    let (high, low) = (text[0].wrapping_sub(b'0'), text[1].wrapping_sub(b'0'));
    (high < 10 && low < 10).then(|| i64::from(high) * 10 + i64::from(low))
}

fn padded(text: &[u8]) -> Option<i64> {
    if text[0] == b' ' { two(&[b'0', text[1]]) } else { two(text) }
}

#[inline]
fn four(text: &[u8]) -> Option<i64> {
    Some(two(&text[..2])? * 100 + two(&text[2..])?)
}

/// `HH:MM:SS` as the second of the day.
#[inline]
fn clock(text: &[u8]) -> Option<i64> {
    if text[2] != b':' || text[5] != b':' {
        return None;
    }
    let (hour, minute, second) = (two(&text[..2])?, two(&text[3..5])?, two(&text[6..8])?);
    (hour < 24 && minute < 60 && second <= 60).then_some(hour * 3600 + minute * 60 + second.min(59))
}

#[inline]
fn month(text: &[u8]) -> Option<i64> {
    Some(match text {
        b"Jan" => 1,
        b"Feb" => 2,
        b"Mar" => 3,
        b"Apr" => 4,
        b"May" => 5,
        b"Jun" => 6,
        b"Jul" => 7,
        b"Aug" => 8,
        b"Sep" => 9,
        b"Oct" => 10,
        b"Nov" => 11,
        b"Dec" => 12,
        _ => return None,
    })
}

/// Days since 1970 (Howard Hinnant's `days_from_civil`). Years that nanoseconds in 64 bits can hold only.
#[inline]
fn days(year: i64, month: i64, day: i64) -> Option<i64> {
    const LENGTHS: [i64; 12] = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    if !(1700..2262).contains(&year) || !(1..=12).contains(&month) || day < 1 {
        return None;
    }
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let leap_day = i64::from(is_leap && month == 2);
    if day > LENGTHS[month as usize - 1] + leap_day {
        return None;
    }
    let shifted_year = if month <= 2 { year - 1 } else { year };
    let era = shifted_year.div_euclid(400);
    let year_of_era = shifted_year.rem_euclid(400);
    let shifted_month = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = (153 * shifted_month + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    Some(era * 146_097 + day_of_era - 719_468)
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: i64 = 1_795_438_806;

    fn context(read_at_seconds: i64) -> Context {
        Context {
            read_at: read_at_seconds * SECOND,
            zone: chrono_tz::UTC,
            privacy: crate::parse::Privacy::default(),
        }
    }

    #[test]
    fn all_notations_of_a_time_are_the_same_time() {
        let utc = |found: Option<(UnixNanos, &[u8])>| {
            assert_eq!(found, Some((AT * SECOND, &b"!"[..])));
        };
        utc(clf(b"23/Nov/2026:13:00:06 +0000!"));
        utc(clf(b"23/Nov/2026:18:30:06 +0530!"));
        utc(rfc3339(b"2026-11-23T13:00:06Z!"));
        utc(rfc3339(b"2026-11-23T08:00:06-05:00!"));
        utc(rfc3339(b"2026-11-23T13:00:06+0000!"));
        let wall = |found: Option<(Wall, &[u8])>, nanos| {
            assert_eq!(found, Some((Wall { seconds: AT, nanos }, &b"!"[..])));
        };
        wall(slashed_month(b"23/Nov/2026:13:00:06.007!"), 7_000_000);
        wall(slashed(b"2026/11/23 13:00:06!"), 0);
        wall(dashed(b"2026-11-23 13:00:06.123456!"), 123_456_000);
        wall(php(b"23-Nov-2026 13:00:06!"), 0);
        wall(six_digits(b"261123 13:00:06!"), 0);
        wall(ctime(b"Mon Nov 23 13:00:06 2026!"), 0);
        wall(rfc3164(b"Nov 23 13:00:06!", &context(AT + 5)), 0);
    }

    #[test]
    fn an_hour_may_be_padded_or_short() {
        let expected = dashed(b"2026-11-03 09:00:06");
        assert!(expected.is_some());
        assert_eq!(dashed(b"2026-11-03  9:00:06"), expected);
        assert_eq!(dashed(b"2026-11-03 9:00:06"), expected);
        assert_eq!(six_digits(b"261103  9:00:06"), expected);
        assert_eq!(rfc3164(b"Nov  3 09:00:06", &context(AT)), expected);
    }

    #[test]
    fn the_year_that_is_not_there_is_guessed() {
        let guess =
            |text: &str, read_at| rfc3164(text.as_bytes(), &context(read_at)).unwrap().0.seconds;
        let new_year = 1_798_761_600; // 2027-01-01
        assert_eq!(guess("Dec 31 23:59:59", new_year + 10), new_year - 1);
        assert_eq!(guess("Jan  1 00:00:01", new_year - 10), new_year + 1);
        assert_eq!(guess("Jan  2 00:00:00", new_year + 2 * 86_400), new_year + 86_400);
        // Eleven months back rather than one ahead.
        assert!(guess("Dec 20 00:00:00", AT) < AT);
        // A leap day is of a leap year.
        assert_eq!(guess("Feb 29 00:00:00", 1_709_200_000), 1_709_164_800);
    }

    #[test]
    fn what_no_calendar_has_is_refused() {
        for wrong in
            ["2026-02-29 00:00:00", "2026-13-01 00:00:00", "2026-11-23 24:00:00", "2026-11-23 1"]
        {
            assert_eq!(dashed(wrong.as_bytes()), None, "{wrong}");
        }
        assert_eq!(clf(b"23/Nov/2026:13:00:06"), None);
        assert_eq!(clf(b"23/Nov/2026:13:00:06 +99"), None);
    }
}
