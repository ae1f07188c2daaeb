//! The chunks of a stream become files of a snapshot.
//!
//! Files come interleaved, several open at once. A directory is added before the first file in it;
//! one that is dropped meanwhile stays as an empty one. What is hostile or out of order is an
//! error: a path that is no plain relative one, a file that comes twice.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use chassis::failure::{Exit, Failure};
use database::info::{METADATA_LENGTH_MAX, Metadata};
use database::xbstream::{Chunk, Kind, is_removed_by};
use depot::manifest::{Entry, EntryKind, EntryPath};
use depot::writer::{FileNumber, SnapshotWriter};

use super::Taken;
use super::aria::{Spool, is_rewound};
use super::pending::{Pending, Whole, may_change};

/// Puts a stream into a writer.
pub(super) struct Intake<'w> {
    writer: &'w mut SnapshotWriter,
    /// Where the few files are spooled that are not written from front to back.
    spool_dir: &'w Path,
    open: HashMap<Arc<Path>, Open>,
    /// Whole, but a statement may have changed them meanwhile.
    pending: Pending,
    closed: HashSet<Arc<Path>>,
    folders: HashSet<PathBuf>,
    metadata: BTreeMap<String, Vec<u8>>,
}

/// A file that is coming in.
struct Open {
    number: FileNumber,
    position: u64,
    is_sparse: bool,
    /// Its content, if it is one that tells about the backup.
    copy: Option<Vec<u8>>,
    spool: Option<Spool>,
}

impl<'w> Intake<'w> {
    /// Nothing taken yet.
    pub(super) fn new(writer: &'w mut SnapshotWriter, spool_dir: &'w Path) -> Self {
        Self {
            writer,
            spool_dir,
            open: HashMap::new(),
            pending: Pending::default(),
            closed: HashSet::new(),
            folders: HashSet::new(),
            metadata: BTreeMap::new(),
        }
    }

    /// Takes a chunk with its payload.
    pub(super) fn take(&mut self, chunk: &Chunk, payload: &[u8]) -> Result<()> {
        match &chunk.kind {
            Kind::Remove => return self.remove(&chunk.path),
            Kind::Rename { to } => return self.rename(&chunk.path, to),
            Kind::Payload { .. } | Kind::Sparse { .. } | Kind::End { .. } => {}
        }
        if chunk.first {
            self.begin(chunk)?;
        }
        let path = &chunk.path;
        let file =
            self.open.get_mut(path).with_context(|| format!("{} is not open", path.display()))?;
        for (offset, data) in chunk.pieces(payload) {
            file.put(self.writer, offset, data)
                .with_context(|| format!("take {} at {offset}", path.display()))?;
        }
        match chunk.kind {
            Kind::End { size } => self.end(path, size),
            _ => Ok(()),
        }
    }

    /// What was in the stream. The reader has seen to it that no file is still open.
    pub(super) fn finish(mut self) -> Result<Taken> {
        let late = self.pending.close_all(self.writer)?;
        self.closed.extend(late);
        let is_top = |path: &&Arc<Path>| path.components().count() == 1;
        let top = self.closed.iter().filter(is_top).map(|path| path.to_path_buf()).collect();
        Ok(Taken { files: self.metadata, top })
    }

    fn remove(&mut self, pattern: &Path) -> Result<()> {
        if let Some(path) = self.closed.iter().find(|path| is_removed_by(pattern, path)) {
            return Err(changed(path));
        }
        for file in self.pending.take_removed(pattern) {
            self.writer.abandon(file.number)?;
        }
        Ok(())
    }

    /// The new name may be taken; the old one need not exist.
    fn rename(&mut self, from: &Arc<Path>, to: &Arc<Path>) -> Result<()> {
        if let Some(path) = [from, to].into_iter().find(|path| self.closed.contains(*path)) {
            return Err(changed(path));
        }
        let Some(file) = self.pending.take(from) else { return Ok(()) };
        if let Some(replaced) = self.pending.take(to) {
            self.writer.abandon(replaced.number)?;
        }
        self.add_folders(to)?;
        self.writer.rename(file.number, entry_path(to)?)?;
        let closed = self.pending.add(self.writer, Arc::clone(to), file)?;
        self.closed.extend(closed);
        Ok(())
    }

