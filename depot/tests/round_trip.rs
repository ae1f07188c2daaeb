//! Snapshots through the writer and back through the reader, on a store in memory: what goes in
//! comes out, what has not changed is not stored again, and what fails leaves nothing behind that
//! could be taken for a backup.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use chassis::progress::Progress;
use chassis::retry::Stop;
use depot::block::{BlockKey, Cuts};
use depot::crypt::{Identities, Recipients, generate_identity};
use depot::depot::Depot;
use depot::manifest::{BlockRef, EntryKind, EntryPath, Line, Problem, SnapshotKind, SnapshotState};
use depot::names::SnapshotId;
use depot::reader::{BlockDecoder, PackReader, SnapshotReader};
use depot::store::memory::MemoryStore;
use depot::store::{Body, Store};
use depot::verify::{Depth, verify, verify_deep};
use depot::writer::{Report, SnapshotWriter, Stamp, Tuning, WriterOptions};
use rand::rngs::StdRng;
use rand::{Rng, RngCore, SeedableRng};

type Tree = BTreeMap<String, Vec<u8>>;

struct Bench {
    dir: tempfile::TempDir,
    recipients: Recipients,
    identities: Identities,
    key: BlockKey,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("scratch");
        let (secret, public) = generate_identity();
        let file = dir.path().join("identity");
        std::fs::write(&file, secret.expose()).expect("write identity");
        Self {
            recipients: Recipients::parse(&[public]).expect("own key"),
            identities: Identities::from_file(&file).expect("own key"),
            key: BlockKey::generate(),
            dir,
        }
    }

    fn state(&self) -> &Path {
        self.dir.path()
    }

    fn options(&self, second: u32) -> WriterOptions {
        let id = format!("site--20261123T0215{second:02}Z--web1").parse().expect("valid id");
        WriterOptions {
            id,
            kind: SnapshotKind::Files,
            root: "/srv".into(),
            program: "test".into(),
            key: self.key.clone(),
            recipients: self.recipients.clone(),
            parent: None,
            state_dir: self.state().join("job"),
            tuning: Tuning { pack_bytes: 1 << 20, ..Tuning::default() },
            stop: Stop::never(),
            progress: Arc::new(Progress::default()),
        }
    }

    fn backup(&self, second: u32, tree: &Tree, depots: &[Arc<Depot>]) -> anyhow::Result<Report> {
        let mut writer = SnapshotWriter::start(self.options(second), depots.to_vec())?;
        feed(&mut writer, tree)?;
        writer.finish(None)
    }

    fn restore(&self, depot: &Depot, id: &SnapshotId) -> anyhow::Result<Tree> {
        let mut reader = SnapshotReader::open(depot, id, &self.identities)?;
        let key = BlockKey(reader.head().key);
        let cuts = reader.head().cuts.clone();
        let packs: Vec<_> = reader.packs().to_vec();
        let payloads: Vec<_> = packs
            .iter()
            .map(|pack| Ok(PackReader::new(depot, &self.identities).open(pack)?.to_vec()))
            .collect::<anyhow::Result<_>>()?;
        let mut decoder = BlockDecoder::new(key)?;
        let mut earlier: BTreeMap<u64, Vec<BlockRef>> = BTreeMap::new();
        let mut tree = Tree::new();
        while let Some(line) = reader.next_line()? {
            let entry = match line {
                Line::Blocks { file, mut blocks } => {
                    earlier.entry(file).or_default().append(&mut blocks);
                    continue;
                }
                Line::Entry(entry) => entry,
                other => panic!("unexpected {other:?}"),
            };
            let mut refs = entry.file.and_then(|n| earlier.remove(&n)).unwrap_or_default();
            refs.extend(&entry.blocks);
            let mut content = Vec::new();
            let mut places = cuts.blocks_of(entry.size);
            for block in refs {
                match block {
                    BlockRef::Zeros(count) => (0..count).for_each(|_| {
                        let (_, length) = places.next().expect("a place for each block");
                        content.resize(content.len() + length as usize, 0);
                    }),
                    BlockRef::Stored(b) => {
                        let (_, length) = places.next().expect("a place for each block");
                        let from = b.offset as usize;
                        let stored = &payloads[b.pack as usize][from..from + b.stored as usize];
                        content.extend(decoder.decode(stored, &b.name, length as usize)?);
                    }
                }
            }
            assert_eq!(entry.kind, EntryKind::File);
            assert!(places.next().is_none(), "a block for each place");
            assert_eq!(content.len() as u64, entry.size);
            tree.insert(entry.path.lossy().into_owned(), content);
        }
        Ok(tree)
    }
}

