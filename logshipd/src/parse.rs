//! From an entry of a log to the fields of a document. No I/O, no clock, no configuration file.
//!
//! A [`Format`] says how the lines of a log belong together ([`Format::joint`]) and what an entry says
//! ([`Format::parse`]). One pass over the borrowed entry, in time that grows with its length only.
//! Which field comes from where is in `docs/logs.md`; the names are those of the Elastic Common Schema.

mod address;
pub(crate) mod agent;
mod auth;
mod cluster;
mod error_log;
mod fingerprint;
mod galera;
pub mod haproxy;
pub mod nginx;
mod nginx_error;
mod php;
mod request;
mod scan;
mod slow;
mod slow_fields;
mod stamp;
pub mod syslog;

use std::sync::Arc;

use chrono_tz::Tz;
use serde::{Deserialize, Serialize};

use crate::document::{Document, UnixNanos};

/// What a parser must know that is not in the line.
#[derive(Clone, Debug)]
pub struct Context {
    /// When the entry was read: gives the year where a log has none, and the hour that was twice.
    pub read_at: UnixNanos,
    /// The zone of times that name none.
    pub zone: Tz,
    /// What must not leave the host.
    pub privacy: Privacy,
}

impl Context {
    /// For questions whose answer depends on neither time nor place.
    fn anywhere() -> Self {
        Self { read_at: 0, zone: Tz::UTC, privacy: Privacy::default() }
    }
}

/// What must not leave the host. Nothing is hidden unless it is asked for.
///
/// It holds for fields. Whoever ships the raw line as well, ships what is in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Privacy {
    /// Queries are shipped as their fingerprint: without the values.
    pub mask_literals: bool,
    /// Query strings keep the names of their parameters and lose the values.
    pub mask_query_strings: bool,
    /// Addresses lose what tells people apart: the last 8 bits of IPv4, the last 80 of IPv6.
    pub truncate_addresses: bool,
}

/// Why an entry is not what its format says. The document is as it was before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unparsed(pub &'static str);

/// How a line relates to the entry that is open before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Joint {
    /// It begins an entry, which may go on; the open one is complete.
    Start,
    /// It is an entry, which never goes on; the open one is complete.
    Whole,
    /// It belongs to the open entry.
    Continue,
}

/// What kind of log an entry is of; the middle of the name of its data stream.
#[expect(missing_docs, reason = "each is what its name says")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Dataset {
    NginxAccess,
    NginxError,
    Haproxy,
    MysqlSlow,
    MysqlError,
    PhpError,
    PhpFpm,
    PhpSlow,
    PhpAccess,
    Keepalived,
    Proxysql,
    Lsyncd,
    Auth,
    Syslog,
}

impl Dataset {
    /// All of them.
    pub const ALL: &[Self] = &[
        Self::NginxAccess,
        Self::NginxError,
        Self::Haproxy,
        Self::MysqlSlow,
        Self::MysqlError,
        Self::PhpError,
        Self::PhpFpm,
        Self::PhpSlow,
        Self::PhpAccess,
        Self::Keepalived,
        Self::Proxysql,
        Self::Lsyncd,
        Self::Auth,
        Self::Syslog,
    ];

    /// The value of `event.dataset`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NginxAccess => "nginx.access",
            Self::NginxError => "nginx.error",
            Self::Haproxy => "haproxy.log",
            Self::MysqlSlow => "mysql.slowlog",
            Self::MysqlError => "mysql.error",
            Self::PhpError => "php.error",
            Self::PhpFpm => "php_fpm.error",
            Self::PhpSlow => "php_fpm.slow",
            Self::PhpAccess => "php_fpm.access",
            Self::Keepalived => "keepalived.log",
            Self::Proxysql => "proxysql.log",
            Self::Lsyncd => "lsyncd.log",
            Self::Auth => "system.auth",
            Self::Syslog => "system.syslog",
        }
    }

    /// The value of `event.module`.
    pub fn module(self) -> &'static str {
        let name = self.as_str();
        name.split_once('.').map_or(name, |(module, _)| module)
    }
}

/// A format of a log.
#[derive(Clone, Debug)]
pub enum Format {
    /// nginx `access_log`, of any `log_format`.
    NginxAccess(Arc<nginx::AccessFormat>),
    /// nginx `error_log`.
    NginxError,
    /// What HAProxy logs, without the header of syslog.
    Haproxy(Arc<haproxy::Formats>),
    /// The slow log of MySQL, Percona Server and MariaDB: entries tell which.
    MysqlSlow,
    /// The error log of MySQL, Percona Server and MariaDB, with Galera's lines: lines tell which.
    MysqlError,
    /// PHP's `error_log`.
    PhpError,
    /// The log of `php-fpm` itself, with what its workers say.
    PhpFpm,
    /// `slowlog` of a pool of `php-fpm`.
    PhpSlow,
    /// `access.log` of a pool of `php-fpm`, in its own format or the one that Debian suggests.
    PhpAccess,
    /// ProxySQL's own log.
    Proxysql,
    /// lsyncd's own log.
    Lsyncd,
    /// The log of Galera's arbitrator.
    Garbd,
    /// What syslog writes to files or sends: the program tells what a message is. keepalived, HAProxy,
    /// `sshd` and `sudo` are read through it.
    Syslog(Arc<syslog::Syslog>),
    /// Entries of the journal, in JSON, dispatched likewise.
    Journal(Arc<syslog::Syslog>),
}

