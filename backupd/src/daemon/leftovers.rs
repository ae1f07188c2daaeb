//! What an earlier life left behind, removed at the start: temporary files of ours that nobody holds.
//!
//! Nothing depends on it, so it is done beside everything else, and what cannot be removed is only logged.

use std::path::Path;

use chassis::durable::remove_leftovers;
use chassis::shutdown::Shutdown;
use depot::store::Store;

use crate::config::Config;
use crate::state::JobState;

/// Starts the removal.
pub(super) fn remove(config: &Config, shutdown: &Shutdown) {
    let jobs: Vec<_> =
        config.jobs.keys().map(|name| (name.clone(), config.job_dir(name))).collect();
    let state_dir = config.state_dir.clone();
    let directories: Vec<_> =
        config.depots.values().filter(|store| store.directory.is_some()).cloned().collect();
    let stop = shutdown.stop();
    shutdown.tracker.spawn_blocking(move || {
        sweep(&state_dir);
        for (name, dir) in jobs {
            // Another process may have the job: then nothing there is a leftover.
            let state = JobState::at(&dir);
            let Ok(_lock) = state.lock(&name) else { continue };
            sweep(&dir);
            let tool_dir = dir.join("tool");
            if tool_dir.exists() {
                note(&tool_dir, std::fs::remove_dir_all(&tool_dir));
            }
        }
        for store in directories {
            let Ok(store) = Store::open(&store) else { continue };
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
    });
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