/// Writes the files of a tree in turns, as an xbstream of parallel readers does.
fn feed(writer: &mut SnapshotWriter, tree: &Tree) -> anyhow::Result<()> {
    let mut open = Vec::new();
    for (path, content) in tree {
        open.push((writer.open(EntryPath::new(path.as_bytes())?)?, content.chunks(100_000)));
        if open.len() < 3 {
            continue;
        }
        for (file, chunks) in &mut open {
            for chunk in chunks.by_ref().take(2) {
                writer.write(*file, chunk)?;
            }
        }
        let (file, rest) = open.remove(0);
        rest.into_iter().try_for_each(|chunk| writer.write(file, chunk))?;
        writer.close(file, None, false, Stamp::default())?;
    }
    for (file, rest) in open {
        rest.into_iter().try_for_each(|chunk| writer.write(file, chunk))?;
        writer.close(file, None, false, Stamp::default())?;
    }
    Ok(())
}

fn new_depot(name: &str) -> Arc<Depot> {
    Arc::new(Depot::init_store(name, Store::Memory(MemoryStore::default())).expect("init"))
}

fn random_tree(seed: u64) -> Tree {
    drop(writeln!(std::io::stderr(), "seed {seed}"));
    let mut random = StdRng::seed_from_u64(seed);
    let mut tree = Tree::new();
    for number in 0..24 {
        let length = match number % 4 {
            0 => random.random_range(0..10),
            1 => random.random_range(0..200_000),
            2 => 65536 * random.random_range(0..4),
            _ => random.random_range(0..3_000_000),
        };
        let mut content = vec![0; length];
        match number % 3 {
            0 => random.fill_bytes(&mut content),
            1 => content.iter_mut().for_each(|b| *b = random.random_range(b'a'..=b'f')),
            _ => {
                let half = content.len() / 2;
                random.fill_bytes(&mut content[half..]);
            }
        }
        tree.insert(format!("dir/file{number}"), content);
    }
    tree
}

fn packs_in(depot: &Depot) -> usize {
    depot.pack_sizes().expect("list").len()
}

#[test]
fn what_goes_in_comes_out() {
    let bench = Bench::new();
    let depot = new_depot("main");
    let tree = random_tree(7);
    let report = bench.backup(1, &tree, std::slice::from_ref(&depot)).expect("backup");
    assert_eq!(report.state, SnapshotState::Complete);
    assert_eq!(report.totals.entries, tree.len() as u64);
    assert_eq!(report.totals.bytes, tree.values().map(|c| c.len() as u64).sum::<u64>());
    assert!(bench.restore(&depot, &report.id).expect("restore") == tree);
    let needs = depot.needs(&report.id).expect("needs");
    assert_eq!(needs.packs.len(), packs_in(&depot));
    let mut small = Identities::default();
    std::mem::swap(&mut small, &mut Bench::new().identities);
    assert!(SnapshotReader::open(&depot, &report.id, &small).is_err(), "another identity");
}

