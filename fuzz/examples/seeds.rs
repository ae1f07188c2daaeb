//! Writes the seeds that are not text into the corpus: `cargo run -p fuzz --example seeds`.
//! Run it when a format changes.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use depot::cache::{CacheWriter, OldBlock, SEGMENT_BLOCKS, Stamp};
use depot::manifest::{EntryPath, PackLine};
use depot::names::Sha256;

const HEAD: &str = concat!(
    r#"{"holdfast":1,"id":"a--20261123T021500Z--b","job":"a","host":"b","kind":"files","#,
    r#""started":"2026-11-23T02:15:00Z","ended":"2026-11-23T02:15:01Z","state":"complete","#,
    r#""parent":null,"cuts":[[0,65536]],"#,
    r#""key":"0707070707070707070707070707070707070707070707070707070707070707","#,
    r#""program":"x","root":"/","positions":null,"problems":[]}"#
);
const PACK: &str =
    r#"{"pack":"0000000000000000000000000000000000000000000000000000000000000000","size":9000}"#;
const FILE: &str = concat!(
    r#"{"path":"f","type":"file","size":70000,"mode":420,"uid":0,"gid":0,"mtime":[1,2],"#,
    r#""sparse":true,"blocks":[["AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",0,0,31],1]}"#
);
const LINK: &str = r#"{"path":"h","type":"hardlink","target":"f"}"#;

fn main() -> Result<()> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for (name, stream) in streams() {
        put(&corpus, &format!("xbstream/{name}"), &stream)?;
    }
    put(&corpus, "cache/small", &cache()?)?;
    let frame = zstd::bulk::compress(&[b'x'; 1000], 1)?;
    put(&corpus, "block/frame", &[&[0, 3, 0xe8][..], &frame].concat())?;
    put(&corpus, "block/as_it_is", b"\0\0\x05hello")?;
    let end = r#"{"end":{"entries":2,"bytes":70000,"stored":0}}"#;
    let lines = [HEAD, PACK, FILE, LINK, end].map(|line| format!("{line}\n")).concat();
    put(&corpus, "manifest_lines/whole", lines.as_bytes())?;
    put(&corpus, "snapshot/lines", &[b"\0", lines.as_bytes()].concat())?;
    let frame = zstd::bulk::compress(lines.as_bytes(), 1)?;
    put(&corpus, "snapshot/frame", &[b"\x01", &frame[..]].concat())?;
    let zeros = format!("{{\"file\":1,\"blocks\":[{}1]}}", "4294967295,".repeat(4));
    let zeros = [HEAD, &zeros].map(|line| format!("{line}\n")).concat();
    put(&corpus, "snapshot/long_runs_of_zeros", &[b"\0", zeros.as_bytes()].concat())
}

fn put(corpus: &Path, name: &str, bytes: &[u8]) -> Result<()> {
    let path = corpus.join(name);
    fs::create_dir_all(path.parent().expect("a seed is in a folder"))?;
    fs::write(&path, bytes).with_context(|| format!("write {}", path.display()))
}

/// Streams of both tools: the first byte is even for Percona.
fn streams() -> [(&'static str, Vec<u8>); 2] {
    let mut percona = vec![6];
    percona.extend(chunk(b'P', "a/t.ibd", 0, &[], b"0123456789"));
    percona.extend(chunk(b'P', "ibdata1", 0, &[], b"x"));
    percona.extend(chunk(b'S', "a/t.ibd", 10, &[(6, 2), (0, 1)], b"abc"));
    percona.extend([head(b'E', "ibdata1"), head(b'E', "a/t.ibd")].concat());
    let mut mariadb = vec![7];
    mariadb.extend(chunk(b'P', "aria_log.1", 0, &[], b"0123456789"));
    mariadb.extend([head(b'S', "aria_log.1"), 4_u64.to_le_bytes().to_vec()].concat());
    mariadb.extend(chunk(b'P', "aria_log.1", 4, &[], b"x"));
    mariadb.extend([head(b'E', "aria_log.1"), head(b'D', "a/t#P#*")].concat());
    mariadb.extend([head(b'R', "a/u"), 3_u32.to_le_bytes().to_vec(), b"a/v".to_vec()].concat());
    [("percona", percona), ("mariadb", mariadb)]
}

fn head(kind: u8, path: &str) -> Vec<u8> {
    [b"XBSTCK01\0", &[kind][..], &(path.len() as u32).to_le_bytes(), path.as_bytes()].concat()
}

fn chunk(kind: u8, path: &str, offset: u64, runs: &[(u32, u32)], data: &[u8]) -> Vec<u8> {
    let map = runs.iter().flat_map(|(skip, length)| [skip.to_le_bytes(), length.to_le_bytes()]);
    let map = map.flatten().collect::<Vec<u8>>();
    let count = (runs.len() as u32).to_le_bytes();
    let checksum = crc32fast::hash(&[&map, data].concat()).to_le_bytes();
    let (length, offset) = ((data.len() as u64).to_le_bytes(), offset.to_le_bytes());
    let count: &[u8] = if kind == b'S' { &count } else { &[] };
    [&head(kind, path), count, &length, &offset, &checksum, &map, data].concat()
}

/// A file of two segments, and one without blocks.
fn cache() -> Result<Vec<u8>> {
    let dir = tempfile::tempdir()?;
    let mut writer = CacheWriter::create(dir.path())?;
    let block = OldBlock { name: [7; 24], pack: 0, offset: 1, stored: 2 };
    let segment = writer.segment(&vec![block; SEGMENT_BLOCKS])?;
    let stamp = Stamp { size: 9, mtime: (-5, 6), ctime: (7, 8), inode: 1 };
    writer.file(&EntryPath::new("a/b")?, stamp, &[segment], &[block, OldBlock::ZERO])?;
    writer.file(&EntryPath::new("c")?, stamp, &[], &[])?;
    let packs = [PackLine { pack: Sha256::of(b"p"), size: 12 }];
    let path = dir.path().join("cache");
    let id = "a--20261123T021500Z--b".parse()?;
    writer.finish(&path, &id, &Sha256::of(b"keys"), &packs)?;
    Ok(fs::read(path)?)
}