    fn begin(&mut self, chunk: &Chunk) -> Result<()> {
        let path = &chunk.path;
        match (self.closed.contains(path), self.pending.take(path)) {
            (false, None) => {}
            (false, Some(replaced)) if chunk.rewrite => self.writer.abandon(replaced.number)?,
            (true, _) if chunk.rewrite => return Err(changed(path)),
            _ => bail!("{} is in the stream twice", path.display()),
        }
        self.add_folders(path)?;
        let spool = is_rewound(path).then(|| Spool::create(self.spool_dir)).transpose()?;
        let open = Open {
            number: self.writer.open(entry_path(path)?)?,
            position: 0,
            is_sparse: false,
            copy: Metadata::of(path).map(|_| Vec::new()),
            spool,
        };
        self.open.insert(Arc::clone(path), open);
        Ok(())
    }

    fn add_folders(&mut self, path: &Path) -> Result<()> {
        let above: Vec<&Path> =
            path.ancestors().skip(1).take_while(|path| *path != Path::new("")).collect();
        for folder in above.into_iter().rev() {
            if self.folders.insert(folder.to_owned()) {
                self.writer.add(folder_entry(folder)?)?;
            }
        }
        Ok(())
    }

    fn end(&mut self, path: &Arc<Path>, size: u64) -> Result<()> {
        let mut file = self.open.remove(path).context("end a file")?;
        if let Some(mut spool) = file.spool.take() {
            spool.drain(|data| file.append(self.writer, data))?;
        }
        ensure!(file.position <= size, "{} is longer than its end says", path.display());
        file.skip_to(self.writer, size)?;
        if let (Some(copy), Some(name)) = (file.copy, path.to_str()) {
            self.metadata.insert(name.to_owned(), copy);
        }
        let whole = Whole { number: file.number, size, is_sparse: file.is_sparse };
        if may_change(path) {
            let closed = self.pending.add(self.writer, Arc::clone(path), whole)?;
            self.closed.extend(closed);
        } else {
            whole.close(self.writer)?;
            self.closed.insert(Arc::clone(path));
        }
        Ok(())
    }
}

impl Open {
    fn put(&mut self, writer: &mut SnapshotWriter, offset: u64, data: &[u8]) -> Result<()> {
        if let Some(spool) = &mut self.spool {
            return spool.write_at(offset, data);
        }
        ensure!(offset >= self.position, "it goes back to {offset} from {}", self.position);
        self.skip_to(writer, offset)?;
        self.append(writer, data)
    }

    fn skip_to(&mut self, writer: &mut SnapshotWriter, offset: u64) -> Result<()> {
        if offset > self.position {
            writer.skip(self.number, offset - self.position)?;
            self.position = offset;
            self.is_sparse = true;
        }
        Ok(())
    }

    fn append(&mut self, writer: &mut SnapshotWriter, data: &[u8]) -> Result<()> {
        writer.write(self.number, data)?;
        self.position += data.len() as u64;
        if let Some(copy) = &mut self.copy {
            ensure!(
                copy.len() + data.len() <= METADATA_LENGTH_MAX,
                "it is too large for what it is"
            );
            copy.extend_from_slice(data);
        }
        Ok(())
    }
}

fn entry_path(path: &Path) -> Result<EntryPath> {
    EntryPath::new(path.as_os_str().as_bytes())
}

fn folder_entry(path: &Path) -> Result<Entry> {
    Ok(Entry {
        path: entry_path(path)?,
        kind: EntryKind::Dir,
        target: None,
        size: 0,
        attributes: None,
        sparse: false,
        file: None,
        blocks: Vec::new(),
    })
}

/// A snapshot is written from front to back: a file that is closed is in it.
fn changed(path: &Path) -> anyhow::Error {
    let message =
        format!("{} was changed by a statement such as ALTER or DROP meanwhile", path.display());
    Failure::new(Exit::Failed, message)
        .hint("try again when no tables are made, altered or dropped")
        .into()
}
