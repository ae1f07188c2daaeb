//! The stream reader against a writer of its own: round trips, every place where a stream can be
//! cut or bent, hostile streams. Real streams of the real tool are in the outer tests.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use database::tool::BackupTool::{self, MariaDb, Percona};
use database::xbstream::{
    CHUNK_LENGTH_MAX, Kind, OPEN_FILES_MAX, Reader, SparseRun, StreamError, is_removed_by,
};
use proptest::prelude::*;

fn head(kind: u8, flags: u8, path: &str) -> Vec<u8> {
    let mut bytes = b"XBSTCK01".to_vec();
    bytes.extend([flags, kind]);
    bytes.extend((path.len() as u32).to_le_bytes());
    bytes.extend(path.as_bytes());
    bytes
}

fn lengths(length: u64, offset: u64, checksum: u32) -> Vec<u8> {
    [&length.to_le_bytes()[..], &offset.to_le_bytes(), &checksum.to_le_bytes()].concat()
}

fn payload_with(flags: u8, path: &str, offset: u64, data: &[u8]) -> Vec<u8> {
    let lengths = lengths(data.len() as u64, offset, crc32fast::hash(data));
    [head(b'P', flags, path), lengths, data.to_vec()].concat()
}

fn payload(path: &str, offset: u64, data: &[u8]) -> Vec<u8> {
    payload_with(0, path, offset, data)
}

fn end(path: &str) -> Vec<u8> {
    head(b'E', 0, path)
}

fn sparse(path: &str, offset: u64, runs: &[SparseRun], data: &[u8]) -> Vec<u8> {
    let map: Vec<u8> =
        runs.iter().flat_map(|r| [r.skip.to_le_bytes(), r.length.to_le_bytes()].concat()).collect();
    let mut bytes = head(b'S', 0, path);
    bytes.extend((runs.len() as u32).to_le_bytes());
    bytes.extend(lengths(data.len() as u64, offset, crc32fast::hash(&[&map, data].concat())));
    bytes.extend(map);
    bytes.extend(data);
    bytes
}

fn seek(path: &str, offset: u64) -> Vec<u8> {
    [head(b'S', 0, path), offset.to_le_bytes().to_vec()].concat()
}

fn rename(from: &str, to: &str) -> Vec<u8> {
    [head(b'R', 0, from), (to.len() as u32).to_le_bytes().to_vec(), to.as_bytes().to_vec()].concat()
}

type Files = BTreeMap<PathBuf, Vec<u8>>;

/// Does with a stream what a restore does, in memory.
fn extract(source: impl Read, tool: BackupTool) -> Result<Files, StreamError> {
    let mut reader = Reader::new(source, tool);
    let (mut files, mut buffer) = (Files::new(), Vec::new());
    while let Some(chunk) = reader.next(&mut buffer)? {
        let path = chunk.path.to_path_buf();
        if chunk.first {
            let before = files.insert(path.clone(), Vec::new());
            assert!(before.is_none() || chunk.rewrite, "{} came twice", path.display());
        }
        for (offset, piece) in chunk.pieces(&buffer) {
            let (from, to) = (offset as usize, offset as usize + piece.len());
            let file = files.get_mut(&path).expect("the first chunk made it");
            file.resize(file.len().max(to), 0);
            file[from..to].copy_from_slice(piece);
        }
        match &chunk.kind {
            Kind::End { size } => {
                assert_eq!(files[&path].len() as u64, *size, "{}", path.display());
            }
            Kind::Remove => files.retain(|file, _| !is_removed_by(&path, file)),
            Kind::Rename { to } => {
                if let Some(file) = files.remove(&path) {
                    files.insert(to.to_path_buf(), file);
                }
            }
            Kind::Payload { .. } | Kind::Sparse { .. } => {}
        }
    }
    Ok(files)
}

fn files<const N: usize>(expected: [(&str, &[u8]); N]) -> Files {
    expected.into_iter().map(|(path, data)| (path.into(), data.to_vec())).collect()
}

/// A stream of every kind of chunk that MariaDB writes, with two files interleaved.
fn mariadb_stream() -> Vec<u8> {
    [
        payload("a/t.ibd", 0, b"hello "),
        payload("aria_log.00000001", 0, &[7; 100]),
        payload("a/t.ibd", 6, b"world"),
        seek("aria_log.00000001", 37),
        payload("aria_log.00000001", 37, b"1234567"),
        end("aria_log.00000001"),
        end("a/t.ibd"),
        end("empty"),
        payload("a/old.MYD", 0, b"x"),
        end("a/old.MYD"),
        rename("a/old.MYD", "a/new.MYD"),
        payload("a/p#P#p0.MYD", 0, b"x"),
        end("a/p#P#p0.MYD"),
        head(b'D', 0, "a/p#P#*"),
        head(b'D', 0, "never/was"),
        payload_with(2, "a/new.MYD", 0, b"again"),
        end("a/new.MYD"),
    ]
    .concat()
}

