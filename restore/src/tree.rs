//! What a manifest says, as restoring needs it: directories, files and links, and every wanted block with its place.
//!
//! The manifest is read once, as a stream. A block takes 48 bytes of memory here: 0.8 GiB for each TiB of
//! files that are smaller than 1 GiB, and a sixth of that where tables are larger. An entry takes about 120
//! bytes and its path.
//!
//! What is read is hostile. The reader has checked the form of each path; here it is refused that a path goes through
//! something that is not a directory, that blocks do not make up the size of their file, and that they are in a pack
//! that the manifest does not name.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;
use depot::manifest::{Head, PackLine};
use depot::reader::SnapshotReader;

use crate::select::Selection;

mod read;

use read::{Lost, Reading};

/// The number of no pack, which the format sets aside: the block is at its place already.
pub const AT_PLACE: u32 = u32::MAX;

/// What is to be restored of one snapshot.
#[derive(Debug)]
pub struct Tree {
    /// The first line of the manifest.
    pub head: Head,
    /// All packs of the manifest, by their number.
    pub packs: Vec<PackLine>,
    /// Directories: each after the one that it is in.
    pub dirs: Vec<Dir>,
    /// Files and links.
    pub entries: Vec<Node>,
    /// The files among the entries, by the number that blocks have.
    pub files: Vec<File>,
    /// Every stored block of every wanted file.
    pub blocks: Vec<Block>,
    /// Every run of zeros of a wanted file, sorted by file.
    pub zeros: Vec<Zeros>,
    /// The owners, modes and extended attributes that entries share.
    pub owners: Vec<Owner>,
    /// Entries with a name that this program uses itself in a target, left out.
    pub left_out: Vec<String>,
    /// Whether tables of a database were renamed or dropped while the backup was taken.
    pub has_renames: bool,
}

/// A directory.
#[derive(Debug)]
pub struct Dir {
    /// Relative to the target; `.` is the target itself.
    pub path: Box<Path>,
    /// None if the manifest does not say: closed to others then.
    pub attributes: Option<Placement>,
    wanted: bool,
}

/// A file or a link.
#[derive(Debug)]
pub struct Node {
    /// Relative to the target.
    pub path: Box<Path>,
    /// What it is.
    pub what: What,
    /// None in a database.
    pub attributes: Option<Placement>,
}

/// What an entry is.
#[derive(Debug)]
pub enum What {
    /// A file, by its number.
    File(u32),
    /// A symbolic link to this text.
    Symlink(Box<[u8]>),
    /// A further name of the file with this one.
    Hardlink(Box<Path>),
}

/// A file.
#[derive(Debug)]
pub struct File {
    /// The number of its entry.
    pub entry: u32,
    /// Its size in bytes.
    pub size: u64,
    /// Whether its zeros are holes.
    pub sparse: bool,
}

/// Attributes of an entry; what many have in common is stored once.
#[derive(Clone, Copy, Debug)]
pub struct Placement {
    /// Which of [`Tree::owners`].
    pub owner: u32,
    /// Seconds since 1970 and nanoseconds.
    pub mtime: (i64, u32),
}

/// What many entries have in common.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Owner {
    /// Permission bits, 12 of them.
    pub mode: u32,
    /// Owner and group by number.
    pub ids: (u32, u32),
    /// Owner and group by name.
    pub names: (Option<String>, Option<String>),
    /// Extended attributes.
    pub xattrs: BTreeMap<String, Vec<u8>>,
}

/// A stored block and its place in a file.
#[derive(Clone, Copy, Debug)]
pub struct Block {
    /// Where in its file, in bytes.
    pub at: u64,
    /// The number of its file.
    pub file: u32,
    /// The number of its pack, or [`AT_PLACE`].
    pub pack: u32,
    /// Where it begins in the payload of the pack.
    pub offset: u32,
    /// Its stored length.
    pub stored: u32,
    /// The keyed hash of its content.
    pub name: [u8; 24],
}

/// A run of zeros in a file.
#[derive(Clone, Copy, Debug)]
pub struct Zeros {
    /// The number of its file.
    pub file: u32,
    /// Where it begins.
    pub at: u64,
    /// Its length in bytes.
    pub length: u64,
}

impl Tree {
    /// Reads a manifest to its end. A wanted further name of a file that is not wanted itself takes the file's place.
    ///
    /// `open` opens the manifest; it is called twice if there are such names.
    pub fn read<'d>(
        open: impl Fn() -> Result<SnapshotReader<'d>>,
        selection: &Selection,
    ) -> Result<Self> {
        let mut selection = selection.clone();
        loop {
            let lost = match Reading::new(open()?, &selection).read()? {
                Ok(tree) => return Ok(tree),
                Err(lost) => lost,
            };
            for Lost { first, further } in lost {
                selection.rename(first, further);
            }
        }
    }

    /// The length of a block in its file.
    pub fn length(&self, block: &Block) -> u64 {
        self.head.cuts.size_at(block.at).min(self.files[block.file as usize].size - block.at)
    }

    /// The path of a file.
    pub fn path_of(&self, file: u32) -> &Path {
        &self.entries[self.files[file as usize].entry as usize].path
    }

    /// The runs of zeros of a file: where they begin, and their length in bytes.
    pub fn zeros_of(&self, file: u32) -> impl Iterator<Item = (u64, u64)> {
        let first = self.zeros.partition_point(|run| run.file < file);
        let runs = self.zeros[first..].iter().take_while(move |run| run.file == file);
        runs.map(move |run| (run.at, run.length))
    }

    /// Size of all wanted files in bytes.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.size).sum()
    }

    /// Bytes of content without the zeros: what is written.
    pub fn content_bytes(&self) -> u64 {
        self.blocks.iter().map(|block| self.length(block)).sum()
    }
}
