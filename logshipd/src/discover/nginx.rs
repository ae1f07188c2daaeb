//! nginx: `access_log`, `error_log` and `log_format`, wherever includes have them.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::tree::{DEPTH_MAX, Text, Tree, under};
use super::{Found, Origin};
use crate::parse::Format;
use crate::parse::nginx::{AccessFormat, Escape};

const FOLDER: &str = "/etc/nginx";
/// Where nginx of Debian and of nginx.org logs to if nothing is said.
const ACCESS_DEFAULT: &str = "/var/log/nginx/access.log";
const ERROR_DEFAULT: &str = "/var/log/nginx/error.log";
/// Directives that are looked at in all.
const DIRECTIVES_MAX: usize = 100_000;

#[derive(Debug, Default)]
struct Seen {
    formats: BTreeMap<String, (String, Escape, Origin)>,
    /// Path, name of the format, place.
    access: Vec<(String, String, Origin)>,
    error: Vec<(String, Origin)>,
    has_access_for_all: bool,
    directives: usize,
    /// Blocks that are open around what is read.
    blocks: Vec<String>,
}

pub(super) fn find(tree: &mut Tree, found: &mut Found) {
    let Some(main) = tree.read("/etc/nginx/nginx.conf") else { return };
    let origin = main.at(0);
    let mut seen = Seen::default();
    read(tree, &main, 0, &mut seen, found);
    if !seen.has_access_for_all {
        seen.access.push((ACCESS_DEFAULT.to_owned(), "combined".to_owned(), origin.clone()));
    }
    if seen.error.is_empty() {
        seen.error.push((ERROR_DEFAULT.to_owned(), origin));
    }
    let formats = compile(&seen, found);
    for (path, name, origin) in seen.access {
        let Some(pattern) = target(&path, &origin, found) else { continue };
        let Some(format) = formats.get(name.as_str()) else {
            found.warn(origin, format!("`{name}` is no `log_format` of this nginx"));
            continue;
        };
        let why = format!("nginx access_log, log_format {name}");
        match format {
            Some(format) => {
                found.add(&pattern, Some(Format::NginxAccess(Arc::clone(format))), why, origin);
            }
            None => found.add(&pattern, None, format!("{why}, which cannot be read back"), origin),
        }
    }
    for (path, origin) in seen.error {
        if let Some(pattern) = target(&path, &origin, found) {
            found.add(&pattern, Some(Format::NginxError), "nginx error_log", origin);
        }
    }
}

/// All formats that are used, and nginx's own.
fn compile(seen: &Seen, found: &mut Found) -> BTreeMap<String, Option<Arc<AccessFormat>>> {
    let combined = Some(Arc::new(AccessFormat::combined()));
    let mut formats = BTreeMap::from([("combined".to_owned(), combined)]);
    for (name, (text, escape, origin)) in &seen.formats {
        let is_used = seen.access.iter().any(|(_, used, _)| used == name);
        let compiled = AccessFormat::compile(text, *escape);
        if let (Ok(format), true) = (&compiled, is_used) {
            for variable in &format.unknown {
                let problem = format!(
                    "log_format {name}: no field is known for `${variable}`, it becomes \
                     `nginx.access.variable.{variable}`"
                );
                found.warn(origin.clone(), problem);
            }
        }
        if let (Err(problem), true) = (&compiled, is_used) {
            let problem = format!("log_format {name}: {problem}; its lines are sent as messages");
            found.warn(origin.clone(), problem);
        }
        formats.insert(name.clone(), compiled.ok().map(Arc::new));
    }
    formats
}

/// A pattern for a path that may have variables; none if it goes to no file.
fn target(path: &str, origin: &Origin, found: &mut Found) -> Option<String> {
    if path.starts_with("syslog:") || path.starts_with("memory:") || path == "stderr" {
        found.elsewhere(origin.clone(), format!("nginx logs to `{path}`"));
        return None;
    }
    let mut pattern = String::new();
    let mut rest = path;
    while let Some((before, behind)) = rest.split_once('$') {
        pattern.push_str(&escaped(before));
        pattern.push('*');
        rest = match behind.strip_prefix('{').and_then(|name| name.split_once('}')) {
            Some((_, behind)) => behind,
            None => behind.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || c == '_'),
        };
    }
    pattern.push_str(&escaped(rest));
    // A name of nothing but a variable would also mean what rotation leaves.
    (pattern != "*").then(|| under("/usr/share/nginx", &pattern))
}

/// What stands for itself in a pattern.
fn escaped(text: &str) -> String {
    let escape = |c: char| match c {
        '*' | '?' | '[' | ']' | '{' | '}' => format!("[{c}]"),
        c => c.to_string(),
    };
    text.chars().map(escape).collect()
}

