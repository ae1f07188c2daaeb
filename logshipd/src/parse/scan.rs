//! A place in a line, and the steps that parsers take from it. Each step costs what it passes over.

use memchr::{memchr, memmem};

/// What is left of a line.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scanner<'a> {
    pub rest: &'a [u8],
}

impl<'a> Scanner<'a> {
    pub fn new(rest: &'a [u8]) -> Self {
        Self { rest }
    }

    /// Passes over a literal.
    #[inline]
    pub fn literal(&mut self, literal: &[u8]) -> Option<()> {
        self.rest = self.rest.strip_prefix(literal)?;
        Some(())
    }

    /// Passes over a literal if it is there.
    pub fn skip(&mut self, literal: &[u8]) -> bool {
        self.literal(literal).is_some()
    }

    /// Takes what is before a byte, and passes over that.
    #[inline]
    pub fn until(&mut self, byte: u8) -> Option<&'a [u8]> {
        let at = memchr(byte, self.rest)?;
        let taken = &self.rest[..at];
        self.rest = &self.rest[at + 1..];
        Some(taken)
    }

    /// Takes what is before a literal, and passes over that.
    pub fn until_text(&mut self, literal: &[u8]) -> Option<&'a [u8]> {
        let at = memmem::find(self.rest, literal)?;
        let taken = &self.rest[..at];
        self.rest = &self.rest[at + literal.len()..];
        Some(taken)
    }

    /// Takes what is before a byte, or all there is.
    pub fn until_or_end(&mut self, byte: u8) -> &'a [u8] {
        self.until(byte).unwrap_or_else(|| std::mem::take(&mut self.rest))
    }

    /// Takes the bytes that satisfy; there may be none.
    pub fn take_while(&mut self, mut satisfies: impl FnMut(u8) -> bool) -> &'a [u8] {
        let at = self.rest.iter().position(|&b| !satisfies(b)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at(at);
        self.rest = rest;
        taken
    }

    /// Takes a word: what is before the next blank, or all there is; the blanks after it are passed over.
    pub fn word(&mut self) -> &'a [u8] {
        let word = self.take_while(|byte| byte != b' ' && byte != b'\t');
        self.blanks();
        word
    }

    /// Passes over blanks.
    pub fn blanks(&mut self) {
        self.take_while(|byte| byte == b' ' || byte == b'\t');
    }

    /// Takes a whole number without a sign.
    #[inline]
    pub fn number(&mut self) -> Option<i64> {
        let mut value = 0_i64;
        let mut digits = 0;
        for &byte in self.rest {
            let digit = byte.wrapping_sub(b'0');
            if digit > 9 {
                break;
            }
            value = value.checked_mul(10)?.checked_add(i64::from(digit))?;
            digits += 1;
        }
        if digits == 0 {
            return None;
        }
        self.rest = &self.rest[digits..];
        Some(value)
    }

    /// Takes a whole number, which may be negative.
    pub fn signed(&mut self) -> Option<i64> {
        if self.skip(b"-") { self.number().map(|value| -value) } else { self.number() }
    }
}

/// All of a text as a whole number; `-` and what is none is no value.
#[inline]
pub(super) fn number(text: &[u8]) -> Option<i64> {
    let mut scanner = Scanner::new(text);
    let value = scanner.number()?;
    scanner.rest.is_empty().then_some(value)
}

/// Seconds with a decimal fraction as nanoseconds, in whole numbers; digits after the ninth are dropped.
pub(super) fn nanos(text: &[u8]) -> Option<i64> {
    let mut scanner = Scanner::new(text);
    let seconds = scanner.number()?;
    let mut nanos = 0;
    if scanner.skip(b".") {
        let mut unit = 100_000_000;
        for &byte in scanner.rest {
            let digit = byte.wrapping_sub(b'0');
            if digit > 9 {
                return None;
            }
            nanos += i64::from(digit) * unit;
            unit /= 10;
        }
    } else if !scanner.rest.is_empty() {
        return None;
    }
    seconds.checked_mul(1_000_000_000)?.checked_add(nanos)
}

/// A text that is a value: not empty and not `-`.
#[inline]
pub(super) fn value(text: &[u8]) -> Option<&[u8]> {
    (!text.is_empty() && text != b"-").then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_become_nanoseconds_without_artefacts() {
        let check = |text: &str, expected| assert_eq!(nanos(text.as_bytes()), expected, "{text}");
        check("153.883488", Some(153_883_488_000));
        check("0.001", Some(1_000_000));
        check("3", Some(3_000_000_000));
        check("1.0000000019", Some(1_000_000_001));
        for wrong in ["", "-", "-1", "1.x", "1s", "99999999999999999999", "9999999999999"] {
            check(wrong, None);
        }
    }
}
