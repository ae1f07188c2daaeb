//! The proxy in front of real stores: what it says is there is there, what it refuses is not, and a client that asks
//! again until everything is acknowledged ends with everything once.

use std::io::Write;
use std::time::{Duration, Instant};

use serde_json::Value;
use tests::servers::search_store::{ENGINES, Engine, SearchStore, Secured};
use tests::servers::store_proxy::{Plan, StoreProxy, TRICKS, Trick};

const SEED: u64 = 2503;

fn agent() -> ureq::Agent {
    let config = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(Duration::from_secs(10)));
    config.build().new_agent()
}

fn body(ids: &[u64]) -> Vec<u8> {
    let line = |id| format!("{{\"create\":{{\"_id\":\"{id}\"}}}}\n{{\"message\":\"{id}\"}}\n");
    ids.iter().flat_map(|id| line(id).into_bytes()).collect()
}

/// Status and answer, or nothing if the answer did not come whole.
fn send(agent: &ureq::Agent, url: &str, ids: &[u64]) -> Option<(u16, Value)> {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(&body(ids)).unwrap();
    let request = agent
        .post(url)
        .header("content-type", "application/x-ndjson")
        .header("content-encoding", "gzip");
    let mut response = request.send(&packed.finish().unwrap()[..]).ok()?;
    let text = response.body_mut().read_to_string().ok()?;
    Some((response.status().as_u16(), serde_json::from_str(&text).ok()?))
}

fn store_with_proxy(engine: Engine, plan: Plan) -> (&'static SearchStore, StoreProxy) {
    let store = SearchStore::shared(engine, Secured::No).unwrap();
    let proxy = StoreProxy::start(store.address(), plan).unwrap();
    (store, proxy)
}

fn count(store: &SearchStore, index: &str) -> u64 {
    match store.request("POST", &format!("/{index}/_refresh"), "").unwrap().0 {
        404 => 0,
        _ => store.count(index).unwrap(),
    }
}

#[test]
fn every_trick_does_what_it_says() {
    for engine in ENGINES {
        for trick in TRICKS {
            let (store, proxy) = store_with_proxy(engine, Plan::always(trick, SEED));
            let index = format!("trick-{}", format!("{trick:?}").to_lowercase());
            let url = format!("{}/{index}/_bulk", proxy.url());
            let ids: Vec<u64> = (0..40).collect();
            let answer = send(&agent(), &url, &ids);
            let stored = count(store, &index);
            let told = format!("{engine:?} {trick:?}: {stored} stored, {answer:?}");
            let status = answer.as_ref().map(|(status, _)| *status);
            match trick {
                Trick::Busy => assert!(status == Some(429) && stored == 0, "{told}"),
                Trick::Failing => assert!(status >= Some(500) && stored == 0, "{told}"),
                Trick::TooLarge => assert!(status == Some(413) && stored == 0, "{told}"),
                Trick::Dropped => assert!(status.is_none() && stored == 0, "{told}"),
                Trick::CutAnswer | Trick::Silent => {
                    assert!(status.is_none() && stored == 40, "{told}");
                }
                Trick::Partial => {
                    let (status, answer) = answer.as_ref().unwrap();
                    let items = answer["items"].as_array().unwrap();
                    let is = |(id, item): (usize, &Value)| {
                        let found = item["create"]["_id"].as_str();
                        found.and_then(|found| found.parse().ok()) == Some(id)
                    };
                    assert!(items.len() == 40 && items.iter().enumerate().all(is), "{told}");
                    let done = items.iter().filter(|item| item["create"]["status"] == 201).count();
                    assert!((1..40).contains(&done), "{told}");
                    assert_eq!((*status, done as u64), (200, stored), "{told}");
                    assert_eq!(answer["errors"], true);
                }
                Trick::Honest => unreachable!("it is none of the tricks"),
            }
            assert_eq!(proxy.counts().bulks.into_iter().collect::<Vec<_>>(), [(trick, 1)]);
        }
    }
}

/// Sends until everything is acknowledged, as a shipper must; returns how many requests that took.
fn ship(agent: &ureq::Agent, url: &str, mut ids: Vec<u64>) -> u64 {
    let mut size = 64;
    for requests in 1.. {
        let (batch, later) = ids.split_at(size.min(ids.len()));
        let mut again = Vec::new();
        match send(agent, url, batch) {
            Some((200, answer)) => {
                let items = answer["items"].as_array().unwrap();
                assert_eq!(items.len(), batch.len());
                for (id, item) in batch.iter().zip(items) {
                    assert_eq!(item["create"]["_id"], id.to_string());
                    if ![201, 409].contains(&item["create"]["status"].as_u64().unwrap()) {
                        again.push(*id);
                    }
                }
            }
            Some((413, _)) => {
                size = (size / 2).max(1);
                again.extend(batch);
            }
            _ => again.extend(batch),
        }
        again.extend(later);
        if again.is_empty() {
            return requests;
        }
        ids = again;
    }
    unreachable!("the loop has no end of its own")
}

#[test]
fn a_patient_client_ends_with_everything_once_and_a_seed_gives_the_same_run() {
    let (store, proxy) = store_with_proxy(Engine::OpenSearch, Plan::mixed(SEED, 500));
    let mut runs = Vec::new();
    for index in ["patient-1", "patient-2"] {
        proxy.follow(Plan::mixed(SEED, 500));
        let before = proxy.counts();
        let url = format!("{}/{index}/_bulk", proxy.url());
        let requests = ship(&agent(), &url, (0..1500).collect());
        assert_eq!(count(store, index), 1500);
        let after = proxy.counts();
        assert!(after.bulks.len() >= 6, "{after:?}");
        runs.push((
            requests,
            after.items - before.items,
            after.refused_items - before.refused_items,
        ));
    }
    assert_eq!(runs[0], runs[1], "seed {SEED}");
    assert_eq!(proxy.counts().malformed, 0);
}

#[test]
fn a_store_that_is_down_answers_nobody_and_then_everybody() {
    let (store, proxy) = store_with_proxy(Engine::OpenSearch, Plan::honest());
    let url = format!("{}/down/_bulk", proxy.url());
    let agent = agent();
    assert_eq!(send(&agent, &url, &[1]).unwrap().0, 200);
    proxy.set_down(true);
    assert!(send(&agent, &url, &[2]).is_none());
    proxy.set_down(false);
    assert_eq!(send(&agent, &url, &[3]).unwrap().0, 200);
    assert_eq!(count(store, "down"), 2);
    let started = Instant::now();
    drop(proxy);
    assert!(started.elapsed() < Duration::from_secs(2));
    assert!(send(&agent, &url, &[4]).is_none());
}
