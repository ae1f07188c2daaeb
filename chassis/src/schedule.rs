//! When a job is due: five crontab fields and a time zone.
//!
//! The fields are those of crontab(5), with names, lists, ranges, steps and both numbers for
//! Sunday; when day of month and day of week are both restricted, either one suffices. `@daily` and
//! its kin are there, `@reboot` is not. The search for the next match is done by the `cron` crate
//! on local time without any zone; this module maps the matches to instants:
//!
//! - A local time that a change of clocks skips is due at the first instant after the gap, once.
//! - A local time that occurs twice is due the first time only.
//! - A schedule for every hour of the day (`*` or `0-23`) is due in every hour that really passes:
//!   nothing is moved out of a gap, and both passes of a repeated hour count.
//!
//! Seconds do not exist here. There is no next time after the year 2100.

mod crontab;
#[cfg(test)]
mod tests;

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Duration, NaiveDateTime, TimeDelta, TimeZone, Utc};
use chrono_tz::Tz;
use serde::{Deserialize, Serialize};

use crate::config::with_hint;
use crate::failure::{Exit, Failure};

/// No change of clocks moves them further than this. (Zones that skipped a whole day did it once,
/// for good.)
const SHIFT_MAX: TimeDelta = TimeDelta::hours(3);

/// The longest gap in local time: the day that Samoa left out in 2011.
const GAP_MINUTES_MAX: i64 = 24 * 60;

/// A crontab expression in a time zone.
#[derive(Clone, Debug)]
pub struct Schedule {
    expression: String,
    zone: Tz,
    /// Every hour of the day is matched.
    hourly: bool,
    /// Two when either day field suffices: a time is due when one of them matches.
    matches: Vec<cron::Schedule>,
}

/// Why a text is not a schedule. Names the field in the message; the hint says what to write.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("schedule `{expression}`: {problem}")]
pub struct ScheduleError {
    /// The text.
    pub expression: String,
    /// What is wrong with it, with the name of the field.
    pub problem: String,
    /// What to write instead.
    pub hint: String,
}

impl From<ScheduleError> for Failure {
    fn from(error: ScheduleError) -> Self {
        Failure::new(Exit::Usage, error.to_string()).hint(error.hint)
    }
}

/// A checked expression that awaits its zone: what configuration files hold. A wrong one is refused
/// where it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Expression(String);

impl FromStr for Expression {
    type Err = ScheduleError;

    fn from_str(text: &str) -> Result<Self, ScheduleError> {
        Schedule::parse(text, Tz::UTC).map(|schedule| Self(schedule.expression))
    }
}

impl TryFrom<String> for Expression {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse().map_err(|error: ScheduleError| with_hint(&error, &error.hint))
    }
}

impl From<Expression> for String {
    fn from(expression: Expression) -> Self {
        expression.0
    }
}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Expression {
    /// The schedule in a time zone.
    pub fn in_zone(&self, zone: Tz) -> Schedule {
        Schedule::parse(&self.0, zone).expect("an expression is checked when it is read")
    }
}

impl Schedule {
    /// Reads `minute hour day-of-month month day-of-week` or one of the `@` words.
    pub fn parse(expression: &str, zone: Tz) -> Result<Self, ScheduleError> {
        let expression = expression.trim();
        let refused = |(problem, hint): (String, String)| ScheduleError {
            expression: expression.to_owned(),
            problem,
            hint,
        };
        let crontab = crontab::parse(expression).map_err(refused)?;
        let matches: Vec<_> = crontab.to_cron();
        // Eight years hold a leap day wherever they start.
        let start = Utc.with_ymd_and_hms(2024, 1, 1, 0, 0, 0).single().expect("a date in UTC");
        if matches.iter().all(|schedule| schedule.after(&start).next().is_none()) {
            let problem = "no month has such a day: it would never run".to_owned();
            return Err(refused((problem, "use `28` or a smaller day for any month".to_owned())));
        }
        Ok(Self { expression: expression.to_owned(), zone, hourly: crontab.is_hourly(), matches })
    }

    /// The first time after `after` (never equal to it) that is due.
    pub fn next_after(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let from = self.local(after) - SHIFT_MAX;
        let mut next: Option<DateTime<Utc>> = None;
        for local in self.matches_after(from) {
            let Some((first, last)) = self.instants(local) else { continue };
            // The first instants of later local times are later: none of them can be nearer.
            if next.is_some_and(|next| next <= first) {
                break;
            }
            let nearest = if first > after { first } else { last };
            if nearest > after && next.is_none_or(|next| nearest < next) {
                next = Some(nearest);
            }
        }
        next
    }

    /// The times that are due after `after`, in order.
    pub fn upcoming(&self, after: DateTime<Utc>) -> impl Iterator<Item = DateTime<Utc>> {
        std::iter::successors(self.next_after(after), |previous| self.next_after(*previous))
    }

    /// The expression as it was written.
    pub fn expression(&self) -> &str {
        &self.expression
    }

    /// The time zone of the expression.
    pub fn zone(&self) -> Tz {
        self.zone
    }

    fn local(&self, instant: DateTime<Utc>) -> NaiveDateTime {
        instant.with_timezone(&self.zone).naive_local()
    }

    /// The matching local times after `from`, ascending, regardless of any zone.
    fn matches_after(&self, from: NaiveDateTime) -> impl Iterator<Item = NaiveDateTime> {
        // All schedules together, without those that coincide.
        let next = |at: &NaiveDateTime| {
            let steps = self.matches.iter().filter_map(|all| all.after(&at.and_utc()).next());
            steps.min().map(|instant| instant.naive_utc())
        };
        std::iter::successors(next(&from), next)
    }

    /// The first and the last instant (mostly the same) at which a matching local time is due.
    fn instants(&self, local: NaiveDateTime) -> Option<(DateTime<Utc>, DateTime<Utc>)> {
        let found = self.zone.from_local_datetime(&local);
        let utc = |instant: DateTime<Tz>| instant.with_timezone(&Utc);
        if self.hourly {
            return Some((utc(found.earliest()?), utc(found.latest()?)));
        }
        let instant = found.earliest().or_else(|| self.end_of_gap(local)).map(utc)?;
        Some((instant, instant))
    }

    fn end_of_gap(&self, local: NaiveDateTime) -> Option<DateTime<Tz>> {
        (1..=GAP_MINUTES_MAX).find_map(|minutes| {
            self.zone.from_local_datetime(&(local + Duration::minutes(minutes))).earliest()
        })
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.expression, self.zone)
    }
}
