//! The oracle itself is proven, and the archive with it, by the tools of the server: `mariadb-binlog | mariadb`.

use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::Signal;
use tests::lab::Lab;
use tests::oracle::{Content, Oracle};
use tests::servers::mariadb::{MariaDb, Options};
use tests::tree::Dice;

use crate::archive::{Effort, fetch, job, server, wait_archived, wait_written};

#[test]
fn the_pieces_replayed_by_the_server_s_own_tool_give_the_commits_up_to_the_point() {
    let effort = Effort::from_environment();
    let mut server = server();
    let oracle = Oracle::new(&server, effort.seed, effort.sizes).unwrap();
    let lab = Lab::new("");
    lab.configure(&job(&server));
    let mut daemon = lab.start();
    let half = effort.steps as u64 / 2;
    oracle.write_while(&server.socket(), 4, || wait_written(&server, half));
    oracle.write_while(&server.socket(), 4, || {
        daemon.signal(Signal::KILL);
        server.sql("FLUSH BINARY LOGS").unwrap();
        wait_written(&server, half + half / 2);
        daemon = lab.start();
        // The server dies in the middle of it all.
        server.kill();
        server.start_again().unwrap();
        wait_written(&server, half + half);
    });
    wait_archived(&lab, &server, &daemon);
    let history = oracle.history(&server).unwrap();
    assert_eq!(history.latest().difference(&Content::read(&server).unwrap()), None);
    let deaths = history.deaths();
    assert!(deaths.len() <= 4, "sessions died of something else than their server: {deaths:?}");
    // One that lacks a commit is found out.
    let last = history.steps().last().unwrap().number;
    let other = history.at(history.steps()[history.steps().len() / 2].number);
    assert!(history.latest().difference(&other).is_some());

    let mut dice = Dice::new(effort.seed);
    let points = (0..effort.points.min(3)).map(|_| history.pick(&mut dice, 0).number);
    for number in points.chain([last]) {
        let copy = replay(&lab, number);
        let found = Content::read(&copy).unwrap();
        assert_eq!(history.at(number).difference(&found), None, "up to {number} of {last}");
    }
}

/// A new server that the log up to a number was piped into.
fn replay(lab: &Lab, number: u64) -> MariaDb {
    let extra = vec!["--max-allowed-packet=1G".to_owned()];
    let copy = MariaDb::start(Options { extra, ..Options::default() }).unwrap();
    let mut before = 0;
    for (file, upto) in fetch(lab, number) {
        pipe(&file, before, upto, &copy);
        before = upto;
    }
    copy
}

/// One session for all files would be better; temporary tables are not in the log here.
fn pipe(file: &Path, after: u64, upto: u64, server: &MariaDb) {
    let script = "set -o pipefail; mariadb-binlog --no-defaults --start-position=0-1-$2 \
         --stop-position=0-1-$3 $1 | mariadb --no-defaults --user=root --binary-mode \
         --max-allowed-packet=1G --socket $4";
    let mut command = Command::new("bash");
    command.args(["-c", script, "bash"]).arg(file).args([after.to_string(), upto.to_string()]);
    let output = command.arg(server.socket()).stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {said}", file.display());
}
