//! How a command talks to its daemon: HTTP over a unix socket that only the daemon's user may open.
//!
//! Requests and answers are JSON; long answers are streams of JSON lines. A handler that fails
//! answers with the error, its hint and its exit code, and the client makes the same [`Failure`] of
//! it again. Every body and every line has a limit.

pub mod client;
#[cfg(test)]
mod tests;

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use tokio::net::UnixListener;
use tokio_util::sync::CancellationToken;

pub use self::client::{Client, Lines};
use crate::failure::{Exit, Failure, exit_of, hint_of};

/// No request has a longer body.
pub const REQUEST_BYTES_MAX: usize = 1 << 20;

/// Opens the socket at `path`, mode 0600. A socket that nobody answers on is replaced; a daemon
/// that answers there is [`Exit::Busy`]; a file of another kind is left alone.
///
/// It is made in a directory of mode 0700 and moved to its name: there is no moment in which others
/// may connect. Needs a runtime.
pub fn bind(path: &Path) -> Result<UnixListener> {
    check_free(path)?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let parent = parent.unwrap_or(Path::new("."));
    let private = PrivateDir::create(parent).map_err(|error| unbindable(path, error))?;
    let temp = private.0.join("s");
    let listener = UnixListener::bind(&temp).map_err(|error| unbindable(path, error))?;
    fs::set_permissions(&temp, Permissions::from_mode(0o600))
        .and_then(|()| take_name(&temp, path))
        .map_err(|error| unbindable(path, error))?;
    Ok(listener)
}

#[expect(clippy::disallowed_methods, reason = "a socket holds no data that could be lost")]
fn take_name(temp: &Path, path: &Path) -> io::Result<()> {
    fs::rename(temp, path)
}

fn check_free(path: &Path) -> Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(unbindable(path, error).into()),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            let message = format!("{} exists and is not a socket", path.display());
            return Err(Failure::new(Exit::Usage, message).hint("choose another path").into());
        }
        Ok(_) => {}
    }
    match UnixStream::connect(path) {
        Ok(_) => {
            let message = format!("another daemon answers on {}", path.display());
            Err(Failure::new(Exit::Busy, message).hint("stop it first").into())
        }
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        Err(error) => Err(unbindable(path, error).into()),
    }
}

fn unbindable(path: &Path, error: io::Error) -> Failure {
    let failure = Failure::new(Exit::Failed, format!("open control socket {}", path.display()));
    let failure = match error.kind() {
        io::ErrorKind::NotFound => failure.hint("create its directory"),
        io::ErrorKind::PermissionDenied => failure.hint("let this user write to its directory"),
        io::ErrorKind::InvalidInput => failure.hint("choose a path of less than 90 bytes"),
        _ => failure,
    };
    failure.because(error)
}

/// A directory that nobody else may enter, removed when dropped.
struct PrivateDir(PathBuf);

impl PrivateDir {
    fn create(parent: &Path) -> io::Result<Self> {
        // Short: a path of a socket has at most 107 bytes.
        let path = parent.join(format!(".{:08x}", rand::random::<u32>()));
        DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self(path))
    }
}

impl Drop for PrivateDir {
    fn drop(&mut self) {
        // The socket is in there only if it could not be moved.
        drop(fs::remove_file(self.0.join("s")));
        drop(fs::remove_dir(&self.0));
    }
}

/// Serves the router until `stop`; then waits for answers under way, whose streams must end by
/// themselves.
pub async fn serve(listener: UnixListener, router: Router, stop: CancellationToken) -> Result<()> {
    axum::serve(listener, router.layer(DefaultBodyLimit::max(REQUEST_BYTES_MAX)))
        .with_graceful_shutdown(stop.cancelled_owned())
        .await
        .context("serve the control socket")
}

/// What a handler returns when it fails; `?` makes it of any `anyhow::Error`.
#[derive(Debug)]
pub struct Refusal(anyhow::Error);

impl<E: Into<anyhow::Error>> From<E> for Refusal {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = match exit_of(&self.0) {
            Exit::Usage => StatusCode::BAD_REQUEST,
            Exit::Nothing => StatusCode::NOT_FOUND,
            Exit::Busy => StatusCode::CONFLICT,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        (status, Json(RefusalBody::of(&self.0))).into_response()
    }
}

/// An error on its way to the client.
#[derive(Debug, Serialize, Deserialize)]
pub struct RefusalBody {
    /// The whole chain.
    pub error: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// The code that the command ends with.
    pub exit: u8,
}

impl RefusalBody {
    /// Takes what a client needs from an error, also for the last line of a stream.
    pub fn of(error: &anyhow::Error) -> Self {
        Self {
            error: format!("{error:#}"),
            hint: hint_of(error).map(str::to_owned),
            exit: exit_of(error) as u8,
        }
    }
}

impl From<RefusalBody> for Failure {
    fn from(body: RefusalBody) -> Self {
        let failure = Failure::new(Exit::from_code(body.exit), body.error);
        match body.hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}
