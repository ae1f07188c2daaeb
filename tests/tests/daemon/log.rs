//! The live archive of a real server's binary log: what is in the depot is what the server wrote,
//! whatever dies or is cut in between, and what is missing is said.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufReader, Read, sink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use database::binlog::{EventReader, Splitter, Step};
use database::gtid::{Gtid, GtidSet, Position};
use depot::crypt::Identities;
use depot::depot::Depot;
use depot::log::{Catalog, Kind, LogObject};
use depot::store::{Store, StoreConfig};
use rustix::process::Signal;
use serde_json::Value;
use tests::servers::mariadb::{MariaDb, Options};

use super::lab::{Daemon, Lab, wait_for};

const TABLES: &str = "CREATE DATABASE shop; USE shop;
    CREATE TABLE t (id INT AUTO_INCREMENT PRIMARY KEY, v LONGTEXT);
    CREATE TABLE u (a INT, b TIMESTAMP);";

/// Ids and checksums of transactions, in the order of commits.
pub(crate) type Transactions = Vec<(Gtid, u32)>;

fn server() -> MariaDb {
    let extra = ["--binlog-format=ROW", "--gtid-strict-mode=ON", "--sync-binlog=1"];
    let extra = extra.map(str::to_owned).to_vec();
    let server = MariaDb::start(Options { log_bin: true, extra, ..Options::default() }).unwrap();
    server.sql(TABLES).unwrap();
    server
}

fn job(server: &MariaDb, lines: &str) -> String {
    let file = server.option_file().unwrap();
    format!(
        "[jobs.shop.log]\ntool = 'mariadb-backup'\noption-file = '{}'\nmax-lag = '1s'\n{lines}\n",
        file.display()
    )
}

pub(crate) fn depot(lab: &Lab) -> Depot {
    let text = format!("[directory]\npath = '{}'\n", lab.path("depot").display());
    let config: StoreConfig = chassis::config::parse("x", &text).unwrap();
    Depot::from_store("vault", Store::open(&config).unwrap()).unwrap()
}

fn position(server: &MariaDb) -> GtidSet {
    let position = server.query("SELECT @@gtid_binlog_pos").unwrap();
    position.trim().parse::<Position>().unwrap().to_set()
}

/// The transactions of a binlog file.
pub(crate) fn transactions(binlog: impl Read) -> Transactions {
    let mut reader = EventReader::of_file(binlog).unwrap();
    let mut splitter = Splitter::default();
    let mut found = Vec::new();
    while let Some(event) = reader.next(&mut sink()).unwrap() {
        if let Step::End(summary) = splitter.step(&event).unwrap() {
            found.push((summary.gtid, summary.sum));
        }
    }
    assert!(!splitter.is_open());
    found
}

/// What the server itself has.
fn of_server(server: &MariaDb) -> Transactions {
    let names = server.query("SHOW BINARY LOGS").unwrap();
    let names = names.lines().filter_map(|line| line.split('\t').next());
    let files = names.map(|name| File::open(server.datadir().join(name)).unwrap());
    files.flat_map(|file| transactions(BufReader::new(file))).collect()
}

/// What the archive gives for a database that has `base`, piece by piece as the catalog says.
pub(crate) fn of_archive(lab: &Lab, timeline: u32, base: &GtidSet) -> Transactions {
    let depot = depot(lab);
    let identities = Identities::from_file(&lab.path("identity")).unwrap();
    let catalog = Catalog::of(&depot.logs().unwrap());
    let wanted = |name: &&depot::log::Timeline| name.number == timeline;
    let name = catalog.archives.keys().find(wanted).unwrap();
    let archive = &catalog.archives[name];
    let reach = archive.reach(base);
    let mut found = Vec::new();
    for link in archive.chain(base, &reach.set).unwrap().links {
        let (head, log) = depot.open_log(&link.object, &identities).unwrap();
        assert_eq!((&head.set, &head.timeline), (&link.object.name.set, name));
        let in_piece = transactions(log);
        assert_eq!(in_piece.len() as u64, head.transactions);
        found.extend(in_piece.into_iter().filter(|(gtid, _)| link.take.contains(gtid)));
    }
    found
}

pub(crate) fn pieces(lab: &Lab) -> Vec<LogObject> {
    depot(lab).logs().unwrap().pieces
}

