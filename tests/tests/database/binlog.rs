//! Binary logs that a real server wrote, read by us and by `mariadb-binlog`.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use database::binlog::{
    BinlogError, Event, EventKind, EventReader, Splitter, Statement, Step, Summary,
};
use database::gtid::{Gtid, GtidSet};
use tests::servers::mariadb::{MariaDb, Options};

/// Everything that ends a transaction in a way of its own.
const STATEMENTS: &str = "
    CREATE DATABASE shop; USE shop;
    CREATE TABLE orders (id INT PRIMARY KEY AUTO_INCREMENT, text LONGTEXT);
    CREATE TABLE items (a INT) ENGINE=MyISAM;
    CREATE TABLE nokey (a INT, b TIMESTAMP);
    INSERT INTO orders (text) SELECT REPEAT(MD5(seq), 20) FROM seq_1_to_2000;
    FLUSH BINARY LOGS;
    BEGIN; INSERT INTO orders (text) VALUES ('a'); SAVEPOINT s; DELETE FROM nokey; ROLLBACK TO s;
    UPDATE orders SET text = 'b' WHERE id < 5; COMMIT;
    INSERT INTO items VALUES (1), (2);
    BEGIN; INSERT INTO items VALUES (3); INSERT INTO orders (text) VALUES ('c'); ROLLBACK;
    XA START 'x'; INSERT INTO orders (text) VALUES ('xa'); XA END 'x'; XA PREPARE 'x';
    XA COMMIT 'x';
    XA START 'y'; INSERT INTO orders (text) VALUES ('xa'); XA END 'y'; XA COMMIT 'y' ONE PHASE;
    XA START 'z'; INSERT INTO orders (text) VALUES ('xa'); XA END 'z'; XA PREPARE 'z';
    XA ROLLBACK 'z';
    CREATE TABLE made AS SELECT * FROM orders WHERE id < 10;
    CREATE TEMPORARY TABLE temp (a INT); INSERT INTO temp VALUES (1);
    INSERT INTO items SELECT a FROM temp; DROP TEMPORARY TABLE temp;
    SET SESSION binlog_format = STATEMENT; SET @v = 3;
    INSERT INTO nokey (a) VALUES (@v); UPDATE nokey SET a = RAND(7);
    SET SESSION binlog_format = ROW;
    SET SESSION gtid_domain_id = 5; INSERT INTO nokey (a) VALUES (9);
    SET SESSION gtid_domain_id = 0; SET timestamp = 1000000000; INSERT INTO nokey (a) VALUES (8);
    SET timestamp = DEFAULT; SET NAMES latin1; INSERT INTO orders (text) VALUES ('\\xe4');
    ALTER TABLE orders ADD COLUMN c INT COMMENT 'long long long long long long long long long long
      long long long long long long long long long long long long long long long long long long
      long long long long long long long long long long long long long long long long long long';
    TRUNCATE TABLE made; RENAME TABLE made TO used; DROP TABLE used, nokey;
    CREATE USER u; GRANT SELECT ON *.* TO u; ANALYZE TABLE orders;
    ";

/// What we found in a server's files.
#[derive(Default)]
struct Found {
    gtids: Vec<Gtid>,
    summaries: Vec<Summary>,
    /// Where each event begins and ends in its file.
    places: Vec<(u64, u32)>,
}

fn files(server: &MariaDb) -> Vec<PathBuf> {
    let names = server.query("SHOW BINARY LOGS").unwrap();
    let names = names.lines().filter_map(|line| line.split('\t').next());
    names.map(|name| server.datadir().join(name)).collect()
}

/// Reads a file; a copy of it must come out the same.
fn read(path: &Path, found: &mut Found) {
    let mut reader = EventReader::of_file(BufReader::new(File::open(path).unwrap())).unwrap();
    let mut splitter = Splitter::default();
    let mut copy = database::binlog::MAGIC.to_vec();
    while let Some(event) = reader.next(&mut copy).unwrap() {
        found.places.push((event.position, event.header.next_position));
        take(&mut splitter, &event, found);
    }
    assert!(!splitter.is_open(), "{} ends within a transaction", path.display());
    assert!(copy == fs::read(path).unwrap(), "{} was not copied as it is", path.display());
}

