//! How the server is started that applies a log.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use anyhow::Result;

use super::ApplierOptions;
use crate::scratch::settings;
use crate::version::Flavour;

/// The server's socket, in a directory of its own.
pub(super) const SOCKET: &str = "sock";

/// The server holds the lock that comes as standard input. What comes as standard output is the
/// reading end of a pipe: when nobody is left at the other end, the server is shut down.
const TETHER: &str = "exec 3<&0
\"$@\" <&3 3<&- >&2 & server=$!
{ read -r _ <&1; kill \"$server\"; } 3<&- & tether=$!
exec 3<&-
wait \"$server\"; code=$?
kill \"$tether\"
exit \"$code\"";

/// Ids of servers are 32 bits; this is in none of the ranges that people use.
const SERVER_ID: u32 = 4_294_901_761;

/// Settings of both flavours.
const COMMON: &[&str] = &[
    "--skip-grant-tables",
    "--skip-networking",
    "--skip-slave-start",
    "--event-scheduler=OFF",
    "--loose-wsrep-on=OFF",
    "--loose-wsrep-provider=none",
    "--innodb-buffer-pool-load-at-startup=OFF",
    "--innodb-buffer-pool-dump-at-shutdown=OFF",
    // The death of the process loses nothing with 2.
    "--innodb-flush-log-at-trx-commit=2",
    "--sync-binlog=0",
    "--sync-relay-log=0",
    "--sync-relay-log-info=0",
    "--sync-master-info=0",
    "--relay-log-purge=ON",
    "--relay-log-space-limit=1073741824",
    "--max-relay-log-size=67108864",
    "--slave-net-timeout=86400",
    "--max-allowed-packet=1073741824",
    "--slave-max-allowed-packet=1073741824",
    "--local-infile=OFF",
];

const MARIADB: &[&str] = &[
    "--innodb-log-file-size=512M",
    "--slave-parallel-mode=optimistic",
    "--gtid-strict-mode=OFF",
    "--slave-sql-verify-checksum=ON",
    "--sql-mode=",
];

const MYSQL: &[&str] = &[
    "--gtid-mode=ON",
    "--enforce-gtid-consistency=ON",
    "--innodb-redo-log-capacity=1073741824",
    "--mysqlx=OFF",
    "--replica-preserve-commit-order=ON",
    "--relay-log-recovery=ON",
];

pub(super) fn command(options: &ApplierOptions<'_>, socket: &Path) -> Result<Command> {
    let &ApplierOptions { program, prepared, home, .. } = options;
    let file = settings(prepared, home)?;
    let mut command = Command::new("/bin/sh");
    command.args(["-c", TETHER, "sh"]).arg(program);
    // Nothing of the server that is installed here.
    command.arg(match &file {
        Some(file) => path("--defaults-file=", file),
        None => "--no-defaults".into(),
    });
    command.arg(path("--datadir=", prepared));
    command.arg(path("--socket=", &socket.join(SOCKET)));
    command.arg(path("--pid-file=", &home.join("pid")));
    // Not the directory of other servers: a server that starts removes all temporary tables there.
    command.arg(path("--tmpdir=", home));
    command.arg(path("--relay-log=", &home.join("relay")));
    command.arg(path("--relay-log-index=", &home.join("relay.index")));
    command.args(COMMON);
    command.arg(format!("--server-id={SERVER_ID}"));
    command.arg(format!("--innodb-buffer-pool-size={}", options.memory_bytes));
    let workers = options.workers;
    if options.flavour == Flavour::MariaDb {
        command.args(MARIADB);
        command.arg(path("--master-info-file=", &home.join("master.info")));
        command.arg(path("--relay-log-info-file=", &home.join("relay-log.info")));
        // One thread that only applies is quicker than one that others are led by.
        let threads = if workers > 1 { workers } else { 0 };
        command.arg(format!("--slave-parallel-threads={threads}"));
        command.arg(format!("--slave-domain-parallel-threads={}", threads / 2));
    } else {
        command.args(MYSQL);
        command.arg(format!("--replica-parallel-workers={workers}"));
    }
    if options.log_bin {
        command.args(["--log-bin=binlog", "--log-slave-updates", "--binlog-format=ROW"]);
    } else {
        command.args(["--skip-log-bin", "--replicate-same-server-id"]);
    }
    if rustix::process::getuid().is_root() {
        command.arg("--user=root");
    }
    command.process_group(0);
    Ok(command)
}

fn path(name: &str, value: &Path) -> OsString {
    let mut option = OsString::from(name);
    option.push(value);
    option
}