/// Waits until all that the server has now is in the depot.
#[track_caller]
fn wait_archived(lab: &Lab, server: &MariaDb, daemon: &Daemon) {
    wait_for_set(lab, &position(server), daemon);
}

/// Waits until these transactions are in the depot.
#[track_caller]
pub(crate) fn wait_for_set(lab: &Lab, wanted: &GtidSet, daemon: &Daemon) {
    let is_there = || {
        let catalog = Catalog::of(&depot(lab).logs().unwrap());
        catalog.newest("shop").is_some_and(|(_, archive)| archive.union.contains_all(wanted))
    };
    wait_for("all is archived", is_there, || daemon.log());
}

/// Writes from two sessions until told to stop; what fails because the server is away is tried again.
fn write_while(server: &MariaDb, work: impl FnOnce()) {
    let socket = server.socket();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for session in 0..2 {
            let (socket, done) = (&socket, &done);
            scope.spawn(move || {
                for number in 0.. {
                    if done.load(Ordering::Relaxed) {
                        break;
                    }
                    write(socket, session, number);
                }
            });
        }
        work();
        done.store(true, Ordering::Relaxed);
    });
}

fn write(socket: &Path, session: u32, number: u32) {
    let statements = format!(
        "USE shop; SET SESSION gtid_domain_id = {session};
         INSERT INTO t (v) VALUES (REPEAT('{number}', {}));
         BEGIN; INSERT INTO u (a) VALUES ({number}), ({number});
         UPDATE t SET v = 'x' LIMIT 3; COMMIT;
         CREATE OR REPLACE TABLE made{session} AS SELECT * FROM u LIMIT 5;",
        1 + number % 7 * 10_000
    );
    let mut client = Command::new("mariadb");
    client.args(["--no-defaults", "--user=root", "--socket"]).arg(socket);
    drop(client.args(["--execute", &statements]).output().unwrap());
}

#[test]
fn the_archive_is_what_the_server_wrote_through_every_kind_of_death() {
    let mut server = server();
    let lab = Lab::new("");
    lab.configure(&job(&server, "segment-size = '256KiB'"));
    let mut daemon = lab.start();
    write_while(&server, || wait_archived(&lab, &server, &daemon));
    write_while(&server, || {
        // The agent dies, and comes back.
        daemon.signal(Signal::KILL);
        daemon = lab.start();
        server.sql("FLUSH BINARY LOGS").unwrap();
        wait_archived(&lab, &server, &daemon);
        // The connection is cut.
        assert!(kill_dump(&server) > 0);
        wait_archived(&lab, &server, &daemon);
    });
    // The server dies.
    server.kill();
    server.start_again().unwrap();
    write_while(&server, || wait_archived(&lab, &server, &daemon));
    // The depot is away for a while.
    fs::rename(lab.path("depot"), lab.path("away")).unwrap();
    write_while(&server, || daemon.wait_log("the log does not go out"));
    fs::rename(lab.path("away"), lab.path("depot")).unwrap();
    wait_archived(&lab, &server, &daemon);

    // However the pieces fell, the first of these is a tail, or else the second.
    for _ in 0..2 {
        server.sql("INSERT INTO shop.u (a) VALUES (0)").unwrap();
        wait_archived(&lab, &server, &daemon);
    }

    let (expected, archived) = (of_server(&server), of_archive(&lab, 1, &GtidSet::default()));
    assert!(expected.len() > 100, "only {} transactions", expected.len());
    assert_eq!(by_stream(&archived), by_stream(&expected));
    let kinds: Vec<Kind> = pieces(&lab).iter().map(|piece| piece.name.kind).collect();
    assert!(kinds.contains(&Kind::Segment) && kinds.contains(&Kind::Tail), "{kinds:?}");
    by_hand(&lab, &server);
    let status = lab.ctl(&["status", "--json"]).expect(0).json();
    assert_eq!(status["logs"][0]["timeline"], "shop.1");
    assert_eq!(status["logs"][0]["holes"], "");
    assert!(daemon.page("/metrics").contains("holdfast_log_behind_seconds{job=\"shop\"}"));
}

/// Within a domain the order is that of the commits.
pub(crate) fn by_stream(transactions: &Transactions) -> BTreeMap<String, Transactions> {
    let mut streams: BTreeMap<String, Transactions> = BTreeMap::new();
    for (gtid, sum) in transactions {
        streams.entry(gtid.stream().to_string()).or_default().push((gtid.clone(), *sum));
    }
    streams
}

