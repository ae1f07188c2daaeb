//! What the archive of a log promises at its limits: a spool that is full, a backup whose log is not there, an event
//! that has to arrive, a lag that is kept.

use std::fs;
use std::time::{Duration, Instant};

use database::gtid::{GtidSet, Position};
use depot::log::{Catalog, Kind};
use tests::servers::mariadb::{MariaDb, Options};

use super::lab::{Lab, wait_for};
use super::log::{depot, of_archive, pieces, wait_for_set};

const TABLES: &str = "CREATE DATABASE shop; CREATE TABLE shop.t (id INT AUTO_INCREMENT PRIMARY KEY, v LONGTEXT);
    CREATE USER l@localhost IDENTIFIED BY 'pw'; GRANT BINLOG MONITOR, RELOAD ON *.* TO l@localhost;";

fn server(extra: &[&str]) -> MariaDb {
    let mut options = vec!["--binlog-format=ROW", "--gtid-strict-mode=ON", "--sync-binlog=1"];
    options.extend(extra);
    let extra = options.into_iter().map(str::to_owned).collect();
    let server = MariaDb::start(Options { log_bin: true, extra, ..Options::default() }).unwrap();
    server.sql(TABLES).unwrap();
    server
}

fn job(server: &MariaDb, user: &str, password: &str, lines: &str) -> String {
    let file = server.option_file_for(user, password).unwrap();
    format!(
        "[jobs.shop.log]\ntool = 'mariadb-backup'\noption-file = '{}'\n{lines}\n",
        file.display()
    )
}

fn position(server: &MariaDb) -> GtidSet {
    let position = server.query("SELECT @@gtid_binlog_pos").unwrap();
    position.trim().parse::<Position>().unwrap().to_set()
}

