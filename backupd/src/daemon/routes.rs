//! What the control socket answers. Who may open the socket may do all of this.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use chassis::control::Refusal;
use chassis::drive::Ticket;
use chassis::failure::{Exit, Failure};
use chrono::Utc;
use depot::names::JobName;
use serde::Deserialize;
use tokio::io::{AsyncWriteExt, DuplexStream};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::io::ReaderStream;
use tokio_util::sync::CancellationToken;

use super::answers::{Accepted, RunEvent, StatusAnswer};
use super::jobs::JobHandle;
use super::{Daemon, lock};
use crate::run::RunOptions;

/// How often a waiting command is told how far the run is.
const PROGRESS_EVERY: Duration = Duration::from_millis(250);
/// What a slow reader may leave unread before we stop writing.
const STREAM_BYTES: usize = 64 << 10;

/// All routes.
pub(super) fn router(daemon: &Arc<Daemon>) -> Router {
    Router::new()
        .route("/status", get(status))
        .route("/jobs/{name}/run", post(run))
        .with_state(Arc::clone(daemon))
}

async fn status(State(daemon): State<Arc<Daemon>>) -> Json<StatusAnswer> {
    Json(StatusAnswer {
        host: daemon.config().host.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        started: daemon.started,
        reload_error: lock(&daemon.reload_error).clone(),
        reasons: daemon.reasons(Utc::now()),
        jobs: daemon.jobs.all().iter().map(|job| job.shown()).collect(),
        keeper: daemon.keeper_status(),
        logs: daemon.log_answers(),
    })
}

#[derive(Debug, Deserialize)]
struct RunQuery {
    #[serde(default = "yes")]
    wait: bool,
}

fn yes() -> bool {
    true
}

async fn run(
    State(daemon): State<Arc<Daemon>>,
    Path(name): Path<JobName>,
    Query(query): Query<RunQuery>,
    Json(options): Json<RunOptions>,
) -> Result<Response, Refusal> {
    let job = daemon.jobs.get(&name).ok_or_else(|| unknown(&daemon, &name))?;
    if let Some(running) = job.status.borrow().running {
        let since = running.since.format("%H:%M:%S UTC");
        return Err(Failure::new(Exit::Busy, format!("job `{name}` is running since {since}"))
            .hint("wait for it to end; see `backupctl status`")
            .into());
    }
    let ticket = job.ask(options);
    if !query.wait {
        return Ok(Json(Accepted { accepted: true }).into_response());
    }
    let (writer, reader) = tokio::io::duplex(STREAM_BYTES);
    daemon.shutdown.spawn(follow(job, ticket, writer, daemon.abandoned.clone()));
    Ok(Body::from_stream(ReaderStream::new(reader)).into_response())
}

fn unknown(daemon: &Daemon, name: &JobName) -> Failure {
    let config = daemon.config();
    let known: Vec<&str> = config.jobs.keys().map(JobName::as_str).collect();
    let hint = match chassis::config::nearest(name.as_str(), known.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("configured are: {}", known.join(", ")),
    };
    Failure::new(Exit::Nothing, format!("there is no job `{name}`")).hint(hint)
}

/// Tells how far the run is until it has ended. Whoever hangs up ends the telling, not the run.
async fn follow(
    job: Arc<JobHandle>,
    ticket: Ticket,
    mut writer: DuplexStream,
    abandoned: CancellationToken,
) {
    let mut status = job.status.clone();
    let mut ticks = interval(PROGRESS_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let last = {
            let status = status.borrow_and_update();
            status.answers(ticket).then(|| status.last.clone()).flatten()
        };
        if let Some(finished) = last {
            write_event(&mut writer, &RunEvent::Report(Box::new(finished.result))).await;
            return;
        }
        let is_written = tokio::select! {
            biased;
            () = abandoned.cancelled() => {
                write_event(&mut writer, &RunEvent::Stopped).await;
                return;
            }
            changed = status.changed() => {
                if changed.is_err() {
                    write_event(&mut writer, &RunEvent::Stopped).await;
                    return;
                }
                true
            }
            _ = ticks.tick() => match job.progress() {
                Some(progress) => write_event(&mut writer, &RunEvent::Progress(progress)).await,
                None => true,
            },
        };
        if !is_written {
            return;
        }
    }
}

/// False if nobody reads any more.
async fn write_event(writer: &mut DuplexStream, event: &RunEvent) -> bool {
    let mut line = serde_json::to_vec(event).expect("plain data is JSON");
    line.push(b'\n');
    writer.write_all(&line).await.is_ok()
}
