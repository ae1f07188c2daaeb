//! The list of one backup's files and of the blocks that they are made of, as JSON lines.
//!
//! Read and written as a stream; see `docs/format.md`, section Manifest. What is read is hostile:
//! lengths, paths and numbers are checked here, once, so that nothing after this module has to.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::block::Cuts;
use crate::names::{HostName, JobName, PackId, SnapshotId};

mod json;
mod pieces;

pub use json::{read_line, write_line};
pub use pieces::{Piece, Pieces};

/// The version of the format that this crate writes and reads.
pub const FORMAT_VERSION: u32 = 1;
/// A line of a manifest is refused above this.
pub const LINE_BYTES_MAX: usize = 16 << 20;
/// A file is refused above this: 1 PiB.
pub const FILE_BYTES_MAX: u64 = 1 << 50;
/// A path is refused above this.
pub const PATH_BYTES_MAX: usize = 4096;

/// What was backed up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SnapshotKind {
    /// A tree of files.
    Files,
    /// A physical copy of a database, to be prepared after restoring.
    Database,
}

/// Whether all of it is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SnapshotState {
    /// Everything was read.
    Complete,
    /// Some files could not be read or would not hold still; the head names them.
    Partial,
}

/// A file that is not, or not surely, as it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Problem {
    /// Its path, with anything that is not UTF-8 replaced.
    pub path: String,
    /// What is wrong with it.
    pub what: String,
}

/// The first line.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Head {
    /// [`FORMAT_VERSION`].
    pub holdfast: u32,
    /// The snapshot.
    pub id: SnapshotId,
    /// The job that made it.
    pub job: JobName,
    /// The host that made it.
    pub host: HostName,
    /// What was backed up.
    pub kind: SnapshotKind,
    /// When the run started.
    pub started: DateTime<Utc>,
    /// When its last byte was read.
    pub ended: DateTime<Utc>,
    /// Whether all of it is there.
    pub state: SnapshotState,
    /// The snapshot that an LSN increment builds on.
    pub parent: Option<SnapshotId>,
    /// How files are cut into blocks.
    pub cuts: Cuts,
    /// The key of the blocks' names, hexadecimal.
    #[serde(with = "hex::serde")]
    pub key: [u8; 32],
    /// The program that wrote it, with its version.
    pub program: String,
    /// The directory or server that was read.
    pub root: String,
    /// Positions of a database backup; see `docs/databases.md`.
    pub positions: Option<serde_json::Value>,
    /// Files that are not as they were.
    pub problems: Vec<Problem>,
}

/// A pack that the backup is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackLine {
    /// Its name.
    pub pack: PackId,
    /// Its stored size in bytes.
    pub size: u64,
}

/// Where one block is, or how many blocks of zeros follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockRef {
    /// A stored block.
    Stored(StoredBlock),
    /// This many blocks of zeros, at least one.
    Zeros(u32),
}

/// A block in a pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredBlock {
    /// The keyed hash of its content.
    pub name: [u8; 24],
    /// The number of its pack in this manifest.
    pub pack: u32,
    /// Where it begins in the payload of the pack.
    pub offset: u32,
    /// Its stored length: that of a zstd frame, or of the block itself if it is stored as it is.
    pub stored: u32,
}

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A directory.
    Dir,
    /// A symbolic link.
    Symlink,
    /// A further name of an earlier file.
    Hardlink,
}

/// A path relative to the root, of bytes; never absolute, without `..`, without NUL. The root
/// itself is `.`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryPath(Vec<u8>);

/// One file, directory or link.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Where it is.
    pub path: EntryPath,
    /// What it is.
    pub kind: EntryKind,
    /// The text of a symbolic link; the first name of a hard link.
    pub target: Option<Vec<u8>>,
    /// Size of a file in bytes.
    pub size: u64,
    /// Mode and owner; none for files of a database.
    pub attributes: Option<Attributes>,
    /// True if the file had holes.
    pub sparse: bool,
    /// The number that earlier [`Line::Blocks`] have, if there were any.
    pub file: Option<u64>,
    /// The last (mostly: all) of its blocks.
    pub blocks: Vec<BlockRef>,
}

/// Owner, mode, times and extended attributes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Attributes {
    /// Permission bits, 12 of them.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Name of the owner, where the host had one.
    pub user: Option<String>,
    /// Name of the group, where the host had one.
    pub group: Option<String>,
    /// Seconds since 1970 and nanoseconds.
    pub mtime: (i64, u32),
    /// Extended attributes; POSIX ACLs are among them.
    pub xattrs: BTreeMap<String, Vec<u8>>,
}

/// Totals, at the end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Entries in the manifest.
    pub entries: u64,
    /// Size of all files in bytes.
    pub bytes: u64,
    /// Bytes of packs that this run added.
    pub stored: u64,
}

/// A line of a manifest.
#[derive(Clone, Debug)]
pub enum Line {
    /// The first.
    Head(Box<Head>),
    /// A pack.
    Pack(PackLine),
    /// Blocks of a large file, before its entry.
    Blocks {
        /// The number of the file.
        file: u64,
        /// The next of its blocks.
        blocks: Vec<BlockRef>,
    },
    /// An entry.
    Entry(Box<Entry>),
    /// The last.
    End(Totals),
}

impl EntryPath {
    /// Checks the rules: relative, no empty, `.` or `..` part, no NUL, at most [`PATH_BYTES_MAX`].
    pub fn new(bytes: impl Into<Vec<u8>>) -> Result<Self> {
        let bytes = bytes.into();
        let good_part = |part: &[u8]| !part.is_empty() && part != b"." && part != b"..";
        ensure!(bytes.len() <= PATH_BYTES_MAX, "path of {} bytes is too long", bytes.len());
        ensure!(!bytes.contains(&0), "path has a NUL byte");
        ensure!(
            bytes == b"." || bytes.split(|b| *b == b'/').all(good_part),
            "path `{}` is not a plain relative path",
            String::from_utf8_lossy(&bytes)
        );
        Ok(Self(bytes))
    }

    /// The path as bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The path for the file system.
    pub fn as_path(&self) -> &std::path::Path {
        use std::os::unix::ffi::OsStrExt;
        std::path::Path::new(std::ffi::OsStr::from_bytes(&self.0))
    }

    /// The path for people: anything that is not UTF-8 is replaced.
    pub fn lossy(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(&self.0)
    }
}

impl std::fmt::Debug for EntryPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.lossy())
    }
}
