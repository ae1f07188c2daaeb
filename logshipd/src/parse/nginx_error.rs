//! nginx's error log.
//!
//! `2026/11/23 13:19:31 [error] 2099#2099: *8 message, client: .., server: .., request: "..", ..`
//! The message may hold commas and newlines of its own, so the tail is taken from the right, by the keys
//! that nginx writes (`ngx_http_request.c`, `ngx_log.c` of nginx 1.22 to 1.29). A line is cut at 2048
//! bytes; what is cut off is not there.

use memchr::memmem;

use crate::document::Document;

use super::scan::{Scanner, value};
use super::{Context, Unparsed, address, request, stamp};

/// The keys of the tail, in the order in which nginx writes them.
const KEYS: [&[u8]; 8] = [
    b", client: ",
    b", server: ",
    b", request: ",
    b", subrequest: ",
    b", upstream: ",
    b", host: ",
    b", referrer: ",
    b", login: ",
];
const CLIENT: usize = 0;
const SERVER: usize = 1;
const REQUEST: usize = 2;
const UPSTREAM: usize = 4;
const HOST: usize = 5;
const REFERRER: usize = 6;

/// Writes the fields of an entry.
pub(super) fn parse(entry: &[u8], context: &Context, to: &mut Document) -> Result<(), Unparsed> {
    let (wall, rest) =
        stamp::slashed(entry).ok_or(Unparsed("no time of nginx at the beginning"))?;
    let at = wall.local(context, to);
    to.at(at);
    let mut scanner = Scanner::new(rest);
    header(&mut scanner, to).ok_or(Unparsed("no `[level] pid#tid: ` behind the time"))?;
    let (message, tail) = split(scanner.rest);
    to.text("message", message);
    error_code(message, to);
    if let Some(kind) = kind(message) {
        to.word("nginx.error.kind", kind);
    }
    limits(message, to);
    write_tail(&tail, context, to);
    Ok(())
}

fn header(scanner: &mut Scanner, to: &mut Document) -> Option<()> {
    scanner.literal(b" [")?;
    let level = scanner.until(b']')?;
    if level.len() > 8 || !level.iter().all(u8::is_ascii_lowercase) {
        return None;
    }
    to.text("log.level", level);
    scanner.literal(b" ")?;
    to.long("process.pid", scanner.number()?);
    scanner.literal(b"#")?;
    to.long("process.thread.id", scanner.number()?);
    scanner.literal(b": ")?;
    let mut behind = *scanner;
    if behind.skip(b"*")
        && let Some(connection) = behind.number()
        && behind.skip(b" ")
    {
        to.long("nginx.error.connection_id", connection);
        *scanner = behind;
    }
    Some(())
}

/// The message, and the values of the keys behind it.
fn split(text: &[u8]) -> (&[u8], [Option<&[u8]>; KEYS.len()]) {
    let mut values = [None; KEYS.len()];
    // The tail begins at the last `, client: `; a line without it has no tail that could be told from text.
    let Some(begin) = memmem::rfind(text, KEYS[CLIENT]) else {
        return match memmem::rfind(text, b", upstream: \"") {
            Some(at) => {
                values[UPSTREAM] = Some(&text[at + KEYS[UPSTREAM].len()..]);
                (&text[..at], values)
            }
            None => (text, values),
        };
    };
    let mut rest = &text[begin..];
    for index in (0..KEYS.len()).rev() {
        if let Some(at) = memmem::rfind(rest, KEYS[index]) {
            values[index] = Some(&rest[at + KEYS[index].len()..]);
            rest = &rest[..at];
        }
    }
    (&text[..begin], values)
}

fn write_tail(values: &[Option<&[u8]>; KEYS.len()], context: &Context, to: &mut Document) {
    let of = |index: usize| values[index].map(unquoted).and_then(value);
    if let Some(client) = of(CLIENT) {
        address::source(to, client, context.privacy);
    }
    to.text_of("nginx.error.server", of(SERVER));
    if let Some(line) = of(REQUEST) {
        match request::Request::read(line) {
            Some(request) => request.write(to, context.privacy),
            None => to.text("nginx.error.request", line),
        }
    }
    let url = |to: &mut Document, key: &str, url: Option<&[u8]>| match url {
        Some(url) if context.privacy.mask_query_strings => request::masked(to, key, url),
        url => to.text_of(key, url),
    };
    url(to, "nginx.error.upstream", of(UPSTREAM));
    to.text_of("url.domain", of(HOST));
    url(to, "http.request.referrer", of(REFERRER));
}

fn unquoted(text: &[u8]) -> &[u8] {
    let text = text.strip_prefix(b"\"").unwrap_or(text);
    text.strip_suffix(b"\"").unwrap_or(text)
}

/// `(13: Permission denied)`: the last one that begins with a number.
fn error_code(message: &[u8], to: &mut Document) {
    let mut rest = message;
    while let Some(at) = memchr::memrchr(b'(', rest) {
        let mut scanner = Scanner::new(&message[at + 1..]);
        if let Some(code) = scanner.number()
            && scanner.skip(b": ")
            && let Some(text) = scanner.until(b')')
        {
            to.text("error.code", itoa::Buffer::new().format(code).as_bytes());
            to.text("error.message", text);
            return;
        }
        rest = &rest[..at];
        if message.len() - rest.len() > 512 {
            return;
        }
    }
}

/// What went wrong, of the few that operators look for.
fn kind(message: &[u8]) -> Option<&'static str> {
    const KINDS: &[(&[u8], &str)] = &[
        (b"PHP message: ", "php_message"),
        (b"upstream timed out", "upstream_timeout"),
        (b"Connection refused) while connecting to upstream", "upstream_refused"),
        (b"no live upstreams", "no_live_upstreams"),
        (b"limiting requests", "limit_req"),
        (b"delaying request", "limit_req"),
        (b"limiting connections", "limit_conn"),
        (b"upstream prematurely closed", "upstream_closed"),
        (b"reset by peer) while reading response header from upstream", "upstream_closed"),
        (b"client intended to send too large", "body_too_large"),
        (b"Permission denied)", "permission_denied"),
        (b"No such file or directory)", "file_missing"),
        (b" is not found", "file_missing"),
        (b"Primary script unknown", "file_missing"),
        (b"directory index of", "directory_forbidden"),
        (b"access forbidden by rule", "access_forbidden"),
        (b"SSL_", "ssl"),
        (b"Too many open files)", "too_many_files"),
        (b"worker_connections are not enough", "too_few_connections"),
    ];
    KINDS.iter().find(|(mark, _)| memmem::find(message, mark).is_some()).map(|&(_, kind)| kind)
}

/// `limiting requests, excess: 5.990 by zone "one"`
fn limits(message: &[u8], to: &mut Document) {
    if !message.starts_with(b"limiting ") && !message.starts_with(b"delaying ") {
        return;
    }
    let mut scanner = Scanner::new(message);
    if scanner.until_text(b"excess: ").is_some() {
        to.decimal("nginx.error.excess", scanner.word());
    }
    if scanner.until_text(b"by zone \"").is_some() || scanner.until_text(b"zone \"").is_some() {
        to.text_of("nginx.error.zone", scanner.until(b'"'));
    }
}
