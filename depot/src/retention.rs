//! What may go and what stays, and why: pure decisions over a survey of a depot. Only the keeper
//! acts on them.
//!
//! Time here is when the store saw an object arrive, never what an agent says: a node that lies
//! about its clock can neither push good backups out nor keep bad ones in. The last good backup of
//! a job and host always stays, and so does whatever something kept builds on.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Duration;

use chassis::failure::{Exit, Failure};
use chassis::units::Span;
use chrono::{DateTime, Datelike, Timelike, Utc};
use serde::{Deserialize, Serialize};

use crate::manifest::{PackLine, SnapshotKind, SnapshotState};
use crate::names::{PackId, SnapshotId};

mod act;
mod logs;
mod survey;

pub use act::{Pruned, keep, perform, unkeep};
pub use survey::{Condemned, Kept, PackObject, Proof, Survey, survey};

/// How long a condemned pack stays, by default and at least: longer than any run of an agent.
pub const GRACE: Duration = Duration::from_hours(72);
/// A pack younger than this may belong to a run that is not committed yet.
const RUN_MAX: Duration = Duration::from_hours(48);
/// After so long without a backup, a prune wants to be told.
const SILENCE_MAX: Duration = Duration::from_hours(7 * 24);

/// What to keep of a job on one host. A snapshot stays if any rule wants it; without any rule
/// everything stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Policy {
    /// The newest so many.
    pub keep_last: u32,
    /// All that are not older than this.
    pub keep_within: Option<Span>,
    /// The newest of each of the last so many hours that have one.
    pub hourly: u32,
    /// The same for days (UTC).
    pub daily: u32,
    /// The same for weeks (ISO 8601).
    pub weekly: u32,
    /// The same for months.
    pub monthly: u32,
    /// The same for years.
    pub yearly: u32,
    /// Every point in time within this must stay restorable: all since then, and the newest before.
    pub recovery_window: Option<Span>,
}

impl Policy {
    fn keeps_all(&self) -> bool {
        *self == Self::default()
    }
}

/// Why a snapshot stays or goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// The snapshot.
    pub id: SnapshotId,
    /// When it arrived.
    pub arrived: DateTime<Utc>,
    /// Whether it stays.
    pub keep: bool,
    /// The rules that want it, or that none does.
    pub reasons: Vec<String>,
}

/// What a prune would do, in the order of doing it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Plan {
    /// One for each snapshot.
    pub verdicts: Vec<Verdict>,
    /// Needs lists of runs that were never committed.
    pub orphans: Vec<String>,
    /// Packs that nothing needs: named now, deleted by a later prune.
    pub condemn: Vec<PackId>,
    /// Objects of packs condemned long ago that still nothing needs.
    pub delete: Vec<String>,
    /// Torn candidates that have a whole sister.
    pub torn: Vec<Torn>,
    /// Lists of condemned packs that are worked off.
    pub spent: Vec<String>,
    /// Objects that old checks have left.
    pub proofs: Vec<String>,
    /// Pieces of the log that nothing needs: tails in segments, and what is older than every backup.
    pub logs: Vec<String>,
    /// Bytes that deleting frees.
    pub freed_bytes: u64,
    /// Bytes of the packs condemned now.
    pub condemned_bytes: u64,
}

/// What a cut upload has left, beside the same pack put again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Torn {
    /// The object to delete.
    pub name: String,
    /// The one that stays, once its checksum was found right.
    pub whole: String,
    /// The pack.
    pub pack: PackId,
    /// Size of the torn object in bytes.
    pub size: u64,
}

