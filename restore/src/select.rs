//! Which files of a snapshot are wanted.
//!
//! A path is wanted if a pattern names it, a directory above it, or matches it as a glob (`*` within one directory,
//! `**` across). Pure: no file is looked at.

use std::collections::{BTreeMap, HashSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use anyhow::Result;
use chassis::failure::{Exit, Failure};
use database::tablespace::{TableName, is_needed_for};
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

/// What to restore of a snapshot.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    only: Only,
    /// First names of hard links whose first name is not wanted itself, and the name that takes its place.
    renamed: BTreeMap<Vec<u8>, Vec<u8>>,
}

#[derive(Clone, Debug, Default)]
enum Only {
    #[default]
    Everything,
    Paths(Paths),
    /// These tables of a database, and what preparing it takes.
    Tables(Vec<TableName>),
}

#[derive(Clone, Debug)]
struct Paths {
    exact: HashSet<Vec<u8>>,
    globs: GlobSet,
}

impl Selection {
    /// Everything.
    pub fn all() -> Self {
        Self::default()
    }

    /// What these patterns name; everything if there are none. A pattern that is no valid glob is taken as a
    /// plain path.
    pub fn of(patterns: &[Vec<u8>]) -> Result<Self> {
        if patterns.is_empty() {
            return Ok(Self::all());
        }
        let mut exact = HashSet::new();
        let mut globs = GlobSetBuilder::new();
        for pattern in patterns {
            let plain = plain_path(pattern);
            if plain.is_empty() {
                return Ok(Self::all());
            }
            if let Some(glob) = std::str::from_utf8(plain).ok().and_then(glob_of) {
                globs.add(glob);
            }
            exact.insert(plain.to_vec());
        }
        let globs = globs.build().map_err(|error| {
            Failure::new(Exit::Usage, "the patterns of --path cannot be used").because(error)
        })?;
        Ok(Self { only: Only::Paths(Paths { exact, globs }), renamed: BTreeMap::new() })
    }

    /// These tables of a database, and what it takes to get them out of it. Not for a backup with renames.
    pub fn tables(tables: Vec<TableName>) -> Self {
        Self { only: Only::Tables(tables), renamed: BTreeMap::new() }
    }

    /// Whether everything is wanted.
    pub fn is_all(&self) -> bool {
        matches!(self.only, Only::Everything)
    }

    /// The tables that are wanted, if it is tables.
    pub fn tables_wanted(&self) -> &[TableName] {
        match &self.only {
            Only::Tables(tables) => tables,
            _ => &[],
        }
    }

    /// Whether a path is wanted.
    pub fn wants(&self, path: &[u8]) -> bool {
        let paths = match &self.only {
            Only::Everything => return true,
            Only::Tables(tables) => {
                let path = Path::new(OsStr::from_bytes(path));
                return tables.iter().any(|table| is_needed_for(path, table));
            }
            Only::Paths(paths) => paths,
        };
        self_and_above(path)
            .any(|path| paths.exact.contains(path) || paths.globs.is_match(OsStr::from_bytes(path)))
    }

    /// Lets the content of `first` take the place of its further name `wanted`.
    pub fn rename(&mut self, first: Vec<u8>, wanted: Vec<u8>) {
        self.renamed.entry(first).or_insert(wanted);
    }

    /// All names that take the place of a first one.
    pub fn renames(&self) -> impl Iterator<Item = &Vec<u8>> {
        self.renamed.values()
    }

    /// The name under which a first name is restored that is not wanted itself.
    pub fn renamed(&self, first: &[u8]) -> Option<&[u8]> {
        self.renamed.get(first).map(Vec::as_slice)
    }
}

/// Without what a shell's completion or a habit adds: `./` before, `/` before or behind.
fn plain_path(pattern: &[u8]) -> &[u8] {
    let mut plain = pattern;
    loop {
        let shorter = plain.strip_prefix(b"./").or_else(|| plain.strip_prefix(b"/"));
        let Some(rest) = shorter.or_else(|| plain.strip_suffix(b"/")) else { break };
        plain = rest;
    }
    if plain == b"." { b"" } else { plain }
}

fn glob_of(text: &str) -> Option<globset::Glob> {
    let is_glob = text.contains(['*', '?', '[', '{']);
    is_glob.then(|| GlobBuilder::new(text).literal_separator(true).build().ok()).flatten()
}

/// `a/b/c`, `a/b`, `a`.
pub fn self_and_above(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::successors(Some(path), |path| {
        path.iter().rposition(|b| *b == b'/').map(|slash| &path[..slash])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_named_whole_by_its_folder_or_by_a_pattern() {
        fn check(pattern: &str, path: &str, expected: bool) {
            let selection = Selection::of(&[pattern.into()]).unwrap();
            assert_eq!(selection.wants(path.as_bytes()), expected, "{pattern} {path}");
        }
        check("a/b", "a/b", true);
        check("a/b", "a/b/c/d", true);
        check("a/b", "a/bc", false);
        check("a/b", "a", false);
        check("/a/b/", "a/b", true);
        check("./a", "a", true);
        check(".", "anything", true);
        check("/", "anything", true);
        check("*.jpg", "a.jpg", true);
        check("*.jpg", "b/a.jpg", false);
        check("**/*.jpg", "b/c/a.jpg", true);
        check("a[1]", "a1", true);
        check("a[1]", "a[1]", true);
        check("a[", "a[", true);
        check("wp-*/x", "wp-content/x", true);
        check("wp-*", "wp-content/x/y", true);
    }

    #[test]
    fn no_pattern_wants_everything() {
        assert!(Selection::of(&[]).unwrap().wants(b"x"));
        assert!(!Selection::of(&[b"\xff".to_vec()]).unwrap().wants(b"x"));
        assert!(Selection::of(&[b"\xff".to_vec()]).unwrap().wants(b"\xff/x"));
    }
}
