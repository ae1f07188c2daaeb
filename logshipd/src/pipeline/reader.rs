//! What the reader needs and owns, what it counts, and what it tells of a file.

use std::path::PathBuf;
use std::time::Duration;

use chassis::metrics::Counter;
use chassis::retry::Stop;
use crossbeam_channel::{Receiver, Sender};

use crate::checkpoint::Checkpoints;
use crate::compose::Shape;
use crate::deliver::Noted;
use crate::fault::Fault;
use crate::follow::Follow;
use crate::parse::Privacy;

/// What the reader needs.
#[derive(Debug)]
pub struct Settings {
    /// The zone of times that name none.
    pub zone: chrono_tz::Tz,
    /// What must not leave the host.
    pub privacy: Privacy,
    /// By number of the source.
    pub shapes: Vec<Shape>,
    /// Limits of a batch: bytes, documents, age.
    pub batch_bytes: usize,
    /// Documents of a batch.
    pub batch_documents: usize,
    /// How long a document waits for others.
    pub batch_age: Duration,
    /// The longest entry.
    pub entry_bytes: usize,
    /// How long an entry waits for more lines.
    pub entry_age: Duration,
    /// How often files are looked for.
    pub scan_every: Duration,
    /// Documents have ids of their own.
    pub has_ids: bool,
    /// End when everything that is there is delivered.
    pub once: bool,
    /// Where a test has the program killed.
    pub fault: Fault,
}

/// What is known of a file, for people.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct FileStatus {
    /// Its name.
    pub path: PathBuf,
    /// Where it is: `live`, `rotated`, `unlinked`, `homeless`.
    pub place: String,
    /// Bytes of it that are delivered.
    pub offset: u64,
    /// How large it is.
    pub size: u64,
    /// Bytes that are not delivered.
    pub behind_bytes: u64,
    /// For how long it has been behind, in seconds.
    pub behind_seconds: f64,
}

/// What a file is asked about.
pub type Question = Sender<Vec<FileStatus>>;

/// What is counted of reading.
#[derive(Clone, Debug)]
pub struct ReadCounts {
    /// Entries that were read.
    pub entries: Counter,
    /// Those of them that their format does not fit.
    pub unparsed: Counter,
    /// Bytes that were cut off entries.
    pub cut_bytes: Counter,
    /// Bytes of files that went before they were read.
    pub lost_bytes: Counter,
}

/// The reader.
#[derive(Debug)]
pub struct Reader {
    /// What it was told.
    pub settings: Settings,
    /// All files.
    pub follow: Follow,
    /// On disk.
    pub checkpoints: Checkpoints,
    /// What was seen of backing indices.
    pub noted: Noted,
    /// When to end.
    pub stop: Stop,
    /// What is counted.
    pub counts: ReadCounts,
    /// Who asks how it is.
    pub questions: Receiver<Question>,
}
