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
