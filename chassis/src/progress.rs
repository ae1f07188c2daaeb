//! How far a piece of work has come: counted by the workers, looked at by whoever shows it.
//!
//! [`Progress`] is a handful of atomics, cheap to count with from many threads. A [`Snapshot`] is
//! what is sent to another process. A [`Bar`] draws snapshots on standard error if that is a
//! terminal, and is silent otherwise; it uses no colours.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use serde::{Deserialize, Serialize};

use crate::retry::Stop;

/// The bars of a program, drawn below each other. Shared with the log, which writes above them.
pub type Bars = MultiProgress;

/// How often a bar that follows a [`Progress`] looks at it.
const REDRAW_INTERVAL: Duration = Duration::from_millis(100);

/// Counters of a piece of work. Share it in an `Arc`.
#[derive(Debug)]
pub struct Progress {
    bytes_done: AtomicU64,
    /// Zero: not known.
    bytes_expected: AtomicU64,
    items_done: AtomicU64,
    phase: Mutex<String>,
    started: Instant,
}

impl Default for Progress {
    fn default() -> Self {
        Self {
            bytes_done: AtomicU64::new(0),
            bytes_expected: AtomicU64::new(0),
            items_done: AtomicU64::new(0),
            phase: Mutex::default(),
            started: Instant::now(),
        }
    }
}

impl Progress {
    /// Counts bytes done.
    pub fn add_bytes(&self, bytes: u64) {
        self.bytes_done.fetch_add(bytes, Relaxed);
    }

    /// Counts items (files, packs, blocks) done.
    pub fn add_items(&self, items: u64) {
        self.items_done.fetch_add(items, Relaxed);
    }

    /// Sets how many bytes there will be; zero if that is not known.
    pub fn expect_bytes(&self, bytes: u64) {
        self.bytes_expected.store(bytes, Relaxed);
    }

    /// Begins a new phase: its name is shown, and the counters start over.
    pub fn begin(&self, phase: impl Into<String>, bytes_expected: u64) {
        *self.phase.lock().unwrap_or_else(PoisonError::into_inner) = phase.into();
        self.bytes_done.store(0, Relaxed);
        self.items_done.store(0, Relaxed);
        self.bytes_expected.store(bytes_expected, Relaxed);
    }

    /// How far it is now. The numbers are read one by one: they may be a moment apart.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            phase: self.phase.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            bytes_done: self.bytes_done.load(Relaxed),
            bytes_expected: Some(self.bytes_expected.load(Relaxed)).filter(|bytes| *bytes > 0),
            items_done: self.items_done.load(Relaxed),
            elapsed_ms: self.started.elapsed().as_millis() as u64,
        }
    }
}

/// How far a piece of work had come at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Snapshot {
    /// What is being done, for people.
    pub phase: String,
    /// Bytes done in this phase.
    pub bytes_done: u64,
    /// Bytes that the phase will have; a growing source may exceed it.
    pub bytes_expected: Option<u64>,
    /// Items done in this phase.
    pub items_done: u64,
    /// Milliseconds since the work began, over all phases.
    pub elapsed_ms: u64,
}

/// A line on a terminal that shows how far something is, how fast, and how long it will take.
#[derive(Debug)]
pub struct Bar {
    bar: ProgressBar,
    phase: Mutex<String>,
}

impl Bar {
    /// A bar below the others. Not drawn if standard error is no terminal.
    pub fn start(bars: &Bars) -> Self {
        let bar = bars.add(ProgressBar::no_length().with_style(style(UNBOUNDED)));
        Self { bar, phase: Mutex::default() }
    }