/// `age -d | zstd -d | mariadb-binlog` reads every piece, and prints what it prints of the server's
/// own files.
fn by_hand(lab: &Lab, server: &MariaDb) {
    let script = "set -o pipefail; age -d -i $1 $2 | zstd -dc | mariadb-binlog --no-defaults -";
    let whole =
        of_tool(Command::new("mariadb-binlog").arg("--no-defaults").args(server_files(server)));
    for piece in pieces(lab) {
        let mut command = Command::new("bash");
        command.args(["-c", script, "bash"]).arg(lab.path("identity"));
        let printed = of_tool(command.arg(lab.path("depot").join(&piece.stored)));
        assert!(!printed.is_empty(), "{}", piece.stored);
        assert!(printed.iter().all(|gtid| whole.contains(gtid)), "{}", piece.stored);
    }
}

fn server_files(server: &MariaDb) -> Vec<PathBuf> {
    let names = server.query("SHOW BINARY LOGS").unwrap();
    let names = names.lines().filter_map(|line| line.split('\t').next());
    names.map(|name| server.datadir().join(name)).collect()
}

/// The lines with ids.
fn of_tool(command: &mut Command) -> Vec<String> {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let gtids = text.lines().filter_map(|line| line.split_once("\tGTID "));
    gtids.map(|(_, rest)| rest.split_whitespace().next().unwrap().to_owned()).collect()
}

/// Cuts the connections of replicas; says how many there were.
fn kill_dump(server: &MariaDb) -> usize {
    let cut = "SELECT CONCAT('KILL ', id, ';') FROM information_schema.PROCESSLIST \
               WHERE COMMAND = 'Binlog Dump'";
    let kill = server.query(cut).unwrap();
    server.sql(&kill).unwrap();
    kill.lines().count()
}

