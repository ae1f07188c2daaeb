//! What a store says about itself, and how it is asked.

use std::fmt;

use anyhow::{Context, Result};
use chassis::failure::{Exit, Failure};
use serde_json::Value;

use super::Action;
use super::lifecycle::{Lifecycle, POLICY};

/// Status and body of an answer.
pub type Answer = (u16, Vec<u8>);

/// Which program it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// Elasticsearch, or what calls itself so.
    Elasticsearch,
    /// OpenSearch.
    OpenSearch,
}

/// Which program, and which version of it.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The program.
    pub engine: Engine,
    /// As it says, empty if it does not.
    pub version: String,
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}", self.engine, self.version)
    }
}

/// A store behind whatever sends requests: method, path and body to status and body.
#[derive(Debug)]
pub struct Store<C> {
    call: C,
}

impl<C: Fn(&str, &str, Option<&[u8]>) -> Result<Answer>> Store<C> {
    /// A store that is asked in this way.
    pub fn new(call: C) -> Self {
        Self { call }
    }

    fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Result<(u16, Value)> {
        let text = body.map(Value::to_string);
        let (status, answer) = (self.call)(method, path, text.as_deref().map(str::as_bytes))?;
        let answer = serde_json::from_slice(&answer).unwrap_or(Value::Null);
        match status {
            401 => Err(Failure::new(Exit::Failed, "the store does not know this login")
                .hint("check the login in the configuration")
                .into()),
            403 => Err(forbidden(method, path, &answer)),
            _ => Ok((status, answer)),
        }
    }

    /// Which program it is. `GET /` is not everywhere; the list of nodes is.
    pub(super) fn identify(&self) -> Result<Identity> {
        let (status, root) = self.ask("GET", "/", None)?;
        if status == 200 && root["version"]["number"].is_string() {
            let engine = match root["version"]["distribution"].as_str() {
                Some("opensearch") => Engine::OpenSearch,
                _ => Engine::Elasticsearch,
            };
            return Ok(Identity { engine, version: text(&root["version"]["number"]) });
        }
        let path =
            "/_nodes/_local?filter_path=nodes.*.version,nodes.*.build_flavor,nodes.*.attributes";
        let (status, nodes) = self.ask("GET", path, None)?;
        let node = nodes["nodes"].as_object().and_then(|nodes| nodes.values().next());
        let node =
            node.with_context(|| format!("this is no search store: {path} says {status}"))?;
        let version = text(&node["version"]);
        let flavor = node["build_flavor"].is_string();
        let engine = if flavor { Engine::Elasticsearch } else { Engine::OpenSearch };
        Ok(Identity { engine, version })
    }

    /// The way of this store to delete what is old: whatever it answers to.
    pub(super) fn lifecycle(&self, engine: Engine, days: u32) -> Result<Lifecycle> {
        if engine == Engine::OpenSearch {
            let (status, found) =
                self.ask("GET", &format!("/_plugins/_ism/policies/{POLICY}"), None)?;
            return Ok(match status {
                200 => {
                    Lifecycle::Ism(found["_seq_no"].as_i64().zip(found["_primary_term"].as_i64()))
                }
                404 if is_handled(&found) => Lifecycle::Ism(None),
                _ => Lifecycle::None,
            });
        }
        let (status, found) = self.ask("GET", &format!("/_ilm/policy/{POLICY}"), None)?;
        if status == 200 || (status == 404 && is_handled(&found)) {
            return Ok(Lifecycle::Ilm);
        }
        let mut probe = serde_json::json!({"index_patterns": ["logshipd-probe-*"], "priority": 9999,
            "data_stream": {}, "template": {}});
        probe["template"]["lifecycle"] = Lifecycle::Stream(days).of_stream().unwrap_or_default();
        let refusal = self.simulate(&probe)?;
        Ok(if refusal.is_none() { Lifecycle::Stream(days) } else { Lifecycle::None })
    }

    /// Whether a policy has to be put.
    pub(super) fn policy_action(&self, path: &str, content: &Value) -> Result<Action> {
        let path = path.split('?').next().unwrap_or(path);
        let (status, found) = self.ask("GET", path, None)?;
        if status != 200 {
            return Ok(Action::Create);
        }
        let existing = [&found[POLICY]["policy"], &found["policy"]];
        let is_same = existing.iter().any(|found| contains(found, &content["policy"]));
        Ok(if is_same { Action::Keep } else { Action::Replace })
    }

    /// A template by its path, if there is one.
    pub(super) fn template(&self, path: &str) -> Result<Option<Value>> {
        let (status, mut found) = self.ask("GET", path, None)?;
        if status != 200 {
            return Ok(None);
        }
        let lists =
            [("component_templates", "component_template"), ("index_templates", "index_template")];
        let first = lists.iter().find_map(|(list, kind)| {
            found.get_mut(list).and_then(|list| list.get_mut(0)).map(|first| first[*kind].take())
        });
        first.map(Some).with_context(|| format!("{path}: an answer without a template"))
    }

    /// Why the store would refuse a template, if it would.
    pub(super) fn simulate(&self, template: &Value) -> Result<Option<String>> {
        let (status, answer) = self.ask("POST", "/_index_template/_simulate", Some(template))?;
        Ok((status >= 300).then(|| answer["error"].to_string()))
    }

    pub(super) fn put(&self, path: &str, content: &Value) -> Result<()> {
        let (status, answer) = self.ask("PUT", path, Some(content))?;
        anyhow::ensure!(status < 300, "PUT {path}: {status}: {}", answer["error"]);
        Ok(())
    }
}

/// Whether all of `wanted` is in `found`, which may have more: stores add what is default.
fn contains(found: &Value, wanted: &Value) -> bool {
    match (found, wanted) {
        (Value::Object(found), Value::Object(wanted)) => wanted
            .iter()
            .all(|(name, value)| found.get(name).is_some_and(|found| contains(found, value))),
        (Value::Array(found), Value::Array(wanted)) => {
            found.len() == wanted.len() && found.iter().zip(wanted).all(|(f, w)| contains(f, w))
        }
        (found, wanted) => found == wanted,
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// A store without the feature says that it has no handler; one with it, that it has no such policy.
fn is_handled(answer: &Value) -> bool {
    let text = answer.to_string();
    !answer.is_null() && !text.contains("no handler") && !text.contains("invalid_index_name")
}

/// Which right is missing, by what was tried; the store's own words follow.
fn forbidden(method: &str, path: &str, answer: &Value) -> anyhow::Error {
    let right = match path.split(['/', '?']).nth(1).unwrap_or_default() {
        "_index_template" | "_component_template" => {
            "`manage_index_templates` (Elasticsearch), `cluster_manage_index_templates` (OpenSearch)"
        }
        "_ilm" => "`manage_ilm` (Elasticsearch)",
        "_plugins" => "`cluster:admin/opendistro/ism/policy/*` (OpenSearch)",
        _ => "`monitor` (Elasticsearch), `cluster_monitor` (OpenSearch)",
    };
    let reason = answer["error"]["reason"].as_str().unwrap_or("no reason given");
    Failure::new(Exit::Failed, format!("{method} {path} is forbidden: {reason}"))
        .hint(format!("give this login the cluster privilege {right}, or run `setup` with another"))
        .into()
}