fn take(splitter: &mut Splitter, event: &Event<'_>, found: &mut Found) {
    match splitter.step(event).unwrap() {
        Step::End(summary) => {
            found.gtids.push(summary.gtid.clone());
            found.summaries.push(*summary);
        }
        Step::Outside { abandoned } | Step::Begin { abandoned } => assert!(!abandoned),
        Step::Inside | Step::Heartbeat => {}
    }
}

/// What `mariadb-binlog` says is in the files: ids in order, and where events begin and end.
fn expected(files: &[PathBuf]) -> (Vec<Gtid>, BTreeSet<u64>, BTreeSet<u64>) {
    let output = Command::new("mariadb-binlog").args(["--no-defaults", "-vv"]).args(files).output();
    let output = output.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout);
    let (mut gtids, mut begins, mut ends) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
    let first_word = |text: &str| text.split_whitespace().next().map(str::to_owned);
    for line in text.lines().filter(|line| line.starts_with('#')) {
        begins.extend(line.strip_prefix("# at ").and_then(|at| at.parse::<u64>().ok()));
        if let Some((_, rest)) = line.split_once("end_log_pos ") {
            ends.extend(first_word(rest).and_then(|end| end.parse::<u64>().ok()));
        }
        if let Some((_, rest)) = line.split_once("\tGTID ") {
            gtids.extend(first_word(rest).and_then(|gtid| gtid.parse::<Gtid>().ok()));
        }
    }
    (gtids, begins, ends)
}

fn start(extra: &[&str]) -> MariaDb {
    let extra = extra.iter().map(ToString::to_string).collect();
    MariaDb::start(Options { log_bin: true, extra, ..Options::default() }).unwrap()
}

fn check(extra: &[&str]) -> Found {
    let server = start(extra);
    server.sql(STATEMENTS).unwrap();
    server.sql("FLUSH BINARY LOGS").unwrap();
    let files = files(&server);
    let mut found = Found::default();
    for path in &files {
        read(path, &mut found);
    }
    let (gtids, begins, ends) = expected(&files);
    assert!(gtids.len() > 25, "only {} transactions", gtids.len());
    assert_eq!(found.gtids, gtids);
    assert_eq!(found.places.iter().map(|place| place.0).collect::<BTreeSet<_>>(), begins);
    assert_eq!(found.places.iter().map(|place| u64::from(place.1)).collect::<BTreeSet<_>>(), ends);
    check_set(&server, &found);
    found
}

/// Everything is there without a gap, up to where the server stands.
fn check_set(server: &MariaDb, found: &Found) {
    let mut set = GtidSet::default();
    for gtid in &found.gtids {
        set.insert(gtid);
    }
    assert!(set.gaps().is_empty(), "{set}");
    let position = server.query("SELECT @@gtid_binlog_pos").unwrap();
    let position: database::gtid::Position = position.trim().parse().unwrap();
    assert_eq!(position.to_set(), set);
}

#[test]
fn real_logs_are_read_as_the_server_s_own_tool_reads_them() {
    let found = check(&["--binlog-format=ROW", "--binlog-annotate-row-events"]);
    let touched = |wanted: Statement, table: &str| {
        let is_it = |summary: &&Summary| {
            summary.tables.iter().any(|touched| {
                touched.table.to_string() == table && touched.statements.contains(&wanted)
            })
        };
        found.summaries.iter().filter(is_it).count()
    };
    assert_eq!(touched(Statement::Drop, "shop.used"), 1);
    assert_eq!(touched(Statement::Drop, "shop.nokey"), 1);
    assert_eq!(touched(Statement::Truncate, "shop.made"), 1);
    assert_eq!(touched(Statement::Rename, "shop.made"), 1);
    assert_eq!(touched(Statement::Alter, "shop.orders"), 1);
    assert_eq!(touched(Statement::Update, "shop.orders"), 1);
    assert_eq!(touched(Statement::Create, "shop.made"), 1);
    assert_eq!(found.summaries.iter().filter(|summary| summary.is_prepared).count(), 2);
    // The time of a transaction is that of its session, which may be set.
    assert!(found.summaries.iter().any(|summary| summary.committed == 1_000_000_000_000_000));
}

