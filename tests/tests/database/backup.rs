//! Whole backups: what the real tool streams, what can go wrong with it, and that a server starts on what comes out.

use std::path::Path;

use database::info::{BackupKind, missing_files, required_files};
use database::tool::{self, BackupRequest};
use database::version::Flavour;
use tests::servers::mariadb::{MariaDb, Options};

use crate::taken::{positions, prepare, request, run, take, tree, unpack, unpack_with_mbstream};

/// Tables of all engines, names that need encoding, partitions.
const TABLES: &str = "
    CREATE DATABASE shop; USE shop;
    CREATE TABLE orders (id INT PRIMARY KEY AUTO_INCREMENT, text VARCHAR(200), KEY (text));
    INSERT INTO orders (text) SELECT MD5(seq) FROM seq_1_to_20000;
    CREATE TABLE my (id INT, text TEXT) ENGINE=MyISAM;
    INSERT INTO my SELECT seq, 'x' FROM seq_1_to_1000;
    CREATE TABLE ar (id INT, text TEXT) ENGINE=Aria;
    INSERT INTO ar SELECT seq, 'x' FROM seq_1_to_1000;
    CREATE TABLE empty (id INT PRIMARY KEY);
    CREATE DATABASE `odd-db 1`;
    CREATE TABLE `odd-db 1`.`a.b/c ü€` (id INT PRIMARY KEY) PARTITION BY HASH (id) PARTITIONS 3;
    INSERT INTO `odd-db 1`.`a.b/c ü€` SELECT seq FROM seq_1_to_100;
    ";
const CHECKSUMS: &str =
    "CHECKSUM TABLE shop.orders, shop.my, shop.ar, shop.empty, `odd-db 1`.`a.b/c ü€`";

fn server() -> MariaDb {
    let server = MariaDb::start(Options { log_bin: true, ..Options::default() }).unwrap();
    server.sql(TABLES).unwrap();
    server
}

#[test]
fn a_real_stream_is_unpacked_as_mbstream_does_it_and_says_where_it_stands() {
    let server = server();
    let taken = take(&server, None);
    let (ours, theirs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let seen = unpack(&taken.stream[..], ours.path(), |_| true).unwrap();
    unpack_with_mbstream(&taken.stream, theirs.path());
    assert!(tree(ours.path()) == tree(theirs.path()), "the trees differ");
    assert_eq!(
        missing_files(&required_files(true, false), |path| seen.files.contains(path)),
        [""; 0]
    );

    let positions = positions(ours.path());
    assert_eq!((positions.kind, positions.flavour), (BackupKind::Full, Flavour::MariaDb));
    assert_eq!(positions.from_lsn, 0);
    assert!(positions.to_lsn > 0 && positions.last_lsn >= positions.to_lsn, "{positions:?}");
    let gtid = server.query("SELECT @@gtid_binlog_pos").unwrap();
    assert_eq!(positions.gtid.as_deref(), Some(gtid.as_str()));
    let master = server.query("SHOW MASTER STATUS").unwrap();
    let binlog = positions.binlog.unwrap();
    assert!(
        master.starts_with(&format!("{}\t{}", binlog.file, binlog.offset)),
        "{master} {binlog:?}"
    );
    assert!(positions.started.is_some() && positions.ended >= positions.started);
    assert!(!positions.partial);
}

#[test]
fn a_real_stream_that_was_cut_is_never_taken_for_a_backup() {
    let taken = take(&server(), None);
    let required = required_files(true, false);
    let length = taken.stream.len();
    // Every place near the end, where the last files are closed, and others by a fixed seed.
    let mut random = 7_u64;
    let anywhere = (0..50).map(|_| {
        random =
            random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) as usize % length
    });
    for cut in anywhere.chain((length - 4000..length).step_by(17)).chain([0, 1, length - 1]) {
        let nowhere = Path::new("/nonexistent");
        let Ok(seen) = unpack(&taken.stream[..cut], nowhere, |_| false) else { continue };
        let missing = missing_files(&required, |path| seen.files.contains(path));
        assert!(!missing.is_empty(), "cut at {cut} of {length}");
    }
}

#[test]
fn a_flipped_bit_in_a_real_stream_is_found() {
    let mut taken = take(&server(), None);
    let nowhere = Path::new("/nonexistent");
    let middle = taken.stream.len() / 2;
    taken.stream[middle] ^= 0x10;
    let error = unpack(&taken.stream[..], nowhere, |_| false).unwrap_err();
    assert!(error.to_string().contains("checksum of"), "{error}");
}

