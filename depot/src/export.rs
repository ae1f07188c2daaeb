//! A snapshot as a tar stream, for people who have tar and nothing else.
//!
//! Times to the second are in the header, with fractions and extended attributes in PAX records.
//! Holes are written as zeros. A few decrypted packs are held, since neighbouring files share them.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use anyhow::{Context, Result};
use chassis::progress::Progress;

use crate::block::{BlockKey, Cuts};
use crate::crypt::Identities;
use crate::depot::Depot;
use crate::manifest::{Attributes, Entry, EntryKind, PackLine, Pieces, StoredBlock};
use crate::names::SnapshotId;
use crate::reader::{BlockDecoder, PackReader, SnapshotReader};

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
        reader: PackReader::new(depot, identities),
        packs: reader.packs().to_vec(),
        decoder: BlockDecoder::new(BlockKey(head.key))?,
        held: VecDeque::new(),
    };
    let started = head.started.timestamp();
    let mut archive = ::tar::Builder::new(output);
    let mut entries = 0;
    while let Some(entry) = reader.next_entry()? {
        add_entry(&mut archive, &entry, &head.cuts, &mut contents, started)
            .with_context(|| format!("export `{}`", entry.path.lossy()))?;
        progress.add_bytes(entry.size);
        entries += 1;
    }
    Ok((archive.into_inner().context("end archive")?, entries))
}

fn add_entry<W: Write>(
    archive: &mut ::tar::Builder<W>,
    entry: &Entry,
    cuts: &Cuts,
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
            let pieces = entry.pieces(cuts);
            let content = FileContent { contents, pieces, zeros: 0, block: Vec::new(), at: 0 };
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
    reader: PackReader<'d>,
    packs: Vec<PackLine>,
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
        let payload = self.reader.open(line)?.to_vec();
        if self.held.len() == PACKS_HELD {
            self.held.pop_front();
        }
        self.held.push_back((number, payload));
        Ok(&self.held.back().expect("one was just added").1)
    }

    fn block(&mut self, block: &StoredBlock, length: u64, into: &mut Vec<u8>) -> Result<()> {
        let from = block.offset as usize;
        let payload = self.payload(block.pack)?;
        let stored = payload.get(from..from + block.stored as usize);
        let stored = stored.context("block lies outside the pack")?.to_vec();
        into.clear();
        into.extend_from_slice(self.decoder.decode(&stored, &block.name, length as usize)?);
        Ok(())
    }
}

/// The content of one file, piece by piece.
struct FileContent<'c, 'd> {
    contents: &'c mut Contents<'d>,
    pieces: Pieces<'c>,
    /// Zeros that come before anything else.
    zeros: u64,
    block: Vec<u8>,
    /// What was read of the block.
    at: usize,
}

impl FileContent<'_, '_> {
    /// Loads the next piece; false at the end of the file.
    fn advance(&mut self) -> Result<bool> {
        let Some(piece) = self.pieces.next().transpose()? else { return Ok(false) };
        match &piece.stored {
            None => self.zeros = piece.length,
            Some(block) => {
                self.contents.block(block, piece.length, &mut self.block)?;
                self.at = 0;
            }
        }
        Ok(true)
    }
}

impl Read for FileContent<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.zeros == 0 && self.at == self.block.len() {
            let has_more = self.advance();
            if !has_more.map_err(|error| io::Error::other(format!("{error:#}")))? {
                return Ok(0);
            }
        }
        if self.zeros > 0 {
            let count = usize::try_from(self.zeros).map_or(buffer.len(), |n| n.min(buffer.len()));
            buffer[..count].fill(0);
            self.zeros -= count as u64;
            return Ok(count);
        }
        let count = buffer.len().min(self.block.len() - self.at);
        buffer[..count].copy_from_slice(&self.block[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}
