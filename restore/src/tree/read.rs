//! A manifest becomes a tree, entry by entry.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use database::tablespace::has_renames;
use depot::block::Cuts;
use depot::manifest::{Attributes, Entry, EntryKind, EntryPath, Piece, SnapshotKind, StoredBlock};
use depot::reader::SnapshotReader;

use super::{Block, Dir, File, Node, Owner, Placement, Tree, What, Zeros};
use crate::select::{Selection, self_and_above};
use crate::target::{INCREMENTS, MARKER, REPLAY};

/// What has a path.
#[derive(Clone, Copy)]
enum Taken {
    Dir(usize),
    Symlink,
}

/// A file whose first name is not wanted.
pub(super) struct Lost {
    /// The first name.
    pub(super) first: Vec<u8>,
    /// A further name that is wanted.
    pub(super) further: Vec<u8>,
}

/// A manifest that is being read.
pub(super) struct Reading<'d, 's> {
    source: SnapshotReader<'d>,
    selection: &'s Selection,
    cuts: Cuts,
    tree: Tree,
    taken: HashMap<Box<[u8]>, Taken>,
    owners: HashMap<Owner, u32>,
    /// First names that are not wanted, and the wanted further name of each.
    lost: Vec<Lost>,
    /// Further names that took the place of a first one.
    replaced: HashSet<Vec<u8>>,
}

impl<'d, 's> Reading<'d, 's> {
    /// Begins with what the head says.
    pub(super) fn new(source: SnapshotReader<'d>, selection: &'s Selection) -> Self {
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
            owners: HashMap::new(),
            lost: Vec::new(),
            replaced: HashSet::new(),
        }
    }

    /// Reads to the end. If there are first names that must be restored under another name, those are returned as the
    /// error: the first name, and the further name that is wanted.
    pub(super) fn read(mut self) -> Result<Result<Tree, Vec<Lost>>> {
        while let Some(entry) = self.source.next_entry()? {
            let path = entry.path.lossy().into_owned();
            self.take_entry(entry).with_context(|| format!("entry `{path}`"))?;
        }
        if !self.lost.is_empty() {
            return Ok(Err(self.lost));
        }
        for further in self.selection.renames() {
            let is_there = self.replaced.contains(further);
            let name = String::from_utf8_lossy(further);
            ensure!(is_there, "the first name of hard link `{name}` is not in the manifest");
        }
        Ok(Ok(self.finish()))
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
                self.replaced.insert(further.clone());
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
        let file = u32::try_from(self.tree.files.len()).context("too many files")?;
        let number = u32::try_from(self.tree.entries.len()).context("too many entries")?;
        for piece in entry.pieces(&self.cuts) {
            let Piece { at, length, stored } = piece?;
            match stored {
                None => self.tree.zeros.push(Zeros { file, at, length }),
                Some(StoredBlock { name, pack, offset, stored }) => {
                    ensure!((pack as usize) < self.tree.packs.len(), "there is no pack {pack}");
                    self.tree.blocks.push(Block { at, file, pack, offset, stored, name });
                }
            }
        }
        self.tree.files.push(File { entry: number, size: entry.size, sparse: entry.sparse });
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
                self.lost.push(Lost { first, further: path.to_vec() });
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
        tree
    }
}

/// Names that a restore uses in its target.
fn is_reserved(path: &[u8], kind: SnapshotKind) -> bool {
    let first = path.split(|b| *b == b'/').next();
    let is = |name: &str| first == Some(name.as_bytes());
    let is_database = kind == SnapshotKind::Database;
    is(MARKER) || is_database && (is(INCREMENTS) || is(REPLAY))
}
