//! Configuration files and the secrets they name, read strictly.
//!
//! An unknown key, a wrong type or a missing value is an error that shows the file, the line and a
//! caret, and says what was probably meant. Nothing is guessed and nothing is ignored. Secrets live
//! in files of their own, are refused when others may read them, and never print themselves.

use std::fmt;
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, Result};
use serde::de::DeserializeOwned;
use toml::de::{DeTable, DeValue};

use crate::failure::{Exit, Failure};

/// No configuration file is larger than this.
pub const CONFIG_BYTES_MAX: u64 = 1 << 20;

/// No secret is larger than this.
pub const SECRET_BYTES_MAX: u64 = 64 << 10;

/// Reads a TOML file. Errors are [`Failure`]s with [`Exit::Usage`], fit to be shown as they are.
pub fn load<T: DeserializeOwned>(path: &Path) -> Result<T> {
    parse(&path.display().to_string(), &read(path)?).map_err(Into::into)
}

/// Reads the text of a configuration file, for those who check more than types say.
pub fn read(path: &Path) -> Result<String> {
    let unreadable = |error| unreadable("configuration", path, error);
    let file = File::open(path).map_err(unreadable)?;
    Ok(read_bounded(file, CONFIG_BYTES_MAX).map_err(unreadable)?)
}

/// Parses the text of a configuration file; `name` stands for the file in errors.
pub fn parse<T: DeserializeOwned>(name: &str, text: &str) -> Result<T, Failure> {
    toml::from_str(text).map_err(|error| refusal(name, text, &error))
}

fn read_bounded(file: File, bytes_max: u64) -> io::Result<String> {
    let mut text = String::new();
    file.take(bytes_max + 1).read_to_string(&mut text)?;
    if text.len() as u64 > bytes_max {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("more than {bytes_max} bytes"),
        ));
    }
    Ok(text)
}

fn unreadable(what: &str, path: &Path, error: io::Error) -> Failure {
    let message = format!("read {what} {}", path.display());
    let hint = match error.kind() {
        io::ErrorKind::NotFound => "create the file, or name the one that you mean".to_owned(),
        io::ErrorKind::PermissionDenied => {
            format!("run as a user who may read it; see `ls -l {}`", path.display())
        }
        io::ErrorKind::IsADirectory => "name a file, not a directory".to_owned(),
        io::ErrorKind::InvalidData => "save the file as UTF-8 text".to_owned(),
        _ => return Failure::new(Exit::Usage, message).because(error),
    };
    Failure::new(Exit::Usage, message).hint(hint).because(error)
}

/// Turns what the parser says into a message with place, line and caret, and a hint apart from it.
fn refusal(name: &str, text: &str, error: &toml::de::Error) -> Failure {
    let (problem, hint) = split_hint(error.message());
    // What the whole file lacks has no place in it.
    let is_of_file = |start: usize| start == 0 && problem.starts_with("missing field");
    let span = error.span().filter(|span| !is_of_file(span.start));
    let message = match span {
        Some(span) => {
            let place = Place::of(text, span.start, span.end);
            format!("{name}:{}:{}: {problem}\n{place}", place.line, place.column)
        }
        None => format!("{name}: {problem}"),
    };
    let failure = Failure::new(Exit::Usage, message);
    match hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

/// Says where in the file the key is that a failure is about, with line and caret: `key` is its path,
/// with dots between. A key that the file does not have is at the table that should have it.
pub fn placed(name: &str, text: &str, key: &str, mut failure: Failure) -> Failure {
    let span = DeTable::parse(text).ok().and_then(|table| span_of(table.get_ref(), key));
    failure.message = match span {
        Some(span) => {
            let place = Place::of(text, span.start, span.end);
            format!("{name}:{}:{}: {}\n{place}", place.line, place.column, failure.message)
        }
        None => format!("{name}: {}", failure.message),
    };
    failure
}

/// The place of a value, or else of the name of the innermost table on the way. Names may have dots
/// themselves: what leads to a value is preferred, then what leads further.
fn span_of(table: &DeTable<'_>, key: &str) -> Option<Range<usize>> {
    find_span(table, key).map(|(_, span)| span)
}

/// With how good it is: what is left of the key, values first.
fn find_span(table: &DeTable<'_>, key: &str) -> Option<((usize, bool), Range<usize>)> {
    let found = table.iter().filter_map(|(name, value)| {
        let rest = key.strip_prefix(name.get_ref().as_ref())?;
        if !rest.is_empty() && !rest.starts_with('.') {
            return None;
        }
        Some(match value.get_ref() {
            DeValue::Table(inner) => {
                let inside = rest.strip_prefix('.').and_then(|rest| find_span(inner, rest));
                inside.unwrap_or(((rest.len(), true), name.span()))
            }
            _ => ((rest.len(), false), value.span()),
        })
    });
    found.min_by_key(|(left, _)| *left)
}

/// What a `Deserialize` of ours says so that [`load`] gives the hint as a hint:
/// `serde::de::Error::custom(with_hint(..))`.
pub fn with_hint(problem: impl fmt::Display, hint: &str) -> String {
    format!("{problem}{HINT_MARK}{hint}")
}

const HINT_MARK: &str = "\nhint: ";

/// Serde says "unknown field `x`, expected one of `a`, `b`": the list becomes a suggestion, or a
/// hint of its own.
fn split_hint(message: &str) -> (String, Option<String>) {
    let message = message.trim_end();
    if let Some((problem, hint)) = message.split_once(HINT_MARK) {
        return (problem.to_owned(), Some(hint.to_owned()));
    }
    if let Some((unknown, expected)) = message.split_once(", expected ")
        && unknown.starts_with("unknown ")
    {
        let names: Vec<&str> = expected.split('`').skip(1).step_by(2).collect();
        let word = unknown.split('`').nth(1).unwrap_or_default();
        let hint = match nearest(word, names.iter().copied()) {
            Some(name) => format!("did you mean `{name}`?"),
            None => format!("known here: {}", names.join(", ")),
        };
        return (unknown.to_owned(), Some(hint));
    }
    (message.to_owned(), None)
}

/// A place in a text: its line and column from 1, shown as the line with carets below.
struct Place<'t> {
    line: usize,
    column: usize,
    content: &'t str,
    carets: usize,
}

