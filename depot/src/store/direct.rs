//! Writing past the page cache, where the file system can do that: a backup that was just written is
//! not read again soon, so a copy of it there costs time and drives out what the database reads.
//!
//! Only what lies at a multiple of [`ALIGNMENT`] in memory is written so; all else as usual.

use std::fs::File;
use std::io::{self, Write};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

/// What memory and offset must be multiples of, in bytes; enough for disks of today.
pub const ALIGNMENT: usize = 4096;

/// Writes a new file from its beginning.
#[derive(Debug)]
pub(super) struct DirectWriter<'f> {
    file: &'f File,
    is_direct: bool,
}

impl<'f> DirectWriter<'f> {
    /// Nothing is written yet.
    pub(super) fn new(file: &'f File) -> Self {
        let is_direct = set_direct(file, true).is_ok();
        Self { file, is_direct }
    }

    /// Writes the next piece. After the first one that does not fit, or that the file system refuses
    /// to write directly, all go through the page cache.
    pub(super) fn write_all(&mut self, mut piece: &[u8]) -> io::Result<()> {
        while self.is_direct && !piece.is_empty() {
            let whole = piece.len() - piece.len() % ALIGNMENT;
            if whole == 0 || piece.as_ptr().align_offset(ALIGNMENT) != 0 {
                self.leave_direct()?;
                break;
            }
            match self.file.write(&piece[..whole]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => piece = &piece[written..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => self.leave_direct()?,
                Err(error) => return Err(error),
            }
        }
        self.file.write_all(piece)
    }

    fn leave_direct(&mut self) -> io::Result<()> {
        self.is_direct = false;
        set_direct(self.file, false)
    }
}

fn set_direct(file: &File, wanted: bool) -> io::Result<()> {
    let mut flags = fcntl_getfl(file)?;
    flags.set(OFlags::DIRECT, wanted);
    Ok(fcntl_setfl(file, flags)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes pieces that begin at an offset from alignment; what is in the file then.
    fn written(
        dir: &std::path::Path,
        misaligned_by: usize,
        lengths: &[usize],
    ) -> (Vec<u8>, Vec<u8>) {
        let total: usize = lengths.iter().sum();
        let mut memory = vec![0; total + 2 * ALIGNMENT];
        let start = memory.as_ptr().align_offset(ALIGNMENT) + misaligned_by;
        for (number, byte) in memory.iter_mut().enumerate() {
            *byte = (number * 31 % 251) as u8;
        }
        let content = &memory[start..start + total];
        let path = dir.join("file");
        let file = File::create(&path).unwrap();
        let mut writer = DirectWriter::new(&file);
        let mut rest = content;
        for length in lengths {
            let (piece, behind) = rest.split_at(*length);
            writer.write_all(piece).unwrap();
            rest = behind;
        }
        drop(file);
        (std::fs::read(&path).unwrap(), content.to_vec())
    }

    #[test]
    fn every_alignment_writes_the_same_bytes() {
        // A directory on a disk and one that may be in memory, where there is no direct writing.
        for dir in [tempfile::tempdir_in(".").unwrap(), tempfile::tempdir().unwrap()] {
            let odd = ALIGNMENT + 17;
            for lengths in [&[1 << 20, 1 << 20, 5][..], &[odd, 1 << 16], &[3], &[ALIGNMENT], &[]] {
                for misaligned_by in [0, 1, 512] {
                    let (found, wanted) = written(dir.path(), misaligned_by, lengths);
                    assert!(found == wanted, "{lengths:?} at {misaligned_by}");
                }
            }
        }
    }
}
