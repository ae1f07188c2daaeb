//! Lines of a manifest to JSON and back.
//!
//! Lines are told apart by their first key, so that none of millions is parsed twice.

use std::collections::BTreeMap;
use std::io::{BufRead, Read, Write};

use anyhow::{Context, Result, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde::de::{self, SeqAccess, Visitor};
use serde::ser::SerializeTuple;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::block::BLOCK_BYTES_MAX;

use super::{
    Attributes, BlockRef, Entry, EntryKind, EntryPath, FILE_BYTES_MAX, FORMAT_VERSION, Head,
    LINE_BYTES_MAX, Line, StoredBlock, Totals,
};

impl Serialize for BlockRef {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Zeros(count) => serializer.serialize_u32(*count),
            Self::Stored(block) => {
                let mut text = [0; 32];
                URL_SAFE_NO_PAD
                    .encode_slice(block.name, &mut text)
                    .expect("24 bytes are 32 characters");
                let mut tuple = serializer.serialize_tuple(4)?;
                tuple.serialize_element(std::str::from_utf8(&text).expect("base64 is ASCII"))?;
                tuple.serialize_element(&block.pack)?;
                tuple.serialize_element(&block.offset)?;
                tuple.serialize_element(&block.stored)?;
                tuple.end()
            }
        }
    }
}

impl<'de> Deserialize<'de> for BlockRef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(BlockVisitor)
    }
}

struct BlockVisitor;

