//! A `_bulk` request taken apart, and its answer put together again.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::tree::Dice;

/// One action with its document.
#[derive(Clone, Debug)]
pub(super) struct Item {
    /// `create`, `index`, `update` or `delete`.
    action: String,
    index: Value,
    id: Value,
    /// Its lines, with their ends.
    lines: Vec<u8>,
}

/// All items of a body; `path` may name the index.
pub(super) fn items(path: &str, body: &[u8]) -> Result<Vec<Item>> {
    let path = path.split('?').next().unwrap_or_default().trim_start_matches('/');
    let default = path.strip_suffix("/_bulk").map_or(Value::Null, |index| json!(index));
    let mut lines = body.split_inclusive(|byte| *byte == b'\n');
    let mut items = Vec::new();
    while let Some(line) = lines.next() {
        if line.trim_ascii().is_empty() {
            continue;
        }
        let head: Value = serde_json::from_slice(line).context("read an action")?;
        let (action, place) =
            head.as_object().and_then(|map| map.iter().next()).context("empty")?;
        let mut item = Item {
            action: action.clone(),
            index: place.get("_index").cloned().unwrap_or_else(|| default.clone()),
            id: place.get("_id").cloned().unwrap_or(Value::Null),
            lines: line.to_vec(),
        };
        if item.action != "delete" {
            item.lines.extend_from_slice(lines.next().context("an action without a document")?);
        }
        ensure!(item.lines.ends_with(b"\n"), "the last line has no end");
        items.push(item);
    }
    Ok(items)
}

/// Refuses some of the items, at least one: by their place, the answer that each gets.
pub(super) fn refuse(items: &[Item], dice: &mut Dice) -> Vec<Option<Value>> {
    let certain = dice.below(items.len().max(1) as u64) as usize;
    let refuse = |(at, item): (usize, &Item)| {
        let is_refused = dice.once_in(3) || at == certain;
        let status = if dice.once_in(3) { 503 } else { 429 };
        is_refused.then(|| refusal(item, status))
    };
    items.iter().enumerate().map(refuse).collect()
}

fn refusal(item: &Item, status: u16) -> Value {
    let kind = match status {
        429 => "es_rejected_execution_exception",
        _ => "unavailable_shards_exception",
    };
    let error = json!({"type": kind, "reason": "refused by the plan of a test"});
    let place = json!({"_index": item.index, "_id": item.id, "status": status, "error": error});
    json!({ item.action.as_str(): place })
}

/// The body without those that are refused.
pub(super) fn remaining(items: &[Item], refused: &[Option<Value>]) -> Vec<u8> {
    let kept = items.iter().zip(refused).filter(|(_, refused)| refused.is_none());
    kept.flat_map(|(item, _)| item.lines.iter().copied()).collect()
}

/// The answer to all from the store's answer to those that it was given, each at its place.
pub(super) fn merge(answer: Option<&[u8]>, refused: Vec<Option<Value>>) -> Result<Vec<u8>> {
    let mut answer = match answer {
        Some(answer) => serde_json::from_slice(answer).context("read the store's answer")?,
        None => json!({"took": 0, "items": []}),
    };
    let given = answer["items"].as_array_mut().map(std::mem::take).context("no items")?;
    let mut given = given.into_iter();
    let merged: Option<Vec<Value>> =
        refused.into_iter().map(|refused| refused.or_else(|| given.next())).collect();
    let merged = merged.context("the store answers for fewer than it was given")?;
    ensure!(given.next().is_none(), "the store answers for more than it was given");
    answer["items"] = Value::Array(merged);
    answer["errors"] = Value::Bool(true);
    Ok(serde_json::to_vec(&answer)?)
}