#[test]
fn an_unchanged_tree_stores_nothing_new() {
    let bench = Bench::new();
    let depot = new_depot("main");
    let mut tree = random_tree(8);
    let first = bench.backup(1, &tree, std::slice::from_ref(&depot)).expect("first");
    let count = packs_in(&depot);
    let second = bench.backup(2, &tree, std::slice::from_ref(&depot)).expect("second");
    assert_eq!(second.totals.stored, 0);
    assert_eq!(packs_in(&depot), count);
    tree.get_mut("dir/file3").expect("is there").extend_from_slice(b"more");
    tree.remove("dir/file7");
    tree.insert("dir/new".into(), vec![9; 100_000]);
    let third = bench.backup(3, &tree, std::slice::from_ref(&depot)).expect("third");
    assert!(third.totals.stored > 0 && third.totals.stored < first.totals.stored / 20);
    assert!(bench.restore(&depot, &third.id).expect("restore") == tree);
}

#[test]
fn other_recipients_or_another_key_mean_a_full_backup() {
    let mut bench = Bench::new();
    let depot = new_depot("main");
    let tree = random_tree(9);
    let first = bench.backup(1, &tree, std::slice::from_ref(&depot)).expect("first");
    bench.key = BlockKey::generate();
    let second = bench.backup(2, &tree, std::slice::from_ref(&depot)).expect("second");
    assert!(second.totals.stored * 10 > first.totals.stored * 9);
    let other = Bench::new();
    bench.recipients = other.recipients;
    let third = bench.backup(3, &tree, std::slice::from_ref(&depot)).expect("third");
    assert!(third.totals.stored * 10 > first.totals.stored * 9);
}

#[test]
fn a_run_that_is_dropped_or_stopped_commits_nothing() {
    let bench = Bench::new();
    let depot = new_depot("main");
    let tree = random_tree(10);
    let mut writer = SnapshotWriter::start(bench.options(1), vec![depot.clone()]).expect("start");
    feed(&mut writer, &tree).expect("feed");
    drop(writer);
    assert!(depot.snapshots().expect("list").is_empty());
    let mut options = bench.options(2);
    let stop = Stop::new();
    options.stop = stop.clone();
    let mut writer = SnapshotWriter::start(options, vec![depot.clone()]).expect("start");
    feed(&mut writer, &tree).expect("feed");
    stop.stop();
    let error = writer.finish(None).expect_err("is stopped");
    assert_eq!(chassis::failure::exit_of(&error), chassis::failure::Exit::Interrupted);
    assert!(depot.snapshots().expect("list").is_empty());
    let report = bench.backup(3, &tree, std::slice::from_ref(&depot)).expect("next run");
    assert!(bench.restore(&depot, &report.id).expect("restore") == tree);
}

#[test]
fn problems_are_bounded_in_bytes_and_the_first_is_told() {
    let (bench, depot) = (Bench::new(), new_depot("main"));
    let mut writer = SnapshotWriter::start(bench.options(1), vec![depot.clone()]).expect("start");
    for length in [5 << 20, 100, 2 << 20, 3 << 20, 1900 << 10, 400 << 10, 5] {
        writer.problem(Problem { path: "é".repeat(length / 2), what: "x".into() });
    }
    let report = writer.finish(None).expect("finish");
    assert_eq!(report.state, SnapshotState::Partial);
    let lengths: Vec<_> = report.problems.iter().map(|problem| problem.path.len()).collect();
    assert_eq!(lengths, [64 << 10, 100, 2 << 20, 1900 << 10, 4]);
    let reader = SnapshotReader::open(&depot, &report.id, &bench.identities).expect("it is read");
    assert_eq!(reader.head().problems, report.problems);
}

