//! Sizes, rates and durations as people write and read them.
//!
//! [`ByteSize`] and [`Span`] are what configuration files hold (`"20MiB"`, `"1h30m"`). Parsing is
//! exact: no floating point, and a value that does not fit is refused. Display is for reading and
//! rounds.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::de::{Deserialize, Deserializer, Visitor};
use serde::ser::{Serialize, Serializer};

/// A number of bytes. Read from `"20MiB"`, `"1.5 GB"`, `"64k"` or an integer; written as an
/// integer.
///
/// `KB MB GB TB PB` are powers of 1000, `KiB MiB GiB TiB PiB` powers of 1024. A single letter
/// (`64k`, `1G`) is a power of 1024, as in the configuration of the database. A fraction of a byte
/// is cut off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(pub u64);

/// A text that is not a size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SizeError {
    /// There is no number, or more than digits and one point in it.
    #[error("`{0}` is not a size: write a number and a unit, such as \"20MiB\" or \"1.5 GB\"")]
    Number(String),
    /// The unit is not one of those in the documentation of [`ByteSize`].
    #[error("unknown unit `{0}`: use B, KB, MB, GB, TB, PB, KiB, MiB, GiB, TiB or PiB")]
    Unit(String),
    /// More than 16 EiB.
    #[error("`{0}` is more than 16 EiB")]
    TooLarge(String),
}

impl FromStr for ByteSize {
    type Err = SizeError;

    fn from_str(text: &str) -> Result<Self, SizeError> {
        let text = text.trim();
        let digits_end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, unit) = text.split_at(digits_end);
        let unit = unit_bytes(unit.trim_start())?;
        let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
        let malformed = || SizeError::Number(text.to_owned());
        if whole.is_empty() || fraction.is_empty() || fraction.contains('.') {
            return Err(malformed());
        }
        let too_large = || SizeError::TooLarge(text.to_owned());
        let whole: u64 = whole.parse().map_err(|_| too_large())?;
        // Eighteen digits are more than any unit here can tell apart.
        let fraction = &fraction[..fraction.len().min(18)];
        let scale = 10u128.pow(fraction.len() as u32);
        let fraction: u128 = fraction.parse().map_err(|_| malformed())?;
        let bytes = u128::from(whole) * unit + fraction * unit / scale;
        u64::try_from(bytes).map(Self).map_err(|_| too_large())
    }
}

fn unit_bytes(unit: &str) -> Result<u128, SizeError> {
    let unit_lower = unit.to_ascii_lowercase();
    let (base, power): (u128, u32) = match unit_lower.as_str() {
        "" | "b" => (1, 0),
        "kb" => (1000, 1),
        "mb" => (1000, 2),
        "gb" => (1000, 3),
        "tb" => (1000, 4),
        "pb" => (1000, 5),
        "k" | "kib" => (1024, 1),
        "m" | "mib" => (1024, 2),
        "g" | "gib" => (1024, 3),
        "t" | "tib" => (1024, 4),
        "p" | "pib" => (1024, 5),
        _ => return Err(SizeError::Unit(unit.to_owned())),
    };
    Ok(base.pow(power))
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format_bytes(self.0))
    }
}

fn format_bytes(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    // 1023.95 would be printed as 1024.0.
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SizeVisitor)
    }
}

struct SizeVisitor;

impl Visitor<'_> for SizeVisitor {
    type Value = ByteSize;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a size such as \"20MiB\", or a number of bytes")
    }

    fn visit_u64<E: serde::de::Error>(self, bytes: u64) -> Result<ByteSize, E> {
        Ok(ByteSize(bytes))
    }

    fn visit_i64<E: serde::de::Error>(self, bytes: i64) -> Result<ByteSize, E> {
        u64::try_from(bytes).map(ByteSize).map_err(|_| E::custom("a size cannot be negative"))
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<ByteSize, E> {
        text.parse().map_err(E::custom)
    }
}

impl Serialize for ByteSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.0)
    }
}

/// A length of time, read from `"15m"`, `"1h30m"` or `"2d"` (units `ms s m h d w M y`) and written
/// the same way.
///
/// A bare number is refused: it would leave the unit to guessing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span(pub Duration);

/// A text that is not a [`Span`].
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("`{text}` is not a duration: write a number and a unit, such as \"15m\" or \"1h30m\"")]
pub struct SpanError {
    text: String,
    #[source]
    source: humantime::DurationError,
}

impl Span {
    /// A span of whole seconds.
    pub const fn from_secs(secs: u64) -> Self {
        Self(Duration::from_secs(secs))
    }
}

impl FromStr for Span {
    type Err = SpanError;

    fn from_str(text: &str) -> Result<Self, SpanError> {
        humantime::parse_duration(text)
            .map(Self)
            .map_err(|source| SpanError { text: text.to_owned(), source })
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&humantime::format_duration(self.0).to_string())
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(SpanVisitor)
    }
}

struct SpanVisitor;

