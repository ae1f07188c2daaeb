//! One line of a request or connection, by its compiled format.

use memchr::{memchr, memrchr};

use super::LogFormat;
use super::fields::{Element, Field};
use crate::document::Document;
use crate::parse::scan::{number, value};
use crate::parse::{Context, address, agent, request, stamp};

impl LogFormat {
    /// Writes the fields of a line; `None` if it is not of this format.
    pub(super) fn parse(&self, line: &[u8], context: &Context, to: &mut Document) -> Option<()> {
        let mut rest = line;
        let mut has_time = false;
        for element in &self.elements {
            if element.field == Field::Begin {
                rest = rest.strip_prefix(&*element.literal)?;
                continue;
            }
            let is_headers =
                matches!(element.field, Field::RequestHeaders | Field::ResponseHeaders);
            if is_headers && !rest.starts_with(b"{") {
                // Nothing is captured: HAProxy leaves out the value and the blank behind it.
                let literal = element.literal.strip_prefix(b" ").unwrap_or(&element.literal);
                rest = rest.strip_prefix(literal)?;
                continue;
            }
            let (text, behind) = take(element, rest).or_else(|| cut_off(element, rest, to))?;
            rest = behind;
            has_time |= matches!(element.field, Field::Time | Field::TimeZoned | Field::TimeUnix);
            write(&element.field, text, context, to)?;
        }
        if !has_time {
            to.at(context.read_at);
        }
        rest.is_empty().then_some(())
    }
}

#[inline]
fn take<'a>(element: &Element, rest: &'a [u8]) -> Option<(&'a [u8], &'a [u8])> {
    let literal = &*element.literal;
    let Some(&first) = literal.first() else { return Some((rest, &[])) };
    if element.field == Field::ClientAddress && first == b':' {
        // An address may hold colons; the port is behind the last.
        let end = memchr(b' ', rest).unwrap_or(rest.len());
        let colon = memrchr(b':', &rest[..end])?;
        return Some((&rest[..colon], rest[colon..].strip_prefix(literal)?));
    }
    let mut from = 0;
    loop {
        let at = from + memchr(first, &rest[from..])?;
        if let Some(behind) = rest[at..].strip_prefix(literal) {
            return Some((&rest[..at], behind));
        }
        from = at + 1;
    }
}

/// A request line without its quote at the end: syslog cut the message.
fn cut_off<'a>(
    element: &Element,
    rest: &'a [u8],
    to: &mut Document,
) -> Option<(&'a [u8], &'a [u8])> {
    if element.field != Field::Request || *element.literal != *b"\"" {
        return None;
    }
    to.flag("haproxy.is_cut", true);
    Some((rest, &[]))
}

/// `None` if the text is not what the field holds. `-` and `-1`, "never got there", are no values.
fn write(field: &Field, text: &[u8], context: &Context, to: &mut Document) -> Option<()> {
    match field {
        Field::Time => {
            let (wall, rest) = stamp::slashed_month(text)?;
            let at = wall.local(context, to);
            to.at(at);
            return rest.is_empty().then_some(());
        }
        Field::TimeZoned => to.at(stamp::clf(text)?.0),
        Field::TimeUnix => to.at(stamp::unix(text)?),
        Field::ClientAddress => address::source(to, text, context.privacy),
        Field::Long(key) => long(to, key, text)?,
        Field::ClientPort => {
            if let Some(port) = number(text).filter(|port| (1..=65_535).contains(port)) {
                to.long("source.port", port);
            }
        }
        Field::FrontendTls => {
            let name = text.strip_suffix(b"~");
            to.text("haproxy.frontend_name", name.unwrap_or(text));
            if name.is_some() {
                to.flag("tls.established", true);
            }
        }
        Field::Duration => duration(to, text)?,
        Field::Status => status(to, text)?,
        Field::Bytes => {
            let bytes = number(text.strip_prefix(b"+").unwrap_or(text))?;
            to.long("http.response.bytes", bytes);
            to.long("haproxy.bytes_read", bytes);
        }
        Field::Retries => {
            let redispatched = text.strip_prefix(b"+");
            long(to, "haproxy.connections.retries", redispatched.unwrap_or(text))?;
            if redispatched.is_some() {
                to.flag("haproxy.connections.redispatched", true);
            }
        }
        Field::Termination => {
            if !(2..=4).contains(&text.len()) {
                return None;
            }
            to.text("haproxy.termination_state", text);
        }
        Field::Request => request_line(to, text, context),
        Field::Ignored | Field::Begin => {}
        _ => write_text(field, text, context, to),
    }
    Some(())
}