fn percona_stream() -> Vec<u8> {
    let runs = [SparseRun { skip: 0, length: 3 }, SparseRun { skip: 5, length: 2 }];
    [payload("t.ibd", 0, b"ab"), sparse("t.ibd", 2, &runs, b"cdefg"), end("t.ibd")].concat()
}

#[test]
fn every_kind_of_chunk_of_mariadb_is_understood() {
    let mut log = vec![7; 100];
    log[37..44].copy_from_slice(b"1234567");
    let expected = files([
        ("a/t.ibd", b"hello world"),
        ("aria_log.00000001", &log),
        ("empty", b""),
        ("a/new.MYD", b"again"),
    ]);
    assert_eq!(extract(&mariadb_stream()[..], MariaDb).unwrap(), expected);
}

#[test]
fn sparse_chunks_of_percona_are_understood() {
    let expected = files([("t.ibd", b"abcde\0\0\0\0\0fg")]);
    assert_eq!(extract(&percona_stream()[..], Percona).unwrap(), expected);
}

#[test]
fn the_letter_s_means_what_the_tool_means_by_it() {
    assert!(extract(&percona_stream()[..], MariaDb).is_err());
    assert!(extract(&mariadb_stream()[..], Percona).is_err());
}

#[test]
fn a_stream_that_is_cut_anywhere_never_ends_cleanly_in_the_middle_of_a_file() {
    for (stream, tool) in [(mariadb_stream(), MariaDb), (percona_stream(), Percona)] {
        let mut clean_ends = 0;
        for length in 0..stream.len() {
            // A cut is only clean where a chunk starts and no file is open; count those, all others
            // must fail.
            match extract(&stream[..length], tool) {
                Ok(_) => clean_ends += 1,
                Err(StreamError::Cut { at } | StreamError::Unfinished { at, .. }) => {
                    assert_eq!(at, length as u64);
                }
                Err(other) => panic!("cut at {length}: {other}"),
            }
        }
        assert_eq!(clean_ends, if tool == MariaDb { 8 } else { 1 });
    }
}

#[test]
fn any_flipped_bit_is_either_seen_or_harmless_to_the_data() {
    let stream = mariadb_stream();
    let whole = extract(&stream[..], MariaDb).unwrap();
    for bit in 0..stream.len() * 8 {
        let mut bent = stream.clone();
        bent[bit / 8] ^= 1 << (bit % 8);
        // What no checksum covers are flags, names, and the offsets of seeks: a file may end up
        // elsewhere, but the bytes that a payload brought are never other bytes.
        let Ok(files) = std::panic::catch_unwind(|| extract(&bent[..], MariaDb)) else { continue };
        let Ok(files) = files else { continue };
        for data in files.values().filter(|data| data.len() > 1 && data.len() < 100) {
            assert!(whole.values().any(|known| known == data), "bit {bit}: {data:?}");
        }
    }
}

#[test]
fn faults_are_named_with_their_place() {
    let check = |stream: &[u8], tool, expected: &str| {
        let error = extract(stream, tool).expect_err(expected);
        assert_eq!(error.to_string(), expected);
    };
    let place = "of the backup stream";
    check(b"XBSTCK02......", MariaDb, "no chunk starts at byte 0 of the backup stream");
    check(
        &payload("a", 0, b"x"),
        MariaDb,
        "backup stream ends at byte 36, but 1 files are not whole, among them \"a\"",
    );
    check(
        &payload("a", 5, b"x"),
        MariaDb,
        &format!("\"a\" goes on at 5, not at 0, at byte 0 {place}"),
    );
    check(&head(b'Z', 0, "a"), MariaDb, &format!("chunk of unknown kind 0x5a at byte 0 {place}"));
    check(
        &[payload("a", 0, b"x"), head(b'D', 0, "a")].concat(),
        MariaDb,
        &format!("\"a\" is removed or renamed while it is written, at byte 36 {place}"),
    );
    let mut bent = payload("a", 0, b"x");
    *bent.last_mut().unwrap() = b'y';
    check(
        &bent,
        MariaDb,
        &format!("checksum of \"a\" at byte 0 {place} is fbdb2615, not 8cdc1683"),
    );
    let runs = [SparseRun { skip: 1, length: 2 }];
    check(
        &sparse("a", 0, &runs, b"x"),
        Percona,
        &format!("sparse runs of \"a\" at byte 0 {place} do not add up to the payload"),
    );
}

