//! A replay that was killed goes on with the same command, and ends where it would have ended.

use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tests::lab::wait_for;
use tests::program::Said;
use tests::servers::process::descendants_of;

use super::scene::Scene;

const ROWS: u32 = 6000;

/// A server that has committed many transactions since its backup.
fn busy() -> Scene {
    let scene = Scene::new();
    scene.sql(&format!(
        "USE shop;\nDELIMITER //
         CREATE PROCEDURE fill() BEGIN
           FOR i IN 1..{ROWS} DO INSERT INTO t VALUES (i, REPEAT(i, 300)); END FOR; END //"
    ));
    scene.back_up();
    scene.sql("USE shop; CALL fill(); CREATE TABLE last (id INT); INSERT INTO last VALUES (1)");
    scene.archive();
    scene
}

fn check(scene: &Scene) {
    let sum =
        "SELECT COUNT(*), SUM(v = REPEAT(id, 300)), (SELECT COUNT(*) FROM shop.last) FROM shop.t";
    assert_eq!(scene.look("x", sum), format!("{ROWS}\t{ROWS}\t1"));
    assert!(!scene.target("x").join(".replay").exists());
}

fn start(scene: &Scene) -> Child {
    let target = scene.target("x");
    let arguments = ["--to-latest", "--json", "--target", target.to_str().unwrap()];
    let mut command = scene.lab.restore_command(&arguments);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Waits until the log has begun to come in.
fn wait_replaying(target: &Path) {
    let is_replaying = || {
        let Ok(names) = fs::read_dir(target.join(".replay")) else { return false };
        let relay = names
            .flatten()
            .filter(|name| name.file_name().to_string_lossy().starts_with("relay.0"));
        relay.filter_map(|name| name.metadata().ok()).map(|found| found.len()).sum::<u64>()
            > 300_000
    };
    wait_for("the log comes in", is_replaying, String::new);
}

fn go_on(scene: &Scene) -> Value {
    let output = start(scene).wait_with_output().unwrap();
    Said::of(&output).expect(0).json()
}

#[test]
fn a_restore_that_was_killed_goes_on_to_the_same_point() {
    let scene = busy();
    let wanted = scene.gtid();
    let mut child = start(&scene);
    wait_replaying(&scene.target("x"));
    child.kill().unwrap();
    child.wait().unwrap();
    // By now the latest is another one.
    scene.sql("INSERT INTO shop.last VALUES (2)");
    scene.archive();
    // Another restore may not have the directory.
    let said = scene.restore("x", &["--latest", "--job", "db"]);
    assert!(said.code == 2 || said.code == 5, "{said:?}");
    let report = go_on(&scene);
    assert_eq!(report["replayed"]["resumed"], true, "{report}");
    assert_eq!(report["replayed"]["reached"], wanted.as_str());
    check(&scene);
}

#[test]
fn a_server_that_was_killed_within_a_replay_is_no_loss() {
    let scene = busy();
    let child = start(&scene);
    wait_replaying(&scene.target("x"));
    let server = descendants_of(child.id()).into_iter().find(|id| {
        let name = fs::read_to_string(format!("/proc/{id}/comm")).unwrap_or_default();
        name.trim() == "mariadbd"
    });
    let pid = Pid::from_raw(i32::try_from(server.unwrap()).unwrap()).unwrap();
    kill_process(pid, Signal::KILL).unwrap();
    let said = Said::of(&child.wait_with_output().unwrap());
    assert_eq!(said.code, 1, "{said:?}");
    let report = go_on(&scene);
    assert_eq!(report["replayed"]["resumed"], true, "{report}");
    check(&scene);
}
