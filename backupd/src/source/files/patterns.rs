//! Which parts of a tree are backed up: include and exclude patterns.
//!
//! The rules, as `docs/files.md` tells them to users:
//!
//! - A pattern with a `/` (at the beginning or within) is anchored: it is compared with the whole
//!   path below the root. One without is compared with the name alone, at any depth.
//! - A `/` at the end: directories only.
//! - `*` and `?` do not match `/`; `**` as a whole part does; `[a-z]`, `[!a-z]` and `{a,b}` are
//!   known; `\` takes the next character as it is. Bytes are compared, so `?` is one byte of a letter
//!   outside ASCII, and case matters.
//! - What `exclude` matches is left out with all that is below it; such a directory is not even
//!   opened.
//! - If there is an `include`, only what it matches is kept, and all that is below a directory that
//!   it matches. The directories that could hold a match are kept too, if need be empty.
//! - `exclude` wins. The root itself is always kept.

use anyhow::{Context, Result};
use chassis::failure::{Exit, Failure};
use globset::{Candidate, Glob, GlobBuilder, GlobSet};

/// A pattern that could never match, or does not mean what its writer may think.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("pattern `{pattern}` {why}")]
pub struct BadPattern {
    /// As it was written.
    pub pattern: String,
    /// What is wrong with it.
    pub why: String,
    /// What to write instead.
    pub hint: &'static str,
}

/// Checks one pattern.
pub fn check(pattern: &str) -> Result<(), BadPattern> {
    Pattern::parse(pattern).map(drop)
}

/// Compiled patterns.
#[derive(Clone, Debug)]
pub struct Patterns {
    exclude: Set,
    include: Option<Include>,
}

/// What the patterns say of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Left out, with all that is below it.
    Out,
    /// Kept; what is below it needs no include pattern of its own.
    In,
    /// A directory that may hold something that is included.
    Way,
}

impl Patterns {
    /// Compiles patterns. Errors are failures with [`Exit::Usage`] that name the pattern.
    pub fn new(include: &[String], exclude: &[String]) -> Result<Self> {
        let (include, exclude) = (parse_all(include)?, parse_all(exclude)?);
        let included = if include.is_empty() { None } else { Some(Include::new(&include)?) };
        Ok(Self { exclude: Set::new(&exclude)?, include: included })
    }

    /// True if nothing has to match an include pattern.
    pub fn includes_all(&self) -> bool {
        self.include.is_none()
    }

    /// Judges a path below the root. `included` is true if the directory that it is in is
    /// [`Verdict::In`].
    pub fn judge(&self, path: &[u8], is_dir: bool, included: bool) -> Verdict {
        if self.exclude.is_empty() && (included || self.include.is_none()) {
            return Verdict::In;
        }
        let path = Candidate::from_bytes(path);
        if self.exclude.matches(&path, is_dir) {
            return Verdict::Out;
        }
        match &self.include {
            Some(include) if !included => include.judge(&path, is_dir),
            _ => Verdict::In,
        }
    }
}

fn parse_all(texts: &[String]) -> Result<Vec<Pattern>> {
    let parsed = texts.iter().map(|text| Pattern::parse(text));
    let parsed: Result<_, BadPattern> = parsed.collect();
    parsed.map_err(|bad| Failure::new(Exit::Usage, bad.to_string()).hint(bad.hint).into())
}

#[derive(Clone, Debug)]
struct Include {
    set: Set,
    /// Directories that could hold a match.
    ways: GlobSet,
}

impl Include {
    fn new(patterns: &[Pattern]) -> Result<Self> {
        let ways = patterns.iter().flat_map(Pattern::ways).map(|way| compile(&way));
        let ways =
            GlobSet::new(ways.collect::<Result<Vec<_>, _>>()?).context("compile patterns")?;
        Ok(Self { set: Set::new(patterns)?, ways })
    }

    fn judge(&self, path: &Candidate<'_>, is_dir: bool) -> Verdict {
        if self.set.matches(path, is_dir) {
            Verdict::In
        } else if is_dir && self.ways.is_match_candidate(path) {
            Verdict::Way
        } else {
            Verdict::Out
        }
    }
}

#[derive(Clone, Debug)]
struct Set {
    anything: GlobSet,
    directories: GlobSet,
}

