//! What every store promises: one list of checks, the same for all.

use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, SystemTime};

use depot::store::{Body, OBJECT_BYTES_MAX, Store, StoreConfig, StoreError};
use tempfile::NamedTempFile;

/// A folder for each check.
pub const FOLDERS: [&str; 9] =
    ["basic", "range", "missing", "taken", "large", "race", "list", "list/below", "many"];

type Check = fn(&Store);

const CHECKS: [(&str, Check); 9] = [
    ("what is created is read back", created_is_read_back),
    ("ranges are cut at the end", ranges_are_cut),
    ("what is missing is said to be missing", missing_is_missing),
    ("a taken name stays as it is", taken_names_stay),
    ("large objects come from memory and from files", large_objects),
    ("of racing creators exactly one wins", one_creator_wins),
    ("hostile names are refused", hostile_names_are_refused),
    ("a listing shows what is directly in a folder", listings_are_flat),
    ("a listing of many is complete", listings_are_complete),
];

/// Runs all checks against an empty store that has the [`FOLDERS`].
#[expect(clippy::print_stdout, reason = "shown if a check fails")]
pub fn check_all(store: &Store) {
    for (promise, check) in CHECKS {
        let started = std::time::Instant::now();
        println!("{promise}");
        check(store);
        println!("    {:?}", started.elapsed());
    }
}

/// As [`check_all`], for an account that may delete and make folders too.
pub fn check_all_of_keeper(store: &Store) {
    for folder in FOLDERS {
        store.make_folder(folder).unwrap();
        store.make_folder(folder).unwrap();
    }
    check_all(store);
    deletion(store);
}

/// A store from configuration text.
pub fn open(text: &str) -> Store {
    let config: StoreConfig = chassis::config::parse("test", text).unwrap();
    Store::open(&config).unwrap()
}

/// Bytes that repeat nowhere near.
pub fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// A file with these bytes.
pub fn file_of(bytes: &[u8]) -> NamedTempFile {
    let file = NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    file
}

#[track_caller]
fn assert_missing<T: std::fmt::Debug>(outcome: Result<T, StoreError>) {
    assert!(matches!(outcome, Err(StoreError::Missing { .. })), "{outcome:?}");
}

#[track_caller]
pub fn assert_exists(outcome: Result<(), StoreError>) {
    assert!(matches!(outcome, Err(StoreError::Exists { .. })), "{outcome:?}");
}

fn created_is_read_back(store: &Store) {
    for (name, bytes) in [("basic/empty", &b""[..]), ("basic/some", b"some bytes")] {
        store.create(name, Body::Bytes(bytes)).unwrap();
        assert_eq!(store.read(name).unwrap(), bytes);
        let info = store.stat(name).unwrap().unwrap();
        assert_eq!((info.name.as_str(), info.size), (name, bytes.len() as u64));
        let now = SystemTime::now();
        let age = now.duration_since(info.arrived).unwrap_or_default();
        assert!(age < Duration::from_mins(1) && info.arrived < now + Duration::from_mins(1));
    }
    let file = file_of(b"from a file");
    store.create("basic/file", Body::File(file.path())).unwrap();
    assert_eq!(store.read("basic/file").unwrap(), b"from a file");
    let empty = file_of(b"");
    store.create("basic/empty-file", Body::File(empty.path())).unwrap();
    assert_eq!(store.read("basic/empty-file").unwrap(), b"");
    store.create("top.toml", Body::Bytes(b"in no folder")).unwrap();
    assert_eq!(store.read("top.toml").unwrap(), b"in no folder");
    let absent = store.create("basic/absent", Body::File("/nowhere/at/all".as_ref()));
    assert!(absent.unwrap_err().is_permanent());
    assert_eq!(store.stat("basic/absent").unwrap(), None);
}

fn ranges_are_cut(store: &Store) {
    let bytes = noise(300_000, 1);
    store.create("range/object", Body::Bytes(&bytes)).unwrap();
    let check = |offset: u64, length: usize, expected: &[u8]| {
        let read = store.read_range("range/object", offset, length).unwrap();
        assert!(read == expected, "{offset}+{length}: {} bytes", read.len());
    };
    check(0, 300_000, &bytes);
    check(0, 1, &bytes[..1]);
    check(1, 100_000, &bytes[1..100_001]);
    check(65_536, 65_536, &bytes[65_536..131_072]);
    check(299_999, 1, &bytes[299_999..]);
    check(299_999, 1000, &bytes[299_999..]);
    check(300_000, 1, b"");
    check(900_000, 10, b"");
    check(u64::MAX, 10, b"");
    check(5, 0, b"");
    store.create("range/empty", Body::Bytes(b"")).unwrap();
    assert_eq!(store.read_range("range/empty", 0, 10).unwrap(), b"");
    assert!(store.read_range("range/object", 0, OBJECT_BYTES_MAX as usize + 1).is_err());
}

fn missing_is_missing(store: &Store) {
    assert_missing(store.read("missing/object"));
    assert_missing(store.read_range("missing/object", 0, 1));
    assert_missing(store.read_range("missing/object", 0, 0));
    assert_eq!(store.stat("missing/object").unwrap(), None);
    assert_eq!(store.stat("no-folder/object").unwrap(), None);
    assert_missing(store.read("no-folder/object"));
    assert_eq!(store.list("missing").unwrap(), []);
    match store.list("no-folder") {
        Ok(objects) => assert_eq!(objects, []),
        Err(StoreError::Missing { name }) => {
            assert_eq!(name, "no-folder");
            // Where there are folders, nothing is made in one that is not there.
            let outcome = store.create("no-folder/object", Body::Bytes(b"x"));
            assert!(
                matches!(&outcome, Err(StoreError::Missing { name }) if name == "no-folder"),
                "{outcome:?}"
            );
        }
        Err(error) => panic!("{error:?}"),
    }
}

