//! Cases and laws of retention.

use std::sync::Arc;

use proptest::prelude::*;

use super::survey::Orphan;
use super::*;
use crate::depot::Depot;
use crate::manifest::{PackLine, SnapshotKind};
use crate::names::Sha256;
use crate::needs::Needs;
use crate::store::Store;
use crate::store::memory::MemoryStore;

const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;

fn now() -> DateTime<Utc> {
    "2026-11-23T12:00:00Z".parse().expect("valid time")
}

fn kept(age_seconds: i64, packs: &[u8]) -> Kept {
    let arrived = now() - chrono::Duration::seconds(age_seconds);
    let line = |n: &u8| PackLine { pack: Sha256::of(&[*n]), size: 100 };
    Kept {
        id: SnapshotId::new("db".parse().expect("label"), arrived, "db1".parse().expect("label")),
        arrived,
        needs: Needs {
            kind: SnapshotKind::Database,
            state: SnapshotState::Complete,
            parent: None,
            bytes: 0,
            stored: 0,
            manifest: (Sha256([0; 32]), 1),
            packs: packs.iter().map(line).collect(),
        },
        also: Vec::new(),
        marked: false,
    }
}

fn pack(n: u8, age_seconds: i64) -> PackObject {
    let pack = Sha256::of(&[n]);
    let arrived = now() - chrono::Duration::seconds(age_seconds);
    PackObject { name: pack.pack_object(), pack, size: 100, arrived }
}

fn decide(survey: &Survey, policy: Policy) -> Plan {
    plan(survey, &BTreeMap::from([("db".to_owned(), policy)]), GRACE, now())
}

fn ages_kept(ages: &[i64], policy: Policy) -> Vec<i64> {
    let survey =
        Survey { snapshots: ages.iter().map(|a| kept(*a, &[])).collect(), ..Survey::default() };
    let verdicts = decide(&survey, policy).verdicts;
    verdicts.iter().filter(|v| v.keep).map(|v| (now() - v.arrived).num_seconds()).collect()
}

#[test]
fn rules_keep_what_they_say() {
    let days: Vec<i64> = (0..40).map(|d| d * DAY).collect();
    let check = |policy: Policy, expected: &[i64]| {
        let kept: Vec<i64> = ages_kept(&days, policy.clone()).iter().map(|a| a / DAY).collect();
        assert_eq!(kept, expected, "{policy:?}");
    };
    check(Policy { keep_last: 3, ..Policy::default() }, &[0, 1, 2]);
    check(Policy { daily: 2, monthly: 2, ..Policy::default() }, &[0, 1, 23]);
    check(Policy { weekly: 3, ..Policy::default() }, &[0, 1, 8]);
    check(Policy { yearly: 5, ..Policy::default() }, &[0]);
    let within = |days: u64| Some(Span(Duration::from_secs(days * DAY as u64)));
    check(Policy { keep_within: within(2), ..Policy::default() }, &[0, 1, 2]);
    check(Policy { recovery_window: within(2), ..Policy::default() }, &[0, 1, 2, 3]);
    assert_eq!(ages_kept(&days, Policy::default()).len(), 40, "no rule keeps everything");
}

#[test]
fn a_partial_one_is_not_the_last_good_one() {
    let mut survey = Survey { snapshots: vec![kept(2, &[]), kept(1, &[])], ..Survey::default() };
    survey.snapshots[1].needs.state = SnapshotState::Partial;
    let plan = decide(&survey, Policy { keep_last: 1, ..Policy::default() });
    assert!(plan.verdicts.iter().all(|v| v.keep), "{plan:?}");
    assert_eq!(plan.verdicts[0].reasons, ["last good"]);
}

#[test]
fn what_something_kept_builds_on_stays() {
    let mut survey = Survey {
        snapshots: vec![kept(300, &[]), kept(200, &[]), kept(100, &[])],
        ..Survey::default()
    };
    survey.snapshots[2].needs.parent = Some(survey.snapshots[1].id.clone());
    survey.snapshots[1].needs.parent = Some(survey.snapshots[0].id.clone());
    let plan = decide(&survey, Policy { keep_last: 1, ..Policy::default() });
    assert!(plan.verdicts.iter().all(|v| v.keep), "{plan:?}");
}

