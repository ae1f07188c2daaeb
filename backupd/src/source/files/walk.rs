//! Directories: opening them without following anything, and listing them in order.
//!
//! Everything below the root is reached by a name in an open directory, never by a path. So whoever
//! owns a part of the tree cannot lead a run out of it by swapping a directory for a symbolic link
//! while it is walked. The order (a directory, then what is in it by the bytes of the names) is the
//! same in each run, so that look-ups in the last run's manifest go forwards.

use std::ffi::CStr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use anyhow::Result;
use chassis::failure::{Exit, Failure};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, RawDir, Statx, StatxFlags, openat, statx};
use rustix::io::Errno;

/// Directories that may be open at a time, which is how deep a tree may be. A process may mostly
/// have 1,024 files open.
pub const DEPTH_MAX: usize = 512;
const LIST_BYTES: usize = 32 << 10;

/// A directory that is being walked.
#[derive(Debug)]
pub struct Folder {
    /// The directory itself.
    pub dir: OwnedFd,
    /// Its entries.
    pub names: Names,
    /// Length of its path; 0 for the root.
    pub path_bytes: usize,
    /// No include pattern is asked for what is in it.
    pub included: bool,
}

/// Names of a directory's entries, sorted by bytes; in two allocations, however many they are.
#[derive(Debug, Default)]
pub struct Names {
    /// Each ends with a zero byte.
    bytes: Vec<u8>,
    /// Where each begins, in reverse order.
    begins: Vec<usize>,
}

impl Names {
    /// Lists an open directory. If that fails half-way, the names before the error are there beside
    /// it.
    pub fn list(dir: &OwnedFd) -> (Self, Option<Errno>) {
        let mut names = Self::default();
        let mut buffer = Vec::with_capacity(LIST_BYTES);
        let mut entries = RawDir::new(dir, buffer.spare_capacity_mut());
        let mut error = None;
        while let Some(entry) = entries.next() {
            match entry {
                Ok(entry) => names.push(entry.file_name()),
                Err(errno) => {
                    error = Some(errno);
                    break;
                }
            }
        }
        names.sort();
        (names, error)
    }

    fn push(&mut self, name: &CStr) {
        if !matches!(name.to_bytes(), b"." | b"..") {
            self.begins.push(self.bytes.len());
            self.bytes.extend_from_slice(name.to_bytes_with_nul());
        }
    }

    fn sort(&mut self) {
        let bytes = &self.bytes;
        self.begins.sort_unstable_by(|a, b| name_at(bytes, *b).cmp(name_at(bytes, *a)));
    }

    /// Whether there is none, or none is left.
    pub fn is_empty(&self) -> bool {
        self.begins.is_empty()
    }

    /// Takes the next name.
    pub fn take(&mut self) -> Option<&CStr> {
        self.begins.pop().map(|begin| name_at(&self.bytes, begin))
    }
}

fn name_at(bytes: &[u8], begin: usize) -> &CStr {
    CStr::from_bytes_until_nul(&bytes[begin..]).expect("each name ends with a zero")
}

/// Opens the root of a tree; here alone symbolic links are followed. Errors are failures with
/// advice.
pub fn open_root(root: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat(CWD, root, flags, Mode::empty()).map_err(|error| {
        let hint = match error {
            Errno::NOENT => "check `root` of the job, and that its file system is mounted",
            Errno::NOTDIR => {
                "`root` of a job is a directory; name its parent and `include` the file"
            }
            _ => "the program needs to read it: run it as root or with CAP_DAC_READ_SEARCH",
        };
        let message = format!("open root {}", root.display());
        Failure::new(Exit::Failed, message).hint(hint).because(error).into()
    })
}

/// Opens a directory for listing. [`Errno::NOTDIR`] or [`Errno::LOOP`] if it is something else by
/// now.
pub fn open_dir(dir: impl AsFd, name: &CStr) -> Result<OwnedFd, Errno> {
    open_quietly(dir, name, OFlags::DIRECTORY)
}

