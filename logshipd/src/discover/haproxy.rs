//! HAProxy: the formats of its lines. Where the lines go is a matter of syslog.

use super::Found;
use super::tree::{Text, Tree};
use crate::parse::haproxy::Formats;

/// HAProxy's own formats and those of the configuration.
pub(super) fn find(tree: &mut Tree, found: &mut Found) -> Formats {
    let mut formats = Formats::default();
    let mut paths = vec!["/etc/haproxy/haproxy.cfg".to_owned()];
    paths.extend(tree.glob("/etc/haproxy/conf.d/*.cfg"));
    let mut known: Vec<String> = Vec::new();
    for path in paths {
        if let Some(text) = tree.read(&path) {
            read(&text, &mut formats, &mut known, found);
        }
    }
    formats
}

fn read(text: &Text, formats: &mut Formats, known: &mut Vec<String>, found: &mut Found) {
    for (line, content) in text.lines() {
        let words = words(content);
        let [name, value, ..] = &words[..] else { continue };
        match name.as_str() {
            "log-format" | "error-log-format" if !known.contains(value) => {
                known.push(value.clone());
                match formats.add(value) {
                    Err(problem) => found.warn(text.at(line), format!("{name}: {problem}")),
                    Ok(format) => {
                        for variable in &format.unknown {
                            let problem = format!("{name}: no field is known for `{variable}`");
                            found.warn(text.at(line), problem);
                        }
                    }
                }
            }
            "log-tag" if value != "haproxy" => found.warn(
                text.at(line),
                format!("log-tag `{value}`: only lines of `haproxy` are read as HAProxy's"),
            ),
            "log" if value != "global" => {
                found.elsewhere(text.at(line), format!("HAProxy logs to `{value}`"));
            }
            _ => {}
        }
    }
}

/// The words of a line: blanks separate, `\` escapes, quotes hold together, `#` ends it.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut is_open) = (Vec::new(), String::new(), false);
    let mut quote = None;
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some('\''), '\'') | (Some('"'), '"') => quote = None,
            (Some('\''), c) => word.push(c),
            (_, '\\') => {
                word.extend(chars.next());
                is_open = true;
            }
            (Some(_), c) => word.push(c),
            (None, '\'' | '"') => {
                quote = Some(c);
                is_open = true;
            }
            (None, '#') => break,
            (None, c) if c.is_whitespace() => {
                if is_open {
                    words.push(std::mem::take(&mut word));
                }
                is_open = false;
            }
            (None, c) => {
                word.push(c);
                is_open = true;
            }
        }
    }
    if is_open {
        words.push(word);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_split_as_haproxy_does() {
        assert_eq!(
            words(r#"log-format "%ci %{+Q}r \"x\"" # a"#),
            ["log-format", r#"%ci %{+Q}r "x""#]
        );
        assert_eq!(words(r"log-format %ci\ '%r a\b'c"), ["log-format", r"%ci %r a\bc"]);
        assert_eq!(words("  # x"), Vec::<String>::new());
        assert_eq!(words("a ''"), ["a", ""]);
    }
}