#[test]
fn packs_go_in_two_phases_and_only_when_nothing_needs_them() {
    let mut survey = Survey {
        snapshots: vec![kept(10 * DAY, &[1, 2]), kept(DAY, &[2, 3])],
        packs: vec![
            pack(1, 10 * DAY),
            pack(2, 10 * DAY),
            pack(3, DAY),
            pack(4, 5 * DAY),
            pack(5, HOUR),
        ],
        ..Survey::default()
    };
    let policy = Policy { keep_last: 1, ..Policy::default() };
    let first = decide(&survey, policy.clone());
    let mut expected = vec![Sha256::of(&[1]), Sha256::of(&[4])];
    expected.sort_unstable();
    assert_eq!(first.condemn, expected);
    assert!(first.delete.is_empty() && first.spent.is_empty());
    survey.snapshots.remove(0);
    let list = |age: i64| Condemned {
        name: "condemned/x".into(),
        arrived: now() - chrono::Duration::seconds(age),
        packs: vec![Sha256::of(&[1]), Sha256::of(&[4]), Sha256::of(&[2])],
    };
    survey.condemned = vec![list(HOUR)];
    let early = decide(&survey, policy.clone());
    assert!(early.delete.is_empty() && early.condemn.is_empty(), "{early:?}");
    survey.condemned = vec![list(4 * DAY)];
    let late = decide(&survey, policy);
    assert_eq!(late.delete.len(), 2, "2 is needed again: {late:?}");
    assert_eq!(late.spent, ["condemned/x"]);
}

#[test]
fn a_run_that_is_not_committed_yet_keeps_its_packs() {
    let mut survey = Survey { packs: vec![pack(1, 3 * DAY)], ..Survey::default() };
    let orphan = |age: i64| Orphan {
        name: "snapshot/x.needs".into(),
        arrived: now() - chrono::Duration::seconds(age),
        packs: kept(0, &[1]).needs.packs,
    };
    survey.orphans = vec![orphan(DAY)];
    assert!(decide(&survey, Policy::default()).condemn.is_empty());
    survey.orphans = vec![orphan(4 * DAY)];
    let late = decide(&survey, Policy::default());
    assert_eq!((late.condemn.len(), late.orphans.len()), (1, 1));
}

#[test]
fn what_a_check_has_left_goes_when_it_is_of_no_use_any_more() {
    let proof = |name: &str, age: i64| Proof {
        name: name.into(),
        arrived: now() - chrono::Duration::seconds(age),
    };
    let proofs = vec![proof("lease/check--a", 3 * DAY), proof("lease/check--b", DAY)];
    let survey = Survey { proofs, ..Survey::default() };
    assert_eq!(decide(&survey, Policy::default()).proofs, ["lease/check--a"]);
}

#[test]
fn a_torn_candidate_goes_once_a_whole_one_is_there() {
    let mut torn = pack(1, 3 * DAY);
    torn.size = 7;
    let mut whole = pack(1, 3 * DAY);
    whole.name.push_str(".1");
    let mut survey =
        Survey { snapshots: vec![kept(DAY, &[1])], packs: vec![torn], ..Survey::default() };
    assert!(decide(&survey, Policy::default()).delete.is_empty(), "it may be all there is");
    survey.packs.push(whole);
    let plan = decide(&survey, Policy::default());
    assert_eq!(plan.torn.iter().map(|t| &t.name).collect::<Vec<_>>(), [&pack(1, 0).name]);
    assert!(plan.delete.is_empty() && plan.condemn.is_empty());
}