/// Decides over all snapshots of a survey. A job that has no policy keeps everything.
pub fn plan(
    survey: &Survey,
    policies: &BTreeMap<String, Policy>,
    grace: Duration,
    now: DateTime<Utc>,
) -> Plan {
    let verdicts = judge(survey, policies, now);
    let stays: HashSet<&SnapshotId> = verdicts.iter().filter(|v| v.keep).map(|v| &v.id).collect();
    let grace = grace.max(GRACE);
    let is_old = |arrived: DateTime<Utc>, age: Duration| {
        now.signed_duration_since(arrived).to_std().is_ok_and(|passed| passed >= age)
    };
    let mut plan = Plan { verdicts: verdicts.clone(), ..Plan::default() };
    let mut needed: HashMap<PackId, BTreeSet<u64>> = HashMap::new();
    let mut need = |packs: &[PackLine]| {
        for line in packs {
            needed.entry(line.pack).or_default().insert(line.size);
        }
    };
    for kept in survey.snapshots.iter().filter(|kept| stays.contains(&kept.id)) {
        need(&kept.needs.packs);
        need(&kept.also);
    }
    for orphan in &survey.orphans {
        if is_old(orphan.arrived, grace) {
            plan.orphans.push(orphan.name.clone());
        } else {
            need(&orphan.packs);
        }
    }
    let mut condemned: HashSet<PackId> = HashSet::new();
    let mut due: HashSet<PackId> = HashSet::new();
    for list in &survey.condemned {
        condemned.extend(&list.packs);
        if is_old(list.arrived, grace) {
            due.extend(&list.packs);
            plan.spent.push(list.name.clone());
        }
    }
    let mut by_pack: HashMap<PackId, Vec<&PackObject>> = HashMap::new();
    survey.packs.iter().for_each(|object| by_pack.entry(object.pack).or_default().push(object));
    // A young object may belong to a run that is not committed yet.
    for object in survey.packs.iter().filter(|object| is_old(object.arrived, RUN_MAX)) {
        if let Some(sizes) = needed.get(&object.pack) {
            let others = by_pack[&object.pack].iter().filter(|other| other.name != object.name);
            let whole = others.into_iter().find(|other| sizes.contains(&other.size));
            if let (false, Some(whole)) = (sizes.contains(&object.size), whole) {
                let (name, whole) = (object.name.clone(), whole.name.clone());
                plan.torn.push(Torn { name, whole, pack: object.pack, size: object.size });
            }
        } else if due.contains(&object.pack) {
            plan.delete.push(object.name.clone());
            plan.freed_bytes += object.size;
        } else if !condemned.contains(&object.pack) {
            plan.condemned_bytes += object.size;
            plan.condemn.push(object.pack);
        }
    }
    let old_proofs = survey.proofs.iter().filter(|proof| is_old(proof.arrived, RUN_MAX));
    plan.proofs.extend(old_proofs.map(|proof| proof.name.clone()));
    let bases = survey
        .snapshots
        .iter()
        .filter(|kept| kept.needs.kind == SnapshotKind::Database && stays.contains(&kept.id));
    let oldest = bases.map(|kept| kept.arrived).min();
    plan.logs = logs::garbage(&survey.logs, oldest, now);
    plan.condemn.sort_unstable();
    plan.condemn.dedup();
    plan
}

/// Refuses to decide by a clock that cannot be right, or after so long a silence that rules by age
/// would empty the history.
pub fn check_clock(survey: &Survey, now: DateTime<Utc>) -> Result<(), Failure> {
    let Some(newest) = survey.snapshots.iter().map(|kept| kept.arrived).max() else {
        return Ok(());
    };
    let silence = now.signed_duration_since(newest);
    if silence.num_seconds() >= -3600
        && silence < chrono::Duration::from_std(SILENCE_MAX).unwrap_or_default()
    {
        return Ok(());
    }
    let message =
        format!("the newest backup arrived at {newest}, and this host's clock says {now}");
    Err(Failure::new(Exit::Failed, message).hint(
        "set the clock, or find out why no backup arrives; `--accept-clock` prunes all the same",
    ))
}

fn judge(survey: &Survey, policies: &BTreeMap<String, Policy>, now: DateTime<Utc>) -> Vec<Verdict> {
    let sound = sound(survey);
    let mut groups: BTreeMap<(&str, &str), Vec<&Kept>> = BTreeMap::new();
    for kept in &survey.snapshots {
        groups.entry((kept.id.job.as_str(), kept.id.host.as_str())).or_default().push(kept);
    }
    let mut reasons: HashMap<&SnapshotId, Vec<String>> = HashMap::new();
    for ((job, _), group) in &mut groups {
        group.sort_by_key(|kept| std::cmp::Reverse((kept.arrived, kept.id.time)));
        match policies.get(*job) {
            Some(policy) if !policy.keeps_all() => apply(policy, group, &sound, now, &mut reasons),
            _ => group.iter().for_each(|kept| note(&mut reasons, &kept.id, "no policy")),
        }
    }
    add_marks_and_parents(survey, &mut reasons);
    survey
        .snapshots
        .iter()
        .map(|kept| {
            let found = reasons.get(&kept.id).cloned();
            Verdict {
                id: kept.id.clone(),
                arrived: kept.arrived,
                keep: found.is_some(),
                reasons: found.unwrap_or_else(|| vec!["no rule wants it".to_owned()]),
            }
        })
        .collect()
}

