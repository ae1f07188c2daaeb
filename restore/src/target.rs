//! The directory that is restored into: which one is acceptable, the mark of an unfinished restore, and what
//! is in it that the backup does not have.
//!
//! A restore writes only into a directory that it made, found empty, or began before; any other must be named
//! as one to change (`--delta`). One restore at a time works in it, by a lock that ends with the process.

use std::collections::BTreeSet;
use std::fs::{File, FileTimes};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use chassis::durable;
use chassis::failure::{Exit, Failure};
use chrono::{DateTime, Utc};
use depot::names::SnapshotId;
use rustix::fs::{FlockOperation, Mode, fchmod, flock, fstat};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::beneath::Beneath;

/// The file in a target that says that it is not whole yet.
pub const MARKER: &str = ".restore-unfinished";
/// The directory in a target for the LSN increments of a database, until they are applied.
pub const INCREMENTS: &str = ".increments";
/// The directory in a target for what a replay needs, until it has ended.
pub const REPLAY: &str = ".replay";
const MARKER_BYTES_MAX: u64 = 1 << 20;

/// What the mark of an unfinished restore says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Marker {
    /// What it is for people who find it.
    pub note: String,
    /// The backup that is being restored.
    pub snapshot: SnapshotId,
    /// The parts of it that were asked for; all if empty.
    pub selection: Vec<String>,
    /// Whether a restore made the directory or found it empty: everything in it is a restore's then.
    pub owned: bool,
    /// When it began.
    pub started: DateTime<Utc>,
}

impl Marker {
    /// The mark of a restore that begins.
    pub fn new(snapshot: SnapshotId, selection: Vec<String>, now: DateTime<Utc>) -> Self {
        let note = "this directory is being restored and is not whole: run the same command again";
        Self { note: note.into(), snapshot, selection, owned: true, started: now }
    }
}

/// What was found where the target shall be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Found {
    /// Nothing, or an empty directory.
    New,
    /// What an earlier run of the same restore left.
    Unfinished,
    /// A directory with something in it, named as one to change.
    Existing,
}

/// An open target, locked.
#[derive(Debug)]
pub struct Target {
    /// The directory.
    pub root: Beneath,
    /// What was there.
    pub found: Found,
    /// Whether everything in it is a restore's.
    pub owned: bool,
    lock: Lock,
    /// The mode of the directory, if it had to be changed to be written into.
    mode_before: Option<Mode>,
}

/// Looks at a target and refuses what must not be written into. Changes nothing.
pub fn look(path: &Path, marker: &Marker, delta: bool) -> Result<(Found, Option<Marker>)> {
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((Found::New, None)),
        Err(error) => {
            return Err(error).with_context(|| format!("look at {}", path.display()));
        }
        Ok(found) if !found.is_dir() => {
            let message = format!("the target {} is not a directory", path.display());
            return Err(Failure::new(Exit::Usage, message).hint("name a new directory").into());
        }
        Ok(_) => {}
    }
    let root = Beneath::open(path)?;
    let names = root.list(Path::new(".")).with_context(|| format!("list {}", path.display()))?;
    if names.iter().all(|(name, _)| is_torn_marker(name)) {
        return Ok((Found::New, None));
    }
    match read_marker(&root)? {
        Some(left) if left.snapshot == marker.snapshot && left.selection == marker.selection => {
            Ok((Found::Unfinished, Some(left)))
        }
        _ if delta => Ok((Found::Existing, None)),
        Some(left) => Err(unfinished(path, &left).into()),
        None => {
            let message = format!("the target {} is not empty", path.display());
            let hint = "name a new directory, or add --delta to change this one into the backup";
            Err(Failure::new(Exit::Usage, message).hint(hint).into())
        }
    }
}

fn unfinished(path: &Path, left: &Marker) -> Failure {
    let what = if left.selection.is_empty() { "" } else { " of parts" };
    let message = format!(
        "the target {} holds an unfinished restore{what} of {}",
        path.display(),
        left.snapshot
    );
    let hint = format!(
        "go on with the same command and `--snapshot {}`, or remove the directory",
        left.snapshot
    );
    Failure::new(Exit::Usage, message).hint(hint)
}

fn read_marker(root: &Beneath) -> Result<Option<Marker>> {
    let file = match root.read(Path::new(MARKER)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).context("open the mark of an unfinished restore"),
    };
    let mut text = String::new();
    file.take(MARKER_BYTES_MAX)
        .read_to_string(&mut text)
        .context("read the mark of an unfinished restore")?;
    // One that was torn or is of another version says nothing: the directory counts as not empty.
    Ok(serde_json::from_str(&text).ok())
}

