//! Delivers a batch: sends it until every document has a verdict that ends its way.
//!
//! A lost or torn answer leaves open what was done. The same ids are sent again: what is there already answers
//! 409, which is delivered. Only when the data stream rolled over in between could that double; then the older
//! backing indices are asked for the ids first.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use chassis::metrics::Counter;
use chassis::retry::{Backoff, Stop};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::aside::{Aside, Refused, softened};
use crate::batch::Batch;
use crate::client::Client;
use crate::gzip::Gzip;
use crate::verdict::{self, Verdict};

/// What is asked for in an answer: no more than is looked at.
const FILTER: &str =
    "filter_path=errors,items.*.status,items.*._index,items.*.error,items.*.failure_store";
/// The waits between tries, without an end.
const BACKOFF: Backoff = Backoff {
    attempts_max: u32::MAX,
    first: Duration::from_millis(200),
    factor: 2,
    max: Duration::from_secs(30),
    jitter: 0.5,
};

/// What is counted.
#[derive(Clone, Debug)]
pub struct Counts {
    /// Documents that are in the store.
    pub delivered: Counter,
    /// Those of them that were there already.
    pub was_there: Counter,
    /// Requests.
    pub requests: Counter,
    /// Requests that were tried again, wholly or in part.
    pub retried: Counter,
    /// Documents that were refused as they were.
    pub refused: Counter,
    /// Documents that were set aside.
    pub aside: Counter,
    /// Documents that were given up: there was no room to set them aside.
    pub given_up: Counter,
    /// Documents that the store put into its failure store.
    pub failure_store: Counter,
    /// Bytes of requests on the wire.
    pub sent_bytes: Counter,
}

/// The backing index that each data stream was last seen to write to.
pub type Noted = Arc<Mutex<BTreeMap<String, String>>>;

/// One thread's way to the store.
#[derive(Debug)]
pub struct Delivery {
    /// The store.
    pub client: Arc<Client>,
    /// Compress requests.
    pub is_gzip: bool,
    /// Documents have ids of their own.
    pub has_ids: bool,
    /// Where refused documents go.
    pub aside: Arc<Aside>,
    /// What is counted.
    pub counts: Counts,
    /// When to give up waiting.
    pub stop: Stop,
    /// What was seen of backing indices.
    pub noted: Noted,
    /// Its compressor.
    pub gzip: Gzip,
}

/// A batch on its way.
struct Way<'b> {
    batch: &'b Batch,
    pending: Vec<usize>,
    /// Documents with something moved into text.
    softened: HashMap<usize, Vec<u8>>,
    reasons: HashMap<usize, String>,
    /// At most so many documents a request.
    width: usize,
    /// It may be there already, although nobody said so.
    is_uncertain: bool,
    /// The backing indices known before the first try.
    before: BTreeMap<String, String>,
    attempt: u32,
}

impl Delivery {
    /// Returns whether all of it is delivered or set aside; false if it was stopped before.
    pub fn deliver(&mut self, batch: &Batch) -> bool {
        let before = self.noted.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut way = Way {
            batch,
            pending: (0..batch.items.len()).collect(),
            softened: HashMap::new(),
            reasons: HashMap::new(),
            width: batch.items.len(),
            is_uncertain: batch.items.iter().any(|item| item.is_uncertain),
            before,
            attempt: 0,
        };
        while !way.pending.is_empty() {
            if let Err(error) = self.step(&mut way) {
                way.attempt += 1;
                self.counts.retried.increment();
                let wait = BACKOFF.wait(way.attempt, rand::random());
                if way.attempt.is_power_of_two() {
                    tracing::warn!(attempt = way.attempt, ?wait, "trying again after: {error:#}");
                }
                if self.stop.wait_timeout(wait) {
                    return false;
                }
            }
        }
        true
    }

