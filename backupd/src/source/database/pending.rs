//! Files that are whole but may still be renamed, removed or replaced by what comes later in the
//! stream.
//!
//! `mariadb-backup` copies tables of other engines than InnoDB without a lock, and tells at the end
//! which of them a statement has changed meanwhile. So those files stay open in the writer until
//! the stream ends. At most [`HELD_MAX`] bytes are held for them: beyond, the oldest are closed,
//! and a late change of one of those fails the run.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use database::xbstream::is_removed_by;
use depot::writer::{FileNumber, SnapshotWriter, Stamp};

/// The writer holds the last block of an open file: 64 KiB of a small one at most.
const HELD_MAX: u64 = 32 << 20;
const HELD_OF_ONE_MAX: u64 = 64 << 10;
/// What keeping track of one costs, roughly.
const HELD_OF_ONE_MIN: u64 = 512;

/// Files in the order of their ends.
#[derive(Debug, Default)]
pub(super) struct Pending {
    files: BTreeMap<Arc<Path>, Whole>,
    order: VecDeque<(Arc<Path>, FileNumber)>,
    held: u64,
}

/// A file that has come wholly.
#[derive(Clone, Copy, Debug)]
pub(super) struct Whole {
    pub number: FileNumber,
    pub size: u64,
    pub is_sparse: bool,
}

impl Whole {
    /// Closes it. A file of a database has no time that would prove it unchanged.
    pub(super) fn close(self, writer: &mut SnapshotWriter) -> Result<()> {
        writer.close(self.number, None, self.is_sparse, Stamp::default())
    }

    fn held(&self) -> u64 {
        self.size.clamp(HELD_OF_ONE_MIN, HELD_OF_ONE_MAX)
    }
}

/// Whether a statement may still change a file: InnoDB's own are locked or followed by its log, and
/// those at the top are the tool's and the server's.
pub(super) fn may_change(path: &Path) -> bool {
    let is_in_database = path.components().count() > 1;
    is_in_database && path.extension().is_none_or(|extension| extension != "ibd")
}

impl Pending {
    /// Adds a file; the oldest are closed if there are too many. Returns their paths.
    pub(super) fn add(
        &mut self,
        writer: &mut SnapshotWriter,
        path: Arc<Path>,
        file: Whole,
    ) -> Result<Vec<Arc<Path>>> {
        self.held += file.held();
        self.order.push_back((Arc::clone(&path), file.number));
        self.files.insert(path, file);
        let mut closed = Vec::new();
        while self.held > HELD_MAX
            && let Some((path, number)) = self.order.pop_front()
        {
            // It may have been renamed, replaced or removed since.
            if self.files.get(&path).is_some_and(|file| file.number == number)
                && let Some(file) = self.take(&path)
            {
                file.close(writer)?;
                closed.push(path);
            }
        }
        Ok(closed)
    }

    /// Takes a file out.
    pub(super) fn take(&mut self, path: &Path) -> Option<Whole> {
        let file = self.files.remove(path)?;
        self.held -= file.held();
        Some(file)
    }

    /// Takes out all that a removal means.
    pub(super) fn take_removed(&mut self, pattern: &Path) -> Vec<Whole> {
        let paths: Vec<Arc<Path>> =
            self.files.keys().filter(|path| is_removed_by(pattern, path)).cloned().collect();
        paths.iter().filter_map(|path| self.take(path)).collect()
    }

    /// Closes all.
    pub(super) fn close_all(&mut self, writer: &mut SnapshotWriter) -> Result<Vec<Arc<Path>>> {
        let files = std::mem::take(&mut self.files);
        files.values().try_for_each(|file| file.close(writer))?;
        Ok(files.into_keys().collect())
    }
}
