//! What a manifest says, as restoring needs it: directories, files and links, and every wanted block with its place.
//!
//! The manifest is read once, as a stream. A block takes 48 bytes of memory here: 0.8 GiB for each TiB of files that are
//! smaller than 1 GiB, and a sixth of that where tables are larger. An entry takes about 120 bytes and its path.
//!
//! What is read is hostile. The reader has checked the form of each path; here it is refused that a path goes through
//! something that is not a directory, that blocks do not make up the size of their file, and that they are in a pack
//! that the manifest does not name.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use database::tablespace::has_renames;
use depot::block::Cuts;
use depot::manifest::{
    Attributes, BlockRef, Entry, EntryKind, EntryPath, Head, Line, PackLine, SnapshotKind, StoredBlock,
};
use depot::reader::SnapshotReader;

use crate::select::{Selection, self_and_above};
use crate::target::{INCREMENTS, MARKER};

/// No file is larger: 1 PiB.
const FILE_BYTES_MAX: u64 = 1 << 50;
/// The number of no entry.
const NO_ENTRY: u32 = u32::MAX;
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
    /// Every run of zeros of a wanted file.
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
    /// Where the block after its last one would begin.
    end: u64,
}

impl File {
    /// Whether it is to be restored.
    pub fn is_wanted(&self) -> bool {
        self.entry != NO_ENTRY
    }
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

/// A run of zeros in a file; it may go beyond the end of the file by less than a block.
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
            let mut reading = Reading::new(open()?, &selection);
            while let Some(line) = reading.source.next_line()? {
                reading.take(line).context("read manifest")?;
            }
            let lost = std::mem::take(&mut reading.lost);
            if lost.is_empty() {
                return Ok(reading.finish());
            }
            for (first, further) in lost {
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

    /// Size of all wanted files in bytes.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.size).sum()
    }

    /// Bytes of content without the zeros: what it takes on the disk.
    pub fn content_bytes(&self) -> u64 {
        self.blocks.iter().map(|block| self.length(block)).sum()
    }
}

/// What has a path.
#[derive(Clone, Copy)]
enum Taken {
    Dir(usize),
    Symlink,
}

/// A manifest that is being read.
struct Reading<'d, 's> {
    source: SnapshotReader<'d>,
    selection: &'s Selection,
    cuts: Cuts,
    tree: Tree,
    taken: HashMap<Box<[u8]>, Taken>,
    /// The manifest's numbers of files with lines of their own, and ours.
    numbers: HashMap<u64, u32>,
    owners: HashMap<Owner, u32>,
    /// First names that are not wanted, and the wanted further name of each.
    lost: Vec<(Vec<u8>, Vec<u8>)>,
}

impl<'d, 's> Reading<'d, 's> {
    fn new(source: SnapshotReader<'d>, selection: &'s Selection) -> Self {
        let tree = Tree {
            head: source.head().clone(),
            packs: source.packs().to_vec(),
            dirs: Vec::new(),
            entries: Vec::new(),
            files: Vec::new(),
            blocks: Vec::new(),
            zeros: Vec::new(),
            owners: Vec::new(),
            left_out: Vec::new(),
            has_renames: false,
        };
        Self {
            cuts: tree.head.cuts.clone(),
            source,
            selection,
            tree,
            taken: HashMap::new(),
            numbers: HashMap::new(),
            owners: HashMap::new(),
            lost: Vec::new(),
        }
    }

    fn take(&mut self, line: Line) -> Result<()> {
        match line {
            Line::Blocks { file, blocks } => {
                let file = match self.numbers.get(&file) {
                    Some(known) => *known,
                    None => self.new_file(Some(file))?,
                };
                self.take_blocks(file, &blocks)
            }
            Line::Entry(entry) => {
                let path = entry.path.lossy().into_owned();
                self.take_entry(*entry).with_context(|| format!("entry `{path}`"))
            }
            Line::Head(_) | Line::Pack(_) | Line::End(_) => bail!("line out of order"),
        }
    }

    fn new_file(&mut self, number: Option<u64>) -> Result<u32> {
        let file = u32::try_from(self.tree.files.len()).context("too many files")?;
        self.tree.files.push(File { entry: NO_ENTRY, size: 0, end: 0 });
        if let Some(number) = number {
            self.numbers.insert(number, file);
        }
        Ok(file)
    }

