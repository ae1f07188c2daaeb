//! What keeps the cluster together: keepalived, ProxySQL, lsyncd and Galera's arbitrator.
//!
//! Source: `vrrp.c` and `vrrp_scheduler.c` of keepalived 2.2; `MyHGC.cpp`, `MySrvC.cpp` and
//! `MySQL_HostGroups_Manager.cpp` of ProxySQL 2 and 3; `default-rsync.lua` of lsyncd 2.2.

use memchr::memmem;

use crate::document::Document;

use super::scan::{Scanner, number};
use super::{Context, Joint, Unparsed, galera, stamp, start_if};

/// What keepalived says, the header of syslog taken off.
pub(super) fn keepalived(text: &[u8], context: &Context, to: &mut Document) {
    to.at(context.read_at);
    to.text("message", text);
    let mut scanner = Scanner::new(text);
    if scanner.skip(b"(")
        && let Some(instance) = scanner.until(b')')
    {
        to.text("keepalived.instance", instance);
        scanner.blanks();
        if scanner.skip(b"Entering ") {
            state(scanner.word(), to);
        } else if let Some(at) = memmem::find(scanner.rest, b"lower priority") {
            let _ = at;
            to.word("event.action", "election_forced");
        } else if memmem::find(scanner.rest, b"higher priority").is_some() {
            to.word("event.action", "master_elsewhere");
        }
        return;
    }
    scanner = Scanner::new(text);
    if scanner.skip(b"VRRP_Script(") {
        to.text_of("keepalived.script", scanner.until(b')'));
        let is_good = scanner.rest.starts_with(b" succeeded");
        to.word("event.action", if is_good { "script_succeeded" } else { "script_failed" });
        to.word("event.outcome", if is_good { "success" } else { "failure" });
    } else if scanner.skip(b"VRRP_Group(") {
        to.text_of("keepalived.group", scanner.until(b')'));
        if scanner.skip(b" Syncing instances to ") {
            to.text("keepalived.state", scanner.word());
            to.word("event.action", "group_synced");
        }
    } else if scanner.skip(b"Script `") {
        to.text_of("keepalived.script", scanner.until(b'`').or_else(|| scanner.until(b'\'')));
        to.word("event.action", "script_result");
    } else if text.starts_with(b"Starting Keepalived") {
        to.word("event.action", "started");
    } else if text.starts_with(b"Stopped") {
        to.word("event.action", "stopped");
    }
}

fn state(state: &[u8], to: &mut Document) {
    to.text("keepalived.state", state);
    let action = match state {
        b"MASTER" => "became_master",
        b"BACKUP" => "became_backup",
        b"FAULT" => "became_faulty",
        _ => "state_change",
    };
    to.word("event.action", action);
}

/// ProxySQL: a line without a time goes on with the entry before it.
pub(super) fn proxysql_joint(line: &[u8]) -> Joint {
    start_if(stamp::dashed(line).is_some())
}

/// `2026-11-23 13:00:06 MyHGC.cpp:384:get_random_MySrvC(): [ERROR] Hostgroup 1 has no servers available!`
pub(super) fn proxysql(entry: &[u8], context: &Context, to: &mut Document) -> Result<(), Unparsed> {
    let (wall, rest) = stamp::dashed(entry).ok_or(Unparsed("no time of ProxySQL"))?;
    let at = wall.local(context, to);
    to.at(at);
    let mut scanner = Scanner::new(rest.trim_ascii_start());
    let mut place = scanner;
    if let Some(file) = place.until(b':')
        && memmem::find(file, b".cpp").is_some()
        && let Some(line) = place.number()
        && place.skip(b":")
        && let Some(function) = place.until_text(b": ")
    {
        to.text("log.origin.file.name", file);
        to.long("log.origin.file.line", line);
        to.text("log.origin.function", function);
        scanner = place;
    }
    if scanner.skip(b"[") {
        let level = scanner.until(b']').ok_or(Unparsed("a level without its end"))?;
        to.text("log.level", &level.to_ascii_lowercase());
        scanner.blanks();
    }
    let text = scanner.rest;
    to.text("message", text);
    proxysql_event(text, to);
    Ok(())
}

fn proxysql_event(text: &[u8], to: &mut Document) {
    let has = |mark: &[u8]| memmem::find(text, mark).is_some();
    let event = match text {
        _ if has(b"has no servers available") => "hostgroup_empty",
        _ if text.starts_with(b"Unshunning server") => "server_unshunned",
        _ if has(b"Shunning server") || has(b"hunned") => "server_shunned",
        _ if has(b"viewed as OFFLINE") || has(b"setting host") => "server_offline",
        _ => return,
    };
    to.word("proxysql.event", event);
    to.word("event.action", event);
    let behind = |mark: &[u8]| memmem::find(text, mark).map(|at| &text[at + mark.len()..]);
    let hostgroup = behind(b"Hostgroup ").or_else(|| behind(b"hostgroup "));
    if let Some(hostgroup) = hostgroup.and_then(|text| Scanner::new(text).number()) {
        to.long("proxysql.hostgroup", hostgroup);
    }
    let server = behind(b"unning server ").map(|text| Scanner::new(text).word());
    if let Some((address, port)) = server.and_then(super::address::with_port) {
        to.text("server.address", address);
        if let Some(port) = port {
            to.long("server.port", port);
        }
    }
}

