//! The only place that knows how to write a file so that it is there, whole, after a crash or a
//! power cut.
//!
//! Everything is written to a temporary file in the directory of its final name, flushed to the
//! disk, given its name in one step, and the directory is flushed too. A reader sees the whole file
//! or none. Nobody else in the suite calls `rename`, `hard_link` or `fsync` for data that matters.
//!
//! A failed flush is final: the kernel may have dropped the pages, so the temporary file is thrown
//! away and the caller starts over. Modes are narrowed by the umask, as always.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// How the names of all temporary files begin, 16 hexadecimal digits follow.
pub const TEMP_PREFIX: &str = ".holdfast-temp-";

/// A temporary file that nobody wrote to for this long, and that no process holds, is a leftover of
/// a crash.
pub const LEFTOVER_AGE: Duration = Duration::from_hours(1);

/// A step of durable writing that did not succeed, with the path it was about.
#[derive(Debug, thiserror::Error)]
#[error("{step} {}", path.display())]
pub struct DurableError {
    /// The step, as a verb: `create`, `write`, `flush`, `link`, `rename`, `remove`, `list`.
    pub step: &'static str,
    /// The file or directory it was about.
    pub path: PathBuf,
    /// What the system said.
    #[source]
    pub source: io::Error,
}

impl DurableError {
    /// What kind of error the system reported, for a caller that branches on a full disk or a name
    /// taken.
    pub fn kind(&self) -> io::ErrorKind {
        self.source.kind()
    }

    /// Whether the final name was taken already. Nothing was changed then.
    pub fn is_already_exists(&self) -> bool {
        self.kind() == io::ErrorKind::AlreadyExists
    }
}

fn failed(step: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DurableError {
    move |source| DurableError { step, path: path.to_owned(), source }
}

/// Writes a file under `path`, replacing what was there. After an error the old content is still
/// whole, or, if only the flush of the directory failed, the new one is.
pub fn write_replace(path: &Path, bytes: &[u8], mode: u32) -> Result<(), DurableError> {
    written(path, bytes, mode)?.replace(path)
}

/// Writes a file under `path`, or fails with `AlreadyExists` and leaves what is there alone.
///
/// After any other error the name may exist, whole, if only the flush of the directory failed.
pub fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Result<(), DurableError> {
    written(path, bytes, mode)?.publish(path)
}

fn written(path: &Path, bytes: &[u8], mode: u32) -> Result<NewFile, DurableError> {
    let mut file = NewFile::create(parent(path), mode)?;
    file.write_all(bytes).map_err(failed("write", path))?;
    Ok(file)
}

/// A file being written that has no name yet. Dropped without [`publish`](Self::publish) or
/// [`replace`](Self::replace), it leaves nothing behind.
///
/// Writes go straight to the file: wrap small ones in a `BufWriter` (and get this back with
/// `into_inner`).
#[derive(Debug)]
pub struct NewFile {
    file: File,
    temp: PathBuf,
}

impl NewFile {
    /// Starts a temporary file in `dir`, which must be the directory (or at least the file system)
    /// of the final name.
    ///
    /// Its lock tells [`remove_leftovers`] of any process that it is in use.
    pub fn create(dir: &Path, mode: u32) -> Result<Self, DurableError> {
        let temp = dir.join(format!("{TEMP_PREFIX}{:016x}", rand::random::<u64>()));
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&temp)
            .map_err(failed("create", &temp))?;
        // A file system without locks has only the age to go by.
        drop(file.try_lock());
        Ok(Self { file, temp })
    }

    /// Flushes and gives the file its name, which must be free: `AlreadyExists` otherwise, with
    /// nothing changed.
    pub fn publish(self, path: &Path) -> Result<(), DurableError> {
        self.file.sync_all().map_err(failed("flush", path))?;
        fs::hard_link(&self.temp, path).map_err(failed("link", path))?;
        drop(self);
        sync_dir(parent(path))
    }

    /// Flushes and gives the file its name, replacing what had it before.
    #[expect(clippy::disallowed_methods, reason = "the one place that flushes around it")]
    pub fn replace(self, path: &Path) -> Result<(), DurableError> {
        self.file.sync_all().map_err(failed("flush", path))?;
        fs::rename(&self.temp, path).map_err(failed("rename", path))?;
        sync_dir(parent(path))
    }

    /// The file itself, for positioned writes, truncation or metadata.
    pub fn file(&self) -> &File {
        &self.file
    }
}

impl Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        // After `replace` it is gone already; otherwise a leftover is swept later.
        drop(fs::remove_file(&self.temp));
    }
}

/// The directory a path is in; `.` for a bare name.
fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    }
}

