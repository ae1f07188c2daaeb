//! Reads the stream that `mariadb-backup --stream=xbstream` and `xtrabackup --stream=xbstream`
//! write.
//!
//! A stream is a sequence of chunks, each for one file; the files of parallel copy threads are
//! interleaved. The reader checks every checksum, that the bytes of a file follow one another, and
//! that all files are closed at the end: a stream that was cut anywhere is an error, never a short
//! file. It writes nothing and holds one chunk at a time; a hostile stream cannot make it hold more
//! than [`CHUNK_LENGTH_MAX`] nor name a path outside of the target.
//!
//! The two tools use the letter `S` for different things: MariaDB for a seek, Percona for a sparse
//! chunk. So the reader must be told whose stream it is. `docs/databases.md` has the format and its
//! sources.

mod chunk;

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

pub use self::chunk::{Chunk, Kind, SparseRun, StreamError, is_removed_by};
use crate::tool::BackupTool;

/// The longest payload of a chunk, in bytes. The tools write 10 MiB at most by default.
pub const CHUNK_LENGTH_MAX: u64 = 64 << 20;
/// The longest path of a file, in bytes; the tools' own limit (`FN_REFLEN` less the final zero).
pub const PATH_LENGTH_MAX: u32 = 511;
/// The most runs of one sparse chunk.
pub const SPARSE_RUNS_MAX: u32 = 1 << 18;
/// The most files open at once in a stream. The tools open one a thread and a few more.
pub const OPEN_FILES_MAX: usize = 16_384;

const MAGIC: &[u8; 8] = b"XBSTCK01";
const HEAD_LENGTH: usize = 14;
/// How much is read before its checksum is taken, in bytes.
const PIECE_LENGTH: usize = 512 << 10;
/// The chunk may be skipped by who does not know its kind.
const FLAG_IGNORABLE: u8 = 1;
/// The file replaces one of the same name that came before (MariaDB: a table that changed during
/// the backup).
const FLAG_REWRITE: u8 = 2;

/// Reads chunks from a stream.
#[derive(Debug)]
pub struct Reader<R> {
    inner: R,
    tool: BackupTool,
    at: u64,
    open: HashMap<Arc<Path>, OpenFile>,
}

#[derive(Debug, Default)]
struct OpenFile {
    position: u64,
    size: u64,
    /// Whether a chunk of it was handed out.
    seen: bool,
    rewrite: bool,
}

struct Head {
    at: u64,
    flags: u8,
    kind: u8,
    path: Arc<Path>,
}

impl<R: Read> Reader<R> {
    /// A reader of the stream that `tool` writes. The source need not be buffered: chunks are read
    /// in large pieces.
    pub fn new(inner: R, tool: BackupTool) -> Self {
        Self { inner, tool, at: 0, open: HashMap::new() }
    }

    /// How much of the stream was read, in bytes.
    pub fn bytes_read(&self) -> u64 {
        self.at
    }

    /// The next chunk, or `None` at the end of a whole stream. The payload replaces what was in
    /// `payload`, which grows to the longest chunk and is best used again.
    pub fn next(&mut self, payload: &mut Vec<u8>) -> Result<Option<Chunk>, StreamError> {
        loop {
            let Some(head) = self.read_head()? else { return self.finish() };
            if !matches!(head.kind, b'P' | b'S') {
                payload.clear();
            }
            match (self.tool, head.kind) {
                (_, b'P') => return self.read_payload(head, payload).map(Some),
                (_, b'E') => return self.end(head).map(Some),
                (BackupTool::Percona, b'S') => return self.read_sparse(head, payload).map(Some),
                (BackupTool::MariaDb, b'S') => self.seek(&head)?,
                (BackupTool::MariaDb, b'D') => return self.remove(head).map(Some),
                (BackupTool::MariaDb, b'R') => return self.rename(head).map(Some),
                // The tools themselves take such a chunk for one with a payload.
                _ if head.flags & FLAG_IGNORABLE != 0 => self.skip(&head, payload)?,
                (_, kind) => return Err(StreamError::UnknownKind { at: head.at, kind }),
            }
        }
    }

    fn finish(&mut self) -> Result<Option<Chunk>, StreamError> {
        match self.open.keys().min() {
            None => Ok(None),
            Some(path) => Err(StreamError::Unfinished {
                at: self.at,
                count: self.open.len(),
                path: path.to_path_buf(),
            }),
        }
    }

