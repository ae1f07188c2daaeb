//! A tree of files as the source of a backup.
//!
//! Directories, files, symbolic links and hard links are stored with mode, owner, times and
//! extended attributes (ACLs are among them); holes stay holes. Sockets, fifos and devices are left
//! out with a word in the log. The tree is untrusted: nothing below the root is reached by a path,
//! no link is followed, nothing is waited for ([`walk`]).
//!
//! A file whose size, times and inode are those of the last run is not read
//! ([`attributes::trusted_stamp`]). One that changes while it is read is read again,
//! [`ATTEMPTS_MAX`] times in all; then it is stored as it was read last, and is a problem, as is
//! everything that cannot be read. A file that vanishes while the tree is walked is none. Which
//! files there are is up to [`patterns`].

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use anyhow::{Context, Result};
use chassis::failure::{Exit, Failure};
use chassis::progress::Progress;
use chassis::retry::Stop;
use chassis::text::escaped;
use depot::manifest::{PATH_BYTES_MAX, Problem};
use depot::writer::SnapshotWriter;
use rustix::fs::{FileType, Statx};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::config::FilesJob;

pub mod attributes;
mod entries;
pub mod links;
pub mod owners;
pub mod patterns;
pub mod read;
pub mod walk;

use attributes::XattrReader;
use links::Links;
use owners::Owners;
use patterns::{Patterns, Verdict};
use read::PIECE_BYTES;
use walk::Folder;

/// A file that changes while it is read is read this often; so is looked at a name that changes its
/// kind.
pub const ATTEMPTS_MAX: u32 = 3;
/// So many problems are named in a snapshot; the log names all.
const PROBLEMS_MAX: u64 = 1000;
/// So long are they together: they are in one line of the manifest, which may be 16 MiB long. Names
/// are escaped already, so that a byte takes two there at most.
const PROBLEMS_BYTES_MAX: usize = 2 << 20;
/// So many entries of unfit kinds are named in the log; all are counted.
const WARNINGS_MAX: u64 = 100;

/// What was found. What was stored is in the writer's report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TreeSummary {
    /// Directories stored, the root among them.
    pub dirs: u64,
    /// Files that were read.
    pub files_read: u64,
    /// Files that were not read, because they had not changed.
    pub files_kept: u64,
    /// Symbolic links stored.
    pub symlinks: u64,
    /// Further names of files stored.
    pub hardlinks: u64,
    /// Entries that a pattern or the limit to one file system left out; what is below them is not
    /// counted.
    pub excluded: u64,
    /// Sockets, fifos and devices, which cannot be stored.
    pub skipped: u64,
    /// Entries that vanished while the tree was walked.
    pub vanished: u64,
    /// Entries that could not be read or did not hold still; more than a snapshot names.
    pub problems: u64,
}

/// Feeds a tree to a writer. With `rescan` unchanged files are read too.
///
/// Errors end the run: the root cannot be opened or is empty, a pattern is not valid, the writer fails, `stop`
/// is raised.
pub fn backup_tree(
    job: &FilesJob,
    rescan: bool,
    writer: &mut SnapshotWriter,
    stop: &Stop,
    progress: &Progress,
) -> Result<TreeSummary> {
    let patterns = Patterns::new(&job.include, &job.exclude)?;
    let root = walk::open_root(&job.root)?;
    let stat = walk::stat_open(&root).context("read attributes of root")?;
    let mut tree = Tree {
        job,
        rescan,
        patterns,
        writer,
        stop,
        progress,
        device: walk::device(&stat),
        owners: Owners::load(),
        links: Links::default(),
        xattrs: XattrReader::with_buffers(),
        buffer: vec![0; PIECE_BYTES],
        path: Vec::new(),
        links_overflowed: false,
        problems_named: 0,
        problems_bytes: 0,
        summary: TreeSummary::default(),
    };
    tree.check_xattrs()?;
    tree.walk(root, &stat)?;
    tree.end();
    Ok(tree.summary)
}

/// Fails if the run is to end.
pub(crate) fn check_stop(stop: &Stop) -> Result<()> {
    if stop.is_stopped() {
        return Err(Failure::new(Exit::Interrupted, "stopped while reading files").into());
    }
    Ok(())
}

struct Tree<'a> {
    job: &'a FilesJob,
    rescan: bool,
    patterns: Patterns,
    writer: &'a mut SnapshotWriter,
    stop: &'a Stop,
    progress: &'a Progress,
    /// The file system of the root.
    device: (u32, u32),
    owners: Owners,
    links: Links,
    xattrs: XattrReader,
    buffer: Vec<u8>,
    /// The path of the entry at hand, below the root.
    path: Vec<u8>,
    links_overflowed: bool,
    problems_named: u64,
    problems_bytes: usize,
    summary: TreeSummary,
}

/// What became of an entry.
enum Visit {
    /// It is stored, or never will be.
    Done,
    /// It is a directory, and stored; what is in it is next.
    Enter(Folder),
    /// It became something else while it was looked at.
    Again,
}

