//! A store that fails by seed, around any other store, for tests.
//!
//! What happens to a call depends only on the seed, the operation, the name and how often that was
//! asked for before: the same run fails in the same places, however its threads are scheduled. Two
//! faults count calls or bytes over all threads instead and are meant for single-threaded tests:
//! [`Faults::fail_calls`] and [`Faults::full_after`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard};

use super::input::Input;
use super::{Body, ObjectInfo, Store, StoreError};

/// What goes wrong. Probabilities are from 0 to 1, and are tried in the order given here.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// Everything random comes from it.
    pub seed: u64,
    /// A call fails before it did anything.
    pub fail_before: f64,
    /// A creation leaves only the first part of the object under its name, and fails.
    pub tear: f64,
    /// A call is done, and its answer is lost: it fails.
    pub fail_after: f64,
    /// These calls (counted from 1, all operations) fail before they did anything.
    pub fail_calls: BTreeSet<u64>,
    /// A creation that would bring the sum of all bytes created above this fails with
    /// [`StoreError::Full`].
    pub full_after: Option<u64>,
}

/// How often what happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlakyCounts {
    /// Calls in all.
    pub calls: u64,
    /// Calls that failed before they did anything.
    pub failed_before: u64,
    /// Creations that left a torn object.
    pub torn: u64,
    /// Calls that were done and failed.
    pub failed_after: u64,
    /// Creations that found no space.
    pub full: u64,
    /// Objects that were made durable where they were.
    pub synced: u64,
    /// Bytes of the objects created, torn ones included.
    pub bytes: u64,
}

/// See the module.
#[derive(Debug)]
pub struct FlakyStore {
    inner: Store,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    faults: Faults,
    counts: FlakyCounts,
    asked: BTreeMap<(&'static str, String), u64>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Verdict {
    Pass,
    FailBefore,
    /// The part of the body that is kept, from 0 to 1.
    Tear(f64),
    FailAfter,
}

impl FlakyStore {
    /// Wraps a store.
    pub fn new(inner: Store, faults: Faults) -> Self {
        let state = State { faults, counts: FlakyCounts::default(), asked: BTreeMap::new() };
        Self { inner, state: Mutex::new(state) }
    }

    /// The store below, which does not fail.
    pub fn inner(&self) -> &Store {
        &self.inner
    }

    /// What happened so far.
    pub fn counts(&self) -> FlakyCounts {
        self.lock().counts
    }

    /// Other faults from now on; the counts go on.
    pub fn set_faults(&self, faults: Faults) {
        self.lock().faults = faults;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of this lock panics")
    }

    pub(super) fn create(&self, name: &str, body: Body<'_>) -> Result<(), StoreError> {
        let size = Input::open(body)?.size();
        let verdict = self.lock().judge("create", name);
        match verdict {
            Verdict::FailBefore => return Err(failed("create", name)),
            Verdict::Tear(part) => return self.tear(name, body, (size as f64 * part) as u64),
            Verdict::Pass | Verdict::FailAfter => {}
        }
        self.lock().reserve(name, size)?;
        let outcome = self.inner.create(name, body);
        if outcome.is_ok() {
            self.lock().counts.bytes += size;
        }
        self.answer("create", name, verdict, outcome)
    }

    fn tear(&self, name: &str, body: Body<'_>, length: u64) -> Result<(), StoreError> {
        self.lock().reserve(name, length)?;
        let part = Input::open(body)?.next(length as usize)?.to_vec();
        // A name that is taken stays as it is, and is reported as such.
        self.inner.create(name, Body::Bytes(&part))?;
        let mut state = self.lock();
        state.counts.torn += 1;
        state.counts.bytes += length;
        Err(failed("create", name))
    }

    pub(super) fn sync(&self, name: &str) -> Result<(), StoreError> {
        let outcome = self.call("sync", name, || self.inner.sync(name));
        self.lock().counts.synced += u64::from(outcome.is_ok());
        outcome
    }

    pub(super) fn read(&self, name: &str) -> Result<Vec<u8>, StoreError> {
        self.call("read", name, || self.inner.read(name))
    }

    pub(super) fn read_range(
        &self,
        name: &str,
        offset: u64,
        length: usize,
    ) -> Result<Vec<u8>, StoreError> {
        self.call("read range", name, || self.inner.read_range(name, offset, length))
    }

    pub(super) fn stat(&self, name: &str) -> Result<Option<ObjectInfo>, StoreError> {
        self.call("stat", name, || self.inner.stat(name))
    }

    pub(super) fn list(&self, folder: &str) -> Result<Vec<ObjectInfo>, StoreError> {
        self.call("list", folder, || self.inner.list(folder))
    }

    pub(super) fn delete(&self, name: &str) -> Result<(), StoreError> {
        self.call("delete", name, || self.inner.delete(name))
    }

