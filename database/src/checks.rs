//! The conditions under which backups of a database work, one by one, each with what to do about
//! it.
//!
//! [`check_database`] goes and looks; [`checks`] judges what was seen, without I/O, so that it can
//! be tested against states that no test server can be brought into.

mod log;

use std::path::Path;

use serde::Serialize;

pub use self::log::{check_log, log_checks};
use crate::options::OptionFile;
use crate::server::{GaleraState, ServerState};
use crate::tool::{self, BackupTool, ToolAt};
use crate::version::{Flavour, Version};

/// One condition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was looked at, in two or three words.
    pub name: String,
    /// Whether it is as it should be.
    pub ok: bool,
    /// What was seen.
    pub detail: String,
    /// What to do, if it is not.
    pub hint: Option<String>,
}

impl Check {
    fn good(name: &str, detail: impl Into<String>) -> Self {
        Self { name: name.to_owned(), ok: true, detail: detail.into(), hint: None }
    }

    fn bad(name: &str, detail: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { name: name.to_owned(), ok: false, detail: detail.into(), hint: Some(hint.into()) }
    }

    fn failed(name: &str, error: &anyhow::Error) -> Self {
        let hint = chassis::failure::hint_of(error).map(str::to_owned);
        Self { name: name.to_owned(), ok: false, detail: format!("{error:#}"), hint }
    }
}

/// Looks at the option file, the tool and the server, and judges them. Blocks; takes at most
/// [`crate::server::READ_TIME_MAX`]. What cannot be seen because something before it failed is left
/// out.
pub fn check_database(tool: BackupTool, option_file: &Path) -> Vec<Check> {
    let mut found = Vec::new();
    let options = match OptionFile::read(option_file, tool) {
        Ok(options) => options,
        Err(error) => return vec![Check::failed("option file", &error)],
    };
    found.push(option_file_is_private(&options));
    let at = tool::find(tool);
    match &at {
        Ok(at) => {
            found.push(Check::good("backup tool", format!("{} {}", at.path.display(), at.version)));
        }
        Err(error) => found.push(Check::failed("backup tool", error)),
    }
    match ServerState::read(&options) {
        Ok(state) => {
            let detail = format!("{} {} at {}", state.flavour, state.version, options.endpoint());
            found.push(Check::good("server", detail));
            found.push(datadir_is_readable(&state));
            found.extend(checks(&state, at.as_ref().ok()));
        }
        Err(error) => found.push(Check::failed("server", &error)),
    }
    found
}

/// Judges the state of a server, and whether the tool fits it if there is one.
pub fn checks(state: &ServerState, at: Option<&ToolAt>) -> Vec<Check> {
    let mut found = Vec::new();
    found.extend(at.map(|at| tool_fits(state, at)));
    found.push(grants(state));
    found.push(binary_log(state));
    if let Some(galera) = &state.galera {
        found.push(galera_is_synced(galera));
        found.push(galera_binary_log(state, galera));
    }
    found
}

fn option_file_is_private(options: &OptionFile) -> Check {
    match options.check_private() {
        Ok(()) => Check::good("option file", options.path.display().to_string()),
        Err(error) => Check::failed("option file", &error),
    }
}

fn datadir_is_readable(state: &ServerState) -> Check {
    let path = state.datadir.display();
    match std::fs::read_dir(&state.datadir) {
        Ok(_) => Check::good("data directory", path.to_string()),
        Err(error) => Check::bad(
            "data directory",
            format!("{path}: {error}"),
            "the backup tool copies its files: run on the server's host, as its user or as root",
        ),
    }
}

fn tool_fits(state: &ServerState, at: &ToolAt) -> Check {
    const NAME: &str = "tool fits server";
    let detail = format!("{} {} on {} {}", at.tool, at.version, state.flavour, state.version);
    let wanted = BackupTool::for_flavour(state.flavour);
    if at.tool != wanted {
        return Check::bad(NAME, detail, format!("use {wanted} for {}", state.flavour));
    }
    if at.fits(state.version) {
        return Check::good(NAME, detail);
    }
    let Version { major, minor, .. } = state.version;
    Check::bad(
        NAME,
        detail,
        format!("install {} of series {major}.{minor}, as new as the server", at.tool),
    )
}

