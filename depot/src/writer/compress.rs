//! The workers: name a block, compare it with the old one, compress it if it is new.

use anyhow::{Context, Result};
use crossbeam_channel::{Receiver, Sender};

use super::batch::{Batch, Item, Outcome};
use crate::block::{BlockKey, is_zero};

/// Works off batches until there are no more.
pub fn work(
    key: &BlockKey,
    level: i32,
    input: &Receiver<Batch>,
    output: &Sender<Batch>,
) -> Result<()> {
    let mut zstd = zstd::bulk::Compressor::new(level).context("prepare zstd")?;
    for mut batch in input {
        process(key, &mut zstd, &mut batch)?;
        if output.send(batch).is_err() {
            break; // The collector has failed and said so.
        }
    }
    Ok(())
}

fn process(key: &BlockKey, zstd: &mut zstd::bulk::Compressor<'_>, batch: &mut Batch) -> Result<()> {
    let Batch { items, raw, packed, .. } = batch;
    let mut used = 0;
    for item in items {
        let Item::Block { at, length, old, result, .. } = item else { continue };
        let block = &raw[*at..*at + *length];
        *result = Outcome::Zeros;
        if is_zero(block) {
            continue;
        }
        let name = key.name(block);
        *result = Outcome::Same;
        if old.is_some_and(|old| old.name == name) {
            continue;
        }
        let stored = pack(zstd, block, packed, used)?;
        *result = Outcome::New { name, at: used, stored };
        used += stored;
    }
    Ok(())
}

/// Compresses a block to `packed[used..]`, or copies it if it does not shrink; says how long it
/// became.
fn pack(
    zstd: &mut zstd::bulk::Compressor<'_>,
    block: &[u8],
    packed: &mut Vec<u8>,
    used: usize,
) -> Result<usize> {
    let bound = zstd::zstd_safe::compress_bound(block.len());
    if packed.len() < used + bound {
        packed.resize(used + bound, 0);
    }
    let stored = zstd
        .compress_to_buffer(block, &mut packed[used..used + bound])
        .context("compress block")?;
    if stored < block.len() {
        return Ok(stored);
    }
    packed[used..used + block.len()].copy_from_slice(block);
    Ok(block.len())
}
