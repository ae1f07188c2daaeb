//! What becomes of each kind of entry: directories, regular files, symbolic links, further names.

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use chassis::failure::{Exit, Failure};
use depot::manifest::{Attributes, Entry, EntryKind, EntryPath};
use depot::writer::FileNumber;
use rustix::fs::{FileType, Statx, readlinkat};
use rustix::io::Errno;

use super::attributes::{self, Place};
use super::read::{Content, ReadError};
use super::walk::{self, DEPTH_MAX, Folder, Names};
use super::{ATTEMPTS_MAX, Tree, Visit, check_stop};

/// The wait before the second reading of a file that changed; before the third it is twice as long.
const PAUSE: Duration = Duration::from_millis(200);
/// Longer than a step of the kernel's clock: changes with so much between them have different times.
const TICK: Duration = Duration::from_millis(20);

/// One reading of a file.
enum Reading {
    /// It was fed to the writer; not closed yet.
    Fed { number: FileNumber, holed: bool },
    /// It could not be read; that is said.
    Failed,
}

impl Tree<'_> {
    /// Stores a directory and opens it.
    pub(super) fn folder(
        &mut self,
        dir: BorrowedFd<'_>,
        name: &CStr,
        stat: &Statx,
        included: bool,
        depth: usize,
    ) -> Result<Visit> {
        if self.is_elsewhere(stat) {
            return self.closed_folder(Place::Named(dir, name), stat);
        }
        if depth >= DEPTH_MAX {
            self.problem(format!("what is in it is left out: more than {DEPTH_MAX} levels deep"));
            return self.closed_folder(Place::Named(dir, name), stat);
        }
        let opened = match walk::open_dir(dir, name) {
            Ok(opened) => opened,
            Err(Errno::NOTDIR | Errno::LOOP) => return Ok(Visit::Again),
            Err(Errno::NOENT) => return Ok(self.unreadable("open directory", Errno::NOENT)),
            Err(error) => {
                self.problem(format!("what is in it is left out: open directory: {error}"));
                return self.closed_folder(Place::Named(dir, name), stat);
            }
        };
        // It may be another directory by now, and even a mount point.
        let stat = walk::stat_open(&opened).context("read attributes of open directory")?;
        if self.is_elsewhere(&stat) {
            return self.closed_folder(Place::Open(opened.as_fd()), &stat);
        }
        self.enter(opened, &stat, included).map(Visit::Enter)
    }

    /// Stores an open directory and lists it.
    pub(super) fn enter(&mut self, dir: OwnedFd, stat: &Statx, included: bool) -> Result<Folder> {
        self.closed_folder(Place::Open(dir.as_fd()), stat)?;
        let (names, error) = Names::list(&dir);
        if let Some(error) = error {
            self.problem(format!("not all that is in it is stored: list directory: {error}"));
        }
        Ok(Folder { dir, names, path_bytes: self.path.len(), included })
    }

    /// Stores a directory without what is in it.
    fn closed_folder(&mut self, place: Place<'_>, stat: &Statx) -> Result<Visit> {
        let attributes = self.attributes(place, stat);
        let path = self.entry_path()?;
        self.writer.add(entry(path, EntryKind::Dir, None, Some(attributes)))?;
        self.summary.dirs += 1;
        self.progress.add_items(1);
        Ok(Visit::Done)
    }

    /// Stores a symbolic link.
    pub(super) fn symlink(
        &mut self,
        dir: BorrowedFd<'_>,
        name: &CStr,
        stat: &Statx,
    ) -> Result<Visit> {
        let target = match readlinkat(dir, name, Vec::new()) {
            Ok(target) => target.into_bytes(),
            Err(Errno::INVAL) => return Ok(Visit::Again),
            Err(error) => return Ok(self.unreadable("read symbolic link", error)),
        };
        let attributes = self.attributes(Place::Named(dir, name), stat);
        let path = self.entry_path()?;
        self.writer.add(entry(path, EntryKind::Symlink, Some(target), Some(attributes)))?;
        self.summary.symlinks += 1;
        self.progress.add_items(1);
        Ok(Visit::Done)
    }

    /// Stores a regular file: as a further name, as unchanged, or by reading it.
    pub(super) fn file(&mut self, dir: BorrowedFd<'_>, name: &CStr, stat: &Statx) -> Result<Visit> {
        let path = self.entry_path()?;
        if let Some(first) = self.links.first_name(stat) {
            self.writer.add(entry(path, EntryKind::Hardlink, Some(first), None))?;
            self.summary.hardlinks += 1;
            self.progress.add_items(1);
            return Ok(Visit::Done);
        }
        if !self.rescan && self.keep(Place::Named(dir, name), stat, &path)? {
            self.summary.files_kept += 1;
            self.progress.add_items(1);
            self.remember(stat, &path);
            return Ok(Visit::Done);
        }
        self.read(dir, name, &path)
    }

    /// Refers to what the last run stored of a file, if it is unchanged since. False: it must be read.
    fn keep(&mut self, place: Place<'_>, stat: &Statx, path: &EntryPath) -> Result<bool> {
        let Some(previous) = self.writer.previous(path)? else { return Ok(false) };
        let stamp = attributes::stamp(stat);
        if previous.stamp != stamp {
            return Ok(false);
        }
        let attributes = self.attributes(place, stat);
        let mut entry = entry(path.clone(), EntryKind::File, None, Some(attributes));
        entry.size = stat.stx_size;
        entry.sparse = attributes::has_holes(stat);
        self.writer.keep(entry, stamp, previous)
    }

    /// Reads a file until it holds still, or for the last time.
    fn read(&mut self, dir: BorrowedFd<'_>, name: &CStr, path: &EntryPath) -> Result<Visit> {
        for attempt in 1.. {
            let file = match walk::open_file(dir, name) {
                Ok(file) => file,
                Err(Errno::LOOP | Errno::NXIO) => return Ok(Visit::Again),
                Err(error) => return Ok(self.unreadable("open file", error)),
            };
            let (before, read_at) = self.stat_settled(&file)?;
            if FileType::from_raw_mode(u32::from(before.stx_mode)) != FileType::RegularFile {
                return Ok(Visit::Again);
            }
            let Reading::Fed { number, holed } = self.feed(&file, &before, path)? else {
                return Ok(Visit::Done);
            };
            // Attributes first, so that a change of theirs is seen as well.
            let attributes = self.attributes(Place::Open(file.as_fd()), &before);
            let after = walk::stat_open(&file).context("read attributes of open file")?;
            let still = attributes::stamp(&before) == attributes::stamp(&after);
            if !still && attempt < ATTEMPTS_MAX {
                tracing::debug!("`{}` changed while it was read: again", self.path_text());
                self.writer.abandon(number)?;
                self.stop.wait_timeout(PAUSE * attempt);
                check_stop(self.stop)?;
                continue;
            }
            if !still {
                self.problem("changed while it was read, each time: stored as it was read last");
            }
            let stamp = attributes::trusted_stamp(&before, read_at);
            let stamp = if still { stamp } else { depot::writer::Stamp::default() };
            self.writer.close(number, Some(attributes), holed, stamp)?;
            self.summary.files_read += 1;
            self.progress.add_items(1);
            self.remember(&after, path);
            break;
        }
        Ok(Visit::Done)
    }

    /// What an open file looks like, at a time when a change from now on would show.
    ///
    /// Times of files go by steps: a change within the step of the last one leaves the same time, so a file that was
    /// changed just now is given the rest of that step.
    fn stat_settled(&self, file: &OwnedFd) -> Result<(Statx, SystemTime)> {
        let look = || walk::stat_open(file).context("read attributes of open file");
        let (stat, now) = (look()?, SystemTime::now());
        let changed = attributes::stamp(&stat).ctime;
        if attributes::age(changed, now).is_none_or(|age| age > TICK) {
            return Ok((stat, now));
        }
        self.stop.wait_timeout(TICK);
        Ok((look()?, SystemTime::now()))
    }

    fn feed(&mut self, file: &OwnedFd, stat: &Statx, path: &EntryPath) -> Result<Reading> {
        let number = self.writer.open(path.clone())?;
        let content = Content::of(file, stat.stx_size, attributes::has_holes(stat));
        match content.store(self.writer, number, &mut self.buffer, self.stop) {
            Ok(holed) => Ok(Reading::Fed { number, holed }),
            Err(ReadError::Run(error)) => Err(error),
            Err(ReadError::File(error)) => {
                self.writer.abandon(number)?;
                self.problem(format!("left out: read file: {error}"));
                Ok(Reading::Failed)
            }
        }
    }

    /// Notes the name of a file that has more than one.
    fn remember(&mut self, stat: &Statx, path: &EntryPath) {
        if !self.links.remember(stat, path) && !self.links_overflowed {
            self.links_overflowed = true;
            self.problem("too many files with several names: from here on each name is a file");
        }
    }

    /// Extended attributes are reached through `/proc`: without it none would be found, and nobody would be told.
    pub(super) fn check_xattrs(&self) -> Result<()> {
        if self.job.xattrs && !std::path::Path::new("/proc/self/fd").is_dir() {
            let message = "extended attributes cannot be read: `/proc` is not mounted";
            let hint = "mount it, or set `xattrs = false` for the job";
            return Err(Failure::new(Exit::Failed, message).hint(hint).into());
        }
        Ok(())
    }

    fn attributes(&mut self, place: Place<'_>, stat: &Statx) -> Attributes {
        let xattrs = if self.job.xattrs { self.xattrs(place) } else { BTreeMap::new() };
        attributes::attributes(stat, &self.owners, xattrs)
    }

    fn xattrs(&mut self, place: Place<'_>) -> BTreeMap<String, Vec<u8>> {
        match self.xattrs.read(place) {
            Ok(found) => found,
            Err(Errno::NOENT) => BTreeMap::new(),
            Err(error) => {
                self.problem(format!("stored without extended attributes: {error}"));
                BTreeMap::new()
            }
        }
    }

    fn entry_path(&self) -> Result<EntryPath> {
        let path = if self.path.is_empty() { b"." } else { self.path.as_slice() };
        EntryPath::new(path)
    }
}

fn entry(
    path: EntryPath,
    kind: EntryKind,
    target: Option<Vec<u8>>,
    attributes: Option<Attributes>,
) -> Entry {
    Entry { path, kind, target, size: 0, attributes, sparse: false, file: None, blocks: Vec::new() }
}
