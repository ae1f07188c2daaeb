//! The keeper's table, and times that are too long.

use snapbox::str;

use super::{check, job, whole};

#[test]
fn nothing_is_waited_for_longer_than_a_run_may_take() {
    check(
        &job("jitter = '300000y'"),
        str![[r#"
exit 2
error: backupd.toml:6:10: jobs.site.jitter: 300000years is not allowed
  |
6 | jitter = '300000y'
  |          ^^^^^^^^^
hint: at most 48h, as long as a run may take

"#]],
    );
}

#[test]
fn a_keeper_must_keep_something_and_long_enough() {
    check(
        &whole("[keeper]\ngrace = '1h'"),
        str![[r#"
exit 2
error: backupd.toml:6:9: keeper.grace: 1h is too short
  |
6 | grace = '1h'
  |         ^^^^
hint: at least 72h: a run of up to 48 hours may still refer to a condemned pack

"#]],
    );
    check(
        &whole("[keeper]\nschedule = '30 25 * * *'"),
        str![[r#"
exit 2
error: backupd.toml:6:12: schedule `30 25 * * *`: hour: `25` is not one
  |
6 | schedule = '30 25 * * *'
  |            ^^^^^^^^^^^^^
hint: hour is a number from 0 to 23

"#]],
    );
    check(
        &whole("[keeper.jobs.site]"),
        str![[r#"
exit 2
error: backupd.toml:5:14: keeper.jobs.site: keeps nothing
  |
5 | [keeper.jobs.site]
  |              ^^^^
hint: say what to keep, such as `daily = 14`; leave the table out to keep all

"#]],
    );
    check(
        &whole("[keeper]\ndepots = ['b']"),
        str![[r#"
exit 2
error: backupd.toml:6:10: keeper.depots: no depot is called `b`
  |
6 | depots = ['b']
  |          ^^^^^
hint: defined in this file: vault

"#]],
    );
}
