//! The daemon: the pipeline's threads, the control socket, the pages for monitoring, and shutdown.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use axum::routing::get;
use axum::{Json, Router};
use chassis::failure::{Exit, Failure};
use chassis::metrics::{self, Registry};
use chassis::retry::Stop;
use chassis::shutdown::{self, Shutdown};
use chassis::{control, text};
use crossbeam_channel::{Sender, bounded};

use crate::aside::Aside;
use crate::checkpoint::Checkpoints;
use crate::client::Client;
use crate::compose::Shape;
use crate::config::Config;
use crate::deliver::{Counts, Delivery};
use crate::discover::{Warning, discover};
use crate::fault::Fault;
use crate::follow::{Follow, Watched};
use crate::gzip::Gzip;
use crate::paths::Pattern;
use crate::pipeline::{self, FileStatus, Question, ReadCounts, Reader, Settings};

/// The reader ends within this time.
const PATIENCE: Duration = Duration::from_secs(15);
const ANSWER_TIME: Duration = Duration::from_secs(5);

/// Runs until a signal ends it; with `once`, until everything that is there is delivered.
pub async fn run(
    path: &Path,
    config: Config,
    once: bool,
    fault: Fault,
    shutdown: Shutdown,
) -> Result<Exit> {
    shutdown.signals()?;
    make_state_dir(&config.state_dir)?;
    let registry = Registry::default();
    let (asker, questions) = bounded(1);
    if !once {
        serve(&config, &registry, asker, &shutdown).await?;
    }
    let mut config = config;
    loop {
        let stop = shutdown.stop().child();
        let (reader, deliveries) =
            prepare(&config, once, fault.clone(), &registry, questions.clone(), &stop)?;
        let thread = pipeline::start(reader, deliveries)?;
        shutdown::ready();
        tracing::info!(host = %config.host, sources = config.sources.len(), "logshipd is up");
        let mut ended = tokio::task::spawn_blocking(move || thread.join());
        let next = tokio::select! {
            biased;
            outcome = &mut ended => {
                shutdown::stopping();
                shutdown.finish(PATIENCE).await;
                return joined(outcome.context("wait for the reader")?).map(|()| Exit::Done);
            }
            next = reloaded(path, &config, &shutdown) => next,
        };
        // The files are the buffer: the reader ends at a safe point, and another goes on from there.
        stop.stop();
        joined(ended.await.context("wait for the reader")?)?;
        config = next;
    }
}

fn joined(outcome: std::thread::Result<Result<()>>) -> Result<()> {
    outcome.unwrap_or_else(|_| anyhow::bail!("the reader panicked"))
}

/// Waits for a reload to a configuration that is right. One that is wrong is said and changes nothing.
async fn reloaded(path: &Path, config: &Config, shutdown: &Shutdown) -> Config {
    loop {
        shutdown.reload.notified().await;
        shutdown::reloading();
        let outcome = Config::load(path).and_then(|new| check_fixed(config, &new).map(|()| new));
        match outcome {
            Ok(new) => return new,
            Err(error) => {
                shutdown::ready();
                tracing::error!("failed to reload, going on as before: {error:#}");
            }
        }
    }
}

/// These are taken once, at the start.
fn check_fixed(old: &Config, new: &Config) -> Result<()> {
    let changed = [
        ("host", old.host != new.host),
        ("state-dir", old.state_dir != new.state_dir),
        ("control-socket", old.control_socket != new.control_socket),
        ("metrics-listen", old.metrics_listen != new.metrics_listen),
        ("metrics-remote", old.metrics_remote != new.metrics_remote),
        ("log", old.log != new.log),
    ];
    match changed.into_iter().find(|(_, is_changed)| *is_changed) {
        None => Ok(()),
        Some((key, _)) => {
            Err(Failure::new(Exit::Usage, format!("`{key}` cannot change by a reload"))
                .hint("restart the daemon: `systemctl restart logshipd`")
                .into())
        }
    }
}

/// Everything that the threads need.
fn prepare(
    config: &Config,
    once: bool,
    fault: Fault,
    registry: &Registry,
    questions: crossbeam_channel::Receiver<Question>,
    stop: &Stop,
) -> Result<(Reader, Vec<Delivery>)> {
    let (checkpoints, loaded) = Checkpoints::open(&config.state_dir)?;
    for reason in &loaded.set_aside {
        tracing::warn!("a checkpoint is not used: {}", text::escaped(reason));
    }
    let is_amnesic = loaded.checkpoint.is_none() && !loaded.set_aside.is_empty();
    let checkpoint = loaded.checkpoint.unwrap_or_default();
    let noted = Arc::new(std::sync::Mutex::new(checkpoint.streams.clone()));
    let client = Arc::new(Client::new(&config.store)?);
    let aside = Arc::new(Aside::new(&config.state_dir, config.limits.aside_bytes.0));
    let (watched, shapes) = sources(config)?;
    let deliveries = (0..config.limits.requests).map(|_| Delivery {
        client: Arc::clone(&client),
        is_gzip: config.store.gzip,
        has_ids: config.store.ids,
        aside: Arc::clone(&aside),
        counts: counts(registry),
        stop: stop.clone(),
        noted: Arc::clone(&noted),
        gzip: Gzip::default(),
    });
    let settings = Settings {
        zone: config.time_zone,
        privacy: config.privacy,
        shapes,
        batch_bytes: config.limits.batch_bytes.0 as usize,
        batch_documents: config.limits.batch_documents,
        batch_age: config.limits.batch_age.0,
        entry_bytes: config.limits.entry_bytes.0 as usize,
        entry_age: config.limits.entry_age.0,
        scan_every: config.limits.scan_every.0,
        has_ids: config.store.ids,
        once,
        fault,
    };
    let follow = Follow::new(&config.host, watched, checkpoint, is_amnesic);
    let deliveries = deliveries.collect();
    let stop = stop.clone();
    let counts = read_counts(registry);
    Ok((Reader { settings, follow, checkpoints, noted, stop, counts, questions }, deliveries))
}