/// Purges all but the newest file; a server keeps one that somebody reads until that one is gone.
fn purge_all(server: &MariaDb) {
    let names = || {
        let names = server.query("SHOW BINARY LOGS").unwrap();
        names.lines().map(|line| line.split('\t').next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let is_gone = || {
        let cut = "SELECT CONCAT('KILL ', id, ';') FROM information_schema.PROCESSLIST \
                   WHERE COMMAND = 'Binlog Dump'";
        server.sql(&server.query(cut).unwrap()).unwrap();
        let last = names().pop().unwrap();
        server.sql(&format!("PURGE BINARY LOGS TO '{last}'")).unwrap();
        names().len() == 1
    };
    wait_for("old files are purged", is_gone, || format!("{:?}", names()));
}

#[test]
fn a_full_spool_holds_nothing_up_says_so_and_what_is_purged_then_is_a_hole() {
    let server = server(&["--max-binlog-size=4M"]);
    let lab = Lab::new("");
    lab.configure(&job(&server, "root", "", "max-lag = '1s'\nspool-limit = '64MiB'"));
    let daemon = lab.start();
    server.sql("INSERT INTO shop.t (v) VALUES ('archived')").unwrap();
    wait_for_set(&lab, &position(&server), &daemon);
    fs::rename(lab.path("depot"), lab.path("away")).unwrap();
    // The server goes on whatever the agent does: twice what the spool takes.
    for _ in 0..16 {
        server
            .sql("USE shop; INSERT INTO t (v) SELECT REPEAT('x', 1000000) FROM seq_1_to_8")
            .unwrap();
    }
    daemon.wait_log("the spool is full");
    let reasons = "the spool is full, nothing is read from the server";
    wait_for("it is said", || daemon.page("/healthz").contains(reasons), || daemon.log());
    server.sql("FLUSH BINARY LOGS; INSERT INTO shop.t (v) VALUES ('behind the hole')").unwrap();
    purge_all(&server);
    let upto = position(&server);
    fs::rename(lab.path("away"), lab.path("depot")).unwrap();
    daemon.wait_log("HOLE in the archive");
    server.sql("INSERT INTO shop.t (v) VALUES ('and on')").unwrap();
    let last = position(&server).subtract(&upto);
    let archived = || Catalog::of(&depot(&lab).logs().unwrap()).newest("shop").unwrap().1.clone();
    wait_for("it goes on", || archived().union.contains_all(&last), || daemon.log());
    let holes = archived().holes();
    assert!(!holes.is_empty());
    assert_eq!(archived().union.union(&holes), position(&server));
    let metric = "holdfast_log_holes{job=\"shop\"} 1";
    wait_for("it is counted", || daemon.page("/metrics").contains(metric), || daemon.log());
    lab.ctl(&["status"]).expect(1).expect_out(&format!("HOLES: {holes}"));
}

#[test]
fn a_backup_whose_log_is_not_archived_is_waiting_for_it() {
    let server = server(&[]);
    let lab = Lab::new("");
    let base = server.option_file().unwrap();
    let base = format!(
        "[jobs.db.database]\ntool = 'mariadb-backup'\noption-file = '{}'\n",
        base.display()
    );
    // This account may not read the log yet.
    lab.configure(&format!("{base}{}", job(&server, "l", "pw", "max-lag = '1s'")));
    let daemon = lab.start();
    lab.ctl(&["now", "db"]).expect(0);
    let status = || lab.ctl(&["status"]).stdout;
    assert!(status().contains("log shop: nothing archived yet"), "{}", status());
    assert!(status().contains("is waiting for logs"), "{}", status());
    server.sql("GRANT REPLICATION SLAVE ON *.* TO l@localhost").unwrap();
    let is_good = || !status().contains("waiting") && status().contains("log shop: restorable ");
    wait_for("the backup is good", is_good, || format!("{} {}", status(), daemon.log()));
    // One that is newer than what is archived waits again, until it is.
    daemon.stop();
    server.sql("REVOKE REPLICATION SLAVE ON *.* FROM l@localhost").unwrap();
    let daemon = lab.start();
    server.sql("INSERT INTO shop.t (v) VALUES ('a')").unwrap();
    lab.ctl(&["now", "db"]).expect(0);
    assert!(status().contains("is waiting for logs"), "{}", status());
    server.sql("GRANT REPLICATION SLAVE ON *.* TO l@localhost").unwrap();
    wait_for("the backup is good", is_good, || format!("{} {}", status(), daemon.log()));
}

#[test]
fn the_check_has_an_event_arrive_and_changes_no_data() {
    let server = server(&[]);
    server.sql("INSERT INTO shop.t (v) VALUES ('a')").unwrap();
    let lab = Lab::new("");
    lab.configure(&job(&server, "root", "", "max-lag = '1s'"));
    let daemon = lab.start();
    wait_for_set(&lab, &position(&server), &daemon);
    let data = "CHECKSUM TABLE shop.t; SELECT COUNT(*) FROM information_schema.tables";
    let (before, data_before) = (position(&server), server.query(data).unwrap());
    lab.ctl(&["check"]).expect(0).expect_out("in depot vault after");
    assert_eq!(server.query(data).unwrap(), data_before);
    let proof = position(&server).subtract(&before);
    assert_eq!(proof.size(), 1);
    let archived = of_archive(&lab, 1, &GtidSet::default());
    assert!(archived.iter().any(|(gtid, _)| proof.contains(gtid)));
    // Nobody archives: the event does not arrive, and that is what is said.
    daemon.stop();
    lab.ctl(&["check"]).expect(1).expect_out("is backupd running?");
}

#[test]
fn what_was_committed_is_in_the_depot_within_the_lag() {
    let server = server(&[]);
    let lab = Lab::new("");
    lab.configure(&job(&server, "root", "", "max-lag = '5s'\nsegment-age = '4s'"));
    let daemon = lab.start();
    wait_for_set(&lab, &position(&server), &daemon);
    let mut longest = Duration::ZERO;
    for number in 0..4 {
        server.sql(&format!("INSERT INTO shop.t (v) VALUES ('{number}')")).unwrap();
        let committed = Instant::now();
        wait_for_set(&lab, &position(&server), &daemon);
        longest = longest.max(committed.elapsed());
    }
    // On a machine that has nothing else to do it is half of that.
    assert!(longest < Duration::from_secs(10), "{longest:?}");
    // Tails are merged when they are old enough, and the keeper finds those that a segment covers.
    let merged = || {
        let catalog = Catalog::of(&depot(&lab).logs().unwrap());
        let (_, archive) = catalog.newest("shop").unwrap();
        let tails = pieces(&lab).iter().filter(|piece| piece.name.kind == Kind::Tail).count();
        tails > 0 && archive.covered_tails().len() == tails
    };
    wait_for("all tails are in segments", merged, || daemon.log());
}
