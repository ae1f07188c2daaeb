//! php-fpm: its own log, and those of its pools.

use super::Found;
use super::tree::{DEPTH_MAX, Text, Tree, under};
use crate::parse::Format;

const FILES: [&str; 3] =
    ["/etc/php/*/fpm/php-fpm.conf", "/etc/php-fpm.conf", "/etc/php*/php-fpm.conf"];
/// The format of `access.log` that php-fpm has built in, and the one that Debian suggests.
const ACCESS_FORMATS: [&str; 2] =
    ["%R - %u %t \"%m %r\" %s", "%R - %u %t \"%m %r%Q%q\" %s %f %{milli}d %{kilo}M %C%%"];

pub(super) fn find(tree: &mut Tree, found: &mut Found) {
    for pattern in FILES {
        for path in tree.glob(pattern) {
            if let Some(text) = tree.read(&path) {
                read(tree, &text, "", 0, found);
            }
        }
    }
    for path in tree.glob("/etc/php/*/fpm/php.ini") {
        if let Some(text) = tree.read(&path) {
            for (line, content) in text.lines() {
                if let Some(("error_log", value)) = setting(content)
                    && value != "syslog"
                {
                    found.add(value, Some(Format::PhpError), "PHP error_log", text.at(line));
                }
            }
        }
    }
}

fn setting(line: &str) -> Option<(&str, &str)> {
    if line.starts_with([';', '#']) {
        return None;
    }
    let (name, value) = line.split_once('=')?;
    let value = value.trim();
    let value = match value.strip_prefix('"').and_then(|rest| rest.rsplit_once('"')) {
        Some((value, _)) => value,
        None => value.split(';').next().unwrap_or(value).trim(),
    };
    (!value.is_empty()).then_some((name.trim(), value))
}

fn read(tree: &mut Tree, text: &Text, section: &str, depth: usize, found: &mut Found) {
    let mut pool = section.to_owned();
    let mut access: Option<(usize, String)> = None;
    let mut access_format: Option<String> = None;
    for (line, content) in text.lines() {
        if let Some(name) = content.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            end_pool(text, &pool, access.take(), access_format.take(), found);
            name.clone_into(&mut pool);
            continue;
        }
        let Some((name, value)) = setting(content) else { continue };
        // Relative paths of php-fpm begin at its prefix.
        let path = under("/var", &value.replace("$pool", &pool));
        let (at, is_global) = (text.at(line), pool.is_empty() || pool == "global");
        match name {
            "include" if depth < DEPTH_MAX => {
                for path in tree.glob(&under("/etc", value)) {
                    if let Some(included) = tree.read(&path) {
                        read(tree, &included, &pool, depth + 1, found);
                    }
                }
            }
            "include" => found.warn(at, "includes are too deep; it is not read"),
            "error_log" if is_global && value == "syslog" => {
                found.elsewhere(at, "php-fpm logs to syslog");
            }
            "error_log" if is_global => {
                found.add(&path, Some(Format::PhpFpm), "php-fpm error_log", at);
            }
            "slowlog" => {
                let why = format!("php-fpm slowlog of pool {pool}");
                found.add(&path, Some(Format::PhpSlow), why, at);
            }
            "access.log" => access = Some((line, path)),
            "access.format" => access_format = Some(value.to_owned()),
            "php_admin_value[error_log]" | "php_value[error_log]" if value != "syslog" => {
                let why = format!("PHP error_log of pool {pool}");
                found.add(&path, Some(Format::PhpError), why, at);
            }
            _ => {}
        }
    }
    end_pool(text, &pool, access, access_format, found);
}

fn end_pool(
    text: &Text,
    pool: &str,
    access: Option<(usize, String)>,
    format: Option<String>,
    found: &mut Found,
) {
    let Some((line, path)) = access else { return };
    let is_known = format.as_deref().is_none_or(|format| ACCESS_FORMATS.contains(&format));
    if !is_known {
        let problem =
            format!("access.format of pool {pool} is not known: lines are sent as messages");
        found.warn(text.at(line), problem);
    }
    let format = is_known.then_some(Format::PhpAccess);
    found.add(&path, format, format!("php-fpm access.log of pool {pool}"), text.at(line));
}