/// Fields whose value is any text.
fn write_text(field: &Field, text: &[u8], context: &Context, to: &mut Document) {
    let Some(text) = value(text) else { return };
    match field {
        Field::Frontend => to.text("haproxy.frontend_name", text),
        Field::RequestHeaders => headers(to, "haproxy.http.request.captured_headers", text),
        Field::ResponseHeaders => headers(to, "haproxy.http.response.captured_headers", text),
        Field::Uri => request::url(to, text, context.privacy),
        Field::Version => to.text("http.version", text.strip_prefix(b"HTTP/").unwrap_or(text)),
        Field::Hexadecimal(key) => {
            let digits = text.strip_prefix(b"0x").unwrap_or(text);
            let number = std::str::from_utf8(digits)
                .ok()
                .and_then(|text| i64::from_str_radix(text, 16).ok());
            if let Some(number) = number {
                to.long(key, number);
            }
        }
        Field::Flag(key) => to.flag(key, text == b"1"),
        Field::TlsVersion => match text.strip_prefix(b"TLSv") {
            Some(version) => {
                to.word("tls.version_protocol", "tls");
                to.text("tls.version", version);
            }
            None => to.text("tls.version_protocol", text),
        },
        Field::Text("user_agent.original") => agent::write(to, text),
        Field::Text("url.query") => {
            let query = text.strip_prefix(b"?").unwrap_or(text);
            if context.privacy.mask_query_strings {
                to.word("url.query", "*");
            } else {
                to.text("url.query", query);
            }
        }
        Field::Text("http.request.referrer") if context.privacy.mask_query_strings => {
            request::masked(to, "http.request.referrer", text);
        }
        Field::Text(key) => to.text(key, text),
        Field::Other(key) => to.text(key, text),
        _ => {}
    }
}

/// A whole number; a negative one and `-` are no value.
fn long(to: &mut Document, key: &str, text: &[u8]) -> Option<()> {
    match text {
        [] | [b'-'] => {}
        [b'-', digits @ ..] => {
            number(digits)?;
        }
        text => to.long(key, number(text.strip_prefix(b"+").unwrap_or(text))?),
    }
    Some(())
}

fn duration(to: &mut Document, text: &[u8]) -> Option<()> {
    let text = text.strip_prefix(b"+").unwrap_or(text);
    if let Some(digits) = text.strip_prefix(b"-") {
        number(digits)?;
        return Some(());
    }
    to.long("event.duration", number(text)?.checked_mul(1_000_000)?);
    Some(())
}

fn status(to: &mut Document, text: &[u8]) -> Option<()> {
    if let Some(digits) = text.strip_prefix(b"-") {
        number(digits)?;
        to.word("event.outcome", "failure");
        return Some(());
    }
    let status = number(text)?;
    to.long("http.response.status_code", status);
    to.word("event.outcome", if status < 400 { "success" } else { "failure" });
    Some(())
}

fn request_line(to: &mut Document, text: &[u8], context: &Context) {
    match request::Request::read(text) {
        Some(request) => request.write(to, context.privacy),
        None => to.text("haproxy.http.request.raw_request_line", text),
    }
}

/// `{a|b}`
fn headers(to: &mut Document, key: &str, text: &[u8]) {
    let inside = text.strip_prefix(b"{").unwrap_or(text);
    let inside = inside.strip_suffix(b"}").unwrap_or(inside);
    to.texts(key, inside.split(|&byte| byte == b'|').filter(|header| !header.is_empty()));
}
