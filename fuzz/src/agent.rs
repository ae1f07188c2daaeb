//! What the daemon reads on its own host: its configuration and what it remembers.

use std::fs;

use backupd::config::Config;
use backupd::source::files::patterns::{self, Patterns};
use backupd::state::JobState;
use chassis::failure::{Exit, exit_of};
use restore::select::Selection;

use crate::memory::{BASE, within};

/// The configuration of `backupd`, which `restore` reads too.
pub fn config(data: &[u8]) {
    let dir = tempfile::tempdir().expect("make a directory");
    let path = dir.path().join("backupd.toml");
    fs::write(&path, data).expect("write a file");
    match within(64 * data.len() + BASE, || Config::load(&path)) {
        Ok(config) => check_config(&config),
        Err(error) => {
            assert_eq!(exit_of(&error), Exit::Usage, "{error:#}");
            assert!(format!("{error:#}").contains("backupd.toml"), "{error:#}");
        }
    }
    if let Err(error) = restore::config::Config::load(&path, true) {
        assert_eq!(exit_of(&error), Exit::Usage, "{error:#}");
    }
}

/// What the rest of the program relies on.
fn check_config(config: &Config) {
    for (name, job) in &config.jobs {
        let _ = (job.source(), config.job_dir(name));
        assert!(!config.depots_of(job).is_empty());
        assert!(config.depots_of(job).iter().all(|depot| config.depots.contains_key(depot)));
        if let Some(schedule) = &job.schedule {
            let _ = schedule.in_zone(job.time_zone);
        }
        let longest = [job.deadline, job.hook_timeout, job.jitter].into_iter().max();
        assert!(longest.is_some_and(|span| span.0.as_secs() <= 48 * 3600), "{longest:?}");
    }
    assert!(config.jobs.is_empty() || config.recipients().is_ok());
}

/// The files of a job's state, of the same content.
pub fn state(data: &[u8]) {
    let dir = tempfile::tempdir().expect("make a directory");
    for name in ["last-run.json", "chain.json"] {
        fs::write(dir.path().join(name), data).expect("write a file");
    }
    let state = JobState::at(dir.path());
    let history = within(64 * data.len() + BASE, || state.history());
    let json = serde_json::to_vec(&history).expect("plain data is JSON");
    fs::write(dir.path().join("last-run.json"), json).expect("write a file");
    assert_eq!(state.history(), history);
    if let Some(chain) = state.chain() {
        state.set_chain(Some(&chain)).expect("write the chain");
        assert_eq!(state.chain(), Some(chain));
    }
    if let Some(last) = &history.last {
        let _ = last.duration();
    }
}

/// Patterns of what to back up and what to restore, then paths, on lines.
pub fn patterns(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let mut lines = text.split('\n');
    let pattern = lines.next().unwrap_or_default().to_owned();
    let is_good = patterns::check(&pattern).is_ok();
    let compiled = Patterns::new(std::slice::from_ref(&pattern), &[]);
    assert_eq!(compiled.is_ok(), is_good, "{pattern:?}");
    let selection = Selection::of(&[pattern.into_bytes()]);
    for path in lines.take(16) {
        if let Ok(patterns) = &compiled {
            let _ = patterns.judge(path.as_bytes(), true, false);
        }
        if let Ok(selection) = &selection {
            let _ = selection.wants(path.as_bytes());
        }
    }
}
