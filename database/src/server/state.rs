//! What is asked of a server, and how the answers are read.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use anyhow::Context;
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Value};
use serde::{Deserialize, Serialize};

use super::{block_on, connect};
use crate::options::OptionFile;
use crate::version::{Flavour, Version};

/// The most rows of variables, status or grants that are read.
const ROWS_MAX: usize = 20_000;

/// What [`ServerState::settings`] has.
const SETTINGS: [&str; 15] = [
    "log_bin",
    "binlog_format",
    "log_slave_updates",
    "sync_binlog",
    "binlog_row_image",
    "binlog_checksum",
    "binlog_expire_logs_seconds",
    "expire_logs_days",
    "gtid_strict_mode",
    "gtid_domain_id",
    "gtid_mode",
    "enforce_gtid_consistency",
    "wsrep_gtid_mode",
    "wsrep_gtid_domain_id",
    "max_binlog_size",
];

/// A server at one moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServerState {
    /// Its version.
    pub version: Version,
    /// Its version with all suffixes.
    pub version_text: String,
    /// Who made it.
    pub flavour: Flavour,
    /// Its data directory.
    pub datadir: PathBuf,
    /// Its id in replication; the nodes of a Galera cluster may share one.
    pub server_id: u32,
    /// Whether it writes a binary log.
    pub log_bin: bool,
    /// Path and first part of the name of its binary logs.
    pub log_bin_basename: Option<PathBuf>,
    /// Whether what it applies from other servers is in its binary log too.
    pub log_replica_updates: bool,
    /// `ROW`, `STATEMENT` or `MIXED`.
    pub binlog_format: String,
    /// `@@gtid_binlog_pos` of MariaDB or `@@gtid_executed` of MySQL; none if empty.
    pub gtid: Option<String>,
    /// Whether ordinary users cannot write.
    pub read_only: bool,
    /// The size of InnoDB's pages, in bytes.
    pub page_size: u32,
    /// The size of all tablespaces, in bytes; an estimate, for progress only.
    pub data_bytes: u64,
    /// The state of the Galera node; none if the server is in no cluster.
    pub galera: Option<GaleraState>,
    /// The account that is used, as `user@host`.
    pub account: String,
    /// Privileges of that account on everything, in capitals.
    pub privileges: Vec<String>,
    /// Settings that decide whether the binary log can be archived, as the server prints them.
    #[serde(default)]
    pub settings: BTreeMap<String, String>,
}

/// A node of a Galera cluster at one moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GaleraState {
    /// The state UUID of the cluster.
    pub cluster_uuid: String,
    /// `Primary` if the node is in the part that may write.
    pub cluster_status: String,
    /// How many nodes this one sees.
    pub cluster_size: u32,
    /// 4 is synced, 2 is donor or desynced.
    pub local_state: u8,
    /// The state in words.
    pub local_state_text: String,
    /// The last write set that was applied.
    pub last_committed: i64,
    /// Write sets that wait to be applied.
    pub receive_queue: u64,
    /// Whether flow control is switched off on this node.
    pub is_desynced: bool,
    /// Whether replicated transactions have one GTID on all nodes (MariaDB).
    pub gtid_mode: bool,
}

impl GaleraState {
    /// Whether the node is up to date with a cluster that may write.
    pub fn is_synced(&self) -> bool {
        self.cluster_status == "Primary" && self.local_state == 4
    }
}

impl ServerState {
    /// Connects, asks, and hangs up. Blocks; not to be called from async code.
    ///
    /// Fails with a [`chassis::failure::Failure`] if the server cannot be reached.
    pub fn read(options: &OptionFile) -> anyhow::Result<Self> {
        block_on(options, async {
            let mut connection = connect(options).await?;
            let state = Self::ask(&mut connection).await;
            drop(connection.disconnect().await);
            state
        })
    }

    /// A setting as the server prints it; empty if it has none of this name.
    pub fn setting(&self, name: &str) -> &str {
        self.settings.get(name).map_or("", String::as_str)
    }

    /// Asks over a connection.
    pub async fn ask(connection: &mut Conn) -> anyhow::Result<Self> {
        let variables = pairs(connection, "SHOW GLOBAL VARIABLES").await?;
        let status = pairs(connection, "SHOW GLOBAL STATUS LIKE 'wsrep%'").await?;
        let account: Option<String> =
            connection.query_first("SELECT CURRENT_USER()").await.context("ask for the account")?;
        let grants: Vec<String> =
            connection.query("SHOW GRANTS").await.context("ask for grants")?;
        let data_bytes = data_bytes(connection).await;
        let text = |name: &str| variables.get(name).cloned().unwrap_or_default();
        let version_text = text("version");
        let flavour = Flavour::of(&version_text, &text("version_comment"));
        let gtid = match flavour {
            Flavour::MariaDb => text("gtid_binlog_pos"),
            Flavour::MySql | Flavour::Percona => text("gtid_executed"),
        };
        Ok(Self {
            version: version_text.parse().context("read version of the server")?,
            version_text,
            flavour,
            datadir: text("datadir").into(),
            server_id: number(&text("server_id")),
            log_bin: is_on(&text("log_bin")),
            log_bin_basename: some(text("log_bin_basename")).map(PathBuf::from),
            log_replica_updates: is_on(&text("log_slave_updates"))
                || is_on(&text("log_replica_updates")),
            binlog_format: text("binlog_format"),
            gtid: some(gtid.split_whitespace().collect()),
            // MariaDB 12 has words for the levels of read_only; all but the first mean that users
            // cannot write.
            read_only: !matches!(text("read_only").as_str(), "OFF" | "0" | ""),
            page_size: number(&text("innodb_page_size")),
            data_bytes,
            galera: has_galera(&variables).then(|| galera(&variables, &status)),
            account: account.unwrap_or_default(),
            privileges: global_privileges(&grants),
            settings: SETTINGS
                .iter()
                .filter_map(|name| Some(((*name).to_owned(), variables.get(*name)?.clone())))
                .collect(),
        })
    }
}

