//! From an entry to the document that is sent: what its format says, and where it comes from.
//!
//! What no format takes apart is sent as a message, with the reason; nothing is left out.

use std::path::Path;
use std::sync::Arc;

use crate::document::Document;
use crate::life::Entry;
use crate::parse::{Context, Dataset, Format};

/// The middle of the data stream of what has no format of its own.
const DATASET_PLAIN: &str = "generic";

/// How the entries of a source are shipped.
#[derive(Clone, Debug, Default)]
pub struct Shape {
    /// What the lines are; none: every line is a message.
    pub format: Option<Format>,
    /// The middle of the data stream, whatever the entries are.
    pub dataset: Option<String>,
    /// The end of the data stream.
    pub namespace: String,
    /// This host.
    pub host: String,
    /// The data streams that were used.
    streams: Vec<(Option<Dataset>, Arc<str>)>,
}

impl Shape {
    /// How the entries of a source are shipped.
    pub fn new(
        format: Option<Format>,
        dataset: Option<String>,
        namespace: &str,
        host: &str,
    ) -> Self {
        let (namespace, host) = (namespace.to_owned(), host.to_owned());
        Self { format, dataset, namespace, host, streams: Vec::new() }
    }

    /// Writes the document of an entry. Returns its data stream, and whether the entry was taken apart.
    pub fn compose(
        &mut self,
        entry: &Entry<'_>,
        path: &Path,
        context: &Context,
        document: &mut Document,
    ) -> (Arc<str>, bool) {
        document.clear();
        let parsed =
            self.format.as_ref().map(|format| format.parse(entry.bytes, context, document));
        let dataset = match &parsed {
            Some(Ok(dataset)) => Some(*dataset),
            Some(Err(error)) => {
                document.at(context.read_at);
                document.text("message", entry.bytes);
                document.text("error.message", error.to_string().as_bytes());
                self.format.as_ref().map(Format::dataset)
            }
            None => {
                document.at(context.read_at);
                document.text("message", entry.bytes);
                None
            }
        };
        if entry.cut > 0 {
            document.texts("log.flags", [&b"truncated"[..]]);
            document.long("logshipd.cut_bytes", entry.cut as i64);
        }
        document.text("host.name", self.host.as_bytes());
        document.text("log.file.path", path.as_os_str().as_encoded_bytes());
        document.long("log.offset", entry.offset as i64);
        (self.stream(dataset), !matches!(parsed, Some(Err(_))))
    }

    fn stream(&mut self, dataset: Option<Dataset>) -> Arc<str> {
        if let Some((_, stream)) = self.streams.iter().find(|(known, _)| *known == dataset) {
            return Arc::clone(stream);
        }
        let own = dataset.map_or(DATASET_PLAIN, Dataset::as_str);
        let name = self.dataset.as_deref().unwrap_or(own);
        let stream: Arc<str> = format!("logs-{name}-{}", self.namespace).into();
        self.streams.push((dataset, Arc::clone(&stream)));
        stream
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::Privacy;

    fn composed(format: Option<Format>, bytes: &[u8], cut: u64) -> (String, serde_json::Value) {
        let mut shape = Shape::new(format, None, "default", "web1");
        let zone = chrono_tz::Tz::UTC;
        let context = Context { read_at: 1_500_000_000, zone, privacy: Privacy::default() };
        let mut document = Document::default();
        let entry = Entry { offset: 7, bytes, end: 9, cut, before: bytes };
        let (stream, _) = shape.compose(&entry, Path::new("/var/log/x"), &context, &mut document);
        (stream.to_string(), serde_json::from_slice(document.finish()).unwrap())
    }

    #[test]
    fn what_cannot_be_taken_apart_is_sent_whole_with_the_reason() {
        let (stream, document) = composed(Some(Format::nginx_access()), b"not \xff\0 a request", 0);
        assert_eq!(stream, "logs-nginx.access-default");
        assert_eq!(document["message"], "not \u{fffd}\0 a request");
        assert!(document["error.message"].is_string(), "{document}");
        assert_eq!((&document["log.offset"], &document["host.name"]), (&7.into(), &"web1".into()));
    }

    #[test]
    fn a_plain_line_is_a_message_and_a_cut_one_says_so() {
        let (stream, document) = composed(None, b"beginning", 12);
        assert_eq!(stream, "logs-generic-default");
        assert_eq!(document["log.flags"][0], "truncated");
        assert_eq!(document["logshipd.cut_bytes"], 12);
        assert_eq!(document["@timestamp"], "1970-01-01T00:00:01.5Z");
    }
}