impl Target {
    /// Makes or opens the target, locks it and marks it as unfinished.
    pub fn open(path: &Path, marker: &Marker, delta: bool) -> Result<Self> {
        make_new(path)?;
        let root = Beneath::open(path)?;
        let mode_before = make_writable(&root)?;
        let lock = root.directory(Path::new("."))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                let message = format!("another restore works in {}", path.display());
                let hint = "wait for its end; if it was killed, the tool that it started may go on for a while";
                return Err(Failure::new(Exit::Busy, message).hint(hint).into());
            }
            Err(error) => return Err(error).context("lock the target"),
        }
        let lock = Lock(lock);
        let (found, left) = look(path, marker, delta)?;
        let owned = match found {
            Found::New => true,
            Found::Unfinished => left.is_some_and(|left| left.owned),
            Found::Existing => false,
        };
        if owned {
            remove_torn_markers(&root)?;
        }
        let marker = Marker { owned, ..marker.clone() };
        let text = serde_json::to_vec_pretty(&marker).context("write mark")?;
        durable::write_replace(&path.join(MARKER), &text, 0o600).context("mark the target")?;
        Ok(Self { root, found, owned, lock, mode_before })
    }

    /// Says that it is whole. Everything else must be on the disk by then. `is_restored` tells whether the directory
    /// itself has been restored, or only parts that are in it.
    pub fn finish(&self, is_restored: bool) -> Result<()> {
        // Removing a name changes the time of the directory, which has been restored, as has its mode.
        let found = fstat(&self.lock.0).context("look at target")?;
        let modified = self.lock.0.metadata().and_then(|root| root.modified());
        let mode = Mode::from_raw_mode(found.st_mode & 0o7777);
        let is_closed = !is_root() && !mode.contains(Mode::RWXU);
        if is_closed {
            fchmod(&self.lock.0, mode | Mode::RWXU).context("open target for writing")?;
        }
        self.root.remove(Path::new(MARKER)).context("remove the mark of an unfinished restore")?;
        let before = self.mode_before.filter(|_| !is_restored);
        if let Some(mode) = before.or(is_closed.then_some(mode)) {
            fchmod(&self.lock.0, mode).context("set mode of target")?;
        }
        let times = FileTimes::new().set_modified(modified.context("read time of target")?);
        self.lock.0.set_times(times).context("set time of target")
    }

    /// The lock for a program to hold as its standard input: if this process is killed, no other restore works
    /// in the target until that program has ended too.
    pub fn hold(&self) -> Result<Stdio> {
        Ok(Stdio::from(self.lock.0.try_clone().context("share the lock of the target")?))
    }
}

/// An owner who is not root needs all rights on a directory to work in it; returns its mode if it was changed.
fn make_writable(root: &Beneath) -> Result<Option<Mode>> {
    let root = root.directory(Path::new(".")).context("open target")?;
    let mode = Mode::from_raw_mode(fstat(&root).context("look at target")?.st_mode & 0o7777);
    if is_root() || mode.contains(Mode::RWXU) {
        return Ok(None);
    }
    fchmod(&root, mode | Mode::RWXU).context("open target for writing")?;
    Ok(Some(mode))
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A directory that is locked.
#[derive(Debug)]
struct Lock(File);

impl Drop for Lock {
    /// A process that another thread is just starting may still hold the file: closing it would not unlock it.
    fn drop(&mut self) {
        let _ = flock(&self.0, FlockOperation::Unlock);
    }
}

/// What is left of a mark if the process or the host died while it was written.
fn is_torn_marker(name: &Path) -> bool {
    name.as_os_str().as_encoded_bytes().starts_with(durable::TEMP_PREFIX.as_bytes())
}

fn remove_torn_markers(root: &Beneath) -> Result<()> {
    for (name, _) in root.list(Path::new("."))?.iter().filter(|(name, _)| is_torn_marker(name)) {
        root.remove(name).with_context(|| format!("remove {}", root.full(name).display()))?;
    }
    Ok(())
}

/// Makes the directory, and those above it, closed to others; one that is there is left as it is.
fn make_new(path: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true).mode(0o700);
    builder.create(path).with_context(|| format!("make {}", path.display()))
}