/// A server may have the variables without a provider; then it is in no cluster.
fn has_galera(variables: &HashMap<String, String>) -> bool {
    let value = |name: &str| variables.get(name).map_or("", String::as_str);
    is_on(value("wsrep_on")) && !matches!(value("wsrep_provider"), "" | "none")
}

fn galera(variables: &HashMap<String, String>, status: &HashMap<String, String>) -> GaleraState {
    let status = |name: &str| status.get(name).cloned().unwrap_or_default();
    let is_set = |name: &str| variables.get(name).is_some_and(|value| is_on(value));
    GaleraState {
        cluster_uuid: status("wsrep_cluster_state_uuid"),
        cluster_status: status("wsrep_cluster_status"),
        cluster_size: number(&status("wsrep_cluster_size")),
        local_state: number(&status("wsrep_local_state")),
        local_state_text: status("wsrep_local_state_comment"),
        last_committed: status("wsrep_last_committed").parse().unwrap_or(-1),
        receive_queue: number(&status("wsrep_local_recv_queue")),
        is_desynced: is_set("wsrep_desync"),
        gtid_mode: is_set("wsrep_gtid_mode"),
    }
}

async fn pairs(connection: &mut Conn, query: &str) -> anyhow::Result<HashMap<String, String>> {
    let rows: Vec<(String, Value)> =
        connection.query(query).await.with_context(|| format!("ask the server: {query}"))?;
    Ok(rows
        .into_iter()
        .take(ROWS_MAX)
        .map(|(name, value)| (name.to_ascii_lowercase(), plain(value)))
        .collect())
}

/// A value of the text protocol as text; NULL and what is not UTF-8 as far as it goes.
fn plain(value: Value) -> String {
    match value {
        Value::Bytes(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        _ => String::new(),
    }
}

/// The size of all tablespaces, or of the tables that the account may see, or 0: it is only for
/// progress.
async fn data_bytes(connection: &mut Conn) -> u64 {
    let queries = [
        "SELECT CAST(SUM(FILE_SIZE) AS UNSIGNED) FROM information_schema.INNODB_SYS_TABLESPACES",
        "SELECT CAST(SUM(FILE_SIZE) AS UNSIGNED) FROM information_schema.INNODB_TABLESPACES",
        "SELECT CAST(SUM(DATA_LENGTH + INDEX_LENGTH) AS UNSIGNED) FROM information_schema.TABLES",
    ];
    for query in queries {
        if let Ok(Some(Some(bytes))) = connection.query_first::<Option<u64>, _>(query).await {
            return bytes;
        }
    }
    0
}

/// `GRANT RELOAD, PROCESS ON *.* TO …` gives `RELOAD` and `PROCESS`. Rights on single databases are
/// passed over.
fn global_privileges(grants: &[String]) -> Vec<String> {
    let mut privileges: Vec<String> = grants
        .iter()
        .take(ROWS_MAX)
        .filter_map(|grant| grant.strip_prefix("GRANT ")?.split_once(" ON *.* TO "))
        .flat_map(|(list, _)| {
            list.split(',').map(|privilege| privilege.trim().to_ascii_uppercase())
        })
        .collect();
    privileges.sort();
    privileges.dedup();
    privileges
}

fn is_on(value: &str) -> bool {
    value.eq_ignore_ascii_case("ON") || value == "1"
}

fn number<N: std::str::FromStr + Default>(text: &str) -> N {
    text.parse().unwrap_or_default()
}

fn some(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn privileges_on_everything_are_read_from_grants() {
        let grants = [
            "GRANT RELOAD, PROCESS ON *.* TO `b`@`localhost` IDENTIFIED BY PASSWORD '*D8'"
                .to_owned(),
            "GRANT BACKUP_ADMIN ON *.* TO `b`@`localhost`".to_owned(),
            "GRANT SELECT ON `db`.* TO `b`@`localhost`".to_owned(),
        ];
        assert_eq!(global_privileges(&grants), ["BACKUP_ADMIN", "PROCESS", "RELOAD"]);
        let all =
            ["GRANT ALL PRIVILEGES ON *.* TO `root`@`localhost` WITH GRANT OPTION".to_owned()];
        assert_eq!(global_privileges(&all), ["ALL PRIVILEGES"]);
    }
}
