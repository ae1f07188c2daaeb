//! The content of a file as its entry says it: pieces from its beginning to its end.

use anyhow::{Result, ensure};

use super::{BlockRef, Entry, StoredBlock};
use crate::block::Cuts;

/// A part of a file: a stored block, or a run of zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Where it begins in the file.
    pub at: u64,
    /// Its length in the file.
    pub length: u64,
    /// The block; none for zeros.
    pub stored: Option<StoredBlock>,
}

/// See [`Entry::pieces`].
#[derive(Clone, Debug)]
pub struct Pieces<'a> {
    cuts: &'a Cuts,
    blocks: std::slice::Iter<'a, BlockRef>,
    size: u64,
    at: u64,
    has_failed: bool,
}

impl Entry {
    /// The pieces of a whole file, in their order. They cover it without a gap, or the last one is
    /// an error. However long a run of zeros says that it is, it takes one step.
    pub fn pieces<'a>(&'a self, cuts: &'a Cuts) -> Pieces<'a> {
        Pieces { cuts, blocks: self.blocks.iter(), size: self.size, at: 0, has_failed: false }
    }
}

impl Pieces<'_> {
    fn piece(&mut self, block: &BlockRef) -> Result<Piece> {
        let at = self.at;
        let last = match *block {
            BlockRef::Stored(_) => at,
            BlockRef::Zeros(count) => {
                ensure!(count > 0, "a run of no zeros at offset {at}");
                self.cuts.end_of_run(at, u64::from(count) - 1)
            }
        };
        ensure!(last < self.size, "its blocks go beyond its size of {} bytes", self.size);
        let end = last.saturating_add(self.cuts.size_at(last)).min(self.size);
        let stored = match *block {
            BlockRef::Stored(stored) => Some(stored),
            BlockRef::Zeros(_) => None,
        };
        self.at = end;
        Ok(Piece { at, length: end - at, stored })
    }

    fn end(&self) -> Result<()> {
        ensure!(self.at == self.size, "it lacks blocks from offset {} on", self.at);
        Ok(())
    }
}

impl Iterator for Pieces<'_> {
    type Item = Result<Piece>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.has_failed {
            return None;
        }
        let next = match self.blocks.next() {
            Some(block) => Some(self.piece(block)),
            None => self.end().err().map(Err),
        };
        self.has_failed = matches!(next, Some(Err(_)));
        next
    }
}

#[cfg(test)]
mod tests {
    use super::super::{EntryKind, EntryPath};
    use super::*;

    const BLOCK: StoredBlock = StoredBlock { name: [1; 24], pack: 0, offset: 0, stored: 9 };

    fn pieces(size: u64, blocks: &[BlockRef]) -> Result<Vec<(u64, u64, bool)>> {
        let entry = Entry {
            path: EntryPath::new("a").expect("a plain path"),
            kind: EntryKind::File,
            target: None,
            size,
            attributes: None,
            sparse: false,
            file: None,
            blocks: blocks.to_vec(),
        };
        let cuts = Cuts::standard();
        let found = entry.pieces(&cuts);
        found.map(|p| p.map(|p| (p.at, p.length, p.stored.is_some()))).collect()
    }

    #[test]
    fn pieces_cover_a_file() {
        let stored = BlockRef::Stored(BLOCK);
        assert_eq!(pieces(0, &[]).expect("empty"), []);
        assert_eq!(pieces(10, &[stored]).expect("short"), [(0, 10, true)]);
        let found = pieces(200_000, &[BlockRef::Zeros(2), stored, BlockRef::Zeros(1)]);
        let expected = [(0, 131_072, false), (131_072, 65_536, true), (196_608, 3_392, false)];
        assert_eq!(found.expect("all of it"), expected);
    }

    #[test]
    fn blocks_that_do_not_make_up_the_size_are_refused() {
        let stored = BlockRef::Stored(BLOCK);
        let refused: [(u64, &[BlockRef]); 7] = [
            (0, &[stored]),
            (10, &[]),
            (65_537, &[stored]),
            (65_536, &[stored, stored]),
            (65_536, &[BlockRef::Zeros(2)]),
            (1 << 40, &[BlockRef::Zeros(u32::MAX)]),
            (10, &[BlockRef::Zeros(0), stored]),
        ];
        for (size, blocks) in refused {
            assert!(pieces(size, blocks).is_err(), "{size} {blocks:?}");
        }
    }

    #[test]
    fn a_run_of_any_length_is_one_step() {
        let size = (u64::from(u32::MAX) + 1) << 20;
        let blocks = vec![BlockRef::Zeros(u32::MAX); 1000];
        assert!(pieces(size, &blocks).is_err(), "far too many");
    }
}
