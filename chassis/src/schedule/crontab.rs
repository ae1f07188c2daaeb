//! The five fields of crontab(5), read into sets of numbers and written in the dialect of the
//! `cron` crate.
//!
//! That dialect has a field for seconds, counts Sunday as 1 and joins the two day fields by AND.
//! What is read here is Vixie's crontab as Debian has it, and a little more: names in ranges and
//! lists, and ranges of weekdays that end on a Sunday written as 0 (`fri-sun`). A step larger than
//! its range is refused, because it does not do what it says.

use std::str::FromStr;

use crate::config::nearest;

/// A problem and a hint.
type Refusal = (String, String);

struct Field {
    name: &'static str,
    first: u32,
    last: u32,
    /// Names for the numbers from `first` on.
    words: &'static [&'static str],
}

const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

const MINUTE: Field = Field { name: "minute", first: 0, last: 59, words: &[] };
const HOUR: Field = Field { name: "hour", first: 0, last: 23, words: &[] };
const DAY: Field = Field { name: "day of month", first: 1, last: 31, words: &[] };
const MONTH: Field = Field { name: "month", first: 1, last: 12, words: &MONTHS };
const WEEKDAY: Field = Field { name: "day of week", first: 0, last: 7, words: &WEEKDAYS };

const NICKNAMES: [(&str, &str); 7] = [
    ("@hourly", "0 * * * *"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@weekly", "0 0 * * 0"),
    ("@monthly", "0 0 1 * *"),
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
];

/// What the fields match. Bit n stands for the number n; Sunday is 0.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Crontab {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// Both day fields are restricted (neither begins with `*`): one of them suffices.
    either_day: bool,
}

pub(super) fn parse(expression: &str) -> Result<Crontab, Refusal> {
    if expression.starts_with('@') {
        return parse_fields(fields_of_nickname(expression)?);
    }
    parse_fields(expression)
}

fn fields_of_nickname(word: &str) -> Result<&'static str, Refusal> {
    let word = word.to_ascii_lowercase();
    if let Some((_, fields)) = NICKNAMES.iter().find(|(name, _)| *name == word) {
        return Ok(fields);
    }
    if word == "@reboot" {
        let hint = "a run missed while the host was down is made up for anyway; write `@daily`";
        return Err(("`@reboot` names no time".to_owned(), hint.to_owned()));
    }
    let names = NICKNAMES.map(|(name, _)| name);
    let hint = match nearest(&word, names) {
        Some(name) => format!("did you mean `{name}`?"),
        None => format!("known are {}", names.join(", ")),
    };
    Err((format!("`{word}` is not known"), hint))
}

fn parse_fields(text: &str) -> Result<Crontab, Refusal> {
    let fields: Vec<&str> = text.split_ascii_whitespace().collect();
    let [minute, hour, day, month, weekday] = fields[..] else {
        let hint = match fields.len() {
            6.. => "seconds, years and commands have no place here; leave the sixth field out",
            _ => "write minute, hour, day of month, month and day of week, such as `30 2 * * *`",
        };
        return Err((format!("{} fields instead of five", fields.len()), hint.to_owned()));
    };
    let weekdays = WEEKDAY.parse(weekday)?;
    Ok(Crontab {
        minutes: MINUTE.parse(minute)?,
        hours: HOUR.parse(hour)?,
        days: DAY.parse(day)?,
        months: MONTH.parse(month)?,
        weekdays: (weekdays | weekdays >> 7) & 0x7f,
        either_day: !day.starts_with('*') && !weekday.starts_with('*'),
    })
}

impl Field {
    fn parse(&self, text: &str) -> Result<u64, Refusal> {
        text.split(',').try_fold(0, |set, item| Ok(set | self.parse_item(item)?))
    }