impl Set {
    fn new(patterns: &[Pattern]) -> Result<Self> {
        let compiled = |only_dirs: bool| -> Result<GlobSet> {
            let globs = patterns.iter().filter(|pattern| pattern.only_dirs == only_dirs);
            let globs = globs.map(|pattern| pattern.glob.clone());
            GlobSet::new(globs).context("compile patterns")
        };
        Ok(Self { anything: compiled(false)?, directories: compiled(true)? })
    }

    fn is_empty(&self) -> bool {
        self.anything.is_empty() && self.directories.is_empty()
    }

    fn matches(&self, path: &Candidate<'_>, is_dir: bool) -> bool {
        self.anything.is_match_candidate(path)
            || is_dir && self.directories.is_match_candidate(path)
    }
}

struct Pattern {
    glob: Glob,
    /// Without slashes at its ends.
    text: String,
    anchored: bool,
    only_dirs: bool,
}

impl Pattern {
    fn parse(text: &str) -> Result<Self, BadPattern> {
        let refuse = |why: &str, hint| {
            Err(BadPattern { pattern: text.to_owned(), why: why.to_owned(), hint })
        };
        if text.starts_with('!') {
            return refuse(
                "begins with `!`",
                "there are no exceptions; write `\\!` for such a name",
            );
        }
        let only_dirs = text.ends_with('/');
        let rooted = text.starts_with('/');
        let inner = text.strip_suffix('/').unwrap_or(text);
        let inner = inner.strip_prefix('/').unwrap_or(inner);
        let anchored = rooted || inner.contains('/');
        if inner.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return refuse(
                "never matches",
                "a pattern is a name or a path below the root, without `.`, `..` or empty parts",
            );
        }
        let glob = if anchored { compile(inner) } else { compile(&format!("**/{inner}")) };
        match glob {
            Ok(glob) => Ok(Self { glob, text: inner.to_owned(), anchored, only_dirs }),
            Err(error) => refuse(
                &format!("is not valid: {}", error.kind()),
                "write `\\` before a special character that is meant as it is",
            ),
        }
    }

    /// Globs of the directories that could hold a match.
    ///
    /// Up to a part whose extent cannot be told by looking at `/` (braces, classes, escapes) or
    /// that has any depth.
    fn ways(&self) -> Vec<String> {
        if !self.anchored {
            return vec!["**".to_owned()];
        }
        let mut ways = Vec::new();
        let mut way = String::new();
        let parts: Vec<&str> = self.text.split('/').collect();
        for part in &parts[..parts.len() - 1] {
            if *part == "**" || part.contains(['{', '[', '\\']) {
                ways.push(format!("{way}**"));
                break;
            }
            way.push_str(part);
            ways.push(way.clone());
            way.push('/');
        }
        ways
    }
}

