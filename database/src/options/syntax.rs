//! One line of an option file.

/// What a line says.
pub enum Line<'a> {
    /// `[name]`.
    Group(&'a str),
    /// A setting, with its name in lower case and `-`.
    Setting(String, String),
    /// `!include file`.
    Include(&'a str),
    /// `!includedir directory`.
    IncludeDir(&'a str),
}

/// Reads a line; comments, empty lines and what the tools would not understand either give `None`.
pub fn parse(line: &str) -> Option<Line<'_>> {
    let line = line.trim();
    if line.starts_with(['#', ';']) || line.is_empty() {
        return None;
    }
    if let Some(directory) = line.strip_prefix("!includedir") {
        return Some(Line::IncludeDir(directory.trim()));
    }
    if let Some(file) = line.strip_prefix("!include") {
        return Some(Line::Include(file.trim()));
    }
    if let Some(group) = line.strip_prefix('[') {
        return Some(Line::Group(group.split(']').next().unwrap_or_default().trim()));
    }
    let (key, value) = line.split_once('=').unwrap_or((line, ""));
    let key = key.trim().to_ascii_lowercase().replace('_', "-");
    let key = key.strip_prefix("loose-").unwrap_or(&key).to_owned();
    Some(Line::Setting(key, unquote(without_comment(value).trim())))
}

/// Cuts a comment off: `#` outside of quotes.
fn without_comment(value: &str) -> &str {
    let (mut quote, mut escaped) = (None, false);
    for (at, character) in value.char_indices() {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '\'' | '"' if quote == Some(character) => quote = None,
            '\'' | '"' if quote.is_none() => quote = Some(character),
            '#' if quote.is_none() => return &value[..at],
            _ => {}
        }
    }
    value
}

/// Takes quotes around a value away, and resolves `\b \t \n \r \\ \s \" \'`.
fn unquote(value: &str) -> String {
    let inner =
        ['\'', '"'].into_iter().find_map(|quote| value.strip_prefix(quote)?.strip_suffix(quote));
    let mut text = String::with_capacity(value.len());
    let mut characters = inner.unwrap_or(value).chars();
    while let Some(character) = characters.next() {
        if character != '\\' {
            text.push(character);
            continue;
        }
        match characters.next() {
            Some('b') => text.push('\u{8}'),
            Some('t') => text.push('\t'),
            Some('n') => text.push('\n'),
            Some('r') => text.push('\r'),
            Some('s') => text.push(' '),
            Some(known @ ('\\' | '"' | '\'')) => text.push(known),
            Some(other) => text.extend(['\\', other]),
            None => text.push('\\'),
        }
    }
    text
}
