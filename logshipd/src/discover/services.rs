//! What syslog writes to files (among it the lines of HAProxy, keepalived, `sshd` and `sudo`), and programs that
//! have a file of their own: lsyncd, ProxySQL, Galera's arbitrator.

use std::sync::Arc;

use super::tree::{Text, Tree};
use super::{Found, Origin};
use crate::parse::Format;
use crate::parse::haproxy::Formats;
use crate::parse::syslog::Syslog;

/// Programs that log through syslog or the journal only.
const THROUGH_SYSLOG: [(&str, &str); 3] = [
    ("/etc/haproxy/haproxy.cfg", "HAProxy"),
    ("/etc/keepalived/keepalived.conf", "keepalived"),
    ("/etc/ssh/sshd_config", "sshd"),
];

pub(super) fn find(tree: &mut Tree, formats: Formats, found: &mut Found) {
    let format = Format::Syslog(Arc::new(Syslog { haproxy: formats }));
    let before = found.sources.len();
    let mut paths = tree.glob("/etc/rsyslog.d/*.conf");
    paths.insert(0, "/etc/rsyslog.conf".to_owned());
    for path in paths {
        if let Some(text) = tree.read(&path) {
            rsyslog(&text, &format, found);
        }
    }
    if found.sources.len() == before {
        for (path, program) in THROUGH_SYSLOG {
            if tree.has(path) {
                let origin = Origin { file: path.to_owned(), line: 0 };
                found.elsewhere(origin, format!("{program} logs to the journal: no rsyslog"));
            }
        }
    }
    lsyncd(tree, found);
    proxysql(tree, found);
    if let Some(text) = first(tree, &["/etc/default/garb", "/etc/sysconfig/garb"]) {
        for (line, content) in text.lines() {
            if let Some(value) = content.strip_prefix("LOG_FILE=") {
                let path = value.trim_matches(['"', '\'']);
                if !path.is_empty() {
                    let why = "Galera's arbitrator";
                    found.add(path, Some(Format::Garbd), why, text.at(line));
                }
            }
        }
    }
}

fn first(tree: &mut Tree, paths: &[&str]) -> Option<Text> {
    paths.iter().find_map(|path| tree.read(path))
}

/// Files by the old and the new notation: `auth,authpriv.*  /var/log/auth.log`, a path on a line of its own in a
/// filter's block, and `action(type="omfile" file="/var/log/x")`.
///
/// Debian writes what `kern.log` and the like have to `syslog` too: a line is shipped once, from there.
fn rsyslog(text: &Text, format: &Format, found: &mut Found) {
    let mut catch_all: Option<(&str, Vec<&str>)> = None;
    for (line, content) in text.lines() {
        if content.starts_with(['#', '$']) {
            continue;
        }
        let content = content.split(" #").next().unwrap_or(content).trim_end();
        let lower = content.to_ascii_lowercase();
        let path = if lower.contains("omfile") {
            let value = lower.find("file=\"").map(|at| &content[at + 6..]);
            value.and_then(|value| value.split('"').next())
        } else {
            let word = content.split_whitespace().next_back().unwrap_or_default();
            let path = word.strip_prefix('-').unwrap_or(word);
            path.starts_with('/').then_some(path)
        };
        let Some(path) = path.map(|path| path.split(';').next().unwrap_or(path)) else { continue };
        let selector = content.split_whitespace().next().unwrap_or_default();
        match &catch_all {
            None if selector.starts_with("*.*") => catch_all = Some((path, left_out(selector))),
            Some((all, others)) if is_within(selector, others) => {
                let problem = format!("`{path}` is a copy of lines of `{all}`: not read");
                found.elsewhere(text.at(line), problem);
                continue;
            }
            _ => {}
        }
        found.add(path, Some(format.clone()), "syslog", text.at(line));
    }
}

/// The facilities that a selector leaves out: `*.*;auth,authpriv.none`.
fn left_out(selector: &str) -> Vec<&str> {
    let none = selector.split(';').filter_map(|part| part.strip_suffix(".none"));
    none.flat_map(|facilities| facilities.split(',')).collect()
}

/// Whether a selector names facilities, and none of `others`.
fn is_within(selector: &str, others: &[&str]) -> bool {
    selector.split(';').all(|part| {
        part.split_once('.').is_some_and(|(facilities, _)| {
            facilities.split(',').all(|name| {
                name.bytes().all(|byte| byte.is_ascii_alphanumeric()) && !others.contains(&name)
            })
        })
    })
}

fn lsyncd(tree: &mut Tree, found: &mut Found) {
    let files = ["/etc/lsyncd/lsyncd.conf.lua", "/etc/lsyncd.conf"];
    let Some(text) = first(tree, &files) else { return };
    for (line, content) in text.lines() {
        if let Some(value) = assigned(content, "logfile") {
            found.add(value, Some(Format::Lsyncd), "lsyncd logfile", text.at(line));
        }
    }
}

fn proxysql(tree: &mut Tree, found: &mut Found) {
    let Some(text) = first(tree, &["/etc/proxysql.cnf"]) else { return };
    let (mut folder, mut log) = ("/var/lib/proxysql", None);
    for (line, content) in text.lines() {
        folder = assigned(content, "datadir").unwrap_or(folder);
        log = assigned(content, "errorlog").map(|path| (path, line)).or(log);
    }
    let own = format!("{}/proxysql.log", folder.trim_end_matches('/'));
    let (path, line) = log.unwrap_or((&own, 0));
    found.add(path, Some(Format::Proxysql), "ProxySQL errorlog", text.at(line));
}

/// The text that a line gives a name: `name = "text"`.
fn assigned<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let rest = line.strip_prefix(name)?.trim_start().strip_prefix('=')?.trim_start();
    let quote = rest.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    rest[1..].split(quote).next().filter(|value| !value.is_empty())
}
