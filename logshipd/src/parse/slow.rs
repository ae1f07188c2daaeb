//! The slow log of MySQL, Percona Server and MariaDB.
//!
//! An entry is a head of lines that begin with `# `, then `use db;`, `SET timestamp=N;` and the query.
//! The head that a server writes when it opens the log is an entry of its own, wherever it stands.
//! `# Time:` is when the query ended. Where a server leaves it out (a further query of the same second),
//! `SET timestamp` of that server is the end as well; where it is the beginning (MySQL since 8.0.14),
//! `# Time:` is always there.

use memchr::{memchr, memmem};

use crate::document::{Document, UnixNanos};

use super::scan::{Scanner, value};
use super::slow_fields::{ID, RATE_LIMIT, ROWS_EXAMINED, ROWS_SENT, SCHEMA, THREAD, Values};
use super::{Context, Joint, Unparsed, address, fingerprint, stamp, start_if};

const TIME: &[u8] = b"# Time: ";
const USER: &[u8] = b"# User@Host: ";
/// Rows of an EXPLAIN that are kept.
const EXPLAIN_ROWS_MAX: usize = 64;

pub(super) fn joint(line: &[u8], open: &[u8]) -> Joint {
    if line.starts_with(USER) {
        // It follows `# Time:`, unless that was left out.
        return start_if(!open.starts_with(TIME) || memchr(b'\n', open).is_some());
    }
    start_if(line.starts_with(TIME) || is_opening(line))
}

/// `/usr/sbin/mariadbd, Version: 10.11.19-MariaDB (Debian 12). started with:`
fn is_opening(line: &[u8]) -> bool {
    line.ends_with(b"started with:") && memmem::find(line, b", Version: ").is_some()
}

/// What is between the lines of an entry.
#[derive(Default)]
struct Entry<'a> {
    end: Option<UnixNanos>,
    user: Option<&'a [u8]>,
    values: Values<'a>,
    explain: Vec<&'a [u8]>,
    administration: Option<&'a [u8]>,
    schema: Option<&'a [u8]>,
    set_timestamp: Option<i64>,
    query: &'a [u8],
}

/// Writes the fields of an entry.
pub(super) fn parse(text: &[u8], context: &Context, to: &mut Document) -> Result<(), Unparsed> {
    let first = &text[..memchr(b'\n', text).unwrap_or(text.len())];
    if is_opening(first) {
        opening(first, context, to);
        return Ok(());
    }
    if !text.starts_with(TIME) && !text.starts_with(USER) {
        return Err(Unparsed("a slow log entry begins with `# Time:` or `# User@Host:`"));
    }
    let entry = read(text, context, to);
    let end = entry.end.or(entry.set_timestamp.and_then(|at| at.checked_mul(1_000_000_000)));
    let end = end.ok_or(Unparsed("neither `# Time:` nor `SET timestamp` tells when it was"))?;
    let duration = entry.values.duration().ok_or(Unparsed("no `Query_time`"))?;
    to.at(end);
    to.time("event.start", end.saturating_sub(duration));
    to.time("event.end", end);
    to.long("event.duration", duration);
    if let Some(user) = entry.user {
        write_user(user, context, to);
    }
    write_head(&entry, to);
    write_query(&entry, context, to);
    Ok(())
}

fn opening(line: &[u8], context: &Context, to: &mut Document) {
    to.at(context.read_at);
    to.text("message", line);
    to.word("event.action", "server_starting");
    let mut scanner = Scanner::new(line);
    if scanner.until_text(b", Version: ").is_some() {
        to.text("service.version", scanner.word());
    }
}

fn read<'a>(text: &'a [u8], context: &Context, to: &mut Document) -> Entry<'a> {
    let mut entry = Entry::default();
    let mut rest = Scanner::new(text);
    while !rest.rest.is_empty() {
        let before = rest.rest;
        let line = rest.until_or_end(b'\n');
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if let Some(head) = line.strip_prefix(b"#") {
            head_line(head, &mut entry, context, to);
        } else if let Some(schema) = used(line) {
            entry.schema = Some(schema);
        } else if let Some(timestamp) = set_timestamp(line) {
            entry.set_timestamp = Some(timestamp);
            entry.query = rest.rest;
            break;
        } else if !line.is_empty() {
            entry.query = before;
            break;
        }
    }
    if let Some(command) = administration(entry.query) {
        entry.administration = Some(command);
        entry.query = &[];
    }
    entry
}

