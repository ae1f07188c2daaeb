//! Reading a file at any position: a plain one, or what is in a compressed one.
//!
//! A compressed file is read from its beginning to the position and on from there. It may still be growing
//! while it is compressed: an end that comes too early is no error, there is just nothing yet.

use std::fs::{File, Metadata};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use flate2::read::MultiGzDecoder;

/// How far back of a compressed file's position one may read again.
const BEHIND_BYTES: usize = 4 << 10;
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// Frames with a larger window are refused: 8 MiB.
const WINDOW_LOG_MAX: u32 = 23;
/// What is decompressed at a time to pass over it.
const SKIP_BYTES: usize = 64 << 10;

/// An open file.
#[derive(Debug)]
pub enum Input {
    /// As it is.
    Plain(File),
    /// Compressed.
    Packed(Box<Packed>),
}

impl Input {
    /// Opens a file, which must be a regular one; what it begins with tells how it is to be read.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::options()
            .read(true)
            .custom_flags(rustix::fs::OFlags::NONBLOCK.bits() as i32)
            .open(path)?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::new(ErrorKind::InvalidInput, "it is not a regular file"));
        }
        let mut magic = [0; 4];
        let length = file.read_at(&mut magic, 0)?;
        let is_gzip = length >= 2 && magic[..2] == GZIP_MAGIC;
        let is_zstd = length == 4 && magic == ZSTD_MAGIC;
        if is_gzip || is_zstd || crate::paths::is_packed(path) {
            return Ok(Self::Packed(Box::new(Packed::new(file))));
        }
        Ok(Self::Plain(file))
    }

    /// What the system says of it now, also when it has no name any more.
    pub fn metadata(&self) -> io::Result<Metadata> {
        match self {
            Self::Plain(file) => file.metadata(),
            Self::Packed(packed) => packed.file.metadata(),
        }
    }

    /// Whether it is compressed.
    pub fn is_packed(&self) -> bool {
        matches!(self, Self::Packed(_))
    }

    /// Fills the buffer from a position on as far as there is something; returns how far.
    pub fn read_at(&mut self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        match self {
            Self::Plain(file) => read_full_at(file, buffer, offset),
            Self::Packed(packed) => packed.read_at(buffer, offset),
        }
    }

    /// Whether everything that there will be has been read up to a position. Of a plain file nobody knows.
    pub fn is_complete_at(&self, offset: u64) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Packed(packed) => packed.ended_at.is_some_and(|end| end <= offset),
        }
    }
}

fn read_full_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// A compressed file.
pub struct Packed {
    file: File,
    decoder: Option<Box<dyn Read + Send>>,
    /// What was decompressed last; it begins at `start`.
    kept: Vec<u8>,
    start: u64,
    ended_at: Option<u64>,
    /// Size of the file when it was found to end too early.
    stuck_at: Option<u64>,
}

impl std::fmt::Debug for Packed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Packed")
            .field("file", &self.file)
            .field("start", &self.start)
            .finish_non_exhaustive()
    }
}

impl Packed {
    fn new(file: File) -> Self {
        Self { file, decoder: None, kept: Vec::new(), start: 0, ended_at: None, stuck_at: None }
    }

    fn restart(&mut self) -> io::Result<()> {
        let mut magic = [0; 4];
        let length = read_full_at(&self.file, &mut magic, 0)?;
        let from_start = Positioned { file: self.file.try_clone()?, at: 0 };
        self.decoder = if length >= 2 && magic[..2] == GZIP_MAGIC {
            Some(Box::new(MultiGzDecoder::new(from_start)))
        } else if magic == ZSTD_MAGIC {
            let mut decoder = zstd::stream::read::Decoder::new(from_start)?;
            decoder.window_log_max(WINDOW_LOG_MAX)?;
            Some(Box::new(decoder))
        } else {
            None
        };
        (self.start, self.ended_at) = (0, None);
        self.kept.clear();
        Ok(())
    }

