//! What HAProxy says of servers, backends, failed connections and itself.
//!
//! `[WARNING]  (66) : ` stands before a message on the process's own output; the same message by syslog
//! has no such head. Times of these lines are those of syslog; without it, of the reading.

use memchr::memmem;

use crate::document::Document;
use crate::parse::scan::{Scanner, number};
use crate::parse::{Context, Unparsed, address, stamp};

/// `Server web/web1 is DOWN, reason: ..`, `backend x has no server available!`, `Proxy x started.`
pub(super) fn parse(message: &[u8], context: &Context, to: &mut Document) -> Option<()> {
    let (level, text) = head(message);
    if let Some(level) = level {
        to.word("log.level", level);
    }
    if server(text, to).is_none() && other_state(text, to).is_none() && level.is_none() {
        return None;
    }
    to.at(context.read_at);
    to.text("message", text);
    Some(())
}

/// `[WARNING]  (66) : text`
fn head(message: &[u8]) -> (Option<&'static str>, &[u8]) {
    let mut scanner = Scanner::new(message);
    let level = match scanner.literal(b"[").and_then(|()| scanner.until(b']')) {
        Some(b"NOTICE") => "notice",
        Some(b"WARNING") => "warning",
        Some(b"ALERT") => "alert",
        Some(b"DIAG") => "debug",
        _ => return (None, message),
    };
    match scanner.until_text(b" : ") {
        Some(_) => (Some(level), scanner.rest),
        None => (None, message),
    }
}

/// `[Backup ]Server b/s is UP|DOWN|.., reason: .., info: "..", check duration: 5ms. 1 active and 0 ..`
fn server(text: &[u8], to: &mut Document) -> Option<()> {
    let mut scanner = Scanner::new(text);
    let is_backup = scanner.skip(b"Backup ");
    scanner.literal(b"Server ")?;
    let backend = scanner.until(b'/')?;
    let server = scanner.until_text(b" is ")?;
    let state = scanner.take_while(|byte| !matches!(byte, b',' | b'.' | b'('));
    to.text("haproxy.backend_name", backend);
    to.text("haproxy.server_name", server);
    to.flag("haproxy.state.is_backup", is_backup);
    let event = match trimmed(state) {
        b"UP" => "server_up",
        b"DOWN" => "server_down",
        state if memmem::find(state, b"aintenance").is_some() => "server_maintenance",
        state if memmem::find(state, b"drain").is_some() => "server_drain",
        state if state.starts_with(b"UP") => "server_up",
        state if state.starts_with(b"DOWN") => "server_down",
        _ => "server_state",
    };
    to.word("event.action", event);
    to.text("haproxy.state.event", trimmed(state));
    details(scanner.rest, to);
    counts(scanner.rest, to);
    Some(())
}

fn trimmed(text: &[u8]) -> &[u8] {
    text.trim_ascii()
}

fn details(text: &[u8], to: &mut Document) {
    let behind = |mark: &[u8]| memmem::find(text, mark).map(|at| &text[at + mark.len()..]);
    if let Some(reason) = behind(b"reason: ") {
        to.text("haproxy.state.reason", Scanner::new(reason).until_or_end(b','));
    }
    if let Some(code) = behind(b", code: ").and_then(|text| Scanner::new(text).number()) {
        to.long("haproxy.state.code", code);
    }
    if let Some(info) = behind(b", info: \"") {
        to.text("haproxy.state.info", Scanner::new(info).until_or_end(b'"'));
    }
    if let Some(millis) = behind(b"check duration: ").and_then(|text| Scanner::new(text).number()) {
        to.long("haproxy.state.check_duration", millis);
    }
}

