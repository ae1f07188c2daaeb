//! The whole site: files as of the newest backup before the point, beside the database.

use std::fs;

use tests::servers::mariadb::{MariaDb, Options};

use super::scene::Scene;

#[test]
fn one_command_brings_back_the_database_and_the_files_of_the_same_time() {
    let scene = Scene::new();
    scene.back_up();
    let page = scene.lab.path("www/index.php");
    fs::write(&page, "good").unwrap();
    scene.lab.ctl(&["now", "site"]).expect(0);
    scene.sql("INSERT INTO shop.t VALUES (1, 'good')");
    let good = scene.gtid();
    // Ids of backups have whole seconds.
    let second = "SELECT SLEEP(1.1)";
    scene.server.query(second).unwrap();
    fs::write(&page, "defaced").unwrap();
    scene.lab.ctl(&["now", "site"]).expect(0);
    scene.sql("INSERT INTO shop.t VALUES (2, 'defaced')");
    scene.archive();

    let point = ["--to-gtid", good.as_str(), "--with-files"];
    let plan = scene.lab.restore(&[&["--plan", "--json"], &point[..]].concat()).expect(0).json();
    assert_eq!(plan["files"].as_array().unwrap().len(), 1, "{plan}");
    let report = scene.restore("all", &[&["--json"], &point[..]].concat()).expect(0).json();
    assert_eq!(report["site"][0]["kind"], "files", "{report}");
    let all = scene.target("all");
    assert_eq!(fs::read_to_string(all.join("site/index.php")).unwrap(), "good");
    let server = MariaDb::start_on(&all.join("db"), Options::default()).unwrap();
    assert_eq!(server.query("SELECT GROUP_CONCAT(v) FROM shop.t").unwrap().trim(), "good");
    let names: Vec<_> = fs::read_dir(&all).unwrap().map(|name| name.unwrap().file_name()).collect();
    assert!(names.iter().all(|name| !name.to_string_lossy().starts_with(".restore")), "{names:?}");
}
