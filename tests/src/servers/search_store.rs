//! A real search store on a loopback port of its own: OpenSearch or Elasticsearch, with or without TLS, users and
//! roles.
//!
//! A start takes 6 to 20 seconds and 400 to 800 MB of memory, so tests share one of each kind and keep apart by the
//! names of their indices; who needs one for himself (to stop it, or with other limits) starts it. Both refuse to run
//! as root and run as `nobody` then.

use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use tempfile::TempDir;

use super::certificates::Certificates;
use super::process::{Process, free_address};
use super::{elasticsearch, opensearch};

const START_TIMEOUT: Duration = Duration::from_mins(3);
const POLL_INTERVAL: Duration = Duration::from_millis(100);
const ANSWER_TIMEOUT: Duration = Duration::from_mins(1);
const ANSWER_BYTES_MAX: u64 = 256 << 20;
/// The folders that it may write to.
const WRITABLE: [&str; 5] = ["home/config", "data", "logs", "temporary", "snapshots"];
/// `nobody` of Debian.
const NOBODY: u32 = 65534;

/// Which program it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// OpenSearch 2.19.
    OpenSearch,
    /// Elasticsearch 8.19.
    Elasticsearch,
}

/// Both, for tests that hold for both.
pub const ENGINES: [Engine; 2] = [Engine::OpenSearch, Engine::Elasticsearch];

/// Whether it asks who is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Secured {
    /// Plain HTTP, everybody may do everything.
    #[default]
    No,
    /// TLS and basic authentication, with the users [`ADMINISTRATOR`] and [`SHIPPER`].
    Yes,
    /// The same, and clients need a certificate of the test's authority.
    WithClientCertificate,
}

/// Who may log in to a secured store.
#[derive(Clone, Copy, Debug)]
pub struct User {
    /// The name.
    pub name: &'static str,
    /// The password.
    pub password: &'static str,
}

/// May do everything.
pub const ADMINISTRATOR: User = User { name: "administrator", password: "administrator" };
/// May add to and read `logs-*` and see how the cluster is, no more.
pub const SHIPPER: User = User { name: "shipper", password: "shipper-of-logs" };

/// Hashes of both passwords by bcrypt, as both programs keep them.
pub(super) const ADMINISTRATOR_HASH: &str =
    "$2a$10$S1kLPmxOjjR5fwe31wf.NuIAh2zGoJSr2lcjK2BKgMtjiGZ81Wc7q";
pub(super) const SHIPPER_HASH: &str =
    "$2a$10$VuW4LL/N2aH.VprO5sRLdOOQyDwvM4wMz03wa/AxW5YKby5JGM6xO";

/// How one is started.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Whether it asks who is there.
    pub secured: Secured,
    /// Further settings of the node, such as `http.max_content_length=100kb`.
    pub settings: Vec<String>,
}

/// A running store. Its process and its data are gone when it is dropped.
pub struct SearchStore {
    engine: Engine,
    options: Options,
    address: SocketAddr,
    transport: SocketAddr,
    certificates: Option<Certificates>,
    agent: ureq::Agent,
    process: Option<Process>,
    // Dropped last: who uses it is above.
    dir: TempDir,
}

impl fmt::Debug for SearchStore {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?} at {}", self.engine, self.url())
    }
}