/// Purges the first file of a server. It keeps one that somebody reads, or that a crash would need.
fn purge_first(server: &MariaDb) {
    let names = || {
        let names = server.query("SHOW BINARY LOGS").unwrap();
        names.lines().map(|line| line.split('\t').next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let (first, second) = (names()[0].clone(), names()[1].clone());
    let is_gone = || {
        kill_dump(server);
        server.sql(&format!("PURGE BINARY LOGS TO '{second}'")).unwrap();
        !names().contains(&first)
    };
    wait_for("the first file is purged", is_gone, || format!("{:?}", names()));
}

#[test]
fn a_server_that_was_reset_opens_a_timeline_and_the_old_one_stays() {
    let server = server();
    let lab = Lab::new("");
    lab.configure(&job(&server, ""));
    let daemon = lab.start();
    server.sql("INSERT INTO shop.t (v) VALUES ('a'), ('b')").unwrap();
    wait_archived(&lab, &server, &daemon);
    let before = of_server(&server);
    server.sql("RESET MASTER; INSERT INTO shop.t (v) VALUES ('c')").unwrap();
    daemon.wait_log("timeline shop.2 begins");
    server.sql("INSERT INTO shop.t (v) VALUES ('d')").unwrap();
    let is_new = || Catalog::of(&depot(&lab).logs().unwrap()).newest("shop").unwrap().0.number == 2;
    wait_for("the new timeline has a piece", is_new, || daemon.log());
    wait_archived(&lab, &server, &daemon);
    assert_eq!(of_archive(&lab, 1, &GtidSet::default()), before);
    assert_eq!(of_archive(&lab, 2, &GtidSet::default()), of_server(&server));
    // The same ids again, with other transactions, while nobody looks: only their content tells.
    daemon.stop();
    server.sql("RESET MASTER").unwrap();
    for _ in 0..10 {
        server.sql("INSERT INTO shop.t (v) VALUES ('e')").unwrap();
    }
    let daemon = lab.start();
    daemon.wait_log("timeline shop.3 begins");
    let is_new = || Catalog::of(&depot(&lab).logs().unwrap()).newest("shop").unwrap().0.number == 3;
    wait_for("the third timeline has a piece", is_new, || daemon.log());
    wait_archived(&lab, &server, &daemon);
    assert_eq!(of_archive(&lab, 3, &GtidSet::default()), of_server(&server));
}

#[test]
fn what_was_purged_before_it_was_archived_is_a_hole_and_said_so() {
    let server = server();
    let lab = Lab::new("");
    lab.configure(&job(&server, ""));
    let daemon = lab.start();
    server.sql("INSERT INTO shop.t (v) VALUES ('a')").unwrap();
    wait_archived(&lab, &server, &daemon);
    daemon.stop();
    let missed = position(&server);
    server
        .sql("INSERT INTO shop.t (v) VALUES ('missed'); INSERT INTO shop.t (v) VALUES ('too')")
        .unwrap();
    let missed = position(&server).subtract(&missed);
    let all = of_server(&server);
    server
        .sql("FLUSH BINARY LOGS; INSERT INTO shop.t (v) VALUES ('b'); FLUSH BINARY LOGS")
        .unwrap();
    purge_first(&server);
    let daemon = lab.start();
    daemon.wait_log("HOLE in the archive");
    server.sql("INSERT INTO shop.t (v) VALUES ('c')").unwrap();
    let status = || lab.ctl(&["status", "--json"]).json();
    let hole = |status: &Value| status["logs"][0]["holes"].as_str().unwrap().to_owned();
    wait_for("the hole is told", || hole(&status()) == missed.to_string(), || daemon.log());
    lab.ctl(&["status"]).expect(1).expect_out(&format!("HOLES: {missed}"));
    // What can be promised ends before the hole.
    let reached = of_archive(&lab, 1, &GtidSet::default());
    assert_eq!(reached.last().unwrap(), &all[all.len() - 3]);
}

/// A replica of a server, with files of its own.
fn replica_of(first: &MariaDb) -> MariaDb {
    first
        .sql("CREATE USER r@127.0.0.1 IDENTIFIED BY 'pw'; GRANT REPLICATION SLAVE ON *.* TO r@127.0.0.1")
        .unwrap();
    let extra = ["--binlog-format=ROW", "--gtid-strict-mode=ON", "--server-id=2"];
    let extra = extra.map(str::to_owned).to_vec();
    let replica = MariaDb::start(Options { log_bin: true, extra, ..Options::default() }).unwrap();
    let port = first.address().unwrap().port();
    replica
        .sql(&format!(
            "RESET MASTER; CHANGE MASTER TO MASTER_HOST='127.0.0.1', MASTER_PORT={port}, MASTER_USER='r', \
             MASTER_PASSWORD='pw', MASTER_USE_GTID=slave_pos; START SLAVE"
        ))
        .unwrap();
    replica
}

#[test]
fn what_one_source_has_lost_another_has() {
    let extra = ["--binlog-format=ROW", "--gtid-strict-mode=ON"].map(str::to_owned).to_vec();
    let options = Options { log_bin: true, tcp: true, extra };
    let first = MariaDb::start(options).unwrap();
    let second = replica_of(&first);
    first.sql(TABLES).unwrap();
    // File names say nothing: the second server is files ahead.
    second.sql("FLUSH BINARY LOGS; FLUSH BINARY LOGS").unwrap();
    let lab = Lab::new("");
    lab.configure(&job(&first, ""));
    let config = lab.configure_second("second.sock", &job(&second, "join = true"));
    let text = fs::read_to_string(&config).unwrap();
    let text = text.replace("host = 'web1'", "host = 'db2'").replace("/state'", "/state2'");
    fs::write(&config, text).unwrap();
    let daemon = lab.start();
    wait_archived(&lab, &first, &daemon);
    let other = lab.start_with(&config, &[]);
    other.wait_log("joining a timeline");
    daemon.stop();
    let add =
        |value: &str| first.sql(&format!("INSERT INTO shop.t (v) VALUES ('{value}')")).unwrap();
    add("missed");
    add("missed too");
    wait_archived(&lab, &first, &other);
    wait_for("the replica has all", || position(&second) == position(&first), String::new);
    first.sql("STOP SLAVE; FLUSH BINARY LOGS").unwrap();
    let all: Vec<Gtid> = of_server(&first).into_iter().map(|(gtid, _)| gtid).collect();
    purge_first(&first);
    let daemon = lab.start();
    daemon.wait_log("HOLE in the archive");
    add("later");
    wait_archived(&lab, &first, &daemon);
    let archived = of_archive(&lab, 1, &GtidSet::default());
    let archived: Vec<Gtid> = archived.into_iter().map(|(gtid, _)| gtid).collect();
    assert_eq!(archived[..all.len()], all);
    assert_eq!(archived.len(), all.len() + 1);
    let status = lab.ctl(&["status", "--json"]).json();
    assert_eq!(status["logs"][0]["holes"], "");
}
