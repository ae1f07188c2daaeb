//! The one kind of file that the tool does not write from front to back: when an Aria log is full,
//! it goes back and overwrites a few bytes near its start, right before the end.
//!
//! Such a file is spooled to an unnamed one, which vanishes with the process. Aria logs are small
//! unless much is written to Aria tables, and never larger than `aria_log_file_size` (1 GiB).

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use rustix::fs::{Mode, OFlags};

/// More than any server makes.
const SPOOL_BYTES_MAX: u64 = 4 << 30;
const PIECE_BYTES: usize = 1 << 20;

/// Whether the tool may go back in this file.
pub(super) fn is_rewound(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    name.starts_with("aria_log.")
}

/// A file on its way, in any order.
#[derive(Debug)]
pub(super) struct Spool {
    file: File,
    length: u64,
}

impl Spool {
    /// An empty one on the file system of `dir`.
    pub(super) fn create(dir: &Path) -> Result<Self> {
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let file = rustix::fs::open(dir, flags, Mode::RUSR | Mode::WUSR)
            .with_context(|| format!("make a temporary file in {}", dir.display()))?;
        Ok(Self { file: file.into(), length: 0 })
    }

    /// Writes where it belongs; what was there is replaced. It leaves no gap.
    pub(super) fn write_at(&mut self, offset: u64, data: &[u8]) -> Result<()> {
        let end = offset.saturating_add(data.len() as u64);
        ensure!(offset <= self.length && end <= SPOOL_BYTES_MAX, "it is not where the file ends");
        self.file.write_all_at(data, offset).context("write temporary file")?;
        self.length = self.length.max(end);
        Ok(())
    }

    /// Hands out all of it, from front to back.
    pub(super) fn drain(&mut self, mut each: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let mut buffer = vec![0; PIECE_BYTES];
        loop {
            // Positioned writes have left it at its start.
            match self.file.read(&mut buffer).context("read temporary file")? {
                0 => return Ok(()),
                length => each(&buffer[..length])?,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_overwritten_comes_out_as_it_was_written_last() {
        let dir = tempfile::tempdir().unwrap();
        let mut spool = Spool::create(dir.path()).unwrap();
        spool.write_at(0, &[1; 100]).unwrap();
        spool.write_at(100, &[2; 20]).unwrap();
        spool.write_at(37, &[9; 7]).unwrap();
        assert!(spool.write_at(121, &[1]).is_err(), "a gap is refused");
        let mut content = Vec::new();
        spool
            .drain(|data| {
                content.extend_from_slice(data);
                Ok(())
            })
            .unwrap();
        let expected = [vec![1; 37], vec![9; 7], vec![1; 56], vec![2; 20]].concat();
        assert_eq!(content, expected);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn only_aria_logs_are_spooled() {
        assert!(is_rewound(Path::new("aria_log.00000001")));
        assert!(!is_rewound(Path::new("aria_log_control")));
        assert!(!is_rewound(Path::new("aria_log.d/t.ibd")));
    }
}
