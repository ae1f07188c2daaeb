//! How blocks are compressed: each alone, as one zstd frame, at one of two efforts.
//!
//! The thorough effort is plain zstd at the level asked for. The hasty one leaves out most of the
//! search for repetitions and keeps the entropy coding: on rows of numbers and on what is compressed
//! already it is half as quick again and stores about 3 % more; on text it would store a third more.
//! So a file's blocks are tried now and then at both efforts, and the hasty one is taken as long as it
//! costs next to nothing. What is stored is a plain frame either way: a reader need not know.
//!
//! Figures and how they were had: `docs/performance.md`.

use anyhow::{Context, Result};
use zstd::bulk::Compressor;
use zstd::zstd_safe::{CParameter, ParamSwitch, compress_bound};

/// The level that the hasty effort is measured against.
const LEVEL_STANDARD: i32 = 1;
/// Bytes that the hasty search steps over where it finds nothing.
const HASTY_STEP: u32 = 8;
/// The shortest repetition that the hasty search looks for, in bytes.
const HASTY_MATCH: u32 = 7;
/// How much more a block may take at the hasty effort, in hundredths.
const HASTY_LOSS_PERCENT: usize = 4;
/// After how many blocks of a file it is tried again.
const TRIAL_EVERY: u32 = 64;
/// Shorter blocks are ends of files and small files: nothing is learnt from them.
const TRIAL_BYTES_MIN: usize = 64 << 10;
/// Of how many files it is remembered: more than a backup tool usually has threads.
const LEARNT_FILES: usize = 8;

/// Compresses blocks, and learns as it goes which effort a file is worth. One for each thread.
pub struct Compression {
    thorough: Compressor<'static>,
    hasty: Option<Compressor<'static>>,
    trial: Vec<u8>,
    learnt: Lessons,
}

/// What was learnt of the files that came last: several come at once, a piece of each in turn.
#[derive(Default)]
struct Lessons {
    files: [Learnt; LEARNT_FILES],
    next: usize,
}

impl Lessons {
    fn of(&mut self, file: u64) -> &mut Learnt {
        let slot = self.files.iter().position(|known| known.file == Some(file));
        let slot = slot.unwrap_or_else(|| {
            let slot = self.next;
            self.next = (slot + 1) % LEARNT_FILES;
            // The second block decides: many files have but one.
            self.files[slot] = Learnt { file: Some(file), is_hasty: false, blocks_to_trial: 1 };
            slot
        });
        &mut self.files[slot]
    }
}

/// Which effort a file is worth.
#[derive(Clone, Copy, Default)]
struct Learnt {
    file: Option<u64>,
    is_hasty: bool,
    blocks_to_trial: u32,
}

impl Compression {
    /// At a level of zstd. Only the standard level, 1, is ever hurried.
    pub fn new(level: i32) -> Result<Self> {
        let hasty = (level == LEVEL_STANDARD).then(hasty_compressor).transpose()?;
        Ok(Self {
            thorough: Compressor::new(level).context("prepare zstd")?,
            hasty,
            trial: Vec::new(),
            learnt: Lessons::default(),
        })
    }

    /// Compresses a block of a file to `packed[used..]`, growing it where needed, or copies the block
    /// if it does not shrink; says how long it became.
    pub fn pack(
        &mut self,
        file: u64,
        block: &[u8],
        packed: &mut Vec<u8>,
        used: usize,
    ) -> Result<usize> {
        let room = used + compress_bound(block.len());
        if packed.len() < room {
            packed.resize(room, 0);
        }
        let stored = self.compress(file, block, &mut packed[used..room])?;
        if stored < block.len() {
            return Ok(stored);
        }
        packed[used..used + block.len()].copy_from_slice(block);
        Ok(block.len())
    }

    fn compress(&mut self, file: u64, block: &[u8], into: &mut [u8]) -> Result<usize> {
        let Some(hasty) = self.hasty.as_mut().filter(|_| block.len() >= TRIAL_BYTES_MIN) else {
            return self.thorough.compress_to_buffer(block, into).context("compress block");
        };
        let known = self.learnt.of(file);
        if known.blocks_to_trial > 0 {
            known.blocks_to_trial -= 1;
            let compressor = if known.is_hasty { hasty } else { &mut self.thorough };
            return compressor.compress_to_buffer(block, into).context("compress block");
        }
        self.trial.resize(into.len(), 0);
        let quick =
            hasty.compress_to_buffer(block, &mut self.trial[..]).context("compress block")?;
        let least = self.thorough.compress_to_buffer(block, into).context("compress block")?;
        known.is_hasty = quick.min(block.len()) * 100 <= least * (100 + HASTY_LOSS_PERCENT);
        known.blocks_to_trial = TRIAL_EVERY;
        Ok(least)
    }
}

