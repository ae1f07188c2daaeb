//! What PHP says: `error_log`, the log of `php-fpm`, its slow log and its access log.
//!
//! Source: `main/main.c`, `fpm/zlog.c`, `fpm_request.c`, `fpm_php_trace.c`, `fpm_log.c` of PHP 7.4 to 8.4.

use std::str::FromStr as _;

use chrono_tz::Tz;
use memchr::{memchr, memmem, memrchr};

use crate::document::Document;

use super::scan::{Scanner, nanos, number, value};
use super::{Context, Joint, Unparsed, address, request, stamp, start_if};

const NO_TIME: Unparsed = Unparsed("no time of PHP at the beginning");
/// Before what a worker writes to its standard error.
const SAID: &[u8] = b" said into stderr: \"";

/// `[23-Nov-2026 13:19:32 Europe/Berlin] `: writes `@timestamp`, gives what follows.
fn time<'a>(text: &'a [u8], context: &Context, to: &mut Document) -> Result<&'a [u8], Unparsed> {
    let inside = text.strip_prefix(b"[").ok_or(NO_TIME)?;
    let (wall, rest) = stamp::php(inside).ok_or(NO_TIME)?;
    let mut scanner = Scanner::new(rest);
    let zone = scanner.until(b']').ok_or(NO_TIME)?.trim_ascii();
    let zone = std::str::from_utf8(zone).ok().and_then(|zone| Tz::from_str(zone).ok());
    let at = match zone {
        Some(zone) => wall.local(&Context { zone, ..context.clone() }, to),
        None => wall.local(context, to),
    };
    to.at(at);
    scanner.blanks();
    Ok(scanner.rest)
}

fn has_time(line: &[u8]) -> bool {
    line.strip_prefix(b"[").is_some_and(|inside| stamp::php(inside).is_some())
}

/// `error_log`: a line without a time goes on with the entry before it.
pub(super) fn error_joint(line: &[u8]) -> Joint {
    start_if(has_time(line))
}

/// An entry of `error_log`.
pub(super) fn error(entry: &[u8], context: &Context, to: &mut Document) -> Result<(), Unparsed> {
    let text = time(entry, context, to)?;
    to.text("message", first_line(text));
    message(text, to);
    Ok(())
}

fn first_line(text: &[u8]) -> &[u8] {
    &text[..memchr(b'\n', text).unwrap_or(text.len())]
}

/// `PHP Fatal error:  Uncaught Error: text in /file:1` with the stack behind it.
pub(super) fn message(text: &[u8], to: &mut Document) {
    const LEVELS: &[(&[u8], &str)] = &[
        (b"Fatal error", "error"),
        (b"Parse error", "error"),
        (b"Recoverable fatal error", "error"),
        (b"Core error", "error"),
        (b"Compile error", "error"),
        (b"Warning", "warning"),
        (b"Notice", "notice"),
        (b"Deprecated", "notice"),
    ];
    let Some(rest) = text.strip_prefix(b"PHP ") else { return };
    let level = LEVELS
        .iter()
        .find(|(name, _)| rest.starts_with(name) && rest[name.len()..].starts_with(b":"));
    let Some(&(name, level)) = level else { return };
    to.word("log.level", level);
    let body = rest[name.len() + 1..].trim_ascii_start();
    let stack = memmem::find(body, b"\nStack trace:");
    let first = &body[..stack.unwrap_or(body.len())];
    let uncaught = first.strip_prefix(b"Uncaught ");
    let class = uncaught.map(|text| Scanner::new(text).until_or_end(b':'));
    to.text("error.type", class.filter(|class| !class.is_empty()).unwrap_or(name));
    let (what, place) = split_place(uncaught.unwrap_or(first));
    let what = match class {
        Some(class) => what.get(class.len()..).unwrap_or(what).trim_prefix_colon(),
        None => what,
    };
    to.text("error.message", what);
    if let Some((file, line)) = place {
        to.text("log.origin.file.name", file);
        to.long("log.origin.file.line", line);
    }
    if let Some(stack) = stack {
        to.text("error.stack_trace", &body[stack + 1..]);
    }
    wordpress(body, to);
}

trait TrimColon {
    fn trim_prefix_colon(&self) -> &Self;
}

impl TrimColon for [u8] {
    fn trim_prefix_colon(&self) -> &Self {
        self.strip_prefix(b": ").unwrap_or(self)
    }
}

/// A file and a line in it.
type Place<'a> = Option<(&'a [u8], i64)>;