    /// `*`, `5`, `1-5`, each of the ranges also with a step: `*/10`, `1-5/2`.
    fn parse_item(&self, item: &str) -> Result<u64, Refusal> {
        let (range, step) = match item.split_once('/') {
            Some((range, step)) => (range, Some(step)),
            None => (item, None),
        };
        let (from, to) = self.parse_range(range)?;
        let Some(step) = step else {
            return Ok(bits(from..=to));
        };
        if range != "*" && !range.contains('-') {
            let hint = format!("write `{range}-{}/{step}`", self.last);
            return Err((format!("{}: step without a range in `{item}`", self.name), hint));
        }
        let step: u32 = step.parse().map_err(|_| self.refuse(step))?;
        if step == 0 || step > to - from {
            let problem = format!("{}: step {step} does not fit into {from}-{to}", self.name);
            return Err((problem, "a step counts within its range, from its start".to_owned()));
        }
        Ok(bits((from..=to).step_by(step as usize)))
    }

    fn parse_range(&self, range: &str) -> Result<(u32, u32), Refusal> {
        if range == "*" {
            return Ok((self.first, self.last));
        }
        let Some((from, to)) = range.split_once('-') else {
            return self.parse_number(range).map(|number| (number, number));
        };
        let (from, mut to) = (self.parse_number(from)?, self.parse_number(to)?);
        if to == 0 && self.last == WEEKDAY.last {
            to = WEEKDAY.last;
        }
        if from > to {
            let hint = format!("write `{from}-{},{}-{to}`", self.last, self.first);
            return Err((format!("{}: `{range}` runs backwards", self.name), hint));
        }
        Ok((from, to))
    }

    fn parse_number(&self, text: &str) -> Result<u32, Refusal> {
        let word = text.to_ascii_lowercase();
        if let Some(position) = self.words.iter().position(|known| *known == word) {
            return Ok(self.first + position as u32);
        }
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse()
            .ok()
            .filter(|number| is_number && (self.first..=self.last).contains(number))
            .ok_or_else(|| self.refuse(text))
    }

    fn refuse(&self, text: &str) -> Refusal {
        let names = match (self.words.first(), self.words.last()) {
            (Some(first), Some(last)) => format!(" or one of the names `{first}` to `{last}`"),
            _ => String::new(),
        };
        let Self { name, first, last, .. } = self;
        let hint = format!("{name} is a number from {first} to {last}{names}");
        (format!("{name}: `{text}` is not one"), hint)
    }
}

fn bits(numbers: impl Iterator<Item = u32>) -> u64 {
    numbers.fold(0, |set, number| set | 1 << number)
}

impl Crontab {
    /// Whether every hour of the day is matched.
    pub(super) fn is_hourly(&self) -> bool {
        self.hours == bits(HOUR.first..=HOUR.last)
    }

    /// One schedule, or two of which either suffices.
    pub(super) fn to_cron(&self) -> Vec<cron::Schedule> {
        let days = list(self.days, 0, DAY.first..=DAY.last);
        let weekdays = list(self.weekdays, 1, 0..=6);
        if self.either_day {
            return vec![self.with_days(&days, "*"), self.with_days("*", &weekdays)];
        }
        vec![self.with_days(&days, &weekdays)]
    }

    fn with_days(&self, days: &str, weekdays: &str) -> cron::Schedule {
        let minutes = list(self.minutes, 0, MINUTE.first..=MINUTE.last);
        let hours = list(self.hours, 0, HOUR.first..=HOUR.last);
        let months = list(self.months, 0, MONTH.first..=MONTH.last);
        let expression = format!("0 {minutes} {hours} {days} {months} {weekdays}");
        cron::Schedule::from_str(&expression).expect("lists of numbers in range are valid")
    }
}

