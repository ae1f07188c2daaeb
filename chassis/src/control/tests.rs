//! A real daemon's side and a real client on a socket in a scratch directory.

use std::future::ready;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use axum::routing::{get, post};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::task::JoinHandle;

use super::*;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Line {
    number: u32,
}

/// A body whose pieces are cut across lines.
fn pieces(pieces: Vec<&'static str>) -> Body {
    let (mut writer, reader) = tokio::io::duplex(4);
    tokio::spawn(async move {
        for piece in pieces {
            if writer.write_all(piece.as_bytes()).await.is_err() {
                return;
            }
        }
    });
    Body::from_stream(tokio_util::io::ReaderStream::new(reader))
}

fn router() -> Router {
    Router::new()
        .route("/status", get(async || Json(Line { number: 7 })))
        .route("/echo", post(async |Json(line): Json<Line>| Json(line)))
        .route("/busy", get(busy))
        .route("/lines", post(async || pieces(vec!["{\"number\"", ":1}\n{\"num", "ber\":2}\n"])))
        .route("/cut", post(async || pieces(vec!["{\"number\":1}\n{\"num"])))
        .route("/long", post(async || vec![b'x'; client::LINE_BYTES_MAX * 2]))
        .route("/plain", get(async || (StatusCode::BAD_GATEWAY, "no JSON")))
}

async fn busy() -> Result<Json<Line>, Refusal> {
    let failure = Failure::new(Exit::Busy, "job web is running").hint("wait for it");
    Err::<(), _>(failure).context("start job")?;
    Ok(Json(Line { number: 0 }))
}

struct Daemon {
    dir: TempDir,
    stop: CancellationToken,
    server: JoinHandle<Result<()>>,
}

impl Daemon {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let listener = bind(&dir.path().join("control.sock")).unwrap();
        let stop = CancellationToken::new();
        let server = tokio::spawn(serve(listener, router(), stop.clone()));
        Self { dir, stop, server }
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("control.sock")
    }

    fn client(&self) -> Client {
        Client::new(self.socket(), "backupd")
    }
}

#[tokio::test]
async fn questions_are_answered_until_stopped() {
    let daemon = Daemon::start();
    let client = daemon.client();
    assert_eq!(client.get_json::<Line>("/status").await.unwrap(), Line { number: 7 });
    let answer: Line = client.post_json("/echo", &Line { number: 9 }).await.unwrap();
    assert_eq!(answer, Line { number: 9 });
    daemon.stop.cancel();
    daemon.server.await.unwrap().unwrap();
    let error = client.get_json::<Line>("/status").await.unwrap_err();
    assert!(error.to_string().starts_with("backupd is not running"), "{error:#}");
    assert_eq!(hint_of(&error), Some("start it with `systemctl start backupd`"));
}

#[tokio::test]
async fn the_socket_is_private_and_alone_in_its_directory() {
    let daemon = Daemon::start();
    let mode = fs::metadata(daemon.socket()).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    assert_eq!(fs::read_dir(daemon.dir.path()).unwrap().count(), 1);
}

#[tokio::test]
async fn a_dead_socket_is_replaced_and_a_live_one_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("control.sock");
    drop(bind(&path).unwrap());
    assert!(path.exists(), "a crash leaves it behind");
    let _listener = bind(&path).unwrap();
    let error = bind(&path).unwrap_err();
    assert_eq!(exit_of(&error), Exit::Busy);
    let file = dir.path().join("file");
    fs::write(&file, "precious").unwrap();
    assert_eq!(exit_of(&bind(&file).unwrap_err()), Exit::Usage);
    assert_eq!(fs::read_to_string(&file).unwrap(), "precious");
}