impl<'t> Place<'t> {
    fn of(text: &'t str, start: usize, end: usize) -> Self {
        let start = text.floor_char_boundary(start);
        let line_start = text[..start].rfind('\n').map_or(0, |newline| newline + 1);
        let line_end = text[start..].find('\n').map_or(text.len(), |newline| start + newline);
        let marked = &text[start..text.floor_char_boundary(end.clamp(start, line_end))];
        Self {
            line: text[..start].matches('\n').count() + 1,
            column: text[line_start..start].chars().count() + 1,
            content: text[line_start..line_end].trim_end(),
            carets: marked.chars().count().max(1),
        }
    }
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = self.line.to_string();
        let gutter = " ".repeat(number.len());
        // A tab before the caret keeps its width on the terminal.
        let indent: String = self.content.chars().take(self.column - 1).map(tab_or_space).collect();
        writeln!(f, "{gutter} |")?;
        writeln!(f, "{number} | {}", self.content)?;
        write!(f, "{gutter} | {indent}{}", "^".repeat(self.carets))
    }
}

fn tab_or_space(c: char) -> char {
    if c == '\t' { '\t' } else { ' ' }
}

/// The candidate that a mistyped word most likely stands for, if one is near: at most a third of it
/// differs.
pub fn nearest<'c>(word: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    let limit = word.chars().count().div_ceil(3);
    candidates
        .into_iter()
        .map(|candidate| (edit_distance(word, candidate), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, candidate)| candidate)
}

/// Levenshtein: the least number of letters to insert, remove or replace.
fn edit_distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, from) in left.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in right.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[right.len()]
}

/// A text that never prints itself.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes a text as it is.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text. Hand it to what needs it; never log it or put it on a command line.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

/// Reads a secret from its file, without the newline at its end. An empty or
/// [shared](check_private) file is refused.
pub fn read_secret(path: &Path) -> Result<Secret> {
    let file = File::open(path).map_err(|error| unreadable("secret", path, error))?;
    let metadata = file.metadata().with_context(|| format!("inspect {}", path.display()))?;
    check_mode(path, &metadata)?;
    let text =
        read_bounded(file, SECRET_BYTES_MAX).map_err(|error| unreadable("secret", path, error))?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    if text.is_empty() {
        let message = format!("secret {} is empty", path.display());
        return Err(Failure::new(Exit::Usage, message).into());
    }
    Ok(Secret::new(text))
}

/// Refuses a file that others may read or change: any right of the group or of others.
///
/// One exception, as in PostgreSQL: a file of root may be readable by its group for a program that
/// is not root. That is how systemd hands credentials to a service (the group bits are the mask of
/// an access list then).
pub fn check_private(path: &Path) -> Result<()> {
    let metadata = fs::metadata(path).map_err(|error| unreadable("secret", path, error))?;
    check_mode(path, &metadata)
}