    fn read_head(&mut self) -> Result<Option<Head>, StreamError> {
        let at = self.at;
        let mut head = [0; HEAD_LENGTH];
        match self.fill(&mut head)? {
            0 => return Ok(None),
            HEAD_LENGTH => {}
            _ => return Err(StreamError::Cut { at: self.at }),
        }
        if head[..8] != MAGIC[..] {
            return Err(StreamError::Magic { at });
        }
        let path = self.read_path(u32::from_le_bytes([head[10], head[11], head[12], head[13]]))?;
        Ok(Some(Head { at, flags: head[8], kind: head[9], path }))
    }

    fn read_path(&mut self, length: u32) -> Result<Arc<Path>, StreamError> {
        let at = self.at;
        limit(at, "path", length.into(), PATH_LENGTH_MAX.into())?;
        let mut bytes = [0; PATH_LENGTH_MAX as usize];
        let bytes = &mut bytes[..length as usize];
        self.fill_all(bytes)?;
        let path = Path::new(OsStr::from_bytes(bytes));
        if let Some((known, _)) = self.open.get_key_value(path) {
            return Ok(Arc::clone(known));
        }
        below_target(path).ok_or_else(|| StreamError::Path { at, path: path.to_path_buf() })
    }

    fn read_payload(&mut self, head: Head, payload: &mut Vec<u8>) -> Result<Chunk, StreamError> {
        let (length, offset, expected) = self.read_lengths()?;
        let mut checksum = crc32fast::Hasher::new();
        self.read_body(length, payload, &mut checksum)?;
        check_sum(&head, expected, checksum)?;
        let (first, rewrite) = self.advance(&head, offset, length)?;
        let kind = Kind::Payload { offset };
        Ok(Chunk { at: head.at, path: head.path, first, rewrite, kind })
    }

    fn read_sparse(&mut self, head: Head, payload: &mut Vec<u8>) -> Result<Chunk, StreamError> {
        let count = u32::from_le_bytes(self.fill_array()?);
        limit(head.at, "sparse map", count.into(), SPARSE_RUNS_MAX.into())?;
        let (length, offset, expected) = self.read_lengths()?;
        // The map lies between the lengths and the payload; the checksum covers both.
        let mut checksum = crc32fast::Hasher::new();
        self.read_body(u64::from(count) * 8, payload, &mut checksum)?;
        let runs = parse_runs(payload);
        self.read_body(length, payload, &mut checksum)?;
        check_sum(&head, expected, checksum)?;
        let skipped: u64 = runs.iter().map(|run| u64::from(run.skip)).sum();
        let data: u64 = runs.iter().map(|run| u64::from(run.length)).sum();
        if data != length {
            return Err(StreamError::Runs { at: head.at, path: head.path.to_path_buf() });
        }
        let (first, rewrite) = self.advance(&head, offset, skipped + data)?;
        let kind = Kind::Sparse { offset, runs };
        Ok(Chunk { at: head.at, path: head.path, first, rewrite, kind })
    }

    fn end(&mut self, head: Head) -> Result<Chunk, StreamError> {
        self.open_file(&head)?;
        let file = self.open.remove(&head.path).expect("it was opened right above");
        let kind = Kind::End { size: file.size };
        Ok(Chunk { at: head.at, path: head.path, first: !file.seen, rewrite: file.rewrite, kind })
    }

    /// Only moves the position: the next payload carries the offset, so nobody else needs to know.
    fn seek(&mut self, head: &Head) -> Result<(), StreamError> {
        let offset = u64::from_le_bytes(self.fill_array()?);
        self.open_file(head)?.position = offset;
        Ok(())
    }

    fn remove(&mut self, head: Head) -> Result<Chunk, StreamError> {
        if let Some(path) = self.open.keys().find(|path| is_removed_by(&head.path, path)) {
            return Err(StreamError::Busy { at: head.at, path: path.to_path_buf() });
        }
        Ok(Chunk { at: head.at, path: head.path, first: false, rewrite: false, kind: Kind::Remove })
    }

    fn rename(&mut self, head: Head) -> Result<Chunk, StreamError> {
        let length = u32::from_le_bytes(self.fill_array()?);
        let to = self.read_path(length)?;
        if let Some(path) = [&head.path, &to].into_iter().find(|path| self.open.contains_key(*path))
        {
            return Err(StreamError::Busy { at: head.at, path: path.to_path_buf() });
        }
        let kind = Kind::Rename { to };
        Ok(Chunk { at: head.at, path: head.path, first: false, rewrite: false, kind })
    }