/// `text in /file:1` and `text in /file on line 1`
fn split_place(text: &[u8]) -> (&[u8], Place<'_>) {
    let Some(at) = memmem::rfind(text, b" in ") else { return (text, None) };
    let place = &text[at + 4..];
    let split = match memmem::rfind(place, b" on line ") {
        Some(line) => Some((&place[..line], &place[line + 9..])),
        None => memrchr(b':', place).map(|colon| (&place[..colon], &place[colon + 1..])),
    };
    match split.and_then(|(file, line)| Some((file, number(line.trim_ascii())?))) {
        Some(place) => (&text[..at], Some(place)),
        None => (text, None),
    }
}

/// The plugin or theme of WordPress that the first path in a text is of.
fn wordpress(text: &[u8], to: &mut Document) {
    for (mark, key) in [
        (&b"/wp-content/plugins/"[..], "wordpress.plugin"),
        (b"/wp-content/mu-plugins/", "wordpress.mu_plugin"),
        (b"/wp-content/themes/", "wordpress.theme"),
    ] {
        let Some(at) = memmem::find(text, mark) else { continue };
        let mut scanner = Scanner::new(&text[at + mark.len()..]);
        let is_name = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        let name = scanner.take_while(is_name);
        let name = name.strip_suffix(b".php").unwrap_or(name);
        if !name.is_empty() {
            to.text(key, name);
        }
    }
}

/// The log of `php-fpm`: the stack that a worker writes line by line belongs to its error.
pub(super) fn fpm_joint(line: &[u8], open: &[u8]) -> Joint {
    let said = |line: &[u8]| memmem::find(line, SAID).map(|at| at + SAID.len());
    if let (Some(at), Some(_)) = (said(line), said(open)) {
        let text = &line[at..];
        let is_frame = text.starts_with(b"#") && text.get(1).is_some_and(u8::is_ascii_digit);
        if is_frame || text.starts_with(b"Stack trace:") || text.starts_with(b"  thrown in") {
            return Joint::Continue;
        }
    }
    start_if(has_time(line))
}

/// An entry of the log of `php-fpm`.
pub(super) fn fpm(entry: &[u8], context: &Context, to: &mut Document) -> Result<(), Unparsed> {
    let text = time(entry, context, to)?;
    let mut scanner = Scanner::new(text);
    let level = scanner.until_text(b": ").ok_or(Unparsed("no level behind the time"))?;
    let level = match level {
        b"DEBUG" => "debug",
        b"NOTICE" => "notice",
        b"WARNING" => "warning",
        b"ERROR" => "error",
        b"ALERT" => "alert",
        _ => return Err(Unparsed("a level that php-fpm does not have")),
    };
    if let Some(at) = memmem::find(scanner.rest, SAID) {
        write_said(&scanner.rest[..at], &scanner.rest[at + SAID.len()..], level, to);
        return Ok(());
    }
    to.word("log.level", level);
    if scanner.skip(b"[pool ") {
        to.text_of("php_fpm.pool", scanner.until(b']'));
        scanner.blanks();
    }
    to.text("message", scanner.rest);
    if let Some(pid) = memmem::find(scanner.rest, b"child ")
        .and_then(|at| Scanner::new(&scanner.rest[at + 6..]).number())
    {
        to.long("process.pid", pid);
    }
    let has = |mark: &[u8]| memmem::find(scanner.rest, mark).is_some();
    if let Some(event) = FPM_EVENTS.iter().find(|(mark, _)| has(mark)).map(|&(_, event)| event) {
        to.word("php_fpm.event", event);
        to.word("event.action", event);
    }
    slow_script(scanner.rest, context, to);
    Ok(())
}

const FPM_EVENTS: &[(&[u8], &str)] = &[
    (b"executing too slow", "slow_request"),
    (b"execution timed out", "request_timeout"),
    (b"max_children setting", "max_children"),
    (b"exited on signal", "child_crashed"),
    (b"exited with code", "child_exited"),
    (b"seems busy", "pool_busy"),
    (b"fpm is running", "started"),
    (b"ready to handle connections", "ready"),
    (b"Terminating", "stopping"),
    (b"bye-bye", "stopped"),
    (b"Reloading in progress", "reloading"),
    (b"finished trace", "traced"),
];

/// `script '/x.php' (request: "GET /x.php") executing too slow (1.245689 sec), logging`
fn slow_script(text: &[u8], context: &Context, to: &mut Document) {
    let mut scanner = Scanner::new(text);
    if scanner.until_text(b", script '").is_none() {
        return;
    }
    to.text_of("file.path", scanner.until(b'\''));
    if scanner.until_text(b"(request: \"").is_some()
        && let Some(line) = scanner.until(b'"')
        && let Some(request) = request::Request::read(line)
    {
        request.write(to, context.privacy);
    }
    if scanner.until_text(b" (").is_some()
        && let Some(duration) = scanner.until(b' ').and_then(nanos)
    {
        to.long("event.duration", duration);
    }
}