#[test]
fn a_prune_on_a_store_does_what_the_plan_says() {
    let depot = Depot::init_store("d", Store::Memory(MemoryStore::default())).expect("init");
    let depot = Arc::new(depot);
    let put = |name: &str, text: &str| {
        depot.store().create(name, crate::store::Body::Bytes(text.as_bytes())).expect("create");
    };
    let (old, new) = (kept(10 * DAY, &[1]), kept(0, &[2]));
    for (snapshot, number) in [(&old, 1), (&new, 2)] {
        put(&Sha256::of(&[number]).pack_object(), &"x".repeat(100));
        put(&snapshot.id.needs_object(), &snapshot.needs.to_text());
        put(&snapshot.id.manifest_object(), "m");
    }
    let policies =
        BTreeMap::from([("db".to_owned(), Policy { keep_last: 1, ..Policy::default() })]);
    keep(&depot, &old.id).expect("mark");
    let later = Utc::now() + chrono::Duration::days(3);
    let marked = plan(&survey(&depot).expect("survey"), &policies, GRACE, later);
    assert!(marked.verdicts.iter().all(|v| v.keep));
    unkeep(&depot, &old.id).expect("unmark");
    let first = plan(&survey(&depot).expect("survey"), &policies, GRACE, later);
    let done = perform(&depot, &first, later).expect("prune");
    assert_eq!((done.snapshots, done.condemned, done.objects), (1, 1, 0));
    let second = plan(&survey(&depot).expect("survey"), &policies, GRACE, later);
    assert_eq!(perform(&depot, &second, later).expect("prune"), Pruned::default());
    assert_eq!(depot.pack_sizes().expect("list").len(), 1, "agents do not see it any more");
    let much_later = later + chrono::Duration::days(4);
    let third = plan(&survey(&depot).expect("survey"), &policies, GRACE, much_later);
    assert_eq!(perform(&depot, &third, much_later).expect("prune").objects, 1);
    let after = survey(&depot).expect("survey");
    assert_eq!((after.packs.len(), after.snapshots.len(), after.condemned.len()), (1, 1, 0));
}

proptest! {
    #[test]
    fn the_last_good_one_and_all_parents_always_stay(
        ages in proptest::collection::btree_set(0..400 * DAY, 1..40),
        parents in proptest::collection::vec(any::<Option<u8>>(), 40),
        partial in proptest::collection::vec(any::<bool>(), 40),
        rules in proptest::array::uniform5(0u32..4),
        window in proptest::option::of(0..400 * DAY as u64),
    ) {
        let mut snapshots: Vec<Kept> = ages.iter().rev().map(|age| kept(*age, &[])).collect();
        for n in 1..snapshots.len() {
            if let Some(back) = parents[n] {
                let parent = n - 1 - usize::from(back) % n;
                snapshots[n].needs.parent = Some(snapshots[parent].id.clone());
            }
            if partial[n] {
                snapshots[n].needs.state = SnapshotState::Partial;
            }
        }
        let [keep_last, hourly, daily, weekly, monthly] = rules;
        let recovery_window = window.map(|s| Span(Duration::from_secs(s)));
        let mut policy = Policy { keep_last, hourly, daily, weekly, ..Policy::default() };
        (policy.monthly, policy.recovery_window) = (monthly, recovery_window);
        let survey = Survey { snapshots, ..Survey::default() };
        let plan = decide(&survey, policy);
        let stays: HashSet<_> = plan.verdicts.iter().filter(|v| v.keep).map(|v| &v.id).collect();
        let of = |id: &SnapshotId| survey.snapshots.iter().find(|k| k.id == *id);
        let is_good = |kept: &&Kept| {
            let parent = |k: &&Kept| k.needs.parent.as_ref().and_then(of);
            std::iter::successors(Some(*kept), parent)
                .all(|k| k.needs.state == SnapshotState::Complete)
        };
        let last_good = survey.snapshots.iter().rev().find(is_good);
        prop_assert!(last_good.is_none_or(|k| stays.contains(&k.id)));
        for snapshot in survey.snapshots.iter().filter(|k| stays.contains(&k.id)) {
            if let Some(parent) = &snapshot.needs.parent {
                prop_assert!(stays.contains(parent), "{} needs {parent}", snapshot.id);
            }
        }
    }
}
