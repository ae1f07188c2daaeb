//! A directory that nothing is read or written outside of.
//!
//! Every path is resolved by the kernel beneath one open directory and never through a symbolic link
//! (`openat2`, Linux 5.6), so that neither a hostile manifest nor a link that lies in an existing target leads
//! out of it. The names of new files and directories are closed to everybody else until their own mode is set.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::fs::{self, AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

const FILE_MODE: Mode = Mode::from_raw_mode(0o600);
const DIR_MODE: Mode = Mode::from_raw_mode(0o700);
/// The kernel asks to try again when something is renamed at the same moment.
const ATTEMPTS_MAX: u32 = 100;

/// An open directory; paths are relative to it, the directory itself is `.`.
#[derive(Debug)]
pub struct Beneath {
    root: OwnedFd,
    path: PathBuf,
}

impl Beneath {
    /// Opens an existing directory. The path to it may lead through links: whoever names it is trusted.
    pub fn open(path: &Path) -> Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = fs::open(path, flags, Mode::empty())
            .with_context(|| format!("open directory {}", path.display()))?;
        Ok(Self { root, path: path.to_owned() })
    }

    /// Opens a directory beneath this one as a root of its own, making it and those above it.
    pub fn make_root(&self, relative: &Path) -> Result<Self> {
        let mut made = PathBuf::new();
        for part in relative {
            made.push(part);
            self.make_dir(&made).with_context(|| format!("make {}", self.full(&made).display()))?;
        }
        let root = self.directory(relative).context("open directory")?;
        Ok(Self { root: root.into(), path: self.full(relative) })
    }

    /// The path as it was given.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A path in it for people.
    pub fn full(&self, relative: &Path) -> PathBuf {
        if relative == Path::new(".") { self.path.clone() } else { self.path.join(relative) }
    }

    fn resolve(&self, path: &Path, flags: OFlags, mode: Mode) -> Result<OwnedFd, Errno> {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let mut attempt = 1;
        loop {
            match fs::openat2(&self.root, path, flags, mode, resolve) {
                Err(Errno::AGAIN | Errno::INTR) if attempt < ATTEMPTS_MAX => attempt += 1,
                result => return result,
            }
        }
    }

    /// The open parent of a path, and the name in it.
    fn parent<'p>(&self, path: &'p Path) -> Result<(OwnedFd, &'p OsStr), Errno> {
        let name = path.file_name().ok_or(Errno::INVAL)?;
        let parent = path.parent().filter(|p| !p.as_os_str().is_empty());
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let dir = self.resolve(parent.unwrap_or(Path::new(".")), flags, Mode::empty())?;
        Ok((dir, name))
    }

    /// Makes a directory, mode 0700; false if it was there already. What else has the name is an error.
    pub fn make_dir(&self, path: &Path) -> io::Result<bool> {
        if path == Path::new(".") {
            return Ok(false);
        }
        let (parent, name) = self.parent(path)?;
        match fs::mkdirat(&parent, name, DIR_MODE) {
            Ok(()) => Ok(true),
            Err(Errno::EXIST) if self.is_dir(path)? => {
                self.make_passable(path)?;
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }

    fn is_dir(&self, path: &Path) -> Result<bool, Errno> {
        Ok(self.stat(path)?.is_some_and(|stat| kind_of(&stat) == FileType::Directory))
    }

    /// An owner who is not root needs all rights on a directory to work in it.
    fn make_passable(&self, path: &Path) -> Result<(), Errno> {
        let Some(stat) = self.stat(path)? else { return Ok(()) };
        if rustix::process::geteuid().is_root() || stat.st_mode & 0o700 == 0o700 {
            return Ok(());
        }
        self.set_mode(path, Mode::from_raw_mode(stat.st_mode & 0o7777) | DIR_MODE)
    }

    /// Sets the mode of what its owner may not even read: that takes a path, and an open one has no links in it.
    fn set_mode(&self, path: &Path, mode: Mode) -> Result<(), Errno> {
        let found = self.resolve(path, OFlags::PATH, Mode::empty())?;
        fs::chmod(format!("/proc/self/fd/{}", found.as_raw_fd()), mode)
    }

    /// Opens a file for writing, making it with mode 0600 if it is not there.
    pub fn create(&self, path: &Path) -> io::Result<File> {
        let flags = OFlags::WRONLY | OFlags::CREATE;
        match self.resolve(path, flags, FILE_MODE) {
            // One of an earlier attempt that had its mode already, and we are not root.
            Err(Errno::ACCESS) => {
                self.set_mode(path, FILE_MODE)?;
                Ok(self.resolve(path, flags, FILE_MODE)?.into())
            }
            result => Ok(result?.into()),
        }
    }

    /// Opens a file for reading and does not wait for the other end of a fifo.
    pub fn read(&self, path: &Path) -> io::Result<File> {
        Ok(self.resolve(path, OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty())?.into())
    }

    /// Opens a directory for changing its attributes.
    pub fn directory(&self, path: &Path) -> io::Result<File> {
        Ok(self.resolve(path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())?.into())
    }

    /// What is under a name, without following it; none if nothing is.
    pub fn stat(&self, path: &Path) -> Result<Option<Stat>, Errno> {
        if path == Path::new(".") {
            return fs::fstat(&self.root).map(Some);
        }
        let found = self
            .parent(path)
            .and_then(|(parent, name)| fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW));
        match found {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Makes a symbolic link.
    pub fn symlink(&self, target: &[u8], path: &Path) -> io::Result<()> {
        let (parent, name) = self.parent(path)?;
        Ok(fs::symlinkat(OsStr::from_bytes(target), &parent, name)?)
    }

    /// The text of a symbolic link.
    pub fn read_symlink(&self, path: &Path) -> io::Result<Vec<u8>> {
        let (parent, name) = self.parent(path)?;
        Ok(fs::readlinkat(&parent, name, Vec::new())?.into_bytes())
    }

    /// Gives a file a further name.
    pub fn link(&self, first: &Path, further: &Path) -> io::Result<()> {
        let (first_parent, first_name) = self.parent(first)?;
        let (parent, name) = self.parent(further)?;
        Ok(fs::linkat(&first_parent, first_name, &parent, name, AtFlags::empty())?)
    }

    /// Removes a name that is not a directory.
    pub fn remove(&self, path: &Path) -> io::Result<()> {
        let (parent, name) = self.parent(path)?;
        Ok(fs::unlinkat(&parent, name, AtFlags::empty())?)
    }

    /// Removes an empty directory.
    pub fn remove_dir(&self, path: &Path) -> io::Result<()> {
        let (parent, name) = self.parent(path)?;
        Ok(fs::unlinkat(&parent, name, AtFlags::REMOVEDIR)?)
    }

    /// The names in a directory, in the order of the disk, and whether each is a directory.
    pub fn list(&self, path: &Path) -> io::Result<Vec<(PathBuf, bool)>> {
        let mut names = Vec::new();
        for entry in Dir::read_from(self.directory(path)?)? {
            let entry = entry?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name == "." || name == ".." {
                continue;
            }
            let child = if path == Path::new(".") { PathBuf::from(name) } else { path.join(name) };
            let is_dir = match entry.file_type() {
                FileType::Unknown => self.is_dir(&child)?,
                kind => kind == FileType::Directory,
            };
            names.push((child, is_dir));
        }
        Ok(names)
    }

    /// Runs `act` on the open parent of a path and the name in it, for calls that have no other way.
    pub fn at<T>(
        &self,
        path: &Path,
        act: impl FnOnce(BorrowedFd<'_>, &OsStr) -> io::Result<T>,
    ) -> io::Result<T> {
        let (parent, name) = self.parent(path)?;
        act(parent.as_fd(), name)
    }

    /// Writes everything on this file system to the disk.
    pub fn sync(&self) -> io::Result<()> {
        Ok(fs::syncfs(&self.root)?)
    }

    /// Bytes that are free on its file system for this user.
    pub fn free_bytes(&self) -> io::Result<u64> {
        let found = fs::fstatvfs(&self.root)?;
        Ok(found.f_bavail.saturating_mul(found.f_frsize))
    }
}

/// What kind of thing a `stat` is of.
pub fn kind_of(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

/// A path in an open directory that needs no resolving of the names above it, for calls that take paths only.
pub fn path_at(parent: BorrowedFd<'_>, name: &OsStr) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", parent.as_raw_fd())).join(name)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn scratch() -> (tempfile::TempDir, Beneath) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("in/dir")).unwrap();
        std::fs::create_dir(dir.path().join("out")).unwrap();
        let root = Beneath::open(&dir.path().join("in")).unwrap();
        (dir, root)
    }

    #[test]
    fn new_names_are_closed_to_others() {
        let (dir, root) = scratch();
        root.make_dir(Path::new("new")).unwrap();
        root.create(Path::new("new/file")).unwrap().write_all(b"x").unwrap();
        let mode = |path: &str| {
            std::fs::metadata(dir.path().join(path)).unwrap().permissions().mode() & 0o777
        };
        assert_eq!((mode("in/new"), mode("in/new/file")), (0o700, 0o600));
    }

    #[test]
    fn no_link_is_followed_and_nothing_outside_is_touched() {
        let (dir, root) = scratch();
        symlink(dir.path().join("out"), dir.path().join("in/link")).unwrap();
        symlink("../../out/file", dir.path().join("in/dir/file")).unwrap();
        for path in ["link/file", "dir/file", "../out/file", "/out/file", "dir/../../out/file"] {
            assert!(root.create(Path::new(path)).is_err(), "{path}");
            assert!(root.make_dir(Path::new(path)).is_err(), "{path}");
        }
        assert!(root.symlink(b"x", Path::new("link/file")).is_err());
        assert!(root.make_root(Path::new("link")).is_err());
        assert!(root.stat(Path::new("link/file")).unwrap().is_none());
        assert_eq!(std::fs::read_dir(dir.path().join("out")).unwrap().count(), 0);
    }
}
