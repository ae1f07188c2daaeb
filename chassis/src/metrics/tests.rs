//! The text against the format's own rules, and the pages over a real connection.

use std::sync::atomic::AtomicBool;

use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;

#[test]
fn families_are_rendered_with_help_type_and_escapes() {
    let registry = Registry::default();
    let runs =
        registry.counter("runs_total", "Runs that ended.", &[("job", "a"), ("result", "ok")]);
    runs.add(41);
    runs.increment();
    registry.counter("runs_total", "", &[("job", "q\"b\\s\nn"), ("result", "ok")]).increment();
    registry.gauge("last_success_seconds", "When,\\\nin seconds.", &[]).set(1.5e9);
    registry.gauge("age_seconds", "Age.", &[("job", "a")]).set(f64::INFINITY);
    assert_eq!(
        registry.render(),
        r#"# HELP age_seconds Age.
# TYPE age_seconds gauge
age_seconds{job="a"} +Inf
# HELP last_success_seconds When,\\\nin seconds.
# TYPE last_success_seconds gauge
last_success_seconds 1500000000
# HELP runs_total Runs that ended.
# TYPE runs_total counter
runs_total{job="a",result="ok"} 42
runs_total{job="q\"b\\s\nn",result="ok"} 1
"#
    );
}

#[test]
fn the_series_of_a_forgotten_job_are_gone_and_only_those() {
    let registry = Registry::default();
    registry.counter("runs_total", "Runs.", &[("job", "a"), ("result", "ok")]).increment();
    registry.counter("runs_total", "Runs.", &[("result", "ok"), ("job", "a")]).increment();
    registry.counter("runs_total", "Runs.", &[("job", "aa"), ("result", "ok")]).increment();
    registry.gauge("size_bytes", "Size.", &[("job", "a")]).set(1.0);
    registry.forget("job", "a");
    let text = registry.render();
    assert!(!text.contains("job=\"a\"") && text.contains("job=\"aa\""), "{text}");
}

#[test]
fn a_family_does_not_grow_without_bound() {
    let registry = Registry::default();
    for n in 0..SERIES_MAX + 10 {
        registry.counter("lines_total", "Lines.", &[("path", &n.to_string())]).increment();
    }
    assert_eq!(registry.render().lines().count(), SERIES_MAX + 2);
    registry.counter("lines_total", "Lines.", &[("path", "7")]).increment();
    assert!(registry.render().contains("lines_total{path=\"7\"} 2\n"));
}

#[test]
#[should_panic(expected = "both a counter and a gauge")]
fn a_name_of_two_kinds_is_a_bug() {
    let registry = Registry::default();
    registry.counter("runs", "Runs.", &[]);
    registry.gauge("runs", "Runs.", &[]);
}

#[test]
fn only_loopback_is_served_unless_allowed() {
    let local: SocketAddr = "127.0.0.1:9401".parse().unwrap();
    let remote: SocketAddr = "0.0.0.0:9401".parse().unwrap();
    assert!(check_loopback(local, false).is_ok());
    assert!(check_loopback("[::1]:1".parse().unwrap(), false).is_ok());
    assert_eq!(check_loopback(remote, false).unwrap_err().exit, Exit::Usage);
    assert!(check_loopback(remote, true).is_ok());
}

async fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn both_pages_are_served_until_stopped() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let registry = Registry::default();
    registry.counter("runs_total", "Runs.", &[]).increment();
    let healthy = Arc::new(AtomicBool::new(true));
    let health = {
        let healthy = healthy.clone();
        move || if healthy.load(Relaxed) { vec![] } else { vec!["depot is full".to_owned()] }
    };
    let stop = CancellationToken::new();
    let server = tokio::spawn(serve(listener, registry, health, stop.clone()));

    let answer = get(address, "/metrics").await;
    assert!(answer.contains("content-type: text/plain; version=0.0.4"), "{answer}");
    assert!(answer.ends_with("runs_total 1\n"), "{answer}");
    let answer = get(address, "/healthz").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    healthy.store(false, Relaxed);
    let answer = get(address, "/healthz").await;
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    assert!(answer.ends_with(r#"{"reasons":["depot is full"],"status":"failing"}"#), "{answer}");

    stop.cancel();
    server.await.unwrap().unwrap();
    assert!(TcpStream::connect(address).await.is_err());
}

/// Undoes the escapes of a label value, as a scraper does.
fn unescaped(text: &str) -> String {
    let mut chars = text.chars();
    let mut value = String::new();
    while let Some(c) = chars.next() {
        match c {
            '\\' if chars.as_str().starts_with('n') => {
                chars.next();
                value.push('\n');
            }
            '\\' => value.extend(chars.next()),
            c => value.push(c),
        }
    }
    value
}

proptest! {
    #[test]
    fn any_label_value_is_one_line_and_read_back(value: String) {
        let text = rendered("job", &value);
        prop_assert!(!text.contains('\n'));
        let inner = text.strip_prefix("job=\"").and_then(|text| text.strip_suffix('"')).unwrap();
        prop_assert_eq!(unescaped(inner), value);
    }
}
