//! What is backed up: a tree that changes between runs, and a shop that is open during them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Result, ensure};
use depot::crypt::Identities;
use depot::depot::Depot;
use depot::names::SnapshotId;
use tests::program::Said;
use tests::shop::{Orders, Shop, check_copy};
use tests::site::Site;
use tests::tree::{Dice, Made, Tree, change, describe, differences, make, stored};

/// Files of a tree are smaller, or it would take too long to look at all of it so often.
const LARGEST_BYTES: u64 = 2 << 20;

/// Kinds of sources.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Files,
    Database,
}

/// What a backup must restore to.
#[derive(Clone, Debug)]
pub enum Claim {
    Tree(Tree),
    Orders(Orders),
}

/// A source.
pub enum Source {
    Files(Made),
    Database(Shop),
}

impl Source {
    /// Makes a source, and the jobs that back it up.
    pub fn make(kind: Kind, site: &mut Site, seed: u64) -> Result<Self> {
        // Long enough for a loaded machine, short enough for a tool that hangs.
        let limits = "stall-timeout = '4s'";
        match kind {
            Kind::Files => {
                fs::remove_file(site.path("www/index.php"))?;
                let mut made = make(&site.path("www"), seed)?;
                drop_largest(&mut made)?;
                site.configure(&site.lab.site(""))?;
                Ok(Self::Files(made))
            }
            Kind::Database => {
                let shop = Shop::open()?;
                let blocks = shop.job("db", "", limits)?;
                let lsn = shop.job("chain", "", &format!("mode = 'lsn'\n{limits}"))?;
                site.configure(&format!("{blocks}{lsn}"))?;
                Ok(Self::Database(shop))
            }
        }
    }

    /// The job of this round.
    pub fn job(&self, dice: &mut Dice) -> &'static str {
        match self {
            Self::Files(_) => "site",
            Self::Database(_) => {
                if dice.once_in(2) {
                    "db"
                } else {
                    "chain"
                }
            }
        }
    }

    /// Changes it as time does.
    pub fn change(&mut self, dice: &mut Dice) -> Result<()> {
        match self {
            Self::Files(made) => change(made, 1 + dice.below(12), dice.roll()),
            // It changes by itself.
            Self::Database(_) => Ok(()),
        }
    }

    /// Makes a run; also says what a backup made by it must restore to.
    pub fn during(&self, site: &Site, run: impl FnOnce() -> Result<Said>) -> Result<(Said, Claim)> {
        match self {
            Self::Files(_) => {
                let tree = describe(&site.path("www"))?;
                Ok((run()?, Claim::Tree(tree)))
            }
            Self::Database(shop) => {
                let (said, orders) = shop.while_open(run)?;
                Ok((said?, Claim::Orders(orders)))
            }
        }
    }
}

/// Large files are for other tests: these would be read in every round, many times.
fn drop_largest(made: &mut Made) -> Result<()> {
    for path in &made.files {
        if fs::metadata(path)?.len() > LARGEST_BYTES {
            fs::remove_file(path)?;
        }
    }
    made.files.retain(|path| path.exists());
    Ok(())
}

/// What all backups claim, by their ids.
pub type Claims = BTreeMap<SnapshotId, Claim>;

impl Claim {
    /// Reads the backup without the program that restores, as far as that can be done.
    pub fn check_stored(&self, depot: &Depot, id: &SnapshotId, key: &Identities) -> Result<()> {
        let Self::Tree(tree) = self else { return Ok(()) };
        check_same(tree, &stored(depot, id, key)?)
    }

    /// Compares what was restored.
    pub fn check_restored(&self, target: &Path) -> Result<()> {
        match self {
            Self::Tree(tree) => check_same(tree, &describe(target)?),
            Self::Orders(orders) => check_copy(target, *orders),
        }
    }

    /// What `restore` must be told besides.
    pub fn restore_options(&self) -> &'static [&'static str] {
        match self {
            Self::Tree(_) => &["--no-sync"],
            Self::Orders(_) => &["--no-sync", "--prepare"],
        }
    }
}

fn check_same(claimed: &Tree, found: &Tree) -> Result<()> {
    let found = differences(claimed, found);
    ensure!(found.is_empty(), "it is not what it claims:\n{}", found.join("\n"));
    Ok(())
}