/// Opens a file for reading. Never waits for the other end of a fifo; [`Errno::LOOP`] if it is a
/// symbolic link by now.
pub fn open_file(dir: impl AsFd, name: &CStr) -> Result<OwnedFd, Errno> {
    open_quietly(dir, name, OFlags::empty())
}

/// Without following a link, without waiting and, where that is allowed, without changing the time
/// of access.
fn open_quietly(dir: impl AsFd, name: &CStr, extra: OFlags) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY
        | OFlags::NOFOLLOW
        | OFlags::NONBLOCK
        | OFlags::NOCTTY
        | OFlags::CLOEXEC
        | extra;
    match openat(&dir, name, flags | OFlags::NOATIME, Mode::empty()) {
        // Only an owner (or root) may ask for that.
        Err(Errno::PERM) => openat(&dir, name, flags, Mode::empty()),
        opened => opened,
    }
}

/// What a name in a directory is, without following it or mounting anything.
pub fn stat_name(dir: impl AsFd, name: &CStr) -> Result<Statx, Errno> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    statx(dir, name, flags, StatxFlags::BASIC_STATS)
}

/// What an open file is.
pub fn stat_open(file: impl AsFd) -> Result<Statx, Errno> {
    statx(file, c"", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS)
}

/// The file system that a file is on.
pub fn device(stat: &Statx) -> (u32, u32) {
    (stat.stx_dev_major, stat.stx_dev_minor)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::symlink;

    use rustix::fs::{FileType, mknodat};

    use super::*;

    #[test]
    fn names_come_sorted_by_bytes_and_whole() {
        let dir = tempfile::tempdir().expect("scratch");
        let mut expected: Vec<Vec<u8>> = (0..3000).map(|n| format!("n{n}").into_bytes()).collect();
        expected.extend([
            b"\xff\xfe".to_vec(),
            b"a b\n".to_vec(),
            b".hidden".to_vec(),
            b"-rf".to_vec(),
        ]);
        for name in &expected {
            fs::write(dir.path().join(std::ffi::OsStr::from_bytes(name)), "").expect("write");
        }
        expected.sort();
        let (mut names, error) = Names::list(&open_root(dir.path()).expect("open"));
        let mut found = Vec::new();
        while let Some(name) = names.take() {
            found.push(name.to_bytes().to_vec());
        }
        assert_eq!(error, None);
        assert_eq!(found, expected);
    }

    #[test]
    fn neither_links_nor_fifos_lead_anywhere() {
        let dir = tempfile::tempdir().expect("scratch");
        symlink("/etc", dir.path().join("folder")).expect("link");
        symlink("/etc/passwd", dir.path().join("file")).expect("link");
        let root = open_root(dir.path()).expect("open");
        mknodat(&root, c"fifo", FileType::Fifo, Mode::RUSR, 0).expect("make fifo");
        let error = open_dir(&root, c"folder").expect_err("is a link");
        assert!(matches!(error, Errno::LOOP | Errno::NOTDIR), "{error}");
        assert_eq!(open_file(&root, c"file").expect_err("is a link"), Errno::LOOP);
        let fifo = open_file(&root, c"fifo").expect("opens at once");
        let stat = stat_open(&fifo).expect("stat");
        assert_eq!(FileType::from_raw_mode(stat.stx_mode.into()), FileType::Fifo);
    }

    #[test]
    fn a_root_that_is_missing_or_a_file_is_a_failure_with_advice() {
        let file = tempfile::NamedTempFile::new().expect("scratch");
        for root in [Path::new("/does/not/exist"), file.path()] {
            let error = open_root(root).expect_err("cannot be walked");
            assert_eq!(chassis::failure::exit_of(&error), Exit::Failed);
            assert!(chassis::failure::hint_of(&error).is_some_and(|hint| hint.contains("root")));
        }
    }
}
