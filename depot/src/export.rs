//! A snapshot as a tar stream, for people who have tar and nothing else.
//!
//! Times to the second are in the header, with fractions and extended attributes in PAX records.
//! Holes are written as zeros. A few decrypted packs are held, since neighbouring files share them.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use anyhow::{Context, Result, bail};
use chassis::progress::Progress;

use crate::block::{BlockKey, Cuts};
use crate::crypt::Identities;
use crate::depot::Depot;
use crate::manifest::{Attributes, BlockRef, Entry, EntryKind, Line, PackLine};
use crate::names::SnapshotId;
use crate::reader::{BlockDecoder, SnapshotReader, open_pack};

/// Decrypted packs in memory: 16 MiB each.
const PACKS_HELD: usize = 4;

/// Writes the snapshot as a tar archive. Gives back the output, and how many entries went into it.
pub fn tar<W: Write>(
    depot: &Depot,
    id: &SnapshotId,
    identities: &Identities,
    output: W,
    progress: &Progress,
) -> Result<(W, u64)> {
    let mut reader = SnapshotReader::open(depot, id, identities)?;
    let head = reader.head().clone();
    let mut contents = Contents {
        depot,
        identities,
        packs: reader.packs().to_vec(),
        cuts: head.cuts,
        decoder: BlockDecoder::new(BlockKey(head.key))?,
        held: VecDeque::new(),
    };
    let started = head.started.timestamp();
    let mut archive = ::tar::Builder::new(output);
    let mut earlier: BTreeMap<u64, Vec<BlockRef>> = BTreeMap::new();
    let mut entries = 0;
    while let Some(line) = reader.next_line()? {
        match line {
            Line::Blocks { file, mut blocks } => {
                earlier.entry(file).or_default().append(&mut blocks);
            }
            Line::Entry(entry) => {
                let mut refs = entry.file.and_then(|n| earlier.remove(&n)).unwrap_or_default();
                refs.extend(&entry.blocks);
                add_entry(&mut archive, &entry, &refs, &mut contents, started)
                    .with_context(|| format!("export `{}`", entry.path.lossy()))?;
                progress.add_bytes(entry.size);
                entries += 1;
            }
            Line::Head(_) | Line::Pack(_) | Line::End(_) => {
                bail!("manifest has a line out of order")
            }
        }
    }
    Ok((archive.into_inner().context("end archive")?, entries))
}

fn add_entry<W: Write>(
    archive: &mut ::tar::Builder<W>,
    entry: &Entry,
    refs: &[BlockRef],
    contents: &mut Contents<'_>,
    started: i64,
) -> Result<()> {
    let mut header = ::tar::Header::new_gnu();
    let plain = Attributes {
        mode: if entry.kind == EntryKind::Dir { 0o700 } else { 0o600 },
        mtime: (started, 0),
        ..Attributes::default()
    };
    let attributes = entry.attributes.as_ref().unwrap_or(&plain);
    fill_header(&mut header, attributes)?;
    add_pax(archive, attributes)?;
    let path = entry.path.as_path();
    let target =
        || Path::new(std::ffi::OsStr::from_bytes(entry.target.as_deref().unwrap_or_default()));
    match entry.kind {
        EntryKind::Dir => {
            header.set_entry_type(::tar::EntryType::Directory);
            header.set_size(0);
            archive.append_data(&mut header, path, io::empty())?;
        }
        EntryKind::Symlink | EntryKind::Hardlink => {
            let is_hard = entry.kind == EntryKind::Hardlink;
            header.set_entry_type(if is_hard {
                ::tar::EntryType::Link
            } else {
                ::tar::EntryType::Symlink
            });
            header.set_size(0);
            archive.append_link(&mut header, path, target())?;
        }
        EntryKind::File => {
            header.set_size(entry.size);
            let content = FileContent {
                contents,
                refs: refs.iter(),
                zeros_left: 0,
                offset: 0,
                size: entry.size,
                block: Vec::new(),
                at: 0,
            };
            archive.append_data(&mut header, path, content)?;
        }
    }
    Ok(())
}