    fn skip(&mut self, head: &Head, payload: &mut Vec<u8>) -> Result<(), StreamError> {
        let (length, _, expected) = self.read_lengths()?;
        let mut checksum = crc32fast::Hasher::new();
        self.read_body(length, payload, &mut checksum)?;
        check_sum(head, expected, checksum)
    }

    /// Payload length, offset and checksum.
    fn read_lengths(&mut self) -> Result<(u64, u64, u32), StreamError> {
        let at = self.at;
        let length = u64::from_le_bytes(self.fill_array()?);
        let offset = u64::from_le_bytes(self.fill_array()?);
        let checksum = u32::from_le_bytes(self.fill_array()?);
        limit(at, "chunk", length, CHUNK_LENGTH_MAX)?;
        Ok((length, offset, checksum))
    }

    fn open_file(&mut self, head: &Head) -> Result<&mut OpenFile, StreamError> {
        if !self.open.contains_key(&head.path) {
            limit(
                head.at,
                "number of open files",
                self.open.len() as u64 + 1,
                OPEN_FILES_MAX as u64,
            )?;
        }
        let rewrite = head.flags & FLAG_REWRITE != 0;
        let path = Arc::clone(&head.path);
        Ok(self.open.entry(path).or_insert_with(|| OpenFile { rewrite, ..OpenFile::default() }))
    }

    /// Moves the position of a file over what was read; says whether it was its first chunk, and a
    /// rewrite.
    fn advance(
        &mut self,
        head: &Head,
        offset: u64,
        span: u64,
    ) -> Result<(bool, bool), StreamError> {
        let file = self.open_file(head)?;
        let expected = file.position;
        match offset.checked_add(span) {
            Some(end) if offset == expected => file.position = end,
            _ => {
                let path = head.path.to_path_buf();
                return Err(StreamError::OutOfOrder { at: head.at, path, expected, found: offset });
            }
        }
        file.size = file.size.max(file.position);
        let first = !std::mem::replace(&mut file.seen, true);
        Ok((first, file.rewrite))
    }

    /// Reads a body in pieces that are still in the processor's cache when their checksum is taken.
    fn read_body(
        &mut self,
        length: u64,
        body: &mut Vec<u8>,
        checksum: &mut crc32fast::Hasher,
    ) -> Result<(), StreamError> {
        // What is in it from before is written over: only what it grows by is filled with zeros.
        body.resize(length as usize, 0);
        for piece in body.chunks_mut(PIECE_LENGTH) {
            self.fill_all(piece)?;
            checksum.update(piece);
        }
        Ok(())
    }

    fn fill_array<const N: usize>(&mut self) -> Result<[u8; N], StreamError> {
        let mut array = [0; N];
        self.fill_all(&mut array)?;
        Ok(array)
    }

    fn fill_all(&mut self, buffer: &mut [u8]) -> Result<(), StreamError> {
        if self.fill(buffer)? < buffer.len() {
            return Err(StreamError::Cut { at: self.at });
        }
        Ok(())
    }

    /// Reads until the buffer is full or the source ends; returns how much it read.
    fn fill(&mut self, buffer: &mut [u8]) -> Result<usize, StreamError> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.inner.read(&mut buffer[filled..]) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(StreamError::Io { at: self.at, source }),
            }
        }
        self.at += filled as u64;
        Ok(filled)
    }
}

fn below_target(path: &Path) -> Option<Arc<Path>> {
    if path.as_os_str().as_bytes().contains(&0) {
        return None;
    }
    let mut clean = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::CurDir => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    (!clean.as_os_str().is_empty()).then(|| clean.into())
}

fn parse_runs(map: &[u8]) -> Vec<SparseRun> {
    let number = |bytes: &[u8]| u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    map.chunks_exact(8)
        .map(|run| SparseRun { skip: number(&run[..4]), length: number(&run[4..]) })
        .collect()
}

fn check_sum(head: &Head, expected: u32, checksum: crc32fast::Hasher) -> Result<(), StreamError> {
    let found = checksum.finalize();
    if expected == found {
        return Ok(());
    }
    Err(StreamError::Checksum { at: head.at, path: head.path.to_path_buf(), expected, found })
}

fn limit(at: u64, what: &'static str, length: u64, limit: u64) -> Result<(), StreamError> {
    if length > limit {
        return Err(StreamError::Limit { at, what, length, limit });
    }
    Ok(())
}
