//! MariaDB, MySQL and Percona Server: option files. Galera writes into the error log.

use super::tree::{DEPTH_MAX, Text, Tree, under};
use super::{Found, Origin};
use crate::parse::Format;

/// Where servers look; the first that are there are the same file by several names on Debian.
const FILES: [&str; 3] = ["/etc/my.cnf", "/etc/mysql/my.cnf", "/etc/my.cnf.d/server.cnf"];

#[derive(Debug, Default)]
struct Options {
    was_read: Option<Origin>,
    datadir: Option<String>,
    error: Option<(String, Origin)>,
    slow: Option<(String, Origin)>,
    slow_is_on: bool,
}

pub(super) fn find(tree: &mut Tree, found: &mut Found) {
    let mut options = Options::default();
    for path in FILES {
        if let Some(text) = tree.read(path) {
            read(tree, &text, 0, &mut options, found);
        }
    }
    let Some(origin) = options.was_read else { return };
    let folder = options.datadir.as_deref().unwrap_or("/var/lib/mysql").to_owned();
    match options.error {
        Some((path, at)) => {
            let path = if path.is_empty() { "*.err".to_owned() } else { path };
            found.add(&under(&folder, &path), Some(Format::MysqlError), "log_error", at);
        }
        None => found.elsewhere(origin.clone(), "no log_error: the server logs to the journal"),
    }
    if options.slow_is_on {
        let (path, at) = options.slow.unwrap_or_else(|| ("*-slow.log".to_owned(), origin));
        found.add(&under(&folder, &path), Some(Format::MysqlSlow), "slow query log", at);
    } else if let Some((_, at)) = options.slow {
        found.elsewhere(at, "the slow query log has a file and is off");
    }
}

fn read(tree: &mut Tree, text: &Text, depth: usize, options: &mut Options, found: &mut Found) {
    let mut is_server = false;
    for (line, content) in text.lines() {
        if content.starts_with(['#', ';']) {
            continue;
        }
        if let Some(path) = directive(content, "!includedir") {
            let pattern = format!("{}/*.cnf", path.trim_end_matches('/'));
            include(tree, &pattern, text.at(line), depth, options, found);
        } else if let Some(path) = directive(content, "!include") {
            include(tree, path, text.at(line), depth, options, found);
        } else if let Some(group) = content.strip_prefix('[') {
            is_server = group.split(']').next().is_some_and(is_of_server);
        } else if is_server {
            note(content, text.at(line), options);
        }
    }
}

fn directive<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    line.strip_prefix(name)?.strip_prefix([' ', '\t']).map(str::trim)
}

fn is_of_server(group: &str) -> bool {
    let name = group.split_once('-').map_or(group, |(name, _)| name);
    matches!(name, "mysqld" | "mariadbd" | "server" | "mariadb" | "galera" | "mysqld_safe")
}

fn include(
    tree: &mut Tree,
    pattern: &str,
    at: Origin,
    depth: usize,
    options: &mut Options,
    found: &mut Found,
) {
    if depth == DEPTH_MAX {
        return found.warn(at, "includes are too deep; it is not read");
    }
    for path in tree.glob(pattern) {
        if let Some(text) = tree.read(&path) {
            read(tree, &text, depth + 1, options, found);
        }
    }
}

fn note(line: &str, at: Origin, options: &mut Options) {
    options.was_read.get_or_insert_with(|| at.clone());
    let (name, value) = line.split_once('=').map_or((line, None), |(n, v)| (n, Some(v)));
    let name = name.trim().replace('-', "_");
    let is_said = value.is_some();
    let value = value.unwrap_or_default();
    // A comment may follow on the line.
    let value = value.split(" #").next().unwrap_or(value).trim();
    let value = value.trim_matches(['"', '\'']).to_owned();
    let is_on = !is_said || ["1", "on", "true", "yes"].contains(&&*value.to_ascii_lowercase());
    match name.strip_prefix("loose_").unwrap_or(&name) {
        "datadir" => options.datadir = Some(value),
        "log_error" => options.error = Some((value, at)),
        "slow_query_log_file" | "log_slow_query_file" => options.slow = Some((value, at)),
        "slow_query_log" | "log_slow_query" => options.slow_is_on = is_on,
        "skip_log_error" => options.error = None,
        _ => {}
    }
}