    fn take_blocks(&mut self, file: u32, blocks: &[BlockRef]) -> Result<()> {
        let mut at = self.tree.files[file as usize].end;
        for block in blocks {
            let next = match *block {
                BlockRef::Zeros(count) => {
                    let end = skip(&self.cuts, at, count)?;
                    self.tree.zeros.push(Zeros { file, at, length: end - at });
                    end
                }
                BlockRef::Stored(StoredBlock { name, pack, offset, stored }) => {
                    ensure!((pack as usize) < self.tree.packs.len(), "there is no pack {pack}");
                    self.tree.blocks.push(Block { at, file, pack, offset, stored, name });
                    at + self.cuts.size_at(at)
                }
            };
            ensure!(next <= FILE_BYTES_MAX, "a file is larger than {FILE_BYTES_MAX} bytes");
            at = next;
        }
        self.tree.files[file as usize].end = at;
        Ok(())
    }

    fn take_entry(&mut self, entry: Entry) -> Result<()> {
        let path = entry.path.as_bytes();
        if is_reserved(path, self.tree.head.kind) {
            self.tree.left_out.push(entry.path.lossy().into_owned());
            return Ok(());
        }
        self.tree.has_renames |= has_renames(std::iter::once(entry.path.as_path()));
        let parent = self_and_above(path).nth(1);
        let parent = parent.map(|parent| self.dir_of(parent)).transpose()?;
        if entry.kind == EntryKind::Dir {
            return self.take_dir(&entry, parent);
        }
        ensure!(!self.taken.contains_key(path), "another entry has this path");
        if entry.kind == EntryKind::Symlink {
            self.taken.insert(path.into(), Taken::Symlink);
        }
        match self.selection.renamed(path).map(<[u8]>::to_vec) {
            Some(further) if !self.selection.wants(path) => {
                let parent = self_and_above(&further).nth(1).map(|p| self.dir_of(p)).transpose()?;
                self.want(parent);
                let entry = Entry { path: EntryPath::new(further)?, ..entry };
                self.take_leaf(entry)
            }
            _ if self.selection.wants(path) => {
                self.want(parent);
                self.take_leaf(entry)
            }
            _ => Ok(()),
        }
    }

    /// The directory with this path, which is made up if the manifest has not named it (a database need not).
    fn dir_of(&mut self, path: &[u8]) -> Result<usize> {
        match self.taken.get(path) {
            Some(Taken::Dir(dir)) => return Ok(*dir),
            Some(Taken::Symlink) => bail!("its path goes through a symbolic link"),
            None => {}
        }
        if let Some(above) = self_and_above(path).nth(1) {
            self.dir_of(above)?;
        }
        Ok(self.add_dir(path))
    }

    fn add_dir(&mut self, path: &[u8]) -> usize {
        let dir = self.tree.dirs.len();
        let boxed = Path::new(OsStr::from_bytes(path)).into();
        self.tree.dirs.push(Dir { path: boxed, attributes: None, wanted: false });
        self.taken.insert(path.into(), Taken::Dir(dir));
        dir
    }

    fn take_dir(&mut self, entry: &Entry, parent: Option<usize>) -> Result<()> {
        let path = entry.path.as_bytes();
        let dir = match self.taken.get(path) {
            Some(Taken::Dir(dir)) => *dir,
            Some(Taken::Symlink) => bail!("another entry has this path"),
            None => self.add_dir(path),
        };
        let is_new = self.tree.dirs[dir].attributes.is_none();
        ensure!(is_new, "another entry has this path");
        let attributes = entry.attributes.clone().map(|attributes| self.placement(attributes));
        self.tree.dirs[dir].attributes = attributes;
        // Only part of a tree does not change the directory that it is put into.
        if self.selection.wants(path) && (path != b"." || self.selection.is_all()) {
            self.want(parent);
            self.tree.dirs[dir].wanted = true;
        }
        Ok(())
    }

