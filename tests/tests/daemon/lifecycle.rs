//! The daemon from its start to its end: signals, reloads, crashes, and what systemd is told.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::lab::{Lab, shell, start_failing, wait_for};

/// Fills the tree with what neither compresses nor repeats, and makes the depot slow: a run takes minutes.
fn slow(lab: &Lab, lines: &str) {
    let mut seed = 7u64;
    let mut noise = Vec::new();
    while noise.len() < 40 << 20 {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        noise.extend_from_slice(&(seed ^ (seed >> 29)).to_le_bytes());
    }
    fs::write(lab.path("www/noise"), noise).unwrap();
    lab.configure_vault("upload-limit = '64KiB'", &lab.site(lines));
}

fn packs(lab: &Lab) -> usize {
    let folders = fs::read_dir(lab.path("depot/pack")).unwrap();
    folders.map(|folder| fs::read_dir(folder.unwrap().path()).unwrap().count()).sum()
}

#[test]
fn a_stop_in_the_middle_of_a_run_commits_nothing_and_is_quick() {
    let lab = Lab::with_site("");
    let told = lab.path("told");
    let hook = shell(&format!("echo $HOLDFAST_STATE >> {}", told.display()));
    slow(&lab, &format!("after = {hook}"));
    let daemon = lab.start();
    lab.ctl(&["now", "--no-wait"]).expect(0);
    wait_for("uploads", || packs(&lab) > 0, || daemon.log());
    let start = Instant::now();
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.end(), 0);
    assert!(start.elapsed() < Duration::from_secs(20));
    assert_eq!(fs::read_to_string(&told).unwrap(), "failed\n");
    lab.ctl(&["list"]).expect(4);
    let history = fs::read_to_string(lab.path("state/site/last-run.json")).unwrap();
    assert!(
        history.contains("the run was stopped") && history.contains("\"exit\": 130"),
        "{history}"
    );
    lab.configure(&lab.site(""));
    let _daemon = lab.start();
    lab.ctl(&["now"]).expect(0);
    lab.ctl(&["verify", "--deep", "--identity", &lab.identity()]).expect(0);
}

#[test]
fn a_command_that_waits_is_told_that_the_daemon_stops() {
    let lab = Lab::with_site("");
    slow(&lab, "");
    let daemon = lab.start();
    let said = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| lab.ctl(&["now"]));
        wait_for("uploads", || packs(&lab) > 0, || daemon.log());
        daemon.signal(Signal::TERM);
        waiting.join().unwrap()
    });
    said.expect(130).expect_error("the run was stopped");
    assert_eq!(daemon.end(), 0);
}

#[test]
fn a_daemon_that_was_killed_starts_again_and_goes_on() {
    let lab = Lab::with_site("");
    slow(&lab, "");
    let daemon = lab.start();
    lab.ctl(&["now", "--no-wait"]).expect(0);
    wait_for("uploads", || packs(&lab) > 0, || daemon.log());
    daemon.signal(Signal::KILL);
    assert_eq!(daemon.end(), -1);
    lab.ctl(&["list"]).expect(4);
    lab.configure(&lab.site(""));
    let _daemon = lab.start();
    lab.ctl(&["now"]).expect(0);
    lab.ctl(&["verify"]).expect(0);
}

#[test]
fn a_run_that_was_missed_is_made_up_for_once() {
    let lab = Lab::with_site("schedule = '@daily'");
    lab.start().stop();
    lab.ctl(&["list"]).expect(4);
    let memory = lab.path("state/site/last-run.json");
    let mut history: serde_json::Value =
        serde_json::from_slice(&fs::read(&memory).unwrap()).unwrap();
    history["served"] = "2026-01-01T00:00:00Z".into();
    fs::write(&memory, history.to_string()).unwrap();
    let daemon = lab.start();
    daemon.wait_log("run done");
    assert!(daemon.log().contains("reason=Missed"), "{}", daemon.log());
    daemon.stop();
    // It is dealt with now.
    let daemon = lab.start();
    lab.ctl(&["status"]).expect(0).expect_out("done ");
    assert!(!daemon.log().contains("run is due"), "{}", daemon.log());
    assert_eq!(lab.ids().len(), 1);
}