fn read(tree: &mut Tree, text: &Text, depth: usize, seen: &mut Seen, found: &mut Found) {
    let outside = seen.blocks.len();
    let mut words = Words { rest: &text.content, line: 1 };
    while let Some((line, directive, end)) = words.directive() {
        seen.directives += 1;
        if seen.directives > DIRECTIVES_MAX {
            return found.warn(text.at(line), "too many directives; the rest is not read");
        }
        match end {
            End::Block => {
                let name = directive.first().cloned().unwrap_or_default();
                if name.ends_with("_by_lua_block") {
                    words.skip_block();
                } else {
                    seen.blocks.push(name);
                }
                continue;
            }
            End::Close => {
                if seen.blocks.len() > outside {
                    seen.blocks.pop();
                }
                continue;
            }
            End::Simple => {}
        }
        let Some((name, values)) = directive.split_first() else { continue };
        if name == "include" {
            let Some(pattern) = values.first() else { continue };
            if depth == DEPTH_MAX {
                found.warn(text.at(line), "includes are too deep; it is not read");
                continue;
            }
            for path in tree.glob(&under(FOLDER, pattern)) {
                if let Some(included) = tree.read(&path) {
                    read(tree, &included, depth + 1, seen, found);
                }
            }
        } else {
            note(name, values, text.at(line), seen);
        }
    }
    seen.blocks.truncate(outside);
}

fn note(name: &str, values: &[String], at: Origin, seen: &mut Seen) {
    let is_web = !seen.blocks.iter().any(|block| block == "stream" || block == "mail");
    match (name, values) {
        ("log_format", [name, parts @ ..]) if is_web => {
            let escape = match parts.first().map(String::as_str) {
                Some("escape=json") => Some(Escape::Json),
                Some("escape=none") => Some(Escape::None),
                Some("escape=default") => Some(Escape::Default),
                _ => None,
            };
            let text = parts[usize::from(escape.is_some())..].concat();
            seen.formats.insert(name.clone(), (text, escape.unwrap_or_default(), at));
        }
        ("access_log", [path, parameters @ ..]) if is_web => {
            let is_for_all = seen.blocks.last().is_none_or(|block| block == "http");
            seen.has_access_for_all |= is_for_all;
            let format = parameters.iter().find(|word| !word.contains('=') && *word != "gzip");
            if path != "off" {
                let format = format.map_or("combined", String::as_str).to_owned();
                seen.access.push((path.clone(), format, at));
            }
        }
        // That of the main block and of `http`, `server`, `location`, `stream` alike.
        ("error_log", [path, ..]) if path != "/dev/null" => seen.error.push((path.clone(), at)),
        _ => {}
    }
}

/// How a directive ends.
enum End {
    Simple,
    Block,
    Close,
}

/// The words of a configuration.
struct Words<'a> {
    rest: &'a str,
    line: usize,
}

impl Words<'_> {
    /// The next directive with the line where it begins; at the end, none.
    fn directive(&mut self) -> Option<(usize, Vec<String>, End)> {
        let (mut words, mut first) = (Vec::new(), None);
        loop {
            self.skip_blanks();
            let line = *first.get_or_insert(self.line);
            match self.rest.chars().next()? {
                end @ (';' | '{' | '}') => {
                    self.rest = &self.rest[1..];
                    let end = match end {
                        ';' => End::Simple,
                        '{' => End::Block,
                        _ => End::Close,
                    };
                    return Some((line, words, end));
                }
                quote @ ('"' | '\'') => {
                    let word = self.quoted(quote);
                    words.push(word);
                }
                _ => {
                    let word = self.plain();
                    words.push(word);
                }
            }
        }
    }

    fn skip_blanks(&mut self) {
        loop {
            let trimmed = self.rest.trim_start();
            self.pass(self.rest.len() - trimmed.len());
            if !self.rest.starts_with('#') {
                return;
            }
            self.pass(self.rest.find('\n').unwrap_or(self.rest.len()));
        }
    }

    fn pass(&mut self, count: usize) -> &str {
        let (passed, rest) = self.rest.split_at(count);
        self.line += passed.bytes().filter(|&byte| byte == b'\n').count();
        self.rest = rest;
        passed
    }

    fn quoted(&mut self, quote: char) -> String {
        self.pass(1);
        let (mut word, mut is_escaped, mut length) = (String::new(), false, 0);
        for c in self.rest.chars() {
            length += c.len_utf8();
            match (is_escaped, c) {
                (false, '\\') => is_escaped = true,
                (false, c) if c == quote => break,
                (false, c) => word.push(c),
                (true, c) => {
                    is_escaped = false;
                    match c {
                        't' => word.push('\t'),
                        'r' => word.push('\r'),
                        'n' => word.push('\n'),
                        '"' | '\'' | '\\' => word.push(c),
                        c => word.extend(['\\', c]),
                    }
                }
            }
        }
        self.pass(length);
        word
    }

    fn plain(&mut self) -> String {
        // `${name}` is a part of a word; any other bracket ends it.
        let (mut length, mut before, mut in_variable) = (0, ' ', false);
        for c in self.rest.chars() {
            let is_end = match c {
                '{' if before == '$' => {
                    in_variable = true;
                    false
                }
                '}' if in_variable => {
                    in_variable = false;
                    false
                }
                ';' | '{' | '}' => before != '\\',
                c => c.is_whitespace(),
            };
            if is_end {
                break;
            }
            length += c.len_utf8();
            before = c;
        }
        self.pass(length).to_owned()
    }

    /// Passes over a block in another language.
    fn skip_block(&mut self) {
        let (mut depth, mut length) = (1_usize, 0);
        for byte in self.rest.bytes() {
            length += 1;
            match byte {
                b'{' => depth += 1,
                b'}' => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                break;
            }
        }
        self.pass(length);
    }
}