/// lsyncd: names of files follow a line.
pub(super) fn lsyncd_joint(line: &[u8]) -> Joint {
    start_if(stamp::ctime(line).is_some())
}

/// An entry of lsyncd's own log: `Mon Nov 23 13:10:01 2026 Normal: --- Startup ---`
pub(super) fn lsyncd(entry: &[u8], context: &Context, to: &mut Document) -> Result<(), Unparsed> {
    let (wall, rest) = stamp::ctime(entry).ok_or(Unparsed("no time of lsyncd"))?;
    let at = wall.local(context, to);
    to.at(at);
    lsyncd_message(rest.trim_ascii_start(), to);
    Ok(())
}

/// `Normal: text` of the file, `Normal, text` of syslog.
pub(super) fn lsyncd_message(text: &[u8], to: &mut Document) {
    let length = text.iter().take_while(|byte| byte.is_ascii_alphabetic()).count();
    let (level, rest) = text.split_at(length);
    let rest = match rest {
        [b':' | b',', rest @ ..] => rest.trim_ascii_start(),
        _ => text,
    };
    match level {
        b"Normal" => to.word("log.level", "info"),
        b"Error" => to.word("log.level", "error"),
        b"Warn" | b"Warning" => to.word("log.level", "warning"),
        _ => {}
    }
    let mut lines = Scanner::new(rest);
    let first = lines.until_or_end(b'\n');
    to.text("message", first);
    let files = lines.rest.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()).count();
    // The lines below the first start are what is left out, not what is synced.
    if files > 0 && !first.ends_with(b"excluding") {
        to.long("lsyncd.files", files as i64);
    }
    lsyncd_event(first, to);
}

fn lsyncd_event(text: &[u8], to: &mut Document) {
    let has = |mark: &[u8]| memmem::find(text, mark).is_some();
    let event = match text {
        _ if has(b"--- Startup") => "startup",
        _ if text.starts_with(b"recursive startup") => "initial_sync",
        _ if has(b"Startup of") && has(b"finished") => "initial_sync_done",
        _ if text.starts_with(b"Calling rsync") => "sync",
        _ if has(b"Retrying") || has(b"retry") => "retry",
        _ if has(b"exitcode: 0") => "sync_done",
        _ if has(b"exitcode") || has(b"ailure") || has(b"failed") => "failure",
        _ if has(b"--- TERM") || has(b"--- HUP") || has(b"--- INT") => "stopped",
        _ => return,
    };
    to.word("lsyncd.event", event);
    to.word("event.action", event);
    if let Some(at) = memmem::find(text, b"exitcode: ")
        && let Some(code) = Scanner::new(&text[at + 10..]).number()
    {
        to.long("process.exit_code", code);
    }
    if let Some(at) = memmem::find(text, b" -> ") {
        let source = text[..at].rsplit(|&byte| byte == b' ').next().unwrap_or_default();
        to.text("lsyncd.source", source);
        to.text("lsyncd.target", Scanner::new(&text[at + 4..]).word());
    }
}

/// `garbd`: a line without a time goes on with the entry before it.
pub(super) fn garbd_joint(line: &[u8]) -> Joint {
    start_if(stamp::dashed(line).is_some())
}

/// `2026-11-23 13:00:06.123  INFO: Shifting JOINED -> SYNCED (TO: 6)`
pub(super) fn garbd(entry: &[u8], context: &Context, to: &mut Document) -> Result<(), Unparsed> {
    let (wall, rest) = stamp::dashed(entry).ok_or(Unparsed("no time of garbd"))?;
    let at = wall.local(context, to);
    to.at(at);
    let mut scanner = Scanner::new(rest.trim_ascii_start());
    let level = scanner.until_text(b": ").ok_or(Unparsed("no level of garbd"))?;
    let level = match level {
        b"FATAL" => "fatal",
        b"ERROR" => "error",
        b"WARN" => "warning",
        b"INFO" => "info",
        b"DEBUG" => "debug",
        _ => return Err(Unparsed("a level that garbd does not have")),
    };
    to.word("log.level", level);
    to.text("message", scanner.rest);
    galera::write(scanner.rest, context, to);
    Ok(())
}

/// The number at the end of a text, such as a port behind `port `.
pub(super) fn number_behind(text: &[u8], mark: &[u8]) -> Option<i64> {
    let at = memmem::find(text, mark)?;
    number(Scanner::new(&text[at + mark.len()..]).take_while(|byte| byte.is_ascii_digit()))
}