/// `# administrator command: Quit;`, in the head or where the query is.
fn administration(text: &[u8]) -> Option<&[u8]> {
    let command = text.strip_prefix(b"# administrator command: ")?;
    Some(Scanner::new(command).until_or_end(b';'))
}

fn head_line<'a>(line: &'a [u8], entry: &mut Entry<'a>, context: &Context, to: &mut Document) {
    let line = line.trim_ascii_start();
    if let Some(time) = line.strip_prefix(b"Time: ") {
        entry.end = match stamp::rfc3339(time) {
            Some((at, _)) => Some(at),
            None => stamp::six_digits(time).map(|(wall, _)| wall.local(context, to)),
        };
    } else if let Some(user) = line.strip_prefix(b"User@Host: ") {
        // `Id: 14` of MySQL follows on the same line.
        let at = memmem::rfind(user, b"]").map_or(user.len(), |at| at + 1);
        entry.user.get_or_insert(&user[..at]);
        entry.values.read(&user[at..]);
    } else if let Some(row) = line.strip_prefix(b"explain: ") {
        if entry.explain.len() < EXPLAIN_ROWS_MAX {
            entry.explain.push(row);
        }
    } else if let Some(command) = line.strip_prefix(b"administrator command: ") {
        entry.administration = Some(Scanner::new(command).until_or_end(b';'));
    } else {
        entry.values.read(line);
    }
}

/// `` use `db`; ``
fn used(line: &[u8]) -> Option<&[u8]> {
    let name = line.strip_prefix(b"use ")?.strip_suffix(b";")?.trim_ascii();
    Some(name.strip_prefix(b"`").and_then(|name| name.strip_suffix(b"`")).unwrap_or(name))
}

/// `SET timestamp=1553436105;`, `SET last_insert_id=1,insert_id=2,timestamp=1553436105;`
fn set_timestamp(line: &[u8]) -> Option<i64> {
    let settings = line.strip_prefix(b"SET ")?.strip_suffix(b";")?;
    settings
        .split(|&byte| byte == b',')
        .find_map(|setting| Scanner::new(setting.strip_prefix(b"timestamp=")?).number())
}

/// `root[root] @ localhost [127.0.0.1]`
fn write_user(text: &[u8], context: &Context, to: &mut Document) {
    let mut scanner = Scanner::new(text);
    let Some(user) = scanner.until(b'[') else { return };
    to.text_of("user.name", value(user.trim_ascii()));
    let Some(current) = scanner.until(b']') else { return };
    to.text_of("mysql.slowlog.current_user", value(current));
    if scanner.until_text(b"@ ").is_none() {
        return;
    }
    let Some(host) = scanner.until(b'[') else { return };
    to.text_of("source.domain", value(host.trim_ascii()));
    let ip = Scanner::new(scanner.rest).until_or_end(b']');
    if address::ip(ip).is_some() {
        address::source(to, ip, context.privacy);
    }
}

fn write_head(entry: &Entry, to: &mut Document) {
    let values = &entry.values;
    values.write(to);
    if let Some(thread) = values.number(THREAD).or(values.number(ID)) {
        to.long("mysql.thread_id", thread);
    }
    to.text_of("mysql.slowlog.schema", entry.schema.or(values.get(SCHEMA)));
    // Of so many queries only this one was written.
    to.long("mysql.slowlog.weight", values.number(RATE_LIMIT).unwrap_or(1).max(1));
    if let Some(examined) = values.number(ROWS_EXAMINED) {
        let sent = values.number(ROWS_SENT).unwrap_or(0).max(1);
        to.float("mysql.slowlog.examine_ratio", examined as f64 / sent as f64);
    }
    to.texts("mysql.slowlog.explain", entry.explain.iter().copied());
}

fn write_query(entry: &Entry, context: &Context, to: &mut Document) {
    if let Some(command) = entry.administration {
        to.text("mysql.slowlog.command", command.to_ascii_lowercase().as_slice());
        to.flag("mysql.slowlog.is_administration", true);
        return;
    }
    let query = entry.query.trim_ascii();
    if query.is_empty() {
        return;
    }
    let print = fingerprint::of(query);
    to.text(
        "mysql.slowlog.query",
        if context.privacy.mask_literals { print.text() } else { query },
    );
    to.text("mysql.slowlog.fingerprint", print.text());
    to.text("mysql.slowlog.digest", print.digest().as_bytes());
    to.text_of("mysql.slowlog.command", print.command());
    to.texts("mysql.slowlog.tables", print.tables.iter().map(Vec::as_slice));
}
