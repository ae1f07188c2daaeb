//! Every panel of every dashboard, asked of both stores over documents that the parsers made of real servers' lines.

use std::fs;
use std::path::Path;

use chrono_tz::Tz;
use logshipd::dashboards::query::{rows, search};
use logshipd::dashboards::set::DASHBOARDS;
use logshipd::document::Document;
use logshipd::parse::{Context, Format, Joint, Privacy};
use logshipd::setup::{Options, run};
use serde_json::{Value, json};
use tests::servers::search_store::{ENGINES, SearchStore, Secured};

use crate::setup::reach;

/// The lines, and the host that they are from.
const LOGS: [(&str, &str); 5] = [
    ("nginx-access.log", "web1"),
    ("nginx-error.log", "web1"),
    ("haproxy.log", "lb1"),
    ("mysql-slow.log", "db1"),
    ("mysql-error.log", "db2"),
];

fn format(file: &str) -> Format {
    match file {
        "nginx-access.log" => {
            let escape = logshipd::parse::nginx::Escape::Default;
            let compiled = logshipd::parse::nginx::AccessFormat::compile(TIMED, escape).unwrap();
            Format::NginxAccess(std::sync::Arc::new(compiled))
        }
        "nginx-error.log" => Format::NginxError,
        "haproxy.log" => Format::haproxy(),
        "mysql-slow.log" => Format::MysqlSlow,
        _ => Format::MysqlError,
    }
}

/// As the server that wrote the lines was configured.
const TIMED: &str = "$remote_addr - $remote_user [$time_local] \"$request\" $status $body_bytes_sent \
    \"$http_referer\" \"$http_user_agent\" rt=$request_time uct=\"$upstream_connect_time\" \
    uht=\"$upstream_header_time\" urt=\"$upstream_response_time\" ua=\"$upstream_addr\" \
    us=\"$upstream_status\" cs=$upstream_cache_status rid=$request_id";

/// The entries of a log.
fn entries(format: &Format, text: &[u8]) -> Vec<Vec<u8>> {
    let mut entries: Vec<Vec<u8>> = Vec::new();
    let mut is_open = false;
    for line in text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let open: &[u8] = if is_open { entries.last().map_or(&[], Vec::as_slice) } else { &[] };
        match format.joint(line, open) {
            Joint::Continue if is_open => {
                let entry = entries.last_mut().unwrap();
                entry.push(b'\n');
                entry.extend_from_slice(line);
            }
            joint => {
                entries.push(line.to_owned());
                is_open = joint != Joint::Whole;
            }
        }
    }
    entries
}

/// Ships a log as the shipper would: what is not understood as its text, with the reason.
fn ship(store: &SearchStore, file: &str, host: &str) -> usize {
    let format = format(file);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("lines").join(file);
    let entries = entries(&format, &fs::read(path).unwrap());
    let context =
        Context { read_at: 1_795_900_000_000_000_000, zone: Tz::UTC, privacy: Privacy::default() };
    let mut body = String::new();
    let mut understood = 0;
    for (number, entry) in entries.iter().enumerate() {
        let mut document = Document::default();
        match format.parse(entry, &context, &mut document) {
            Ok(_) => understood += 1,
            Err(error) => {
                document.at(context.read_at);
                document.text("message", entry);
                document.text("error.message", error.0.as_bytes());
            }
        }
        document.word("host.name", host);
        document.word("log.file.path", file);
        document.long("log.offset", number as i64);
        let text = String::from_utf8(document.finish().to_vec()).unwrap();
        body.push_str("{\"create\":{}}\n");
        body.push_str(text.trim_end());
        body.push('\n');
    }
    let dataset = format.dataset().as_str();
    let path = format!("/logs-{dataset}-dashboards/_bulk?refresh=true");
    let answer = store.ask("POST", &path, &body).unwrap();
    let refused =
        answer["items"].as_array().unwrap().iter().find(|item| item["create"]["status"] != 201);
    assert_eq!(refused, None, "{file}");
    understood
}

