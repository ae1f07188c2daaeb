//! What a restore to a point leaves in its target until it is done: what was asked for, what it was
//! found to mean, and how far it is. So the same command goes on to the same cut, even if its words
//! mean something else by now (`10 minutes ago`, the latest).

use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context, Result};
use chassis::durable;
use depot::log::Timeline;
use depot::names::SnapshotId;
use serde::{Deserialize, Serialize};

use crate::point::cut::Cut;
use crate::target::REPLAY;

const FILE: &str = "state.json";
const BYTES_MAX: u64 = 16 << 20;

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// The backup is being restored and prepared.
    Restoring,
    /// The log is being replayed.
    Replaying,
}

/// What is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct State {
    /// The point as it was typed.
    pub request: Vec<String>,
    /// The backup.
    pub snapshot: SnapshotId,
    /// The history.
    pub timeline: Timeline,
    /// The point in words.
    pub point: String,
    /// The cut.
    pub cut: Cut,
    /// How far it is.
    pub stage: Stage,
    /// Which start of this host it was.
    pub boot: String,
}

impl State {
    /// Whether it is of the same restore.
    pub fn is_of(&self, other: &Self) -> bool {
        let of =
            |state: &Self| (state.snapshot.clone(), state.timeline.clone(), state.cut.upto.clone());
        of(self) == of(other)
    }
}

/// Reads what an earlier run left in a target.
pub fn read(target: &Path) -> Result<Option<State>> {
    let path = target.join(REPLAY).join(FILE);
    match std::fs::metadata(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).context("look at the state of a replay"),
        Ok(found) if found.len() > BYTES_MAX => return Ok(None),
        Ok(_) => {}
    }
    let text = std::fs::read(&path).context("read the state of a replay")?;
    // One of another version says nothing: the restore begins again.
    Ok(serde_json::from_slice(&text).ok())
}

/// Writes it.
pub fn write(target: &Path, state: &State) -> Result<()> {
    let text = serde_json::to_vec_pretty(state).context("write the state of a replay")?;
    let path = target.join(REPLAY).join(FILE);
    durable::write_replace(&path, &text, 0o600).context("write the state of a replay")
}

/// Forgets that the backup was prepared, so that it is restored again.
pub fn forget(target: &Path) -> Result<()> {
    let Some(state) = read(target)? else { return Ok(()) };
    write(target, &State { stage: Stage::Restoring, ..state })
}

/// Whether a server was started in a directory.
pub fn was_started(home: &Path) -> bool {
    home.join("log").exists()
}

/// Which start of this host it is.
pub fn boot() -> String {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    text.trim().to_owned()
}
