//! A real MariaDB in which somebody is always buying, and the proof that a copy of it is one moment of it.
//!
//! Each order is one transaction over two tables, numbered without a gap, and each delivery changes all rows of a
//! third one in one transaction: a copy that is not of one moment has an order without its payment, a gap, or two
//! versions of the stock.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use anyhow::{Context, Result, ensure};

use crate::servers::mariadb::{MariaDb, Options};

const ACCOUNT: &str = "CREATE USER b@localhost IDENTIFIED BY 'pw'; \
     GRANT RELOAD, PROCESS, LOCK TABLES, BINLOG MONITOR ON *.* TO b@localhost;";
const TABLES: &str = "CREATE DATABASE shop; USE shop; \
     CREATE TABLE orders (id INT PRIMARY KEY, what VARCHAR(200)); \
     CREATE TABLE payments (id INT PRIMARY KEY, amount INT); \
     CREATE TABLE stock (id INT PRIMARY KEY, version INT, body VARCHAR(400)); \
     INSERT INTO stock SELECT seq, 0, REPEAT(MD5(seq), 10) FROM seq_1_to_400;";
/// Orders that go to the server at once.
const ORDERS: u64 = 10;

/// The server, and how much was ordered.
#[derive(Debug)]
pub struct Shop {
    server: MariaDb,
    orders: AtomicU64,
}

/// How many orders a copy must have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Orders {
    /// Those that were acknowledged before it was begun.
    pub at_least: u64,
    /// Those that were begun before it was ended.
    pub at_most: u64,
}

impl Shop {
    /// Starts a server with a few thousand rows and an account for backups.
    pub fn open() -> Result<Self> {
        let server = MariaDb::start(Options {
            log_bin: true,
            // What is ordered during a copy must not run around the log before it is copied.
            extra: vec!["--innodb-log-file-size=64M".to_owned()],
            ..Options::default()
        })?;
        server.sql(&format!("{ACCOUNT} {TABLES}")).context("make tables")?;
        Ok(Self { server, orders: AtomicU64::new(0) })
    }

    /// The server.
    pub fn server(&self) -> &MariaDb {
        &self.server
    }

    /// The tables of a job; `lines` are further keys of it, `database` of its source.
    pub fn job(&self, name: &str, lines: &str, database: &str) -> Result<String> {
        let file = self.server.option_file_for("b", "pw")?;
        Ok(format!(
            "[jobs.{name}]\n{lines}\n[jobs.{name}.database]\ntool = 'mariadb-backup'\n\
             option-file = '{}'\n{database}\n",
            file.display()
        ))
    }

    /// Does something while people order and the stock is delivered; also says what a copy made by it must have.
    pub fn while_open<T>(&self, act: impl FnOnce() -> T) -> Result<(T, Orders)> {
        let closes = AtomicBool::new(false);
        let at_least = self.orders.load(Ordering::SeqCst);
        let (done, sold) = thread::scope(|scope| {
            let selling = scope.spawn(|| self.sell_until(&closes));
            let done = act();
            closes.store(true, Ordering::SeqCst);
            (done, selling.join())
        });
        sold.map_err(|_| anyhow::anyhow!("the customers panicked"))??;
        Ok((done, Orders { at_least, at_most: self.orders.load(Ordering::SeqCst) }))
    }

    /// Orders at least once; the count is of what was acknowledged, and of nothing more once this has returned.
    fn sell_until(&self, closes: &AtomicBool) -> Result<()> {
        loop {
            let first = self.orders.load(Ordering::SeqCst) + 1;
            let last = first + ORDERS;
            let orders = (first..last).map(|id| {
                format!(
                    "START TRANSACTION; INSERT INTO orders VALUES ({id}, REPEAT('{id} ', 20)); \
                     INSERT INTO payments VALUES ({id}, {id}); COMMIT;"
                )
            });
            let orders = orders.collect::<String>();
            let delivery = "UPDATE stock SET version = version + 1, body = REVERSE(body)";
            let statements = format!("USE shop; {orders} {delivery};");
            self.server.sql(&statements).context("order")?;
            self.orders.store(last - 1, Ordering::SeqCst);
            if closes.load(Ordering::SeqCst) {
                return Ok(());
            }
        }
    }
}

/// Starts a server on a restored directory and proves that it is one moment of the shop.
pub fn check_copy(datadir: &Path, expected: Orders) -> Result<()> {
    let copy = MariaDb::start_on(datadir, Options::default())?;
    let found = copy.query(
        "USE shop; SELECT COUNT(*), IFNULL(MAX(id), 0) FROM orders; \
         SELECT COUNT(*), IFNULL(MAX(id), 0) FROM payments; \
         SELECT COUNT(*), MAX(version) - MIN(version) FROM stock;",
    )?;
    let rows: Vec<&str> = found.lines().collect();
    let (count, last) = rows[0].split_once('\t').context("read count")?;
    ensure!(count == last, "orders have gaps: {found}");
    ensure!(rows[0] == rows[1], "orders and payments are of two moments: {found}");
    ensure!(rows[2] == "400\t0", "the stock is of two moments: {found}");
    let count: u64 = count.parse()?;
    let is_possible = (expected.at_least..=expected.at_most).contains(&count);
    ensure!(is_possible, "the copy has {count} orders and should have {expected:?}");
    let checked = copy.query("CHECK TABLE shop.orders, shop.payments, shop.stock EXTENDED")?;
    ensure!(checked.lines().all(|line| line.ends_with("OK")), "{checked}");
    Ok(())
}
