//! The daemon: one driver a job, the control socket, the pages for monitoring, reload and shutdown.
//!
//! # Layout
//! - `keeper`: the driver of the keeper's schedule
//! - `jobs`: drivers and what they have in hand
//! - `logs`: the archives of binary logs
//! - `routes`: what the control socket answers
//! - `health`: what is wrong, told from the last runs
//! - `numbers`: what Prometheus reads
//!
//! The configuration is one value behind a lock and is replaced whole. A run takes the one that is
//! in force when it begins; a reload never touches a run that is going on.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use chassis::control;
use chassis::failure::{Exit, Failure};
use chassis::metrics::{self, Registry};
use chassis::shutdown::{self, Shutdown};
use chrono::{DateTime, Utc};
use clap::Parser;
use depot::block::BlockKey;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::config::{CONFIG_PATH, Config};
use crate::state::make_private_dir;

pub mod answers;
mod health;
mod jobs;
mod keeper;
mod leftovers;
mod logs;
mod numbers;
mod routes;

use jobs::{Jobs, prepare_jobs};
use keeper::{KeeperHandle, prepare_keeper};
use logs::Logs;

/// Runs that are going on are given this long to come to a safe point. The rest of the 20 seconds
/// is for hooks.
const PATIENCE: Duration = Duration::from_secs(8);
/// Whoever waits for such a run is given this long to hear of its end.
const FAREWELL: Duration = Duration::from_millis(500);

/// Take backups on schedule, and when asked to by backupctl.
#[derive(Debug, Parser)]
#[command(name = "backupd", version, max_term_width = 100)]
pub struct Arguments {
    /// The configuration
    #[arg(long, value_name = "FILE", default_value = CONFIG_PATH)]
    pub config: PathBuf,
    /// Only check the configuration
    #[arg(long)]
    pub check: bool,
}

/// All that the daemon's tasks share.
#[derive(Debug)]
pub struct Daemon {
    config_path: PathBuf,
    config: Mutex<Arc<Config>>,
    /// Why the last reload was refused.
    reload_error: Mutex<Option<String>>,
    jobs: Jobs,
    /// None if nothing is scheduled for it.
    keeper: Mutex<Option<Arc<KeeperHandle>>>,
    logs: Logs,
    registry: Registry,
    shutdown: Shutdown,
    /// Raised when runs that did not come to a safe point are left behind.
    abandoned: CancellationToken,
    started: DateTime<Utc>,
}

/// Runs the daemon until a signal ends it. Errors before that are those of starting up.
pub async fn run(config_path: &Path, config: Config, shutdown: Shutdown) -> Result<Exit> {
    shutdown.signals()?;
    prepare_state(&config)?;
    let control = control::bind(&config.control_socket)?;
    let pages = bind_pages(&config).await?;
    let daemon = Arc::new(Daemon {
        config_path: config_path.to_owned(),
        config: Mutex::new(Arc::new(config)),
        reload_error: Mutex::default(),
        jobs: Jobs::default(),
        keeper: Mutex::default(),
        logs: Logs::default(),
        registry: Registry::default(),
        shutdown: shutdown.clone(),
        abandoned: CancellationToken::new(),
        started: Utc::now(),
    });
    let config = daemon.config();
    leftovers::remove(&config, &shutdown);
    daemon.change_jobs(&config, prepare_jobs(&config)?);
    daemon.change_keeper(prepare_keeper(&config)?);
    daemon.start_logs(&config);
    daemon.show_reload(true);
    let token = shutdown.token.clone();
    shutdown.spawn(control::serve(control, routes::router(&daemon), token.clone()));
    let health = {
        let daemon = Arc::clone(&daemon);
        move || daemon.reasons(Utc::now())
    };
    shutdown.spawn(metrics::serve(pages, daemon.registry.clone(), health, token.clone()));
    shutdown.spawn(shutdown::watchdog(watched(&daemon), token.clone()));
    shutdown::ready();
    daemon.show_status();
    tracing::info!(host = %config.host, jobs = config.jobs.len(), "backupd is up");
    drop(config);
    daemon.serve_reloads().await;
    Ok(daemon.stop().await)
}

