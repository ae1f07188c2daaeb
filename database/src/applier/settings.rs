//! How servers of either flavour are told to replicate.

use crate::binlog_server::Login;
use crate::replica::Have;
use crate::version::Flavour;

/// The statements of a flavour.
#[derive(Debug)]
pub(super) struct Statements {
    is_mariadb: bool,
    /// What is applied.
    pub have: &'static str,
    /// How replication stands, in one row.
    pub status: &'static str,
    /// The columns of it that say whether its two parts run.
    pub receiver_runs: &'static str,
    pub applier_runs: &'static str,
    /// Ends replication and forgets it.
    pub end: &'static [&'static str],
}

impl Statements {
    pub fn of(flavour: Flavour) -> Self {
        match flavour {
            Flavour::MariaDb => Self {
                is_mariadb: true,
                have: "SELECT @@global.gtid_slave_pos",
                status: "SHOW SLAVE STATUS",
                receiver_runs: "Slave_IO_Running",
                applier_runs: "Slave_SQL_Running",
                end: &["STOP SLAVE", "RESET SLAVE ALL"],
            },
            Flavour::MySql | Flavour::Percona => Self {
                is_mariadb: false,
                have: "SELECT @@global.gtid_executed",
                status: "SHOW REPLICA STATUS",
                receiver_runs: "Replica_IO_Running",
                applier_runs: "Replica_SQL_Running",
                end: &["STOP REPLICA", "RESET REPLICA ALL"],
            },
        }
    }

    /// Says what a database has.
    pub fn set_have(&self, have: &Have) -> Vec<String> {
        if self.is_mariadb {
            return vec![format!("SET GLOBAL gtid_slave_pos = '{have}'")];
        }
        vec!["RESET BINARY LOGS AND GTIDS".to_owned(), format!("SET GLOBAL gtid_purged = '{have}'")]
    }

    /// Begins to replicate from a server, and tries again quickly if the connection breaks.
    pub fn follow(&self, login: &Login) -> Vec<String> {
        let (host, port) = (login.address.ip(), login.address.port());
        let (user, password) = (login.user, login.password.expose());
        if self.is_mariadb {
            return vec![
                "STOP SLAVE".to_owned(),
                "RESET SLAVE ALL".to_owned(),
                format!(
                    "CHANGE MASTER TO MASTER_HOST='{host}', MASTER_PORT={port}, \
                     MASTER_USER='{user}', MASTER_PASSWORD='{password}', MASTER_SSL=0, \
                     MASTER_CONNECT_RETRY=1, MASTER_HEARTBEAT_PERIOD=0, \
                     MASTER_USE_GTID=slave_pos"
                ),
                "START SLAVE".to_owned(),
            ];
        }
        vec![
            "STOP REPLICA".to_owned(),
            "RESET REPLICA ALL".to_owned(),
            format!(
                "CHANGE REPLICATION SOURCE TO SOURCE_HOST='{host}', SOURCE_PORT={port}, \
                 SOURCE_USER='{user}', SOURCE_PASSWORD='{password}', SOURCE_SSL=0, \
                 SOURCE_CONNECT_RETRY=1, SOURCE_RETRY_COUNT=86400, \
                 SOURCE_HEARTBEAT_PERIOD=0, SOURCE_AUTO_POSITION=1, GET_SOURCE_PUBLIC_KEY=0"
            ),
            "START REPLICA".to_owned(),
        ]
    }
}