fn taken_names_stay(store: &Store) {
    store.create("taken/object", Body::Bytes(b"first")).unwrap();
    assert_exists(store.create("taken/object", Body::Bytes(b"first")));
    assert_exists(store.create("taken/object", Body::Bytes(b"other content")));
    assert_exists(store.create("taken/object", Body::Bytes(b"")));
    let file = file_of(&noise(2 << 20, 2));
    assert_exists(store.create("taken/object", Body::File(file.path())));
    store.sync("taken/object").unwrap();
    assert_eq!(store.read("taken/object").unwrap(), b"first");
}

fn large_objects(store: &Store) {
    let bytes = noise((20 << 20) + 7, 3);
    store.create("large/memory", Body::Bytes(&bytes)).unwrap();
    let file = file_of(&bytes);
    store.create("large/file", Body::File(file.path())).unwrap();
    for name in ["large/memory", "large/file"] {
        assert!(store.read(name).unwrap() == bytes, "{name} is not what was created");
        let middle = store.read_range(name, 9 << 20, 3 << 20).unwrap();
        assert!(middle == bytes[9 << 20..12 << 20], "{name}: wrong middle");
        assert_eq!(store.stat(name).unwrap().unwrap().size, bytes.len() as u64);
    }
}

fn one_creator_wins(store: &Store) {
    for round in 0..5u64 {
        let name = format!("race/{round}");
        let bodies: Vec<Vec<u8>> = (0..8).map(|n| noise(256 << 10, round * 8 + n)).collect();
        let outcomes: Vec<Result<(), StoreError>> = thread::scope(|scope| {
            let name = &name;
            let threads: Vec<_> = bodies
                .iter()
                .map(|body| scope.spawn(move || store.create(name, Body::Bytes(body))))
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let winners: Vec<usize> = (0..8).filter(|n| outcomes[*n].is_ok()).collect();
        assert_eq!(winners.len(), 1, "{outcomes:?}");
        outcomes.into_iter().filter(Result::is_err).for_each(assert_exists);
        assert!(store.read(&name).unwrap() == bodies[winners[0]], "the winner's bytes are stored");
    }
}

fn hostile_names_are_refused(store: &Store) {
    let before = store.list("").unwrap();
    for name in ["", ".", "..", "../x", "basic/../../x", "/etc/x", "a\0b", "a\nb", ".x", "basic//x"]
    {
        assert!(store.create(name, Body::Bytes(b"x")).unwrap_err().is_permanent(), "{name:?}");
        assert!(store.read(name).is_err(), "{name:?}");
        assert!(store.read_range(name, 0, 1).is_err(), "{name:?}");
        assert!(store.stat(name).is_err(), "{name:?}");
        assert!(store.delete(name).is_err(), "{name:?}");
        if !name.is_empty() {
            assert!(store.list(name).is_err(), "{name:?}");
            assert!(store.make_folder(name).is_err(), "{name:?}");
        }
    }
    assert_eq!(store.list("").unwrap(), before);
}

fn listings_are_flat(store: &Store) {
    for name in ["list/b", "list/a", "list/below/c", "list/0..1--2.age"] {
        store.create(name, Body::Bytes(name.as_bytes())).unwrap();
    }
    let listed = |folder| -> Vec<(String, u64)> {
        let objects = store.list(folder).unwrap();
        objects.into_iter().map(|object| (object.name, object.size)).collect()
    };
    let expected = ["list/0..1--2.age", "list/a", "list/b"].map(|n| (n.to_owned(), n.len() as u64));
    assert_eq!(listed("list"), expected);
    assert_eq!(listed("list/below"), [("list/below/c".to_owned(), 12)]);
    assert!(listed("").iter().all(|(name, _)| !name.contains('/')), "{:?}", listed(""));
    let info = store.stat("list/a").unwrap();
    assert_eq!(store.list("list").unwrap().into_iter().find(|o| o.name == "list/a"), info);
}

fn listings_are_complete(store: &Store) {
    let names: BTreeSet<String> = (0..1500).map(|n| format!("many/{n:06}")).collect();
    let all: Vec<&String> = names.iter().collect();
    thread::scope(|scope| {
        for part in all.chunks(375) {
            scope.spawn(move || {
                for name in part {
                    store.create(name, Body::Bytes(name.as_bytes())).unwrap();
                }
            });
        }
    });
    let listed: Vec<String> = store.list("many").unwrap().into_iter().map(|o| o.name).collect();
    assert!(listed.iter().eq(names.iter()), "{} of 1500 listed", listed.len());
}

fn deletion(store: &Store) {
    store.create("basic/doomed", Body::Bytes(b"x")).unwrap();
    store.delete("basic/doomed").unwrap();
    assert_eq!(store.stat("basic/doomed").unwrap(), None);
    assert_missing(store.delete("basic/doomed"));
    assert_missing(store.delete("no-folder/doomed"));
    store.create("basic/doomed", Body::Bytes(b"again")).unwrap();
    assert_eq!(store.read("basic/doomed").unwrap(), b"again");
}