fn check_mode(path: &Path, metadata: &Metadata) -> Result<()> {
    let is_handed_over = metadata.uid() == 0 && !rustix::process::geteuid().is_root();
    let forbidden = if is_handed_over { 0o037 } else { 0o077 };
    let mode = metadata.mode() & 0o777;
    if mode & forbidden == 0 {
        return Ok(());
    }
    let message = format!("{} is not private: its mode is {mode:04o}", path.display());
    let hint = format!("chmod 600 {}", path.display());
    Err(Failure::new(Exit::Usage, message).hint(hint).into())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use proptest::prelude::*;
    use serde::Deserialize;

    use super::*;
    use crate::failure::{exit_of, hint_of};

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields, rename_all = "kebab-case")]
    struct Example {
        #[serde(rename = "schedule")]
        _schedule: String,
        #[serde(default, rename = "keep-files")]
        _keep_files: u32,
        #[serde(rename = "store")]
        _store: Option<Store>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Store {
        #[serde(rename = "path")]
        _path: String,
    }

    fn refused(text: &str) -> (String, Option<String>) {
        let failure = parse::<Example>("etc/x.toml", text).unwrap_err();
        assert_eq!(failure.exit, Exit::Usage);
        (failure.message, failure.hint)
    }

    #[test]
    fn an_unknown_key_is_shown_with_a_caret_and_a_suggestion() {
        let (message, hint) = refused("schedule = \"@daily\"\n\tkeep-flies = 3\n");
        assert_eq!(
            message,
            "etc/x.toml:2:2: unknown field `keep-flies`\n  |\n2 | \tkeep-flies = 3\n  \
             | \t^^^^^^^^^^"
        );
        assert_eq!(hint.as_deref(), Some("did you mean `keep-files`?"));
    }

    #[test]
    fn a_key_like_no_other_gets_the_list() {
        let (_, hint) = refused("zz = 1");
        assert_eq!(hint.as_deref(), Some("known here: schedule, keep-files, store"));
    }

    #[test]
    fn wrong_types_syntax_and_missing_values_have_their_place() {
        fn check(text: &str, expected: &str) {
            let (message, _) = refused(text);
            assert!(message.starts_with(expected), "{message}");
        }
        check("schedule = 7", "etc/x.toml:1:12: invalid type: integer `7`, expected a string");
        check("schedule = \"a", "etc/x.toml:1:");
        check("# ä\nschedule = 'é' 'é'", "etc/x.toml:2:16: ");
        check("keep-files = 1", "etc/x.toml: missing field `schedule`");
        check("", "etc/x.toml: missing field `schedule`");
        check("schedule = ''\n[store]\n", "etc/x.toml:2:1: missing field `path`");
        check("schedule = ''\n[store]\npaht = 1", "etc/x.toml:3:1: unknown field `paht`");
    }

    #[test]
    fn what_is_wrong_with_a_value_is_shown_where_it_stands() {
        fn check(text: &str, key: &str, expected: &str) {
            let message = placed("x", text, key, Failure::new(Exit::Usage, "no")).message;
            assert!(message.starts_with(expected), "{message}");
        }
        check("a = 1\n", "a", "x:1:5: no\n  |\n1 | a = 1\n  |     ^");
        let tables = "[jobs.a]\nb = [\n2]\n[jobs.'a.b']\nb = 'é'\n";
        check(tables, "jobs.a.b", "x:2:5: no\n  |\n2 | b = [\n  |     ^");
        check(tables, "jobs.a.b.b", "x:5:5: no");
        check(tables, "jobs.a.c", "x:1:7: no");
        check(tables, "jobs.c", "x:1:2: no");
        check(tables, "c.d", "x: no");
        check("not toml", "a", "x: no");
    }

    #[test]
    fn a_missing_file_has_a_hint() {
        let error = load::<Example>(Path::new("/nowhere/x.toml")).unwrap_err();
        assert_eq!(exit_of(&error), Exit::Usage);
        assert!(format!("{error:#}").starts_with("read configuration /nowhere/x.toml: "));
        assert!(hint_of(&error).unwrap().contains("create the file"));
        let error = load::<Example>(Path::new("/")).unwrap_err();
        assert!(hint_of(&error).unwrap().contains("not a directory"));
    }

    #[test]
    fn a_file_without_end_is_refused() {
        let error = load::<Example>(Path::new("/dev/zero")).unwrap_err();
        assert!(format!("{error:#}").contains("more than 1048576 bytes"), "{error:#}");
    }

    #[test]
    fn a_secret_is_private_trimmed_once_and_silent() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("password");
        fs::write(&path, "pass word\n\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let secret = read_secret(&path).unwrap();
        assert_eq!(secret.expose(), "pass word\n");
        assert_eq!(format!("{secret:?}"), "[secret]");
        for mode in [0o640, 0o604, 0o660] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let error = read_secret(&path).unwrap_err();
            assert_eq!(hint_of(&error), Some(format!("chmod 600 {}", path.display()).as_str()));
            assert!(check_private(&path).is_err());
        }
        fs::write(&path, "\r\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
        assert!(read_secret(&path).unwrap_err().to_string().contains("is empty"));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused_without_panic(text: String) {
            drop(parse::<Example>("x", &text));
            drop(parse::<Example>("x", &format!("schedule = \"ä\"\n{text}")));
        }

        #[test]
        fn edit_distance_is_a_metric(a in "[a-c]{0,6}", b in "[a-c]{0,6}", c in "[a-c]{0,6}") {
            prop_assert_eq!(edit_distance(&a, &b), edit_distance(&b, &a));
            prop_assert_eq!(edit_distance(&a, &b) == 0, a == b);
            prop_assert!(edit_distance(&a, &c) <= edit_distance(&a, &b) + edit_distance(&b, &c));
        }
    }
}