#[test]
fn a_file_begun_anew_counts_once_and_a_problem_makes_it_partial() {
    let bench = Bench::new();
    let depot = new_depot("main");
    let mut writer = SnapshotWriter::start(bench.options(1), vec![depot.clone()]).expect("start");
    let path = EntryPath::new("a").expect("valid");
    let file = writer.open(path.clone()).expect("open");
    writer.write(file, &vec![1; 300_000]).expect("write");
    writer.abandon(file).expect("abandon");
    let file = writer.open(path).expect("open");
    writer.write(file, &vec![2; 100_000]).expect("write");
    writer.skip(file, 1 << 20).expect("skip");
    writer.write(file, &[3; 10]).expect("write");
    writer.close(file, None, true, Stamp::default()).expect("close");
    writer.problem(Problem { path: "a".into(), what: "changed while it was read".into() });
    let report = writer.finish(None).expect("finish");
    assert_eq!(report.state, SnapshotState::Partial);
    let tree = bench.restore(&depot, &report.id).expect("restore");
    let mut expected = vec![2; 100_000];
    expected.resize(expected.len() + (1 << 20), 0);
    expected.extend_from_slice(&[3; 10]);
    assert!(tree["a"] == expected);
}

#[test]
fn large_files_span_several_lines_and_segments() {
    let bench = Bench::new();
    let depot = new_depot("main");
    let mut tree = Tree::new();
    let mut content = vec![0; 5000 * 4096 + 17];
    StdRng::seed_from_u64(11).fill_bytes(&mut content);
    tree.insert("large".into(), content);
    let run = |second, tree: &Tree| {
        let mut options = bench.options(second);
        options.tuning.cuts = Cuts::uniform(4096);
        let mut writer = SnapshotWriter::start(options, vec![depot.clone()]).expect("start");
        feed(&mut writer, tree).expect("feed");
        writer.finish(None).expect("finish")
    };
    let first = run(1, &tree);
    assert!(bench.restore(&depot, &first.id).expect("restore") == tree);
    tree.get_mut("large").expect("is there")[4500 * 4096] ^= 1;
    let second = run(2, &tree);
    assert!(second.totals.stored < 10_000, "one block of 4 KiB: {}", second.totals.stored);
    assert!(bench.restore(&depot, &second.id).expect("restore") == tree);
}

#[test]
fn parts_of_a_pack_are_fetched_without_the_rest() {
    let bench = Bench::new();
    let depot = new_depot("main");
    let report = bench.backup(1, &random_tree(12), std::slice::from_ref(&depot)).expect("backup");
    let reader = SnapshotReader::open(&depot, &report.id, &bench.identities).expect("open");
    let pack = reader.packs()[0];
    let mut packs = PackReader::new(&depot, &bench.identities);
    let whole = packs.open(&pack).expect("open pack").to_vec();
    let mut random = StdRng::seed_from_u64(12);
    let mut ranges = vec![(0, 1), (65536, 65536), (0, whole.len() as u32)];
    for _ in 0..50 {
        let from = random.random_range(0..whole.len());
        ranges.push((from as u32, random.random_range(0..=whole.len() - from) as u32));
    }
    let parts = packs.open_parts(&pack, &ranges).expect("parts");
    for (&(from, length), part) in ranges.iter().zip(&parts) {
        assert!(part[..] == whole[from as usize..][..length as usize], "{from} {length}");
        assert!(packs.salvage((from, length)).expect("undamaged") == *part, "{from} {length}");
    }
    let end = whole.len() as u32;
    for outside in
        [(end, 1), (end - 1, 2), (0, end + 1), (u32::MAX, 1), (end / 65536 * 65536, 65536)]
    {
        assert!(packs.open_parts(&pack, &[outside]).is_err(), "{outside:?}");
        assert!(packs.open_parts(&pack, &[(0, 1), outside]).is_err(), "{outside:?}");
        assert!(packs.salvage(outside).is_err(), "{outside:?}");
    }
}

