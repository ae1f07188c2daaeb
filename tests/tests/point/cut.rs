//! Where the cut falls: at the last transaction, behind one, before one.

use super::scene::Scene;

#[test]
fn a_dropped_table_comes_back_as_it_was_before_the_drop() {
    let scene = Scene::new();
    scene.sql("INSERT INTO shop.orders VALUES (1, 'before the backup')");
    scene.back_up();
    scene.sql("INSERT INTO shop.orders VALUES (2, 'behind it')");
    let second = scene.gtid();
    scene.sql("INSERT INTO shop.orders VALUES (3, 'the last order')");
    scene.sql("DROP TABLE shop.orders");
    let drop = scene.gtid();
    scene.sql("INSERT INTO shop.t VALUES (1, 'behind the drop')");
    let last = scene.gtid();
    scene.archive();

    let found =
        scene.lab.restore(&["find", "--table", "shop.orders", "--statement", "drop", "--json"]);
    assert_eq!(found.expect(0).json()[0]["gtid"], drop.as_str());

    let report = scene.restore("latest", &["--to-latest", "--json"]).expect(0).json();
    assert_eq!(report["replayed"]["reached"], last.as_str());
    assert_eq!(scene.look("latest", "SELECT COUNT(*) FROM shop.t"), "1");
    assert_eq!(scene.look("latest", "SHOW TABLES FROM shop LIKE 'orders'"), "");

    let report = scene.restore("before", &["--before-gtid", &drop, "--json"]).expect(0).json();
    assert_eq!(report["replayed"]["last"]["did"][0], "insert shop.orders");
    assert_eq!(scene.look("before", "SELECT GROUP_CONCAT(id) FROM shop.orders"), "1,2,3");
    assert_eq!(scene.look("before", "SELECT COUNT(*) FROM shop.t"), "0");

    let report = scene.restore("to", &["--to-gtid", &second, "--json"]).expect(0).json();
    assert_eq!(report["replayed"]["reached"], second.as_str());
    assert_eq!(scene.look("to", "SELECT GROUP_CONCAT(id) FROM shop.orders"), "1,2");
    assert_eq!(scene.look("to", "SELECT @@gtid_slave_pos"), second);
    assert!(!scene.target("to").join(".replay").exists());
}

#[test]
fn all_that_a_log_can_hold_comes_back() {
    let scene = Scene::with(&["--max-allowed-packet=64M", "--binlog-format=MIXED"]);
    scene.back_up();
    // An event of more than one packet, every kind of statement, tables of every kind.
    scene.sql(
        "USE shop; INSERT INTO t VALUES (1, REPEAT('é', 9000000)), (2, NULL);
         CREATE TABLE bare (a INT, b VARCHAR(40) CHARACTER SET latin1) ENGINE=InnoDB;
         INSERT INTO bare SELECT seq, 'ü' FROM seq_1_to_1000;
         UPDATE bare SET a = a + 1 WHERE a % 7 = 0;
         CREATE TABLE old (a INT PRIMARY KEY) ENGINE=MyISAM; INSERT INTO old VALUES (1), (2);
         CREATE TABLE aria (a INT PRIMARY KEY) ENGINE=Aria; INSERT INTO aria VALUES (3);
         CREATE TEMPORARY TABLE gone AS SELECT 5 AS a; INSERT INTO old SELECT a FROM gone;
         INSERT INTO bare VALUES (FLOOR(RAND() * 1000), UUID());
         XA START 'done'; INSERT INTO bare VALUES (1, 'xa'); XA END 'done';
         XA PREPARE 'done'; XA COMMIT 'done';
         CREATE USER u@localhost IDENTIFIED BY 'secret'; GRANT SELECT ON shop.* TO u@localhost;
         CREATE PROCEDURE p() SELECT 1;
         CREATE TRIGGER g BEFORE INSERT ON aria FOR EACH ROW SET NEW.a = NEW.a + 1;
         CREATE EVENT e ON SCHEDULE EVERY 1 SECOND DO DELETE FROM bare;
         INSERT INTO aria VALUES (10);
         ALTER TABLE bare ADD COLUMN c INT DEFAULT 7; RENAME TABLE old TO older;
         XA START 'open'; INSERT INTO bare VALUES (2, 'open', 1); XA END 'open'; XA PREPARE 'open'",
    );
    scene.archive();
    let report = scene.restore("x", &["--to-latest", "--json"]).expect(0).json();
    assert_eq!(report["replayed"]["prepared"][0], "open", "{report}");
    assert_eq!(report["replayed"]["sleeping-events"][0], "`shop`.`e`", "{report}");
    let sums = "USE shop; CHECKSUM TABLE t, bare, older, aria, orders;
                SELECT GROUP_CONCAT(User ORDER BY User) FROM mysql.global_priv;
                SELECT GROUP_CONCAT(name) FROM mysql.proc WHERE db = 'shop';
                SELECT GROUP_CONCAT(EVENT_NAME) FROM information_schema.EVENTS;
                SELECT COUNT(*) FROM shop.bare WHERE b = 'open'";
    assert_eq!(scene.look("x", sums), scene.server.query(sums).unwrap().trim());
    let aria = scene.look("x", "SELECT GROUP_CONCAT(a) FROM shop.aria");
    assert_eq!(aria, "3,11");
}
