//! Jobs that archive a log.

use snapbox::str;

use super::{check, whole};

#[test]
fn a_log_job_has_no_runs_and_sensible_limits() {
    let log = |job: &str, lines: &str| {
        whole(&format!(
            "[jobs.log]\n{job}\n[jobs.log.log]\ntool = 'mariadb-backup'\noption-file = '/o'\n{lines}"
        ))
    };
    check(
        &log("schedule = '@daily'", ""),
        str![[r#"
exit 2
error: backupd.toml:5:7: jobs.log: has a schedule or a hook
  |
5 | [jobs.log]
  |       ^^^
hint: a log is archived all the time: leave them out

"#]],
    );
    check(
        &log("", "base = 'none'"),
        str![[r#"
exit 2
error: backupd.toml:10:8: jobs.log.log.base: is no database job of this file
   |
10 | base = 'none'
   |        ^^^^^^
hint: name the job whose backups this log brings forward

"#]],
    );
    check(
        &log("", "max-lag = '10ms'"),
        str![[r#"
exit 2
error: backupd.toml:7:11: jobs.log.log: a limit is too small
  |
7 | [jobs.log.log]
  |           ^^^
hint: max-lag at least 1s, segment-size at least 64KiB, spool-limit at least 64MiB

"#]],
    );
}
