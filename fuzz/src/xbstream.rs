//! The stream of the backup tools: the first byte of an input says whose stream it is and how it is cut.
//!
//! However a stream is cut into reads, the result is the same, and no path leads out of the target.
//! Checksums are made right first, or no invented stream would get past the first chunk.

use std::io::Read;
use std::path::Component;

use database::tool::BackupTool;
use database::xbstream::{CHUNK_LENGTH_MAX, Chunk, Kind, Reader, StreamError};

use crate::memory::{BASE, within};

/// How many checksums are made right in one input.
const MENDED_MAX: usize = 32;

/// One stream.
pub fn stream(data: &[u8]) {
    let Some((&choice, stream)) = data.split_first() else { return };
    let tool = if choice & 1 == 0 { BackupTool::Percona } else { BackupTool::MariaDb };
    let stream = mend(stream, tool);
    // A chunk, what was read of it, and the runs of a sparse one, as often as a growing vector has them.
    let limit = CHUNK_LENGTH_MAX as usize + 8 * stream.len() + BASE;
    let whole = within(limit, || read(stream.as_slice(), tool));
    let step = usize::from(choice >> 1) + 1;
    let pieces = read(Pieces { rest: &stream, step }, tool);
    assert_eq!(whole, pieces, "another result in pieces of {step}");
}

/// What was read, and how it ended.
fn read(source: impl Read, tool: BackupTool) -> (Vec<(Chunk, u32)>, String) {
    let mut reader = Reader::new(source, tool);
    let mut payload = Vec::new();
    let mut chunks = Vec::new();
    loop {
        match reader.next(&mut payload) {
            Ok(Some(chunk)) => {
                check(&chunk, &payload);
                chunks.push((chunk, crc32fast::hash(&payload)));
            }
            Ok(None) => return (chunks, format!("{} bytes", reader.bytes_read())),
            Err(error) => return (chunks, format!("{error:?}")),
        }
    }
}

fn check(chunk: &Chunk, payload: &[u8]) {
    let is_below = |path: &std::path::Path| {
        let mut parts = path.components();
        path.parent().is_some() && parts.all(|part| matches!(part, Component::Normal(_)))
    };
    assert!(is_below(&chunk.path), "{chunk:?}");
    match &chunk.kind {
        Kind::Rename { to } => assert!(is_below(to), "{chunk:?}"),
        Kind::Payload { .. } | Kind::Sparse { .. } => {
            let pieces = chunk.pieces(payload);
            let length: usize = pieces.iter().map(|(_, piece)| piece.len()).sum();
            assert_eq!(length, payload.len(), "{chunk:?}");
        }
        Kind::End { .. } | Kind::Remove => assert!(payload.is_empty(), "{chunk:?}"),
    }
}

/// Puts the right checksums where wrong ones are.
fn mend(stream: &[u8], tool: BackupTool) -> Vec<u8> {
    let mut stream = stream.to_vec();
    for _ in 0..MENDED_MAX {
        let Some((at, found)) = wrong_checksum(&stream, tool) else { break };
        let Some(place) = checksum_place(&stream, at) else { break };
        stream[place..place + 4].copy_from_slice(&found.to_le_bytes());
    }
    stream
}

fn wrong_checksum(stream: &[u8], tool: BackupTool) -> Option<(usize, u32)> {
    let mut reader = Reader::new(stream, tool);
    let mut payload = Vec::new();
    loop {
        match reader.next(&mut payload) {
            Ok(Some(_)) => {}
            Err(StreamError::Checksum { at, found, .. }) => return Some((at as usize, found)),
            Ok(None) | Err(_) => return None,
        }
    }
}

/// Behind magic, flags, kind and path; a sparse chunk has the number of its runs first.
fn checksum_place(stream: &[u8], at: usize) -> Option<usize> {
    let length = stream.get(at + 10..at + 14)?.try_into().ok()?;
    let lengths = at + 14 + u32::from_le_bytes(length) as usize;
    let runs = if stream[at + 9] == b'S' { 4 } else { 0 };
    Some(lengths + runs + 16).filter(|place| place + 4 <= stream.len())
}

/// Hands out a few bytes at a time.
struct Pieces<'a> {
    rest: &'a [u8],
    step: usize,
}

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let length = self.step.min(buffer.len()).min(self.rest.len());
        let (piece, rest) = self.rest.split_at(length);
        buffer[..length].copy_from_slice(piece);
        self.rest = rest;
        Ok(length)
    }
}
