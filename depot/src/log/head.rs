//! The head of a piece: one line of JSON in a skippable frame of zstd, before the log itself.

use std::io::Read;

use anyhow::{Context, Result, bail, ensure};
use gtid::{Gtid, GtidSet};
use serde::{Deserialize, Serialize};

use super::{Kind, Timeline};
use crate::names::{HostName, Sha256};

/// Frames of this kind are passed over by every reader of zstd.
const SKIPPABLE: [u8; 4] = [0x50, 0x2a, 0x4d, 0x18];
/// A head is never longer, in bytes: sets of a great many intervals are not archived.
const HEAD_BYTES_MAX: usize = 4 << 20;

/// What a piece of the log says about itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The version of the format.
    #[serde(rename = "holdfast-log")]
    pub version: u32,
    /// The history that it is of.
    pub timeline: Timeline,
    /// The host whose agent wrote it.
    pub source: HostName,
    /// Tail or segment.
    pub kind: Kind,
    /// `mariadb` or `mysql`.
    pub flavour: String,
    /// The server's version, as it says it.
    pub server: String,
    /// The server's id in replication.
    pub server_id: u32,
    /// All that was there before: a position of MariaDB or a set of MySQL.
    pub after: String,
    /// All that is there with it.
    pub upto: String,
    /// The transactions in it.
    pub set: GtidSet,
    /// The first of them, in the order of commits.
    pub first: Gtid,
    /// The last of them.
    pub last: Gtid,
    /// The least and the greatest commit time, in microseconds since 1970.
    pub committed: (u64, u64),
    /// How many transactions there are.
    pub transactions: u64,
    /// The length of the binlog file.
    pub bytes: u64,
    /// SHA-256 of the object that the source wrote before.
    pub before: Option<Sha256>,
}

impl Head {
    /// The version that is written.
    pub const VERSION: u32 = 1;

    /// The frame that holds it.
    pub fn to_frame(&self) -> Result<Vec<u8>> {
        let mut line = serde_json::to_vec(self).context("encode head of log")?;
        line.push(b'\n');
        ensure!(line.len() <= HEAD_BYTES_MAX, "the head of a piece of log is too long");
        let mut frame = SKIPPABLE.to_vec();
        frame.extend_from_slice(&(line.len() as u32).to_le_bytes());
        frame.append(&mut line);
        Ok(frame)
    }

    /// Reads the frame from the front of a payload; what follows is the log.
    pub fn read_frame(payload: &mut impl Read) -> Result<Self> {
        let mut front = [0; 8];
        payload.read_exact(&mut front).context("read head of log")?;
        let length = u32::from_le_bytes([front[4], front[5], front[6], front[7]]) as usize;
        if front[..4] != SKIPPABLE || length > HEAD_BYTES_MAX {
            bail!("this is no piece of log: it has no head");
        }
        let mut line = Vec::new();
        let read = payload.take(length as u64).read_to_end(&mut line);
        let is_whole = read.context("read head of log")? == length;
        ensure!(is_whole, "the head of a piece of log is cut short");
        let head: Self = serde_json::from_slice(&line).context("read head of log")?;
        ensure!(head.version == Self::VERSION, "version {} of the log is unknown", head.version);
        Ok(head)
    }
}
