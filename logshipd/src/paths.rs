//! Which files a pattern means, and which names a rotated file has.
//!
//! A pattern is a path whose parts may hold `*`, `?`, `[...]` and `{a,b}`; `**` stands for any folders, at
//! most [`DEPTH_MAX`] deep. Symbolic links to files are followed, those to folders below `**` are not.

use std::fs;
use std::path::{Path, PathBuf};

use globset::{GlobBuilder, GlobMatcher};

/// No pattern finds more files than this.
pub const FILES_MAX: usize = 4096;
/// How deep `**` goes.
const DEPTH_MAX: usize = 8;

/// A pattern of paths, split at its slashes.
#[derive(Clone, Debug)]
pub struct Pattern {
    parts: Vec<Part>,
}

#[derive(Clone, Debug)]
enum Part {
    Name(String),
    Glob(GlobMatcher),
    AnyDepth,
}

/// Why a text is no pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// A daemon has no directory of its own.
    #[error("`{0}` is not an absolute path")]
    Relative(String),
    /// A bracket without its end, and the like.
    #[error("`{0}` is not a pattern: {1}")]
    Malformed(String, String),
}

impl Pattern {
    /// Parses an absolute pattern.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let Some(relative) = text.strip_prefix('/') else {
            return Err(PatternError::Relative(text.to_owned()));
        };
        let parts = relative.split('/').filter(|part| !part.is_empty() && *part != ".");
        let parts = parts.map(|part| match part {
            "**" => Ok(Part::AnyDepth),
            part if part.contains(['*', '?', '[', '{', '\\']) => {
                let glob = GlobBuilder::new(part).literal_separator(true).build();
                glob.map(|glob| Part::Glob(glob.compile_matcher())).map_err(|error| {
                    PatternError::Malformed(text.to_owned(), error.kind().to_string())
                })
            }
            part => Ok(Part::Name(part.to_owned())),
        });
        Ok(Self { parts: parts.collect::<Result<_, _>>()? })
    }

    /// All files that it means now, sorted; folders that cannot be read are passed over.
    pub fn find(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        collect(Path::new("/"), &self.parts, 0, &mut found);
        found.sort();
        found.dedup();
        found
    }
}

fn collect(at: &Path, parts: &[Part], depth: usize, found: &mut Vec<PathBuf>) {
    if found.len() >= FILES_MAX {
        return;
    }
    match parts {
        [] => found.extend(at.is_file().then(|| at.to_owned())),
        [Part::Name(name), rest @ ..] => collect(&at.join(name), rest, 0, found),
        [Part::Glob(glob), rest @ ..] => {
            for name in names(at) {
                if glob.is_match(&name)
                    && (!name.starts_with('.') || glob.glob().glob().starts_with('.'))
                {
                    collect(&at.join(&name), rest, 0, found);
                }
            }
        }
        [Part::AnyDepth, rest @ ..] => {
            collect(at, rest, 0, found);
            if depth == DEPTH_MAX {
                return;
            }
            for name in names(at) {
                let below = at.join(name);
                if below.symlink_metadata().is_ok_and(|metadata| metadata.is_dir()) {
                    collect(&below, parts, depth + 1, found);
                }
            }
        }
    }
}

fn names(dir: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect()
}

/// The rotated siblings of a log file that are in its folder or in one of `others`: `access.log.1`,
/// `access.log.2.gz`, `access.log-20261123.zst`, `access-20261123.log`. Sorted, the oldest first as far as
/// names tell.
pub fn siblings(base: &Path, others: &[PathBuf]) -> Vec<PathBuf> {
    let Some(name) = base.file_name().and_then(|name| name.to_str()) else { return Vec::new() };
    let folders = base.parent().into_iter().chain(others.iter().map(PathBuf::as_path));
    let mut found: Vec<PathBuf> = folders
        .flat_map(|folder| {
            let rotated = names(folder).into_iter().filter(|other| is_rotated(name, other));
            rotated.map(|other| folder.join(other)).collect::<Vec<_>>()
        })
        .collect();
    found.sort_by_cached_key(|path| {
        let number = path.file_name().and_then(|other| rotation_number(name, other.to_str()?));
        (std::cmp::Reverse(number), path.clone())
    });
    found
}

