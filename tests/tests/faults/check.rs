//! The promises, looked at after each round, in all depots.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use depot::depot::Depot;
use depot::names::{PackId, SnapshotId, split_candidate};
use tests::servers::sshd::Account;
use tests::site::{DEPOTS, Site};
use tests::tree::Dice;

use super::source::{Claim, Claims};

/// Longer than a condemned pack is given, shorter than a silence that the keeper finds odd.
const DAYS: Duration = Duration::from_hours(4 * 24);

/// What each depot had when it was last looked at.
pub type Seen = BTreeMap<&'static str, BTreeSet<SnapshotId>>;

/// Promises 1 and 2: what is new is whole and is what it claims, and nothing is gone. `claim` is that of the last run.
pub fn check(site: &Site, claims: &mut Claims, claim: &Claim, seen: &mut Seen) -> Result<u64> {
    let identity = site.lab.identity();
    let key = site.identities()?;
    let mut looked_at = 0;
    for name in DEPOTS {
        let depot = site.depot(name)?;
        let committed = site.committed(name)?;
        let before = seen.insert(name, committed.clone()).unwrap_or_default();
        let lost: Vec<_> = before.difference(&committed).collect();
        ensure!(lost.is_empty(), "{name} has lost {lost:?}");
        for id in committed.difference(&before) {
            let claim = claims.entry(id.clone()).or_insert_with(|| claim.clone());
            let text = id.to_string();
            let said =
                site.keeper_ctl(&["verify", &text, "--deep", "-i", &identity, "--depot", name]);
            ensure!(said.code == 0, "verify {id} in {name}: {said:?}");
            claim.check_stored(&depot, id, &key).with_context(|| format!("{id} in {name}"))?;
            looked_at += 1;
        }
        check_objects(&depot, &committed).with_context(|| format!("objects of {name}"))?;
    }
    // Without a key and without a name: what is not committed is no damage, and all that is committed is whole.
    let said = site.keeper_ctl(&["verify"]);
    let is_empty = claims.is_empty() && said.code == 4;
    ensure!(said.code == 0 || is_empty, "verify: {said:?}");
    Ok(looked_at)
}

/// Promise 1, the other way round: all that is there is of a committed backup, or of one that was not committed.
fn check_objects(depot: &Depot, committed: &BTreeSet<SnapshotId>) -> Result<()> {
    for info in depot.list("snapshot")? {
        let (name, _) = split_candidate(&info.name);
        let name = name.trim_start_matches("snapshot/");
        let id = name.strip_suffix(".age").or(name.strip_suffix(".needs"));
        let id: SnapshotId = id.context("an object of no backup")?.parse()?;
        let is_manifest = name.strip_suffix(".age").is_some();
        // A manifest that nobody can take for whole is a torn upload.
        let is_torn = depot.needs(&id).is_err();
        ensure!(!is_manifest || committed.contains(&id) || is_torn, "`{name}` is not committed");
    }
    let held: BTreeSet<(PackId, u64)> =
        depot.list_packs()?.into_iter().map(|(pack, info)| (pack, info.size)).collect();
    for id in committed {
        for line in depot.needs(id)?.packs {
            ensure!(held.contains(&(line.pack, line.size)), "{id} lacks pack {}", line.pack);
        }
    }
    Ok(())
}

/// Restores a backup with the program from one of the depots that have it.
pub fn check_restore(
    site: &Site,
    claims: &Claims,
    id: &SnapshotId,
    depots: &[&'static str],
    dice: &mut Dice,
) -> Result<()> {
    let depot = *dice.pick(depots);
    let claim = claims.get(id).context("nobody knows what it claims")?;
    let target = site.path("restored");
    let said = site.restore(depot, id, "restored", claim.restore_options());
    ensure!(said.code == 0, "restore {id} from {depot}: {said:?}");
    claim.check_restored(&target).with_context(|| format!("{id} restored from {depot}"))?;
    fs::remove_dir_all(&target)?;
    let log = site.path("restored.prepare.log");
    if log.exists() {
        fs::remove_file(log)?;
    }
    Ok(())
}

/// After a good run: every depot has every backup that any has.
pub fn check_caught_up(site: &Site) -> Result<()> {
    let all = DEPOTS.iter().map(|name| site.committed(name)).collect::<Result<Vec<_>>>()?;
    for (name, committed) in DEPOTS.iter().zip(&all) {
        let lacks: Vec<_> = all.iter().flatten().filter(|id| !committed.contains(id)).collect();
        ensure!(lacks.is_empty(), "{name} was not caught up: it lacks {lacks:?}");
    }
    Ok(())
}

/// Days pass: all that is stored is older.
pub fn let_days_pass(site: &Site) -> Result<()> {
    let folders =
        [site.path("depot"), site.sshd.folder(Account::AppendOnly), site.s3.bucket_path()];
    folders.iter().try_for_each(|folder| make_older(folder))
}

fn make_older(dir: &Path) -> Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            make_older(&path)?;
            continue;
        }
        let file = fs::File::open(&path)?;
        let time = file.metadata()?.modified()?.checked_sub(DAYS).unwrap_or(SystemTime::UNIX_EPOCH);
        file.set_modified(time).context("make older")?;
    }
    Ok(())
}

/// The keeper prunes; nothing that stays is hurt. With `is_final`, nothing that no backup needs is left.
pub fn prune(site: &Site, claims: &mut Claims, seen: &mut Seen, is_final: bool) -> Result<()> {
    let passes = if is_final { 3 } else { 1 };
    for _ in 0..passes {
        let_days_pass(site)?;
        let said = site.keeper_ctl(&["prune", "--accept-clock"]);
        ensure!(said.code == 0, "prune: {said:?}");
    }
    for name in DEPOTS {
        let stays = site.committed(name)?;
        let depot = site.depot(name)?;
        ensure!(!stays.is_empty(), "{name}: the last good backup always stays");
        check_objects(&depot, &stays)?;
        if is_final {
            check_swept(&depot, &stays).with_context(|| format!("after a prune of {name}"))?;
        }
        seen.insert(name, stays);
    }
    claims.retain(|id, _| seen.values().any(|stays| stays.contains(id)));
    let said = site.keeper_ctl(&["verify"]);
    ensure!(said.code == 0, "verify after a prune: {said:?}");
    Ok(())
}

/// Only what is needed is there.
fn check_swept(depot: &Depot, committed: &BTreeSet<SnapshotId>) -> Result<()> {
    let mut needed = BTreeSet::new();
    for id in committed {
        needed.extend(depot.needs(id)?.packs.into_iter().map(|line| (line.pack, line.size)));
    }
    for (pack, info) in depot.list_packs()? {
        ensure!(needed.contains(&(pack, info.size)), "`{}` is left", info.name);
    }
    let objects = depot.list("snapshot")?.len();
    let names: Vec<_> = depot.list("snapshot")?.into_iter().map(|info| info.name).collect();
    ensure!(objects == 2 * committed.len(), "{names:?} for {committed:?}");
    Ok(())
}