#[test]
fn paths_out_of_the_target_are_refused() {
    for path in ["", "..", "../a", "/etc/passwd", "a/../../b", "a/..", ".", "a\0b"] {
        for stream in [payload(path, 0, b"x"), end(path), head(b'D', 0, path), rename("a", path)] {
            let error = extract(&stream[..], MariaDb).expect_err(path);
            assert!(matches!(error, StreamError::Path { .. }), "{path:?}: {error}");
        }
    }
    let stream = [payload("./a//b/./c", 0, b"x"), end("a/b/c")].concat();
    assert_eq!(extract(&stream[..], MariaDb).unwrap(), files([("a/b/c", b"x")]));
}

#[test]
fn limits_hold() {
    let is_limit =
        |stream: &[u8], tool| matches!(extract(stream, tool), Err(StreamError::Limit { .. }));
    assert!(is_limit(&end(&"x".repeat(512)), MariaDb));
    assert!(!is_limit(&end(&"x".repeat(511)), MariaDb));
    assert!(is_limit(&[head(b'P', 0, "a"), lengths(CHUNK_LENGTH_MAX + 1, 0, 0)].concat(), MariaDb));
    assert!(is_limit(&[head(b'S', 0, "a"), u32::MAX.to_le_bytes().to_vec()].concat(), Percona));
    let many: Vec<u8> =
        (0..=OPEN_FILES_MAX).flat_map(|n| payload(&n.to_string(), 0, b"")).collect();
    assert!(is_limit(&many, MariaDb));
    // A length that nothing follows costs no more than the limit, and an offset at the end of the
    // world is no panic.
    assert!(
        extract(&[head(b'P', 0, "a"), lengths(CHUNK_LENGTH_MAX, 0, 0)].concat()[..], MariaDb)
            .is_err()
    );
    assert!(
        extract(&[seek("a", u64::MAX), payload("a", u64::MAX, b"x")].concat()[..], MariaDb)
            .is_err()
    );
}

#[test]
fn unknown_chunks_are_skipped_only_if_they_may_be() {
    let mut stream = payload_with(1, "unknown", 0, b"skip me");
    stream[9] = b'Z';
    stream.extend(end("a"));
    assert_eq!(extract(&stream[..], MariaDb).unwrap(), files([("a", b"")]));
}

#[test]
fn what_a_removal_takes_away() {
    let check = |pattern: &str, path: &str, expected| {
        assert_eq!(
            is_removed_by(Path::new(pattern), Path::new(path)),
            expected,
            "{pattern} {path}"
        );
    };
    check("d/a.MYD", "d/a.MYD", true);
    check("d/a.MYD", "d/a.MYDx", false);
    check("d", "d/a.MYD", true);
    check("d", "d2/a.MYD", false);
    check("d/t#P#*", "d/t#P#p0.MYD", true);
    check("d/t#P#*", "d/t2#P#p0.MYD", false);
}

/// A source that gives a few bytes at a time, as a pipe may.
struct Trickle<'a>(&'a [u8], usize);

impl Read for Trickle<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = buffer.len().min(self.1);
        self.0.read(&mut buffer[..count])
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn what_is_written_is_read(
        contents in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..2000), 1..5),
        cuts in prop::collection::vec((0_usize..5, 1_usize..700), 0..40),
        step in 1_usize..5000,
    ) {
        // Chunks of random lengths from random files in turn, then the rest of each.
        let mut positions = vec![0_usize; contents.len()];
        let mut stream = Vec::new();
        let rest = (0..contents.len()).map(|file| (file, usize::MAX));
        for (file, length) in cuts.into_iter().filter(|(f, _)| *f < contents.len()).chain(rest) {
            let from = positions[file];
            let to = contents[file].len().min(from.saturating_add(length));
            stream.extend(payload(&format!("db/{file}.ibd"), from as u64, &contents[file][from..to]));
            positions[file] = to;
        }
        let expected: Files =
            contents.into_iter().enumerate().map(|(n, c)| (format!("db/{n}.ibd").into(), c)).collect();
        for path in expected.keys() {
            stream.extend(end(path.to_str().unwrap()));
        }
        prop_assert_eq!(extract(Trickle(&stream, step), MariaDb).unwrap(), expected);
    }

    #[test]
    fn noise_is_never_a_panic(
        noise in prop::collection::vec(any::<u8>(), 0..300),
        at in 0_usize..400,
    ) {
        let mut stream = mariadb_stream();
        let at = at.min(stream.len());
        stream.splice(at.., noise);
        let mut buffer = Vec::new();
        for tool in [MariaDb, Percona] {
            let mut reader = Reader::new(&stream[..], tool);
            while let Ok(Some(chunk)) = reader.next(&mut buffer) {
                let _ = chunk.pieces(&buffer);
            }
        }
    }
}
