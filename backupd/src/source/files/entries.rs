//! What becomes of each kind of entry: directories, regular files, symbolic links, further names.

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, SystemTime};

use anyhow::Result;
use chassis::failure::{Exit, Failure};
use depot::manifest::{Attributes, Entry, EntryKind, EntryPath};
use depot::writer::{FileNumber, Stamp};
use rustix::fs::{FileType, Statx, readlinkat};
use rustix::io::Errno;

use super::attributes::{self, Place};
use super::read::{Content, ReadError, Sink};
use super::walk::{self, DEPTH_MAX, Folder, Names};
use super::{ATTEMPTS_MAX, Tree, Visit, check_stop};

/// The wait before the second reading of a file that changed; before the third it is twice as long.
const PAUSE: Duration = Duration::from_millis(200);
/// Longer than a step of the kernel's clock: changes with so much between them have different times.
const TICK: Duration = Duration::from_millis(20);

/// How a reading of a file ended.
enum Reading {
    /// It is stored.
    Stored,
    /// It changed meanwhile; nothing is stored.
    Changed,
    /// It is no regular file any more.
    Other,
}

/// A file that was fed to the writer, and is still open there.
struct Fed {
    attributes: Attributes,
    holed: bool,
    is_still: bool,
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
        let stat = match walk::stat_open(&opened) {
            Ok(stat) => stat,
            Err(error) => return Ok(self.unreadable("read attributes", error)),
        };
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
        for attempt in 1..=ATTEMPTS_MAX {
            match self.read_once(dir, name, path, attempt == ATTEMPTS_MAX) {
                Ok(Reading::Stored) => break,
                Ok(Reading::Other) => return Ok(Visit::Again),
                Ok(Reading::Changed) => {}
                Err(ReadError::File(error)) => return Ok(self.unreadable("read file", error)),
                Err(ReadError::Run(error)) => return Err(error),
            }
            tracing::debug!("`{}` changed while it was read: again", self.path_text());
            self.stop.wait_timeout(PAUSE * attempt);
            check_stop(self.stop)?;
        }
        Ok(Visit::Done)
    }

    /// Reads a file and stores it if it held still, or if this is the last attempt.
    fn read_once(
        &mut self,
        dir: BorrowedFd<'_>,
        name: &CStr,
        path: &EntryPath,
        is_last: bool,
    ) -> Result<Reading, ReadError> {
        let file = match walk::open_file(dir, name) {
            Err(Errno::LOOP | Errno::NXIO) => return Ok(Reading::Other),
            // Somebody has a lease on it and is told to give it back.
            Err(Errno::WOULDBLOCK) if !is_last => return Ok(Reading::Changed),
            file => file?,
        };
        let (before, read_at) = self.stat_settled(&file)?;
        if FileType::from_raw_mode(u32::from(before.stx_mode)) != FileType::RegularFile {
            return Ok(Reading::Other);
        }
        let number = self.writer.open(path.clone()).map_err(ReadError::Run)?;
        let fed = self.feed(&file, &before, number);
        let is_still = fed.as_ref().is_ok_and(|fed| fed.is_still);
        if !is_still && (!is_last || matches!(fed, Err(ReadError::File(_)))) {
            self.writer.abandon(number).map_err(ReadError::Run)?;
            return fed.map(|_| Reading::Changed);
        }
        let Fed { attributes, holed, .. } = fed?;
        let mut stamp = Stamp::default();
        if is_still {
            stamp = attributes::trusted_stamp(&before, read_at);
        } else {
            self.problem("changed while it was read, each time: stored as it was read last");
        }
        let closed = self.writer.close(number, Some(attributes), holed, stamp);
        closed.map_err(ReadError::Run)?;
        self.summary.files_read += 1;
        self.progress.add_items(1);
        self.remember(&before, path);
        Ok(Reading::Stored)
    }

    /// What an open file looks like, at a time when a change from now on would show.
    ///
    /// Times of files go by steps: a change within the step of the last one leaves the same time, so a file that was
    /// changed just now is given the rest of that step.
    fn stat_settled(&self, file: &OwnedFd) -> Result<(Statx, SystemTime), Errno> {
        let (stat, now) = (walk::stat_open(file)?, SystemTime::now());
        let changed = attributes::stamp(&stat).ctime;
        if attributes::age(changed, now).is_none_or(|age| age > TICK) {
            return Ok((stat, now));
        }
        self.stop.wait_timeout(TICK);
        Ok((walk::stat_open(file)?, SystemTime::now()))
    }

    /// Feeds an open file to the writer and looks at it once more.
    fn feed(
        &mut self,
        file: &OwnedFd,
        before: &Statx,
        number: FileNumber,
    ) -> Result<Fed, ReadError> {
        let content = Content::of(file, before.stx_size, attributes::has_holes(before));
        let (buffer, stop) = (self.buffer.as_mut_slice(), self.stop);
        let holed = content.store(&mut Sink { writer: self.writer, number, buffer, stop })?;
        // Before the last look, so that a change of theirs is seen as well.
        let attributes = self.attributes(Place::Open(file.as_fd()), before);
        let after = walk::stat_open(file)?;
        let is_still = attributes::stamp(before) == attributes::stamp(&after);
        Ok(Fed { attributes, holed, is_still })
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