/// The daemon is alive as long as its drivers are: one that panicked is a reason to be started
/// again.
fn watched(daemon: &Arc<Daemon>) -> impl Fn() -> bool + use<> {
    let daemon = Arc::clone(daemon);
    move || daemon.jobs.all_alive() && daemon.keeper_is_alive()
}

/// Makes what the first start finds missing: the state directory and the key of the blocks' names.
fn prepare_state(config: &Config) -> Result<()> {
    make_private_dir(&config.state_dir)?;
    let path = config.block_key_path();
    if config.jobs.is_empty() || path.exists() {
        return Ok(());
    }
    BlockKey::generate().save_new(&path).with_context(|| format!("make {}", path.display()))?;
    tracing::info!("made the key of block names: {}", path.display());
    Ok(())
}

async fn bind_pages(config: &Config) -> Result<TcpListener> {
    let address = config.metrics_listen;
    metrics::check_loopback(address, config.metrics_remote)?;
    TcpListener::bind(address).await.map_err(|error| {
        Failure::new(Exit::Failed, format!("listen on {address}"))
            .hint("is backupd running already? Otherwise choose another `metrics-listen`")
            .because(error)
            .into()
    })
}

impl Daemon {
    /// The configuration in force.
    pub fn config(&self) -> Arc<Config> {
        Arc::clone(&lock(&self.config))
    }

    async fn serve_reloads(self: &Arc<Self>) {
        loop {
            tokio::select! {
                biased;
                () = self.shutdown.token.cancelled() => return,
                () = self.shutdown.reload.notified() => {
                    if let Err(error) = self.reload().await {
                        tracing::error!("failed to reload, going on as before: {error:#}");
                    }
                }
            }
        }
    }

    /// Reads the configuration again. A good one is in force from the next run on; a bad one is an
    /// error and changes nothing.
    async fn reload(self: &Arc<Self>) -> Result<()> {
        shutdown::reloading();
        let path = self.config_path.clone();
        let loaded = tokio::task::spawn_blocking(move || Config::load(&path)).await;
        let outcome = match loaded.context("read configuration")? {
            Ok(config) => self.replace(config),
            Err(error) => Err(error),
        };
        *lock(&self.reload_error) = outcome.as_ref().err().map(|error| format!("{error:#}"));
        self.show_reload(outcome.is_ok());
        shutdown::ready();
        self.show_status();
        outcome
    }

    fn replace(self: &Arc<Self>, config: Config) -> Result<()> {
        let old = self.config();
        check_fixed(&old, &config)?;
        prepare_state(&config)?;
        let prepared = prepare_jobs(&config)?;
        let keeper = prepare_keeper(&config)?;
        let new = Arc::new(config);
        *lock(&self.config) = Arc::clone(&new);
        self.change_jobs(&new, prepared);
        self.change_keeper(keeper);
        self.change_logs(&old, &new);
        tracing::info!(jobs = new.jobs.len(), "the new configuration is in force");
        Ok(())
    }

    async fn stop(self: Arc<Self>) -> Exit {
        shutdown::stopping();
        shutdown::status("stopping at a safe point");
        if self.shutdown.finish(PATIENCE).await {
            tracing::info!("backupd has stopped");
            return Exit::Done;
        }
        tracing::warn!(
            "a run does not come to a safe point: it is left behind, and commits nothing"
        );
        self.abandon_runs().await;
        self.abandoned.cancel();
        self.shutdown.finish(FAREWELL).await;
        Exit::Done
    }

    /// What `systemctl status` shows.
    fn show_status(&self) {
        shutdown::status(&self.jobs.summary());
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
                .hint("restart the daemon: `systemctl restart backupd`")
                .into())
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