fn sources(config: &Config) -> Result<(Vec<Watched>, Vec<Shape>)> {
    let mut watched = Vec::new();
    let mut shapes = Vec::new();
    for source in &config.sources {
        let patterns: Result<_, _> = source.paths.iter().map(|path| Pattern::parse(path)).collect();
        watched.push(Watched { patterns: patterns?, rotated_dirs: source.rotated_dirs.clone() });
        let format = source.format.format();
        let namespace = source.namespace.as_deref().unwrap_or(&config.namespace);
        shapes.push(Shape::new(format, source.dataset.clone(), namespace, &config.host));
    }
    if !config.discovers() {
        return Ok((watched, shapes));
    }
    let found = discover(Path::new("/"));
    for Warning { origin, problem } in &found.warnings {
        tracing::warn!(place = %text::escaped(&origin.to_string()), "{}", text::escaped(problem));
    }
    for source in found.sources {
        let pattern = match Pattern::parse(&source.pattern) {
            Ok(pattern) => pattern,
            Err(error) => {
                tracing::warn!("a log is left out: {}", text::escaped(&error.to_string()));
                continue;
            }
        };
        tracing::info!(dataset = source.dataset, "found {}", text::escaped(&source.pattern));
        watched.push(Watched { patterns: vec![pattern], rotated_dirs: Vec::new() });
        shapes.push(Shape::new(source.format, None, &config.namespace, &config.host));
    }
    Ok((watched, shapes))
}

/// The counters, as Prometheus reads them.
pub fn counts(registry: &Registry) -> Counts {
    let counter = |name, help| registry.counter(name, help, &[]);
    Counts {
        delivered: counter("holdfast_logs_delivered_total", "Documents that are in the store."),
        was_there: counter(
            "holdfast_logs_resent_total",
            "Documents that were in the store already.",
        ),
        requests: counter("holdfast_logs_requests_total", "Bulk requests."),
        retried: counter("holdfast_logs_retries_total", "Requests that were tried again."),
        refused: counter("holdfast_logs_refused_total", "Documents refused as they were."),
        aside: counter("holdfast_logs_set_aside_total", "Documents that were set aside."),
        given_up: counter(
            "holdfast_logs_given_up_total",
            "Refused documents without room to keep.",
        ),
        failure_store: counter(
            "holdfast_logs_failure_store_total",
            "Documents in the failure store.",
        ),
        sent_bytes: counter(
            "holdfast_logs_sent_bytes_total",
            "Bytes of bulk requests on the wire.",
        ),
    }
}

fn read_counts(registry: &Registry) -> ReadCounts {
    let counter = |name, help| registry.counter(name, help, &[]);
    ReadCounts {
        entries: counter("holdfast_logs_entries_total", "Entries that were read."),
        unparsed: counter(
            "holdfast_logs_unparsed_total",
            "Entries that their format does not fit.",
        ),
        cut_bytes: counter(
            "holdfast_logs_cut_bytes_total",
            "Bytes cut off entries that are too long.",
        ),
        lost_bytes: counter("holdfast_logs_lost_bytes_total", "Bytes of files that went unread."),
    }
}

async fn serve(
    config: &Config,
    registry: &Registry,
    asker: Sender<Question>,
    shutdown: &Shutdown,
) -> Result<()> {
    let control = control::bind(&config.control_socket)?;
    metrics::check_loopback(config.metrics_listen, config.metrics_remote)?;
    let pages = tokio::net::TcpListener::bind(config.metrics_listen).await.map_err(|error| {
        Failure::new(Exit::Failed, format!("listen on {}", config.metrics_listen))
            .hint("is logshipd running already? Otherwise choose another `metrics-listen`")
            .because(error)
    })?;
    let token = shutdown.token.clone();
    let router = Router::new().route(
        "/status",
        get(move || {
            let asker = asker.clone();
            async move { Json(ask(asker).await) }
        }),
    );
    shutdown.spawn(control::serve(control, router, token.clone()));
    shutdown.spawn(metrics::serve(pages, registry.clone(), Vec::new, token.clone()));
    shutdown.spawn(shutdown::watchdog(|| true, token));
    Ok(())
}

async fn ask(asker: Sender<Question>) -> Vec<FileStatus> {
    let asked = tokio::task::spawn_blocking(move || {
        let (answer, answered) = bounded(1);
        asker.send_timeout(answer, ANSWER_TIME).ok()?;
        answered.recv_timeout(ANSWER_TIME).ok()
    });
    asked.await.ok().flatten().unwrap_or_default()
}

fn make_state_dir(path: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|error| {
        Failure::new(Exit::Failed, format!("create {}", path.display()))
            .hint("create it for the user of logshipd, or set `state-dir`")
            .because(error)
            .into()
    })
}