    /// One request. An error says why to wait before the next.
    fn step(&mut self, way: &mut Way<'_>) -> Result<()> {
        if way.is_uncertain && self.has_ids {
            self.resolve(way).context("look for what may be there already")?;
            if way.pending.is_empty() {
                return Ok(());
            }
        }
        let chosen: Vec<usize> = way.pending.iter().copied().take(way.width.max(1)).collect();
        let built = (chosen.len() < way.batch.items.len() || !way.softened.is_empty())
            .then(|| body_of(way, &chosen));
        let body = built.as_deref().unwrap_or(&way.batch.body);
        let path = format!("/{}/_bulk?{FILTER}", way.batch.streams[0]);
        self.counts.requests.increment();
        let packed = if self.is_gzip { self.gzip.pack(body) } else { body };
        self.counts.sent_bytes.add(packed.len() as u64);
        let answer = self.client.call("POST", &path, Some(packed), self.is_gzip);
        let (status, answer) = answer.inspect_err(|_| way.is_uncertain = true)?;
        match status {
            200 => self.judge(way, &chosen, &answer),
            400 | 413 if chosen.len() > 1 => {
                way.width = chosen.len().div_ceil(2);
                Ok(())
            }
            400 | 413 => {
                let reason = format!("the store answers {status}: {}", said(&answer));
                self.refuse(way, chosen[0], reason)
            }
            status => {
                way.is_uncertain |= status >= 500;
                bail!("the store answers {status}: {}", said(&answer))
            }
        }
    }

    fn judge(&mut self, way: &mut Way<'_>, chosen: &[usize], answer: &[u8]) -> Result<()> {
        let answer =
            verdict::read(answer, chosen.len()).inspect_err(|_| way.is_uncertain = true)?;
        way.is_uncertain = false;
        let each = match answer {
            verdict::Answer::AllCreated(index) => {
                self.note(way, chosen, index.as_deref());
                self.counts.delivered.add(chosen.len() as u64);
                way.pending.drain(..chosen.len());
                way.attempt = 0;
                return Ok(());
            }
            verdict::Answer::Each(each) => each,
        };
        let mut again = None;
        let mut done: HashSet<usize> = HashSet::new();
        for (&item, (verdict, index)) in chosen.iter().zip(each) {
            match verdict {
                Verdict::Delivered { was_there, in_failure_store } => {
                    self.counts.delivered.increment();
                    self.counts.was_there.add(u64::from(was_there));
                    self.counts.failure_store.add(u64::from(in_failure_store));
                    if !was_there {
                        self.note(way, &[item], index.as_deref());
                    }
                    done.insert(item);
                }
                Verdict::Again(reason) => again = Some(reason),
                Verdict::Refused(reason) => {
                    if self.refuse_one(way, item, reason)? {
                        done.insert(item);
                    }
                }
            }
        }
        way.pending.retain(|item| !done.contains(item));
        if !done.is_empty() {
            way.attempt = 0;
        }
        match again {
            Some(reason) => bail!("the store put off {} documents: {reason}", way.pending.len()),
            None => Ok(()),
        }
    }

    fn refuse(&self, way: &mut Way<'_>, item: usize, reason: String) -> Result<()> {
        if self.refuse_one(way, item, reason)? {
            way.pending.retain(|pending| *pending != item);
        }
        Ok(())
    }

    /// First what clashes is moved into text; what is refused then is set aside. Returns whether its way has ended.
    fn refuse_one(&self, way: &mut Way<'_>, item: usize, reason: String) -> Result<bool> {
        let document = way.batch.document(item);
        if !way.reasons.contains_key(&item)
            && let Some(soft) = softened(document, &reason)
        {
            self.counts.refused.increment();
            way.softened.insert(item, soft);
            way.reasons.insert(item, reason);
            return Ok(false);
        }
        let text = String::from_utf8_lossy(document).into_owned();
        let quoted = || serde_json::Value::String(text.clone()).to_string();
        let document = RawValue::from_string(text.clone())
            .or_else(|_| RawValue::from_string(quoted()))
            .context("keep a document")?;
        let refused = Refused {
            at: chrono::Utc::now(),
            stream: way.batch.streams[usize::from(way.batch.items[item].stream)].to_string(),
            id: self.has_ids.then(|| way.batch.id(item)),
            offset: way.batch.items[item].offset,
            reason: way.reasons.get(&item).cloned().unwrap_or(reason),
            document,
        };
        if self.aside.keep(&[refused])? {
            self.counts.aside.increment();
        } else {
            self.counts.given_up.increment();
            tracing::error!("a refused document is given up: the file of those set aside is full");
        }
        Ok(true)
    }

    fn note(&self, way: &Way<'_>, items: &[usize], index: Option<&str>) {
        let (Some(index), Some(&item)) = (index, items.last()) else { return };
        let stream = &way.batch.streams[usize::from(way.batch.items[item].stream)];
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        match noted.get_mut(&**stream) {
            Some(known) if known == index => {}
            Some(known) => index.clone_into(known),
            None => drop(noted.insert(stream.to_string(), index.to_owned())),
        }
    }