impl Format {
    /// nginx's own format, named `combined`, and the tails that are often added to it.
    pub fn nginx_access() -> Self {
        Self::NginxAccess(Arc::new(nginx::AccessFormat::combined()))
    }

    /// HAProxy's own formats: `httplog`, `httpslog`, `tcplog`, errors and states.
    pub fn haproxy() -> Self {
        Self::Haproxy(Arc::new(haproxy::Formats::default()))
    }

    /// What syslog writes, with HAProxy's own formats.
    pub fn syslog() -> Self {
        Self::Syslog(Arc::default())
    }

    /// The dataset of its entries, where they do not say otherwise.
    pub fn dataset(&self) -> Dataset {
        match self {
            Self::NginxAccess(_) => Dataset::NginxAccess,
            Self::NginxError => Dataset::NginxError,
            Self::Haproxy(_) => Dataset::Haproxy,
            Self::MysqlSlow => Dataset::MysqlSlow,
            Self::MysqlError | Self::Garbd => Dataset::MysqlError,
            Self::PhpError => Dataset::PhpError,
            Self::PhpFpm => Dataset::PhpFpm,
            Self::PhpSlow => Dataset::PhpSlow,
            Self::PhpAccess => Dataset::PhpAccess,
            Self::Proxysql => Dataset::Proxysql,
            Self::Lsyncd => Dataset::Lsyncd,
            Self::Syslog(_) | Self::Journal(_) => Dataset::Syslog,
        }
    }

    /// How a line relates to the entry that is open before it, of which `open` is what was read so far
    /// (empty if none is open). Both without the last newline.
    pub fn joint(&self, line: &[u8], open: &[u8]) -> Joint {
        match self {
            Self::NginxAccess(_) | Self::Haproxy(_) | Self::PhpAccess | Self::Journal(_) => {
                Joint::Whole
            }
            Self::Syslog(_) => syslog::Syslog::joint(line, open, &Context::anywhere()),
            _ if open.is_empty() => Joint::Start,
            Self::NginxError => start_if(stamp::slashed(line).is_some()),
            Self::MysqlSlow => slow::joint(line, open),
            Self::MysqlError => error_log::joint(line),
            Self::PhpError => php::error_joint(line),
            Self::PhpFpm => php::fpm_joint(line, open),
            Self::PhpSlow => php::slow_joint(line, open),
            Self::Proxysql => cluster::proxysql_joint(line),
            Self::Lsyncd => cluster::lsyncd_joint(line),
            Self::Garbd => cluster::garbd_joint(line),
        }
    }

    /// Writes the fields of an entry, `@timestamp` among them, and tells its dataset. An entry has no
    /// newline at its end; one of several lines has them inside.
    ///
    /// On an error the document is as it was before; the entry is then shipped as `message` with the
    /// reason as `error.message`.
    pub fn parse(
        &self,
        entry: &[u8],
        context: &Context,
        document: &mut Document,
    ) -> Result<Dataset, Unparsed> {
        let mark = document.mark();
        let parsed = self.write(entry, context, document);
        if parsed.is_err() {
            document.roll_back(mark);
        }
        parsed
    }

    fn write(
        &self,
        entry: &[u8],
        context: &Context,
        to: &mut Document,
    ) -> Result<Dataset, Unparsed> {
        match self {
            Self::NginxAccess(format) => format.parse(entry, context, to)?,
            Self::NginxError => nginx_error::parse(entry, context, to)?,
            Self::Haproxy(formats) => formats.parse(entry, context, to)?,
            Self::MysqlSlow => slow::parse(entry, context, to)?,
            Self::MysqlError => error_log::parse(entry, context, to)?,
            Self::PhpError => php::error(entry, context, to)?,
            Self::PhpFpm => php::fpm(entry, context, to)?,
            Self::PhpSlow => php::slow(entry, context, to)?,
            Self::PhpAccess => php::access(entry, context, to)?,
            Self::Proxysql => cluster::proxysql(entry, context, to)?,
            Self::Lsyncd => cluster::lsyncd(entry, context, to)?,
            Self::Garbd => cluster::garbd(entry, context, to)?,
            Self::Syslog(syslog) => return syslog.parse(entry, context, to),
            Self::Journal(syslog) => return syslog.parse_journal(entry, context, to),
        }
        Ok(self.dataset())
    }
}

fn start_if(starts: bool) -> Joint {
    if starts { Joint::Start } else { Joint::Continue }
}
