//! The file system of a host, read within bounds: no path leads out of the root, and no configuration, however it
//! was made, is read without end.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::Path;

use globset::GlobBuilder;
use rustix::fs::{Dir, Mode, OFlags, ResolveFlags};

use super::Origin;

/// A configuration file is not larger; what is larger is not read.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Files that are read in all.
const FILES_MAX: usize = 1024;
/// Names of a folder that are looked at.
const NAMES_MAX: usize = 4096;
/// How deep includes go.
pub(super) const DEPTH_MAX: usize = 8;

/// A host's file system.
#[derive(Debug)]
pub(super) struct Tree {
    root: OwnedFd,
    files_left: usize,
    problems: Vec<(Origin, String)>,
}

/// A configuration file.
#[derive(Debug)]
pub(super) struct Text {
    pub path: String,
    pub content: String,
}

impl Text {
    /// A line of it, from 1.
    pub fn at(&self, line: usize) -> Origin {
        Origin { file: self.path.clone(), line }
    }

    /// Its lines that say something, with their numbers, without blanks around them.
    pub fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.content.lines().enumerate();
        lines.map(|(index, line)| (index + 1, line.trim())).filter(|(_, line)| !line.is_empty())
    }
}

impl Tree {
    pub fn open(root: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(root, flags, Mode::empty())?;
        Ok(Self { root, files_left: FILES_MAX, problems: Vec::new() })
    }

    pub fn problems(self) -> Vec<(Origin, String)> {
        self.problems
    }

    fn descend(&self, path: &str, flags: OFlags) -> io::Result<OwnedFd> {
        let flags = flags | OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let inside = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        Ok(rustix::fs::openat2(&self.root, path, flags, Mode::empty(), inside)?)
    }

    pub fn has(&self, path: &str) -> bool {
        self.descend(path, OFlags::empty()).is_ok()
    }

    /// Reads a file. A file that is not there is none; one that cannot be read is noted.
    pub fn read(&mut self, path: &str) -> Option<Text> {
        match self.read_within_bounds(path) {
            Ok(content) => Some(Text { path: path.to_owned(), content }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                if self.problems.len() < FILES_MAX {
                    let origin = Origin { file: path.to_owned(), line: 0 };
                    self.problems.push((origin, format!("it cannot be read: {error}")));
                }
                None
            }
        }
    }

    fn read_within_bounds(&mut self, path: &str) -> io::Result<String> {
        let file = File::from(self.descend(path, OFlags::empty())?);
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::other("it is not a regular file"));
        }
        if metadata.len() > FILE_BYTES_MAX {
            return Err(io::Error::other("it is larger than any configuration"));
        }
        self.files_left =
            self.files_left.checked_sub(1).ok_or_else(|| io::Error::other("too many files"))?;
        let mut bytes = Vec::new();
        file.take(FILE_BYTES_MAX).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The files that a pattern of an absolute path means, sorted. A path without a wildcard is itself.
    pub fn glob(&self, pattern: &str) -> Vec<String> {
        if !pattern.contains(['*', '?', '[']) {
            return vec![pattern.to_owned()];
        }
        let mut paths = vec![String::new()];
        for part in pattern.split('/').filter(|part| !part.is_empty()) {
            if !part.contains(['*', '?', '[']) {
                for path in &mut paths {
                    *path = format!("{path}/{part}");
                }
                continue;
            }
            let Ok(glob) = GlobBuilder::new(part).literal_separator(true).build() else {
                return Vec::new();
            };
            let matcher = glob.compile_matcher();
            let mut next = Vec::new();
            for path in &paths {
                let names = self.names(if path.is_empty() { "/" } else { path });
                let good = names.into_iter().filter(|name| {
                    matcher.is_match(name) && (!name.starts_with('.') || part.starts_with('.'))
                });
                next.extend(good.map(|name| format!("{path}/{name}")));
                if next.len() >= FILES_MAX {
                    next.truncate(FILES_MAX);
                    break;
                }
            }
            paths = next;
        }
        paths
    }

    /// The names in a folder, sorted.
    pub fn names(&self, folder: &str) -> Vec<String> {
        let open = self.descend(folder, OFlags::DIRECTORY).ok();
        let Some(entries) = open.and_then(|fd| Dir::new(fd).ok()) else { return Vec::new() };
        let names = entries.take(NAMES_MAX).filter_map(|entry| {
            let name = entry.ok()?.file_name().to_str().ok()?.to_owned();
            (name != "." && name != "..").then_some(name)
        });
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    }
}

/// A path as another file names it: relative to a folder, unless it is absolute.
pub(super) fn under(folder: &str, path: &str) -> String {
    if path.starts_with('/') {
        return path.to_owned();
    }
    format!("{}/{path}", folder.trim_end_matches('/'))
}