impl Visitor<'_> for SpanVisitor {
    type Value = Span;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a duration with its unit such as \"15m\"")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Span, E> {
        text.parse().map_err(E::custom)
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Bytes per second for people: `"12.3 MiB/s"`; `"-"` when no time has passed.
pub fn format_rate(bytes: u64, elapsed: Duration) -> String {
    if elapsed.is_zero() {
        return "-".to_owned();
    }
    format!("{}/s", format_bytes((bytes as f64 / elapsed.as_secs_f64()) as u64))
}

/// A duration for people, in its two largest units: `"85 ms"`, `"4.2 s"`, `"3 min 12 s"`, `"1 h 05
/// min"`, `"2 d 3 h"`.
pub fn format_duration(duration: Duration) -> String {
    let secs = duration.as_secs();
    match secs {
        0 => format!("{} ms", duration.as_millis()),
        1..10 => format!("{}.{} s", secs, duration.subsec_millis() / 100),
        10..60 => format!("{secs} s"),
        60..3600 => format!("{} min {:02} s", secs / 60, secs % 60),
        3600..86_400 => format!("{} h {:02} min", secs / 3600, secs % 3600 / 60),
        _ => format!("{} d {} h", secs / 86_400, secs % 86_400 / 3600),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes_are_read_as_written() {
        fn check(text: &str, expected: u64) {
            assert_eq!(text.parse(), Ok(ByteSize(expected)), "{text}");
        }
        check("0", 0);
        check("512", 512);
        check("20MiB", 20 << 20);
        check("1.5 GB", 1_500_000_000);
        check("64k", 64 << 10);
        check(" 1 G ", 1 << 30);
        check("0.5B", 0);
        check("18446744073709551615", u64::MAX);
        check("1.0000000000000000000000009KB", 1000);
    }

    #[test]
    fn text_that_is_no_size_is_refused() {
        fn check(text: &str, expected: &str) {
            let error = text.parse::<ByteSize>().unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
        check("", "not a size");
        check("MiB", "not a size");
        check("1..5G", "not a size");
        check("1.", "not a size");
        check("-1", "unknown unit `-1`");
        check("20 mibs", "unknown unit `mibs`");
        check("18446744073709551616", "more than 16 EiB");
        check("16384PiB", "more than 16 EiB");
    }

    #[test]
    fn sizes_are_displayed_in_binary_units() {
        fn check(bytes: u64, expected: &str) {
            assert_eq!(ByteSize(bytes).to_string(), expected);
        }
        check(0, "0 B");
        check(1023, "1023 B");
        check(16 << 20, "16.0 MiB");
        check((1 << 20) - 1, "1.0 MiB");
        check(u64::MAX, "16.0 EiB");
        assert_eq!(format!("{:>10}", ByteSize(1024)), "   1.0 KiB");
    }

    #[test]
    fn durations_and_rates_are_short() {
        fn check(millis: u64, expected: &str) {
            assert_eq!(format_duration(Duration::from_millis(millis)), expected);
        }
        check(85, "85 ms");
        check(4_250, "4.2 s");
        check(59_999, "59 s");
        check(192_000, "3 min 12 s");
        check(3_900_000, "1 h 05 min");
        check(183_600_000, "2 d 3 h");
        assert_eq!(format_rate(10 << 20, Duration::from_secs(2)), "5.0 MiB/s");
        assert_eq!(format_rate(1, Duration::ZERO), "-");
    }

    #[test]
    fn configuration_takes_text_and_refuses_what_has_no_unit() {
        #[derive(Debug, serde::Deserialize)]
        struct Config {
            size: ByteSize,
            every: Span,
        }
        let config: Config = toml::from_str("size = 4096\nevery = \"1h30m\"").unwrap();
        assert_eq!(config.size, ByteSize(4096));
        assert_eq!(config.every, Span::from_secs(5400));
        assert_eq!(config.every.to_string(), "1h 30m");
        let error = toml::from_str::<Config>("size = \"1M\"\nevery = 15").unwrap_err();
        assert!(error.message().contains("duration with its unit"), "{error}");
        let error = toml::from_str::<Config>("size = -1\nevery = \"1s\"").unwrap_err();
        assert!(error.message().contains("negative"), "{error}");
    }

    proptest! {
        #[test]
        fn a_size_survives_serialization(bytes: u64) {
            let json = serde_json::to_string(&ByteSize(bytes)).unwrap();
            prop_assert_eq!(serde_json::from_str::<ByteSize>(&json).unwrap(), ByteSize(bytes));
        }

        #[test]
        fn a_span_survives_serialization(secs: u32, nanos in 0..1_000_000_000u32) {
            let span = Span(Duration::new(secs.into(), nanos));
            let json = serde_json::to_string(&span).unwrap();
            prop_assert_eq!(serde_json::from_str::<Span>(&json).unwrap(), span);
        }

        #[test]
        fn any_text_is_read_or_refused_without_panic(text: String) {
            drop(text.parse::<ByteSize>());
            drop(text.parse::<Span>());
            drop(format!("{text}.7GiB").parse::<ByteSize>());
        }
    }
}
