//! What the next start would refuse.

use snapbox::str;

use super::{check, database, job, whole};

#[test]
fn what_the_next_start_would_refuse_is_refused_here() {
    check(
        &format!("metrics-listen = '0.0.0.0:9180'\n{}", whole("")),
        str![[r#"
exit 2
error: backupd.toml:1:18: metrics-listen: 0.0.0.0:9180 can be reached by other hosts
  |
1 | metrics-listen = '0.0.0.0:9180'
  |                  ^^^^^^^^^^^^^^
hint: set `metrics-remote = true` if that is wanted

"#]],
    );
    check(
        &whole("[log]\nlevel = 'depot=loud'"),
        str![[r#"
exit 2
error: backupd.toml:6:9: log.level: `depot=loud` is not a log level
  |
6 | level = 'depot=loud'
  |         ^^^^^^^^^^^^
hint: write error, warn, info, debug or trace, or parts as in "info,depot=debug"

"#]],
    );
    check(
        "host = 'log1'\n[depots.v.directory]\npath = 'depot'",
        str![[r#"
exit 2
error: backupd.toml:3:8: depots.v.directory.path: `depot` is not an absolute path
  |
3 | path = 'depot'
  |        ^^^^^^^
hint: begin it with `/`: a daemon has no directory of its own

"#]],
    );
    check(
        &job("hook-timeout = '0s'"),
        str![[r#"
exit 2
error: backupd.toml:6:16: jobs.site.hook-timeout: nothing can be done in no time
  |
6 | hook-timeout = '0s'
  |                ^^^^
hint: write such as `10m`

"#]],
    );
    check(
        &database("stall-timeout = '0s'"),
        str![[r#"
exit 2
error: backupd.toml:8:17: jobs.db.database.stall-timeout: nothing can be done in no time
  |
8 | stall-timeout = '0s'
  |                 ^^^^
hint: write such as `10m`

"#]],
    );
}