fn fill_header(header: &mut ::tar::Header, attributes: &Attributes) -> Result<()> {
    header.set_mode(attributes.mode);
    header.set_uid(u64::from(attributes.uid));
    header.set_gid(u64::from(attributes.gid));
    header.set_mtime(u64::try_from(attributes.mtime.0).unwrap_or(0));
    // Names that are too long for the header are left to the numbers.
    if let Some(user) = attributes.user.as_deref().filter(|name| name.len() <= 32) {
        header.set_username(user).context("set owner")?;
    }
    if let Some(group) = attributes.group.as_deref().filter(|name| name.len() <= 32) {
        header.set_groupname(group).context("set group")?;
    }
    Ok(())
}

fn add_pax<W: Write>(archive: &mut ::tar::Builder<W>, attributes: &Attributes) -> Result<()> {
    let (seconds, nanoseconds) = attributes.mtime;
    let time = format!("{seconds}.{nanoseconds:09}");
    let mut records = Vec::new();
    if nanoseconds != 0 || seconds < 0 {
        records.push(("mtime".to_owned(), time.into_bytes()));
    }
    for (name, value) in &attributes.xattrs {
        records.push((format!("SCHILY.xattr.{name}"), value.clone()));
    }
    if records.is_empty() {
        return Ok(());
    }
    let records = records.iter().map(|(key, value)| (key.as_str(), value.as_slice()));
    archive.append_pax_extensions(records).context("write PAX records")
}

/// Where content comes from.
struct Contents<'d> {
    depot: &'d Depot,
    identities: &'d Identities,
    packs: Vec<PackLine>,
    cuts: Cuts,
    decoder: BlockDecoder,
    held: VecDeque<(u32, Vec<u8>)>,
}

impl Contents<'_> {
    fn payload(&mut self, number: u32) -> Result<&[u8]> {
        let place = self.held.iter().position(|(held, _)| *held == number);
        if let Some(found) = place.and_then(|place| self.held.remove(place)) {
            self.held.push_back(found);
            return Ok(&self.held.back().expect("one was just added").1);
        }
        let line = self.packs.get(number as usize).context("manifest names no such pack")?;
        let payload = open_pack(self.depot, line, self.identities)?;
        if self.held.len() == PACKS_HELD {
            self.held.pop_front();
        }
        self.held.push_back((number, payload));
        Ok(&self.held.back().expect("one was just added").1)
    }

    fn block(&mut self, block: &BlockRef, length: usize, into: &mut Vec<u8>) -> Result<()> {
        into.clear();
        let BlockRef::Stored(block) = block else {
            into.resize(length, 0);
            return Ok(());
        };
        let from = block.offset as usize;
        let payload = self.payload(block.pack)?;
        let stored = payload.get(from..from + block.stored as usize);
        let stored = stored.context("block lies outside the pack")?.to_vec();
        into.extend_from_slice(self.decoder.decode(&stored, &block.name, length)?);
        Ok(())
    }
}

/// The content of one file, block by block.
struct FileContent<'c, 'd> {
    contents: &'c mut Contents<'d>,
    refs: std::slice::Iter<'c, BlockRef>,
    zeros_left: u32,
    /// Where the next block begins.
    offset: u64,
    size: u64,
    block: Vec<u8>,
    at: usize,
}

impl FileContent<'_, '_> {
    /// Loads the next block; false at the end of the file.
    fn advance(&mut self) -> Result<bool> {
        if self.offset >= self.size {
            return Ok(false);
        }
        let length = self.contents.cuts.size_at(self.offset).min(self.size - self.offset);
        let block = if self.zeros_left > 0 {
            self.zeros_left -= 1;
            BlockRef::Zeros(1)
        } else {
            let next = *self.refs.next().context("the manifest lacks blocks of this file")?;
            if let BlockRef::Zeros(count) = next {
                self.zeros_left = count - 1;
            }
            next
        };
        self.contents.block(&block, length as usize, &mut self.block)?;
        self.offset += length;
        self.at = 0;
        Ok(true)
    }
}

impl Read for FileContent<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at == self.block.len() {
            let has_more = self.advance();
            if !has_more.map_err(|error| io::Error::other(format!("{error:#}")))? {
                return Ok(0);
            }
        }
        let count = buffer.len().min(self.block.len() - self.at);
        buffer[..count].copy_from_slice(&self.block[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}
