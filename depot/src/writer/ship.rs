//! Sealers encrypt full packs; shippers put them into one depot each. A sealed pack lives until the
//! last depot has it.

use std::io::Write;
use std::sync::Arc;

use anyhow::{Context, Result};
use crossbeam_channel::{Receiver, Sender};

use super::shared::{FullPack, Shared, lock};
use crate::crypt::Recipients;
use crate::manifest::PackLine;
use crate::names::Sha256;
use crate::store::{ALIGNMENT, Body};

/// An encrypted pack on its way. Its buffer goes back when nobody holds it any more.
pub struct Sealed {
    line: PackLine,
    /// The pack, from `start` on, where a store can write it directly.
    buffer: Vec<u8>,
    start: usize,
    free: Sender<Vec<u8>>,
}

impl Drop for Sealed {
    fn drop(&mut self) {
        // There is room: it was taken out before.
        let _ = self.free.try_send(std::mem::take(&mut self.buffer));
    }
}

/// What a sealer is connected to.
pub struct Sealer {
    pub shared: Arc<Shared>,
    pub recipients: Recipients,
    pub input: Receiver<FullPack>,
    pub targets: Vec<Sender<Arc<Sealed>>>,
    /// The buffers for sealed packs: as many as may be on their way. Used again, because new memory
    /// costs more than what is written to it.
    pub buffers: (Sender<Vec<u8>>, Receiver<Vec<u8>>),
}

impl Sealer {
    /// Seals packs until there are no more.
    pub fn seal_all(&self) -> Result<()> {
        for pack in &self.input {
            if self.shared.has_failed() || self.shared.stop.is_stopped() {
                continue; // Drained, so that the collector does not wait for ever.
            }
            let buffer = self.buffers.1.recv().context("wait for a sealed pack to be shipped")?;
            let sealed = Arc::new(self.seal(&pack, buffer)?);
            self.shared.seal_pack(pack.number, sealed.line);
            self.shared.give_back(pack.payload);
            for target in &self.targets {
                target.send(sealed.clone()).ok().context("hand over pack: a shipper has ended")?;
            }
        }
        Ok(())
    }

    fn seal(&self, pack: &FullPack, mut buffer: Vec<u8>) -> Result<Sealed> {
        buffer.clear();
        buffer.reserve(pack.payload.len() + pack.payload.len() / 2048 + 4096 + ALIGNMENT);
        let start = buffer.as_ptr().align_offset(ALIGNMENT);
        buffer.resize(start, 0);
        let mut writer = self.recipients.encrypt(buffer)?;
        writer.write_all(&pack.payload).context("encrypt pack")?;
        let buffer = writer.finish().context("encrypt pack")?;
        let bytes = &buffer[start..];
        let line = PackLine { pack: Sha256::of(bytes), size: bytes.len() as u64 };
        Ok(Sealed { line, buffer, start, free: self.buffers.0.clone() })
    }
}

/// Puts packs into one depot until there are no more, or it fails; then the rest is let go.
pub fn ship(shared: &Shared, index: usize, input: &Receiver<Arc<Sealed>>) {
    let target = &shared.targets[index];
    for sealed in input {
        if !target.is_well() || shared.has_failed() || shared.stop.is_stopped() {
            continue;
        }
        let Sealed { line, buffer, start, .. } = &*sealed;
        let put = target.depot.put(
            &line.pack.pack_object(),
            Body::Bytes(&buffer[*start..]),
            line.size,
            line.pack,
        );
        match put {
            Ok(()) => {
                lock(&target.packs).insert(line.pack, line.size);
            }
            Err(error) => target.fail(&error),
        }
    }
}