    /// Wants a directory and those above it.
    fn want(&mut self, mut dir: Option<usize>) {
        while let Some(number) = dir {
            let dir_found = &mut self.tree.dirs[number];
            if std::mem::replace(&mut dir_found.wanted, true) {
                return;
            }
            let path = dir_found.path.as_os_str().as_bytes();
            dir = self_and_above(path).nth(1).and_then(|above| match self.taken.get(above) {
                Some(Taken::Dir(number)) => Some(*number),
                _ => None,
            });
        }
    }

    fn take_leaf(&mut self, entry: Entry) -> Result<()> {
        let what = match entry.kind {
            EntryKind::File => What::File(self.take_file(&entry)?),
            EntryKind::Symlink => What::Symlink(entry.target.context("no target")?.into()),
            EntryKind::Hardlink => {
                let Some(first) = self.first_of(&entry)? else { return Ok(()) };
                What::Hardlink(Path::new(OsStr::from_bytes(&first)).into())
            }
            EntryKind::Dir => bail!("a directory is no leaf"),
        };
        let attributes = entry.attributes.map(|attributes| self.placement(attributes));
        let path = entry.path.as_path().into();
        self.tree.entries.push(Node { path, what, attributes });
        Ok(())
    }

    fn take_file(&mut self, entry: &Entry) -> Result<u32> {
        let file = match entry.file.and_then(|number| self.numbers.remove(&number)) {
            Some(file) => file,
            None => self.new_file(None)?,
        };
        self.take_blocks(file, &entry.blocks)?;
        let number = u32::try_from(self.tree.entries.len()).context("too many entries")?;
        let found = &mut self.tree.files[file as usize];
        let last = entry.size.checked_sub(1).map_or(0, |last| self.cuts.size_at(last));
        let fits = entry.size <= found.end && found.end < entry.size + last.max(1);
        ensure!(fits, "its blocks end at {} and do not make up its size {}", found.end, entry.size);
        (found.entry, found.size) = (number, entry.size);
        Ok(file)
    }

    /// The first name of a hard link, as it is restored; none if this further name takes its place.
    fn first_of(&mut self, entry: &Entry) -> Result<Option<Vec<u8>>> {
        let first = entry.target.clone().context("no target")?;
        let first = EntryPath::new(first).context("target of a hard link")?.as_bytes().to_vec();
        if self.selection.wants(&first) {
            return Ok(Some(first));
        }
        let path = entry.path.as_bytes();
        match self.selection.renamed(&first) {
            Some(further) if further == path => Ok(None),
            Some(further) => Ok(Some(further.to_vec())),
            None => {
                self.lost.push((first, path.to_vec()));
                Ok(None)
            }
        }
    }

    fn placement(&mut self, attributes: Attributes) -> Placement {
        let Attributes { mode, uid, gid, user, group, mtime, xattrs } = attributes;
        let owner = Owner { mode, ids: (uid, gid), names: (user, group), xattrs };
        let owners = &mut self.tree.owners;
        let owner = *self.owners.entry(owner).or_insert_with_key(|owner| {
            owners.push(owner.clone());
            (owners.len() - 1) as u32
        });
        Placement { owner, mtime }
    }

    fn finish(self) -> Tree {
        let mut tree = self.tree;
        tree.dirs.retain(|dir| dir.wanted);
        let files = &tree.files;
        let is_wanted = |file: u32| files[file as usize].is_wanted();
        tree.blocks.retain(|block| is_wanted(block.file));
        tree.zeros.retain(|zeros| is_wanted(zeros.file));
        tree
    }
}

/// Where `count` blocks end that begin at `at`.
fn skip(cuts: &Cuts, mut at: u64, count: u32) -> Result<u64> {
    for _ in 0..count {
        ensure!(at <= FILE_BYTES_MAX, "a file is larger than {FILE_BYTES_MAX} bytes");
        at += cuts.size_at(at);
    }
    Ok(at)
}

/// Names that a restore uses in its target.
fn is_reserved(path: &[u8], kind: SnapshotKind) -> bool {
    let first = path.split(|b| *b == b'/').next();
    let is_increments = first == Some(INCREMENTS.as_bytes()) && kind == SnapshotKind::Database;
    first == Some(MARKER.as_bytes()) || is_increments
}