/// The privileges that a backup needs on everything; of each group any one will do.
pub fn privileges_needed(flavour: Flavour, version: Version) -> &'static [&'static [&'static str]] {
    const OLD: &[&[&str]] =
        &[&["RELOAD"], &["PROCESS"], &["LOCK TABLES"], &["REPLICATION CLIENT", "SUPER"]];
    const MARIADB: &[&[&str]] = &[
        &["RELOAD"],
        &["PROCESS"],
        &["LOCK TABLES"],
        &["BINLOG MONITOR", "REPLICATION CLIENT", "SUPER"],
    ];
    const MYSQL: &[&[&str]] = &[
        &["RELOAD"],
        &["PROCESS"],
        &["LOCK TABLES"],
        &["REPLICATION CLIENT", "SUPER"],
        &["BACKUP_ADMIN"],
    ];
    match flavour {
        Flavour::MariaDb if version >= Version::of(10, 5, 0) => MARIADB,
        Flavour::MySql | Flavour::Percona if version >= Version::of(8, 0, 0) => MYSQL,
        _ => OLD,
    }
}

fn grants(state: &ServerState) -> Check {
    const NAME: &str = "grants";
    let has = |privilege: &&str| {
        state.privileges.iter().any(|held| held == *privilege || held == "ALL PRIVILEGES")
    };
    let needed = privileges_needed(state.flavour, state.version);
    let missing: Vec<&str> =
        needed.iter().filter(|group| !group.iter().any(has)).map(|group| group[0]).collect();
    if missing.is_empty() {
        return Check::good(NAME, format!("{} has what a backup needs", state.account));
    }
    let missing = missing.join(", ");
    let account = quote_account(&state.account);
    Check::bad(
        NAME,
        format!("{} lacks {missing}", state.account),
        format!("GRANT {missing} ON *.* TO {account};"),
    )
}

fn quote_account(account: &str) -> String {
    let (user, host) = account.rsplit_once('@').unwrap_or((account, "%"));
    format!("'{}'@'{}'", user.replace('\'', "''"), host.replace('\'', "''"))
}

fn binary_log(state: &ServerState) -> Check {
    const NAME: &str = "binary log";
    if !state.log_bin {
        return Check::bad(
            NAME,
            "log_bin is off: nothing after the last backup could be restored",
            "set log_bin in the server's configuration and restart it",
        );
    }
    let gtid = state.gtid.as_deref().unwrap_or("none yet");
    Check::good(NAME, format!("format {}, GTID {}", state.binlog_format, abbreviate(gtid)))
}

fn galera_is_synced(galera: &GaleraState) -> Check {
    const NAME: &str = "galera node";
    let detail = format!(
        "{}, {}, {} nodes, {} write sets waiting",
        galera.cluster_status, galera.local_state_text, galera.cluster_size, galera.receive_queue
    );
    if galera.is_synced() && !galera.is_desynced {
        return Check::good(NAME, detail);
    }
    let hint = if galera.is_desynced {
        "wsrep_desync is on: wait for the backup or state transfer that set it, or set it off"
    } else {
        "wait until the node is Synced in the Primary component, or back up another node"
    };
    Check::bad(NAME, detail, hint)
}

fn galera_binary_log(state: &ServerState, galera: &GaleraState) -> Check {
    const NAME: &str = "galera binary log";
    if state.log_bin && !state.log_replica_updates {
        let hint = "set log_slave_updates (log_replica_updates in MySQL 8) and restart the server";
        return Check::bad(NAME, "what other nodes write is not in this node's binary log", hint);
    }
    if state.flavour == Flavour::MariaDb && !galera.gtid_mode {
        let hint = "set wsrep_gtid_mode=ON and one server_id on all nodes";
        return Check::bad(NAME, "a transaction has another GTID on every node", hint);
    }
    Check::good(NAME, "holds what all nodes write")
}

