//! Policy that no lint can see, held by a test: size of files and functions, what a file opens with, documents that
//! refer to what exists, dependencies that are explained and run one way.
//!
//! A rule is a function from text to [`Fault`]s, so that it can be tried on bad text below its definition; here they
//! are applied to every file of the repository. Nothing is built, started or changed.

#![expect(
    clippy::unwrap_used,
    clippy::case_sensitive_file_extension_comparisons,
    reason = "a rule that cannot be applied fails; names of ours are lower case"
)]

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

mod documents;
mod manifests;
mod rust;
mod text;

/// What nobody here edits: generated, or another's words.
const NOT_OURS: [&str; 3] = ["Cargo.lock", "LICENSE-APACHE", "LICENSE-MIT"];
/// Folders that are not part of the repository, the inputs of fuzzing, which are text by chance, and the lines that
/// real servers logged.
const SKIPPED_FOLDERS: [&str; 7] =
    ["goldens", "target", "__pycache__", ".state", "node_modules", "corpus", "lines"];
/// Hidden names that are part of it; others are skipped.
const HIDDEN_OURS: [&str; 3] = [".ci", ".gitignore", ".gitattributes"];

/// A file of the repository.
struct Source {
    /// Relative to the root, `/` between.
    path: String,
    text: String,
}

impl Source {
    fn has_extension(&self, extension: &str) -> bool {
        Path::new(&self.path).extension().is_some_and(|found| found == extension)
    }
}

/// Something in a file that is not as it should be.
#[derive(Debug, PartialEq)]
struct Fault {
    /// From 1.
    line: usize,
    what: String,
}

impl Fault {
    fn new(line: usize, what: impl Into<String>) -> Self {
        Self { line, what: what.into() }
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ has a parent").to_owned()
}

/// Every text file of the repository, sorted by path.
fn sources() -> Vec<Source> {
    let root = root();
    let mut found = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap().map(Result::unwrap) {
            let name = entry.file_name().into_string().expect("names of ours are UTF-8");
            let kind = entry.file_type().unwrap();
            if kind.is_dir() && is_ours(&name) && !SKIPPED_FOLDERS.contains(&name.as_str()) {
                folders.push(entry.path());
            } else if kind.is_file() && is_ours(&name) && !NOT_OURS.contains(&name.as_str()) {
                found.extend(read(&root, &entry.path()));
            }
        }
    }
    found.sort_by(|left, right| left.path.cmp(&right.path));
    assert!(found.len() > 10, "the repository is not at {}", root.display());
    found
}

fn is_ours(name: &str) -> bool {
    !name.starts_with('.') || HIDDEN_OURS.contains(&name)
}

/// `None` for what is not text.
fn read(root: &Path, path: &Path) -> Option<Source> {
    let text = String::from_utf8(fs::read(path).unwrap()).ok()?;
    let path = path.strip_prefix(root).expect("it was found below").to_str()?.to_owned();
    Some(Source { path, text })
}

/// Applies a rule to all files that it is for, and fails with the list of all faults.
fn hold(applies: impl Fn(&Source) -> bool, rule: impl Fn(&Source) -> Vec<Fault>) {
    let mut report = String::new();
    for source in sources().iter().filter(|source| applies(source)) {
        for Fault { line, what } in rule(source) {
            writeln!(report, "{}:{line}: {what}", source.path).expect("a string takes all");
        }
    }
    assert!(report.is_empty(), "not tidy:\n{report}");
}

#[test]
fn text_is_clean() {
    hold(|_| true, |source| text::faults(&source.path, &source.text));
}

#[test]
fn rust_files_are_small_and_say_what_they_are() {
    hold(|source| source.has_extension("rs"), |source| rust::faults(&source.path, &source.text));
}

#[test]
fn documents_refer_to_what_exists() {
    let root = root();
    let exists = |path: &str| root.join(path).exists();
    // The rule's own examples name what does not exist.
    let applies = |source: &Source| !source.path.starts_with("tests/tests/tidy/");
    hold(applies, |source| documents::missing(&source.path, &source.text, &exists));
}

#[test]
fn the_changelog_has_its_shape() {
    hold(|source| source.path == "CHANGELOG.md", |source| documents::changelog(&source.text));
}

#[test]
fn dependencies_are_explained() {
    hold(|source| source.path == "Cargo.toml", |source| manifests::explained(&source.text));
}

#[test]
fn dependencies_are_declared_once_and_run_one_way() {
    let is_member = |source: &Source| source.path.ends_with("/Cargo.toml");
    hold(is_member, |source| manifests::member(&source.path, &source.text));
}

#[test]
fn dependencies_are_used() {
    let sources = sources();
    let is_member = |source: &Source| source.path.ends_with("/Cargo.toml");
    hold(is_member, |member| {
        let folder = member.path.strip_suffix("Cargo.toml").expect("it is one");
        let code = sources.iter().filter(|source| source.path.starts_with(folder));
        let code: Vec<&str> = code.filter(|s| s.has_extension("rs")).map(|s| &*s.text).collect();
        manifests::unused(&member.text, &code)
    });
}
