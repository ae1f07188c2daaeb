//! Numbers for Prometheus: counters and gauges with labels, and the two pages that show them.
//!
//! The text is the exposition format 0.0.4 of Prometheus. (The `prometheus-client` crate writes
//! OpenMetrics instead, which not every scraper takes.) Names are ours and checked by assertion;
//! label values may be any text and are escaped. A family has at most [`SERIES_MAX`] series: more
//! are counted but not shown, so that a careless label cannot eat the memory.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};
use axum::http::{StatusCode, header::CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::failure::{Exit, Failure};

/// No family has more combinations of label values than this.
pub const SERIES_MAX: usize = 4096;

/// All numbers of a program. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Registry {
    families: Arc<Mutex<BTreeMap<&'static str, Family>>>,
}

#[derive(Debug)]
struct Family {
    kind: Kind,
    help: &'static str,
    /// By rendered pairs of labels. A counter holds the number, a gauge the bits of its `f64`.
    series: BTreeMap<Vec<String>, Arc<AtomicU64>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Counter,
    Gauge,
}

/// A number that only grows, by one or more.
#[derive(Clone, Debug)]
pub struct Counter(Arc<AtomicU64>);

impl Counter {
    /// Adds.
    pub fn add(&self, amount: u64) {
        self.0.fetch_add(amount, Relaxed);
    }

    /// Adds one.
    pub fn increment(&self) {
        self.add(1);
    }

    /// What has been counted.
    pub fn value(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A number that is set.
#[derive(Clone, Debug)]
pub struct Gauge(Arc<AtomicU64>);

impl Gauge {
    /// Sets it. Times are seconds since 1970.
    pub fn set(&self, value: f64) {
        self.0.store(value.to_bits(), Relaxed);
    }

    /// What was set last; zero before.
    pub fn value(&self) -> f64 {
        f64::from_bits(self.0.load(Relaxed))
    }
}

impl Registry {
    /// The counter of that name and those labels; the same one every time. By custom the name ends
    /// in `_total`.
    pub fn counter(
        &self,
        name: &'static str,
        help: &'static str,
        labels: &[(&str, &str)],
    ) -> Counter {
        Counter(self.series(Kind::Counter, name, help, labels))
    }

    /// The gauge of that name and those labels; the same one every time. By custom the name ends in
    /// its unit.
    pub fn gauge(&self, name: &'static str, help: &'static str, labels: &[(&str, &str)]) -> Gauge {
        Gauge(self.series(Kind::Gauge, name, help, labels))
    }

    /// Forgets every series with that label, in all families: of a job that is no longer
    /// configured.
    pub fn forget(&self, label: &str, value: &str) {
        let pair = rendered(label, value);
        for family in self.lock().values_mut() {
            family.series.retain(|pairs, _| !pairs.contains(&pair));
        }
    }

    /// All families as text, sorted by name and labels.
    pub fn render(&self) -> String {
        let mut text = String::new();
        for (name, family) in self.lock().iter() {
            family.render(name, &mut text);
        }
        text
    }

    fn series(
        &self,
        kind: Kind,
        name: &'static str,
        help: &'static str,
        labels: &[(&str, &str)],
    ) -> Arc<AtomicU64> {
        assert!(is_name(name), "`{name}` is not a name of a metric");
        let pairs: Vec<_> = labels.iter().map(|(name, value)| rendered(name, value)).collect();
        let mut families = self.lock();
        let family =
            families.entry(name).or_insert_with(|| Family { kind, help, series: BTreeMap::new() });
        assert_eq!(family.kind, kind, "`{name}` is both a counter and a gauge");
        if family.series.len() >= SERIES_MAX && !family.series.contains_key(&pairs) {
            return Arc::default();
        }
        family.series.entry(pairs).or_default().clone()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, Family>> {
        self.families.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Family {
    fn render(&self, name: &str, text: &mut String) {
        if self.series.is_empty() {
            return;
        }
        let kind = match self.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
        };
        let help = self.help.replace('\\', "\\\\").replace('\n', "\\n");
        let mut line = |line: std::fmt::Arguments<'_>| {
            text.write_fmt(line).expect("a string takes any text");
        };
        line(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
        for (pairs, value) in &self.series {
            let bits = value.load(Relaxed);
            let value = match self.kind {
                Kind::Counter => bits.to_string(),
                Kind::Gauge => shown(f64::from_bits(bits)),
            };
            match pairs.join(",").as_str() {
                "" => line(format_args!("{name} {value}\n")),
                labels => line(format_args!("{name}{{{labels}}} {value}\n")),
            }
        }
    }
}

/// The format spells the infinities in its own way.
fn shown(value: f64) -> String {
    match value {
        f64::INFINITY => "+Inf".to_owned(),
        f64::NEG_INFINITY => "-Inf".to_owned(),
        value => value.to_string(),
    }
}

fn rendered(name: &str, value: &str) -> String {
    assert!(is_name(name) && !name.contains(':'), "`{name}` is not a name of a label");
    let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    format!("{name}=\"{value}\"")
}

fn is_name(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b':')
        && name.starts_with(|first: char| !first.is_ascii_digit())
}

/// Refuses an address that other hosts reach, unless that is wanted: the pages have no password.
pub fn check_loopback(address: SocketAddr, is_remote_allowed: bool) -> Result<(), Failure> {
    if address.ip().is_loopback() || is_remote_allowed {
        return Ok(());
    }
    let message = format!("{address} can be reached by other hosts");
    let hint = "listen on 127.0.0.1, or allow remote access to the metrics in the configuration";
    Err(Failure::new(Exit::Usage, message).hint(hint))
}

/// Serves `GET /metrics` and `GET /healthz` until `stop`. `health` returns what is wrong: nothing
/// gives status 200, anything 503 with the reasons as JSON.
pub async fn serve(
    listener: TcpListener,
    registry: Registry,
    health: impl Fn() -> Vec<String> + Clone + Send + Sync + 'static,
    stop: CancellationToken,
) -> Result<()> {
    let metrics = || async move {
        ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], registry.render())
    };
    let router = Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(async move || health_page(health())));
    axum::serve(listener, router)
        .with_graceful_shutdown(stop.cancelled_owned())
        .await
        .context("serve metrics")
}

fn health_page(reasons: Vec<String>) -> Response {
    if reasons.is_empty() {
        return Json(serde_json::json!({"status": "ok"})).into_response();
    }
    let body = Json(serde_json::json!({"status": "failing", "reasons": reasons}));
    (StatusCode::SERVICE_UNAVAILABLE, body).into_response()
}

#[cfg(test)]
mod tests;