/// What is in a target and not in `known`: the topmost names only. `known` has directories, files and links.
pub fn extra(root: &Beneath, known: &BTreeSet<PathBuf>) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut open = vec![PathBuf::from(".")];
    while let Some(dir) = open.pop() {
        let names = root.list(&dir).with_context(|| format!("list {}", dir.display()))?;
        for (path, is_dir) in names {
            if path == Path::new(MARKER) {
                continue;
            }
            match (known.contains(&path), is_dir) {
                (true, true) => open.push(path),
                (true, false) => {}
                (false, _) => found.push(path),
            }
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// Removes a name and all that is below it; nothing through links.
pub fn remove_tree(root: &Beneath, path: &Path) -> Result<()> {
    const DEPTH_MAX: usize = 4096;
    let mut open = vec![path.to_owned()];
    while let Some(last) = open.last().cloned() {
        if open.len() > DEPTH_MAX {
            bail!("{} is too deep to be removed", root.full(path).display());
        }
        let removed = match root.stat(&last)? {
            None => Ok(()),
            Some(stat) if crate::beneath::kind_of(&stat) != rustix::fs::FileType::Directory => {
                root.remove(&last)
            }
            Some(_) => match root.remove_dir(&last) {
                Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {
                    let names = root.list(&last)?;
                    for (name, _) in names.iter().filter(|(_, is_dir)| !is_dir) {
                        root.remove(name)?;
                    }
                    open.extend(names.into_iter().filter(|(_, is_dir)| *is_dir).map(|(n, _)| n));
                    continue;
                }
                other => other,
            },
        };
        removed.with_context(|| format!("remove {}", root.full(&last).display()))?;
        open.pop();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use chassis::failure::{exit_of, hint_of};

    use super::*;

    fn marker() -> Marker {
        let id = "site--20261123T021500Z--web1".parse().unwrap();
        Marker::new(id, Vec::new(), DateTime::UNIX_EPOCH)
    }

    #[test]
    fn only_a_new_empty_or_named_directory_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b");
        assert_eq!(look(&path, &marker(), false).unwrap().0, Found::New);
        std::fs::create_dir_all(&path).unwrap();
        assert_eq!(look(&path, &marker(), false).unwrap().0, Found::New);
        std::fs::write(path.join("x"), "x").unwrap();
        let error = look(&path, &marker(), false).unwrap_err();
        assert_eq!(exit_of(&error), Exit::Usage);
        assert!(hint_of(&error).unwrap().contains("--delta"));
        assert_eq!(look(&path, &marker(), true).unwrap().0, Found::Existing);
        assert!(look(&path.join("x"), &marker(), true).is_err());
    }

    #[test]
    fn an_unfinished_restore_is_continued_by_the_same_and_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t");
        let first = Target::open(&path, &marker(), false).unwrap();
        assert!(first.owned);
        let error = Target::open(&path, &marker(), false).unwrap_err();
        assert_eq!(exit_of(&error), Exit::Busy);
        drop(first);
        let again = Target::open(&path, &marker(), false).unwrap();
        assert_eq!((again.found, again.owned), (Found::Unfinished, true));
        drop(again);
        let other = Marker { selection: vec!["a".into()], ..marker() };
        let error = Target::open(&path, &other, false).unwrap_err();
        assert!(hint_of(&error).unwrap().contains("--snapshot site--"), "{error:#}");
        let same = Target::open(&path, &marker(), false).unwrap();
        same.finish(true).unwrap();
        assert_eq!(std::fs::read_dir(&path).unwrap().count(), 0);
    }

    #[test]
    fn extra_names_are_found_and_removed_but_nothing_behind_links() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("t");
        std::fs::create_dir_all(root.join("known/deep/er")).unwrap();
        std::fs::create_dir_all(dir.path().join("outside")).unwrap();
        std::fs::write(dir.path().join("outside/file"), "x").unwrap();
        std::fs::write(root.join("known/file"), "x").unwrap();
        std::fs::write(root.join("known/deep/er/file"), "x").unwrap();
        std::os::unix::fs::symlink("../../outside", root.join("known/deep/link")).unwrap();
        let beneath = Beneath::open(&root).unwrap();
        let known = BTreeSet::from([PathBuf::from("known"), PathBuf::from("known/file")]);
        let found = extra(&beneath, &known).unwrap();
        assert_eq!(found, [PathBuf::from("known/deep")]);
        remove_tree(&beneath, &found[0]).unwrap();
        assert!(!root.join("known/deep").exists() && root.join("known/file").exists());
        assert!(dir.path().join("outside/file").exists());
    }
}
