//! Saved objects, one JSON object a line.
//!
//! The form is that of 7.10, which Kibana 8 and 9 bring up to date at import and OpenSearch Dashboards takes as it is:
//! a higher `migrationVersion` than its own is refused by it, and so is an attribute that it does not know.

use serde_json::{Value, json};

use super::panel::{Dashboard, Kind, Metric, Panel, Source, Terms};
use super::set::DASHBOARDS;

const HEIGHT: u32 = 12;
const GRID_WIDTH: u32 = 48;
const LINKS_HEIGHT: u32 = 4;

/// All objects, with a newline after each.
pub fn ndjson() -> String {
    let mut objects: Vec<Value> = Source::ALL.into_iter().map(index_pattern).collect();
    objects.push(links());
    for board in DASHBOARDS {
        for (number, panel) in board.panels.iter().enumerate() {
            objects.push(match panel.kind {
                Kind::Documents(columns) => search(board, number, panel, columns),
                _ => visualization(board, number, panel),
            });
        }
        objects.push(dashboard(board));
    }
    let lines: Vec<String> = objects.iter().map(Value::to_string).collect();
    lines.join("\n") + "\n"
}

fn object(kind: &str, id: &str, attributes: Value, references: Value) -> Value {
    let version = match kind {
        "index-pattern" => "7.6.0",
        "visualization" => "7.10.0",
        _ => "7.9.3",
    };
    json!({"type": kind, "id": id, "attributes": attributes, "references": references,
        "migrationVersion": {kind: version}})
}

/// Durations are shown as such, and what has a dashboard of its own leads there.
fn index_pattern(source: Source) -> Value {
    let link = |board: &str, field: &str| {
        let query = format!("(language:lucene,query:'{field}:%22{{{{value}}}}%22')");
        let template = format!("#/view/{board}?_a=(query:{query})");
        json!({"id": "url", "params": {"urlTemplate": template, "labelTemplate": "{{rawValue}}"}})
    };
    let duration = json!({"id": "duration", "params":
        {"inputFormat": "nanoseconds", "outputFormat": "asMilliseconds", "outputPrecision": 1}});
    let formats = json!({
        "event.duration": duration,
        "http.response.body.bytes": {"id": "bytes"},
        "http.response.bytes": {"id": "bytes"},
        "mysql.slowlog.digest": link("logshipd-mysql", "mysql.slowlog.digest"),
        "haproxy.backend_name": link("logshipd-haproxy", "haproxy.backend_name"),
        "host.name": link("logshipd-cluster", "host.name"),
    });
    let attributes = json!({"title": source.pattern(), "timeFieldName": "@timestamp",
        "fieldFormatMap": formats.to_string()});
    object("index-pattern", &source.id(), attributes, json!([]))
}

fn links() -> Value {
    let all = DASHBOARDS.iter().map(|board| format!("[{}](#/view/{})", board.title, board.id));
    let text = all.collect::<Vec<_>>().join(" | ");
    let state = json!({"title": "Logs: links", "type": "markdown", "aggs": [],
        "params": {"markdown": text, "fontSize": 12, "openLinksInNewTab": false}});
    let meta = json!({"searchSourceJSON": json!({"query": {"query": "", "language": "lucene"},
        "filter": []}).to_string()});
    let attributes = json!({"title": "Logs: links", "description": "", "version": 1,
        "visState": state.to_string(), "uiStateJSON": "{}", "kibanaSavedObjectMeta": meta});
    object("visualization", "logshipd-links", attributes, json!([]))
}

const SOURCE_REFERENCE: &str = "kibanaSavedObjectMeta.searchSourceJSON.index";

fn source(panel: &Panel) -> (Value, Value) {
    let search = json!({"query": {"query": panel.query, "language": "lucene"}, "filter": [],
        "indexRefName": SOURCE_REFERENCE});
    let references =
        json!([{"name": SOURCE_REFERENCE, "type": "index-pattern", "id": panel.source.id()}]);
    (json!({"searchSourceJSON": search.to_string()}), references)
}