/// What a worker wrote, its lines joined again.
fn write_said(head: &[u8], text: &[u8], level: &str, to: &mut Document) {
    let mut scanner = Scanner::new(head);
    if scanner.skip(b"[pool ") {
        to.text_of("php_fpm.pool", scanner.until(b']'));
    }
    if scanner.until_text(b"child ").is_some()
        && let Some(pid) = scanner.number()
    {
        to.long("process.pid", pid);
    }
    let mut room = std::mem::take(&mut to.room);
    for (index, line) in text.split(|&byte| byte == b'\n').enumerate() {
        let line = if index == 0 {
            line
        } else {
            room.push(b'\n');
            memmem::find(line, SAID).map_or(line, |at| &line[at + SAID.len()..])
        };
        room.extend_from_slice(line.strip_suffix(b"\"").unwrap_or(line));
    }
    let text = room.strip_prefix(b"NOTICE: PHP message: ").unwrap_or(&room);
    to.text("message", first_line(text));
    let mark = to.mark();
    message(text, to);
    if to.mark() == mark {
        to.word("log.level", level);
    }
    to.word("php_fpm.event", "stderr");
    room.clear();
    to.room = room;
}

/// The slow log: a blank line, a head, the script, the frames.
pub(super) fn slow_joint(line: &[u8], open: &[u8]) -> Joint {
    start_if(has_time(line) && !open.trim_ascii().is_empty())
}

/// An entry of the slow log.
pub(super) fn slow(entry: &[u8], context: &Context, to: &mut Document) -> Result<(), Unparsed> {
    let text = time(entry.trim_ascii(), context, to)?;
    let mut scanner = Scanner::new(text);
    scanner.literal(b"[pool ").ok_or(Unparsed("no `[pool ..]` behind the time"))?;
    to.text_of("php_fpm.pool", scanner.until(b']'));
    if scanner.until_text(b"pid ").is_some()
        && let Some(pid) = scanner.number()
    {
        to.long("process.pid", pid);
    }
    scanner.until(b'\n');
    if scanner.skip(b"script_filename = ") {
        to.text("file.path", scanner.until_or_end(b'\n'));
    }
    let stack = scanner.rest;
    if stack.is_empty() {
        return Ok(());
    }
    to.text("error.stack_trace", stack);
    let mut top = Scanner::new(stack);
    if top.until_text(b"] ").is_some() {
        let function = top.take_while(|byte| !matches!(byte, b' ' | b'\n'));
        to.text("php_fpm.slow.function", function);
        top.blanks();
        let place = top.until_or_end(b'\n');
        if let Some(colon) = memrchr(b':', place)
            && let Some(line) = number(&place[colon + 1..])
        {
            to.text("log.origin.file.name", &place[..colon]);
            to.long("log.origin.file.line", line);
        }
    }
    wordpress(stack, to);
    Ok(())
}

/// `10.0.0.1 - user 23/Nov/2026:13:19:31 +0000 "GET /x.php" 500 /srv/x.php 1.119 2048 0.00%`: what is
/// behind the status is there with the format that Debian suggests.
pub(super) fn access(line: &[u8], context: &Context, to: &mut Document) -> Result<(), Unparsed> {
    const UNLIKE: Unparsed = Unparsed("the line is not of the access log of php-fpm");
    let mut scanner = Scanner::new(line);
    if let Some(source) = value(scanner.until_text(b" - ").ok_or(UNLIKE)?) {
        address::source(to, source, context.privacy);
    }
    to.text_of("user.name", value(scanner.until(b' ').ok_or(UNLIKE)?));
    scanner.skip(b"[");
    let (at, rest) = stamp::clf(scanner.rest).ok_or(UNLIKE)?;
    to.at(at);
    scanner.rest = rest.strip_prefix(b"]").unwrap_or(rest);
    scanner.literal(b" \"").ok_or(UNLIKE)?;
    let request = scanner.until(b'"').ok_or(UNLIKE)?;
    request::Request::read(request).ok_or(UNLIKE)?.write(to, context.privacy);
    scanner.blanks();
    let status = scanner.number().ok_or(UNLIKE)?;
    to.long("http.response.status_code", status);
    to.word("event.outcome", if status < 400 { "success" } else { "failure" });
    scanner.blanks();
    to.text_of("file.path", value(scanner.word()));
    if let Some(duration) = nanos(scanner.word()) {
        // Milliseconds with a fraction.
        to.long("event.duration", duration / 1000);
    }
    if let Some(kilobytes) = number(scanner.word()) {
        to.long("php_fpm.memory.bytes", kilobytes.saturating_mul(1024));
    }
    let share = scanner.word();
    to.decimal("php_fpm.cpu.pct", share.strip_suffix(b"%").unwrap_or(share));
    Ok(())
}