fn abbreviate(text: &str) -> String {
    const SHOWN_MAX: usize = 80;
    let mut short: String = text.chars().take(SHOWN_MAX).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(super) fn state() -> ServerState {
        ServerState {
            version: Version::of(10, 11, 19),
            version_text: "10.11.19-MariaDB".into(),
            flavour: Flavour::MariaDb,
            datadir: "/var/lib/mysql".into(),
            server_id: 1,
            log_bin: true,
            log_bin_basename: None,
            log_replica_updates: true,
            binlog_format: "ROW".into(),
            gtid: Some("0-1-10".into()),
            read_only: false,
            page_size: 16384,
            data_bytes: 1 << 30,
            galera: None,
            account: "o'neil@localhost".into(),
            privileges: ["BINLOG MONITOR", "LOCK TABLES", "PROCESS", "RELOAD"]
                .map(String::from)
                .to_vec(),
            settings: std::collections::BTreeMap::new(),
        }
    }

    fn tool(tool: BackupTool, version: Version, server: Version) -> ToolAt {
        ToolAt { tool, path: "x".into(), version, server }
    }

    /// The names of the checks that failed, with their hints.
    fn failed(state: &ServerState, at: Option<&ToolAt>) -> Vec<(String, String)> {
        let failed = checks(state, at).into_iter().filter(|check| !check.ok);
        failed.map(|check| (check.name, check.hint.unwrap_or_default())).collect()
    }

    #[test]
    fn a_server_that_is_ready_passes() {
        let at = tool(BackupTool::MariaDb, Version::of(10, 11, 2), Version::of(10, 11, 2));
        assert_eq!(failed(&state(), Some(&at)), []);
    }

    #[test]
    fn a_missing_grant_is_named_with_its_statement() {
        let mut lacking = state();
        lacking.privileges.retain(|p| p != "BINLOG MONITOR" && p != "RELOAD");
        let hint = "GRANT RELOAD, BINLOG MONITOR ON *.* TO 'o''neil'@'localhost';";
        assert_eq!(failed(&lacking, None), [("grants".to_owned(), hint.to_owned())]);
        let all = ServerState { privileges: vec!["ALL PRIVILEGES".into()], ..state() };
        assert_eq!(failed(&all, None), []);
    }

    #[test]
    fn a_tool_fits_servers_of_its_series() {
        let check = |at: ToolAt, flavour, version, expected: bool| {
            let state = ServerState { version, flavour, ..state() };
            assert_eq!(tool_fits(&state, &at).ok, expected, "{at:?} {flavour} {version}");
        };
        let mariadb = || tool(BackupTool::MariaDb, Version::of(10, 11, 5), Version::of(10, 11, 5));
        let percona = || tool(BackupTool::Percona, Version::of(8, 0, 35), Version::of(8, 0, 35));
        let old = || tool(BackupTool::Percona, Version::of(2, 4, 29), Version::of(5, 7, 44));
        check(mariadb(), Flavour::MariaDb, Version::of(10, 11, 19), true);
        check(mariadb(), Flavour::MariaDb, Version::of(11, 4, 2), false);
        check(percona(), Flavour::MariaDb, Version::of(10, 11, 19), false);
        check(percona(), Flavour::Percona, Version::of(8, 0, 35), true);
        check(percona(), Flavour::MySql, Version::of(8, 0, 36), false);
        check(old(), Flavour::MySql, Version::of(5, 6, 50), true);
        check(old(), Flavour::MySql, Version::of(8, 0, 30), false);
    }

    #[test]
    fn a_galera_node_must_be_synced_and_log_what_others_write() {
        let galera = GaleraState {
            cluster_uuid: String::new(),
            cluster_status: "Primary".into(),
            cluster_size: 3,
            local_state: 4,
            local_state_text: "Synced".into(),
            last_committed: 7,
            receive_queue: 0,
            is_desynced: false,
            gtid_mode: true,
        };
        let names = |galera: GaleraState, log_replica_updates| -> Vec<String> {
            let state = ServerState { galera: Some(galera), log_replica_updates, ..state() };
            failed(&state, None).into_iter().map(|(name, _)| name).collect()
        };
        assert_eq!(names(galera.clone(), true), [] as [&str; 0]);
        assert_eq!(names(galera.clone(), false), ["galera binary log"]);
        assert_eq!(
            names(GaleraState { gtid_mode: false, ..galera.clone() }, true),
            ["galera binary log"]
        );
        assert_eq!(names(GaleraState { local_state: 2, ..galera.clone() }, true), ["galera node"]);
        assert_eq!(
            names(GaleraState { cluster_status: "non-Primary".into(), ..galera }, true),
            ["galera node"]
        );
    }
}
