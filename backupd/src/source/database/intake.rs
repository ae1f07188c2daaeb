//! The chunks of a stream become files of a snapshot.
//!
//! Files come interleaved, several open at once. A directory is added before the first file in it. What is hostile or
//! out of order is an error: a path that is no plain relative one, a file that comes twice.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use chassis::failure::{Exit, Failure};
use database::info::{METADATA_LENGTH_MAX, Metadata};
use database::xbstream::{Chunk, Kind};
use depot::manifest::{Entry, EntryKind, EntryPath};
use depot::writer::{FileNumber, SnapshotWriter, Stamp};
use std::os::unix::ffi::OsStrExt;

use super::Taken;
use super::aria::{Spool, is_rewound};

/// Puts a stream into a writer.
pub(super) struct Intake<'w> {
    writer: &'w mut SnapshotWriter,
    /// Where the few files are spooled that are not written from front to back.
    spool_dir: &'w Path,
    open: HashMap<Arc<Path>, Open>,
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
            closed: HashSet::new(),
            folders: HashSet::new(),
            metadata: BTreeMap::new(),
        }
    }

    /// Takes a chunk with its payload.
    pub(super) fn take(&mut self, chunk: &Chunk, payload: &[u8]) -> Result<()> {
        if let Kind::Remove | Kind::Rename { .. } = chunk.kind {
            return Err(changed(&chunk.path));
        }
        if chunk.first {
            self.begin(chunk)?;
        }
        let path = &chunk.path;
        let file = self.open.get_mut(path).with_context(|| format!("{} is not open", path.display()))?;
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
    pub(super) fn finish(self) -> Taken {
        let is_top = |path: &&Arc<Path>| path.components().count() == 1;
        let top = self.closed.iter().filter(is_top).map(|path| path.to_path_buf()).collect();
        Taken { files: self.metadata, top }
    }

    fn begin(&mut self, chunk: &Chunk) -> Result<()> {
        let path = &chunk.path;
        if self.closed.contains(path) {
            if chunk.rewrite {
                return Err(changed(path));
            }
            bail!("{} is in the stream twice", path.display());
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
        let above: Vec<&Path> = path.ancestors().skip(1).take_while(|path| *path != Path::new("")).collect();
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
        // A file of a database has no time that would prove it unchanged.
        self.writer.close(file.number, None, file.is_sparse, Stamp::default())?;
        if let (Some(copy), Some(name)) = (file.copy, path.to_str()) {
            self.metadata.insert(name.to_owned(), copy);
        }
        self.closed.insert(Arc::clone(path));
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
            ensure!(copy.len() + data.len() <= METADATA_LENGTH_MAX, "it is too large for what it is");
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

/// A snapshot is written from front to back: what it has it keeps.
fn changed(path: &Path) -> anyhow::Error {
    let message = format!("{} was changed by a statement such as ALTER or DROP meanwhile", path.display());
    Failure::new(Exit::Failed, message)
        .hint("try again when no tables are made, altered or dropped")
        .into()
}
