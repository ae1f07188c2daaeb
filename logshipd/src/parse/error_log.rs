//! The error log of MySQL, Percona Server and MariaDB, with what Galera says in it.
//!
//! - MySQL 5.7: `2025-07-22T16:02:00.000000Z 0 [Note] text`
//! - MySQL 8 and 9: `2019-03-24T13:44:25.484123Z 0 [System] [MY-013169] [Server] text`, or JSON
//! - MariaDB 10 and 11: `2026-11-23 12:57:02 0 [Note] WSREP: text`, local time; `261123 12:57:02` before
//! - scripts of a state transfer: `WSREP_SST: [INFO] text (20261123 12:57:02.123)`
//!
//! A line without such a head (stack traces, views of Galera) belongs to the entry before it.

use memchr::memchr;

use crate::document::Document;

use super::scan::{Scanner, number};
use super::{Context, Joint, Unparsed, galera, stamp};

/// The thread that a line is of.
const THREAD: &str = "mysql.thread_id";

pub(super) fn joint(line: &[u8]) -> Joint {
    if line.starts_with(b"{") && line.ends_with(b"}") {
        return Joint::Whole;
    }
    super::start_if(
        line.starts_with(b"WSREP_SST: ") || time(line).is_some_and(|(_, rest)| is_head(rest)),
    )
}

/// A time at the beginning, in the zone that it names or in none.
enum Time {
    Universal(crate::document::UnixNanos),
    Local(stamp::Wall),
}

fn time(line: &[u8]) -> Option<(Time, &[u8])> {
    if line.get(10) == Some(&b'T') {
        return stamp::rfc3339(line).map(|(at, rest)| (Time::Universal(at), rest));
    }
    let (wall, rest) = stamp::dashed(line).or_else(|| stamp::six_digits(line))?;
    Some((Time::Local(wall), rest))
}

/// ` 0 [Note] ` or ` [Note] `: what is behind a time.
fn is_head(text: &[u8]) -> bool {
    let text = text.trim_ascii_start();
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit() || **byte == b'x').count();
    let text = text[digits..].trim_ascii_start();
    text.starts_with(b"[") || digits > 0 || text.starts_with(b"mysqld")
}

/// Writes the fields of an entry.
pub(super) fn parse(entry: &[u8], context: &Context, to: &mut Document) -> Result<(), Unparsed> {
    if entry.starts_with(b"{") {
        return json(entry, context, to);
    }
    if let Some(text) = entry.strip_prefix(b"WSREP_SST: ") {
        return transfer_script(text, context, to);
    }
    let (time, rest) = time(entry).ok_or(Unparsed("no time of an error log at the beginning"))?;
    let at = match time {
        Time::Universal(at) => at,
        Time::Local(wall) => wall.local(context, to),
    };
    to.at(at);
    let mut scanner = Scanner::new(rest);
    scanner.blanks();
    let thread = scanner.take_while(|byte| byte.is_ascii_digit());
    scanner.blanks();
    if let Some(thread) = number(thread) {
        to.long(THREAD, thread);
    }
    brackets(&mut scanner, to);
    message(scanner.rest, context, to);
    Ok(())
}

/// `[Note] [MY-013169] [Server] `
fn brackets(scanner: &mut Scanner, to: &mut Document) {
    let mut behind = *scanner;
    let Some(level) = bracket(&mut behind) else { return };
    let Some(level) = level_name(level) else { return };
    to.word("log.level", level);
    *scanner = behind;
    let Some(code) = bracket(&mut behind).filter(|code| code.starts_with(b"MY-")) else { return };
    to.text("event.code", code);
    *scanner = behind;
    if let Some(subsystem) = bracket(&mut behind) {
        to.text("event.provider", subsystem);
        *scanner = behind;
    }
}

fn bracket<'a>(scanner: &mut Scanner<'a>) -> Option<&'a [u8]> {
    scanner.literal(b"[")?;
    let inside = scanner.until(b']')?;
    scanner.blanks();
    Some(inside)
}

fn level_name(level: &[u8]) -> Option<&'static str> {
    Some(match level {
        b"Note" => "note",
        b"System" | b"INFO" | b"Info" => "info",
        b"Warning" | b"WARN" => "warning",
        b"Error" | b"ERROR" => "error",
        b"DEBUG" => "debug",
        _ => return None,
    })
}

/// The message; what it tells of the server or the cluster becomes `event.action`.
fn message(text: &[u8], context: &Context, to: &mut Document) {
    to.text("message", text);
    if let Some(text) = text.strip_prefix(b"WSREP: ") {
        galera::write(text, context, to);
    } else if let Some(action) = action(text) {
        to.word("event.action", action);
    }
}