fn compile(text: &str) -> Result<Glob, globset::Error> {
    GlobBuilder::new(text).literal_separator(true).backslash_escape(true).build()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns(include: &[&str], exclude: &[&str]) -> Patterns {
        let owned = |texts: &[&str]| texts.iter().map(ToString::to_string).collect::<Vec<_>>();
        Patterns::new(&owned(include), &owned(exclude)).expect("patterns are valid")
    }

    /// `path` ends with `/` if it is a directory.
    fn is_excluded(pattern: &str, path: &str) -> bool {
        let path_only = path.trim_end_matches('/');
        let patterns = patterns(&[], &[pattern]);
        patterns.judge(path_only.as_bytes(), path.ends_with('/'), true) == Verdict::Out
    }

    #[test]
    fn a_pattern_without_slash_matches_names_at_any_depth() {
        for path in ["a.log", "x/a.log", "x/y/a.log", "a.log/", "new\nline/a.log"] {
            assert!(is_excluded("*.log", path), "{path:?}");
        }
        for path in ["a.logs", "a.log.gz", "x.log2/a", "A.LOG"] {
            assert!(!is_excluded("*.log", path), "{path:?}");
        }
        assert!(is_excluded("cache", "x/cache"));
        assert!(!is_excluded("cache", "x/mycache"));
        assert!(is_excluded("caf?", "cafe"));
        assert!(!is_excluded("caf?", "caf\u{e9}"), "two bytes");
        assert!(is_excluded("{a,b}.tmp", "x/b.tmp"));
        assert!(is_excluded("[!a].tmp", "b.tmp"));
        assert!(is_excluded("\\*", "*") && !is_excluded("\\*", "a"));
    }

    #[test]
    fn a_pattern_with_slash_is_anchored() {
        assert!(is_excluded("/cache", "cache"));
        assert!(!is_excluded("/cache", "x/cache"));
        assert!(is_excluded("wp-content/cache", "wp-content/cache/"));
        assert!(!is_excluded("wp-content/cache", "x/wp-content/cache/"));
        assert!(is_excluded("wp-content/*/x", "wp-content/a/x"));
        assert!(!is_excluded("wp-content/*/x", "wp-content/a/b/x"));
        assert!(is_excluded("a/**/x", "a/x") && is_excluded("a/**/x", "a/b/c/x"));
        assert!(is_excluded("**/b/x", "b/x") && is_excluded("**/b/x", "a/b/x"));
        assert!(is_excluded("a/**", "a/b") && !is_excluded("a/**", "a/"));
    }

    #[test]
    fn a_slash_at_the_end_means_directories_only() {
        assert!(is_excluded("cache/", "x/cache/") && !is_excluded("cache/", "x/cache"));
        assert!(is_excluded("/cache/", "cache/") && !is_excluded("/cache/", "x/cache/"));
        assert!(!is_excluded("/cache/", "cache"));
    }

    #[test]
    fn bytes_that_are_not_utf8_are_matched() {
        let patterns = patterns(&[], &["*.log"]);
        assert_eq!(patterns.judge(b"x\xff/\xfe.log", false, true), Verdict::Out);
        assert_eq!(patterns.judge(b"\xfe.txt", false, true), Verdict::In);
    }

    #[test]
    fn include_keeps_matches_and_the_way_to_them() {
        let judge = |include: &str, path: &str| {
            let (path_only, is_dir) = (path.trim_end_matches('/'), path.ends_with('/'));
            patterns(&[include], &[]).judge(path_only.as_bytes(), is_dir, false)
        };
        assert_eq!(judge("a/b*/c", "a/"), Verdict::Way);
        assert_eq!(judge("a/b*/c", "a/bb/"), Verdict::Way);
        assert_eq!(judge("a/b*/c", "a/bb/c"), Verdict::In);
        assert_eq!(judge("a/b*/c", "a/c/"), Verdict::Out);
        assert_eq!(judge("a/b*/c", "a/bb"), Verdict::Out, "a file is on no way");
        assert_eq!(judge("a/b*/c", "x/"), Verdict::Out);
        assert_eq!(judge("a/**/c", "a/x/y/"), Verdict::Way);
        assert_eq!(judge("a/{b,c/d}/e", "a/c/d/"), Verdict::Way);
        assert_eq!(judge("a/{b,c/d}/e", "a/c/d/e"), Verdict::In);
        assert_eq!(judge("*.php", "x/y/"), Verdict::Way);
        assert_eq!(judge("*.php", "x/y/z.php"), Verdict::In);
        assert_eq!(judge("*.php", "x/y/z.html"), Verdict::Out);
        assert_eq!(judge("uploads/", "wp/uploads/"), Verdict::In);
        assert_eq!(judge("uploads/", "wp/uploads"), Verdict::Out);
    }

    #[test]
    fn exclude_wins_and_what_is_below_a_match_is_included() {
        let patterns = patterns(&["uploads/"], &["*.tmp"]);
        assert_eq!(patterns.judge(b"uploads/x", false, true), Verdict::In);
        assert_eq!(patterns.judge(b"uploads/x.tmp", false, true), Verdict::Out);
        assert_eq!(patterns.judge(b"x", false, false), Verdict::Out);
    }

    #[test]
    fn patterns_that_cannot_work_are_refused_with_advice() {
        for text in ["", "/", "//", "a//b", "./a", "a/..", "!a", "[a", "{a", "a\\"] {
            let error = Patterns::new(&[], &[text.to_owned()]).expect_err(text);
            assert_eq!(chassis::failure::exit_of(&error), Exit::Usage, "{text}");
            assert!(chassis::failure::hint_of(&error).is_some(), "{text}");
        }
    }
}
