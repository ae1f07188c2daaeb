//! Times: which transactions one means, and those that mean none.

use super::scene::Scene;

/// Inserts rows whose session says that it is so many seconds behind a moment.
fn insert_at(scene: &Scene, id: u32, time: i64) {
    scene.sql(&format!("SET timestamp = {time}; INSERT INTO shop.t VALUES ({id}, 'x')"));
}

#[test]
fn a_time_means_what_comes_before_the_first_later_commit_and_the_plan_says_so() {
    let scene = Scene::new();
    scene.back_up();
    let begin: i64 = scene.server.query("SELECT UNIX_TIMESTAMP()").unwrap().trim().parse().unwrap();
    let at = |seconds: i64| {
        chrono::DateTime::from_timestamp(begin + 100 + seconds, 0).unwrap().to_rfc3339()
    };
    // The fourth is behind a later one, and says that it is not.
    for (id, seconds) in [(1, 0), (2, 10), (3, 20), (4, 5), (5, 30)] {
        insert_at(&scene, id, begin + 100 + seconds);
    }
    scene.archive();
    let plan =
        scene.lab.restore(&["--plan", "--json", "--point-in-time", &at(12)]).expect(0).json();
    let cut = &plan["cut"];
    let gtids = |side: &str| {
        let list = cut[side].as_array().unwrap();
        list.iter().map(|one| one["gtid"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let (inside, outside) = (gtids("inside"), gtids("outside"));
    assert_eq!(cut["inside"].as_array().unwrap().last().unwrap()["did"][0], "insert shop.t");
    assert_eq!(outside.len(), 3, "{cut}");
    assert_eq!(cut["earlier-outside"], 1);
    assert_eq!(cut["earlier-first"]["gtid"], outside[1].as_str());
    let text = scene.lab.restore(&["--plan", "--point-in-time", &at(12)]).expect(0).stdout;
    for words in
        ["in        ", "OUT       ", "insert shop.t", "1 transactions behind the cut", "about"]
    {
        assert!(text.contains(words), "no `{words}` in {text}");
    }

    let report = scene.restore("x", &["--point-in-time", &at(12), "--json"]).expect(0).json();
    assert_eq!(report["replayed"]["reached"], inside.last().unwrap().as_str());
    assert_eq!(scene.look("x", "SELECT GROUP_CONCAT(id) FROM shop.t"), "1,2");
    // A commit of that very second is in.
    scene.restore("y", &["--point-in-time", &at(20)]).expect(0);
    assert_eq!(scene.look("y", "SELECT GROUP_CONCAT(id ORDER BY id) FROM shop.t"), "1,2,3,4");
}

#[test]
fn times_that_mean_nothing_are_refused_with_the_window() {
    let scene = Scene::new();
    scene.sql("INSERT INTO shop.t VALUES (1, 'x')");
    scene.back_up();
    scene.sql("INSERT INTO shop.t VALUES (2, 'x')");
    scene.archive();
    let check = |point: &[&str], code: i32, message: &str, hint: &str| {
        let said = scene.restore("never", point).expect(code).expect_error(message);
        said.expect_error(hint);
        assert!(!scene.target("never").exists(), "{point:?}");
    };
    let window = "timeline shop.1 can be restored from ";
    check(&["--point-in-time", "2020-01-01 00:00 UTC"], 4, "before the first point", window);
    check(&["--point-in-time", "2099-01-01 00:00 UTC"], 4, "after the last transaction", window);
    let twice = "2026-10-25 02:30 Europe/Berlin";
    check(&["--point-in-time", twice], 2, "occurs twice", "2026-10-25T02:30:00+01:00");
    let never = "2026-03-29 02:30 Europe/Berlin";
    check(&["--point-in-time", never], 2, "does not exist", "before or after the gap");
    check(&["--point-in-time", "soon"], 2, "not a point in time", "10 minutes ago");
    check(&["--to-gtid", "0-1-99999"], 4, "no transaction 0-1-99999", window);
    check(&["--to-gtid", "0-77-4"], 4, "0-77-4", window);
    check(&["--before-gtid", "0-1-1"], 4, "in every backup already", window);
    let table = ["--to-latest", "--table", "shop.t"];
    check(&table, 2, "parts cannot be brought to a point", "dump the table there");
    check(&["--to-latest", "--delta"], 2, "in a new directory", "leave --delta");
    check(&["--latest", "--with-files"], 2, "--with-files needs a point", "--to-latest");
    check(&["--to-latest", "--timeline", "7"], 4, "no such timeline", "shop.1");
    check(&["--to-latest", "--galera-bootstrap"], 2, "not of a node", "leave --galera-bootstrap");
}