#[test]
fn full_and_increments_prepare_to_a_server_with_the_same_data() {
    let server = server();
    let dirs: [_; 3] = std::array::from_fn(|_| tempfile::tempdir().unwrap());
    let changes = [
        "INSERT INTO shop.orders (text) SELECT seq FROM shop.orders, (SELECT 1 seq) s LIMIT 500;
         CREATE TABLE shop.later (id INT PRIMARY KEY); INSERT INTO shop.my VALUES (5000, 'y');",
        "UPDATE shop.orders SET text = 'changed' WHERE id % 7 = 0; DROP TABLE shop.later;
         INSERT INTO `odd-db 1`.`a.b/c ü€` VALUES (500);",
    ];
    let mut before = None;
    for (dir, change) in dirs.iter().zip([None].into_iter().chain(changes.map(Some))) {
        if let Some(change) = change {
            server.sql(change).unwrap();
        }
        // A checkpoint, so that the increments have LSNs of their own.
        server.sql("SET GLOBAL innodb_log_checkpoint_now = ON").unwrap();
        let lsn = before.as_ref().map(|parent: &database::info::Positions| parent.to_lsn);
        let taken = take(&server, lsn);
        unpack(&taken.stream[..], dir.path(), |_| true).unwrap();
        let now = positions(dir.path());
        if let Some(parent) = &before {
            now.check_parent(parent).unwrap();
            assert!(now.to_lsn > parent.to_lsn, "{now:?} {parent:?}");
            assert!(now.check_parent(&now).is_err());
        }
        before = Some(now);
    }
    let expected = server.query(CHECKSUMS).unwrap();
    let [full, first, second] = dirs.each_ref().map(tempfile::TempDir::path);
    prepare(full, &[first, second], false);
    let restored = MariaDb::start_on(full, Options::default()).unwrap();
    assert_eq!(restored.query(CHECKSUMS).unwrap(), expected);
    assert_eq!(restored.query("SHOW TABLES IN shop LIKE 'later'").unwrap(), "");
}

#[test]
fn tables_that_change_while_the_backup_runs_come_out_as_they_are_at_its_end() {
    // A small Aria log, so that it rotates during the backup: then the tool seeks back in a file it has sent.
    let extra = vec!["--aria-log-file-size=8388608".to_owned()];
    let server = MariaDb::start(Options { log_bin: true, extra, ..Options::default() }).unwrap();
    server.sql(TABLES).unwrap();
    server
        .sql(
            "USE shop; CREATE TABLE old (id INT) ENGINE=MyISAM; INSERT INTO old VALUES (1);
        CREATE TABLE gone (id INT) ENGINE=Aria; CREATE TABLE wide (id INT) ENGINE=MyISAM;
        INSERT INTO wide VALUES (1)",
        )
        .unwrap();
    let option_file = server.option_file().unwrap();
    let target = tempfile::tempdir().unwrap();
    let request = BackupRequest { throttle: Some(100), ..request(&option_file, target.path()) };
    let mut is_changed = false;
    let taken = run(&request, |line| {
        if line.contains("Acquired locks for BACKUP STAGE START") {
            server
                .sql(
                    "USE shop; RENAME TABLE old TO new; DROP TABLE gone;
                ALTER TABLE wide ADD COLUMN more INT; RENAME TABLE empty TO full;
                INSERT INTO full VALUES (1);
                CREATE TABLE fresh (id INT PRIMARY KEY); INSERT INTO fresh VALUES (1);
                INSERT INTO ar SELECT seq, REPEAT('y', 1000) FROM seq_1_to_10000",
                )
                .unwrap();
            is_changed = true;
        }
    });
    assert!(is_changed && taken.is_success && tool::is_complete(&taken.log), "{}", taken.log);

    let (ours, theirs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let seen = unpack(&taken.stream[..], ours.path(), |_| true).unwrap();
    assert!(
        seen.removed > 0 && seen.renamed > 0 && seen.rewritten > 0 && seen.overwritten > 0,
        "{seen:?}"
    );
    unpack_with_mbstream(&taken.stream, theirs.path());
    assert!(tree(ours.path()) == tree(theirs.path()), "the trees differ");

    let checksums =
        "CHECKSUM TABLE shop.orders, shop.my, shop.ar, shop.new, shop.wide, shop.full, shop.fresh";
    let expected = server.query(checksums).unwrap();
    prepare(ours.path(), &[], false);
    let restored = MariaDb::start_on(ours.path(), Options::default()).unwrap();
    assert_eq!(restored.query(checksums).unwrap(), expected);
    let tables = "SHOW TABLES IN shop";
    assert_eq!(restored.query(tables).unwrap(), server.query(tables).unwrap());
}