/// A set as a comma-separated list, each number raised by `offset`; `*` for all of the range.
fn list(set: u64, offset: u32, range: std::ops::RangeInclusive<u32>) -> String {
    if set == bits(range.clone()) {
        return "*".to_owned();
    }
    let numbers = range.filter(|number| set >> number & 1 == 1);
    numbers.map(|number| (number + offset).to_string()).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_as_crontab_5_says() {
        fn check(expression: &str, lists: [&str; 5]) {
            let crontab = parse(expression).unwrap();
            let read = [
                list(crontab.minutes, 0, 0..=59),
                list(crontab.hours, 0, 0..=23),
                list(crontab.days, 0, 1..=31),
                list(crontab.months, 0, 1..=12),
                list(crontab.weekdays, 0, 0..=6),
            ];
            assert_eq!(read, lists, "{expression}");
        }
        check("* * * * *", ["*", "*", "*", "*", "*"]);
        check("5 0 * * *", ["5", "0", "*", "*", "*"]);
        check("15 14 1 * *", ["15", "14", "1", "*", "*"]);
        check("0 22 * * 1-5", ["0", "22", "*", "*", "1,2,3,4,5"]);
        check("23 0-23/2 * * *", ["23", "0,2,4,6,8,10,12,14,16,18,20,22", "*", "*", "*"]);
        check("*/20 1,2-4,9 * * *", ["0,20,40", "1,2,3,4,9", "*", "*", "*"]);
        check("5 4 * * sun", ["5", "4", "*", "*", "0"]);
        check("5 4 * * 7", ["5", "4", "*", "*", "0"]);
        check("5 4 * * 0,7", ["5", "4", "*", "*", "0"]);
        check("5 4 * * 5-7", ["5", "4", "*", "*", "0,5,6"]);
        check("5 4 * * Fri-SUN", ["5", "4", "*", "*", "0,5,6"]);
        check("5 4 * * 0-7", ["5", "4", "*", "*", "*"]);
        check("5 4 * * */2", ["5", "4", "*", "*", "0,2,4,6"]);
        check("0 0 */2 jan,MAR-may *", ["0", "0", &odd_days(), "1,3,4,5", "*"]);
        check("10-20/5 *,5 * * *", ["10,15,20", "*", "*", "*", "*"]);
        check("@weekly", ["0", "0", "*", "*", "0"]);
        check("@Yearly", ["0", "0", "1", "1", "*"]);
    }

    fn odd_days() -> String {
        (1..=31).step_by(2).map(|day: u32| day.to_string()).collect::<Vec<_>>().join(",")
    }

    #[test]
    fn either_day_suffices_only_if_neither_begins_with_a_star() {
        fn check(expression: &str, either: bool) {
            let crontab = parse(expression).unwrap();
            assert_eq!(crontab.either_day, either, "{expression}");
            assert_eq!(crontab.to_cron().len(), if either { 2 } else { 1 });
        }
        check("0 0 1 * 1", true);
        check("0 0 1-31 * 1", true);
        check("0 0 * * 1", false);
        check("0 0 1 * *", false);
        check("0 0 */2 * 1", false);
        check("0 0 13 * */5", false);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_field() {
        fn check(expression: &str, problem: &str, hint: &str) {
            let (said, advised) = parse(expression).unwrap_err();
            assert!(said.contains(problem), "{expression}: {said}");
            assert!(advised.contains(hint), "{expression}: {advised}");
        }
        check("60 * * * *", "minute: `60`", "from 0 to 59");
        check("* 24 * * *", "hour: `24`", "from 0 to 23");
        check("* * 0 * *", "day of month: `0`", "from 1 to 31");
        check("* * * 13 *", "month: `13`", "names `jan` to `dec`");
        check("* * * * 8", "day of week: `8`", "names `sun` to `sat`");
        check("* * * * monday", "day of week: `monday`", "names `sun` to `sat`");
        check("+5 * * * *", "minute: `+5`", "from 0 to 59");
        check("1,,2 * * * *", "minute: ``", "from 0 to 59");
        check("5/15 * * * *", "step without a range in `5/15`", "write `5-59/15`");
        check("*/0 * * * *", "step 0", "within its range");
        check("*/90 * * * *", "step 90 does not fit into 0-59", "within its range");
        check("*/x * * * *", "minute: `x`", "from 0 to 59");
        check("0 22-2 * * *", "hour: `22-2` runs backwards", "write `22-23,0-2`");
        check("0 0 * *", "4 fields instead of five", "such as `30 2 * * *`");
        check("0 0 0 * * *", "6 fields instead of five", "seconds");
        check("", "0 fields instead of five", "such as");
        check("@reboot", "names no time", "made up for");
        check("@dayly", "`@dayly` is not known", "did you mean `@daily`?");
    }
}
