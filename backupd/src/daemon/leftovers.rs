//! What an earlier life left behind, removed at the start: temporary files of ours that nobody
//! holds.
//!
//! Nothing depends on it: what cannot be removed is only logged. Our own directories are done
//! before any run may start, since that takes the jobs' locks; depots in directories of this host
//! beside everything else.

use std::path::Path;

use chassis::durable::remove_leftovers;
use chassis::retry::Stop;
use chassis::shutdown::Shutdown;
use depot::store::{Store, StoreConfig};

use crate::config::Config;
use crate::state::JobState;

/// Removes what is in the state directory, and starts removing what is in depots.
pub(super) fn remove(config: &Config, shutdown: &Shutdown) {
    sweep(&config.state_dir);
    for name in config.jobs.keys() {
        let dir = config.job_dir(name);
        // Another process may have the job: then nothing there is a leftover.
        let Ok(_lock) = JobState::at(&dir).lock(name) else { continue };
        sweep(&dir);
        let tool_dir = dir.join("tool");
        if tool_dir.exists() {
            note(&tool_dir, std::fs::remove_dir_all(&tool_dir));
        }
    }
    let is_directory = |store: &&StoreConfig| store.directory.is_some();
    let stores: Vec<_> = config.depots.values().filter(is_directory).cloned().collect();
    let stop = shutdown.stop();
    shutdown.tracker.spawn_blocking(move || sweep_depots(&stores, &stop));
}

fn sweep_depots(stores: &[StoreConfig], stop: &Stop) {
    for store in stores {
        let Ok(store) = Store::open(store) else { continue };
        let packs = (0..=255).map(|number| format!("pack/{number:02x}"));
        for folder in packs.chain(["snapshot".to_owned()]) {
            if stop.is_stopped() {
                return;
            }
            if let Err(error) = store.remove_leftovers(&folder) {
                tracing::debug!("leftovers stay in {folder}: {error:#}");
            }
        }
    }
}

fn sweep(dir: &Path) {
    match remove_leftovers(dir) {
        Ok(0) => {}
        Ok(count) => tracing::info!("removed {count} leftovers in {}", dir.display()),
        Err(error) => tracing::debug!("leftovers stay: {error:#}"),
    }
}

fn note(path: &Path, removed: std::io::Result<()>) {
    match removed {
        Ok(()) => tracing::info!("removed leftover {}", path.display()),
        Err(error) => tracing::warn!("failed to remove {}: {error}", path.display()),
    }
}
