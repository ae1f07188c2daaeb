//! The stores of the tests themselves: both start, secured ones know their users, and data outlive a restart.

use tests::servers::search_store::{ENGINES, Engine, Options, SearchStore, Secured};

const LINES: &str = "{\"create\":{\"_id\":\"a\"}}\n{\"@timestamp\":\"2026-11-28T00:00:00Z\",\"message\":\"one\"}\n\
                     {\"create\":{\"_id\":\"b\"}}\n{\"@timestamp\":\"2026-11-28T00:00:01Z\",\"message\":\"two\"}\n";

fn add_template(store: &SearchStore, name: &str) {
    let template = format!(
        r#"{{"index_patterns":["{name}-*"],"data_stream":{{}},"priority":300,
            "template":{{"settings":{{"number_of_replicas":0}}}}}}"#
    );
    store.ask("PUT", &format!("/_index_template/{name}"), &template).unwrap();
}

#[test]
fn what_is_created_twice_is_there_once() {
    for engine in ENGINES {
        let store = SearchStore::shared(engine, Secured::No).unwrap();
        add_template(store, "twice");
        let first = store.ask("POST", "/twice-x/_bulk", LINES).unwrap();
        assert_eq!(first["errors"], false, "{engine:?}: {first}");
        let again = store.ask("POST", "/twice-x/_bulk", LINES).unwrap();
        assert_eq!(again["items"][0]["create"]["status"], 409, "{engine:?}: {again}");
        assert_eq!(store.count("twice-x").unwrap(), 2, "{engine:?}");
    }
}

#[test]
fn a_secured_store_lets_a_shipper_ship_and_no_more() {
    for engine in ENGINES {
        let store = SearchStore::shared(engine, Secured::Yes).unwrap();
        add_template(store, "logs-rights");
        let (status, answer) = store.shipper("POST", "/logs-rights-x/_bulk", LINES).unwrap();
        assert_eq!((status, &answer["errors"]), (200, &false.into()), "{engine:?}: {answer}");
        let (status, answer) = store.shipper("GET", "/_cluster/health", "").unwrap();
        assert_eq!(status, 200, "{engine:?}: {answer}");
        let (status, answer) = store.shipper("PUT", "/_index_template/mine", "{}").unwrap();
        assert!([400, 403].contains(&status), "{engine:?}: {answer}");
        let (_, answer) = store.shipper("POST", "/other-x/_bulk", LINES).unwrap();
        assert_eq!(answer["items"][0]["create"]["status"], 403, "{engine:?}: {answer}");
        let (status, _) = store.anonymous("GET", "/_cluster/health").unwrap();
        assert_eq!(status, 401, "{engine:?}");
    }
}

#[test]
fn a_store_that_wants_a_certificate_gets_one() {
    for engine in ENGINES {
        let options = Options { secured: Secured::WithClientCertificate, ..Options::default() };
        let store = SearchStore::start(engine, options).unwrap();
        assert_eq!(store.request("GET", "/_cluster/health", "").unwrap().0, 200);
        assert!(store.without_certificate("GET", "/_cluster/health").is_err(), "{engine:?}");
    }
}

#[test]
fn data_outlive_a_restart() {
    let settings = vec!["http.max_content_length=100kb".to_owned()];
    let options = Options { settings, ..Options::default() };
    let mut store = SearchStore::start(Engine::OpenSearch, options).unwrap();
    add_template(&store, "kept");
    store.ask("POST", "/kept-x/_bulk", LINES).unwrap();
    store.stop();
    assert!(store.request("GET", "/_cluster/health", "").is_err());
    store.start_again().unwrap();
    assert_eq!(store.count("kept-x").unwrap(), 2);
    let (status, _) = store.request("POST", "/kept-x/_bulk", &LINES.repeat(1000)).unwrap();
    assert_eq!(status, 413);
}
