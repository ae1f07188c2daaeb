//! Runs that were asked for: how they end, and what hooks, depots and other runs do to them.

use std::fs;
use std::path::Path;
use std::process::Command;

use rustix::process::Signal;

use super::lab::{Lab, ctl, shell, wait_for};

#[test]
fn a_job_is_checked_asked_for_and_seen_everywhere() {
    let lab = Lab::with_site("schedule = '@daily'");
    lab.ctl(&["check"]).expect(0).expect_out("depot vault: writable ... OK");
    let daemon = lab.start();
    let status = lab.ctl(&["status"]).expect(0);
    assert!(status.stdout.starts_with("restorable: site nothing yet\n"), "{}", status.stdout);
    lab.ctl(&["now"]).expect(0).expect_out("site: done in ").expect_out("(2 files, ");
    fs::write(lab.path("www/new.php"), "new").unwrap();
    let again = lab.ctl(&["now", "--json", "site"]).expect(0).json();
    assert_eq!(
        (again[0]["outcome"].as_str(), again[0]["bytes"].as_u64()),
        (Some("done"), Some(19))
    );
    let ids = lab.ids();
    assert_eq!(ids.len(), 2);
    assert_eq!(again[0]["snapshot"].as_str(), Some(ids[1].as_str()));
    let status = lab.ctl(&["status"]).expect(0);
    assert!(status.stdout.starts_with("restorable: site 2"), "{}", status.stdout);
    assert!(
        status.stdout.lines().next().unwrap().ends_with(" UTC (2 backups)"),
        "{}",
        status.stdout
    );
    lab.ctl(&["check"]).expect(0).expect_out(" was put earlier today");
    drop(daemon);
    // Everything but `now` works without the daemon.
    lab.ctl(&["list"]).expect(0).expect_out(&ids[0]);
    lab.ctl(&["verify"]).expect(0).expect_out("vault: OK: 2 backups");
    lab.ctl(&["status"]).expect(1).expect_out("restorable: site 2").expect_error("is not running");
    lab.ctl(&["now"]).expect(1).expect_error("hint: start it with `systemctl start backupd`");
}

#[test]
fn two_runs_of_one_job_at_once_are_refused() {
    let lab = Lab::with_site("");
    let (begun, go) = (lab.path("begun"), lab.path("go"));
    let wait =
        format!("touch {}; until [ -e {} ]; do sleep 0.02; done", begun.display(), go.display());
    let site = lab.site(&format!("before = {}", shell(&wait)));
    lab.configure(&site);
    let daemon = lab.start();
    lab.ctl(&["now", "--no-wait"]).expect(0).expect_out("site: asked for");
    wait_for("begins", || begun.exists(), || daemon.log());
    lab.ctl(&["now", "site"]).expect(5).expect_error("job `site` is running since ");
    lab.ctl(&["now", "--json", "site"]).expect(5).expect_error("\"exit\":5");
    lab.ctl(&["status"]).expect(0).expect_out("running since");
    // Another daemon with the same state directory does not get it either.
    let second_config = lab.configure_second("second.sock", &site);
    let second = lab.start_with(&second_config, &[]);
    ctl(&second_config, &["now"])
        .expect(5)
        .expect_error(&format!("job `site` is running already (process {})", daemon.id()));
    second.stop();
    fs::write(&go, "").unwrap();
    daemon.wait_log("run done");
    assert_eq!(lab.ids().len(), 1);
}

#[test]
fn hooks_are_told_what_happens_and_can_prevent_it() {
    let lab = Lab::with_site("");
    let told = lab.path("told");
    let script = |name: &str| {
        shell(&format!(
            "echo {name} $HOLDFAST_JOB $HOLDFAST_STATE ${{HOLDFAST_SNAPSHOT:-none}} \
                        ${{HOLDFAST_ERROR:-fine}} >> {}",
            told.display()
        ))
    };
    let hooks = format!("after = {}\nafter-failed = {}", script("after"), script("failed"));
    lab.configure(&lab.site(&format!("before = {}\n{hooks}", script("before"))));
    let daemon = lab.start();
    lab.ctl(&["now"]).expect(0);
    let id = lab.ids().remove(0);
    let expected = format!("before site starting {id} fine\nafter site done {id} fine\n");
    assert_eq!(fs::read_to_string(&told).unwrap(), expected);
    drop(daemon);

    fs::remove_file(&told).unwrap();
    lab.configure(&lab.site(&format!("before = {}\n{hooks}", shell("echo is locked; exit 9"))));
    let daemon = lab.start();
    lab.ctl(&["now"])
        .expect(1)
        .expect_out("site: FAILED")
        .expect_error("before hook failed with exit status: 9: is locked");
    let error = "before hook failed with exit status: 9: is locked";
    let expected = format!("after site failed none {error}\nfailed site failed none {error}\n");
    assert_eq!(fs::read_to_string(&told).unwrap(), expected);
    assert_eq!(lab.ids(), [id]);
    drop(daemon);

    // What is stored stays, but a run whose end did not work is not all that it should be.
    lab.configure(&lab.site(&format!("after = {}", shell("exit 1"))));
    let _daemon = lab.start();
    lab.ctl(&["now"]).expect(3).expect_out("site: partial in ").expect_error("after hook failed");
    assert_eq!(lab.ids().len(), 2);
}