/// The snapshots that could be restored as far as can be told without a key: complete, all packs
/// there in their size, and the same of all that they build on.
fn sound(survey: &Survey) -> HashSet<&SnapshotId> {
    let packs: HashSet<(PackId, u64)> = survey.packs.iter().map(|p| (p.pack, p.size)).collect();
    let mut sound: HashSet<&SnapshotId> = HashSet::new();
    // Ids are in the order of time, and a parent is older than what builds on it.
    for kept in &survey.snapshots {
        let has_parent = kept.needs.parent.as_ref().is_none_or(|parent| sound.contains(parent));
        let has_packs = kept.needs.packs.iter().all(|line| packs.contains(&(line.pack, line.size)));
        if kept.needs.state == SnapshotState::Complete && has_parent && has_packs {
            sound.insert(&kept.id);
        }
    }
    sound
}

type Reasons<'a> = HashMap<&'a SnapshotId, Vec<String>>;

fn note<'a>(reasons: &mut Reasons<'a>, id: &'a SnapshotId, why: impl Into<String>) {
    reasons.entry(id).or_default().push(why.into());
}

/// `group` is of one job and host, the newest first.
fn apply<'a>(
    policy: &Policy,
    group: &[&'a Kept],
    sound: &HashSet<&SnapshotId>,
    now: DateTime<Utc>,
    reasons: &mut Reasons<'a>,
) {
    let is_good = |kept: &&&'a Kept| sound.contains(&kept.id);
    if let Some(good) = group.iter().find(is_good).or(group.first()) {
        note(reasons, &good.id, "last good");
    }
    for kept in group.iter().take(policy.keep_last as usize) {
        note(reasons, &kept.id, format!("keep-last {}", policy.keep_last));
    }
    for (name, span) in
        [("keep-within", policy.keep_within), ("recovery-window", policy.recovery_window)]
    {
        let Some(span) = span else { continue };
        let is_within = |kept: &Kept| {
            // An arrival in the future is as new as can be.
            !now.signed_duration_since(kept.arrived).to_std().is_ok_and(|age| age > span.0)
        };
        for kept in group.iter().filter(|kept| is_within(kept)) {
            note(reasons, &kept.id, format!("{name} {span}"));
        }
        let first_before = group.iter().filter(|kept| !is_within(kept)).find(is_good);
        if let (Some(kept), "recovery-window") = (first_before, name) {
            note(reasons, &kept.id, format!("begins the {name} of {span}"));
        }
    }
    apply_buckets(policy, group, sound, reasons);
}

fn apply_buckets<'a>(
    policy: &Policy,
    group: &[&'a Kept],
    sound: &HashSet<&SnapshotId>,
    reasons: &mut Reasons<'a>,
) {
    type Bucket = fn(DateTime<Utc>) -> (i32, u32, u32);
    let rules: [(&str, u32, Bucket); 5] = [
        ("hourly", policy.hourly, |t| (t.year(), t.ordinal(), t.hour())),
        ("daily", policy.daily, |t| (t.year(), t.ordinal(), 0)),
        ("weekly", policy.weekly, |t| (t.iso_week().year(), t.iso_week().week(), 0)),
        ("monthly", policy.monthly, |t| (t.year(), t.month(), 0)),
        ("yearly", policy.yearly, |t| (t.year(), 0, 0)),
    ];
    for (name, count, bucket) in rules {
        let mut seen = BTreeSet::new();
        for kept in group {
            let place = bucket(kept.arrived);
            if seen.len() == count as usize || !seen.insert(place) {
                continue;
            }
            // The newest good one of the bucket, or the newest if none is good.
            let of_bucket = || group.iter().filter(|other| bucket(other.arrived) == place);
            let is_good = |kept: &&&'a Kept| sound.contains(&kept.id);
            if let Some(best) = of_bucket().find(is_good).or_else(|| of_bucket().next()) {
                note(reasons, &best.id, format!("{name} {}/{count}", seen.len()));
            }
        }
    }
}

fn add_marks_and_parents<'a>(survey: &'a Survey, reasons: &mut Reasons<'a>) {
    for kept in survey.snapshots.iter().filter(|kept| kept.marked) {
        note(reasons, &kept.id, "marked by `backupctl keep`");
    }
    let by_id: HashMap<&SnapshotId, &Kept> = survey.snapshots.iter().map(|k| (&k.id, k)).collect();
    let mut open: Vec<&SnapshotId> = reasons.keys().copied().collect();
    open.sort_unstable();
    while let Some(id) = open.pop() {
        let Some(parent) = by_id.get(id).and_then(|kept| kept.needs.parent.as_ref()) else {
            continue;
        };
        if let Some(kept) = by_id.get(parent) {
            if !reasons.contains_key(&kept.id) {
                open.push(&kept.id);
            }
            note(reasons, &kept.id, format!("{id} builds on it"));
        }
    }
}

#[cfg(test)]
mod tests;