#[test]
fn a_damaged_end_of_a_pack_hurts_only_itself() {
    let bench = Bench::new();
    let depot = new_depot("main");
    let mut content = vec![0; 700_000];
    StdRng::seed_from_u64(13).fill_bytes(&mut content);
    let tree = Tree::from([("a".to_owned(), content)]);
    let report = bench.backup(1, &tree, std::slice::from_ref(&depot)).expect("backup");
    let reader = SnapshotReader::open(&depot, &report.id, &bench.identities).expect("open");
    let pack = reader.packs()[0];
    let mut packs = PackReader::new(&depot, &bench.identities);
    let whole = packs.open(&pack).expect("open pack").to_vec();
    let object = pack.pack.pack_object();
    let mut bytes = depot.store().read(&object).expect("read pack");
    *bytes.last_mut().expect("not empty") ^= 1;
    depot.store().delete(&object).expect("delete");
    depot.store().create(&object, Body::Bytes(&bytes)).expect("one bit flipped");
    packs.open(&pack).expect_err("it is damaged");
    let last = whole.len() as u32 / 65536 * 65536;
    for chunk in (0..last).step_by(65536) {
        let part = packs.salvage((chunk, 65536)).expect("this chunk is whole");
        assert!(part == whole[chunk as usize..][..65536], "{chunk}");
    }
    assert!(packs.salvage((last, 1)).is_err(), "the last chunk is damaged");
}

#[test]
fn a_depot_that_missed_runs_is_caught_up() {
    let bench = Bench::new();
    let (one, two) = (new_depot("one"), new_depot("two"));
    let mut tree = random_tree(13);
    let both = [one.clone(), two.clone()];
    bench.backup(1, &tree, &both).expect("both");
    tree.insert("dir/second".into(), b"second".to_vec());
    let missed = bench.backup(2, &tree, std::slice::from_ref(&one)).expect("one only");
    assert!(bench.restore(&two, &missed.id).is_err());
    tree.insert("dir/third".into(), b"third".to_vec());
    let third = bench.backup(3, &tree, &both).expect("both again");
    assert_eq!(third.depots[1].caught_up, 1);
    assert!(bench.restore(&two, &third.id).expect("restore") == tree);
    tree.remove("dir/third");
    assert!(bench.restore(&two, &missed.id).expect("restore the missed one") == tree);
}

#[test]
fn a_depot_that_missed_the_very_first_run_is_caught_up_and_a_newer_one_is_not() {
    let bench = Bench::new();
    let (one, newer) = (new_depot("one"), new_depot("newer"));
    let store = Store::Memory(MemoryStore::default());
    let text =
        format!("format = 1\nid = \"{}\"\ncreated = \"2026-11-22T00:00:00Z\"\n", "a".repeat(32));
    store.create("depot.toml", Body::Bytes(text.as_bytes())).expect("describe");
    let older = Arc::new(Depot::init_store("older", store).expect("complete"));
    let tree = random_tree(16);
    let missed = bench.backup(1, &tree, std::slice::from_ref(&one)).expect("one only");
    let second = bench.backup(2, &tree, &[one, older.clone(), newer.clone()]).expect("all");
    let caught_up: Vec<u64> = second.depots.iter().map(|depot| depot.caught_up).collect();
    assert_eq!(caught_up, [0, 1, 0]);
    assert!(bench.restore(&older, &missed.id).expect("restore the missed one") == tree);
    assert!(bench.restore(&newer, &missed.id).is_err());
}

#[test]
fn a_torn_pack_is_put_again_and_may_be_swept() {
    let bench = Bench::new();
    let depot = new_depot("main");
    let tree = random_tree(14);
    let first = bench.backup(1, &tree, std::slice::from_ref(&depot)).expect("backup");
    let pack = depot.needs(&first.id).expect("needs").packs[0];
    let object = pack.pack.pack_object();
    let whole = depot.get(&object, Some(pack.size), Some(pack.pack)).expect("get");
    depot.store().delete(&object).expect("delete");
    depot.store().create(&object, Body::Bytes(&whole[..100])).expect("tear");
    depot.put(&object, Body::Bytes(&whole), pack.size, pack.pack).expect("put again");
    assert!(bench.restore(&depot, &first.id).expect("restore beside the torn one") == tree);
    depot.store().delete(&object).expect("sweep");
    assert!(bench.restore(&depot, &first.id).expect("restore after the sweep") == tree);
    depot.put(&object, Body::Bytes(&whole), pack.size, pack.pack).expect("put is idempotent");
}

