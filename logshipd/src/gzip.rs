//! gzip of request bodies, whole at a time, by libdeflate.

use libdeflater::{CompressionLvl, Compressor};

/// The fastest level that still compresses.
const LEVEL: i32 = 1;

/// A compressor and its buffer, used again and again.
pub struct Gzip {
    compressor: Compressor,
    buffer: Vec<u8>,
}

impl std::fmt::Debug for Gzip {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gzip").finish_non_exhaustive()
    }
}

impl Default for Gzip {
    fn default() -> Self {
        let level = CompressionLvl::new(LEVEL).expect("levels are from 0 to 12");
        Self { compressor: Compressor::new(level), buffer: Vec::new() }
    }
}

impl Gzip {
    /// Compresses a body.
    pub fn pack(&mut self, body: &[u8]) -> &[u8] {
        self.buffer.resize(self.compressor.gzip_compress_bound(body.len()), 0);
        let packed = self.compressor.gzip_compress(body, &mut self.buffer);
        let length = packed.expect("the buffer is as large as the library asked for");
        &self.buffer[..length]
    }

    /// Gives its memory back.
    pub fn rest(&mut self) {
        self.buffer = Vec::new();
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn what_is_packed_is_unpacked_by_another_library() {
        let mut gzip = Gzip::default();
        for body in [&b""[..], b"x", &b"line of a log\n".repeat(100_000)] {
            let mut read = Vec::new();
            flate2::read::GzDecoder::new(gzip.pack(body)).read_to_end(&mut read).unwrap();
            assert_eq!(read, body);
        }
    }
}
