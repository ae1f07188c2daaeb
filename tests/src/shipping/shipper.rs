//! The process that ships, started and killed as often as a schedule likes.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::servers::process::Process;

/// Makes a shipper's command: none, or where it is to kill itself as `PLACE:TIMES`.
pub type MakeCommand = fn(folder: &Path, die_at: Option<&str>) -> Command;

/// A shipper that may be running.
#[derive(Debug)]
pub struct Shipper {
    /// Where its configuration, state and log are.
    folder: PathBuf,
    make: MakeCommand,
    process: Option<Process>,
    /// How often it was started.
    pub starts: u64,
}

impl Shipper {
    /// One that is not running yet. `folder` holds what its command refers to.
    pub fn new(folder: &Path, make: MakeCommand) -> Self {
        Self { folder: folder.to_owned(), make, process: None, starts: 0 }
    }

    /// Starts it unless it is running.
    pub fn start(&mut self, die_at: Option<&str>) -> Result<()> {
        if self.is_running()? {
            return Ok(());
        }
        let mut command = (self.make)(&self.folder, die_at);
        self.process = Some(Process::start(&mut command, &self.folder.join("shipper.out"))?);
        self.starts += 1;
        Ok(())
    }

    /// Kills it by SIGKILL if it is running, and waits for its end.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Whether it is running: it may have been told to die.
    pub fn is_running(&mut self) -> Result<bool> {
        let Some(process) = &mut self.process else { return Ok(false) };
        if process.ended()?.is_none() {
            return Ok(true);
        }
        self.process = None;
        Ok(false)
    }

    /// What it printed, all starts together.
    pub fn output(&self) -> String {
        std::fs::read_to_string(self.folder.join("shipper.out")).unwrap_or_default()
    }
}