impl SearchStore {
    /// Starts one with empty data.
    pub fn start(engine: Engine, options: Options) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("search").tempdir()?;
        clone_home(&fetched_home(engine)?, &dir.path().join("home"))?;
        let config = dir.path().join("home/config");
        for folder in WRITABLE {
            fs::create_dir(dir.path().join(folder))?;
        }
        fs::write(config.join("log4j2.properties"), LOG_TO_CONSOLE)?;
        let is_secured = options.secured != Secured::No;
        let certificates =
            is_secured.then(|| Certificates::make(&config.join("certificates"))).transpose()?;
        match engine {
            Engine::OpenSearch => opensearch::configure(&config, options.secured)?,
            Engine::Elasticsearch => elasticsearch::configure(&config, options.secured)?,
        }
        if is_root() {
            chown(dir.path(), Some(NOBODY), Some(NOBODY))?;
            for folder in WRITABLE {
                give_to_nobody(&dir.path().join(folder))?;
            }
        }
        let agent = agent(certificates.as_ref(), true)?;
        let (address, transport) = (free_address()?, free_address()?);
        let mut store =
            Self { engine, options, address, transport, certificates, agent, process: None, dir };
        store.start_again()?;
        Ok(store)
    }

    /// The one that all tests of this program share; it ends with the program.
    pub fn shared(engine: Engine, secured: Secured) -> Result<&'static Self> {
        static STARTED: [OnceLock<SearchStore>; 6] = [const { OnceLock::new() }; 6];
        static STARTING: Mutex<()> = Mutex::new(());
        let slot = &STARTED[engine as usize * 3 + secured as usize];
        let _starting = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(store) = slot.get() {
            return Ok(store);
        }
        let store = Self::start(engine, Options { secured, settings: Vec::new() })?;
        Ok(slot.get_or_init(|| store))
    }

    /// Stops it at once; its data stay.
    pub fn stop(&mut self) {
        self.process = None;
    }

    /// Starts it after [`stop`](Self::stop), on the same port and data, and waits until it answers.
    pub fn start_again(&mut self) -> Result<()> {
        let home = self.dir.path().join("home");
        let config = home.join("config");
        let mut program = match self.engine {
            Engine::OpenSearch => opensearch::command(&home, &config),
            Engine::Elasticsearch => elasticsearch::command(&home),
        };
        program.extend(self.settings());
        let program: Vec<_> = program.iter().map(OsString::as_os_str).collect();
        let adapt = |command: &mut Command| {
            command.current_dir(self.dir.path());
            command.env("ES_PATH_CONF", &config);
            let temporary = self.dir.path().join("temporary");
            command.env("ES_JAVA_HOME", java_home()).env("ES_TMPDIR", &temporary);
            command.env("HOME", &temporary);
            if is_root() {
                command.uid(NOBODY).gid(NOBODY);
            }
        };
        let log = self.dir.path().join("log");
        self.process = Some(Process::start_bound(&program, self.dir.path(), adapt, &log)?);
        let waited = self.wait_healthy();
        waited.with_context(|| format!("start {:?}: {}", self.engine, last_lines(&log)))
    }

    fn settings(&self) -> impl Iterator<Item = OsString> {
        let path = |name: &str| self.dir.path().join(name).display().to_string();
        let mut settings = vec![
            "cluster.name=holdfast".to_owned(),
            "node.name=only".to_owned(),
            "network.host=127.0.0.1".to_owned(),
            "discovery.type=single-node".to_owned(),
            // A nearly full disk of the machine is not what is tested.
            "cluster.routing.allocation.disk.threshold_enabled=false".to_owned(),
            format!("http.port={}", self.address.port()),
            format!("transport.port={}", self.transport.port()),
            format!("path.data={}", path("data")),
            format!("path.logs={}", path("logs")),
            format!("path.repo={}", path("snapshots")),
        ];
        settings.extend(self.options.settings.iter().cloned());
        settings.into_iter().map(|setting| OsString::from(format!("-E{setting}")))
    }

    fn wait_healthy(&mut self) -> Result<()> {
        let started = Instant::now();
        loop {
            if let Some(process) = &mut self.process
                && let Some(status) = process.ended()?
            {
                bail!("it ended: {status}");
            }
            let answer = self.request("GET", "/_cluster/health?wait_for_status=yellow", "");
            match answer {
                Ok((200, _)) => return Ok(()),
                // A server that asks for a certificate does so before it says more.
                Ok((401 | 403, _)) if !self.asks_for_certificate() => {
                    bail!("it refuses its administrator")
                }
                answer if started.elapsed() > START_TIMEOUT => bail!("waited in vain: {answer:?}"),
                _ => thread::sleep(POLL_INTERVAL),
            }
        }
    }

    fn asks_for_certificate(&self) -> bool {
        self.options.secured == Secured::WithClientCertificate
    }

    /// Which program it is.
    pub fn engine(&self) -> Engine {
        self.engine
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its address as a URL, without a slash at the end.
    pub fn url(&self) -> String {
        let scheme = if self.certificates.is_some() { "https" } else { "http" };
        format!("{scheme}://localhost:{}", self.address.port())
    }

    /// What its certificate is signed by, if it has one.
    pub fn certificates(&self) -> Option<&Certificates> {
        self.certificates.as_ref()
    }

    /// One request as the administrator: status and answer, which is `null` if it is not JSON.
    pub fn request(&self, method: &str, path: &str, body: &str) -> Result<(u16, Value)> {
        self.send(&self.agent, Some(ADMINISTRATOR), [method, path, body])
    }

    /// One request as the shipper.
    pub fn shipper(&self, method: &str, path: &str, body: &str) -> Result<(u16, Value)> {
        self.send(&self.agent, Some(SHIPPER), [method, path, body])
    }

    /// One request as nobody.
    pub fn anonymous(&self, method: &str, path: &str) -> Result<(u16, Value)> {
        self.send(&self.agent, None, [method, path, ""])
    }

    /// One request without the certificate of a client.
    pub fn without_certificate(&self, method: &str, path: &str) -> Result<(u16, Value)> {
        let agent = agent(self.certificates.as_ref(), false)?;
        self.send(&agent, Some(ADMINISTRATOR), [method, path, ""])
    }

    fn send(
        &self,
        agent: &ureq::Agent,
        user: Option<User>,
        request: [&str; 3],
    ) -> Result<(u16, Value)> {
        let [method, path, body] = request;
        let kind = if path.contains("_bulk") { "x-ndjson" } else { "json" };
        let mut request = ureq::http::Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.url()))
            .header("content-type", format!("application/{kind}"));
        if let Some(user) = user.filter(|_| self.certificates.is_some()) {
            request = request.header("authorization", basic(user));
        }
        let mut response = if body.is_empty() {
            agent.run(request.body(())?)?
        } else {
            agent.run(request.body(body)?)?
        };
        let text = response.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_string()?;
        Ok((response.status().as_u16(), serde_json::from_str(&text).unwrap_or(Value::Null)))
    }

    /// As [`request`](Self::request), with the answer of a request that must succeed.
    pub fn ask(&self, method: &str, path: &str, body: &str) -> Result<Value> {
        let (status, answer) = self.request(method, path, body)?;
        ensure!(status < 300, "{method} {path}: {status}: {answer}");
        Ok(answer)
    }

    /// How many documents there are, all that was acknowledged included.
    pub fn count(&self, indices: &str) -> Result<u64> {
        self.ask("POST", &format!("/{indices}/_refresh"), "")?;
        let answer = self.ask("GET", &format!("/{indices}/_count"), "")?;
        answer["count"].as_u64().context("an answer without a count")
    }

    /// What it has printed so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }
}

