//! One line of an access log, by its compiled format.

use memchr::memchr;

use super::{AccessFormat, Escape, Field};
use crate::document::{Document, UnixNanos};
use crate::parse::scan::{Scanner, nanos, number, value};
use crate::parse::{Context, Unparsed, address, agent, request, stamp};

/// What cannot be written before all of the line is read.
#[derive(Default)]
struct Late<'a> {
    at: Option<UnixNanos>,
    address: Option<&'a [u8]>,
    forwarded: Option<&'a [u8]>,
    uri: Option<&'a [u8]>,
    arguments: Option<&'a [u8]>,
}

impl AccessFormat {
    /// Writes the fields of a line.
    #[inline]
    pub(in crate::parse) fn parse(
        &self,
        line: &[u8],
        context: &Context,
        to: &mut Document,
    ) -> Result<(), Unparsed> {
        let escape = if memchr(b'\\', line).is_some() { self.escape } else { Escape::None };
        let mut late = Late::default();
        let mut rest = self.begin(line, to)?;
        for piece in &self.pieces {
            let (text, behind) = take(&piece.field, &piece.literal, rest)?;
            rest = behind;
            if escape == Escape::None {
                write(&piece.field, text, context, to, &mut late)?;
            } else {
                write_unescaped(&piece.field, text, escape, context, to, &mut late)?;
            }
        }
        if self.is_guess {
            tail(rest, to, &mut late);
        } else if !rest.is_empty() {
            return Err(Unparsed("the line goes on behind what log_format says"));
        }
        late.write(context, to)
    }

    /// What is before the first value. Where the format is a guess, a host may be there.
    fn begin<'a>(&self, line: &'a [u8], to: &mut Document) -> Result<&'a [u8], Unparsed> {
        let rest = line
            .strip_prefix(&*self.leading)
            .ok_or(Unparsed("the line does not begin as log_format says"))?;
        if self.is_guess
            && let Some(space) = memchr(b' ', rest)
            && !rest[space..].starts_with(b" - ")
        {
            to.text("url.domain", &rest[..space]);
            return Ok(&rest[space + 1..]);
        }
        Ok(rest)
    }
}

/// The value of a field and what is behind the literal that ends it.
#[inline]
fn take<'a>(
    field: &Field,
    literal: &[u8],
    rest: &'a [u8],
) -> Result<(&'a [u8], &'a [u8]), Unparsed> {
    const MISSING: Unparsed = Unparsed("the line ends before log_format does");
    let Some(&first) = literal.first() else {
        return Ok(if field.is_told_from_next() {
            rest.split_at(field.length(rest))
        } else {
            (rest, &[])
        });
    };
    let mut from = 0;
    loop {
        let at = from + memchr(first, &rest[from..]).ok_or(MISSING)?;
        if let Some(behind) = rest[at..].strip_prefix(literal) {
            return Ok((&rest[..at], behind));
        }
        from = at + 1;
    }
}

/// As [`write`], of a value that the server may have escaped.
#[cold]
fn write_unescaped<'a>(
    field: &Field,
    text: &'a [u8],
    escape: Escape,
    context: &Context,
    to: &mut Document,
    late: &mut Late<'a>,
) -> Result<(), Unparsed> {
    let is_text = matches!(
        field,
        Field::RemoteUser
            | Field::Request
            | Field::Referrer
            | Field::Agent
            | Field::Host
            | Field::Other(_)
    );
    if !is_text || memchr(b'\\', text).is_none() {
        return write(field, text, context, to, late);
    }
    if *field == Field::Request && request::Request::read(text).is_none() {
        // The bytes of another protocol are of more use as the server shows them.
        to.text("nginx.access.request", text);
        return Ok(());
    }
    let mut room = Vec::new();
    unescape(text, escape, &mut room);
    write(field, &room, context, to, &mut Late::default())
}

/// Undoes what nginx does to a value.
fn unescape(text: &[u8], escape: Escape, room: &mut Vec<u8>) {
    let mut scanner = Scanner::new(text);
    while let Some(plain) = scanner.until(b'\\') {
        room.extend_from_slice(plain);
        let length = match escape {
            Escape::Default => hexadecimal(scanner.rest, room),
            Escape::Json => json_escape(scanner.rest, room),
            Escape::None => None,
        };
        match length {
            Some(length) => scanner.rest = &scanner.rest[length..],
            None => room.push(b'\\'),
        }
    }
    room.extend_from_slice(scanner.rest);
}

/// `xHH`; how long it is.
fn hexadecimal(text: &[u8], room: &mut Vec<u8>) -> Option<usize> {
    let digits = text.strip_prefix(b"x")?.get(..2)?;
    room.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
    Some(3)
}