/// Whether `other` is what became of `name` by rotation.
pub fn is_rotated(name: &str, other: &str) -> bool {
    let other = strip_packed(other);
    let is_mark = |rest: &str| {
        let mark = rest.strip_prefix(['.', '-', '_']).unwrap_or_default();
        !mark.is_empty()
            && (mark == "old"
                || mark.starts_with(|c: char| c.is_ascii_digit())
                    && mark.chars().all(|c| c.is_ascii_digit() || "-_:.T".contains(c)))
    };
    if other.strip_prefix(name).is_some_and(is_mark) {
        return true;
    }
    let Some((stem, extension)) = name.rsplit_once('.') else { return false };
    other
        .strip_suffix(extension)
        .and_then(|rest| rest.strip_suffix('.'))
        .and_then(|rest| rest.strip_prefix(stem))
        .is_some_and(is_mark)
}

/// Whether a name says that the file is compressed.
pub fn is_packed(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "gz" || extension == "zst")
}

fn strip_packed(name: &str) -> &str {
    name.strip_suffix(".gz").or_else(|| name.strip_suffix(".zst")).unwrap_or(name)
}

fn rotation_number(name: &str, other: &str) -> Option<u32> {
    strip_packed(other).strip_prefix(name)?.strip_prefix('.')?.parse().ok().filter(|n| *n < 10_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rotated_names_are_known_and_others_are_not() {
        fn check(other: &str, expected: bool) {
            assert_eq!(is_rotated("access.log", other), expected, "{other}");
        }
        for name in ["access.log.1", "access.log.12.gz", "access.log-20261123", "access.log.old"] {
            check(name, true);
        }
        for name in ["access-20261123.log", "access.log-20261123-10.zst", "access.1.log.gz"] {
            check(name, true);
        }
        for name in
            ["access.log", "access.log.gz", "error.log.1", "access.log.bak", "access_ssl.log"]
        {
            check(name, false);
        }
        check("access.logs.1", false);
        assert!(is_rotated("slow", "slow-2026-11-23T10:00") && !is_rotated("slow", "slower-1"));
    }

    #[test]
    fn siblings_come_oldest_first() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["a.log", "a.log.1", "a.log.10.gz", "a.log.2.gz", "b.log.1"] {
            fs::write(dir.path().join(name), "x").unwrap();
        }
        let found = siblings(&dir.path().join("a.log"), &[]);
        let names: Vec<_> =
            found.iter().map(|path| path.file_name().unwrap().to_str().unwrap()).collect();
        assert_eq!(names, ["a.log.10.gz", "a.log.2.gz", "a.log.1"]);
    }

    #[test]
    fn patterns_find_files_at_any_depth() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().to_str().unwrap();
        fs::create_dir_all(dir.path().join("site/a/logs")).unwrap();
        for name in ["x.log", "x.txt", "site/y.log", "site/a/logs/z.log", ".hidden.log"] {
            fs::write(dir.path().join(name), "x").unwrap();
        }
        let check = |pattern: &str, expected: &[&str]| {
            let found = Pattern::parse(&format!("{root}/{pattern}")).unwrap().find();
            let names: Vec<_> = found
                .iter()
                .map(|path| path.strip_prefix(dir.path()).unwrap().to_str().unwrap())
                .collect();
            assert_eq!(names, expected, "{pattern}");
        };
        check("x.log", &["x.log"]);
        check("*.log", &["x.log"]);
        check("{x,y}.*", &["x.log", "x.txt"]);
        check("**/*.log", &["site/a/logs/z.log", "site/y.log", "x.log"]);
        check("site/*/logs/*", &["site/a/logs/z.log"]);
        check("none/*", &[]);
    }

    #[test]
    fn wrong_patterns_are_refused() {
        assert!(matches!(Pattern::parse("log/x"), Err(PatternError::Relative(_))));
        assert!(matches!(Pattern::parse("/log/[x"), Err(PatternError::Malformed(..))));
    }
}
