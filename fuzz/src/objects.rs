//! What a depot and an agent keep in forms of their own: the description, blocks, the cache.

use std::fs;
use std::time::Duration;

use chassis::retry::{Backoff, Stop};
use depot::block::{BLOCK_BYTES_MAX, BlockKey};
use depot::cache::{Cache, SEGMENT_BLOCKS};
use depot::depot::Depot;
use depot::manifest::EntryPath;
use depot::names::Sha256;
use depot::reader::BlockDecoder;
use depot::store::memory::MemoryStore;
use depot::store::{Body, Store};

use crate::memory::{BASE, within};

/// A description that is good.
pub const DESCRIPTION: (&str, &str) = ("depot.toml", "format = 1\nid = \"0123\"\n");
/// The longest record of a cache.
const RECORD_BYTES_MAX: usize = 64 << 20;
/// The paths that are looked up; the seeds have them.
const PATHS: [&str; 2] = ["a/b", "c"];

/// Opens what is in a store; nothing is tried again.
pub fn open_store(store: Store) -> Depot {
    let _ = store.create(DESCRIPTION.0, Body::Bytes(DESCRIPTION.1.as_bytes()));
    try_open(store).expect("its description is good")
}

fn try_open(store: Store) -> anyhow::Result<Depot> {
    let zero = Duration::ZERO;
    let once = Backoff { attempts_max: 1, first: zero, factor: 1, max: zero, jitter: 0.0 };
    Depot::from_store_with("fuzz", store, Stop::never(), once)
}

/// `depot.toml`.
pub fn description(data: &[u8]) {
    let store = Store::Memory(MemoryStore::default());
    store.create(DESCRIPTION.0, Body::Bytes(data)).expect("the store is empty");
    if let Ok(depot) = within(32 * data.len() + BASE, || try_open(store)) {
        let text = String::from_utf8_lossy(data);
        assert!(text.contains("format") && depot.name() == "fuzz");
    }
}

/// A block: three bytes of its length, then how it is stored. It is given back if, and only if, that is what it is.
pub fn block(data: &[u8]) {
    let Some((length, stored)) = data.split_at_checked(3) else { return };
    let length = length.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
    let key = BlockKey([7; 32]);
    let content = if stored.len() == length {
        Some(stored.to_vec())
    } else {
        zstd::bulk::decompress(stored, length.min(BLOCK_BYTES_MAX as usize)).ok()
    };
    let content = content.filter(|content| content.len() == length);
    let name = key.name(content.as_deref().unwrap_or_default());
    let limit = 2 * BLOCK_BYTES_MAX as usize + BASE;
    within(limit, || {
        let mut decoder = BlockDecoder::new(key).expect("zstd starts");
        let decoded = decoder.decode(stored, &name, length).ok();
        assert_eq!(decoded, content.as_deref().filter(|c| c.len() as u64 <= BLOCK_BYTES_MAX));
        assert!(decoder.decode(stored, &[0; 24], length).is_err(), "under another name");
    });
}

/// The file of a cache; checksums are made right first.
pub fn cache(data: &[u8]) {
    let dir = tempfile::tempdir().expect("make a directory");
    let path = dir.path().join("cache");
    fs::write(&path, mended(data)).expect("write a file");
    let limit = 2 * RECORD_BYTES_MAX + 16 * data.len() + BASE;
    within(limit, || {
        let Some(cache) = Cache::open(&path, &Sha256::of(b"keys")) else { return };
        for path in PATHS {
            let path = EntryPath::new(path).expect("it is a path");
            let Some(mut previous) = cache.find(&path) else { continue };
            let count = previous.block_count();
            for number in (0..count).step_by(SEGMENT_BLOCKS / 2).take(64).chain([count]) {
                let block = cache.block(&mut previous, number);
                assert!(number < count || block.is_none());
            }
        }
    });
}

/// Records follow one another; each gets the checksum of its body.
fn mended(data: &[u8]) -> Vec<u8> {
    let mut bytes = data.to_vec();
    let mut at = 8;
    while let Some(head) = bytes.get(at..at + 8) {
        let length = u32::from_le_bytes([head[4], head[5], head[6], head[7]]) as usize;
        let Some(body) = bytes.get(at + 8..at + 8 + length) else { break };
        let sum = crc32fast::hash(body).to_le_bytes();
        bytes[at..at + 4].copy_from_slice(&sum);
        at += 8 + length;
    }
    bytes
}