    /// Shows a snapshot. Rate and time left start over with a new phase.
    pub fn show(&self, snapshot: &Snapshot) {
        let mut phase = self.phase.lock().unwrap_or_else(PoisonError::into_inner);
        if *phase != snapshot.phase {
            phase.clone_from(&snapshot.phase);
            self.bar.set_prefix(snapshot.phase.clone());
            self.bar.reset();
        }
        if self.bar.length() != snapshot.bytes_expected {
            match snapshot.bytes_expected {
                Some(bytes) => self.bar.set_length(bytes),
                None => self.bar.unset_length(),
            }
            let is_bounded = snapshot.bytes_expected.is_some();
            self.bar.set_style(style(if is_bounded { BOUNDED } else { UNBOUNDED }));
        }
        self.bar.set_message(match snapshot.items_done {
            0 => String::new(),
            items => format!(", {items} items"),
        });
        self.bar.set_position(snapshot.bytes_done);
    }

    /// Shows a progress of this process until the [`Follower`] is dropped.
    pub fn follow(self, progress: Arc<Progress>) -> Follower {
        let stop = Stop::new();
        let stopped = stop.clone();
        let thread = thread::spawn(move || {
            while !stopped.wait_timeout(REDRAW_INTERVAL) {
                self.show(&progress.snapshot());
            }
        });
        Follower { stop, thread: Some(thread) }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// Keeps a [`Bar`] drawn; the bar vanishes with it.
#[derive(Debug)]
pub struct Follower {
    stop: Stop,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.stop.stop();
        // A panic while drawing has been printed; it is no reason to end the work.
        drop(self.thread.take().map(JoinHandle::join));
    }
}

const BOUNDED: &str = "{prefix} [{bar:24}] {binary_bytes} of {binary_total_bytes}{msg}, \
                       {binary_bytes_per_sec}, {eta} left";
const UNBOUNDED: &str = "{prefix} {spinner} {binary_bytes}{msg}, {binary_bytes_per_sec}, {elapsed}";

fn style(template: &str) -> ProgressStyle {
    let style = ProgressStyle::with_template(template).expect("the templates above are valid");
    style.progress_chars("=> ").tick_chars("|/-\\ ")
}

#[cfg(test)]
mod tests {
    use indicatif::ProgressDrawTarget;

    use super::*;

    #[test]
    fn counters_of_all_threads_are_added() {
        let progress = Progress::default();
        progress.begin("store", 8_000);
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    (0..1000).for_each(|_| progress.add_bytes(1));
                    progress.add_items(1);
                });
            }
        });
        let snapshot = progress.snapshot();
        assert_eq!((snapshot.bytes_done, snapshot.items_done), (8_000, 8));
        assert_eq!(snapshot.bytes_expected, Some(8_000));
        assert_eq!(snapshot.phase, "store");
        progress.begin("check", 0);
        let snapshot = progress.snapshot();
        assert_eq!((snapshot.bytes_done, snapshot.bytes_expected), (0, None));
    }

    #[test]
    fn a_snapshot_survives_json() {
        let progress = Progress::default();
        progress.begin("store", 7);
        progress.add_bytes(3);
        let json = serde_json::to_string(&progress.snapshot()).unwrap();
        assert!(json.contains("\"bytes-done\":3,\"bytes-expected\":7"), "{json}");
        let read: Snapshot = serde_json::from_str(&json).unwrap();
        assert_eq!(read.bytes_expected, Some(7));
    }

    #[test]
    fn a_bar_takes_any_snapshots_and_ends_with_its_follower() {
        let bars = Bars::with_draw_target(ProgressDrawTarget::hidden());
        let bar = Bar::start(&bars);
        let mut snapshot = Snapshot { phase: "fetch".into(), bytes_done: 9, ..Default::default() };
        bar.show(&snapshot);
        assert_eq!(bar.bar.length(), None);
        snapshot.bytes_expected = Some(4);
        bar.show(&snapshot);
        assert_eq!((bar.bar.length(), bar.bar.position()), (Some(4), 9));
        snapshot.phase = "replay".into();
        bar.show(&Snapshot { bytes_done: 0, ..snapshot });
        assert_eq!(bar.bar.prefix(), "replay");
        assert_eq!(bar.bar.position(), 0);
        let follower = bar.follow(Arc::new(Progress::default()));
        drop(follower);
    }
}