#[test]
fn what_was_left_out_is_in_the_report() {
    let lab = Lab::with_site("");
    fs::write(lab.path("www/a.log"), "x").unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(lab.path("www/socket")).unwrap();
    lab.configure(&format!("{}exclude = ['*.log']\n", lab.site("")));
    let _daemon = lab.start();
    lab.ctl(&["now"]).expect(0).expect_out("site: left out: 1 excluded, 1 sockets, pipes and dev");
    let report = lab.ctl(&["now", "--json"]).expect(0).json();
    let tree = &report[0]["tree"];
    assert_eq!((tree["excluded"].as_u64(), tree["skipped"].as_u64()), (Some(1), Some(1)), "{tree}");
    let status = lab.ctl(&["status", "--json"]).expect(0).json();
    assert_eq!(status["daemon"]["jobs"][0]["last"]["tree"], *tree);
}

#[test]
fn a_run_that_takes_too_long_is_ended() {
    let lab = Lab::with_site("");
    // Longer than the 4 seconds that a hook is given when the daemon stops: this is another stop.
    let after = shell(&format!("sleep 5; touch {}", lab.path("after").display()));
    let before = shell("sleep 600");
    lab.configure(&lab.site(&format!("deadline = '300ms'\nbefore = {before}\nafter = {after}")));
    let _daemon = lab.start();
    lab.ctl(&["now"])
        .expect(1)
        .expect_error("the run took longer than 300 ms")
        .expect_error("hint: raise `jobs.site.deadline`");
    assert!(lab.path("after").exists());
}

#[test]
fn a_run_that_cannot_be_recorded_is_told_all_the_same() {
    let lab = Lab::with_site("");
    let daemon = lab.start();
    lab.ctl(&["now"]).expect(0);
    lab.ctl(&["status"]).expect(0);
    // Nothing can take this name any more; what is read of it is as good as nothing.
    let memory = lab.path("state/site/last-run.json");
    fs::remove_file(&memory).unwrap();
    fs::create_dir_all(memory.join("x")).unwrap();
    move_away(&lab.path("depot"), &lab.path("away"));
    lab.ctl(&["now"]).expect(1).expect_error("record the run");
    let health = daemon.page("/healthz");
    assert!(health.contains(" 503 ") && health.contains("job site: last run failed"), "{health}");
    assert!(daemon.page("/metrics").contains("last_run_success{job=\"site\"} 0"));
    move_away(&lab.path("away"), &lab.path("depot"));
    lab.ctl(&["status"]).expect(1).expect_error("job site: last run failed");
}

#[test]
fn names_of_files_cannot_forge_lines_of_the_log() {
    let lab = Lab::with_site("");
    let name = lab.path("www/x\nERROR all is lost \u{1b}[2J");
    assert!(Command::new("mkfifo").arg(name).status().unwrap().success());
    let daemon = lab.start();
    lab.ctl(&["now"]).expect(0);
    let log = daemon.log();
    assert!(log.contains("`x\\nERROR all is lost \\u{1b}[2J` is left out"), "{log}");
}

#[test]
fn a_root_that_may_not_be_mounted_is_not_backed_up() {
    let lab = Lab::with_site("");
    fs::remove_file(lab.path("www/index.php")).unwrap();
    let daemon = lab.start();
    lab.ctl(&["now"]).expect(1).expect_error("www is empty").expect_error("is it mounted?");
    lab.ctl(&["check"]).expect(1).expect_out("is it mounted?");
    lab.ctl(&["list"]).expect(4);
    let job = lab.site("");
    lab.configure(&format!("{job}allow-empty = true\n"));
    daemon.signal(Signal::HUP);
    daemon.wait_log("the new configuration is in force");
    lab.ctl(&["now"]).expect(0);
    lab.ctl(&["check"]).expect(0);
}

