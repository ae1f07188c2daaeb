//! A document in the making: one JSON object, written as a log entry is parsed.
//!
//! Keys are dotted ECS names, each written once by the parser that knows it; nothing is looked up and
//! no map is built. Values that are not UTF-8 are made so; nothing that a log holds breaks the JSON.
//! The memory is kept from one document to the next: in the steady state nothing is allocated.

mod escape;
mod time;

use crate::parse::agent::Agents;
pub use time::Clock;

/// Nanoseconds since 1970 in UTC.
pub type UnixNanos = i64;

/// One JSON object, built key by key.
///
/// What is written ends in a comma until [`Document::finish`] closes it, so a mark is a length.
#[derive(Clone, Debug, Default)]
pub struct Document {
    pub(crate) json: Vec<u8>,
    timestamp: Option<UnixNanos>,
    /// What was true of the last time: the date as text, the offset of the zone.
    pub(crate) clock: Clock,
    /// The last user agents and what they are.
    pub(crate) agents: Agents,
    /// Room for a value that has to be rewritten before it is stored; empty between two uses.
    pub(crate) room: Vec<u8>,
}

impl Document {
    /// Empties it and keeps its memory.
    pub fn clear(&mut self) {
        self.json.clear();
        self.timestamp = None;
    }

    /// How far it is written: for [`Document::roll_back`].
    pub fn mark(&self) -> usize {
        self.json.len()
    }

    /// Takes back what was written after a mark.
    pub fn roll_back(&mut self, mark: usize) {
        self.json.truncate(mark);
        if mark == 0 {
            self.timestamp = None;
        }
    }

    /// The value of `@timestamp`, if it is written.
    pub fn timestamp(&self) -> Option<UnixNanos> {
        self.timestamp
    }

    /// Writes text. Bytes that are not UTF-8 become U+FFFD, control characters and NUL are escaped.
    #[inline]
    pub fn text(&mut self, key: &str, value: &[u8]) {
        self.key(key);
        escape::string(&mut self.json, value);
        self.json.push(b',');
    }

    /// Writes text that is known to need no escape, such as a word of ours.
    #[inline]
    pub fn word(&mut self, key: &str, value: &str) {
        debug_assert!(!value.bytes().any(|b| b < 0x20 || b == b'"' || b == b'\\'), "{value:?}");
        self.key(key);
        self.json.push(b'"');
        self.json.extend_from_slice(value.as_bytes());
        self.json.extend_from_slice(b"\",");
    }

    /// Writes text if there is any.
    pub fn text_of(&mut self, key: &str, value: Option<&[u8]>) {
        if let Some(value) = value {
            self.text(key, value);
        }
    }

