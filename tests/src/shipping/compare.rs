//! What a store holds, document by document, against what was written.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::{Line, Stage};
use crate::servers::search_store::SearchStore;

const PAGE_DOCUMENTS: usize = 5000;
/// No more than so many of each kind are told in full.
const TOLD_MAX: usize = 5;

/// A document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The index that holds it.
    pub index: String,
    /// Its `_id`.
    pub id: String,
    /// Its text.
    pub message: String,
}

/// All documents of an index, an alias or a data stream.
pub fn read_index(store: &SearchStore, index: &str) -> Result<Vec<Found>> {
    store.ask("POST", &format!("/{index}/_refresh"), "")?;
    let query = json!({"size": PAGE_DOCUMENTS, "sort": ["_doc"], "_source": ["message"]});
    let mut page = store.ask("POST", &format!("/{index}/_search?scroll=1m"), &query.to_string())?;
    let mut found = Vec::new();
    loop {
        ensure!(page["_shards"]["failed"] == 0, "a shard does not answer: {}", page["_shards"]);
        let scroll = page["_scroll_id"].as_str().context("no scroll id")?.to_owned();
        let hits = page["hits"]["hits"].as_array().context("no hits")?;
        if hits.is_empty() {
            store.ask("DELETE", "/_search/scroll", &json!({"scroll_id": scroll}).to_string())?;
            return Ok(found);
        }
        found.extend(hits.iter().map(document));
        let next = json!({"scroll": "1m", "scroll_id": scroll});
        page = store.ask("POST", "/_search/scroll", &next.to_string())?;
    }
}

fn document(hit: &Value) -> Found {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (index, id) = (text(&hit["_index"]), text(&hit["_id"]));
    Found { index, id, message: text(&hit["_source"]["message"]) }
}

/// In what a store differs from what was written, as a multiset; empty if in nothing.
pub fn differences(stage: &Stage, found: &[Found]) -> String {
    let mut by_line: BTreeMap<Line, Vec<&Found>> = BTreeMap::new();
    let mut foreign = Vec::new();
    for document in found {
        match Line::parse(&document.message) {
            Ok(line) if stage.written().contains_key(&line) => {
                by_line.entry(line).or_default().push(document);
            }
            outcome => foreign.push(format!("{outcome:?}: {document:?}")),
        }
    }
    let tell = |line: &Line| format!("{line}: {}", stage.story(*line));
    let lost = stage.written().keys().filter(|line| !by_line.contains_key(line)).map(tell);
    let doubled = by_line.iter().filter(|(_, documents)| documents.len() > 1);
    let doubled = doubled.map(|(line, documents)| {
        let places = documents.iter().map(|found| format!("{}/{}", found.index, found.id));
        format!("{} at {:?}", tell(line), places.collect::<Vec<_>>())
    });
    let kinds = [
        ("lost", lost.collect::<Vec<_>>()),
        ("doubled", doubled.collect()),
        ("not as they were written", foreign),
    ];
    let kinds = kinds.iter().filter(|(_, cases)| !cases.is_empty());
    let kinds = kinds.map(|(name, cases)| {
        let told: Vec<_> = cases.iter().take(TOLD_MAX).map(|case| format!("\n  {case}")).collect();
        format!("{} {name}, first:{}\n", cases.len(), told.concat())
    });
    kinds.collect()
}
