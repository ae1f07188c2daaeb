//! The workers: name a block, compare it with the old one, compress it if it is new.

use anyhow::Result;
use crossbeam_channel::{Receiver, Sender};

use super::batch::{Batch, Item, Outcome};
use crate::block::{BlockKey, is_zero};
use crate::compression::Compression;

/// Works off batches until there are no more.
pub fn work(
    key: &BlockKey,
    level: i32,
    input: &Receiver<Batch>,
    output: &Sender<Batch>,
) -> Result<()> {
    let mut compression = Compression::new(level)?;
    for mut batch in input {
        process(key, &mut compression, &mut batch)?;
        if output.send(batch).is_err() {
            break; // The collector has failed and said so.
        }
    }
    Ok(())
}

fn process(key: &BlockKey, compression: &mut Compression, batch: &mut Batch) -> Result<()> {
    let Batch { items, raw, packed, .. } = batch;
    let mut used = 0;
    for item in items {
        let Item::Block { file, at, length, old, result } = item else { continue };
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
        let stored = compression.pack(*file, block, packed, used)?;
        *result = Outcome::New { name, at: used, stored };
        used += stored;
    }
    Ok(())
}
