//! What is sent of an entry that no format takes apart: the message, and what is known of where it comes from.

use std::io::Write;

use chrono::{DateTime, SecondsFormat};

use crate::document::UnixNanos;

/// Writes a whole document.
pub fn write(to: &mut Vec<u8>, entry: &[u8], read_at: UnixNanos, cut: u64, place: &[u8]) {
    let time = DateTime::from_timestamp_nanos(read_at).to_rfc3339_opts(SecondsFormat::Nanos, true);
    write!(to, "{{\"@timestamp\":\"{time}\",\"message\":").expect("a Vec takes all");
    text(to, entry);
    if cut > 0 {
        write!(to, ",\"log.flags\":[\"truncated\"],\"logshipd.cut_bytes\":{cut}")
            .expect("a Vec takes all");
    }
    to.extend_from_slice(place);
    to.push(b'}');
}

/// Text as JSON; what is not UTF-8 becomes U+FFFD.
pub fn text(to: &mut Vec<u8>, value: &[u8]) {
    let value = String::from_utf8_lossy(value);
    serde_json::to_writer(to, &*value).expect("a Vec takes all, and text is always JSON");
}
