//! A file system in memory that can be filled to the last byte. Needs root and the right to mount.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use rustix::fs::{FallocateFlags, fallocate, statvfs};

use crate::servers::process::run;

const BALLAST: &str = ".ballast";

/// A mounted file system; gone, with all that is on it, when dropped.
#[derive(Debug)]
pub struct SmallDisk {
    path: PathBuf,
}

impl SmallDisk {
    /// Mounts an empty one on a directory, for its owner only.
    pub fn mount(path: &Path, megabytes: u32) -> Result<Self> {
        let mut command = Command::new("mount");
        let options = format!("size={megabytes}m,mode=0700");
        command.args(["-t", "tmpfs", "-o", &options, "holdfast-tests"]).arg(path);
        run(&mut command, "").context("mount a file system in memory")?;
        Ok(Self { path: path.to_owned() })
    }

    /// Leaves at most so many bytes free, rounded down to pages.
    pub fn fill(&self, free_bytes: u64) -> Result<()> {
        let stat = statvfs(&self.path)?;
        let length = (stat.f_bavail * stat.f_frsize).saturating_sub(free_bytes);
        let file = File::create(self.path.join(BALLAST))?;
        if length > 0 {
            fallocate(&file, FallocateFlags::empty(), 0, length).context("fill the disk")?;
        }
        Ok(())
    }

    /// Takes the ballast away.
    pub fn relieve(&self) -> Result<()> {
        fs::remove_file(self.path.join(BALLAST)).context("relieve the disk")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: whoever still has a file open there keeps it until it is closed.
        let mut command = Command::new("umount");
        drop(run(command.arg("--lazy").arg(&self.path), ""));
    }
}
