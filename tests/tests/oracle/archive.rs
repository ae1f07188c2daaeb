//! What is written, and how it is archived meanwhile.

use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use database::gtid::{GtidSet, Position};
use depot::crypt::Identities;
use depot::depot::Depot;
use depot::log::{Catalog, Chain};
use depot::store::{Store, StoreConfig};
use tests::lab::{Daemon, Lab, wait_for};
use tests::oracle::Sizes;
use tests::servers::mariadb::{MariaDb, Options};

/// Sizes and counts: small ones unless the environment asks for a night's work.
pub struct Effort {
    /// How large values get.
    pub sizes: Sizes,
    /// How many points are tried.
    pub points: usize,
    /// How many steps there are at least.
    pub steps: usize,
    /// What the dice begin with.
    pub seed: u64,
}

impl Effort {
    pub fn from_environment() -> Self {
        let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
        let points: u64 = number("HOLDFAST_ORACLE_POINTS").unwrap_or(3);
        let is_night = points >= 20;
        let clock = chrono::Utc::now().timestamp_millis() as u64;
        Self {
            sizes: Sizes {
                blob_bytes: if is_night { 1 << 20 } else { 200_000 },
                blobs_max: if is_night { 110 } else { 8 },
                once_in: if is_night { 500 } else { 40 },
            },
            points: points as usize,
            steps: if is_night { 3000 } else { 400 },
            seed: number("HOLDFAST_ORACLE_SEED").unwrap_or(clock),
        }
    }
}

pub fn server() -> MariaDb {
    let extra = ["--binlog-format=ROW", "--gtid-strict-mode=ON", "--sync-binlog=1"];
    let mut extra = extra.map(str::to_owned).to_vec();
    // What is acknowledged survives `kill -9`, and the server's log agrees with it.
    extra.push("--innodb-flush-log-at-trx-commit=1".to_owned());
    extra.push("--max-allowed-packet=1G".to_owned());
    extra.push("--innodb-log-file-size=256M".to_owned());
    extra.push("--max-binlog-size=8M".to_owned());
    MariaDb::start(Options { log_bin: true, extra, ..Options::default() }).unwrap()
}

pub fn job(server: &MariaDb) -> String {
    let file = server.option_file().unwrap();
    format!(
        "[jobs.shop.log]\ntool = 'mariadb-backup'\noption-file = '{}'\nmax-lag = '1s'\n\
         segment-size = '1MiB'\n",
        file.display()
    )
}

/// The job of a database that points are reached from.
pub fn base(server: &MariaDb) -> String {
    let file = server.option_file().unwrap();
    format!("[jobs.db.database]\ntool = 'mariadb-backup'\noption-file = '{}'\n", file.display())
}

/// The number of the last transaction in a server's log; 0 if it does not answer.
pub fn written(server: &MariaDb) -> u64 {
    let position = server.query("SELECT @@gtid_binlog_pos").unwrap_or_default();
    position.trim().rsplit('-').next().and_then(|text| text.parse().ok()).unwrap_or(0)
}

pub fn depot(lab: &Lab) -> Depot {
    let text = format!("[directory]\npath = '{}'\n", lab.path("depot").display());
    let config: StoreConfig = chassis::config::parse("x", &text).unwrap();
    Depot::from_store("vault", Store::open(&config).unwrap()).unwrap()
}

/// Waits until all that the server has now is in the depot.
#[track_caller]
pub fn wait_archived(lab: &Lab, server: &MariaDb, daemon: &Daemon) {
    let position = server.query("SELECT @@gtid_binlog_pos").unwrap();
    let wanted = position.trim().parse::<Position>().unwrap().to_set();
    let is_there = || {
        let catalog = Catalog::of(&depot(lab).logs().unwrap());
        catalog.newest("shop").is_some_and(|(_, archive)| archive.union.contains_all(&wanted))
    };
    wait_for("all is archived", is_there, || daemon.log());
}

/// Waits until the server's log has come to a number.
#[track_caller]
pub fn wait_written(server: &MariaDb, number: u64) {
    let deadline = Instant::now() + Duration::from_mins(10);
    while written(server) < number {
        assert!(Instant::now() < deadline, "only {} of {number} steps", written(server));
        thread::sleep(Duration::from_millis(50));
    }
}

/// The pieces that lead from nothing to a number, as files, with the last number to take from each.
pub fn fetch(lab: &Lab, number: u64) -> Vec<(PathBuf, u64)> {
    let depot = depot(lab);
    let identities = Identities::from_file(&lab.path("identity")).unwrap();
    let catalog = Catalog::of(&depot.logs().unwrap());
    let (_, archive) = catalog.newest("shop").unwrap();
    let wanted: GtidSet = format!("0:1-{number}").parse().unwrap();
    let Chain { links } = archive.chain(&GtidSet::default(), &wanted).unwrap();
    let dir = lab.path("fetched");
    std::fs::create_dir_all(&dir).unwrap();
    let mut files = Vec::new();
    for (place, link) in links.iter().enumerate() {
        let (_, mut log) = depot.open_log(&link.object, &identities).unwrap();
        let path = dir.join(format!("{place}.binlog"));
        std::io::copy(&mut log, &mut std::fs::File::create(&path).unwrap()).unwrap();
        let (_, numbers) = link.take.iter().next().unwrap();
        files.push((path, numbers.last().unwrap()));
    }
    files
}