#[test]
fn a_reload_takes_a_good_configuration_and_keeps_the_old_one_on_a_bad_one() {
    let lab = Lab::with_site("");
    let daemon = lab.start();
    let other = lab.site("").replace("jobs.site", "jobs.other");
    lab.configure(&format!("{}{other}", lab.site("schedule = '@daily'")));
    daemon.signal(Signal::HUP);
    daemon.wait_log("the new configuration is in force");
    lab.ctl(&["now", "other"]).expect(0);
    let status = lab.ctl(&["status", "--json"]).expect(0).json();
    assert!(status["daemon"]["jobs"][1]["next_due"].is_string(), "{status}");

    lab.configure(&lab.site("shedule = '@daily'"));
    daemon.signal(Signal::HUP);
    daemon.wait_log("failed to reload, going on as before");
    assert!(daemon.log().contains("unknown field `shedule`"), "{}", daemon.log());
    assert!(daemon.page("/metrics").contains("holdfast_backup_config_good 0\n"));

    lab.configure(&lab.site(""));
    daemon.signal(Signal::HUP);
    wait_for("is taken", || daemon.page("/metrics").contains("config_good 1\n"), || daemon.log());
    lab.ctl(&["now", "other"]).expect(4);
    lab.ctl(&["now", "site"]).expect(0);
    assert!(!daemon.page("/metrics").contains("job=\"other\""));
    daemon.stop();
}

#[test]
fn a_reload_changes_all_or_nothing_and_may_bring_the_first_job() {
    let lab = Lab::new("");
    let daemon = lab.start();
    assert!(!lab.path("state/block.key").exists());
    // The other job has no place for what it is to remember.
    fs::write(lab.path("state/zz"), "").unwrap();
    let site = lab.site("schedule = '@daily'");
    let other = lab.site("").replace("jobs.site", "jobs.zz");
    lab.configure(&format!("{site}{other}"));
    daemon.signal(Signal::HUP);
    daemon.wait_log("failed to reload, going on as before");
    lab.ctl(&["now", "site"]).expect(4);
    lab.configure(&site);
    daemon.signal(Signal::HUP);
    daemon.wait_log("the new configuration is in force");
    lab.ctl(&["now", "site"]).expect(0);
}

#[test]
fn a_backup_is_recorded_before_the_hook_after_it() {
    let lab = Lab::with_site("");
    let begun = lab.path("begun");
    let hook = shell(&format!("touch {}; sleep 600", begun.display()));
    lab.configure(&lab.site(&format!("after = {hook}")));
    let daemon = lab.start();
    lab.ctl(&["now", "--no-wait"]).expect(0);
    wait_for("begins", || begun.exists(), || daemon.log());
    let id = lab.ids().remove(0);
    let history = || fs::read_to_string(lab.path("state/site/last-run.json")).unwrap();
    assert!(history().contains(&id) && history().contains("\"outcome\": \"done\""));
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.end(), 0);
    let history = history();
    assert!(history.contains("after hook was ended: the daemon is stopping"), "{history}");
}

#[test]
fn what_cannot_change_by_a_reload_is_refused() {
    let lab = Lab::with_site("");
    let daemon = lab.start();
    let second = lab.configure_second("elsewhere.sock", &lab.site(""));
    let first = fs::read(lab.path("backupd.toml")).unwrap();
    fs::copy(second, lab.path("backupd.toml")).unwrap();
    daemon.signal(Signal::HUP);
    daemon.wait_log("`control-socket` cannot change by a reload");
    fs::write(lab.path("backupd.toml"), first).unwrap();
    lab.ctl(&["now"]).expect(0);
    lab.ctl(&["status"]).expect(1).expect_error("the configuration was not taken over");
}

#[test]
fn the_first_start_makes_private_files_and_a_second_daemon_is_refused() {
    let lab = Lab::with_site("");
    let _daemon = lab.start();
    let mode = |name: &str| fs::metadata(lab.path(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode("state"), 0o700);
    assert_eq!(mode("state/block.key"), 0o600);
    assert_eq!(mode("state/site"), 0o700);
    assert_eq!(mode("control.sock"), 0o600);
    assert_eq!(mode("identity"), 0o600);
    let config = lab.configure_second("control.sock", &lab.site(""));
    let said = start_failing(&config).expect(5);
    said.expect_error("another daemon answers").expect_error("hint: ");
}

#[test]
fn systemd_is_told_when_the_daemon_is_up_reloads_and_stops() {
    let lab = Lab::with_site("");
    let path = lab.path("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let receive = || {
        let mut buffer = [0; 4096];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    };
    let until = |word: &str| {
        let mut seen = Vec::new();
        while !seen.iter().any(|message: &String| message.contains(word)) {
            seen.push(receive());
        }
        seen
    };
    let daemon = lab.start_with(&lab.path("backupd.toml"), &[("NOTIFY_SOCKET", &path)]);
    until("READY=1");
    until("STATUS=site: on demand");
    daemon.signal(Signal::HUP);
    until("RELOADING=1");
    until("READY=1");
    lab.ctl(&["now"]).expect(0);
    until("STATUS=site: running");
    daemon.signal(Signal::TERM);
    until("STOPPING=1");
    assert_eq!(daemon.end(), 0);
}
