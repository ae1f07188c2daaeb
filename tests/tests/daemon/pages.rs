//! What monitoring sees.

use std::fs;

use super::lab::{Lab, shell};

#[test]
fn the_numbers_follow_the_runs_and_survive_a_restart() {
    let lab = Lab::with_site("schedule = '@daily'");
    let daemon = lab.start();
    assert!(daemon.page("/healthz").starts_with("HTTP/1.1 200 "));
    lab.ctl(&["now"]).expect(0);
    let numbers = daemon.page("/metrics");
    let expect =
        |numbers: &str, line: &str| assert!(numbers.contains(line), "no {line}: {numbers}");
    expect(&numbers, "holdfast_backup_runs_total{job=\"site\",outcome=\"done\"} 1\n");
    expect(&numbers, "holdfast_backup_last_run_success{job=\"site\"} 1\n");
    expect(&numbers, "holdfast_backup_size_bytes{job=\"site\"} 16\n");
    expect(&numbers, "holdfast_backup_in_depot{job=\"site\",depot=\"vault\"} 1\n");
    expect(&numbers, "holdfast_backup_running{job=\"site\"} 0\n");
    daemon.stop();
    let daemon = lab.start();
    let numbers = daemon.page("/metrics");
    expect(&numbers, "holdfast_backup_last_run_success{job=\"site\"} 1\n");
    expect(&numbers, "# TYPE holdfast_backup_last_success_timestamp_seconds gauge\n");
}

#[test]
fn a_failed_run_is_unhealthy_until_one_succeeds() {
    let lab = Lab::with_site("");
    let flag = lab.path("fail");
    fs::write(&flag, "").unwrap();
    lab.configure(
        &lab.site(&format!("before = {}", shell(&format!("! [ -e {} ]", flag.display())))),
    );
    let daemon = lab.start();
    lab.ctl(&["now"]).expect(1);
    let page = daemon.page("/healthz");
    assert!(page.starts_with("HTTP/1.1 503 "), "{page}");
    assert!(page.contains("job site: last run failed: before hook failed"), "{page}");
    let numbers = daemon.page("/metrics");
    assert!(numbers.contains("holdfast_backup_runs_total{job=\"site\",outcome=\"failed\"} 1\n"));
    lab.ctl(&["status"]).expect(1).expect_error("problem: job site: last run failed");
    fs::remove_file(&flag).unwrap();
    lab.ctl(&["now"]).expect(0);
    assert!(daemon.page("/healthz").starts_with("HTTP/1.1 200 "));
    lab.ctl(&["status"]).expect(0);
}

#[test]
fn a_job_that_was_due_thrice_without_a_backup_is_overdue() {
    let lab = Lab::with_site("schedule = '@daily'");
    let daemon = lab.start();
    lab.ctl(&["now"]).expect(0);
    daemon.stop();
    let memory = lab.path("state/site/last-run.json");
    let mut history: serde_json::Value =
        serde_json::from_slice(&fs::read(&memory).unwrap()).unwrap();
    // As if the daemon had run all the time without making a backup.
    history["last"]["started"] = "2026-01-01T00:00:00Z".into();
    history["last_good"]["started"] = "2026-01-01T00:00:00Z".into();
    fs::write(&memory, history.to_string()).unwrap();
    let daemon = lab.start();
    let page = daemon.page("/healthz");
    assert!(page.contains("job site: overdue, the last backup is "), "{page}");
}