#[tokio::test]
async fn a_path_that_cannot_be_has_a_hint() {
    fn check(path: &str, hint: &str) {
        let error = bind(Path::new(path)).unwrap_err();
        assert!(hint_of(&error).unwrap().contains(hint), "{error:#}");
    }
    check("/nowhere/control.sock", "create its directory");
    let dir = tempfile::tempdir().unwrap();
    let long = dir.path().join("x".repeat(100));
    fs::create_dir(&long).unwrap();
    check(long.join("control.sock").to_str().unwrap(), "less than 90 bytes");
}

#[tokio::test]
async fn an_error_arrives_with_its_hint_and_exit() {
    let daemon = Daemon::start();
    let error = daemon.client().get_json::<Line>("/busy").await.unwrap_err();
    assert_eq!(format!("{error:#}"), "start job: job web is running");
    assert_eq!(hint_of(&error), Some("wait for it"));
    assert_eq!(exit_of(&error), Exit::Busy);
    let error = daemon.client().get_json::<Line>("/plain").await.unwrap_err();
    assert!(error.to_string().contains("502 Bad Gateway no JSON"), "{error:#}");
    let error = daemon.client().get_json::<Line>("/nothing").await.unwrap_err();
    assert!(error.to_string().contains("404"), "{error:#}");
    let error = daemon.client().get_json::<Vec<u8>>("/status").await.unwrap_err();
    assert!(error.to_string().contains("understand the answer"), "{error:#}");
}

#[tokio::test]
async fn lines_arrive_whole_however_they_were_cut() {
    let daemon = Daemon::start();
    let mut lines = daemon.client().post_stream("/lines", &()).await.unwrap();
    assert_eq!(lines.next_json().await.unwrap(), Some(Line { number: 1 }));
    assert_eq!(lines.next_json().await.unwrap(), Some(Line { number: 2 }));
    assert_eq!(lines.next_json::<Line>().await.unwrap(), None);
    let mut lines = daemon.client().post_stream("/cut", &()).await.unwrap();
    assert_eq!(lines.next_json().await.unwrap(), Some(Line { number: 1 }));
    let error = lines.next_json::<Line>().await.unwrap_err();
    assert!(error.to_string().contains("middle of a line"), "{error:#}");
}

#[tokio::test]
async fn a_line_and_a_request_without_end_are_refused() {
    let daemon = Daemon::start();
    let mut lines = daemon.client().post_stream("/long", &()).await.unwrap();
    let error = lines.next_line().await.unwrap_err();
    let limit = client::LINE_BYTES_MAX;
    assert!(error.to_string().contains(&format!("more than {limit} bytes")), "{error:#}");
    let large = vec![0u8; REQUEST_BYTES_MAX];
    let error = daemon.client().post_json::<Line>("/echo", &large).await.unwrap_err();
    assert!(error.to_string().contains("413"), "{error:#}");
}

#[tokio::test]
async fn a_line_arrives_before_the_next_is_written() {
    let (mut writer, reader) = tokio::io::duplex(64);
    let body = Body::from_stream(tokio_util::io::ReaderStream::new(reader));
    let body = Arc::new(Mutex::new(Some(body)));
    let router = Router::new()
        .route("/live", post(move || ready(body.lock().unwrap().take().expect("one request"))));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("control.sock");
    let listener = bind(&path).unwrap();
    let stop = CancellationToken::new();
    let server = tokio::spawn(serve(listener, router, stop.clone()));
    let mut lines = Client::new(&path, "backupd").post_stream("/live", &()).await.unwrap();
    for number in 0..3 {
        writer.write_all(format!("{{\"number\":{number}}}\n").as_bytes()).await.unwrap();
        assert_eq!(lines.next_json().await.unwrap(), Some(Line { number }));
    }
    // Dropping the answer hangs up, and the daemon notices.
    drop(lines);
    let hung_up = async { while writer.write_all(b"\n").await.is_ok() {} };
    tokio::time::timeout(Duration::from_secs(20), hung_up).await.unwrap();
    stop.cancel();
    server.await.unwrap().unwrap();
}
