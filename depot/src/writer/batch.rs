//! What goes from the feed through a worker to the collector. Batches go round: their buffers are
//! used again.

use crate::cache::{OldBlock, Previous, Stamp};
use crate::manifest::Entry;

/// One step of a manifest, in the order of the feed.
pub enum Item {
    /// A block of a file: a range of the batch's raw bytes.
    Block { file: u64, at: usize, length: usize, old: Option<OldBlock>, result: Outcome },
    /// A block of zeros that was never read.
    Zeros { file: u64 },
    /// The end of a file.
    Close { file: u64, entry: Box<Entry>, stamp: Stamp },
    /// The file begins anew under another number.
    Abandon { file: u64 },
    /// An entry without content.
    Add(Box<Entry>),
    /// An unchanged file.
    Keep { entry: Box<Entry>, stamp: Stamp, previous: Previous },
}

/// What a worker found out about a block.
#[derive(Clone, Copy)]
pub enum Outcome {
    /// Not looked at yet.
    Open,
    /// Zeros only.
    Zeros,
    /// The same as the old one.
    Same,
    /// New: its name, and its stored bytes as a range of the batch's packed bytes.
    New { name: [u8; 24], at: usize, stored: usize },
}

/// Items with their bytes.
#[derive(Default)]
pub struct Batch {
    /// Its place in the order, from 0.
    pub number: u64,
    /// The items.
    pub items: Vec<Item>,
    /// Blocks that its kept files carry along.
    pub held_blocks: usize,
    /// Bytes of blocks, before.
    pub raw: Vec<u8>,
    /// Bytes of blocks, after; longer than what is used.
    pub packed: Vec<u8>,
}

impl Batch {
    /// Adds a block.
    pub fn push_block(&mut self, file: u64, block: &[u8], old: Option<OldBlock>) {
        let at = self.raw.len();
        self.raw.extend_from_slice(block);
        let result = Outcome::Open;
        self.items.push(Item::Block { file, at, length: block.len(), old, result });
    }

    /// Makes it ready for the next round; buffers stay allocated.
    pub fn clear(&mut self) {
        self.items.clear();
        self.held_blocks = 0;
        self.raw.clear();
    }
}
