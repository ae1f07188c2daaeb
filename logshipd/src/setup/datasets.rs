//! The datasets that are shipped, and what is the same in every document of one: that stands in the template instead
//! of in each document.

/// Which fields a dataset has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Module {
    /// nginx.
    Nginx,
    /// HAProxy.
    Haproxy,
    /// MySQL, Percona Server, MariaDB, Galera.
    Mysql,
    /// All others.
    Services,
}

impl Module {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Nginx, Self::Haproxy, Self::Mysql, Self::Services];

    /// The name of its component template.
    pub fn component(self) -> &'static str {
        match self {
            Self::Nginx => "logshipd-nginx",
            Self::Haproxy => "logshipd-haproxy",
            Self::Mysql => "logshipd-mysql",
            Self::Services => "logshipd-services",
        }
    }
}

/// One dataset: its data streams are `logs-<name>-<namespace>`.
#[derive(Clone, Copy, Debug)]
pub struct Dataset {
    /// The value of `event.dataset`; what stands before the point is `event.module`.
    pub name: &'static str,
    /// Which fields its documents have.
    pub module: Module,
    /// The value of `event.category`.
    pub category: &'static str,
}

const fn dataset(name: &'static str, module: Module, category: &'static str) -> Dataset {
    Dataset { name, module, category }
}

/// All of them.
pub const DATASETS: &[Dataset] = &[
    dataset("nginx.access", Module::Nginx, "web"),
    dataset("nginx.error", Module::Nginx, "web"),
    dataset("haproxy.log", Module::Haproxy, "web"),
    dataset("mysql.slowlog", Module::Mysql, "database"),
    dataset("mysql.error", Module::Mysql, "database"),
    dataset("php_fpm.access", Module::Services, "web"),
    dataset("php_fpm.error", Module::Services, "web"),
    dataset("php_fpm.slow", Module::Services, "web"),
    dataset("php.error", Module::Services, "web"),
    dataset("keepalived.log", Module::Services, "network"),
    dataset("proxysql.log", Module::Services, "database"),
    dataset("lsyncd.log", Module::Services, "file"),
    dataset("system.auth", Module::Services, "authentication"),
    dataset("system.syslog", Module::Services, "process"),
    dataset("journald.log", Module::Services, "process"),
    dataset("generic", Module::Services, "process"),
];
