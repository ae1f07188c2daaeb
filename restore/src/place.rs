//! Everything about files but their content: sizes, links, owners, modes, extended attributes and times.
//!
//! It comes after the content, because each change of a file changes its times, and each change in a directory
//! those of the directory: files first, then links, then directories, the deepest first. Until its turn a name
//! is closed to others. What the file system or a missing right does not allow is a problem that is named, not
//! a reason to stop.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, Result};
use chassis::progress::Progress;
use chassis::retry::Stop;
use depot::manifest::Problem;
use rustix::fs::{self, AtFlags, FallocateFlags, Mode, Timespec, Timestamps};
use rustix::io::Errno;
use xattr::FileExt;

use crate::beneath::{Beneath, path_at};
use crate::fetch::write_failure;
use crate::owners::{Ids, resolve};
use crate::share::share;
use crate::tree::{Dir, Node, Owner, Placement, Tree, What};

/// Extended attributes that another program sets by rules of its own; they are never removed.
const FOREIGN: [&str; 2] = ["security.", "trusted."];
/// Set-user-id and set-group-id: without the owner they would mean something else.
const SET_IDS: u32 = 0o6000;

/// What placing needs.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// What to place.
    pub tree: &'a Tree,
    /// Where.
    pub root: &'a Beneath,
    /// Whether owners are set, which takes root.
    pub set_owner: bool,
    /// Threads.
    pub workers: usize,
    /// To stop early.
    pub stop: &'a Stop,
    /// Counts entries.
    pub progress: &'a Progress,
}

/// Gives everything its size and attributes, and makes the links; returns what could not be done.
pub fn place(place: Place<'_>) -> Result<Vec<Problem>> {
    let tree = place.tree;
    place.progress.begin("attributes", 0);
    let placer = Placer { ids: resolve(&tree.owners, place.set_owner), place };
    let (files, links): (Vec<&Node>, Vec<&Node>) =
        tree.entries.iter().partition(|node| matches!(node.what, What::File(_)));
    // A symbolic link is made after everything that could be written through it.
    let (hard, symbolic): (Vec<&Node>, Vec<&Node>) =
        links.into_iter().partition(|node| matches!(node.what, What::Hardlink(_)));
    let mut dirs: Vec<&Dir> = tree.dirs.iter().collect();
    dirs.sort_by_key(|dir| std::cmp::Reverse(depth(&dir.path)));
    let nobody = || Ok(());
    let mut problems = Vec::new();
    for nodes in [files, hard, symbolic] {
        let act = |(): &mut (), node: &&Node| placer.node(node);
        problems.extend(share(place.workers, &nodes, place.stop, nobody, act)?);
    }
    for dir in dirs {
        problems.push(placer.dir(dir)?);
    }
    Ok(problems.into_iter().flatten().collect())
}

/// The root is above all.
fn depth(path: &Path) -> usize {
    if path == Path::new(".") { 0 } else { path.components().count() }
}

struct Placer<'a> {
    place: Place<'a>,
    ids: Vec<Option<Ids>>,
}

