//! A server whose log is archived, with a backup to begin with.

use std::path::PathBuf;

use database::gtid::{GtidSet, Position};
use depot::depot::Depot;
use depot::log::Catalog;
use depot::store::{Store, StoreConfig};
use tests::lab::{Daemon, Lab, wait_for};
use tests::program::Said;
use tests::servers::mariadb::{MariaDb, Options};

/// The server, the host with its agent, and the running agent.
pub struct Scene {
    pub server: MariaDb,
    pub lab: Lab,
    pub daemon: Option<Daemon>,
}

impl Scene {
    /// A server with an empty table `shop.t`, that is archived by the job `shop`; backups are those of
    /// the job `db`, and of files those of `site`.
    pub fn new() -> Self {
        Self::with(&[])
    }

    pub fn with(extra: &[&str]) -> Self {
        let mut options = vec!["--binlog-format=ROW", "--gtid-strict-mode=ON", "--sync-binlog=0"];
        options.extend(extra);
        let extra = options.into_iter().map(str::to_owned).collect();
        let server =
            MariaDb::start(Options { log_bin: true, extra, ..Options::default() }).unwrap();
        server
            .sql(
                "CREATE DATABASE shop; USE shop;
                 CREATE TABLE t (id INT PRIMARY KEY, v LONGTEXT);
                 CREATE TABLE orders (id INT PRIMARY KEY, v TEXT);",
            )
            .unwrap();
        let lab = Lab::new("");
        lab.configure(&format!("{}{}", Self::jobs(&server), lab.site("")));
        let daemon = Some(lab.start());
        Self { server, lab, daemon }
    }

    fn jobs(server: &MariaDb) -> String {
        let file = server.option_file().unwrap();
        let file = file.display();
        format!(
            "[jobs.shop.log]\ntool = 'mariadb-backup'\noption-file = '{file}'\nmax-lag = '1s'\n\
             [jobs.db.database]\ntool = 'mariadb-backup'\noption-file = '{file}'\n"
        )
    }

    pub fn sql(&self, statements: &str) {
        self.server.sql(statements).unwrap();
    }

    /// Takes a backup.
    pub fn back_up(&self) {
        self.lab.ctl(&["now", "db"]).expect(0);
        // MariaDB logs whole seconds: what comes next is to be told apart from the backup's end by its time.
        std::thread::sleep(std::time::Duration::from_millis(1_100));
    }

    pub fn depot(&self) -> Depot {
        let text = format!("[directory]\npath = '{}'\n", self.lab.path("depot").display());
        let config: StoreConfig = chassis::config::parse("x", &text).unwrap();
        Depot::from_store("vault", Store::open(&config).unwrap()).unwrap()
    }

    /// The last transaction that the server has committed.
    pub fn gtid(&self) -> String {
        self.server.query("SELECT @@gtid_binlog_pos").unwrap().trim().to_owned()
    }

    /// Waits until all that the server has now is in the depot.
    #[track_caller]
    pub fn archive(&self) {
        let wanted: GtidSet = self.gtid().parse::<Position>().unwrap().to_set();
        let is_there = || {
            let catalog = Catalog::of(&self.depot().logs().unwrap());
            let newest = catalog.newest("shop");
            newest.is_some_and(|(_, archive)| archive.union.contains_all(&wanted))
        };
        let log = || self.daemon.as_ref().map(Daemon::log).unwrap_or_default();
        wait_for("all is archived", is_there, log);
    }

    /// Restores to a point, into a directory of that name.
    pub fn restore(&self, target: &str, arguments: &[&str]) -> Said {
        let target = self.target(target);
        let arguments = [&["--target", target.to_str().unwrap()], arguments].concat();
        self.lab.restore(&arguments)
    }

    pub fn target(&self, name: &str) -> PathBuf {
        self.lab.path(name)
    }

    /// A server on what was restored, and the sum of a table in it.
    pub fn look(&self, target: &str, query: &str) -> String {
        let server = MariaDb::start_on(&self.target(target), Options::default()).unwrap();
        server.query(query).unwrap().trim().to_owned()
    }
}