fn action(text: &[u8]) -> Option<&'static str> {
    let first = &text[..memchr(b'\n', text).unwrap_or(text.len())];
    let has = |mark: &[u8]| memchr::memmem::find(first, mark).is_some();
    Some(match first {
        _ if has(b"ready for connections") => "server_ready",
        _ if first.starts_with(b"Starting MariaDB ") || has(b") starting as process") => {
            "server_starting"
        }
        _ if has(b"Shutdown complete") || has(b"shutdown complete") => "server_stopped",
        _ if has(b"Normal shutdown") || has(b"Received SHUTDOWN") => "server_stopping",
        _ if has(b" got signal ") || has(b" got exception ") => "server_crashed",
        _ if first == b"Aborting" => "server_aborted",
        _ if first.starts_with(b"Aborted connection") => "connection_aborted",
        _ if has(b"Starting crash recovery") => "crash_recovery",
        _ => return None,
    })
}

/// `[INFO] Using socat as streamer (20261123 12:57:02.123)`
fn transfer_script(text: &[u8], context: &Context, to: &mut Document) -> Result<(), Unparsed> {
    let mut scanner = Scanner::new(text);
    let level = bracket(&mut scanner).and_then(level_name);
    to.word("log.level", level.ok_or(Unparsed("no level behind `WSREP_SST:`"))?);
    let text = scanner.rest;
    let open = memchr::memrchr(b'(', text);
    let wall = open.and_then(|open| transfer_time(&text[open + 1..]));
    let at = match wall {
        Some(wall) => wall.local(context, to),
        None => context.read_at,
    };
    to.at(at);
    let text = if wall.is_some() { &text[..open.unwrap_or(text.len())] } else { text };
    to.text("message", text.trim_ascii_end());
    let has = |mark: &[u8]| memchr::memmem::find(text, mark).is_some();
    if has(b"SST started") {
        to.word("event.action", "sst_start");
    } else if has(b"completed") && has(b"SST") {
        to.word("event.action", "sst_done");
    }
    Ok(())
}

/// `20261123 12:57:02.123)`
fn transfer_time(text: &[u8]) -> Option<stamp::Wall> {
    let (century, rest) = text.split_at_checked(2)?;
    let (wall, rest) = stamp::six_digits(rest)?;
    (century == b"20" && rest == b")").then_some(wall)
}

/// A line of MySQL's JSON sink.
#[derive(serde::Deserialize)]
struct Json<'a> {
    #[serde(borrow, default)]
    time: std::borrow::Cow<'a, str>,
    #[serde(borrow, default)]
    msg: std::borrow::Cow<'a, str>,
    #[serde(borrow, default)]
    label: std::borrow::Cow<'a, str>,
    #[serde(borrow, default)]
    subsystem: std::borrow::Cow<'a, str>,
    #[serde(borrow, default)]
    err_symbol: std::borrow::Cow<'a, str>,
    #[serde(borrow, default, rename = "SQL_state")]
    sql_state: std::borrow::Cow<'a, str>,
    #[serde(borrow, default)]
    source_file: std::borrow::Cow<'a, str>,
    #[serde(borrow, default)]
    function: std::borrow::Cow<'a, str>,
    source_line: Option<i64>,
    err_code: Option<i64>,
    thread: Option<i64>,
}

fn json(entry: &[u8], context: &Context, to: &mut Document) -> Result<(), Unparsed> {
    let line: Json = serde_json::from_slice(entry).map_err(|_| Unparsed("JSON of no error log"))?;
    let time = stamp::rfc3339(line.time.as_bytes()).ok_or(Unparsed("no `time` in the JSON"))?;
    to.at(time.0);
    if let Some(thread) = line.thread {
        to.long(THREAD, thread);
    }
    if let Some(level) = level_name(line.label.as_bytes()) {
        to.word("log.level", level);
    }
    if let Some(code) = line.err_code {
        to.text("event.code", format!("MY-{code:06}").as_bytes());
    }
    let texts = [
        ("event.provider", &line.subsystem),
        ("mysql.error.symbol", &line.err_symbol),
        ("mysql.error.sql_state", &line.sql_state),
        ("log.origin.file.name", &line.source_file),
        ("log.origin.function", &line.function),
    ];
    for (key, text) in texts {
        if !text.is_empty() {
            to.text(key, text.as_bytes());
        }
    }
    if let Some(number) = line.source_line {
        to.long("log.origin.file.line", number);
    }
    message(line.msg.as_bytes(), context, to);
    Ok(())
}
