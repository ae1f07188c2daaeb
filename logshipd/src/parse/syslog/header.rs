//! The header of a syslog message, borrowed from its line.

use crate::document::{Document, UnixNanos};
use crate::parse::scan::{Scanner, number, value};
use crate::parse::{Context, stamp};

/// What stands before a message.
#[derive(Debug)]
pub(super) struct Header<'a> {
    pub priority: Option<i64>,
    time: Time,
    pub host: Option<&'a [u8]>,
    pub program: &'a [u8],
    pub process: Option<&'a [u8]>,
    pub message: &'a [u8],
}

#[derive(Debug)]
enum Time {
    Universal(UnixNanos),
    Local(stamp::Wall),
    /// None is there: when it was read.
    Missing,
}

impl<'a> Header<'a> {
    /// `None` if the line has no header.
    pub fn read(line: &'a [u8], context: &Context) -> Option<Self> {
        let mut scanner = Scanner::new(line);
        let mut priority = None;
        if scanner.skip(b"<") {
            priority = Some(scanner.number().filter(|priority| *priority < 192)?);
            scanner.literal(b">")?;
            if scanner.skip(b"1 ") {
                return Self::rfc5424(scanner, priority);
            }
        }
        let time = Self::time(&mut scanner, context);
        let host = match time {
            // Only a message that came by a socket may do without.
            Time::Missing if priority.is_none() => return None,
            Time::Missing => None,
            _ => {
                scanner.blanks();
                Some(scanner.word())
            }
        };
        let (program, process) = tag(&mut scanner);
        Some(Self { priority, time, host, program, process, message: scanner.rest })
    }

    fn time(scanner: &mut Scanner, context: &Context) -> Time {
        if let Some((at, rest)) = stamp::rfc3339(scanner.rest) {
            scanner.rest = rest;
            Time::Universal(at)
        } else if let Some((wall, rest)) = stamp::rfc3164(scanner.rest, context) {
            scanner.rest = rest;
            Time::Local(wall)
        } else {
            Time::Missing
        }
    }

    /// `time host program process id [data] message`, each `-` if there is none.
    fn rfc5424(mut scanner: Scanner<'a>, priority: Option<i64>) -> Option<Self> {
        let time = scanner.until(b' ')?;
        let time = match value(time) {
            Some(time) => Time::Universal(stamp::rfc3339(time)?.0),
            None => Time::Missing,
        };
        let host = value(scanner.until(b' ')?);
        let program = value(scanner.until(b' ')?).unwrap_or_default();
        let process = value(scanner.until(b' ')?);
        scanner.until(b' ')?;
        if !scanner.skip(b"-") {
            structured_data(&mut scanner)?;
        }
        scanner.skip(b" ");
        scanner.skip(b"\xef\xbb\xbf");
        Some(Self { priority, time, host, program, process, message: scanner.rest })
    }

    /// When it was.
    pub fn at(&self, context: &Context, to: &mut Document) -> UnixNanos {
        match self.time {
            Time::Universal(at) => at,
            Time::Local(wall) => wall.local(context, to),
            Time::Missing => context.read_at,
        }
    }
}

/// `program[123]: ` or `program: `; nothing if there is none.
fn tag<'a>(scanner: &mut Scanner<'a>) -> (&'a [u8], Option<&'a [u8]>) {
    let mut behind = *scanner;
    let program = behind.take_while(|byte| !matches!(byte, b'[' | b':' | b' ' | b'\n'));
    let mut process = None;
    if behind.skip(b"[") {
        process = behind.until(b']').filter(|text| number(text).is_some());
        if process.is_none() {
            return (&[], None);
        }
    }
    if program.is_empty() || !behind.skip(b":") {
        return (&[], None);
    }
    behind.skip(b" ");
    *scanner = behind;
    (program, process)
}

/// `[id name="value"][..]`
fn structured_data(scanner: &mut Scanner) -> Option<()> {
    while scanner.skip(b"[") {
        let mut is_quoted = false;
        loop {
            let (&byte, rest) = scanner.rest.split_first()?;
            scanner.rest = rest;
            match byte {
                b'\\' if is_quoted => scanner.rest = scanner.rest.get(1..)?,
                b'"' => is_quoted = !is_quoted,
                b']' if !is_quoted => break,
                _ => {}
            }
        }
    }
    Some(())
}
