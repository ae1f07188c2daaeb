//! Histories: a server that was put back begins a new one, and the old one stays restorable.

use depot::log::Catalog;
use tests::lab::wait_for;

use super::scene::Scene;

#[test]
fn both_histories_of_a_server_that_was_reset_can_be_restored() {
    let scene = Scene::new();
    scene.back_up();
    scene.sql("INSERT INTO shop.t VALUES (1, 'the first history')");
    scene.archive();
    let same = scene.gtid();
    scene.sql("RESET MASTER; DELETE FROM shop.t");
    let is_new = || {
        let catalog = Catalog::of(&scene.depot().logs().unwrap());
        catalog.newest("shop").is_some_and(|(timeline, _)| timeline.number == 2)
    };
    wait_for("a timeline begins", is_new, String::new);
    scene.back_up();
    for id in 2..7 {
        scene.sql(&format!("INSERT INTO shop.t VALUES ({id}, 'the second')"));
    }
    scene.archive();
    let rows = "SELECT GROUP_CONCAT(id ORDER BY id) FROM shop.t";

    scene.restore("new", &["--to-latest"]).expect(0);
    assert_eq!(scene.look("new", rows), "2,3,4,5,6");
    scene.restore("old", &["--to-latest", "--timeline", "shop.1"]).expect(0);
    assert_eq!(scene.look("old", rows), "1");
    // The same id, of two transactions.
    let said = scene.restore("which", &["--to-gtid", &same]).expect(0);
    said.expect_error("timeline shop.1 has a transaction of that id too");
    let said = scene.restore("first", &["--to-gtid", &same, "--timeline", "1"]).expect(0);
    drop(said);
    assert_eq!(scene.look("first", rows), "1");
}