#[test]
fn logs_without_checksums_and_compressed_ones_are_read_too() {
    check(&["--binlog-format=ROW", "--binlog-checksum=NONE"]);
    let found =
        check(&["--binlog-format=ROW", "--log-bin-compress", "--log-bin-compress-min-len=10"]);
    let altered = |summary: &&Summary| {
        summary.text.as_ref().is_some_and(|text| text.starts_with("ALTER TABLE orders ADD COLUMN"))
    };
    assert_eq!(found.summaries.iter().filter(altered).count(), 1);
    check(&["--binlog-format=STATEMENT"]);
}

#[test]
fn a_transaction_without_an_end_is_abandoned() {
    let server = start(&["--binlog-format=ROW"]);
    server.sql("CREATE DATABASE shop; CREATE TABLE shop.t (a INT);").unwrap();
    server.sql("INSERT INTO shop.t VALUES (1); FLUSH BINARY LOGS").unwrap();
    let bytes = fs::read(&files(&server)[0]).unwrap();
    let mut whole = EventReader::of_file(&bytes[..]).unwrap();
    let mut events = Vec::new();
    let mut copy = Vec::new();
    while let Some(event) = whole.next(&mut copy).unwrap() {
        events.push((event.header.kind, std::mem::take(&mut copy)));
    }
    // The last row, and then what comes after a crash: a new file.
    let last = events.iter().rposition(|(kind, _)| kind.rows().is_some()).unwrap();
    let mut cut: Vec<u8> = events[..=last].iter().flat_map(|(_, bytes)| bytes.clone()).collect();
    cut.write_all(&events[0].1).unwrap();
    let mut reader = EventReader::of_events(&cut[..], database::binlog::Checksum::Crc32);
    let mut splitter = Splitter::default();
    let mut abandoned = 0;
    while let Some(event) = reader.next(&mut io::sink()).unwrap() {
        if splitter.step(&event).unwrap() == (Step::Outside { abandoned: true }) {
            abandoned += 1;
            assert_eq!(event.header.kind, EventKind::FORMAT_DESCRIPTION);
        }
    }
    assert_eq!((abandoned, splitter.is_open()), (1, false));
}

#[test]
fn every_bit_that_flips_is_found_out() {
    let server = start(&[]);
    server.sql("CREATE DATABASE shop; CREATE TABLE shop.t (a INT);").unwrap();
    server.sql("FLUSH BINARY LOGS").unwrap();
    let bytes = fs::read(&files(&server)[0]).unwrap();
    let read = |bytes: &[u8]| -> Result<u64, BinlogError> {
        let mut reader = EventReader::of_file(bytes)?;
        while reader.next(&mut io::sink())?.is_some() {}
        Ok(reader.position())
    };
    assert_eq!(read(&bytes).unwrap(), bytes.len() as u64);
    // The flag of a file in use has no checksum, as it is taken away without changing it.
    let in_use = 4 + 17;
    for place in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[place] ^= 1;
        assert_eq!(read(&damaged).is_ok(), place == in_use, "byte {place}");
    }
    for length in 5..bytes.len() {
        let end = read(&bytes[..length]);
        let is_boundary = end.as_ref().is_ok_and(|position| *position == length as u64);
        assert!(is_boundary || matches!(end, Err(BinlogError::Truncated { .. })), "{length}");
    }
}
