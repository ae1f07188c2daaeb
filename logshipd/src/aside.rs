//! Documents that the store will not take, kept in a local file with the reason and the place.
//!
//! One JSON object a line, on disk before the document counts as done. `logshipd replay` sends them again. The
//! file has a limit; what does not fit is counted and said, not kept.

use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// The name of the file in the state directory.
pub const FILE_NAME: &str = "aside.ndjson";

/// A document that was refused.
#[derive(Debug, Serialize, Deserialize)]
pub struct Refused {
    /// When, in UTC.
    pub at: chrono::DateTime<chrono::Utc>,
    /// The data stream.
    pub stream: String,
    /// Its id there; none if ids are off.
    pub id: Option<String>,
    /// Where in the file its entry begins.
    pub offset: u64,
    /// What the store said.
    pub reason: String,
    /// Itself, as it was before anything was moved in it.
    pub document: Box<RawValue>,
}

/// Where they are kept.
#[derive(Debug)]
pub struct Aside {
    path: PathBuf,
    bytes_max: u64,
    file: Mutex<Option<File>>,
}

impl Aside {
    /// Nothing is created before it is needed.
    pub fn new(state_dir: &Path, bytes_max: u64) -> Self {
        Self { path: state_dir.join(FILE_NAME), bytes_max, file: Mutex::new(None) }
    }

    /// Keeps documents; when this returns true, they survive a power cut. False: there is no room.
    pub fn keep(&self, refused: &[Refused]) -> Result<bool> {
        let mut text = Vec::new();
        for one in refused {
            serde_json::to_writer(&mut text, one).context("encode what was refused")?;
            text.push(b'\n');
        }
        let mut held = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let mut file = match held.take() {
            Some(file) if fs::exists(&self.path).unwrap_or(false) => file,
            _ => OpenOptions::new().create(true).append(true).mode(0o600).open(&self.path)?,
        };
        let length = file.metadata()?.len();
        if length + text.len() as u64 > self.bytes_max {
            *held = Some(file);
            return Ok(false);
        }
        // A line that was cut short by a full disk must not be the beginning of the next.
        let written = file.write_all(&text).and_then(|()| file.sync_data());
        if written.is_err() {
            file.set_len(length).context("take back half a line")?;
        }
        *held = Some(file);
        written.context("set documents aside")?;
        Ok(true)
    }

    /// How many bytes are kept.
    pub fn bytes(&self) -> u64 {
        fs::metadata(&self.path).map_or(0, |metadata| metadata.len())
    }
}

/// A document with what clashes moved into text: the one field that the store names, or all but the plainest.
pub fn softened(document: &[u8], reason: &str) -> Option<Vec<u8>> {
    let mut fields: serde_json::Map<String, serde_json::Value> =
        serde_json::from_slice(document).ok()?;
    let named = reason
        .split(['[', ']', '\'', '"'])
        .find(|word| fields.contains_key(*word) && *word != "@timestamp");
    let moved: Vec<String> = match named {
        Some(name) => vec![name.to_owned()],
        None => fields.keys().filter(|key| !PLAINEST.contains(&key.as_str())).cloned().collect(),
    };
    let mut text = String::new();
    for name in &moved {
        if let Some(value) = fields.remove(name) {
            writeln!(text, "{name}: {value}").expect("a String takes all");
        }
    }
    if text.is_empty() {
        return None;
    }
    fields.insert("logshipd.refused".into(), text.trim_end().into());
    fields.insert("error.message".into(), reason.into());
    serde_json::to_vec(&fields).ok()
}

const PLAINEST: [&str; 4] = ["@timestamp", "message", "host.name", "log.file.path"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_clashing_field_is_moved_where_the_store_names_it() {
        let document = br#"{"@timestamp":"2026-11-23T00:00:00Z","a.b":"x","c":1,"message":"m"}"#;
        let reason = "mapper_parsing_exception: failed to parse field [a.b] of type [long]";
        let soft: serde_json::Value =
            serde_json::from_slice(&softened(document, reason).unwrap()).unwrap();
        assert_eq!(soft["logshipd.refused"], "a.b: \"x\"");
        assert_eq!((&soft["c"], soft.get("a.b")), (&1.into(), None));
        let soft: serde_json::Value =
            serde_json::from_slice(&softened(document, "too many").unwrap()).unwrap();
        assert_eq!(soft["logshipd.refused"], "a.b: \"x\"\nc: 1");
        assert_eq!(soft["message"], "m");
    }

    #[test]
    fn what_is_kept_is_bounded_and_whole() {
        let dir = tempfile::tempdir().unwrap();
        let aside = Aside::new(dir.path(), 400);
        let refused = || {
            [Refused {
                at: chrono::Utc::now(),
                stream: "logs-x-default".into(),
                id: Some("i".into()),
                offset: 7,
                reason: "r".into(),
                document: RawValue::from_string("{\"a\":1}".into()).unwrap(),
            }]
        };
        let mut kept = 0;
        while aside.keep(&refused()).unwrap() {
            kept += 1;
        }
        let text = fs::read_to_string(dir.path().join(FILE_NAME)).unwrap();
        assert!(kept > 0 && text.lines().count() == kept && aside.bytes() <= 400);
        let read: Refused = serde_json::from_str(text.lines().next().unwrap()).unwrap();
        assert_eq!(read.document.get(), "{\"a\":1}");
    }
}
