//! Places where a test has the program killed, as by `kill -9`. Nothing of it is in a release.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

use rustix::process::{Signal, getpid, kill_process};

/// Where and at which time of passing there the program is to die; nowhere by default.
#[derive(Clone, Debug, Default)]
pub struct Fault {
    at: Option<Arc<(String, AtomicU32)>>,
}

impl Fault {
    /// Parses `place:times`.
    pub fn parse(text: &str) -> Option<Self> {
        let (place, times) = text.split_once(':')?;
        Some(Self { at: Some(Arc::new((place.to_owned(), AtomicU32::new(times.parse().ok()?)))) })
    }

    /// A place.
    pub fn pass(&self, place: &str) {
        if !cfg!(debug_assertions) {
            return;
        }
        let Some(at) = self.at.as_ref().filter(|at| at.0 == place) else { return };
        if at.1.fetch_sub(1, SeqCst) == 1 {
            let _ = kill_process(getpid(), Signal::KILL);
        }
    }
}
