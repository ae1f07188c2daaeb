//! The search behind a panel, as the dashboards' programs send it: so it can be tried without them.

use serde_json::{Map, Value, json};

use super::panel::{Kind, Metric, Panel, Terms};
use crate::setup::fields;

/// The body of a search that answers what a panel shows.
pub fn search(panel: &Panel) -> Value {
    let filter = match panel.query {
        "" => json!({"match_all": {}}),
        query => json!({"query_string": {"query": query}}),
    };
    let mut search = json!({"query": {"bool": {"filter": [filter]}}, "size": 0});
    if let Kind::Documents(columns) = panel.kind {
        search["size"] = 500.into();
        search["sort"] = json!([{"@timestamp": "desc"}]);
        search["docvalue_fields"] =
            columns.iter().filter(|name| !is_words(name)).copied().collect();
        return search;
    }
    let mut inner = metrics(panel.metrics);
    for split in panel.splits.iter().rev() {
        inner = Map::from_iter([("split".to_owned(), terms(*split, panel.metrics, inner))]);
    }
    if panel.kind.is_over_time() {
        let histogram = json!({"field": "@timestamp", "fixed_interval": "30m", "min_doc_count": 1});
        let mut time = json!({"date_histogram": histogram});
        time["aggs"] = Value::Object(inner);
        inner = Map::from_iter([("time".to_owned(), time)]);
    }
    search["aggs"] = Value::Object(inner);
    search
}

/// Words have no values beside the document itself.
fn is_words(name: &str) -> bool {
    fields::BASE.iter().any(|(field, kind)| *field == name && *kind == fields::Kind::Words)
}

fn terms(split: Terms, counted: &[Metric], inner: Map<String, Value>) -> Value {
    let order = match counted.first() {
        Some(Metric::Sum(_) | Metric::Average(_) | Metric::Max(_) | Metric::Distinct(_)) => {
            "metric-1"
        }
        _ => "_count",
    };
    let terms = json!({"field": split.field, "size": split.size, "order": {order: "desc"}});
    let mut made = json!({"terms": terms});
    // Only the innermost split has the metrics; an outer one is ordered by its own.
    let mut inner = inner;
    if order != "_count" {
        inner.extend(metrics(&counted[..1]));
    }
    made["aggs"] = Value::Object(inner);
    made
}

fn metrics(counted: &[Metric]) -> Map<String, Value> {
    let made = (1..).zip(counted).filter_map(|(number, metric)| {
        let body = match *metric {
            Metric::Count => return None,
            Metric::Sum(field) => json!({"sum": {"field": field}}),
            Metric::Average(field) => json!({"avg": {"field": field}}),
            Metric::Max(field) => json!({"max": {"field": field}}),
            Metric::Distinct(field) => json!({"cardinality": {"field": field}}),
            Metric::Percentiles(field) => {
                json!({"percentiles": {"field": field, "percents": [50, 95, 99]}})
            }
        };
        Some((format!("metric-{number}"), body))
    });
    made.collect()
}

/// How many rows, points or slices a panel shows for an answer to its search. A bucket whose metrics are all empty
/// shows nothing.
pub fn rows(panel: &Panel, answer: &Value) -> usize {
    match panel.kind {
        Kind::Documents(_) => answer["hits"]["hits"].as_array().map_or(0, Vec::len),
        _ => leaves(&answer["aggregations"], answer["hits"]["total"]["value"].as_u64()),
    }
}

fn leaves(level: &Value, documents: Option<u64>) -> usize {
    for name in ["time", "split"] {
        if let Some(buckets) = level[name]["buckets"].as_array() {
            let below = buckets.iter().map(|bucket| leaves(bucket, bucket["doc_count"].as_u64()));
            return below.sum();
        }
    }
    let named = level.as_object().into_iter().flatten();
    let metrics: Vec<&Value> =
        named.filter(|(name, _)| name.starts_with("metric-")).map(|(_, value)| value).collect();
    let has_value = |metric: &Value| {
        metric["value"].is_number()
            || metric["values"]
                .as_object()
                .is_some_and(|values| values.values().any(Value::is_number))
    };
    usize::from(
        documents > Some(0) && (metrics.is_empty() || metrics.iter().copied().all(has_value)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dashboards::panel::Source;

    #[test]
    fn an_empty_metric_is_no_row() {
        let panel = Panel {
            title: "t",
            kind: Kind::Table,
            source: Source::All,
            query: "",
            metrics: &[Metric::Sum("a")],
            splits: &[Terms { field: "b", size: 5 }],
            width: 24,
        };
        let body = search(&panel);
        assert_eq!(body["aggs"]["split"]["terms"]["order"]["metric-1"], "desc");
        let bucket =
            |value: Value| json!({"key": "x", "doc_count": 2, "metric-1": {"value": value}});
        let answer = json!({"aggregations": {"split": {"buckets": [bucket(json!(1)), bucket(Value::Null)]}}});
        assert_eq!(rows(&panel, &answer), 1);
    }
}
