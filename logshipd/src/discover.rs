//! Which logs a host has, by the configuration files of its servers: no log needs to be named.
//!
//! What is read may be anything: files, bytes, depth of includes and sources are bounded (see [`tree`]), nothing is
//! run, and a path leads nowhere outside of the root that was given. What cannot be read or understood is a warning
//! with file and line, and never an error.

mod database;
mod haproxy;
mod nginx;
mod php;
mod services;
mod tree;

use std::fmt;
use std::path::Path;

use serde::Serialize;

use crate::parse::Format;
use tree::Tree;

/// No host has more; what is beyond is named in a warning.
pub const SOURCES_MAX: usize = 256;

/// A line of a configuration file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Origin {
    /// The file, as its server sees it.
    pub file: String,
    /// The line, from 1; 0 is the file as a whole.
    pub line: usize,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}", self.file),
            line => write!(f, "{}:{line}", self.file),
        }
    }
}

/// Files that a server writes, and what is in them.
#[derive(Clone, Debug, Serialize)]
pub struct Source {
    /// A pattern of absolute paths.
    pub pattern: String,
    /// What the lines are; none: every line is a message.
    #[serde(skip)]
    pub format: Option<Format>,
    /// The dataset of its entries, where they do not say otherwise.
    pub dataset: &'static str,
    /// What was found.
    pub why: String,
    /// Where it was found.
    pub origin: Origin,
}

/// Something that is there and is not shipped, or not as it could be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Warning {
    /// Where.
    pub origin: Origin,
    /// What.
    pub problem: String,
}

/// What a host has.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Found {
    /// Log files; each pattern stands once.
    pub sources: Vec<Source>,
    /// Logs that go elsewhere than to a file, in words: to syslog or the journal.
    pub elsewhere: Vec<Warning>,
    /// What could not be read or understood.
    pub warnings: Vec<Warning>,
}

impl Found {
    fn add(&mut self, pattern: &str, format: Option<Format>, why: impl Into<String>, at: Origin) {
        if !pattern.starts_with('/') || pattern.starts_with("/dev/") {
            return self.elsewhere(at, format!("{}: logged to `{pattern}`", why.into()));
        }
        let dataset = format.as_ref().map_or("generic", |format| format.dataset().as_str());
        if let Some(known) = self.sources.iter().find(|source| source.pattern == pattern) {
            if known.dataset != dataset {
                let problem = format!("`{pattern}` is read as {} already", known.dataset);
                self.warn(at, problem);
            }
            return;
        }
        if self.sources.len() == SOURCES_MAX {
            return self.warn(at, format!("`{pattern}` is left out: there are too many logs"));
        }
        let (pattern, why) = (pattern.to_owned(), why.into());
        self.sources.push(Source { pattern, format, dataset, why, origin: at });
    }

    fn warn(&mut self, origin: Origin, problem: impl Into<String>) {
        push(&mut self.warnings, Warning { origin, problem: problem.into() });
    }

    fn elsewhere(&mut self, origin: Origin, problem: impl Into<String>) {
        push(&mut self.elsewhere, Warning { origin, problem: problem.into() });
    }
}

fn push(list: &mut Vec<Warning>, warning: Warning) {
    if list.len() < SOURCES_MAX && !list.contains(&warning) {
        list.push(warning);
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What is in a configuration may hold anything, also what a terminal would obey.
        let mut row =
            |what: &str, text: String| writeln!(f, "{what:<16} {}", chassis::text::escaped(&text));
        for Source { pattern, dataset, why, origin, .. } in &self.sources {
            row(dataset, format!("{pattern} ({why}, {origin})"))?;
        }
        for Warning { origin, problem } in &self.elsewhere {
            row("no file", format!("{problem} ({origin})"))?;
        }
        self.warnings.iter().try_for_each(|Warning { origin, problem }| {
            row("warning", format!("{origin}: {problem}"))
        })
    }
}

/// Looks at a host, whose file system begins at `root`.
pub fn discover(root: &Path) -> Found {
    let mut found = Found::default();
    let mut tree = match Tree::open(root) {
        Ok(tree) => tree,
        Err(error) => {
            let origin = Origin { file: root.display().to_string(), line: 0 };
            found.warn(origin, format!("it cannot be read: {error}"));
            return found;
        }
    };
    nginx::find(&mut tree, &mut found);
    let formats = haproxy::find(&mut tree, &mut found);
    database::find(&mut tree, &mut found);
    php::find(&mut tree, &mut found);
    services::find(&mut tree, formats, &mut found);
    for (origin, problem) in tree.problems() {
        found.warn(origin, problem);
    }
    found
}

#[cfg(test)]
mod tests;
