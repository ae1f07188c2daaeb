//! How long documents are kept, in the way that the store has for it.

use serde_json::{Value, json};

/// The name of the policy, wherever there is one.
pub const POLICY: &str = "logshipd";
/// A new index begins at this size or age, whatever comes first, so that the oldest can be deleted as a whole.
const INDEX_GIGABYTES: u32 = 30;

/// What the store answers to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lifecycle {
    /// Index lifecycle management of Elasticsearch.
    Ilm,
    /// Index state management, a plugin of OpenSearch; a policy that is there is replaced by its number and term.
    Ism(Option<(i64, i64)>),
    /// The data stream lifecycle of Elasticsearch, which needs no policy. How many days.
    Stream(u32),
    /// Nothing: indices grow until somebody rolls them over and deletes them.
    None,
}

impl Lifecycle {
    /// In words.
    pub fn describe(&self) -> &'static str {
        match self {
            Self::Ilm => "index lifecycle management",
            Self::Ism(_) => "index state management",
            Self::Stream(_) => "data stream lifecycle",
            Self::None => "none: delete old indices yourself",
        }
    }

    /// The setting of an index that names the policy.
    pub fn setting(&self) -> Option<(&'static str, &'static str)> {
        (*self == Self::Ilm).then_some(("index.lifecycle.name", POLICY))
    }

    /// What stands in an index template.
    pub fn of_stream(&self) -> Option<Value> {
        match self {
            Self::Stream(days) => Some(json!({"data_retention": format!("{days}d")})),
            _ => None,
        }
    }

    /// The policy to be put: path and content.
    pub fn policy(&self, days: u32) -> Option<(String, Value)> {
        match self {
            Self::Ilm => Some((format!("/_ilm/policy/{POLICY}"), ilm(days))),
            Self::Ism(version) => {
                let version = version.map_or(String::new(), |(number, term)| {
                    format!("?if_seq_no={number}&if_primary_term={term}")
                });
                Some((format!("/_plugins/_ism/policies/{POLICY}{version}"), ism(days)))
            }
            Self::Stream(_) | Self::None => None,
        }
    }
}

/// A new index comes at least thirty times in the time of keeping, and at most daily.
fn index_days(days: u32) -> u32 {
    (days / 30).max(1)
}

fn ilm(days: u32) -> Value {
    let rollover = json!({
        "max_age": format!("{}d", index_days(days)),
        "max_primary_shard_size": format!("{INDEX_GIGABYTES}gb"),
    });
    json!({"policy": {"phases": {
        "hot": {"actions": {"rollover": rollover}},
        "delete": {"min_age": format!("{days}d"), "actions": {"delete": {}}},
    }}})
}

fn ism(days: u32) -> Value {
    let rollover = json!({
        "min_index_age": format!("{}d", index_days(days)),
        "min_primary_shard_size": format!("{INDEX_GIGABYTES}gb"),
    });
    let delete = json!({
        "state_name": "delete",
        "conditions": {"min_rollover_age": format!("{days}d")},
    });
    json!({"policy": {
        "description": "Logs of logshipd: a new index by size or age, deleted when old",
        "default_state": "hot",
        "states": [
            {"name": "hot", "actions": [{"rollover": rollover}], "transitions": [delete]},
            {"name": "delete", "actions": [{"delete": {}}], "transitions": []},
        ],
        // Data streams are matched by their own names, not by those of their indices.
        "ism_template": [{"index_patterns": ["logs-*-*"], "priority": 250}],
    }})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indices_are_never_older_than_a_thirtieth_but_live_a_day() {
        assert_eq!([index_days(7), index_days(30), index_days(365)], [1, 1, 12]);
    }

    #[test]
    fn a_policy_that_is_there_is_replaced_by_its_version() {
        let (path, _) = Lifecycle::Ism(Some((7, 2))).policy(30).unwrap();
        assert_eq!(path, "/_plugins/_ism/policies/logshipd?if_seq_no=7&if_primary_term=2");
        assert_eq!(Lifecycle::Stream(30).policy(30), None);
        assert_eq!(Lifecycle::Ilm.setting().unwrap().1, POLICY);
    }
}