impl<'de> Visitor<'de> for BlockVisitor {
    type Value = BlockRef;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[name, pack, offset, stored length] or a number of zero blocks")
    }

    fn visit_u64<E: de::Error>(self, count: u64) -> Result<BlockRef, E> {
        match u32::try_from(count) {
            Ok(count) if count > 0 => Ok(BlockRef::Zeros(count)),
            _ => Err(E::custom("a number of zero blocks must be from 1 to 4294967295")),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<BlockRef, A::Error> {
        let missing = || de::Error::custom("a block has four parts");
        let text: std::borrow::Cow<'de, str> = seq.next_element()?.ok_or_else(missing)?;
        let mut name = [0; 24];
        let decoded = URL_SAFE_NO_PAD.decode_slice(text.as_bytes(), &mut name);
        if text.len() != 32 || decoded != Ok(24) {
            return Err(de::Error::custom("a block's name has 32 characters of base64url"));
        }
        let pack = seq.next_element()?.ok_or_else(missing)?;
        let offset = seq.next_element()?.ok_or_else(missing)?;
        let stored = seq.next_element()?.ok_or_else(missing)?;
        if stored == 0 || u64::from(stored) > BLOCK_BYTES_MAX {
            return Err(de::Error::custom("stored length of a block is not allowed"));
        }
        Ok(BlockRef::Stored(StoredBlock { name, pack, offset, stored }))
    }
}

/// An entry as JSON has it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawEntry {
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    #[serde(rename = "path-base64", skip_serializing_if = "Option::is_none")]
    path_base64: Option<String>,
    #[serde(rename = "type")]
    kind: EntryKind,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<String>,
    #[serde(rename = "target-base64", skip_serializing_if = "Option::is_none")]
    target_base64: Option<String>,
    #[serde(default, skip_serializing_if = "is_zero")]
    size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    mode: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mtime: Option<(i64, u32)>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    xattrs: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    sparse: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    blocks: Vec<BlockRef>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants a reference")]
fn is_zero(n: &u64) -> bool {
    *n == 0
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawBlocks {
    file: u64,
    blocks: Vec<BlockRef>,
}

#[derive(Serialize, Deserialize)]
struct RawEnd {
    end: Totals,
}

/// Text, or base64 of what is not UTF-8.
fn split_text(bytes: Vec<u8>) -> (Option<String>, Option<String>) {
    match String::from_utf8(bytes) {
        Ok(text) => (Some(text), None),
        Err(error) => (None, Some(STANDARD.encode(error.as_bytes()))),
    }
}

fn join_text(text: Option<String>, base64: Option<String>) -> Result<Option<Vec<u8>>> {
    match (text, base64) {
        (Some(text), None) => Ok(Some(text.into_bytes())),
        (None, Some(base64)) => Ok(Some(STANDARD.decode(base64).context("decode base64")?)),
        (None, None) => Ok(None),
        (Some(_), Some(_)) => bail!("both text and base64 given"),
    }
}

impl From<Entry> for RawEntry {
    fn from(entry: Entry) -> Self {
        let (path, path_base64) = split_text(entry.path.0);
        let (target, target_base64) = entry.target.map_or((None, None), split_text);
        let (mode, owner, names, mtime, xattrs) = match entry.attributes {
            None => (None, (None, None), (None, None), None, BTreeMap::new()),
            Some(a) => (
                Some(a.mode),
                (Some(a.uid), Some(a.gid)),
                (a.user, a.group),
                Some(a.mtime),
                a.xattrs.into_iter().map(|(k, v)| (k, STANDARD.encode(v))).collect(),
            ),
        };
        Self {
            file: entry.file,
            path,
            path_base64,
            kind: entry.kind,
            target,
            target_base64,
            size: entry.size,
            mode,
            uid: owner.0,
            gid: owner.1,
            user: names.0,
            group: names.1,
            mtime,
            xattrs,
            sparse: entry.sparse,
            blocks: entry.blocks,
        }
    }
}

impl TryFrom<RawEntry> for Entry {
    type Error = anyhow::Error;

    fn try_from(raw: RawEntry) -> Result<Self> {
        let path = join_text(raw.path, raw.path_base64)?.context("entry has no path")?;
        let xattrs = raw.xattrs.into_iter().map(|(key, value)| Ok((key, STANDARD.decode(value)?)));
        let attributes = match raw.mode {
            None => None,
            Some(mode) => Some(Attributes {
                mode: mode & 0o7777,
                uid: raw.uid.context("entry has no uid")?,
                gid: raw.gid.context("entry has no gid")?,
                user: raw.user,
                group: raw.group,
                mtime: raw.mtime.unwrap_or_default(),
                xattrs: xattrs.collect::<Result<_>>()?,
            }),
        };
        let target = join_text(raw.target, raw.target_base64)?;
        let needs_target = matches!(raw.kind, EntryKind::Symlink | EntryKind::Hardlink);
        ensure!(target.is_some() == needs_target, "entry and its target do not fit");
        if let (EntryKind::Hardlink, Some(target)) = (raw.kind, &target) {
            EntryPath::new(target.as_slice()).context("check target of hard link")?;
        }
        ensure!(raw.size <= FILE_BYTES_MAX, "file of {} bytes is too large", raw.size);
        Ok(Self {
            path: EntryPath::new(path)?,
            kind: raw.kind,
            target,
            size: raw.size,
            attributes,
            sparse: raw.sparse,
            file: raw.file,
            blocks: raw.blocks,
        })
    }
}

/// Writes one line.
pub fn write_line(out: &mut impl Write, line: Line) -> Result<()> {
    let written = match line {
        Line::Head(head) => serde_json::to_writer(&mut *out, &head),
        Line::Pack(pack) => serde_json::to_writer(&mut *out, &pack),
        Line::Blocks { file, blocks } => {
            serde_json::to_writer(&mut *out, &RawBlocks { file, blocks })
        }
        Line::Entry(entry) => serde_json::to_writer(&mut *out, &RawEntry::from(*entry)),
        Line::End(end) => serde_json::to_writer(&mut *out, &RawEnd { end }),
    };
    written.context("write line of manifest to the state directory")?;
    out.write_all(b"\n").context("write line of manifest to the state directory")
}

/// Reads the next line; `None` at the end of the input. `buffer` is scratch, to be handed in again.
pub fn read_line(input: &mut impl BufRead, buffer: &mut Vec<u8>) -> Result<Option<Line>> {
    buffer.clear();
    let limit = LINE_BYTES_MAX as u64 + 1;
    let length = input.take(limit).read_until(b'\n', buffer).context("read manifest")?;
    if length == 0 {
        return Ok(None);
    }
    ensure!(length <= LINE_BYTES_MAX, "a line of the manifest is longer than {LINE_BYTES_MAX}");
    parse_line(buffer).map(Some)
}

fn parse_line(line: &[u8]) -> Result<Line> {
    if line.starts_with(br#"{"pack":"#) {
        return Ok(Line::Pack(serde_json::from_slice(line).context("parse pack line")?));
    }
    if line.starts_with(br#"{"holdfast":"#) {
        return parse_head(line).map(|head| Line::Head(Box::new(head)));
    }
    if line.starts_with(br#"{"end":"#) {
        let RawEnd { end } = serde_json::from_slice(line).context("parse end of manifest")?;
        return Ok(Line::End(end));
    }
    if is_blocks_line(line) {
        let RawBlocks { file, blocks } = serde_json::from_slice(line).context("parse blocks")?;
        return Ok(Line::Blocks { file, blocks });
    }
    let raw: RawEntry = serde_json::from_slice(line).context("parse entry")?;
    Ok(Line::Entry(Box::new(raw.try_into()?)))
}

/// `{"file":7,"blocks":...`: the digits differ, so the prefix cannot be compared whole.
fn is_blocks_line(line: &[u8]) -> bool {
    let Some(rest) = line.strip_prefix(br#"{"file":"#) else { return false };
    let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
    rest[digits..].starts_with(br#","blocks":"#)
}

fn parse_head(line: &[u8]) -> Result<Head> {
    #[derive(Deserialize)]
    struct Version {
        holdfast: u32,
    }
    let Version { holdfast } = serde_json::from_slice(line).context("parse head of manifest")?;
    ensure!(
        holdfast == FORMAT_VERSION,
        "manifest has format version {holdfast}, this program reads {FORMAT_VERSION}"
    );
    let head: Head = serde_json::from_slice(line).context("parse head of manifest")?;
    head.cuts.check()?;
    Ok(head)
}