    fn call<T>(
        &self,
        operation: &'static str,
        name: &str,
        work: impl FnOnce() -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let verdict = self.lock().judge(operation, name);
        if verdict == Verdict::FailBefore {
            return Err(failed(operation, name));
        }
        self.answer(operation, name, verdict, work())
    }

    fn answer<T>(
        &self,
        operation: &str,
        name: &str,
        verdict: Verdict,
        outcome: Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        if verdict != Verdict::FailAfter || outcome.is_err() {
            return outcome;
        }
        self.lock().counts.failed_after += 1;
        Err(failed(operation, name))
    }
}

impl State {
    fn judge(&mut self, operation: &'static str, name: &str) -> Verdict {
        self.counts.calls += 1;
        let asked = self.asked.entry((operation, name.to_owned())).or_default();
        *asked += 1;
        let mut verdict = judge(&self.faults, operation, name, *asked);
        if self.faults.fail_calls.contains(&self.counts.calls) {
            verdict = Verdict::FailBefore;
        }
        if verdict == Verdict::FailBefore {
            self.counts.failed_before += 1;
        }
        verdict
    }

    fn reserve(&mut self, name: &str, size: u64) -> Result<(), StoreError> {
        if self.faults.full_after.is_some_and(|limit| self.counts.bytes + size > limit) {
            self.counts.full += 1;
            return Err(StoreError::full(name));
        }
        Ok(())
    }
}

fn failed(operation: &str, name: &str) -> StoreError {
    StoreError::Unreachable { what: format!("{operation} `{name}`: failed by seed"), source: None }
}

/// The verdict on the `asked`-th time that this is asked for.
fn judge(faults: &Faults, operation: &str, name: &str, asked: u64) -> Verdict {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&faults.seed.to_le_bytes()).update(&asked.to_le_bytes());
    hasher.update(operation.as_bytes()).update(b"\0").update(name.as_bytes());
    let hash = hasher.finalize();
    let draw = |n: usize| {
        let word = hash.as_bytes()[n * 8..n * 8 + 8].try_into().expect("eight bytes");
        (u64::from_le_bytes(word) >> 11) as f64 / (1u64 << 53) as f64
    };
    if draw(0) < faults.fail_before {
        Verdict::FailBefore
    } else if operation == "create" && draw(1) < faults.tear {
        Verdict::Tear(draw(3))
    } else if draw(2) < faults.fail_after {
        Verdict::FailAfter
    } else {
        Verdict::Pass
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use chassis::retry::{Backoff, Stop};

    use super::*;
    use crate::depot::Depot;
    use crate::names::Sha256;

    #[test]
    fn an_object_whose_answer_was_lost_is_made_durable_before_it_counts() {
        let faults = Faults { fail_after: 1.0, ..Faults::default() };
        let inner = Store::Memory(crate::store::memory::MemoryStore::default());
        let text = b"format = 1\nid = \"0\"\n";
        inner.create("depot.toml", Body::Bytes(text)).unwrap();
        let store = Store::Flaky(Box::new(FlakyStore::new(inner, Faults::default())));
        let zero = Duration::ZERO;
        let once = Backoff { attempts_max: 1, first: zero, factor: 1, max: zero, jitter: 0.0 };
        let depot = Depot::from_store_with("x", store, Stop::never(), once).unwrap();
        let Store::Flaky(flaky) = depot.store() else { panic!("it is flaky") };
        let put = || depot.put("snapshot/x.needs", Body::Bytes(b"y"), 1, Sha256::of(b"y"));
        flaky.set_faults(faults);
        assert!(put().is_err());
        flaky.set_faults(Faults::default());
        put().unwrap();
        assert_eq!(flaky.counts().synced, 1);
        // Neither does it count if that cannot be done.
        let calls = flaky.counts().calls;
        let at_sync = (calls + 4..=calls + 20).collect();
        flaky.set_faults(Faults { fail_calls: at_sync, ..Faults::default() });
        assert!(put().is_err());
        assert_eq!(flaky.counts().synced, 1);
    }

    #[test]
    fn verdicts_come_as_often_as_asked_for() {
        let faults =
            Faults { seed: 7, fail_before: 0.2, tear: 0.25, fail_after: 0.5, ..Faults::default() };
        let verdicts: Vec<Verdict> =
            (1..=10_000).map(|asked| judge(&faults, "create", "x", asked)).collect();
        let share = |wanted: fn(&Verdict) -> bool| {
            verdicts.iter().filter(|verdict| wanted(verdict)).count() / 100
        };
        assert_eq!(share(|v| *v == Verdict::FailBefore).abs_diff(20) / 2, 0);
        assert_eq!(share(|v| matches!(v, Verdict::Tear(_))).abs_diff(20) / 2, 0);
        assert_eq!(share(|v| *v == Verdict::FailAfter).abs_diff(30) / 2, 0);
        assert_eq!(judge(&faults, "create", "x", 9), judge(&faults, "create", "x", 9));
    }
}
