//! A tree as a snapshot has it, put together from manifest and packs alone: no file is written, nothing is assumed
//! of the program that restores.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use anyhow::{Context, Result, bail, ensure};
use depot::block::{BlockKey, Cuts};
use depot::crypt::Identities;
use depot::depot::Depot;
use depot::manifest::{BlockRef, Entry, EntryKind, Line, PackLine};
use depot::names::SnapshotId;
use depot::reader::{BlockDecoder, PackReader, SnapshotReader};

use super::compare::{Kind, Node, Tree};

const PAGE: usize = 4096;

/// Reads a whole snapshot. Packs are held in memory.
pub fn stored(depot: &Depot, id: &SnapshotId, identities: &Identities) -> Result<Tree> {
    let mut reader = SnapshotReader::open(depot, id, identities)?;
    let mut packs = Packs {
        depot,
        identities,
        lines: reader.packs().to_vec(),
        payloads: HashMap::new(),
        decoder: BlockDecoder::new(BlockKey(reader.head().key))?,
        cuts: reader.head().cuts.clone(),
    };
    let mut earlier: HashMap<u64, Vec<BlockRef>> = HashMap::new();
    let mut tree = Tree::new();
    let mut links = Vec::new();
    while let Some(line) = reader.next_line()? {
        match line {
            Line::Blocks { file, blocks } => earlier.entry(file).or_default().extend(blocks),
            Line::Entry(entry) => {
                let mut blocks =
                    entry.file.and_then(|file| earlier.remove(&file)).unwrap_or_default();
                blocks.extend_from_slice(&entry.blocks);
                let path = path_of(&entry);
                if entry.kind == EntryKind::Hardlink {
                    links.push((path, entry.target.context("a link has a target")?));
                    continue;
                }
                let node = packs.node(&entry, &blocks)?;
                ensure!(tree.insert(path, node).is_none(), "{:?} is there twice", entry.path);
            }
            other => bail!("{other:?} among the entries"),
        }
    }
    add_links(&mut tree, &links)?;
    Ok(tree)
}

fn path_of(entry: &Entry) -> Vec<u8> {
    let path = entry.path.as_bytes();
    if path == b"." { Vec::new() } else { path.to_vec() }
}

/// Gives each file its further names, and all of them the least of the names.
fn add_links(tree: &mut Tree, links: &[(Vec<u8>, Vec<u8>)]) -> Result<()> {
    let mut first: HashMap<&[u8], &[u8]> = HashMap::new();
    for (path, target) in links {
        let node = tree.get(target).context("the target of a link is not there")?.clone();
        ensure!(node.kind == Kind::File, "a link to something that is no file");
        tree.insert(path.clone(), node);
        let least = first.entry(target).or_insert(target);
        *least = (*least).min(path);
    }
    for (path, target) in links {
        for name in [path, target] {
            let node = tree.get_mut(name).context("a link is lost")?;
            node.first_name = first[target.as_slice()].to_vec();
        }
    }
    Ok(())
}

struct Packs<'a> {
    depot: &'a Depot,
    identities: &'a Identities,
    lines: Vec<PackLine>,
    payloads: HashMap<u32, Vec<u8>>,
    decoder: BlockDecoder,
    cuts: Cuts,
}

impl Packs<'_> {
    fn node(&mut self, entry: &Entry, blocks: &[BlockRef]) -> Result<Node> {
        let attributes = entry.attributes.clone().context("an entry has attributes")?;
        let is_file = entry.kind == EntryKind::File;
        let (content, data) =
            if is_file { self.content(entry.size, blocks)? } else { Default::default() };
        let mtime = (attributes.mtime.0, i64::from(attributes.mtime.1));
        let xattrs = attributes.xattrs.into_iter();
        Ok(Node {
            kind: match entry.kind {
                EntryKind::Dir => Kind::Dir,
                EntryKind::Symlink => Kind::Symlink,
                EntryKind::File | EntryKind::Hardlink => Kind::File,
            },
            mode: attributes.mode,
            owner: (attributes.uid, attributes.gid),
            mtime,
            xattrs: xattrs.map(|(name, value)| (name.into_bytes(), value)).collect(),
            target: entry.target.clone().unwrap_or_default(),
            first_name: path_of(entry),
            size: entry.size,
            content,
            allocated: if entry.sparse { data } else { entry.size },
            pieces: 0,
            identity: (0, 0, 0),
        })
    }

    /// The hash of the content as `describe` has it, and the size of its blocks that are not holes.
    fn content(&mut self, size: u64, blocks: &[BlockRef]) -> Result<(u64, u64)> {
        let mut hasher = DefaultHasher::new();
        let cuts = self.cuts.clone();
        let mut places = cuts.blocks_of(size);
        let mut data = 0;
        for block in blocks {
            match block {
                BlockRef::Zeros(count) => {
                    for _ in 0..*count {
                        places.next().context("more blocks than the file has")?;
                    }
                }
                BlockRef::Stored(block) => {
                    let (at, length) = places.next().context("more blocks than the file has")?;
                    self.fetch(block.pack)?;
                    let range = block.offset as usize..(block.offset + block.stored) as usize;
                    let stored = &self.payloads[&block.pack][range];
                    let bytes = self.decoder.decode(stored, &block.name, length as usize)?;
                    for (page, at) in bytes.chunks(PAGE).zip((at..).step_by(PAGE)) {
                        if page.iter().any(|byte| *byte != 0) {
                            (at, page).hash(&mut hasher);
                        }
                    }
                    data += length;
                }
            }
        }
        ensure!(places.next().is_none(), "fewer blocks than the file has");
        Ok((hasher.finish(), data))
    }

    fn fetch(&mut self, pack: u32) -> Result<()> {
        if !self.payloads.contains_key(&pack) {
            let line = self.lines.get(pack as usize).context("no such pack")?;
            let mut reader = PackReader::new(self.depot, self.identities);
            self.payloads.insert(pack, reader.open(line)?.to_vec());
        }
        Ok(())
    }
}
