//! Manifests: single lines, and whole ones as a restore reads them, sealed.

use std::io::Write;
use std::path::Component;
use std::sync::OnceLock;

use chassis::failure::Exit;
use depot::crypt::{Identities, Recipients};
use depot::depot::Depot;
use depot::manifest::{Line, read_line, write_line};
use depot::names::SnapshotId;
use depot::reader::SnapshotReader;
use depot::store::memory::MemoryStore;
use depot::store::{Body, Store};
use restore::select::Selection;
use restore::tree::Tree;

use crate::memory::{BASE, within};
use crate::objects::{DESCRIPTION, open_store};

/// The window of zstd that a reader grants, and the buffers beside it.
const ZSTD_BYTES_MAX: usize = 160 << 20;
/// What stands for two bytes of a line (`1,`) is a run of zeros in a growing vector.
const LINE_FACTOR: usize = 128;
/// The snapshot that every sealed input is taken for.
const ID: &str = "a--20261123T021500Z--b";
/// Opens the sealed seeds, and nothing else in the world.
const SECRET: &str = "AGE-SECRET-KEY-1PZU82KQ9ZJ09ZLTD3NAVMQXX5KTMUJG30KML8CTDLFFFLW557M7SV02QFG";

/// Lines of a manifest: what is read and written again is the same.
pub fn lines(data: &[u8]) {
    let first = within(LINE_FACTOR * data.len() + BASE, || rewritten(data));
    let second = rewritten(&first);
    assert_eq!(String::from_utf8_lossy(&first), String::from_utf8_lossy(&second));
}

fn rewritten(data: &[u8]) -> Vec<u8> {
    let (mut input, mut buffer, mut text) = (data, Vec::new(), Vec::new());
    while let Ok(Some(line)) = read_line(&mut input, &mut buffer) {
        check_line(&line);
        write_line(&mut text, line).expect("a vector takes everything");
    }
    text
}

fn check_line(line: &Line) {
    if let Line::Entry(entry) = line {
        let mut parts = entry.path.as_path().components();
        let is_root = entry.path.as_bytes() == b".";
        assert!(is_root || parts.all(|part| matches!(part, Component::Normal(_))), "{entry:?}");
    }
    if let Line::Head(head) = line {
        assert!(head.cuts.size_at(u64::MAX) > 0 && head.cuts.blocks_of(1 << 20).count() <= 256);
    }
}

/// A manifest as it is stored. The first byte says what the input is: lines, a zstd frame of lines,
/// or the whole object.
pub fn sealed(data: &[u8]) {
    let Some((&choice, bytes)) = data.split_first() else { return };
    let object = match choice % 3 {
        0 => seal(&zstd::bulk::compress(bytes, 1).expect("zstd takes everything")),
        1 => seal(bytes),
        _ => bytes.to_vec(),
    };
    let id: SnapshotId = ID.parse().expect("it is an id");
    let store = Store::Memory(MemoryStore::default());
    let put = |name: &str, content: &[u8]| {
        store.create(name, Body::Bytes(content)).expect("it is a name that is free");
    };
    put(DESCRIPTION.0, DESCRIPTION.1.as_bytes());
    put(&id.manifest_object(), &object);
    let depot = open_store(store);
    restore(&depot, &id, data.len());
}

fn restore(depot: &Depot, id: &SnapshotId, length: usize) {
    let (identities, _) = keys();
    let limit = ZSTD_BYTES_MAX + LINE_FACTOR * length + BASE;
    let read = || Tree::read(|| SnapshotReader::open(depot, id, identities), &Selection::all());
    match within(limit, read) {
        Ok(tree) => check_tree(&tree),
        Err(error) => assert_ne!(chassis::failure::exit_of(&error), Exit::Usage, "{error:#}"),
    }
}

/// What is placed by it has a length and is in its file.
fn check_tree(tree: &Tree) {
    assert!(tree.content_bytes() <= tree.bytes());
    for block in &tree.blocks {
        assert!(tree.length(block) > 0 && (block.pack as usize) < tree.packs.len());
        let _ = tree.path_of(block.file);
    }
    for (number, file) in tree.files.iter().enumerate() {
        for (at, length) in tree.zeros_of(number as u32) {
            assert!(at + length <= file.size, "{at} {length} {file:?}");
        }
    }
}

fn seal(bytes: &[u8]) -> Vec<u8> {
    let mut writer = keys().1.encrypt(Vec::new()).expect("the key is good");
    writer.write_all(bytes).and_then(|()| writer.finish()).expect("a vector takes everything")
}

fn keys() -> &'static (Identities, Recipients) {
    static KEYS: OnceLock<(Identities, Recipients)> = OnceLock::new();
    KEYS.get_or_init(|| {
        let mut file = tempfile::NamedTempFile::new().expect("make a file");
        writeln!(file, "{SECRET}").expect("write a file");
        let identities = Identities::from_file(file.path()).expect("it is a key");
        let recipients = Recipients::parse(&identities.public()).expect("it is a public key");
        (identities, recipients)
    })
}
