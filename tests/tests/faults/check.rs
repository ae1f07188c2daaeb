//! The promises, looked at after each round, in all depots.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use depot::depot::Depot;
use depot::names::{PackId, SnapshotId, split_candidate};
use serde_json::Value;
use tests::site::{DEPOTS, KEEP_LAST, Site};
use tests::tree::Dice;

use super::source::{Claim, Claims};

/// Longer than a condemned pack is given, shorter than a silence that the keeper finds odd.
const DAYS: Duration = Duration::from_hours(4 * 24);

/// What each depot had when it was last looked at.
pub type Seen = BTreeMap<&'static str, BTreeSet<SnapshotId>>;

/// Promises 1 and 2: what is new is whole and is what it claims, and nothing is gone, but for
/// what a prune beside the run let go. `claim` is that of the run. Returns how many backups are new.
pub fn check(
    site: &Site,
    claims: &mut Claims,
    claim: &Claim,
    seen: &mut Seen,
    is_pruned: bool,
    dice: &mut Dice,
) -> Result<u64> {
    let mut new: BTreeMap<SnapshotId, Vec<&'static str>> = BTreeMap::new();
    for name in DEPOTS {
        let committed = site.committed(name)?;
        let before = seen.insert(name, committed.clone()).unwrap_or_default();
        // A prune lets the last ones stay; one of them may be new.
        let safe = if is_pruned { KEEP_LAST - 1 } else { before.len() };
        let lost: Vec<_> =
            before.iter().rev().take(safe).filter(|id| !committed.contains(id)).collect();
        ensure!(lost.is_empty(), "{name} has lost {lost:?}");
        for id in committed.difference(&before) {
            new.entry(id.clone()).or_default().push(name);
        }
        let depot = site.depot(name)?;
        check_objects(&depot, &committed).with_context(|| format!("objects of {name}"))?;
    }
    claims.retain(|id, _| seen.values().any(|committed| committed.contains(id)));
    for (id, depots) in &new {
        claims.entry(id.clone()).or_insert_with(|| claim.clone());
        check_new(site, claims, id, depots, dice)?;
    }
    check_presence(site, seen)?;
    Ok(new.len() as u64)
}

/// All that is committed is there in its size. A manifest whose upload was cut looks damaged to who has no key, until
/// the keeper sweeps it: that one is found, and nothing else.
fn check_presence(site: &Site, seen: &Seen) -> Result<()> {
    let said = site.auditor_ctl(&["verify", "--quick", "--json"]);
    ensure!([0, 1, 4].contains(&said.code), "verify: {said:?}");
    let looked: Vec<Value> = serde_json::from_str(&said.stdout).unwrap_or_default();
    for in_depot in &looked {
        let committed = &seen[in_depot["depot"].as_str().context("a depot has a name")?];
        let findings = in_depot["findings"].as_array().context("findings are a list")?;
        let hurt = findings.iter().filter_map(|finding| finding["hurts"].as_array()).flatten();
        for id in hurt.filter_map(Value::as_str) {
            ensure!(!committed.contains(&id.parse()?), "verify: {said:?}");
        }
    }
    Ok(())
}

/// Checksums in each depot, blocks in one, content in one.
fn check_new(
    site: &Site,
    claims: &Claims,
    id: &SnapshotId,
    depots: &[&'static str],
    dice: &mut Dice,
) -> Result<()> {
    let (text, identity) = (id.to_string(), site.lab.identity());
    let in_all: Vec<&str> = depots.iter().flat_map(|name| ["--depot", *name]).collect();
    let said = site.auditor_ctl(&[&["verify", text.as_str()], &in_all[..]].concat());
    ensure!(said.code == 0, "verify {id} in {depots:?}: {said:?}");
    let one: &str = dice.pick::<&str>(depots);
    let deep = ["verify", &text, "--deep", "-i", &identity, "--depot", one];
    let said = site.auditor_ctl(&deep);
    ensure!(said.code == 0, "{deep:?}: {said:?}");
    let name = dice.pick(depots);
    let claim = claims.get(id).context("nobody knows what it claims")?;
    let checked = claim.check_stored(&site.depot(name)?, id, &site.identities()?);
    checked.with_context(|| format!("{id} in {name}"))
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
    ensure!(!depots.is_empty(), "no depot has {id}");
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

/// After a good run: every depot has the newest backups of the job that any has. Of older ones a prune beside a run
/// may have kept one more in a depot that it came to before the run did.
pub fn check_caught_up(site: &Site, job: &str) -> Result<()> {
    let all = DEPOTS.iter().map(|name| site.committed(name)).collect::<Result<Vec<_>>>()?;
    let of_job: BTreeSet<_> = all.iter().flatten().filter(|id| id.job.as_str() == job).collect();
    let newest: Vec<_> = of_job.into_iter().rev().take(KEEP_LAST - 1).collect();
    for (name, committed) in DEPOTS.iter().zip(&all) {
        let lacks: Vec<_> = newest.iter().filter(|id| !committed.contains(**id)).collect();
        ensure!(lacks.is_empty(), "{name} was not caught up: it lacks {lacks:?}");
    }
    Ok(())
}

/// Days pass: all that is stored is older.
pub fn let_days_pass(site: &Site) -> Result<()> {
    DEPOTS.iter().try_for_each(|name| make_older(&site.disk_of(name)))
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
    let said = site.auditor_ctl(&["verify"]);
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