/// Flushes a directory: the names in it are durable afterwards.
pub fn sync_dir(dir: &Path) -> Result<(), DurableError> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed("flush", dir))
}

/// Removes temporary files of ours in `dir` (not below it) that a crash left: untouched for
/// [`LEFTOVER_AGE`] and held by no process. Returns how many there were.
pub fn remove_leftovers(dir: &Path) -> Result<usize, DurableError> {
    let mut removed = 0;
    for entry in fs::read_dir(dir).map_err(failed("list", dir))? {
        let entry = entry.map_err(failed("list", dir))?;
        let is_ours = entry.file_name().to_str().is_some_and(is_temp_name);
        let path = entry.path();
        if is_ours && is_abandoned(&path, SystemTime::now()) {
            fs::remove_file(&path).map_err(failed("remove", &path))?;
            removed += 1;
        }
    }
    Ok(removed)
}

/// Whether a file name is one that [`NewFile`] gives to temporary files; listings skip them.
pub fn is_temp_name(name: &str) -> bool {
    name.strip_prefix(TEMP_PREFIX)
        .is_some_and(|tail| tail.len() == 16 && tail.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// When in doubt (no access, gone, a clock set back), it is not abandoned.
fn is_abandoned(path: &Path, now: SystemTime) -> bool {
    let is_old = fs::symlink_metadata(path)
        .ok()
        .filter(fs::Metadata::is_file)
        .and_then(|metadata| metadata.modified().ok())
        .and_then(|modified| now.duration_since(modified).ok())
        .is_some_and(|age| age > LEFTOVER_AGE);
    is_old
        && File::open(path)
            .is_ok_and(|file| !matches!(file.try_lock(), Err(TryLockError::WouldBlock)))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    fn make_old(file: &File) {
        file.set_modified(SystemTime::now() - 2 * LEFTOVER_AGE).unwrap();
    }

    #[test]
    fn replace_replaces_and_leaves_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        write_replace(&path, b"one", 0o600).unwrap();
        write_replace(&path, b"two", 0o600).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(names(dir.path()), ["state"]);
    }

    #[test]
    fn a_taken_name_is_never_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pack");
        write_new(&path, b"first", 0o400).unwrap();
        let error = write_new(&path, b"second", 0o400).unwrap_err();
        assert!(error.is_already_exists());
        assert_eq!(error.to_string(), format!("link {}", path.display()));
        assert_eq!(fs::read(&path).unwrap(), b"first");
        assert_eq!(names(dir.path()), ["pack"]);
    }

    #[test]
    fn of_many_writers_of_one_name_exactly_one_wins() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lease.1");
        let results: Vec<_> = std::thread::scope(|scope| {
            let path = &path;
            let threads: Vec<_> = (0..8u8)
                .map(|n| scope.spawn(move || (n, write_new(path, &[n], 0o600).is_ok())))
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let winners: Vec<u8> =
            results.into_iter().filter(|(_, won)| *won).map(|(n, _)| n).collect();
        assert_eq!(winners.len(), 1, "{winners:?}");
        assert_eq!(fs::read(&path).unwrap(), winners);
        assert_eq!(names(dir.path()), ["lease.1"]);
    }

    #[test]
    fn a_file_not_published_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let mut file = NewFile::create(dir.path(), 0o600).unwrap();
        file.write_all(b"half").unwrap();
        assert_eq!(names(dir.path()).len(), 1);
        drop(file);
        assert_eq!(names(dir.path()), [""; 0]);
    }

    #[test]
    fn an_error_names_the_path() {
        let error = write_new(Path::new("/nowhere/at/all"), b"", 0o600).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert!(error.to_string().starts_with("create /nowhere/at/.holdfast-temp-"), "{error}");
    }

    #[test]
    fn only_old_unheld_files_with_our_name_are_leftovers() {
        let dir = tempfile::tempdir().unwrap();
        let leftover = dir.path().join(format!("{TEMP_PREFIX}00000000000000aa"));
        make_old(&File::create(&leftover).unwrap());
        let young = dir.path().join(format!("{TEMP_PREFIX}00000000000000bb"));
        File::create(&young).unwrap();
        let foreign = dir.path().join(format!("{TEMP_PREFIX}of-a-user"));
        make_old(&File::create(&foreign).unwrap());
        let held = NewFile::create(dir.path(), 0o600).unwrap();
        make_old(held.file());

        assert_eq!(remove_leftovers(dir.path()).unwrap(), 1);
        assert!(!leftover.exists());
        assert!(young.exists() && foreign.exists() && held.temp.exists());
    }
}
