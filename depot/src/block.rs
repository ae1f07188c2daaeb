//! Blocks: where files are cut, what a block is called, how it is compressed. See `docs/format.md`,
//! section Blocks.
//!
//! The size of a block depends only on its offset, so that equal pages of a database meet in the
//! next backup although the size of a file in a stream is not known when it begins.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

/// No block is larger.
pub const BLOCK_BYTES_MAX: u64 = 1 << 20;
const BLOCK_BYTES_MIN: u64 = 4 << 10;
const CUTS_MAX: usize = 32;

/// The key of block names. It keeps a depot's names from confirming what a file contains.
#[derive(Clone, PartialEq, Eq)]
pub struct BlockKey(pub [u8; 32]);

impl BlockKey {
    /// A new random key.
    pub fn generate() -> Self {
        Self(rand::random())
    }

    /// Reads a key from a private file: 44 characters of base64.
    pub fn load(path: &Path) -> Result<Self> {
        let text = chassis::config::read_secret(path).context("read block key")?;
        let bytes = STANDARD.decode(text.expose()).context("decode block key")?;
        let key = bytes.try_into().ok().context("a block key has 32 bytes")?;
        Ok(Self(key))
    }

    /// Writes the key to a file that must not exist, mode 0600.
    pub fn save_new(&self, path: &Path) -> Result<()> {
        let text = format!("{}\n", STANDARD.encode(self.0));
        chassis::durable::write_new(path, text.as_bytes(), 0o600).context("write block key")
    }

    /// The name of a block: the first 24 bytes of its keyed hash.
    pub fn name(&self, block: &[u8]) -> [u8; 24] {
        let hash = blake3::keyed_hash(&self.0, block);
        hash.as_bytes()[..24].try_into().expect("a hash has 32 bytes")
    }
}

impl std::fmt::Debug for BlockKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[block key]")
    }
}

/// From which offset on blocks have which size: `[(offset, size)]`, ascending.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Cuts(Vec<(u64, u64)>);

impl Cuts {
    /// The cuts that are written today; chosen by the curves in `docs/performance.md`.
    pub fn standard() -> Self {
        const KIB: u64 = 1 << 10;
        const GIB: u64 = 1 << 30;
        Self(vec![
            (0, 64 * KIB),
            (GIB, 128 * KIB),
            (4 * GIB, 256 * KIB),
            (16 * GIB, 512 * KIB),
            (64 * GIB, 1024 * KIB),
        ])
    }

    /// One size for all blocks: for measurements.
    pub fn uniform(size: u64) -> Self {
        Self(vec![(0, size)])
    }

    /// Checks what was read from a manifest: begins at 0, offsets and sizes ascend, sizes are powers
    /// of two within the limits, and each size begins at a multiple of itself and of the one before.
    pub fn check(&self) -> Result<()> {
        ensure!(!self.0.is_empty() && self.0.len() <= CUTS_MAX, "manifest has no valid cuts");
        ensure!(self.0[0].0 == 0, "the first cut does not begin at 0");
        for &(from, size) in &self.0 {
            let fits = (BLOCK_BYTES_MIN..=BLOCK_BYTES_MAX).contains(&size);
            ensure!(fits && size.is_power_of_two(), "block size {size} is not allowed");
            ensure!(from % size == 0, "cut at {from} is no multiple of its block size {size}");
        }
        for pair in self.0.windows(2) {
            ensure!(pair[0].0 < pair[1].0 && pair[0].1 < pair[1].1, "cuts do not ascend");
            ensure!(pair[1].0 % pair[0].1 == 0, "cut at {} splits a block", pair[1].0);
        }
        Ok(())
    }

    /// The size of the block that begins at `offset` (the last of a file may be shorter).
    pub fn size_at(&self, offset: u64) -> u64 {
        let after = self.0.partition_point(|&(from, _)| from <= offset);
        self.0[after.saturating_sub(1)].1
    }

    /// Where a run of `count` blocks ends that begins at `offset`, by arithmetic.
    pub fn end_of_run(&self, offset: u64, mut count: u64) -> u64 {
        let mut at = offset;
        while count > 0 {
            let size = self.size_at(at);
            let next_cut = self.0.iter().map(|&(from, _)| from).find(|from| *from > at);
            let room = next_cut.map_or(u64::MAX, |cut| (cut - at) / size);
            let part = count.min(room);
            at = at.saturating_add(part.saturating_mul(size));
            count -= part;
        }
        at
    }

    /// Offset and length of each block of a file of `file_size` bytes.
    pub fn blocks_of(&self, file_size: u64) -> impl Iterator<Item = (u64, u64)> + '_ {
        let mut offset = 0;
        std::iter::from_fn(move || {
            if offset >= file_size {
                return None;
            }
            let block = (offset, self.size_at(offset).min(file_size - offset));
            offset += block.1;
            Some(block)
        })
    }
}

/// True if a block holds zeros only.
pub fn is_zero(block: &[u8]) -> bool {
    // Most blocks are told by their first bytes; the rest is compared by words.
    let (head, rest) = block.split_at(block.len().min(64));
    head.iter().all(|b| *b == 0) && rest.chunks(4096).all(|c| c.iter().fold(0, |a, b| a | b) == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn standard_cuts_are_valid_and_cover_a_file() {
        let cuts = Cuts::standard();
        cuts.check().expect("standard cuts are valid");
        let size = (5 << 30) + 12_345;
        let mut end = 0;
        for (offset, length) in cuts.blocks_of(size) {
            assert_eq!(offset, end);
            assert_eq!(offset % length.next_power_of_two(), 0);
            end = offset + length;
        }
        assert_eq!(end, size);
        assert_eq!(cuts.blocks_of(0).count(), 0);
    }

    #[test]
    fn a_run_ends_where_its_blocks_end() {
        let cuts = Cuts(vec![(0, 4096), (16384, 8192)]);
        let blocks: Vec<_> = cuts.blocks_of(1 << 20).collect();
        for from in 0..8 {
            for count in 0..8 {
                let end = blocks[from + count].0;
                assert_eq!(cuts.end_of_run(blocks[from].0, count as u64), end, "{from} {count}");
            }
        }
        assert_eq!(cuts.end_of_run(0, u64::MAX), u64::MAX);
    }

    #[test]
    fn bad_cuts_are_refused() {
        for bad in [vec![], vec![(1, 65536)], vec![(0, 0)], vec![(0, 65537)], vec![(0, 2 << 20)]] {
            assert!(Cuts(bad.clone()).check().is_err(), "{bad:?}");
        }
        assert!(Cuts(vec![(0, 4096), (6144, 8192)]).check().is_err(), "splits a block");
        assert!(Cuts(vec![(0, 8192), (8192, 4096)]).check().is_err(), "sizes descend");
    }

    #[test]
    fn zeros_are_seen_at_any_length() {
        for length in [0, 1, 63, 64, 65, 4096, 70_000] {
            let mut block = vec![0; length];
            assert!(is_zero(&block));
            if let Some(last) = block.last_mut() {
                *last = 1;
                assert!(!is_zero(&block));
            }
        }
    }
}
