//! What the store says of each document of a bulk request. Pure: bytes in, verdicts out.
//!
//! When nothing failed, the answer is only searched: no value of it is built. Both stores put their keys in an
//! order of their own.

use memchr::memmem;
use serde::Deserialize;

/// What became of one document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is in the store: now, or it was before.
    Delivered {
        /// It was there already.
        was_there: bool,
        /// The store put it into its failure store.
        in_failure_store: bool,
    },
    /// The store is too busy or in trouble.
    Again(String),
    /// It will never be taken as it is.
    Refused(String),
}

/// The answer to a bulk request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// All were created; this is the backing index that was named last.
    AllCreated(Option<String>),
    /// One verdict a document, in order, with the backing index of those that have one.
    Each(Vec<(Verdict, Option<String>)>),
}

/// Why an answer cannot be believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unbelievable {
    /// It is not whole, or not JSON.
    #[error("the answer is not whole: {0}")]
    Torn(String),
    /// Other than one verdict a document.
    #[error("the answer is about {found} documents, {sent} were sent")]
    Count {
        /// How many are spoken of.
        found: usize,
        /// How many there were.
        sent: usize,
    },
}

#[derive(Deserialize)]
struct Reply {
    items: Vec<ReplyItem>,
}

#[derive(Deserialize)]
struct ReplyItem {
    #[serde(alias = "index")]
    create: Outcome,
}

#[derive(Deserialize)]
struct Outcome {
    status: u16,
    #[serde(rename = "_index")]
    index: Option<String>,
    error: Option<serde_json::Value>,
    failure_store: Option<String>,
}

/// Reads the answer to a request with so many documents.
pub fn read(answer: &[u8], sent: usize) -> Result<Answer, Unbelievable> {
    let count = |wanted: u8| memchr::memchr_iter(wanted, answer).count();
    // No text in it has brackets: names of indices have none, and reasons come with errors only.
    let is_whole = || count(b'{') == count(b'}') && count(b'[') == count(b']');
    let is_good = answer.trim_ascii_end().ends_with(b"}")
        && memmem::find(answer, b"\"errors\":false").is_some()
        && memmem::find(answer, b"\"failure_store\":\"used\"").is_none()
        && memmem::find_iter(answer, b"\"status\":").count() == sent
        && is_whole();
    if is_good {
        return Ok(Answer::AllCreated(last_index(answer)));
    }
    let reply: Reply =
        serde_json::from_slice(answer).map_err(|error| Unbelievable::Torn(error.to_string()))?;
    if reply.items.len() != sent {
        return Err(Unbelievable::Count { found: reply.items.len(), sent });
    }
    Ok(Answer::Each(reply.items.into_iter().map(|item| judge(item.create)).collect()))
}

fn last_index(answer: &[u8]) -> Option<String> {
    let key = b"\"_index\":\"";
    let at = memmem::rfind(answer, key)? + key.len();
    let length = memchr::memchr(b'"', &answer[at..])?;
    String::from_utf8(answer[at..at + length].to_vec()).ok()
}

fn judge(outcome: Outcome) -> (Verdict, Option<String>) {
    let verdict = match outcome.status {
        200..=299 | 409 => Verdict::Delivered {
            was_there: outcome.status == 409,
            in_failure_store: outcome.failure_store.as_deref() == Some("used"),
        },
        // The document is wrong; everything else is the store's state or a right that is missing.
        400 | 413 | 422 => Verdict::Refused(reason(outcome.error.as_ref())),
        status => Verdict::Again(format!("{status}: {}", reason(outcome.error.as_ref()))),
    };
    (verdict, outcome.index)
}

/// `type: reason`, with the innermost cause.
pub fn reason(error: Option<&serde_json::Value>) -> String {
    let Some(error) = error else { return "no reason given".to_owned() };
    let text = |value: &serde_json::Value, key: &str| {
        value.get(key).and_then(|found| found.as_str()).unwrap_or_default().to_owned()
    };
    let mut said = format!("{}: {}", text(error, "type"), text(error, "reason"));
    let mut cause = error.get("caused_by");
    while let Some(inner) = cause {
        said = format!("{said}: {}", text(inner, "reason"));
        cause = inner.get("caused_by");
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_without_errors_is_only_searched() {
        let opensearch = br#"{"took":7,"errors":false,"items":[{"create":{"_index":".ds-a-000001","status":201}},{"create":{"_index":".ds-a-000002","status":201}}]}"#;
        assert_eq!(read(opensearch, 2), Ok(Answer::AllCreated(Some(".ds-a-000002".into()))));
        assert_eq!(read(opensearch, 3), Err(Unbelievable::Count { found: 2, sent: 3 }));
        for length in 0..opensearch.len() {
            assert!(read(&opensearch[..length], 2).is_err(), "{length}");
        }
    }

    #[test]
    fn every_document_has_its_verdict() {
        let answer = br#"{"errors":true,"took":1,"items":[
            {"create":{"_index":"i","status":201}},{"create":{"status":409,"error":{"type":"v","reason":"r"}}},
            {"create":{"status":429,"error":{"type":"busy","reason":"full"}}},
            {"create":{"status":400,"error":{"type":"parse","reason":"bad","caused_by":{"type":"x","reason":"why"}}}},
            {"create":{"status":201,"failure_store":"used"}}]}"#;
        let Ok(Answer::Each(found)) = read(answer, 5) else { panic!() };
        let delivered =
            |was_there, in_failure_store| Verdict::Delivered { was_there, in_failure_store };
        assert_eq!(found[0], (delivered(false, false), Some("i".into())));
        assert_eq!(found[1].0, delivered(true, false));
        assert_eq!(found[2].0, Verdict::Again("429: busy: full".into()));
        assert_eq!(found[3].0, Verdict::Refused("parse: bad: why".into()));
        assert_eq!(found[4].0, delivered(false, true));
    }
}
