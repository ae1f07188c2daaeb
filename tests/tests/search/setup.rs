//! `logshipd::setup` against both stores: what it installs, that it is safe to repeat, and what it says without rights.

use logshipd::setup::datasets::DATASETS;
use logshipd::setup::{Action, Answer, Options, Plan, Store, plan, run};
use serde_json::{Value, json};
use tests::servers::search_store::{ENGINES, Engine, SearchStore, Secured};

/// Sends a request to a test's store, as its administrator or as its shipper.
#[expect(clippy::type_complexity, reason = "a closure has no name to give")]
pub fn reach(
    store: &SearchStore,
    is_shipper: bool,
) -> Store<impl Fn(&str, &str, Option<&[u8]>) -> anyhow::Result<Answer>> {
    Store::new(move |method: &str, path: &str, body: Option<&[u8]>| {
        let body = std::str::from_utf8(body.unwrap_or_default())?;
        let (status, answer) = if is_shipper {
            store.shipper(method, path, body)?
        } else {
            store.request(method, path, body)?
        };
        Ok((status, serde_json::to_vec(&answer)?))
    })
}

fn actions(plan: &Plan) -> Vec<Action> {
    plan.steps.iter().map(|step| step.action).collect()
}

#[test]
fn a_store_is_made_ready_once_and_documents_fit() {
    for engine in ENGINES {
        // Nobody else installs templates of these names there.
        let store = SearchStore::shared(engine, Secured::Yes).unwrap();
        let reached = reach(store, false);
        let dry =
            run(&reached, &Options { dry_run: true, ..Options::default() }, |_| Ok(())).unwrap();
        assert!(actions(&dry).iter().all(|action| *action == Action::Create), "{dry}");
        let again = plan(&reached, &Options::default()).unwrap();
        assert!(actions(&again).contains(&Action::Create), "a dry run does nothing: {again}");
        let mut shown = String::new();
        run(&reached, &Options::default(), |plan| {
            shown = plan.to_string();
            Ok(())
        })
        .unwrap();
        assert!(shown.contains("create"), "{shown}");
        let kept = plan(&reached, &Options::default()).unwrap();
        assert!(actions(&kept).iter().all(|action| *action == Action::Keep), "{engine:?}: {kept}");
        let version =
            if engine == Engine::OpenSearch { "OpenSearch 2.19" } else { "Elasticsearch 8.19" };
        assert!(shown.contains(version), "{shown}");
        for dataset in DATASETS {
            ship(store, dataset.name);
        }
        respect_others(store);
    }
}

/// Indexes a document as the shipper, with a field that no mapping has, and finds it by a field that one has.
fn ship(store: &SearchStore, dataset: &str) {
    let document = json!({"@timestamp": "2026-11-28T01:02:03.123456789Z", "message": "to be found",
        "source.ip": "not an address", "nobody.knows": {"this": [1, "two"]}, "host.name": "web1"});
    let body = format!("{{\"create\":{{}}}}\n{document}\n");
    let index = format!("logs-{dataset}-setup");
    let path = format!("/{index}/_bulk?refresh=true");
    let (_, answer) = store.shipper("POST", &path, &body).unwrap();
    assert_eq!(answer["errors"], false, "{index}: {answer}");
    let query = json!({"query": {"bool": {"filter": [
        {"term": {"host.name": "web1"}}, {"match": {"message": "found"}}]}}});
    let found = store.ask("POST", &format!("/{index}/_search"), &query.to_string()).unwrap();
    assert_eq!(found["hits"]["total"]["value"], 1, "{index}: {found}");
    let mapping = store.ask("GET", &format!("/{index}/_mapping"), "").unwrap();
    assert!(!mapping.to_string().contains("nobody"), "the mapping has grown: {mapping}");
    if store.engine() == Engine::OpenSearch {
        let query = json!({"query": {"term": {"event.dataset": dataset}}});
        let found = store.ask("POST", &format!("/{index}/_search"), &query.to_string()).unwrap();
        assert_eq!(found["hits"]["total"]["value"], 1, "the template says what it is: {found}");
    }
}

/// A template of one of our names that somebody else made is not touched, unless that is asked for.
fn respect_others(store: &SearchStore) {
    let path = "/_component_template/logshipd-services";
    store.ask("PUT", path, r#"{"template":{},"_meta":{"managed_by":"somebody"}}"#).unwrap();
    let error = plan(&reach(store, false), &Options::default()).unwrap_err();
    assert!(format!("{error:#}").contains("was not made by logshipd"), "{error:#}");
    let forced =
        plan(&reach(store, false), &Options { force: true, ..Options::default() }).unwrap();
    let replaced = forced.steps.iter().filter(|step| step.action == Action::Replace);
    assert_eq!(replaced.map(|step| step.path.as_str()).collect::<Vec<_>>(), [path]);
}

#[test]
fn a_missing_right_is_named() {
    for engine in ENGINES {
        let store = SearchStore::shared(engine, Secured::Yes).unwrap();
        let error = run(&reach(store, true), &Options::default(), |_| Ok(())).unwrap_err();
        let said = format!("{error:#}");
        assert!(said.contains("is forbidden"), "{engine:?}: {said}");
        let hint = chassis::failure::hint_of(&error).unwrap_or_default();
        assert!(hint.contains("cluster privilege"), "{engine:?}: {said}: {hint}");
    }
}

#[test]
fn what_is_no_store_is_told_so() {
    let nothing = Store::new(|_: &str, _: &str, _: Option<&[u8]>| {
        Ok((404, Value::Null.to_string().into_bytes()))
    });
    let error = plan(&nothing, &Options::default()).unwrap_err();
    assert!(format!("{error:#}").contains("no search store"), "{error:#}");
}
