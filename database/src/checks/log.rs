//! The conditions under which a server's binary log can be archived, and a database brought to any
//! transaction with it.

use std::path::Path;

use super::{Check, option_file_is_private};
use crate::options::OptionFile;
use crate::server::ServerState;
use crate::tool::BackupTool;
use crate::version::Flavour;

/// An outage of the archive that is shorter must not cost a hole.
const EXPIRY_MIN_SECS: u64 = 24 * 3600;

/// Looks at the option file and the server. Blocks, as [`super::check_database`] does.
pub fn check_log(tool: BackupTool, option_file: &Path) -> Vec<Check> {
    let options = match OptionFile::read(option_file, tool) {
        Ok(options) => options,
        Err(error) => return vec![Check::failed("option file", &error)],
    };
    let mut found = vec![option_file_is_private(&options)];
    match ServerState::read(&options) {
        Ok(state) => {
            let detail = format!("{} {} at {}", state.flavour, state.version, options.endpoint());
            found.push(Check::good("server", detail));
            found.extend(log_checks(&state));
        }
        Err(error) => found.push(Check::failed("server", &error)),
    }
    found
}

/// Judges the state of a server.
pub fn log_checks(state: &ServerState) -> Vec<Check> {
    let mut found = vec![grants(state)];
    found.push(wants(state, "log_bin", state.log_bin, "log_bin = binlog"));
    if !state.log_bin {
        return found;
    }
    found.push(wants(state, "binlog_format", state.binlog_format == "ROW", "binlog_format = ROW"));
    let updates = state.log_replica_updates;
    found.push(wants(state, "log_slave_updates", updates, "log_slave_updates = ON"));
    found.push(is_set(state, "sync_binlog", "1"));
    found.push(is_set(state, "binlog_row_image", "FULL"));
    found.push(expiry(state));
    if state.flavour == Flavour::MariaDb {
        found.push(is_set(state, "gtid_strict_mode", "ON"));
    } else {
        found.push(is_set(state, "gtid_mode", "ON"));
        found.push(is_set(state, "enforce_gtid_consistency", "ON"));
    }
    if state.galera.is_some() && state.flavour == Flavour::MariaDb {
        found.push(is_set(state, "wsrep_gtid_mode", "ON"));
        // Any other value is lost when the cluster comes back after a power failure.
        found.push(is_set(state, "wsrep_gtid_domain_id", "0"));
        let domain = state.setting("gtid_domain_id");
        let is_own = !matches!(domain, "" | "0");
        found.push(wants(
            state,
            "gtid_domain_id",
            is_own,
            "gtid_domain_id = N, another on each node",
        ));
    }
    found
}

fn grants(state: &ServerState) -> Check {
    let has = |names: &[&str]| {
        names.iter().any(|name| state.privileges.iter().any(|own| own == name))
            || state.privileges.iter().any(|own| own == "ALL PRIVILEGES")
    };
    let wanted: &[&[&str]] = match state.flavour {
        Flavour::MariaDb => &[
            &["REPLICATION SLAVE", "REPLICATION REPLICA"],
            &["BINLOG MONITOR", "REPLICATION CLIENT", "SUPER"],
        ],
        Flavour::MySql | Flavour::Percona => &[&["REPLICATION SLAVE"], &["REPLICATION CLIENT"]],
    };
    let missing: Vec<&str> =
        wanted.iter().filter(|names| !has(names)).map(|names| names[0]).collect();
    if missing.is_empty() {
        return Check::good("grants", state.account.clone());
    }
    let missing = missing.join(", ");
    Check::bad(
        "grants",
        format!("{} lacks {missing}", state.account),
        format!("GRANT {missing} ON *.* TO {}", state.account),
    )
}

fn is_set(state: &ServerState, name: &str, wanted: &str) -> Check {
    let value = state.setting(name);
    let is_on = |value: &str| matches!(value, "ON" | "1" | "ROW" | "FULL");
    let fits =
        value.eq_ignore_ascii_case(wanted) || is_on(value) && is_on(wanted) && wanted == "ON";
    wants(state, name, fits, &format!("{name} = {wanted}"))
}

fn wants(state: &ServerState, name: &str, is_good: bool, line: &str) -> Check {
    let value = match state.setting(name) {
        "" => "not set",
        value => value,
    };
    if is_good {
        return Check::good(name, value);
    }
    Check::bad(name, value, format!("set `{line}` under [mysqld]: {}", why(name)))
}

/// What goes wrong without it.
fn why(name: &str) -> &'static str {
    match name {
        "log_bin" => "there is nothing to archive",
        "binlog_format" => "statements may do something else when they are replayed",
        "log_slave_updates" => "what comes from other nodes is not in this log",
        "sync_binlog" => "after a crash the server may use ids again that are archived",
        "binlog_row_image" => "rows are not whole in the log",
        "gtid_strict_mode" => "numbers may come out of order, and then a hole cannot be told",
        "gtid_mode" | "enforce_gtid_consistency" => "without ids the log cannot be gone on with",
        "wsrep_gtid_mode" | "wsrep_gtid_domain_id" | "gtid_domain_id" => {
            "the nodes of the cluster have different ids for the same transaction"
        }
        _ => "see docs/databases.md",
    }
}

/// 0 is for ever.
fn expiry(state: &ServerState) -> Check {
    const NAME: &str = "binlog expiry";
    let number = |name: &str| state.setting(name).parse::<f64>().ok();
    let seconds = number("binlog_expire_logs_seconds").unwrap_or_default();
    let days = number("expire_logs_days").unwrap_or_default();
    let seconds = if seconds > 0.0 { seconds } else { days * 86_400.0 } as u64;
    let detail = format!("{seconds} s");
    if seconds == 0 || seconds >= EXPIRY_MIN_SECS {
        return Check::good(NAME, if seconds == 0 { "never".to_owned() } else { detail });
    }
    Check::bad(
        NAME,
        detail,
        "set binlog_expire_logs_seconds to a day or more: a longer outage of the archive is a hole",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(settings: &[(&str, &str)]) -> ServerState {
        let mut state = crate::checks::tests::state();
        state.privileges.push("REPLICATION SLAVE".into());
        for (name, value) in settings {
            state.settings.insert((*name).to_owned(), (*value).to_owned());
        }
        state
    }

    #[test]
    fn settings_that_would_cost_transactions_are_named() {
        let bad = |settings: &[(&str, &str)]| {
            let checks = log_checks(&state(settings));
            let bad = checks.into_iter().filter(|check| !check.ok).map(|check| check.name);
            bad.collect::<Vec<_>>()
        };
        let good = [
            ("sync_binlog", "1"),
            ("binlog_row_image", "FULL"),
            ("gtid_strict_mode", "ON"),
            ("binlog_expire_logs_seconds", "864000"),
        ];
        assert_eq!(bad(&good), [""; 0]);
        let mut other = good;
        other[0].1 = "0";
        assert_eq!(bad(&other), ["sync_binlog"]);
        other = good;
        other[2].1 = "OFF";
        assert_eq!(bad(&other), ["gtid_strict_mode"]);
        other = good;
        other[3].1 = "3600";
        assert_eq!(bad(&other), ["binlog expiry"]);
        assert!(bad(&[]).len() > 2);
    }
}
