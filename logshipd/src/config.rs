//! What `logshipd.toml` may say, read strictly and checked whole before anything starts.
//!
//! The structures here are the reference of the file: one field a key, with its default. No secret is in the
//! file: it names files that hold them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Result;
use chassis::units::{ByteSize, Span};
use serde::Deserialize;

use crate::parse::Format;

mod check;

/// Where the program looks for its configuration.
pub const CONFIG_PATH: &str = "/etc/holdfast/logshipd.toml";

/// The whole file.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// How this host is called: in `host.name`, and in the ids of its documents. Changed, what was shipped may be
    /// shipped again.
    #[serde(default = "host_name")]
    pub host: String,
    /// The last part of the names of data streams.
    #[serde(default = "namespace")]
    pub namespace: String,
    /// Checkpoints, and what was set aside.
    #[serde(default = "state_dir")]
    pub state_dir: PathBuf,
    /// The unix socket for `logshipd status`; made with mode 0600.
    #[serde(default = "control_socket")]
    pub control_socket: PathBuf,
    /// Where `/metrics` and `/healthz` are served; loopback unless there is a reason.
    #[serde(default = "metrics_listen")]
    pub metrics_listen: SocketAddr,
    /// Let other hosts read these pages.
    #[serde(default)]
    pub metrics_remote: bool,
    /// What is logged and where to.
    #[serde(default)]
    pub log: chassis::log::LogConfig,
    /// Where documents go.
    pub store: Store,
    /// What is held at most.
    #[serde(default)]
    pub limits: Limits,
    /// The zone of times that name none.
    #[serde(default = "local_zone")]
    pub time_zone: chrono_tz::Tz,
    /// What must not leave the host.
    #[serde(default)]
    pub privacy: crate::parse::Privacy,
    /// Look for logs in the configuration of the servers of this host. If it is not said: where no source is given.
    /// A file that a source names as well is read as the source says.
    pub discover: Option<bool>,
    /// The log files.
    #[serde(default, rename = "source")]
    pub sources: Vec<Source>,
}

/// A search store.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Store {
    /// Its nodes, `http://` or `https://`; requests are spread over those that answer.
    pub urls: Vec<String>,
    /// User of basic authentication.
    pub user: Option<String>,
    /// File of that user's password.
    pub password_file: Option<PathBuf>,
    /// File of an API key, as `id:key` in base64.
    pub api_key_file: Option<PathBuf>,
    /// File of a bearer token.
    pub bearer_file: Option<PathBuf>,
    /// Certificates of authorities that are trusted instead of the public ones, PEM.
    pub ca_file: Option<PathBuf>,
    /// Our own certificate, PEM.
    pub certificate_file: Option<PathBuf>,
    /// Its key, PEM.
    pub key_file: Option<PathBuf>,
    /// `http://host:port` of a proxy.
    pub proxy: Option<String>,
    /// Compress requests.
    #[serde(default = "yes")]
    pub gzip: bool,
    /// Give every document an id of its own, so that nothing is doubled. `false` is faster for the store, and a line
    /// arrives at least once: after a crash or a lost answer some arrive twice.
    #[serde(default = "yes")]
    pub ids: bool,
    /// How long an answer may take.
    #[serde(default = "answer_time")]
    pub timeout: Span,
}

/// What is held at most.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Limits {
    /// Size of a request before compression.
    pub batch_bytes: ByteSize,
    /// Documents of a request.
    pub batch_documents: usize,
    /// How long a document waits for others.
    pub batch_age: Span,
    /// Requests under way at a time.
    pub requests: usize,
    /// The longest entry; the rest of a longer line is cut off and counted.
    pub entry_bytes: ByteSize,
    /// How long an entry of several lines waits for the next.
    pub entry_age: Span,
    /// What may be set aside.
    pub aside_bytes: ByteSize,
    /// How often files are looked for, besides when the system tells of a change.
    pub scan_every: Span,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            batch_bytes: ByteSize(2 << 20),
            batch_documents: 5000,
            batch_age: Span::from_secs(1),
            requests: 2,
            entry_bytes: ByteSize(256 << 10),
            entry_age: Span::from_secs(5),
            aside_bytes: ByteSize(256 << 20),
            scan_every: Span::from_secs(5),
        }
    }
}