fn hasty_compressor() -> Result<Compressor<'static>> {
    let mut hasty = Compressor::new(LEVEL_STANDARD).context("prepare zstd")?;
    let parameters = [
        CParameter::TargetLength(HASTY_STEP),
        CParameter::MinMatch(HASTY_MATCH),
        // zstd leaves it out by itself where it steps.
        CParameter::LiteralCompressionMode(ParamSwitch::Enable),
    ];
    for parameter in parameters {
        hasty.set_parameter(parameter).context("prepare zstd")?;
    }
    Ok(hasty)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: usize = 64 << 10;

    /// Rows as sysbench makes them: digits that do not repeat.
    fn numbers(length: usize) -> Vec<u8> {
        let mut state = 1u64;
        let mut digit = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            b'0' + (state >> 33) as u8 % 10
        };
        (0..length).map(|at| if at % 12 == 11 { b'-' } else { digit() }).collect()
    }

    /// Text that repeats itself here and there: words of a few hundred.
    fn prose(length: usize) -> Vec<u8> {
        let mut state = 7u64;
        let mut text = Vec::new();
        while text.len() < length {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let word = (state >> 33) % 300;
            text.extend_from_slice(format!("{:x} ", word * 7_919_993).as_bytes());
        }
        text.truncate(length);
        text
    }

    fn packed(level: i32, content: &[u8]) -> (usize, bool) {
        let mut compression = Compression::new(level).unwrap();
        let mut whole = zstd::bulk::Decompressor::new().unwrap();
        let (mut buffer, mut used) = (Vec::new(), 0);
        for block in content.chunks(BLOCK) {
            let stored = compression.pack(1, block, &mut buffer, used).unwrap();
            let frame = &buffer[used..used + stored];
            if stored < block.len() {
                assert_eq!(whole.decompress(frame, BLOCK).unwrap(), block);
            } else {
                assert_eq!(frame, block);
            }
            used += stored;
        }
        (used, compression.learnt.files[0].is_hasty)
    }

    fn thorough(content: &[u8]) -> usize {
        let mut plain = Compressor::new(LEVEL_STANDARD).unwrap();
        content.chunks(BLOCK).map(|block| plain.compress(block).unwrap().len()).sum()
    }

    #[test]
    fn numbers_are_hurried_and_cost_little_more() {
        let content = numbers(BLOCK * 40);
        let (stored, is_hasty) = packed(1, &content);
        assert!(is_hasty);
        assert!(stored * 100 <= thorough(&content) * (100 + HASTY_LOSS_PERCENT));
        assert!(stored * 2 < content.len(), "entropy coding is on: {stored}");
    }

    #[test]
    fn text_is_never_hurried() {
        let content = prose(BLOCK * 40);
        assert_eq!(packed(1, &content), (thorough(&content), false));
    }

    #[test]
    fn what_does_not_shrink_is_stored_raw_and_hurried() {
        let content: Vec<u8> = std::iter::repeat_with(rand::random).take(BLOCK * 4).collect();
        assert_eq!(packed(1, &content), (content.len(), true));
    }

    #[test]
    fn files_that_come_in_turn_do_not_disturb_each_other() {
        let (hurried, text) = (numbers(BLOCK * 40), prose(BLOCK * 40));
        let mut compression = Compression::new(1).unwrap();
        let mut buffer = Vec::new();
        let mut stored = [0, 0];
        for (a, b) in hurried.chunks(BLOCK).zip(text.chunks(BLOCK)) {
            stored[0] += compression.pack(1, a, &mut buffer, 0).unwrap();
            stored[1] += compression.pack(2, b, &mut buffer, 0).unwrap();
        }
        assert_eq!(stored, [packed(1, &hurried).0, packed(1, &text).0]);
        assert_eq!(
            [0, 1].map(|slot: usize| compression.learnt.files[slot].is_hasty),
            [true, false]
        );
    }

    #[test]
    fn another_level_is_what_was_asked_for() {
        assert!(!packed(3, &numbers(BLOCK * 4)).1);
    }

    #[test]
    fn a_file_that_changes_its_nature_is_tried_again() {
        let mut content = numbers(BLOCK * 2);
        content.extend(prose(BLOCK * (TRIAL_EVERY as usize + 1)));
        assert!(!packed(1, &content).1);
    }
}