#[test]
fn a_torn_manifest_is_no_snapshot_for_the_keeper() {
    let bench = Bench::new();
    let depot = new_depot("main");
    let tree = random_tree(15);
    let first = bench.backup(1, &tree, std::slice::from_ref(&depot)).expect("first");
    let second = bench.backup(2, &tree, std::slice::from_ref(&depot)).expect("second");
    let object = second.id.manifest_object();
    depot.store().delete(&object).expect("delete");
    depot.store().create(&object, Body::Bytes(b"torn")).expect("tear");
    assert!(depot.needs(&second.id).is_err());
    let survey = depot::retention::survey(&depot).expect("survey");
    assert_eq!(survey.snapshots.iter().map(|k| &k.id).collect::<Vec<_>>(), [&first.id]);
    assert_eq!(survey.orphans.len(), 2);
    assert!(bench.restore(&depot, &first.id).expect("the first is well") == tree);
}

#[test]
fn two_depots_with_one_id_and_a_taken_snapshot_id_are_refused() {
    let bench = Bench::new();
    let depot = new_depot("main");
    let twice = vec![depot.clone(), depot.clone()];
    assert!(SnapshotWriter::start(bench.options(1), twice).is_err());
    bench.backup(1, &random_tree(16), std::slice::from_ref(&depot)).expect("backup");
    let error = bench.backup(1, &Tree::new(), &[depot]).expect_err("the id is taken");
    assert!(format!("{error:#}").contains("already"), "{error:#}");
}

#[test]
fn verify_names_what_is_damaged_and_deep_verify_the_files() {
    let bench = Bench::new();
    let depot = new_depot("main");
    let report = bench.backup(1, &random_tree(17), std::slice::from_ref(&depot)).expect("backup");
    let ids = [report.id.clone()];
    let (progress, stop) = (Progress::default(), Stop::never());
    let well = verify(&depot, &ids, Depth::Checksums, &progress, &stop).expect("verify");
    assert!(well.findings.is_empty(), "{well:?}");
    let deep = verify_deep(&depot, &report.id, &bench.identities, &progress, &stop).expect("deep");
    assert!(deep.findings.is_empty() && deep.blocks > 50, "{deep:?}");
    let pack = depot.needs(&report.id).expect("needs").packs[0];
    let object = pack.pack.pack_object();
    let mut bytes = depot.get(&object, None, None).expect("get");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    depot.store().delete(&object).expect("delete");
    depot.store().create(&object, Body::Bytes(&bytes)).expect("one bit flipped");
    let quick = verify(&depot, &ids, Depth::Presence, &progress, &stop).expect("verify");
    assert!(quick.findings.is_empty(), "sizes are right");
    let found = verify(&depot, &ids, Depth::Checksums, &progress, &stop).expect("verify").findings;
    assert_eq!((found.len(), &found[0].object), (1, &object));
    let deep = verify_deep(&depot, &report.id, &bench.identities, &progress, &stop).expect("deep");
    assert_eq!(deep.findings.len(), 1);
    assert!(!deep.findings[0].hurts.is_empty(), "{deep:?}");
}

#[test]
fn an_export_is_a_tar_archive_of_everything() {
    let bench = Bench::new();
    let depot = new_depot("main");
    let tree = random_tree(18);
    let report = bench.backup(1, &tree, std::slice::from_ref(&depot)).expect("backup");
    let progress = Progress::default();
    let (archive, entries) =
        depot::export::tar(&depot, &report.id, &bench.identities, Vec::new(), &progress)
            .expect("export");
    assert_eq!(entries, tree.len() as u64);
    let mut found = Tree::new();
    for entry in tar::Archive::new(&archive[..]).entries().expect("entries") {
        let mut entry = entry.expect("entry");
        let path = entry.path().expect("path").to_string_lossy().into_owned();
        let mut content = Vec::new();
        std::io::Read::read_to_end(&mut entry, &mut content).expect("content");
        found.insert(path, content);
    }
    assert!(found == tree);
}
