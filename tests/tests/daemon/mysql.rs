//! The live archive of a real MySQL's binary log: its GTIDs, with tags too, its logins, its compressed transactions.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::process::Command;

use database::checks::check_log;
use database::gtid::GtidSet;
use database::tool::BackupTool;
use depot::log::Catalog;
use rustix::process::Signal;
use tests::servers::mysql::{MySql, program};

use super::lab::{Daemon, Lab, wait_for};
use super::log::{Transactions, by_stream, depot, of_archive, pieces, transactions, wait_for_set};

const ACCOUNT: &str = "
    CREATE USER r@localhost IDENTIFIED WITH caching_sha2_password BY 'p w';
    CREATE USER r@127.0.0.1 IDENTIFIED WITH caching_sha2_password BY 'p w';
    GRANT REPLICATION SLAVE, REPLICATION CLIENT, RELOAD ON *.* TO r@localhost, r@127.0.0.1;
    CREATE DATABASE shop; USE shop;
    CREATE TABLE t (id INT AUTO_INCREMENT PRIMARY KEY, v LONGTEXT);
    CREATE TABLE u (a INT, b TIMESTAMP NULL);";

/// Everything that ends a transaction in a way of its own.
const STATEMENTS: &str = "USE shop;
    INSERT INTO t (v) VALUES (REPEAT('x', 3000000));
    BEGIN; INSERT INTO u (a) VALUES (1); SAVEPOINT s; DELETE FROM t; ROLLBACK TO s;
    UPDATE u SET a = 2; COMMIT;
    XA START 'x'; INSERT INTO t (v) VALUES ('xa'); XA END 'x'; XA PREPARE 'x'; XA COMMIT 'x';
    XA START 'y'; INSERT INTO t (v) VALUES ('xa'); XA END 'y'; XA COMMIT 'y' ONE PHASE;
    XA START 'z'; INSERT INTO t (v) VALUES ('xa'); XA END 'z'; XA PREPARE 'z'; XA ROLLBACK 'z';
    CREATE TABLE made AS SELECT * FROM t LIMIT 5;
    CREATE TEMPORARY TABLE temp (a INT); INSERT INTO temp VALUES (7);
    INSERT INTO u (a) SELECT a FROM temp; DROP TEMPORARY TABLE temp;
    SET timestamp = 1000000000; INSERT INTO u VALUES (8, NOW()); SET timestamp = DEFAULT;
    SET gtid_next = 'AUTOMATIC:blue'; INSERT INTO u (a) VALUES (10); INSERT INTO u (a) VALUES (11);
    SET gtid_next = 'AUTOMATIC:red_1'; INSERT INTO u (a) VALUES (12); SET gtid_next = 'AUTOMATIC';
    SET SESSION binlog_transaction_compression = ON;
    INSERT INTO t (v) SELECT REPEAT(v, 100) FROM t WHERE LENGTH(v) < 10;
    BEGIN; INSERT INTO u (a) VALUES (20), (21); UPDATE t SET v = 'short'; COMMIT;
    SET gtid_next = 'AUTOMATIC:blue'; INSERT INTO u (a) VALUES (22); SET gtid_next = 'AUTOMATIC';
    SET SESSION binlog_transaction_compression = OFF;
    ALTER TABLE u ADD COLUMN c INT; TRUNCATE made; DROP TABLE made;
    CREATE USER other; GRANT SELECT ON shop.* TO other; ANALYZE TABLE t;";

fn lines(server: &MySql) -> String {
    format!("user=r\npassword=\"p w\"\nsocket={}", server.socket().display())
}

fn job(file: &Path, lines: &str) -> String {
    format!(
        "[jobs.shop.log]\ntool = 'xtrabackup'\noption-file = '{}'\nmax-lag = '1s'\n{lines}\n",
        file.display()
    )
}

fn executed(server: &MySql) -> GtidSet {
    server.query("SELECT @@global.gtid_executed").unwrap().parse().unwrap()
}

fn of_server(server: &MySql) -> Transactions {
    let files = server.binlogs().unwrap();
    files.iter().flat_map(|path| transactions(BufReader::new(File::open(path).unwrap()))).collect()
}

#[track_caller]
fn wait_archived(lab: &Lab, server: &MySql, daemon: &Daemon) {
    wait_for_set(lab, &executed(server), daemon);
}

/// The ids that `mysqlbinlog` sees.
fn of_tool(script: &str, arguments: &[&Path]) -> Vec<String> {
    let mut command = Command::new("bash");
    command.args(["-c", script, "bash"]).args(arguments);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let ids = text.lines().filter_map(|line| line.strip_prefix("SET @@SESSION.GTID_NEXT= '"));
    let ids = ids.filter_map(|rest| rest.split('\'').next()).filter(|id| *id != "AUTOMATIC");
    ids.map(str::to_ascii_lowercase).collect()
}