/// `n`, `"`, `uHHHH`; how long it is.
fn json_escape(text: &[u8], room: &mut Vec<u8>) -> Option<usize> {
    let byte = match *text.first()? {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'b' => 8,
        b'f' => 12,
        byte @ (b'"' | b'\\' | b'/') => byte,
        b'u' => {
            let digits = std::str::from_utf8(text.get(1..5)?).ok()?;
            let character = char::from_u32(u32::from_str_radix(digits, 16).ok()?)?;
            room.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            return Some(5);
        }
        _ => return None,
    };
    room.push(byte);
    Some(1)
}

#[inline]
fn write<'a>(
    field: &Field,
    text: &'a [u8],
    context: &Context,
    to: &mut Document,
    late: &mut Late<'a>,
) -> Result<(), Unparsed> {
    const NO_TIME: Unparsed = Unparsed("the time is none");
    let privacy = context.privacy;
    let Some(text) = value(text) else { return Ok(()) };
    match field {
        Field::RemoteAddress => late.address = Some(text),
        Field::Forwarded => late.forwarded = Some(text),
        Field::RemoteUser => to.text("user.name", text),
        Field::TimeLocal => late.at = Some(stamp::clf(text).ok_or(NO_TIME)?.0),
        Field::TimeIso => late.at = Some(stamp::rfc3339(text).ok_or(NO_TIME)?.0),
        Field::TimeUnix => late.at = Some(stamp::unix(text).ok_or(NO_TIME)?),
        Field::Request => match request::Request::read(text) {
            Some(request) => request.write(to, privacy),
            None => to.text("nginx.access.request", text),
        },
        Field::Uri => late.uri = Some(text),
        Field::Arguments => late.arguments = Some(text),
        Field::Status => status(to, number(text).ok_or(Unparsed("the status is no number"))?),
        Field::Referrer if privacy.mask_query_strings => {
            request::masked(to, "http.request.referrer", text);
        }
        Field::Agent => agent::write(to, text),
        Field::Duration => duration(to, text),
        Field::UpstreamAddress => to.texts("nginx.access.upstream.address", list(text)),
        Field::UpstreamStatus => {
            to.longs("nginx.access.upstream.status", list(text).filter_map(number));
        }
        Field::UpstreamResponseTime => times(to, RESPONSE_TIME, text),
        Field::UpstreamHeaderTime => times(to, HEADER_TIME, text),
        Field::UpstreamConnectTime => times(to, CONNECT_TIME, text),
        Field::RequestId => request_id(to, text),
        Field::TlsProtocol => tls_protocol(to, text),
        Field::Other(key) => to.text(key, text),
        Field::Repeated => {}
        _ => plain(field, text, to),
    }
    Ok(())
}

/// Values that are stored as they are.
#[inline]
fn plain(field: &Field, text: &[u8], to: &mut Document) {
    let number_key = match field {
        Field::BodyBytes => "http.response.body.bytes",
        Field::BytesSent => "http.response.bytes",
        Field::RequestBytes => "http.request.bytes",
        Field::RemotePort => "source.port",
        Field::ServerPort => "destination.port",
        Field::Connection => "nginx.access.connection",
        Field::ConnectionRequests => "nginx.access.connection_requests",
        _ => {
            let key = match field {
                Field::Method => "http.request.method",
                Field::Protocol => {
                    let version = text.strip_prefix(b"HTTP/").unwrap_or(text);
                    return to.text("http.version", version);
                }
                Field::Referrer => "http.request.referrer",
                Field::Host => "url.domain",
                Field::ServerName => "destination.domain",
                Field::ServerAddress => "destination.address",
                Field::Scheme => "url.scheme",
                Field::CacheStatus => "nginx.access.cache_status",
                Field::TlsCipher => "tls.cipher",
                _ => unreachable!("{field:?} is written above"),
            };
            return to.text(key, text);
        }
    };
    if let Some(number) = number(text) {
        to.long(number_key, number);
    }
}

#[inline]
fn status(to: &mut Document, status: i64) {
    to.long("http.response.status_code", status);
    to.word("event.outcome", if status < 400 { "success" } else { "failure" });
}

#[inline]
fn duration(to: &mut Document, text: &[u8]) {
    if let Some(duration) = nanos(text) {
        to.long("event.duration", duration);
        to.long("nginx.access.response_time", duration / 1_000_000);
    }
}

fn request_id(to: &mut Document, text: &[u8]) {
    to.text("http.request.id", text);
    if text.len() == 32 && text.iter().all(u8::is_ascii_hexdigit) {
        to.text("trace.id", text);
    }
}

/// `TLSv1.3`
fn tls_protocol(to: &mut Document, text: &[u8]) {
    let Some(version) = text.strip_prefix(b"TLSv") else {
        return to.text("tls.version_protocol", text);
    };
    to.word("tls.version_protocol", "tls");
    to.text("tls.version", version);
}