    fn read_at(&mut self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        if self.stuck_at.is_some_and(|size| self.file.metadata().is_ok_and(|now| now.len() == size))
        {
            return Ok(0);
        }
        if self.decoder.is_none() || offset < self.start {
            self.restart()?;
        }
        self.stuck_at = None;
        while self.start + (self.kept.len() as u64) < offset {
            let missing = offset - self.start - self.kept.len() as u64;
            let step = (missing as usize).min(SKIP_BYTES);
            self.forget_before(offset.saturating_sub(BEHIND_BYTES as u64));
            if self.pull(step)? == 0 {
                return Ok(0);
            }
        }
        self.forget_before(offset.saturating_sub(BEHIND_BYTES as u64));
        let at = (offset - self.start) as usize;
        while self.kept.len() < at + buffer.len() {
            if self.pull(at + buffer.len() - self.kept.len())? == 0 {
                break;
            }
        }
        let count = (self.kept.len() - at).min(buffer.len());
        buffer[..count].copy_from_slice(&self.kept[at..at + count]);
        Ok(count)
    }

    fn forget_before(&mut self, offset: u64) {
        let count = (offset.saturating_sub(self.start) as usize).min(self.kept.len());
        if count > 0 {
            self.kept.drain(..count);
            self.start += count as u64;
        }
    }

    /// Decompresses up to so many bytes more.
    fn pull(&mut self, count: usize) -> io::Result<usize> {
        let Some(decoder) = &mut self.decoder else { return Ok(0) };
        let length = self.kept.len();
        self.kept.resize(length + count, 0);
        let outcome = decoder.read(&mut self.kept[length..]);
        self.kept.truncate(length + *outcome.as_ref().unwrap_or(&0));
        match outcome {
            Ok(0) => {
                self.ended_at = Some(self.start + self.kept.len() as u64);
                Ok(0)
            }
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                // It is still being written: begin again when there is more.
                self.stuck_at = self.file.metadata().ok().map(|metadata| metadata.len());
                self.decoder = None;
                Ok(0)
            }
            outcome => outcome,
        }
    }
}

/// A reader with a position of its own: the file is shared.
struct Positioned {
    file: File,
    at: u64,
}

impl Read for Positioned {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(buffer, self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn text() -> Vec<u8> {
        (0..20_000u32).flat_map(|n| format!("line {n}\n").into_bytes()).collect()
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn check_reads(path: &Path, text: &[u8]) {
        let mut input = Input::open(path).unwrap();
        assert!(input.is_packed());
        for (offset, length) in [(0, 100), (50, 9000), (100_000, 10), (99_990, 500), (7, 3)] {
            let mut buffer = vec![0; length];
            assert_eq!(input.read_at(&mut buffer, offset as u64).unwrap(), length);
            assert_eq!(buffer, text[offset..offset + length], "at {offset}");
        }
        let mut buffer = vec![0; 100];
        assert_eq!(input.read_at(&mut buffer, text.len() as u64 - 5).unwrap(), 5);
        assert!(input.is_complete_at(text.len() as u64) && !input.is_complete_at(5));
    }

    #[test]
    fn compressed_files_are_read_at_any_position() {
        let dir = tempfile::tempdir().unwrap();
        let (text, path) = (text(), dir.path().join("x.gz"));
        fs::write(&path, gzip(&text)).unwrap();
        check_reads(&path, &text);
        let mut parts = gzip(&text[..50_000]);
        parts.extend(gzip(&text[50_000..]));
        fs::write(&path, parts).unwrap();
        check_reads(&path, &text);
        let path = dir.path().join("x.zst");
        fs::write(&path, zstd::encode_all(&text[..], 3).unwrap()).unwrap();
        check_reads(&path, &text);
    }

    #[test]
    fn a_compressed_file_that_is_not_finished_is_read_when_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let (text, path) = (text(), dir.path().join("x.gz"));
        let packed = gzip(&text);
        let mut file = File::create(&path).unwrap();
        let mut input = Input::open(&path).unwrap();
        let mut buffer = vec![0; text.len()];
        for piece in packed.chunks(packed.len() / 4 + 1) {
            let read = input.read_at(&mut buffer, 0).unwrap();
            assert!(read < text.len() && !input.is_complete_at(text.len() as u64));
            assert_eq!(buffer[..read], text[..read]);
            file.write_all(piece).unwrap();
        }
        assert_eq!(input.read_at(&mut buffer, 0).unwrap(), text.len());
        assert_eq!(buffer, text);
    }
}