impl Tree<'_> {
    fn walk(&mut self, root: OwnedFd, stat: &Statx) -> Result<()> {
        let included = self.patterns.includes_all();
        let mut folders = vec![self.enter(root, stat, included)?];
        if !self.job.allow_empty && folders[0].names.is_empty() && self.summary.problems == 0 {
            let root = self.job.root.display();
            return Err(Failure::new(Exit::Failed, format!("root {root} is empty"))
                .hint("is it mounted? if it may be empty, set `allow-empty = true` for the job")
                .into());
        }
        loop {
            check_stop(self.stop)?;
            let depth = folders.len();
            let Some(folder) = folders.last_mut() else { return Ok(()) };
            self.path.truncate(folder.path_bytes);
            let Some(name) = folder.names.take() else {
                folders.pop();
                continue;
            };
            if folder.path_bytes > 0 {
                self.path.push(b'/');
            }
            self.path.extend_from_slice(name.to_bytes());
            if let Some(below) = self.visit(folder.dir.as_fd(), name, folder.included, depth)? {
                folders.push(below);
            }
        }
    }

    /// Stores the entry at hand, whatever it is; returns a directory to go into.
    fn visit(
        &mut self,
        dir: BorrowedFd<'_>,
        name: &CStr,
        included: bool,
        depth: usize,
    ) -> Result<Option<Folder>> {
        if self.path.len() > PATH_BYTES_MAX {
            self.problem(format!("left out: its path is longer than {PATH_BYTES_MAX} bytes"));
            return Ok(None);
        }
        for _ in 0..ATTEMPTS_MAX {
            let stat = match walk::stat_name(dir, name) {
                Ok(stat) => stat,
                Err(error) => {
                    self.unreadable("read attributes", error);
                    return Ok(None);
                }
            };
            let kind = FileType::from_raw_mode(u32::from(stat.stx_mode));
            let is_dir = kind == FileType::Directory;
            let verdict = self.patterns.judge(&self.path, is_dir, included);
            if verdict == Verdict::Out || !is_dir && self.is_elsewhere(&stat) {
                self.summary.excluded += 1;
                return Ok(None);
            }
            let visit = match kind {
                FileType::Directory => {
                    self.folder(dir, name, &stat, verdict == Verdict::In, depth)?
                }
                FileType::RegularFile => self.file(dir, name, &stat)?,
                FileType::Symlink => self.symlink(dir, name, &stat)?,
                _ => self.skip(kind),
            };
            match visit {
                Visit::Done => return Ok(None),
                Visit::Enter(folder) => return Ok(Some(folder)),
                Visit::Again => tracing::debug!("`{}` became something else", self.path_text()),
            }
        }
        self.problem("left out: it became something else each time it was looked at");
        Ok(None)
    }

    fn is_elsewhere(&self, stat: &Statx) -> bool {
        self.job.one_file_system && walk::device(stat) != self.device
    }

    /// Leaves out what cannot be stored.
    fn skip(&mut self, kind: FileType) -> Visit {
        self.summary.skipped += 1;
        let kind = match kind {
            FileType::Socket => "a socket",
            FileType::Fifo => "a fifo",
            _ => "a device",
        };
        if self.summary.skipped <= WARNINGS_MAX {
            tracing::warn!("`{}` is left out: it is {kind}", self.path_text());
        }
        Visit::Done
    }

    /// An entry that cannot be reached: a problem, unless it is not there any more.
    fn unreadable(&mut self, what: &str, error: Errno) -> Visit {
        if error == Errno::NOENT {
            tracing::debug!("`{}` vanished", self.path_text());
            self.summary.vanished += 1;
        } else {
            self.problem(format!("left out: {what}: {error}"));
        }
        Visit::Done
    }

    fn problem(&mut self, what: impl Into<String>) {
        let (path, what) = (self.path_text(), what.into());
        tracing::warn!("`{path}`: {what}");
        self.summary.problems += 1;
        let bytes = self.problems_bytes + path.len() + what.len();
        if self.problems_named < PROBLEMS_MAX && bytes <= PROBLEMS_BYTES_MAX {
            self.problems_named += 1;
            self.problems_bytes = bytes;
            self.writer.problem(Problem { path, what });
        }
    }

    /// The path of the entry at hand, for people: on one line.
    fn path_text(&self) -> String {
        if self.path.is_empty() {
            return ".".to_owned();
        }
        escaped(&String::from_utf8_lossy(&self.path)).into_owned()
    }

    /// Says what was only counted.
    fn end(&mut self) {
        self.path.clear();
        let TreeSummary { skipped, problems, .. } = self.summary;
        if skipped > WARNINGS_MAX {
            tracing::warn!("{skipped} sockets, fifos and devices were left out in all");
        }
        if problems > self.problems_named {
            let more = problems - self.problems_named;
            let what = format!("{more} more problems; the log names them");
            self.writer.problem(Problem { path: self.path_text(), what });
        }
    }
}