fn panel_id(board: &Dashboard, number: usize) -> String {
    format!("{}-{}", board.id, number + 1)
}

fn panel_title(board: &Dashboard, panel: &Panel) -> String {
    format!("{}: {}", board.title, panel.title)
}

fn search(board: &Dashboard, number: usize, panel: &Panel, columns: &[&str]) -> Value {
    let (meta, references) = source(panel);
    let attributes = json!({"title": panel_title(board, panel), "description": "", "hits": 0,
        "columns": columns, "sort": [["@timestamp", "desc"]], "version": 1,
        "kibanaSavedObjectMeta": meta});
    object("search", &panel_id(board, number), attributes, references)
}

fn visualization(board: &Dashboard, number: usize, panel: &Panel) -> Value {
    let (meta, references) = source(panel);
    let title = panel_title(board, panel);
    let state = json!({"title": title, "type": type_name(panel.kind), "aggs": aggregations(panel),
        "params": params(panel)});
    let attributes = json!({"title": title, "description": "", "version": 1,
        "visState": state.to_string(), "uiStateJSON": "{}", "kibanaSavedObjectMeta": meta});
    object("visualization", &panel_id(board, number), attributes, references)
}

fn type_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Line => "line",
        Kind::Area => "area",
        Kind::Columns => "histogram",
        Kind::Pie => "pie",
        Kind::Table | Kind::Documents(_) => "table",
        Kind::Number => "metric",
    }
}

fn aggregations(panel: &Panel) -> Vec<Value> {
    let mut made = Vec::new();
    for metric in panel.metrics {
        let (name, mut params) = match *metric {
            Metric::Count => ("count", json!({})),
            Metric::Sum(field) => ("sum", json!({"field": field})),
            Metric::Average(field) => ("avg", json!({"field": field})),
            Metric::Max(field) => ("max", json!({"field": field})),
            Metric::Distinct(field) => ("cardinality", json!({"field": field})),
            Metric::Percentiles(field) => {
                ("percentiles", json!({"field": field, "percents": [50, 95, 99]}))
            }
        };
        if let Some(field) = metric.field().filter(|_| panel.kind == Kind::Table) {
            params["customLabel"] = format!("{name} {field}").into();
        }
        made.push(aggregation(made.len(), name, "metric", params));
    }
    if panel.kind.is_over_time() {
        let params = json!({"field": "@timestamp", "interval": "auto", "min_doc_count": 1,
            "drop_partials": false, "useNormalizedEsInterval": true, "extended_bounds": {}});
        made.push(aggregation(made.len(), "date_histogram", "segment", params));
    }
    for split in panel.splits {
        let schema = match panel.kind {
            Kind::Table | Kind::Documents(_) => "bucket",
            Kind::Pie => "segment",
            _ => "group",
        };
        made.push(aggregation(made.len(), "terms", schema, terms(*split)));
    }
    made
}

fn terms(split: Terms) -> Value {
    json!({"field": split.field, "size": split.size, "order": "desc", "orderBy": "1",
        "otherBucket": false, "missingBucket": false})
}

fn aggregation(before: usize, name: &str, schema: &str, params: Value) -> Value {
    json!({"id": (before + 1).to_string(), "enabled": true, "type": name, "schema": schema, "params": params})
}