    /// Writes a list of texts; nothing for an empty list.
    pub fn texts<'a>(&mut self, key: &str, values: impl IntoIterator<Item = &'a [u8]>) {
        let mark = self.mark();
        self.key(key);
        self.json.push(b'[');
        let start = self.json.len();
        for value in values {
            escape::string(&mut self.json, value);
            self.json.push(b',');
        }
        self.close_list(mark, start);
    }

    /// Writes a list of whole numbers; nothing for an empty list.
    pub fn longs(&mut self, key: &str, values: impl IntoIterator<Item = i64>) {
        let mark = self.mark();
        self.key(key);
        self.json.push(b'[');
        let start = self.json.len();
        let mut buffer = itoa::Buffer::new();
        for value in values {
            self.json.extend_from_slice(buffer.format(value).as_bytes());
            self.json.push(b',');
        }
        self.close_list(mark, start);
    }

    fn close_list(&mut self, mark: usize, start: usize) {
        if self.json.len() == start {
            self.json.truncate(mark);
            return;
        }
        self.json.pop();
        self.json.extend_from_slice(b"],");
    }

    /// Writes a whole number.
    #[inline]
    pub fn long(&mut self, key: &str, value: i64) {
        self.key(key);
        self.json.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
        self.json.push(b',');
    }

    /// Writes a number with a fraction; nothing if it is none that JSON knows.
    pub fn float(&mut self, key: &str, value: f64) {
        use std::io::Write as _;
        if value.is_finite() {
            self.key(key);
            write!(self.json, "{value}").expect("a Vec takes all");
            self.json.push(b',');
        }
    }

    /// Writes a decimal number as the log has it, without a detour over binary fractions.
    /// `false`, and nothing is written, if it is not `digits[.digits]` of at most 18 each.
    pub fn decimal(&mut self, key: &str, value: &[u8]) -> bool {
        let point = memchr::memchr(b'.', value);
        let (whole, fraction) = match point {
            Some(at) => (&value[..at], &value[at + 1..]),
            None => (value, &[][..]),
        };
        let is_digits = |part: &[u8]| part.len() <= 18 && part.iter().all(u8::is_ascii_digit);
        if whole.is_empty() || !is_digits(whole) || !is_digits(fraction) {
            return false;
        }
        let zeros = whole.iter().take_while(|&&digit| digit == b'0').count();
        self.key(key);
        self.json.extend_from_slice(&whole[zeros.min(whole.len() - 1)..]);
        if !fraction.is_empty() {
            self.json.push(b'.');
            self.json.extend_from_slice(fraction);
        }
        self.json.push(b',');
        true
    }

    /// Writes true or false.
    pub fn flag(&mut self, key: &str, value: bool) {
        self.key(key);
        self.json.extend_from_slice(if value { b"true," } else { b"false," });
    }

    /// Writes a time in RFC 3339 and UTC, with milli-, micro- or nanoseconds if it has them.
    pub fn time(&mut self, key: &str, at: UnixNanos) {
        self.key(key);
        self.json.push(b'"');
        self.clock.format(at, &mut self.json);
        self.json.extend_from_slice(b"\",");
    }

    /// Writes `@timestamp`, which [`Document::timestamp`] then tells.
    pub fn at(&mut self, at: UnixNanos) {
        self.time("@timestamp", at);
        self.timestamp = Some(at);
    }

    /// Closes the object and gives its JSON. [`Document::clear`] begins the next one.
    pub fn finish(&mut self) -> &[u8] {
        match self.json.last_mut() {
            Some(last) if *last == b',' => *last = b'}',
            Some(_) => {}
            None => self.json.extend_from_slice(b"{}"),
        }
        &self.json
    }

    #[inline]
    fn key(&mut self, key: &str) {
        self.json.reserve(key.len() + 4);
        let open: &[u8] = if self.json.is_empty() { b"{\"" } else { b"\"" };
        self.json.extend_from_slice(open);
        self.json.extend_from_slice(key.as_bytes());
        self.json.extend_from_slice(b"\":");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(write: impl FnOnce(&mut Document), expected: &str) {
        let mut document = Document::default();
        write(&mut document);
        let json = std::str::from_utf8(document.finish()).unwrap();
        serde_json::from_str::<serde_json::Value>(json).unwrap();
        assert_eq!(json, expected);
    }

    #[test]
    fn values_become_json() {
        check(|_| {}, "{}");
        check(|d| d.text("a.b", b"x\"y\\z\n\0\x1f"), r#"{"a.b":"x\"y\\z\n\u0000\u001f"}"#);
        check(|d| d.text("a", b"caf\xc3\xa9 \xff."), "{\"a\":\"caf\u{e9} \u{fffd}.\"}");
        check(|d| d.long("a", i64::MIN), r#"{"a":-9223372036854775808}"#);
        check(|d| d.texts("a", [&b"x"[..], b"y"]), r#"{"a":["x","y"]}"#);
        check(|d| d.longs("a", [1, 2]), r#"{"a":[1,2]}"#);
        check(|d| d.texts("a", []), "{}");
        check(|d| d.float("a", 0.5), r#"{"a":0.5}"#);
        check(|d| d.float("a", f64::NAN), "{}");
        check(|d| d.flag("a", true), r#"{"a":true}"#);
    }

    #[test]
    fn decimals_are_kept_as_they_are() {
        check(|d| assert!(d.decimal("a", b"0.000096")), r#"{"a":0.000096}"#);
        check(|d| assert!(d.decimal("a", b"007.10")), r#"{"a":7.10}"#);
        check(|d| assert!(d.decimal("a", b"00")), r#"{"a":0}"#);
        for wrong in ["", ".5", "-1", "1e5", "nan", "1.2.3", "1234567890123456789"] {
            check(|d| assert!(!d.decimal("a", wrong.as_bytes())), "{}");
        }
    }

    #[test]
    fn times_have_as_many_digits_as_there_are() {
        check(|d| d.time("a", 0), r#"{"a":"1970-01-01T00:00:00Z"}"#);
        check(|d| d.time("a", -1), r#"{"a":"1969-12-31T23:59:59.999999999Z"}"#);
        let second = 1_795_438_806_i64 * 1_000_000_000;
        check(|d| d.time("a", second + 7_000_000), r#"{"a":"2026-11-23T13:00:06.007Z"}"#);
        check(|d| d.time("a", second + 7_000), r#"{"a":"2026-11-23T13:00:06.000007Z"}"#);
    }

    #[test]
    fn a_roll_back_leaves_what_was_there_before() {
        check(
            |d| {
                d.long("a", 1);
                let mark = d.mark();
                d.text("b", b"x");
                d.roll_back(mark);
                d.long("c", 2);
            },
            r#"{"a":1,"c":2}"#,
        );
    }
}