/// `1 active and 0 backup servers left. 3 sessions active, 2 requeued, 0 remaining in queue.`
fn counts(text: &[u8], to: &mut Document) {
    const COUNTS: &[(&[u8], &str)] = &[
        (b" active and ", "haproxy.state.active"),
        (b" backup servers ", "haproxy.state.backup"),
        (b" sessions active", "haproxy.state.sessions"),
        (b" requeued", "haproxy.state.requeued"),
        (b" remaining in queue", "haproxy.state.queued"),
        (b" total in queue", "haproxy.state.queued"),
    ];
    let mut seen = "";
    for &(mark, key) in COUNTS {
        let Some(at) = memmem::find(text, mark) else { continue };
        let before = &text[..at];
        let before = before.strip_suffix(b" sessions").unwrap_or(before);
        let from = before.iter().rposition(|byte| !byte.is_ascii_digit()).map_or(0, |at| at + 1);
        if let Some(count) = number(&before[from..])
            && key != seen
        {
            to.long(key, count);
            seen = key;
        }
    }
}

fn other_state(text: &[u8], to: &mut Document) -> Option<()> {
    let mut scanner = Scanner::new(text);
    if scanner.skip(b"backend ") || scanner.skip(b"Backend ") {
        to.text("haproxy.backend_name", scanner.until_text(b" has no server available!")?);
        to.word("event.action", "backend_down");
    } else if scanner.skip(b"Proxy ") {
        to.text("haproxy.proxy_name", scanner.until(b' ')?);
        let is_start = scanner.rest.starts_with(b"started");
        to.word("event.action", if is_start { "proxy_started" } else { "proxy_stopped" });
    } else if scanner.skip(b"Connect from ") {
        let peers = scanner.until_text(b" (")?;
        let mut peers = Scanner::new(peers);
        let (source, port) = address::with_port(peers.until_text(b" to ")?)?;
        to.text("source.address", source);
        if let Some(port) = port {
            to.long("source.port", port);
        }
        if let Some((target, port)) = address::with_port(peers.rest) {
            to.text("destination.address", target);
            if let Some(port) = port {
                to.long("destination.port", port);
            }
        }
        to.text("haproxy.frontend_name", scanner.until(b'/')?);
        to.text("haproxy.mode", scanner.until_or_end(b')'));
    } else {
        let action = match text {
            _ if text.starts_with(b"New worker") => "worker_started",
            _ if text.starts_with(b"Current worker") => "worker_exited",
            _ if text.starts_with(b"Exiting Master") => "master_exited",
            _ if text.starts_with(b"Loading success") => "started",
            _ if text.starts_with(b"Reexecuting Master") => "reloaded",
            _ => return None,
        };
        to.word("event.action", action);
    }
    Some(())
}

/// `127.0.0.1:56059 [03/Dec/2012:17:35:10.380] frt/f1: Connection error during SSL handshake`
pub(super) fn connection_error(message: &[u8], context: &Context, to: &mut Document) -> Option<()> {
    let mut scanner = Scanner::new(message);
    let (source, port) = address::with_port(scanner.until_text(b" [")?)?;
    let (wall, rest) = stamp::slashed_month(scanner.until(b']')?)?;
    if !rest.is_empty() {
        return None;
    }
    scanner.literal(b" ")?;
    let frontend = scanner.until(b'/')?;
    let bind = scanner.until_text(b": ")?;
    let at = wall.local(context, to);
    to.at(at);
    address::source(to, source, context.privacy);
    if let Some(port) = port {
        to.long("source.port", port);
    }
    to.text("haproxy.frontend_name", frontend.strip_suffix(b"~").unwrap_or(frontend));
    to.text("haproxy.bind_name", bind);
    to.text("haproxy.error_message", scanner.rest);
    to.word("event.outcome", "failure");
    Some(())
}

/// What HAProxy says otherwise. A line that begins as one of a request does is one of a format that is not known.
pub(super) fn other(message: &[u8], context: &Context, to: &mut Document) -> Result<(), Unparsed> {
    let is_ours = message.first().is_some_and(u8::is_ascii_alphabetic) && message.contains(&b' ');
    if !is_ours || memmem::find(message, b" [").is_some_and(|at| message[..at].contains(&b':')) {
        return Err(Unparsed("the line is of none of the formats of HAProxy that are known"));
    }
    to.at(context.read_at);
    to.text("message", message);
    Ok(())
}
