//! The command's side of the control socket.
//!
//! One connection a request. A daemon that is not there, and one that may not be asked, have hints
//! of their own: they are what people meet first.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::RefusalBody;
use crate::failure::{Exit, Failure};

/// No answer that is not a stream is longer.
pub const ANSWER_BYTES_MAX: usize = 16 << 20;

/// No line of a stream is longer: a report names as many problems as a line of the manifest holds.
pub const LINE_BYTES_MAX: usize = 16 << 20;

/// A daemon that says nothing for this long is taken for hung. Streams may be silent between lines.
pub const ANSWER_TIME_MAX: Duration = Duration::from_mins(1);

/// Asks one daemon.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
    program: String,
}

impl Client {
    /// A client of the daemon `program` (the name of its unit) that listens on `socket`. Nothing is
    /// opened yet.
    pub fn new(socket: impl Into<PathBuf>, program: impl Into<String>) -> Self {
        Self { socket: socket.into(), program: program.into() }
    }

    /// `GET path`, with its query if any.
    pub async fn get_json<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        self.answer(Method::GET, path, Bytes::new()).await
    }

    /// `POST path` with a JSON body.
    pub async fn post_json<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T> {
        let body = serde_json::to_vec(body).context("write request")?;
        self.answer(Method::POST, path, body.into()).await
    }

    /// `POST path` with a JSON body; the answer comes line by line. Dropping it hangs up.
    pub async fn post_stream(&self, path: &str, body: &impl Serialize) -> Result<Lines> {
        let body = serde_json::to_vec(body).context("write request")?;
        let answer = self.send(Method::POST, path, body.into()).await?;
        Ok(Lines::new(answer.into_body()))
    }

    async fn answer<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<T> {
        let answer = self.send(method, path, body).await?;
        let body = self.collect(answer).await?;
        serde_json::from_slice(&body)
            .with_context(|| format!("understand the answer of {} to {path}", self.program))
    }

    /// Sends a request; an answer other than success becomes an error here.
    async fn send(&self, method: Method, path: &str, body: Bytes) -> Result<Response<Incoming>> {
        let stream =
            UnixStream::connect(&self.socket).await.map_err(|error| self.unreachable(error))?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .with_context(|| format!("connect to {}", self.program))?;
        // Ends with the answer; its errors appear there too.
        tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "localhost")
            .header("content-type", "application/json")
            .body(Full::new(body))
            .with_context(|| format!("ask for {path}"))?;
        let answer = timeout(ANSWER_TIME_MAX, sender.send_request(request))
            .await
            .with_context(|| format!("wait for {}", self.program))?
            .with_context(|| format!("ask {} for {path}", self.program))?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        Err(self.refusal(path, answer).await)
    }

    async fn collect(&self, answer: Response<Incoming>) -> Result<Bytes> {
        let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX);
        let collected = timeout(ANSWER_TIME_MAX, body.collect())
            .await
            .with_context(|| format!("wait for {}", self.program))?
            .map_err(|error| anyhow::anyhow!(error))
            .with_context(|| format!("read the answer of {}", self.program))?;
        Ok(collected.to_bytes())
    }

    async fn refusal(&self, path: &str, answer: Response<Incoming>) -> anyhow::Error {
        let status = answer.status();
        let body = match self.collect(answer).await {
            Ok(body) => body,
            Err(error) => return error,
        };
        if let Ok(body) = serde_json::from_slice::<RefusalBody>(&body) {
            return Failure::from(body).into();
        }
        let said = String::from_utf8_lossy(&body[..body.len().min(200)]).into_owned();
        anyhow::anyhow!("{} answers {path} with {status} {}", self.program, said.trim_end())
    }

    fn unreachable(&self, error: io::Error) -> Failure {
        let program = &self.program;
        let socket = self.socket.display();
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                let message = format!("{program} is not running: nobody answers on {socket}");
                let hint = format!("start it with `systemctl start {program}`");
                Failure::new(Exit::Failed, message).hint(hint).because(error)
            }
            io::ErrorKind::PermissionDenied => {
                let message = format!("{socket} may not be opened by this user");
                let hint = format!("run as root, or as the user of {program}");
                Failure::new(Exit::Usage, message).hint(hint).because(error)
            }
            _ => Failure::new(Exit::Failed, format!("connect to {socket}")).because(error),
        }
    }
}

/// An answer that comes line by line.
#[derive(Debug)]
pub struct Lines {
    body: Incoming,
    buffer: Vec<u8>,
    /// No newline is before this.
    searched: usize,
}

impl Lines {
    fn new(body: Incoming) -> Self {
        Self { body, buffer: Vec::new(), searched: 0 }
    }

    /// The next line as JSON; nothing at the end. An answer that is cut off within a line is an
    /// error.
    pub async fn next_json<T: DeserializeOwned>(&mut self) -> Result<Option<T>> {
        let Some(line) = self.next_line().await? else {
            return Ok(None);
        };
        serde_json::from_slice(&line).map(Some).context("understand a line of the answer")
    }

    /// The next line without its newline; nothing at the end.
    pub async fn next_line(&mut self) -> Result<Option<Vec<u8>>> {
        loop {
            let newline = self.buffer[self.searched..].iter().position(|byte| *byte == b'\n');
            if let Some(length) = newline.map(|position| self.searched + position) {
                let rest = self.buffer.split_off(length + 1);
                let mut line = std::mem::replace(&mut self.buffer, rest);
                self.searched = 0;
                line.truncate(length);
                return Ok(Some(line));
            }
            self.searched = self.buffer.len();
            if self.buffer.len() > LINE_BYTES_MAX {
                bail!("a line of the answer has more than {LINE_BYTES_MAX} bytes");
            }
            let Some(frame) = self.body.frame().await else {
                return self.end();
            };
            let frame = frame.map_err(lost)?;
            if let Ok(data) = frame.into_data() {
                self.buffer.extend_from_slice(&data);
            }
        }
    }

    fn end(&self) -> Result<Option<Vec<u8>>> {
        if !self.buffer.is_empty() {
            bail!("the answer ends in the middle of a line");
        }
        Ok(None)
    }
}

/// The daemon ended, or was killed, in the middle of an answer.
fn lost(error: hyper::Error) -> Failure {
    Failure::new(Exit::Failed, "read the answer: the daemon may have ended")
        .hint("look at its log; once it runs again, its `status` says what became of it")
        .because(error)
}