#[test]
fn a_depot_that_is_down_does_not_stop_the_others_and_is_caught_up() {
    let lab = Lab::with_site("");
    let second = lab.path("second");
    let table = format!("[depots.second.directory]\npath = '{}'\n", second.display());
    lab.configure(&format!("{}{table}", lab.site("")));
    lab.ctl(&["depot", "init", "second"]).expect(0);
    let _daemon = lab.start();
    lab.ctl(&["now"]).expect(0);
    move_away(&second, &lab.path("away"));
    lab.ctl(&["now"]).expect(3).expect_out("site: partial").expect_error("not in depot second: ");
    lab.ctl(&["status"]).expect(1).expect_out("vault").expect_out("second (down)");
    lab.ctl(&["list"]).expect(3).expect_error("second").expect_out(" vault\n");
    goes_on_without_it(&lab);
    move_away(&lab.path("away"), &second);
    lab.ctl(&["status"]).expect(1).expect_out("second (behind)");
    lab.ctl(&["now"]).expect(0);
    lab.ctl(&["status"]).expect(0);
    let rows = lab.ctl(&["list", "--json"]).expect(0).json();
    for row in rows.as_array().unwrap() {
        assert_eq!(row["depots"].as_array().unwrap().len(), 2, "{row}");
    }
    lab.ctl(&["verify", "--depot", "second"]).expect(0).expect_out("second: OK: 3 backups");
}

/// The depot `second`, which is asked first, is down.
fn goes_on_without_it(lab: &Lab) {
    lab.ctl(&["verify"]).expect(3).expect_out("vault: OK: 2 backups").expect_error("second: ");
    let all = lab.ctl(&["verify", "--json"]).expect(3).json();
    assert!(all[0]["error"].is_string() && all[1]["findings"].is_array(), "{all}");
    let ids = lab.ids();
    lab.ctl(&["verify", &ids[0], "site--20261101T000000Z--web1"])
        .expect(3)
        .expect_error("no depot that answers has a backup `site--20261101T000000Z--web1`");
    let text = fs::read_to_string(lab.path("backupd.toml")).unwrap();
    let keeper = lab.path("keeper.toml");
    fs::write(&keeper, format!("{text}[keeper.default]\nkeep-last = 9\n")).unwrap();
    ctl(&keeper, &["prune"]).expect(3).expect_out("vault: 2 backups stay").expect_error("second: ");
    ctl(&keeper, &["keep", &ids[0]]).expect(3).expect_out("is kept in vault");
}

fn move_away(from: &Path, to: &Path) {
    fs::rename(from, to).unwrap();
}

#[test]
fn a_run_without_any_depot_fails() {
    let lab = Lab::with_site("");
    fs::remove_dir_all(lab.path("depot")).unwrap();
    let _daemon = lab.start();
    lab.ctl(&["now"]).expect(1).expect_error("vault").expect_error("hint: ");
    lab.ctl(&["list"]).expect(1).expect_error("no depot answers");
    lab.ctl(&["check"]).expect(1).expect_out("depot vault: reachable ... FAILED");
}

#[test]
fn a_clock_that_was_set_back_is_told_and_can_be_accepted() {
    let lab = Lab::with_site("");
    let daemon = lab.start();
    lab.ctl(&["now"]).expect(0);
    drop(daemon);
    // As if the last run had been made by a clock far ahead.
    let memory = lab.path("state/site/last-run.json");
    let text = fs::read_to_string(&memory).unwrap();
    let id = lab.ids().remove(0);
    let ahead = id.replace("--2", "--3");
    fs::write(&memory, text.replace(&id, &ahead)).unwrap();
    let _daemon = lab.start();
    lab.ctl(&["now"])
        .expect(1)
        .expect_error("behind the last backup")
        .expect_error("--accept-clock");
    // The id of the next one must be another than that of the first, which the memory has lost.
    let second = || chrono::Utc::now().format("%H%M%SZ").to_string();
    wait_for("is a second later", || !id.contains(&second()), || id.clone());
    lab.ctl(&["now", "--accept-clock"]).expect(0);
    lab.ctl(&["now"]).expect(0);
}

#[test]
fn unknown_jobs_and_a_host_without_jobs_have_a_code_of_their_own() {
    let lab = Lab::with_site("");
    let daemon = lab.start();
    lab.ctl(&["now", "sit"]).expect(4).expect_error("hint: did you mean `site`?");
    lab.ctl(&["check", "db"]).expect(4);
    lab.ctl(&["show", "site--20261123T021500Z--web1"]).expect(4).expect_error("backupctl list");
    lab.ctl(&["list"]).expect(4);
    drop(daemon);
    lab.configure("");
    let _daemon = lab.start();
    lab.ctl(&["now"]).expect(4).expect_error("no job is configured");
}