#[test]
fn the_log_of_a_mysql_is_archived_as_it_wrote_it() {
    let mut server = MySql::start(&[]).unwrap();
    server.sql(ACCOUNT).unwrap();
    let lab = Lab::new("");
    // A login over the socket, and then over TCP, where the password goes to the server's public key.
    let socket = server.option_file("socket", &lines(&server)).unwrap();
    lab.configure(&job(&socket, "segment-size = '256KiB'"));
    let mut daemon = lab.start();
    server.sql(STATEMENTS).unwrap();
    wait_archived(&lab, &server, &daemon);
    server.sql("FLUSH BINARY LOGS; INSERT INTO shop.t (v) VALUES ('b')").unwrap();
    daemon.signal(Signal::KILL);
    daemon = lab.start();
    server.sql("INSERT INTO shop.t (v) VALUES ('c')").unwrap();
    wait_archived(&lab, &server, &daemon);
    server.kill();
    server.start_again().unwrap();
    server.sql("SET gtid_next = 'AUTOMATIC:blue'; INSERT INTO shop.t (v) VALUES ('d')").unwrap();
    wait_archived(&lab, &server, &daemon);
    daemon.stop();
    let port = server.address().port();
    let tcp = format!("user=r\npassword=\"p w\"\nhost=127.0.0.1\nport={port}");
    let tcp = server.option_file("tcp", &tcp).unwrap();
    lab.configure(&job(&tcp, ""));
    let daemon = lab.start();
    server.sql("INSERT INTO shop.t (v) VALUES ('e')").unwrap();
    wait_archived(&lab, &server, &daemon);

    let (expected, archived) = (of_server(&server), of_archive(&lab, 1, &GtidSet::default()));
    assert!(expected.len() > 25, "only {} transactions", expected.len());
    assert_eq!(by_stream(&archived), by_stream(&expected));
    assert_eq!(by_stream(&expected).len(), 3, "two tags and none");
    by_hand(&lab, &server);
    // An event that changes no data is proven to arrive.
    let said = lab.ctl(&["check"]);
    assert!(said.stdout.contains("in depot vault after"), "{said:?}");
    daemon.stop();
}

/// `age -d | zstd -d | mysqlbinlog` reads every piece, and all of them together have what the server's own files have.
fn by_hand(lab: &Lab, server: &MySql) {
    let tool = program("mysqlbinlog").unwrap();
    let files = server.binlogs().unwrap();
    let mut arguments: Vec<&Path> = vec![&tool];
    arguments.extend(files.iter().map(std::path::PathBuf::as_path));
    let whole = of_tool(r#"exec "$@""#, &arguments);
    let script = "set -o pipefail; age -d -i $2 $3 | zstd -dc | $1 -";
    let mut in_pieces = BTreeSet::new();
    for piece in pieces(lab) {
        let stored = lab.path("depot").join(&piece.stored);
        let ids = of_tool(script, &[&tool, &lab.path("identity"), &stored]);
        assert!(!ids.is_empty(), "{}", piece.stored);
        in_pieces.extend(ids);
    }
    assert_eq!(in_pieces, whole.into_iter().collect());
}

#[test]
fn a_mysql_that_was_reset_or_has_purged_is_told_apart() {
    let server = MySql::start(&["--sync-binlog=1"]).unwrap();
    server.sql(ACCOUNT).unwrap();
    let lab = Lab::new("");
    let file = server.option_file("socket", &lines(&server)).unwrap();
    lab.configure(&job(&file, ""));
    let checks = check_log(BackupTool::Percona, &file);
    assert!(checks.iter().all(|check| check.ok), "{checks:?}");
    let daemon = lab.start();
    server.sql("SET gtid_next = 'AUTOMATIC:blue'; INSERT INTO shop.t (v) VALUES ('a')").unwrap();
    wait_archived(&lab, &server, &daemon);
    daemon.stop();
    // What is purged before it was archived is a hole, named by its ids.
    let before = executed(&server);
    server
        .sql("INSERT INTO shop.t (v) VALUES ('missed'); INSERT INTO shop.t (v) VALUES ('too')")
        .unwrap();
    let missed = executed(&server).subtract(&before);
    server.sql("FLUSH BINARY LOGS; INSERT INTO shop.t (v) VALUES ('b')").unwrap();
    let last = server.binlogs().unwrap().pop().unwrap();
    let last = last.file_name().unwrap().to_str().unwrap().to_owned();
    server.sql(&format!("PURGE BINARY LOGS TO '{last}'")).unwrap();
    let daemon = lab.start();
    daemon.wait_log("HOLE in the archive");
    let holes = || Catalog::of(&depot(&lab).logs().unwrap()).newest("shop").unwrap().1.holes();
    wait_for("the hole is seen", || holes() == missed, || daemon.log());
    let before = of_archive(&lab, 1, &GtidSet::default());
    // Another history.
    server.sql("RESET BINARY LOGS AND GTIDS; INSERT INTO shop.t (v) VALUES ('c')").unwrap();
    daemon.wait_log("timeline shop.2 begins");
    let is_new = || Catalog::of(&depot(&lab).logs().unwrap()).newest("shop").unwrap().0.number == 2;
    wait_for("the new timeline has a piece", is_new, || daemon.log());
    wait_archived(&lab, &server, &daemon);
    assert_eq!(of_archive(&lab, 2, &GtidSet::default()), of_server(&server));
    assert_eq!(of_archive(&lab, 1, &GtidSet::default()), before);
}
