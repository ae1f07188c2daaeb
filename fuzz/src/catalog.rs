//! What anybody who may add to a depot can put there in plain text, as the keeper reads it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use depot::depot::Depot;
use depot::needs::Needs;
use depot::retention::{Plan, Policy, Survey, check_clock, plan, survey as survey_depot};
use depot::store::{Body, Store};

use crate::memory::{BASE, within};
use crate::objects::{DESCRIPTION, open_store};

/// How old everything is when the keeper plans: nothing is spared for being young.
const AGE: TimeDelta = TimeDelta::days(40);
/// Objects of one input.
const OBJECTS_MAX: usize = 64;

/// A needs list.
pub fn needs(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let Ok(needs) = within(8 * text.len() + BASE, || Needs::parse(&text)) else { return };
    let again = Needs::parse(&needs.to_text()).expect("it was written by us");
    assert_eq!(again, needs);
}

/// A depot of objects: name and content in turns, divided by zero bytes. No plan of the keeper lets go what a backup
/// needs that stays.
pub fn survey(data: &[u8]) {
    let depot = depot_of(data);
    let Ok(found) = within(64 * data.len() + BASE, || survey_depot(&depot)) else { return };
    let now = Utc::now() + AGE;
    let _ = check_clock(&found, now);
    let policy = Policy { keep_last: 1, ..Policy::default() };
    let jobs = found.snapshots.iter().map(|kept| (kept.id.job.to_string(), policy.clone()));
    let policies: BTreeMap<String, Policy> = jobs.collect();
    let made = plan(&found, &policies, Duration::ZERO, now);
    check_plan(&found, &made, now);
}

fn depot_of(data: &[u8]) -> Depot {
    let store = Store::Memory(depot::store::memory::MemoryStore::default());
    let _ = store.create(DESCRIPTION.0, Body::Bytes(DESCRIPTION.1.as_bytes()));
    let mut parts = data.split(|byte| *byte == 0);
    for _ in 0..OBJECTS_MAX {
        let (Some(name), Some(content)) = (parts.next(), parts.next()) else { break };
        if let Ok(name) = std::str::from_utf8(name) {
            let _ = store.create(name, Body::Bytes(content));
        }
    }
    open_store(store)
}

fn check_plan(found: &Survey, made: &Plan, now: DateTime<Utc>) {
    assert_eq!(found.snapshots.len(), made.verdicts.len());
    let stays: BTreeSet<_> = made.verdicts.iter().filter(|v| v.keep).map(|v| &v.id).collect();
    let condemned: BTreeSet<_> = made.condemn.iter().collect();
    let deleted: BTreeSet<_> = made.delete.iter().collect();
    for kept in &found.snapshots {
        assert!(kept.arrived <= now && (!kept.marked || stays.contains(&kept.id)));
        let is_kept = stays.contains(&kept.id);
        for line in kept.needs.packs.iter().filter(|_| is_kept) {
            let goes = deleted.contains(&line.pack.pack_object());
            assert!(!condemned.contains(&line.pack) && !goes, "{} needs {line:?}", kept.id);
        }
    }
    let sources = |id: &depot::names::SnapshotId| (id.job.clone(), id.host.clone());
    let before: BTreeSet<_> = found.snapshots.iter().map(|kept| sources(&kept.id)).collect();
    let after: BTreeSet<_> = stays.iter().map(|id| sources(id)).collect();
    assert_eq!(before, after, "nothing stays of a job on a host");
}
