//! Entries of the journal as `journalctl --output=json` writes them.

use serde::Deserialize;
use serde_json::Value;

use super::Syslog;
use crate::document::Document;
use crate::parse::{Context, Dataset, Unparsed};

/// A field is text; an array of bytes if it is not UTF-8; an array of texts if it is there twice; null if
/// it is too long.
#[derive(Deserialize)]
struct Entry {
    #[serde(rename = "MESSAGE", default)]
    message: Value,
    #[serde(rename = "__REALTIME_TIMESTAMP", default)]
    realtime_micros: Value,
    #[serde(rename = "SYSLOG_IDENTIFIER", default)]
    identifier: Value,
    #[serde(rename = "_COMM", default)]
    command: Value,
    #[serde(rename = "_PID", default)]
    process: Value,
    #[serde(rename = "_HOSTNAME", default)]
    host: Value,
    #[serde(rename = "_SYSTEMD_UNIT", default)]
    unit: Value,
    #[serde(rename = "PRIORITY", default)]
    priority: Value,
}

impl Syslog {
    /// Writes the fields of an entry of the journal.
    pub(in crate::parse) fn parse_journal(
        &self,
        entry: &[u8],
        context: &Context,
        to: &mut Document,
    ) -> Result<Dataset, Unparsed> {
        let entry: Entry =
            serde_json::from_slice(entry).map_err(|_| Unparsed("no JSON of the journal"))?;
        let micros = text(&entry.realtime_micros).and_then(|text| text.parse::<i64>().ok());
        let at = micros.and_then(|micros| micros.checked_mul(1000));
        let context = Context {
            read_at: at.ok_or(Unparsed("no `__REALTIME_TIMESTAMP`"))?,
            ..context.clone()
        };
        if let Some(priority) = text(&entry.priority).and_then(|text| text.parse().ok()) {
            to.long("log.syslog.severity.code", priority);
        }
        if let Some(host) = text(&entry.host) {
            to.text("log.syslog.hostname", host.as_bytes());
        }
        if let Some(unit) = text(&entry.unit) {
            to.text("systemd.unit", unit.as_bytes());
        }
        let program = text(&entry.identifier).or(text(&entry.command)).unwrap_or_default();
        let process = text(&entry.process).map(str::as_bytes);
        let message = bytes(&entry.message);
        self.dispatch(program.as_bytes(), process, &message, &context, to)
    }
}

fn text(value: &Value) -> Option<&str> {
    match value {
        Value::Array(values) => values.first().and_then(Value::as_str),
        value => value.as_str(),
    }
}

fn bytes(value: &Value) -> Vec<u8> {
    match value {
        Value::String(text) => text.as_bytes().to_vec(),
        Value::Array(values) => match values.first() {
            Some(Value::String(text)) => text.as_bytes().to_vec(),
            _ => values.iter().filter_map(|byte| u8::try_from(byte.as_u64()?).ok()).collect(),
        },
        _ => Vec::new(),
    }
}
