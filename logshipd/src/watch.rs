//! Wakes the reader when something happens to a log file. What happened is not looked at: the reader looks itself.
//!
//! This is inotify by hand. The `notify` crate wakes for every write to a file, some ten thousand times a second under
//! load; here the kernel merges events while the thread rests between two looks.

use std::collections::HashSet;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use chassis::retry::Stop;
use crossbeam_channel::Sender;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};

/// The rest between two looks.
const REST: Duration = Duration::from_millis(50);
/// How often the thread looks whether it is to end.
const PATIENCE: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };
const EVENTS_BYTES: usize = 16 << 10;

/// Something happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hint {
    /// A file was written to.
    Written,
    /// Names came, went or changed.
    Named,
}

/// The folders that are watched.
#[derive(Clone, Debug)]
pub struct Watch {
    inotify: Arc<OwnedFd>,
    folders: HashSet<PathBuf>,
}

impl Watch {
    /// Starts the thread. Without inotify there is none, and files are found by the clock alone.
    pub fn start(hints: Sender<Hint>, stop: Stop) -> Option<Self> {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK);
        let inotify =
            Arc::new(inotify.inspect_err(|error| tracing::warn!("no inotify: {error}")).ok()?);
        let watched = Arc::clone(&inotify);
        let thread = std::thread::Builder::new().name("watch".into()).stack_size(128 << 10);
        thread.spawn(move || serve(&watched, &hints, &stop)).ok()?;
        Some(Self { inotify, folders: HashSet::new() })
    }

    /// Watches a folder too.
    pub fn add(&mut self, folder: &Path) {
        if self.folders.contains(folder) {
            return;
        }
        let flags = WatchFlags::MODIFY | WatchFlags::CREATE | WatchFlags::MOVE | WatchFlags::DELETE;
        if inotify::add_watch(&*self.inotify, folder, flags | WatchFlags::ONLYDIR).is_ok() {
            self.folders.insert(folder.to_owned());
        }
    }
}

fn serve(inotify: &OwnedFd, hints: &Sender<Hint>, stop: &Stop) {
    let mut buffer = [MaybeUninit::<u8>::uninit(); EVENTS_BYTES];
    while !stop.is_stopped() {
        let mut polled = [PollFd::new(inotify, PollFlags::IN)];
        if !matches!(poll(&mut polled, Some(&PATIENCE)), Ok(1..)) {
            continue;
        }
        let mut reader = Reader::new(inotify, &mut buffer);
        let mut is_named = false;
        while let Ok(event) = reader.next() {
            is_named |= !event.events().contains(ReadFlags::MODIFY);
        }
        // A hint that waits already is enough; names are found by the clock if theirs is lost.
        let _ = hints.try_send(if is_named { Hint::Named } else { Hint::Written });
        std::thread::sleep(REST);
    }
}
