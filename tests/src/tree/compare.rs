//! Comparing two trees in every detail that a backup keeps.
//!
//! Sockets, fifos and devices are not looked at: a backup does not have them.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File, Metadata};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use anyhow::{Context, Result};
use rustix::fs::{SeekFrom, lgetxattr, llistxattr, seek};
use rustix::io::Errno;

const PAGE: u64 = 4096;
/// A hole is stored by whole blocks: each piece of data may take so much more on the disk, at either end.
const BLOCK: u64 = 64 << 10;

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Dir,
    /// A regular file.
    File,
    /// A symbolic link.
    Symlink,
}

/// Everything about an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// What it is.
    pub kind: Kind,
    /// Permission bits.
    pub mode: u32,
    /// Owner and group.
    pub owner: (u32, u32),
    /// Seconds and nanoseconds.
    pub mtime: (i64, i64),
    /// Extended attributes, ACLs among them.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Text of a symbolic link.
    pub target: Vec<u8>,
    /// The first of all names that the file has in this tree.
    pub first_name: Vec<u8>,
    /// Size of a file.
    pub size: u64,
    /// Hash of a file's pages that are not zero, with their places.
    pub content: u64,
    /// Bytes on the disk; not compared as they are.
    pub allocated: u64,
    /// Pieces of data between holes.
    pub pieces: u64,
    /// What tells in the next run that it has not changed: inode, change time.
    pub identity: (u64, i64, i64),
}

/// A tree by path; the root is the empty one. The order is that of the paths' bytes.
pub type Tree = BTreeMap<Vec<u8>, Node>;

/// Reads a whole tree.
pub fn describe(root: &Path) -> Result<Tree> {
    let mut tree = Tree::new();
    let mut names = HashMap::new();
    describe_entry(root, Vec::new(), &mut tree)?;
    for (path, node) in &mut tree {
        let first = names.entry(node.identity.0).or_insert_with(|| path.clone());
        node.first_name.clone_from(first);
    }
    Ok(tree)
}

fn describe_entry(path: &Path, relative: Vec<u8>, tree: &mut Tree) -> Result<()> {
    let metadata = fs::symlink_metadata(path).context("stat")?;
    let Some(node) = node(path, &metadata)? else { return Ok(()) };
    let is_dir = node.kind == Kind::Dir;
    tree.insert(relative.clone(), node);
    if !is_dir {
        return Ok(());
    }
    for entry in fs::read_dir(path).context("list directory")? {
        let name = entry.context("list directory")?.file_name();
        let mut below = relative.clone();
        if !below.is_empty() {
            below.push(b'/');
        }
        below.extend_from_slice(name.as_bytes());
        describe_entry(&path.join(&name), below, tree)?;
    }
    Ok(())
}

fn node(path: &Path, metadata: &Metadata) -> Result<Option<Node>> {
    let kind = match metadata.file_type() {
        kind if kind.is_dir() => Kind::Dir,
        kind if kind.is_file() => Kind::File,
        kind if kind.is_symlink() => Kind::Symlink,
        _ => return Ok(None),
    };
    let mut node = Node {
        kind,
        mode: metadata.mode() & 0o7777,
        owner: (metadata.uid(), metadata.gid()),
        mtime: (metadata.mtime(), metadata.mtime_nsec()),
        xattrs: xattrs(path)?,
        target: Vec::new(),
        first_name: Vec::new(),
        size: 0,
        content: 0,
        allocated: metadata.blocks() * 512,
        pieces: 0,
        identity: (metadata.ino(), metadata.ctime(), metadata.ctime_nsec()),
    };
    match kind {
        Kind::Dir => {}
        Kind::File => {
            node.size = metadata.len();
            (node.content, node.pieces) = content(path, node.size)?;
        }
        Kind::Symlink => {
            let target = fs::read_link(path).context("read link")?;
            node.target = target.as_os_str().as_bytes().to_vec();
        }
    }
    Ok(Some(node))
}

fn xattrs(path: &Path) -> Result<BTreeMap<Vec<u8>, Vec<u8>>> {
    let (mut names, mut value) = (vec![0; 65_536], vec![0; 65_536]);
    let length = match llistxattr(path, &mut names) {
        Err(Errno::NOTSUP) => 0,
        length => length.context("list attributes")?,
    };
    let mut found = BTreeMap::new();
    for name in names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let length = lgetxattr(path, name, &mut value).context("read attribute")?;
        found.insert(name.to_vec(), value[..length].to_vec());
    }
    Ok(found)
}

/// Reads data only: a hole is zeros by definition.
fn content(path: &Path, size: u64) -> Result<(u64, u64)> {
    let file = File::open(path).context("open file")?;
    let mut hasher = DefaultHasher::new();
    let (mut at, mut pieces, mut page) = (0, 0, [0; PAGE as usize]);
    while at < size {
        let begin = match seek(&file, SeekFrom::Data(at)) {
            Err(Errno::NXIO) => break,
            begin => begin.context("seek data")? / PAGE * PAGE,
        };
        let end = seek(&file, SeekFrom::Hole(begin)).context("seek hole")?;
        pieces += 1;
        at = begin;
        while at < end {
            let length = file.read_at(&mut page, at).context("read file")?;
            anyhow::ensure!(length > 0, "`{}` became shorter", path.display());
            if page[..length].iter().any(|byte| *byte != 0) {
                (at, &page[..length]).hash(&mut hasher);
            }
            at += length as u64;
        }
    }
    Ok((hasher.finish(), pieces))
}

/// Says in what `right` is not what `left` is; `left` is the source, `right` what was restored.
pub fn differences(left: &Tree, right: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    for (path, node) in left {
        let text = short(path);
        match right.get(path) {
            None => found.push(format!("`{text}` is missing")),
            Some(other) => differences_of(&text, node, other, &mut found),
        }
    }
    let surplus = right.keys().filter(|path| !left.contains_key(*path));
    found.extend(surplus.map(|path| format!("`{}` is too much", short(path))));
    found
}

/// The end of a path, for people.
fn short(path: &[u8]) -> String {
    String::from_utf8_lossy(&path[path.len().saturating_sub(60)..]).into_owned()
}

fn differences_of(path: &str, left: &Node, right: &Node, found: &mut Vec<String>) {
    let mut check = |what: &str, left: &dyn std::fmt::Debug, right: &dyn std::fmt::Debug| {
        let (left, right) = (format!("{left:?}"), format!("{right:?}"));
        if left != right {
            found.push(format!("`{path}`: {what} is {right}, not {left}"));
        }
    };
    check("kind", &left.kind, &right.kind);
    if left.kind != Kind::Symlink {
        check("mode", &format!("{:o}", left.mode), &format!("{:o}", right.mode));
    }
    check("owner", &left.owner, &right.owner);
    check("mtime", &left.mtime, &right.mtime);
    check("xattrs", &left.xattrs, &right.xattrs);
    check("target", &left.target, &right.target);
    check("first name", &left.first_name, &right.first_name);
    check("size", &left.size, &right.size);
    check("content", &left.content, &right.content);
    check("sparseness", &true, &is_as_sparse(left, right));
}

/// Holes are there again, and there are none where there were none.
fn is_as_sparse(left: &Node, right: &Node) -> bool {
    let has_holes = |node: &Node| node.allocated + PAGE <= node.size.div_ceil(PAGE) * PAGE;
    if left.kind != Kind::File || left.size <= PAGE {
        return true;
    }
    if !has_holes(left) {
        return !has_holes(right);
    }
    right.allocated <= left.allocated + 2 * BLOCK * (left.pieces + 1)
}