/// Some log files of one format.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Source {
    /// Patterns of absolute paths: `*`, `?`, `[...]`, `{a,b}` and `**`.
    pub paths: Vec<String>,
    /// What the lines are.
    #[serde(default)]
    pub format: FormatName,
    /// The middle part of the name of the data stream, if not that of the format.
    pub dataset: Option<String>,
    /// The last part, if not that of the whole file.
    pub namespace: Option<String>,
    /// Folders where rotated files go, besides their own.
    #[serde(default)]
    pub rotated_dirs: Vec<PathBuf>,
}

/// The name of a format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FormatName {
    /// Every line is a message.
    #[default]
    Plain,
    /// nginx `access_log`, `combined` and the tails that are often added.
    NginxAccess,
    /// nginx `error_log`.
    NginxError,
    /// What HAProxy logs, without the header of syslog.
    Haproxy,
    /// The slow log of MySQL, Percona Server and MariaDB.
    MysqlSlow,
    /// The error log of MySQL, Percona Server and MariaDB.
    MysqlError,
    /// PHP's `error_log`.
    PhpError,
    /// The log of `php-fpm` itself.
    PhpFpm,
    /// `slowlog` of a pool of `php-fpm`.
    PhpSlow,
    /// `access.log` of a pool of `php-fpm`.
    PhpAccess,
    /// ProxySQL's own log.
    Proxysql,
    /// lsyncd's own log.
    Lsyncd,
    /// The log of Galera's arbitrator.
    Garbd,
    /// Files that syslog writes, such as `/var/log/syslog`, `auth.log` and Debian's `haproxy.log`.
    Syslog,
}

impl FormatName {
    /// What reads it; none: every line is a message.
    pub fn format(self) -> Option<Format> {
        Some(match self {
            Self::Plain => return None,
            Self::NginxAccess => Format::nginx_access(),
            Self::NginxError => Format::NginxError,
            Self::Haproxy => Format::haproxy(),
            Self::MysqlSlow => Format::MysqlSlow,
            Self::MysqlError => Format::MysqlError,
            Self::PhpError => Format::PhpError,
            Self::PhpFpm => Format::PhpFpm,
            Self::PhpSlow => Format::PhpSlow,
            Self::PhpAccess => Format::PhpAccess,
            Self::Proxysql => Format::Proxysql,
            Self::Lsyncd => Format::Lsyncd,
            Self::Garbd => Format::Garbd,
            Self::Syslog => Format::syslog(),
        })
    }
}

impl Config {
    /// Reads and checks a file. Errors are failures with [`chassis::failure::Exit::Usage`] that name file and key.
    pub fn load(path: &Path) -> Result<Self> {
        let (name, text) = (path.display().to_string(), chassis::config::read(path)?);
        let mut config: Self = chassis::config::parse(&name, &text)?;
        config.make_absolute(path.parent().unwrap_or(Path::new(".")));
        check::check(&config).map_err(|check::Refusal { key, failure }| {
            chassis::config::placed(&name, &text, &key, failure)
        })?;
        Ok(config)
    }

    /// Whether logs are looked for.
    pub fn discovers(&self) -> bool {
        self.discover.unwrap_or(self.sources.is_empty())
    }

    /// Paths of secrets and certificates are relative to the file.
    fn make_absolute(&mut self, folder: &Path) {
        let store = &mut self.store;
        let paths = [
            &mut store.password_file,
            &mut store.api_key_file,
            &mut store.bearer_file,
            &mut store.ca_file,
            &mut store.certificate_file,
            &mut store.key_file,
        ];
        for path in paths.into_iter().flatten() {
            *path = folder.join(&path);
        }
    }
}

fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

fn local_zone() -> chrono_tz::Tz {
    chassis::clock::local_zone()
}

fn namespace() -> String {
    "default".to_owned()
}

fn state_dir() -> PathBuf {
    "/var/lib/logshipd".into()
}

fn control_socket() -> PathBuf {
    "/run/logshipd/control.sock".into()
}

fn metrics_listen() -> SocketAddr {
    ([127, 0, 0, 1], 9181).into()
}

fn answer_time() -> Span {
    Span::from_secs(60)
}

fn yes() -> bool {
    true
}
