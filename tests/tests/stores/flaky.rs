//! The failing store: the contract while no fault is set, and the same faults for the same seed.

use depot::store::flaky::{Faults, FlakyStore};
use depot::store::memory::MemoryStore;
use depot::store::{Body, Store, StoreError};

use crate::contract;

fn flaky(faults: Faults) -> Store {
    let inner = Store::Memory(MemoryStore::default());
    Store::Flaky(Box::new(FlakyStore::new(inner, faults)))
}

fn inside(store: &Store) -> &FlakyStore {
    let Store::Flaky(flaky) = store else { panic!("not flaky") };
    flaky
}

#[test]
fn flaky_without_faults_keeps_the_contract() {
    contract::check_all_of_keeper(&flaky(Faults::default()));
}

/// What happened to each of some calls, made by several threads in any order.
fn story(seed: u64) -> Vec<String> {
    let faults = Faults { seed, fail_before: 0.1, tear: 0.2, fail_after: 0.1, ..Faults::default() };
    let store = flaky(faults);
    let mut story: Vec<String> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|thread| {
                let store = &store;
                scope.spawn(move || -> Vec<String> {
                    (0..50).map(|n| tell(store, &format!("{thread}-{n}"))).collect()
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    story.push(format!("{:?}", inside(&store).counts()));
    story
}

fn tell(store: &Store, name: &str) -> String {
    let created = store.create(name, Body::Bytes(&[7; 1000]));
    let left = inside(store).inner().stat(name).unwrap().map(|info| info.size);
    match (&created, left) {
        (Ok(()), left) => assert_eq!(left, Some(1000)),
        (Err(StoreError::Unreachable { .. }), None | Some(0..=1000)) => {}
        other => panic!("{other:?}"),
    }
    format!("{name} {created:?} {left:?} {:?}", store.read(name))
}

#[test]
fn the_same_seed_fails_in_the_same_places() {
    let (first, second) = (story(1), story(1));
    assert_eq!(first, second);
    assert_ne!(first, story(2));
    // All three kinds of harm were done.
    assert!(first.iter().any(|line| line.contains("Err") && line.contains("None Err")));
    assert!(first.iter().any(|line| line.contains("Err") && line.contains("Some(1000)")));
    let is_torn = |line: &String| line.contains("Some(") && !line.contains("Some(1000)");
    assert!(first.iter().any(is_torn));
}

#[test]
fn chosen_calls_fail_and_space_runs_out() {
    let faults = Faults { fail_calls: [2].into(), full_after: Some(2500), ..Faults::default() };
    let store = flaky(faults);
    let create = |name| store.create(name, Body::Bytes(&[7; 1000]));
    create("a").unwrap();
    assert!(!create("b").unwrap_err().is_permanent());
    create("b").unwrap();
    assert!(matches!(create("c"), Err(StoreError::Full { .. })));
    let counts = inside(&store).counts();
    assert_eq!((counts.calls, counts.failed_before, counts.full, counts.bytes), (4, 1, 1, 2000));
    inside(&store).set_faults(Faults::default());
    create("c").unwrap();
}