#[test]
fn every_panel_shows_something() {
    let mut empty = Vec::new();
    for engine in ENGINES {
        let store = SearchStore::shared(engine, Secured::No).unwrap();
        run(&reach(store, false), &Options { force: true, ..Options::default() }, |_| Ok(()))
            .unwrap();
        for (file, host) in LOGS {
            assert!(ship(store, file, host) > 20, "{file}: too little was understood");
        }
        for board in DASHBOARDS {
            for panel in board.panels {
                let pattern = panel.source.pattern().replace("-*", "-dashboards");
                let pattern = pattern.replace("logs-dashboards-dashboards", "logs-*-dashboards");
                let body = search(panel);
                let answer =
                    store.ask("POST", &format!("/{pattern}/_search"), &body.to_string()).unwrap();
                if rows(panel, &answer) == 0 {
                    empty.push(format!("{engine:?}: {}: {}: {body}", board.title, panel.title));
                }
            }
        }
    }
    assert!(empty.is_empty(), "nothing in:\n{}", empty.join("\n"));
}

/// What 7.10 and its heirs know of each kind of object, and the newest version of it.
const KNOWN: [(&str, &str, &[&str]); 4] = [
    ("index-pattern", "7.6.0", &["title", "timeFieldName", "fieldFormatMap"]),
    (
        "visualization",
        "7.10.0",
        &["title", "description", "version", "kibanaSavedObjectMeta", "uiStateJSON", "visState"],
    ),
    (
        "search",
        "7.9.3",
        &["title", "description", "hits", "columns", "sort", "version", "kibanaSavedObjectMeta"],
    ),
    (
        "dashboard",
        "7.9.3",
        &[
            "title",
            "description",
            "hits",
            "kibanaSavedObjectMeta",
            "optionsJSON",
            "panelsJSON",
            "refreshInterval",
            "timeFrom",
            "timeRestore",
            "timeTo",
            "version",
        ],
    ),
];

/// Text within JSON that is JSON itself.
fn inner(value: &Value) -> Value {
    value.as_str().map_or(Value::Null, |text| serde_json::from_str(text).unwrap())
}

#[test]
fn saved_objects_are_such_as_both_programs_import() {
    let text = logshipd::dashboards::ndjson();
    let objects: Vec<Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let name = |object: &Value| format!("{}:{}", object["type"], object["id"]);
    let mut names: Vec<String> = objects.iter().map(name).collect();
    names.sort();
    let count = names.len();
    names.dedup();
    assert_eq!(names.len(), count, "a name stands twice");
    for object in &objects {
        let kind = object["type"].as_str().unwrap();
        let (_, version, attributes) = KNOWN.iter().find(|(known, _, _)| *known == kind).unwrap();
        assert_eq!(object["migrationVersion"], json!({kind: version}), "{object}");
        for unknown in ["coreMigrationVersion", "typeMigrationVersion", "managed", "namespaces"] {
            assert!(object.get(unknown).is_none(), "{object}");
        }
        for attribute in object["attributes"].as_object().unwrap().keys() {
            assert!(attributes.contains(&attribute.as_str()), "{kind}: {attribute}");
        }
        for reference in object["references"].as_array().unwrap() {
            assert!(names.contains(&name(reference)), "{reference} is not in the file");
        }
        check_references(object);
    }
}

/// Each reference is used, and what is used is a reference.
fn check_references(object: &Value) {
    let attributes = &object["attributes"];
    let source = inner(&attributes["kibanaSavedObjectMeta"]["searchSourceJSON"]);
    assert!(source.get("index").is_none(), "{object}");
    let mut used: Vec<Value> = source.get("indexRefName").cloned().into_iter().collect();
    if object["type"] == "dashboard" {
        let mut taken = Vec::new();
        for panel in inner(&attributes["panelsJSON"]).as_array().unwrap() {
            used.push(panel["panelRefName"].clone());
            let grid = |key: &str| panel["gridData"][key].as_u64().unwrap();
            assert!(grid("x") + grid("w") <= 48, "wider than the grid: {panel}");
            assert_eq!(panel["gridData"]["i"], panel["panelIndex"]);
            taken.push((grid("x"), grid("y")));
        }
        let places = taken.len();
        taken.sort_unstable();
        taken.dedup();
        assert_eq!(taken.len(), places, "two panels at one place");
    }
    let state = inner(&attributes["visState"]);
    let ids: Vec<&Value> =
        state["aggs"].as_array().into_iter().flatten().map(|agg| &agg["id"]).collect();
    let is =
        |(number, id): (usize, &&Value)| id.as_str().and_then(|id| id.parse().ok()) == Some(number);
    assert!((1..).zip(&ids).all(is), "{state}");
    let references = object["references"].as_array().unwrap();
    let named: Vec<&Value> = references.iter().map(|reference| &reference["name"]).collect();
    assert_eq!(used.iter().collect::<Vec<_>>(), named, "{object}");
}