/// A client that trusts the test's authority, and may have its certificate.
fn agent(certificates: Option<&Certificates>, has_certificate: bool) -> Result<ureq::Agent> {
    use ureq::tls::{Certificate, ClientCert, PrivateKey, RootCerts, TlsConfig};
    let mut config = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .allow_non_standard_methods(true)
        .timeout_global(Some(ANSWER_TIMEOUT));
    if let Some(certificates) = certificates {
        let authority = Certificate::from_pem(&fs::read(certificates.authority())?)?;
        let mut tls = TlsConfig::builder().root_certs(RootCerts::new_with_certs(&[authority]));
        if has_certificate {
            let (certificate, key) = certificates.client();
            let certificate = Certificate::from_pem(&fs::read(certificate)?)?;
            let key = PrivateKey::from_pem(&fs::read(key)?)?;
            tls = tls.client_cert(Some(ClientCert::new_with_certs(&[certificate], key)));
        }
        config = config.tls_config(tls.build());
    }
    Ok(config.build().new_agent())
}

/// The value of the header `Authorization`.
fn basic(user: User) -> String {
    use base64::Engine;
    let pair = format!("{}:{}", user.name, user.password);
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair))
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Where `scripts/fetch-stores` has put it.
fn fetched_home(engine: Engine) -> Result<PathBuf> {
    let name = match engine {
        Engine::OpenSearch => opensearch::NAME,
        Engine::Elasticsearch => elasticsearch::NAME,
    };
    let home = std::env::home_dir().context("there is no home directory")?;
    let path = home.join(".cache/holdfast/stores").join(name);
    ensure!(path.exists(), "{} is not there: run scripts/fetch-stores", path.display());
    Ok(path)
}

/// The same files where everybody may go, which a home directory of root is not; without the configuration.
fn clone_home(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir(to)?;
    if is_root() {
        // So that it can be removed; the files are not chowned, they are those of the cache.
        chown(to, Some(NOBODY), Some(NOBODY))?;
    }
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_name() == "config" {
            continue;
        }
        if entry.file_type()?.is_dir() {
            clone_home(&entry.path(), &target)?;
        } else if fs::hard_link(entry.path(), &target).is_err() {
            // Another file system.
            fs::copy(entry.path(), &target)?;
        }
    }
    Ok(())
}

fn give_to_nobody(path: &Path) -> Result<()> {
    chown(path, Some(NOBODY), Some(NOBODY))?;
    if path.is_dir() {
        for entry in fs::read_dir(path)? {
            give_to_nobody(&entry?.path())?;
        }
    }
    Ok(())
}

/// A Java that both run on: 17 or 21, wherever Debian puts it.
fn java_home() -> PathBuf {
    if let Some(home) = std::env::var_os("HOLDFAST_JAVA_HOME") {
        return home.into();
    }
    let folders = fs::read_dir("/usr/lib/jvm").into_iter().flatten().flatten();
    let is_fit = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        ["java-17-openjdk", "java-21-openjdk"].iter().any(|prefix| name.starts_with(prefix))
            && path.join("bin/java").exists()
    };
    folders.map(|entry| entry.path()).find(is_fit).unwrap_or_else(|| "/usr".into())
}

pub(super) fn java() -> PathBuf {
    java_home().join("bin/java")
}

/// Small and quick to start rather than quick for long.
pub(super) fn java_options() -> [OsString; 4] {
    ["-Xms384m", "-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"].map(OsString::from)
}

const LOG_TO_CONSOLE: &str = "status = error
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = [%d{ISO8601}][%-5p][%-25c{1.}] %m%n
rootLogger.level = info
rootLogger.appenderRef.console.ref = console
";

fn last_lines(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}
