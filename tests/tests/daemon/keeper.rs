//! The keeper's own schedule: what is due is verified and pruned by the daemon, and told.

use std::fs;

use rustix::process::Signal;

use super::lab::{Daemon, Lab, wait_for};

const KEEPER: &str = "[keeper]\nschedule = '@yearly'\nverify = 'checksums'\n\
                      [keeper.default]\nkeep-last = 1\n";

/// A host with two backups; its keeper has not run for years.
fn lab() -> (Lab, Vec<String>) {
    let lab = Lab::with_site("");
    let daemon = lab.start();
    lab.ctl(&["now"]).expect(0);
    fs::write(lab.path("www/new.php"), "new").unwrap();
    lab.ctl(&["now"]).expect(0);
    daemon.stop();
    let ids = lab.ids();
    fs::create_dir(lab.path("state/_keeper")).unwrap();
    let served = r#"{"served":"2020-01-01T00:00:00Z"}"#;
    fs::write(lab.path("state/_keeper/last-run.json"), served).unwrap();
    lab.configure(&format!("{}{KEEPER}", lab.site("")));
    (lab, ids)
}

fn wait_for_run(lab: &Lab, daemon: &Daemon) -> serde_json::Value {
    let status = || lab.ctl(&["status", "--json"]).json()["daemon"]["keeper"].clone();
    wait_for("has run", || !status()["last"].is_null(), || daemon.log());
    status()
}

#[test]
fn a_missed_run_of_the_keeper_is_made_up_for_and_told() {
    let (lab, ids) = lab();
    let daemon = lab.start();
    let keeper = wait_for_run(&lab, &daemon);
    let depot = &keeper["last"]["depots"][0];
    assert_eq!((depot["verified"].as_u64(), depot["snapshots"].as_u64()), (Some(2), Some(1)));
    assert_eq!(lab.ids(), ids[1..]);
    lab.ctl(&["status"]).expect(0).expect_out("keeper: done 2").expect_out(", next 2");
    let numbers = daemon.page("/metrics");
    for line in [
        "holdfast_keeper_deleted_backups_total{depot=\"vault\"} 1\n",
        "holdfast_keeper_depot_kept{depot=\"vault\"} 1\n",
        "holdfast_keeper_running 0\n",
    ] {
        assert!(numbers.contains(line), "no {line}: {numbers}");
    }
    assert!(numbers.contains("holdfast_keeper_last_success_timestamp_seconds "), "{numbers}");
    let before = keeper["last"]["started"].clone();
    daemon.stop();
    // It does not run again before it is due, and a configuration without it ends it.
    let daemon = lab.start();
    assert_eq!(wait_for_run(&lab, &daemon)["last"]["started"], before);
    lab.configure(&lab.site(""));
    daemon.signal(Signal::HUP);
    daemon.wait_log("the new configuration is in force");
    assert!(lab.ctl(&["status", "--json"]).json()["daemon"]["keeper"].is_null());
}

#[test]
fn a_damaged_depot_is_told_and_not_pruned() {
    let (lab, ids) = lab();
    let folders = fs::read_dir(lab.path("depot/pack")).unwrap();
    let files = folders.flat_map(|folder| fs::read_dir(folder.unwrap().path()).unwrap());
    let pack = files.map(|file| file.unwrap().path()).next().unwrap();
    let length = fs::metadata(&pack).unwrap().len() as usize;
    fs::remove_file(&pack).unwrap();
    fs::write(&pack, vec![0; length]).unwrap();
    let daemon = lab.start();
    let keeper = wait_for_run(&lab, &daemon);
    assert_eq!(keeper["last"]["outcome"].as_str(), Some("failed"));
    let name = pack.file_name().unwrap().to_str().unwrap();
    let finding = keeper["last"]["depots"][0]["findings"][0].as_str().unwrap().to_owned();
    assert!(finding.contains(name), "{finding}");
    assert_eq!(lab.ids(), ids);
    let problem = "keeper: depot vault: 1 objects are damaged: nothing is pruned";
    lab.ctl(&["status"]).expect(1).expect_error(problem);
    assert!(daemon.page("/healthz").contains(problem));
}
