//! `restore` to points that the dice choose: by transaction, before one, by time, to the end.

use std::path::Path;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use chrono::SecondsFormat;
use rustix::process::Signal;
use serde_json::Value;
use tests::lab::Lab;
use tests::oracle::{Content, History, Oracle};
use tests::servers::mariadb::{MariaDb, Options};
use tests::tree::Dice;

use crate::archive::{Effort, base, job, server, wait_archived, wait_written, written};

#[test]
fn a_restore_to_a_point_has_exactly_the_commits_up_to_it() {
    let effort = Effort::from_environment();
    let mut server = server();
    let oracle = Oracle::new(&server, effort.seed, effort.sizes).unwrap();
    let lab = Lab::new("");
    lab.configure(&format!("{}{}", job(&server), base(&server)));
    let mut daemon = lab.start();
    let part = effort.steps as u64 / 4;
    let socket = server.socket();
    // The backup is taken while everybody writes.
    let begin = oracle.write_while(&socket, 4, || {
        wait_written(&server, part);
        lab.ctl(&["now", "db"]).expect(0);
        let begin = written(&server);
        server.sql("FLUSH BINARY LOGS").unwrap();
        wait_written(&server, begin + part);
        begin
    });
    oracle.write_while(&socket, 4, || {
        daemon.signal(Signal::KILL);
        wait_written(&server, begin + 2 * part);
        daemon = lab.start();
        wait_written(&server, begin + 2 * part + part / 2);
        cut_connections(&server);
        // The server dies in the middle of it all.
        server.kill();
        server.start_again().unwrap();
        wait_written(&server, begin + 3 * part);
    });
    wait_archived(&lab, &server, &daemon);
    let history = oracle.history(&server).unwrap();
    assert_eq!(history.latest().difference(&Content::read(&server).unwrap()), None);

    let mut dice = Dice::new(effort.seed);
    for place in 0..effort.points {
        try_point(&lab, &history, begin, &mut dice, place);
    }
    let report = restore(&lab, &["--to-latest"], false);
    assert_eq!(reached(&report), written(&server));
    compare(&lab, &history.latest(), "the end");
}

fn cut_connections(server: &MariaDb) {
    let cut = "SELECT CONCAT('KILL ', id, ';') FROM information_schema.PROCESSLIST \
               WHERE COMMAND = 'Binlog Dump'";
    server.sql(&server.query(cut).unwrap()).unwrap();
}

fn try_point(lab: &Lab, history: &History, begin: u64, dice: &mut Dice, place: usize) {
    let step = history.pick(dice, begin);
    // Now and then the restore is killed, and goes on when it is asked again.
    let killed = dice.once_in(3);
    let what = format!("point {place}: {step:?}, killed: {killed}");
    match place % 3 {
        0 => {
            let report = restore(lab, &["--to-gtid", &step.gtid], killed);
            assert_eq!(reached(&report), step.number, "{what}");
            compare(lab, &history.at(step.number), &what);
        }
        1 => {
            // By time: which one that is, the report says, and the times of the commits whether that is right.
            let time = step.acknowledged.to_rfc3339_opts(SecondsFormat::Millis, true);
            if is_after_the_last(lab, &time) {
                let last = history.steps().last().unwrap().number;
                return assert!(history.is_at_time(last, step.acknowledged), "{what}");
            }
            let report = restore(lab, &["--point-in-time", &time], killed);
            let number = reached(&report);
            assert!(history.is_at_time(number, step.acknowledged), "{what}: {number}");
            if history.is_certain(number) {
                compare(lab, &history.at(number), &what);
            } else {
                remove(&lab.path("target"));
            }
        }
        _ => {
            restore(lab, &["--before-gtid", &step.gtid], killed);
            compare(lab, &history.at(step.number - 1), &what);
        }
    }
}

/// Of what came after the last commit nothing is known: such a point is refused.
fn is_after_the_last(lab: &Lab, time: &str) -> bool {
    let target = lab.path("target");
    let target = target.to_str().unwrap();
    let said = lab.restore(&["--point-in-time", time, "--plan", "--target", target]);
    said.code == 4 && said.stderr.contains("is after the last transaction")
}

/// The report of a restore into `target`.
fn restore(lab: &Lab, point: &[&str], killed: bool) -> Value {
    let target = lab.path("target");
    let arguments = [point, &["--json", "--target", target.to_str().unwrap()]].concat();
    if killed {
        let mut command = lab.restore_command(&arguments);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        // Anywhere between the fetching and the end.
        thread::sleep(Duration::from_millis(500 + u64::from(child.id() % 1500)));
        drop(child.kill());
        child.wait().unwrap();
        if !target.exists() || is_done(&target) {
            remove(&target);
        }
    }
    lab.restore(&arguments).expect(0).json()
}

/// A restore that had ended before it was killed.
fn is_done(target: &Path) -> bool {
    target.join("ibdata1").exists() && !target.join(".replay").exists() && !marker(target)
}

fn marker(target: &Path) -> bool {
    let names = std::fs::read_dir(target).unwrap();
    names.flatten().any(|entry| entry.file_name().to_string_lossy().contains("restor"))
}

fn remove(target: &Path) {
    drop(std::fs::remove_dir_all(target));
}

/// The last number that the restored server has.
fn reached(report: &Value) -> u64 {
    let reached = report["replayed"]["reached"].as_str().unwrap_or_default();
    reached.rsplit('-').next().and_then(|text| text.parse().ok()).unwrap_or(0)
}

fn compare(lab: &Lab, expected: &Content, what: &str) {
    let target = lab.path("target");
    let copy = MariaDb::start_on(&target, Options::default()).unwrap();
    let found = Content::read(&copy).unwrap();
    drop(copy);
    assert_eq!(expected.difference(&found), None, "{what}");
    remove(&target);
}