/// The keys of a time that each upstream of a request took: the sum, and the list if it is one.
type TimeKeys = (&'static str, &'static str);
const RESPONSE_TIME: TimeKeys =
    ("nginx.access.upstream.response_time", "nginx.access.upstream.response_times");
const HEADER_TIME: TimeKeys =
    ("nginx.access.upstream.header_time", "nginx.access.upstream.header_times");
const CONNECT_TIME: TimeKeys =
    ("nginx.access.upstream.connect_time", "nginx.access.upstream.connect_times");

/// `0.010, 0.200 : -` in milliseconds.
#[inline]
fn times(to: &mut Document, (sum_key, list_key): TimeKeys, text: &[u8]) {
    if let Some(only) = nanos(text) {
        return to.long(sum_key, only / 1_000_000);
    }
    let millis = || list(text).filter_map(nanos).map(|nanos| nanos / 1_000_000);
    if millis().next().is_some() {
        to.long(sum_key, millis().fold(0, i64::saturating_add));
        to.longs(list_key, millis());
    }
}

/// The values of `a, b : c`: one for each server that was asked, groups of servers after a colon.
fn list(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|&byte| byte == b',').flat_map(|part| {
        let group = memchr::memmem::find(part, b" : ");
        let (first, second) = match group {
            Some(at) => (&part[..at], Some(&part[at + 3..])),
            None => (part, None),
        };
        [Some(first), second].into_iter().flatten().filter_map(|part| value(part.trim_ascii()))
    })
}

impl Late<'_> {
    #[inline]
    fn write(self, context: &Context, to: &mut Document) -> Result<(), Unparsed> {
        to.at(self.at.ok_or(Unparsed("log_format has no time"))?);
        self.write_source(context, to);
        if let Some(uri) = self.uri {
            self.write_url(uri, context, to);
        } else if let Some(arguments) = self.arguments {
            if context.privacy.mask_query_strings {
                to.word("url.query", "*");
            } else {
                to.text("url.query", arguments);
            }
        }
        Ok(())
    }

    /// The first public address that the request was forwarded for, if a proxy of the own net sent it.
    fn write_source(&self, context: &Context, to: &mut Document) {
        let privacy = context.privacy;
        let Some(forwarded) = self.forwarded else {
            if let Some(address) = self.address {
                address::source(to, address, privacy);
            }
            return;
        };
        let is_public = |text: &&[u8]| address::ip(text).is_some_and(address::is_public);
        let public = list(forwarded).find(is_public);
        let own = self.address.filter(|address| is_public(address));
        if let Some(source) = own.or(public).or(self.address).or_else(|| list(forwarded).next()) {
            address::source(to, source, privacy);
        }
        if privacy.truncate_addresses {
            let short: Vec<String> =
                list(forwarded).filter_map(address::ip).map(address::truncated).collect();
            to.texts("nginx.access.remote_ip_list", short.iter().map(String::as_bytes));
        } else {
            to.texts("nginx.access.remote_ip_list", list(forwarded));
        }
    }

    fn write_url(&self, uri: &[u8], context: &Context, to: &mut Document) {
        let Some(arguments) = self.arguments.filter(|_| memchr(b'?', uri).is_none()) else {
            return request::url(to, uri, context.privacy);
        };
        let url = [uri, b"?", arguments].concat();
        request::url(to, &url, context.privacy);
    }
}

/// What is often put behind `combined`: the list of X-Forwarded-For in quotes, `rt=0.1 urt="0.1"`.
fn tail<'a>(text: &'a [u8], to: &mut Document, late: &mut Late<'a>) {
    let mut scanner = Scanner::new(text);
    let mut seen = 0_u32;
    loop {
        scanner.blanks();
        if scanner.skip(b"\"") {
            let text = scanner.until_or_end(b'"');
            let first = list(text).next().unwrap_or_default();
            if late.forwarded.is_none() && address::ip(first).is_some() {
                late.forwarded = Some(text);
            }
            continue;
        }
        let word = scanner.take_while(|byte| byte != b' ' && byte != b'=');
        if !scanner.skip(b"=") {
            if word.is_empty() && scanner.rest.is_empty() {
                return;
            }
            continue;
        }
        let text = if scanner.skip(b"\"") { scanner.until_or_end(b'"') } else { scanner.word() };
        let Some(text) = value(text) else { continue };
        let (bit, write): (u32, fn(&mut Document, &[u8])) = match word {
            b"rt" => (1, duration),
            b"urt" => (2, |to, text| times(to, RESPONSE_TIME, text)),
            b"uht" => (4, |to, text| times(to, HEADER_TIME, text)),
            b"uct" => (8, |to, text| times(to, CONNECT_TIME, text)),
            b"rid" | b"id" => (16, request_id),
            b"cs" => (32, |to, text| to.text("nginx.access.cache_status", text)),
            _ => continue,
        };
        if seen & bit == 0 {
            write(to, text);
        }
        seen |= bit;
    }
}