    /// Takes out what older backing indices have already.
    fn resolve(&self, way: &mut Way<'_>) -> Result<()> {
        let mut wanted = Vec::new();
        for (number, stream) in way.batch.streams.iter().enumerate() {
            let older = self.older_indices(stream, way.before.get(&**stream))?;
            let of_stream = way
                .pending
                .iter()
                .filter(|item| usize::from(way.batch.items[**item].stream) == number);
            for &item in of_stream {
                wanted.extend(older.iter().map(|index| (item, index.clone())));
            }
        }
        let mut found = HashSet::new();
        for part in wanted.chunks(MGET_MAX) {
            let docs: Vec<_> = part
                .iter()
                .map(|(item, index)| serde_json::json!({"_index": index, "_id": way.batch.id(*item)}))
                .collect();
            let body = serde_json::to_vec(&serde_json::json!({ "docs": docs }))?;
            let path = "/_mget?_source=false&filter_path=docs.found,docs._id,docs.error";
            let (status, answer) = self.client.call("POST", path, Some(&body), false)?;
            anyhow::ensure!(status == 200, "the store answers {status}: {}", said(&answer));
            let answer: Got = serde_json::from_slice(&answer).context("read the answer")?;
            anyhow::ensure!(answer.docs.len() == part.len(), "the answer is not whole");
            for (doc, (item, _)) in answer.docs.iter().zip(part) {
                if doc.found {
                    found.insert(*item);
                }
            }
        }
        self.counts.delivered.add(found.len() as u64);
        self.counts.was_there.add(found.len() as u64);
        way.pending.retain(|item| !found.contains(item));
        Ok(())
    }

    /// The backing indices of a data stream from one on, without the newest.
    fn older_indices(&self, stream: &str, from: Option<&String>) -> Result<Vec<String>> {
        let path = format!("/_resolve/index/{stream}?expand_wildcards=all");
        let (status, answer) = self.client.call("GET", &path, None, false)?;
        if status == 404 {
            return Ok(Vec::new());
        }
        anyhow::ensure!(status == 200, "the store answers {status}: {}", said(&answer));
        let answer: Resolved = serde_json::from_slice(&answer).context("read the answer")?;
        let Some(found) = answer.data_streams.into_iter().find(|found| found.name == stream) else {
            return Ok(Vec::new());
        };
        let mut indices = found.backing_indices;
        indices.pop();
        let first = from.and_then(|from| indices.iter().position(|index| index == from));
        if first.is_none()
            && from.is_some_and(|from| !indices.is_empty() && !indices.contains(from))
        {
            // It is the newest: nothing that is uncertain is older.
            return Ok(Vec::new());
        }
        Ok(indices.split_off(first.unwrap_or(0)))
    }
}

/// Ids in one look.
const MGET_MAX: usize = 2000;

#[derive(Deserialize)]
struct Got {
    docs: Vec<GotOne>,
}

#[derive(Deserialize)]
struct GotOne {
    #[serde(default)]
    found: bool,
}

#[derive(Deserialize)]
struct Resolved {
    #[serde(default)]
    data_streams: Vec<ResolvedStream>,
}

#[derive(Deserialize)]
struct ResolvedStream {
    name: String,
    backing_indices: Vec<String>,
}

fn body_of(way: &Way<'_>, chosen: &[usize]) -> Vec<u8> {
    let mut body = Vec::new();
    for &item in chosen {
        let lines = way.batch.lines(item);
        match way.softened.get(&item) {
            None => body.extend_from_slice(lines),
            Some(soft) => {
                let action = memchr::memchr(b'\n', lines).map_or(0, |newline| newline + 1);
                body.extend_from_slice(&lines[..action]);
                body.extend_from_slice(soft);
                body.push(b'\n');
            }
        }
    }
    body
}

/// What an answer says that is not one of a bulk request, short.
pub fn said(answer: &[u8]) -> String {
    let value: Option<serde_json::Value> = serde_json::from_slice(answer).ok();
    let reason =
        value.as_ref().and_then(|value| value.get("error")).filter(|error| error.is_object());
    let text = match reason {
        Some(error) => verdict::reason(Some(error)),
        None => String::from_utf8_lossy(answer).into_owned(),
    };
    text.chars().take(300).collect()
}
