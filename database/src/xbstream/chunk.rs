//! What the chunks of a backup stream say, and what can be wrong with them.

use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use thiserror::Error;

/// A piece of a file, or something to do with a file that came before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Where the chunk starts in the stream, in bytes.
    pub at: u64,
    /// The file: relative, without `.` and `..`. A [`Kind::Remove`] may name a directory or end
    /// with `*`.
    pub path: Arc<Path>,
    /// Whether this is the first chunk of the file since it was opened. An empty file has only its
    /// end.
    pub first: bool,
    /// With `first`: the file replaces the one of the same name that came before. Without it, a
    /// name that comes a second time is a fault that the reader does not see, because it does not
    /// remember closed files.
    pub rewrite: bool,
    /// What is to be done.
    pub kind: Kind,
}

/// What a chunk is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The payload belongs at this offset. That is where the file ends so far, but for one case:
    /// when an Aria log is full, `mariadb-backup` seeks back and overwrites 7 bytes at offset 37 of
    /// `aria_log.*`, right before its end.
    Payload {
        /// In bytes from the start of the file.
        offset: u64,
    },
    /// The payload belongs at this offset, in runs with holes of zeros before them (Percona only).
    Sparse {
        /// In bytes from the start of the file.
        offset: u64,
        /// The holes and lengths; the lengths add up to the payload.
        runs: Vec<SparseRun>,
    },
    /// The file is whole.
    End {
        /// The size that its chunks add up to, in bytes.
        size: u64,
    },
    /// What came before under this path is to be dropped: a file, a directory, or by `*` all that
    /// start so. It need not exist; see [`is_removed_by`] (MariaDB only).
    Remove,
    /// The file that came before is to be renamed, replacing one of that name; it need not exist
    /// (MariaDB only).
    Rename {
        /// The new path.
        to: Arc<Path>,
    },
}

/// A hole and the data behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SparseRun {
    /// Zeros before the data, in bytes.
    pub skip: u32,
    /// Bytes of the payload.
    pub length: u32,
}

impl Chunk {
    /// The pieces of the payload with their offsets in the file: one, or the runs of a sparse
    /// chunk; none for the kinds that have no payload.
    pub fn pieces<'a>(&'a self, payload: &'a [u8]) -> Vec<(u64, &'a [u8])> {
        match &self.kind {
            Kind::Payload { offset } => vec![(*offset, payload)],
            Kind::Sparse { offset, runs } => {
                let (mut position, mut rest) = (*offset, payload);
                let mut pieces = Vec::with_capacity(runs.len());
                for run in runs {
                    let (piece, behind) = rest.split_at(run.length as usize);
                    position += u64::from(run.skip);
                    pieces.push((position, piece));
                    position += u64::from(run.length);
                    rest = behind;
                }
                pieces
            }
            Kind::End { .. } | Kind::Remove | Kind::Rename { .. } => Vec::new(),
        }
    }
}

/// Whether a [`Kind::Remove`] of `pattern` takes `path` away: the file itself, all below a
/// directory, or by a final `*` all whose names start so (`t#P#*`: the partitions of a table).
pub fn is_removed_by(pattern: &Path, path: &Path) -> bool {
    match pattern.as_os_str().as_bytes().strip_suffix(b"*") {
        Some(prefix) => path.as_os_str().as_bytes().starts_with(prefix),
        None => path.starts_with(pattern),
    }
}

/// Why a stream cannot be read on. After an error the reader is of no more use.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "the messages say what the fields are")]
pub enum StreamError {
    #[error("read backup stream at byte {at}")]
    Io { at: u64, source: io::Error },
    #[error("backup stream ends at byte {at}, in the middle of a chunk")]
    Cut { at: u64 },
    #[error(
        "backup stream ends at byte {at}, but {count} files are not whole, among them {path:?}"
    )]
    Unfinished { at: u64, count: usize, path: PathBuf },
    #[error("no chunk starts at byte {at} of the backup stream")]
    Magic { at: u64 },
    #[error("chunk of unknown kind {kind:#04x} at byte {at} of the backup stream")]
    UnknownKind { at: u64, kind: u8 },
    #[error("path {path:?} at byte {at} of the backup stream is not below the target")]
    Path { at: u64, path: PathBuf },
    #[error("{what} of {length} at byte {at} of the backup stream is over the limit of {limit}")]
    Limit { at: u64, what: &'static str, length: u64, limit: u64 },
    #[error(
        "checksum of {path:?} at byte {at} of the backup stream is {found:08x}, not {expected:08x}"
    )]
    Checksum { at: u64, path: PathBuf, expected: u32, found: u32 },
    #[error("{path:?} goes on at {found}, not at {expected}, at byte {at} of the backup stream")]
    OutOfOrder { at: u64, path: PathBuf, expected: u64, found: u64 },
    #[error(
        "{path:?} is removed or renamed while it is written, at byte {at} of the backup stream"
    )]
    Busy { at: u64, path: PathBuf },
    #[error(
        "sparse runs of {path:?} at byte {at} of the backup stream do not add up to the payload"
    )]
    Runs { at: u64, path: PathBuf },
}