impl Placer<'_> {
    fn node(&self, node: &Node) -> Result<Vec<Problem>> {
        self.place.progress.add_items(1);
        match &node.what {
            What::File(file) => self.file(node, *file),
            What::Hardlink(first) => Ok(self.hardlink(first, &node.path)),
            What::Symlink(target) => Ok(self.symlink(target, node)),
        }
    }

    fn file(&self, node: &Node, number: u32) -> Result<Vec<Problem>> {
        let Place { root, tree, .. } = self.place;
        let found = &tree.files[number as usize];
        let sized = root.create(&node.path).and_then(|file| {
            if file.metadata()?.size() != found.size {
                file.set_len(found.size)?;
            }
            if !found.sparse {
                allocate(&file, tree.zeros_of(number))?;
            }
            Ok(file)
        });
        let file = sized.map_err(|error| write_failure(error, &root.full(&node.path)))?;
        Ok(self.attributes(&file, &node.path, node.attributes))
    }

    fn dir(&self, dir: &Dir) -> Result<Vec<Problem>> {
        if dir.attributes.is_none() {
            return Ok(Vec::new());
        }
        let opened = self.place.root.directory(&dir.path);
        let file = opened.with_context(|| format!("open {}", dir.path.display()))?;
        Ok(self.attributes(&file, &dir.path, dir.attributes))
    }

    /// Owner first, as it takes set-id bits and capabilities away; the mode after access lists, which it is a
    /// part of.
    fn attributes(&self, file: &File, path: &Path, placement: Option<Placement>) -> Vec<Problem> {
        let Some(placement) = placement else { return Vec::new() };
        let owner = &self.place.tree.owners[placement.owner as usize];
        let ids = self.ids[placement.owner as usize];
        let mut problems = Problems::of(path);
        if let Some((uid, gid)) = ids {
            problems.note("set owner", fs::fchown(file, Some(uid), Some(gid)).map_err(Into::into));
        }
        set_xattrs(file, owner, ids.is_some(), &mut problems);
        let mode = if ids.is_some() { owner.mode } else { owner.mode & !SET_IDS };
        let mode = Mode::from_raw_mode(mode);
        problems.note("set mode", fs::fchmod(file, mode).map_err(Into::into));
        let times = times(placement.mtime);
        problems.note("set times", fs::futimens(file, &times).map_err(Into::into));
        problems.found
    }

    fn hardlink(&self, first: &Path, path: &Path) -> Vec<Problem> {
        let root = self.place.root;
        let mut problems = Problems::of(path);
        let same = |a: &fs::Stat, b: &fs::Stat| (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino);
        let link = || -> io::Result<()> {
            match (root.stat(first)?, root.stat(path)?) {
                (Some(one), Some(other)) if same(&one, &other) => return Ok(()),
                (_, Some(_)) => root.remove(path)?,
                (_, None) => {}
            }
            root.link(first, path)
        };
        problems.note("make hard link", link());
        problems.found
    }

    fn symlink(&self, target: &[u8], node: &Node) -> Vec<Problem> {
        let root = self.place.root;
        let mut problems = Problems::of(&node.path);
        let link = || -> io::Result<()> {
            if root.stat(&node.path)?.is_some() {
                if root.read_symlink(&node.path).is_ok_and(|found| found == target) {
                    return Ok(());
                }
                root.remove(&node.path)?;
            }
            root.symlink(target, &node.path)
        };
        if !problems.note("make symbolic link", link()) {
            return problems.found;
        }
        let Some(placement) = node.attributes else { return problems.found };
        let owner = &self.place.tree.owners[placement.owner as usize];
        let ids = self.ids[placement.owner as usize];
        let set = root.at(&node.path, |parent, name| {
            let flags = AtFlags::SYMLINK_NOFOLLOW;
            if let Some((uid, gid)) = ids {
                let set = fs::chownat(parent, name, Some(uid), Some(gid), flags);
                problems.note("set owner", set.map_err(Into::into));
            }
            for (key, value) in &owner.xattrs {
                if ids.is_some() || !is_foreign(key) {
                    let set = xattr::set(path_at(parent, name), key, value);
                    problems.note(&format!("set {key}"), set);
                }
            }
            let set = fs::utimensat(parent, name, &times(placement.mtime), flags);
            problems.note("set times", set.map_err(Into::into));
            Ok(())
        });
        problems.note("set attributes of link", set);
        problems.found
    }
}

/// Gives zeros their place on the disk, as they had it, where the file system can.
fn allocate(file: &File, mut zeros: impl Iterator<Item = (u64, u64)>) -> io::Result<()> {
    let allocated =
        zeros.try_for_each(|(at, length)| fs::fallocate(file, FallocateFlags::empty(), at, length));
    match allocated {
        Err(Errno::NOTSUP | Errno::NOSYS | Errno::INVAL) => Ok(()),
        result => Ok(result?),
    }
}

/// Problems of one path.
struct Problems<'p> {
    path: &'p Path,
    found: Vec<Problem>,
}

impl<'p> Problems<'p> {
    fn of(path: &'p Path) -> Self {
        Self { path, found: Vec::new() }
    }

    /// True if there is no problem.
    fn note(&mut self, what: &str, result: io::Result<()>) -> bool {
        let Err(error) = result else { return true };
        let path = String::from_utf8_lossy(self.path.as_os_str().as_bytes()).into_owned();
        self.found.push(Problem { path, what: format!("{what}: {error}") });
        false
    }
}

fn times((seconds, nanoseconds): (i64, u32)) -> Timestamps {
    let time = Timespec { tv_sec: seconds, tv_nsec: i64::from(nanoseconds.min(999_999_999)) };
    Timestamps { last_access: time, last_modification: time }
}

fn is_foreign(xattr: &str) -> bool {
    FOREIGN.iter().any(|prefix| xattr.starts_with(prefix))
}

/// Sets extended attributes and removes those that should not be there: a directory may have handed an access
/// list down.
fn set_xattrs(file: &File, owner: &Owner, is_root: bool, problems: &mut Problems<'_>) {
    let present: BTreeMap<String, Option<Vec<u8>>> = match file.list_xattr() {
        Ok(names) => names
            .filter_map(|name| name.into_string().ok())
            .map(|name| (name.clone(), file.get_xattr(&name).ok().flatten()))
            .collect(),
        // A file system without them: setting one will say so.
        Err(_) => BTreeMap::new(),
    };
    for name in present.keys() {
        if !owner.xattrs.contains_key(name) && !is_foreign(name) {
            problems.note(&format!("remove {name}"), file.remove_xattr(name));
        }
    }
    for (name, value) in &owner.xattrs {
        let is_there = present.get(name).is_some_and(|found| found.as_ref() == Some(value));
        // Only root may set what is not the user's; that owners are not set has been said.
        if !is_there && (is_root || !is_foreign(name)) {
            problems.note(&format!("set {name}"), file.set_xattr(name, value));
        }
    }
}