fn params(panel: &Panel) -> Value {
    match panel.kind {
        Kind::Table | Kind::Documents(_) => json!({"perPage": 10, "showPartialRows": false,
            "showMetricsAtAllLevels": false, "showTotal": false, "totalFunc": "sum",
            "sort": {"columnIndex": null, "direction": null}}),
        Kind::Pie => json!({"type": "pie", "addTooltip": true, "addLegend": true,
            "legendPosition": "right", "isDonut": true,
            "labels": {"show": false, "values": true, "last_level": true, "truncate": 100}}),
        Kind::Number => json!({"type": "metric", "addTooltip": true, "addLegend": false,
            "metric": {"percentageMode": false, "useRanges": false, "colorSchema": "Green to Red",
                "metricColorMode": "None", "colorsRange": [{"from": 0, "to": 10000}],
                "labels": {"show": true}, "invertColors": false,
                "style": {"bgFill": "#000", "bgColor": false, "labelColor": false, "subText": "", "fontSize": 36}}}),
        Kind::Line | Kind::Area | Kind::Columns => over_time(panel),
    }
}

fn over_time(panel: &Panel) -> Value {
    let kind = type_name(panel.kind);
    let mode = if panel.kind == Kind::Line { "normal" } else { "stacked" };
    let series: Vec<Value> = (1..=panel.metrics.len())
        .map(|number| {
            json!({"show": true, "type": kind, "mode": mode, "valueAxis": "ValueAxis-1",
                "data": {"id": number.to_string(), "label": panel.title},
                "drawLinesBetweenPoints": true, "showCircles": panel.kind == Kind::Line,
                "interpolate": "linear", "lineWidth": 2})
        })
        .collect();
    json!({"type": kind, "addTooltip": true, "addLegend": true, "legendPosition": "right",
        "addTimeMarker": false, "times": [], "grid": {"categoryLines": false},
        "seriesParams": series,
        "categoryAxes": [{"id": "CategoryAxis-1", "type": "category", "position": "bottom",
            "show": true, "style": {}, "scale": {"type": "linear"},
            "labels": {"show": true, "filter": true, "truncate": 100}, "title": {}}],
        "valueAxes": [{"id": "ValueAxis-1", "name": "LeftAxis-1", "type": "value",
            "position": "left", "show": true, "style": {},
            "scale": {"type": "linear", "mode": "normal"},
            "labels": {"show": true, "rotate": 0, "filter": false, "truncate": 100},
            "title": {"text": panel.title}}]})
}

/// Panels from left to right, a new row where one does not fit; the links stand above.
fn dashboard(board: &Dashboard) -> Value {
    let mut panels = vec![placed(0, 0, 0, GRID_WIDTH, LINKS_HEIGHT)];
    let mut references =
        vec![json!({"name": "panel_0", "type": "visualization", "id": "logshipd-links"})];
    let (mut x, mut y) = (0, LINKS_HEIGHT);
    for (number, panel) in board.panels.iter().enumerate() {
        if x + panel.width > GRID_WIDTH {
            (x, y) = (0, y + HEIGHT);
        }
        panels.push(placed(number + 1, x, y, panel.width, HEIGHT));
        x += panel.width;
        let kind =
            if matches!(panel.kind, Kind::Documents(_)) { "search" } else { "visualization" };
        references.push(json!({"name": format!("panel_{}", number + 1), "type": kind,
            "id": panel_id(board, number)}));
    }
    let search = json!({"query": {"query": "", "language": "lucene"}, "filter": []});
    let attributes = json!({"title": format!("Logs: {}", board.title),
        "description": board.description, "hits": 0, "version": 1, "timeRestore": true,
        "timeFrom": "now-24h", "timeTo": "now",
        "refreshInterval": {"pause": true, "value": 0},
        "optionsJSON": json!({"useMargins": true, "hidePanelTitles": false}).to_string(),
        "panelsJSON": Value::Array(panels).to_string(),
        "kibanaSavedObjectMeta": {"searchSourceJSON": search.to_string()}});
    object("dashboard", board.id, attributes, Value::Array(references))
}

fn placed(number: usize, x: u32, y: u32, width: u32, height: u32) -> Value {
    let index = (number + 1).to_string();
    json!({"version": "7.10.0", "panelIndex": index, "embeddableConfig": {},
        "gridData": {"x": x, "y": y, "w": width, "h": height, "i": index},
        "panelRefName": format!("panel_{number}")})
}
