//! HTTP to the nodes of a search store: several endpoints with their health, TLS, logins, a proxy.
//!
//! A request goes to the next node that is not known to be down. Blocking, one connection a thread that sends.

use std::path::Path;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chassis::config::{Secret, read_secret};
use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig, parse_pem};

use crate::config::Store;

/// No answer is longer: a bulk of 65535 documents that all fail stays below.
pub const ANSWER_BYTES_MAX: u64 = 64 << 20;
const CONNECT_TIME_MAX: Duration = Duration::from_secs(10);
/// A node that did not answer is left alone for this long, then twice as long each time.
const REST: Duration = Duration::from_secs(1);
const REST_MAX: Duration = Duration::from_mins(1);

/// What came back: a status, and the body.
pub type Answer = (u16, Vec<u8>);

/// The store, ready to be asked.
#[derive(Debug)]
pub struct Client {
    agent: ureq::Agent,
    nodes: Mutex<Nodes>,
    login: Option<Secret>,
}

#[derive(Debug)]
struct Nodes {
    all: Vec<Node>,
    next: usize,
}

#[derive(Clone, Debug)]
struct Node {
    url: String,
    failures: u32,
    rests_until: Option<Instant>,
}

impl Client {
    /// Reads secrets and certificates; connects to nothing yet.
    pub fn new(store: &Store) -> Result<Self> {
        let proxy =
            store.proxy.as_deref().map(ureq::Proxy::new).transpose().context("read `proxy`")?;
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(store.timeout.0))
            .timeout_connect(Some(CONNECT_TIME_MAX))
            .max_redirects(0)
            .user_agent(concat!("logshipd/", env!("CARGO_PKG_VERSION")))
            .tls_config(tls(store)?)
            .proxy(proxy)
            .build()
            .new_agent();
        let all = store.urls.iter().map(|url| Node {
            url: url.trim_end_matches('/').to_owned(),
            failures: 0,
            rests_until: None,
        });
        let all: Vec<Node> = all.collect();
        // Hosts that start as one do not all begin with the same node.
        let next = rand::random_range(0..all.len());
        Ok(Self { agent, nodes: Mutex::new(Nodes { all, next }), login: login(store)? })
    }

    /// Sends a request to a node. An error means that nobody knows whether it was done.
    pub fn call(
        &self,
        method: &str,
        path: &str,
        body: Option<&[u8]>,
        is_gzip: bool,
    ) -> Result<Answer> {
        let (number, url) = self.choose();
        let answer = self.ask(method, &format!("{url}{path}"), body, is_gzip);
        self.note(number, answer.is_ok());
        answer.with_context(|| format!("{method} {url}{}", path.split('?').next().unwrap_or(path)))
    }

    fn ask(&self, method: &str, url: &str, body: Option<&[u8]>, is_gzip: bool) -> Result<Answer> {
        let mut request = ureq::http::Request::builder().method(method).uri(url);
        if let Some(login) = &self.login {
            request = request.header("authorization", login.expose());
        }
        if body.is_some() {
            let is_lines = url.contains("_bulk");
            let kind = if is_lines { "application/x-ndjson" } else { "application/json" };
            request = request.header("content-type", kind);
        }
        if is_gzip {
            request = request.header("content-encoding", "gzip");
        }
        let mut response = match body {
            Some(body) => self.agent.run(request.body(body)?)?,
            None => self.agent.run(request.body(())?)?,
        };
        let body = response.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_vec()?;
        Ok((response.status().as_u16(), body))
    }

    /// The next node that does not rest, or the one that rests the shortest.
    fn choose(&self) -> (usize, String) {
        let mut nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let count = nodes.all.len();
        let turn = (0..count).map(|step| (nodes.next + step) % count);
        let number = turn
            .min_by_key(|number| nodes.all[*number].rests_until.filter(|until| *until > now))
            .unwrap_or(0);
        nodes.next = (number + 1) % count;
        (number, nodes.all[number].url.clone())
    }

    fn note(&self, number: usize, is_good: bool) {
        let mut nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        let node = &mut nodes.all[number];
        if is_good {
            (node.failures, node.rests_until) = (0, None);
            return;
        }
        let rest = REST.saturating_mul(1 << node.failures.min(6)).min(REST_MAX);
        node.failures += 1;
        node.rests_until = Some(Instant::now() + rest);
    }
}

fn login(store: &Store) -> Result<Option<Secret>> {
    let secret = |path: &Path| read_secret(path);
    if let (Some(user), Some(file)) = (&store.user, &store.password_file) {
        let pair = format!("{user}:{}", secret(file)?.expose());
        return Ok(Some(Secret::new(format!("Basic {}", STANDARD.encode(pair)))));
    }
    if let Some(file) = &store.api_key_file {
        return Ok(Some(Secret::new(format!("ApiKey {}", secret(file)?.expose()))));
    }
    if let Some(file) = &store.bearer_file {
        return Ok(Some(Secret::new(format!("Bearer {}", secret(file)?.expose()))));
    }
    Ok(None)
}

fn tls(store: &Store) -> Result<TlsConfig> {
    let mut tls = TlsConfig::builder();
    if let Some(file) = &store.ca_file {
        tls = tls.root_certs(RootCerts::new_with_certs(&certificates(file)?));
    }
    if let (Some(certificate), Some(key)) = (&store.certificate_file, &store.key_file) {
        let secret = read_secret(key)?;
        let key = PrivateKey::from_pem(secret.expose().as_bytes())
            .with_context(|| format!("read key {}", key.display()))?;
        tls = tls.client_cert(Some(ClientCert::new_with_certs(&certificates(certificate)?, key)));
    }
    Ok(tls.build())
}

fn certificates(path: &Path) -> Result<Vec<Certificate<'static>>> {
    let text = chassis::config::read(path)?;
    let mut found = Vec::new();
    for item in parse_pem(text.as_bytes()) {
        if let PemItem::Certificate(certificate) =
            item.with_context(|| format!("read certificates of {}", path.display()))?
        {
            found.push(certificate);
        }
    }
    anyhow::ensure!(!found.is_empty(), "{} has no certificate", path.display());
    Ok(found)
}
