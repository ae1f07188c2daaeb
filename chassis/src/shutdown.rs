//! Ending well, and telling systemd how things are.
//!
//! The first SIGTERM or SIGINT asks every task to stop at its next safe point; a second one ends
//! the program at once with code 130. SIGHUP asks for a reload. Tasks run on the tracker, so that
//! the end can wait for them.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{interval, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::failure::Exit;
use crate::retry::Stop;

/// What a daemon needs to end well. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    /// Raised when the program is to end.
    pub token: CancellationToken,
    /// All tasks that the end waits for.
    pub tracker: TaskTracker,
    /// Notified once for any number of SIGHUPs since it was awaited last.
    pub reload: Arc<Notify>,
}

impl Shutdown {
    /// The token as a flag for blocking code.
    pub fn stop(&self) -> Stop {
        Stop::from(self.token.clone())
    }

    /// Starts a task that the end waits for.
    pub fn spawn<F>(&self, task: F) -> JoinHandle<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        self.tracker.spawn(task)
    }

    /// Begins to listen to signals. From when this returns, none of the three kills the program by
    /// itself.
    pub fn signals(&self) -> Result<()> {
        let listen = |kind, name| signal(kind).with_context(|| format!("listen to {name}"));
        let terminate = listen(SignalKind::terminate(), "SIGTERM")?;
        let interrupt = listen(SignalKind::interrupt(), "SIGINT")?;
        let hangup = listen(SignalKind::hangup(), "SIGHUP")?;
        // Not tracked: it outlives the token, to see a second signal.
        tokio::spawn(self.clone().watch_signals(terminate, interrupt, hangup));
        Ok(())
    }

    async fn watch_signals(self, mut terminate: Signal, mut interrupt: Signal, mut hangup: Signal) {
        loop {
            let name = tokio::select! {
                biased;
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
                _ = hangup.recv() => {
                    tracing::info!("SIGHUP: reloading");
                    self.reload.notify_one();
                    continue;
                }
            };
            if self.token.is_cancelled() {
                tracing::warn!("{name} again: ending at once");
                exit_now();
            }
            tracing::info!("{name}: stopping at the next safe point");
            self.token.cancel();
        }
    }

    /// Asks all tasks to stop and waits for them. Returns whether all have ended in time.
    pub async fn finish(&self, patience: Duration) -> bool {
        self.token.cancel();
        self.tracker.close();
        timeout(patience, self.tracker.wait()).await.is_ok()
    }
}

#[expect(clippy::exit, reason = "the user asked twice; tasks may hang")]
fn exit_now() -> ! {
    std::process::exit(Exit::Interrupted as i32)
}

/// Tells systemd that the service is up. This and the following do nothing outside of a unit with
/// `Type=notify`.
pub fn ready() {
    notify(&[NotifyState::Ready]);
}

/// Tells systemd that the service is ending.
pub fn stopping() {
    notify(&[NotifyState::Stopping]);
}

/// Tells systemd that the service reads its configuration again; call [`ready`] afterwards.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(since) => notify(&[NotifyState::Reloading, since]),
        Err(_) => notify(&[NotifyState::Reloading]),
    }
}

/// Shows a line in `systemctl status`.
pub fn status(line: &str) {
    // A second line would be a message of its own.
    notify(&[NotifyState::Status(&line.replace('\n', " "))]);
}

fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!("failed to notify systemd: {error}");
    }
}

/// Keeps the watchdog of systemd quiet as long as `is_healthy` says so, twice in its period, until
/// `stop`. Ends at once if the unit has no `WatchdogSec`.
pub async fn watchdog(is_healthy: impl Fn() -> bool, stop: CancellationToken) {
    let Some(period) = sd_notify::watchdog_enabled().filter(|period| !period.is_zero()) else {
        return;
    };
    let mut ticks = interval(period / 2);
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        if is_healthy() {
            notify(&[NotifyState::Watchdog]);
        } else {
            tracing::warn!("not healthy: the watchdog is not told otherwise");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::os::unix::net::UnixDatagram;
    use std::process::{Child, Command, ExitStatus, Stdio};
    use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

    use rustix::process::{Pid, Signal, kill_process};

    use super::*;

    /// Set in a process that a test started: it plays the daemon.
    const ROLE: &str = "HOLDFAST_TEST_ROLE";

    /// Starts this very test in a process of its own, where [`ROLE`] is set.
    fn start_daemon(test: &str) -> Command {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", &format!("shutdown::tests::{test}"), "--nocapture"]);
        command.env(ROLE, "daemon").stdout(Stdio::piped());
        command
    }

    /// Whether this is the process of a daemon. It ends by itself if the test has failed or hangs.
    #[expect(clippy::exit, reason = "nothing else ends a thread that hangs")]
    fn is_daemon() -> bool {
        let is_daemon = std::env::var_os(ROLE).is_some();
        if is_daemon {
            std::thread::spawn(|| {
                std::thread::sleep(Duration::from_secs(30));
                std::process::exit(99);
            });
        }
        is_daemon
    }

    #[expect(clippy::print_stdout, reason = "the other process reads it")]
    fn say(word: &str) {
        println!("\n{word}");
    }

    struct Daemon {
        child: Child,
        output: BufReader<std::process::ChildStdout>,
    }

    impl Daemon {
        fn start(test: &str) -> Self {
            let mut child = start_daemon(test).spawn().unwrap();
            let output = BufReader::new(child.stdout.take().unwrap());
            Self { child, output }
        }

        fn await_word(&mut self, word: &str) {
            let mut line = String::new();
            while line.trim() != word {
                line.clear();
                assert_ne!(self.output.read_line(&mut line).unwrap(), 0, "ended before {word}");
            }
        }

        fn send(&self, signal: Signal) {
            kill_process(Pid::from_child(&self.child), signal).unwrap();
        }

        fn end(mut self) -> ExitStatus {
            self.child.wait().unwrap()
        }
    }

    #[test]
    fn a_signal_stops_and_sighup_reloads() {
        if is_daemon() {
            tokio::runtime::Runtime::new().unwrap().block_on(async {
                let shutdown = Shutdown::default();
                shutdown.signals().unwrap();
                say("listening");
                shutdown.reload.notified().await;
                assert!(!shutdown.token.is_cancelled());
                say("reloaded");
                shutdown.token.cancelled().await;
                assert!(shutdown.stop().is_stopped());
                say("stopped");
            });
            return;
        }
        let mut daemon = Daemon::start("a_signal_stops_and_sighup_reloads");
        daemon.await_word("listening");
        daemon.send(Signal::HUP);
        daemon.await_word("reloaded");
        daemon.send(Signal::TERM);
        daemon.await_word("stopped");
        assert!(daemon.end().success());
    }

    #[test]
    fn a_second_signal_ends_at_once() {
        if is_daemon() {
            tokio::runtime::Runtime::new().unwrap().block_on(async {
                let shutdown = Shutdown::default();
                shutdown.signals().unwrap();
                say("listening");
                shutdown.token.cancelled().await;
                say("stopping");
                std::future::pending::<()>().await;
            });
        }
        let mut daemon = Daemon::start("a_second_signal_ends_at_once");
        daemon.await_word("listening");
        daemon.send(Signal::INT);
        daemon.await_word("stopping");
        daemon.send(Signal::TERM);
        assert_eq!(daemon.end().code(), Some(130));
    }

    #[test]
    fn systemd_hears_what_happens_and_the_watchdog_follows_health() {
        if is_daemon() {
            tokio::runtime::Runtime::new().unwrap().block_on(async {
                reloading();
                ready();
                status("two\nlines");
                let asked = AtomicU32::new(0);
                let stop = CancellationToken::new();
                // Healthy twice, then not; the fifth question ends it.
                let is_healthy = || {
                    let count = asked.fetch_add(1, SeqCst);
                    if count == 4 {
                        stop.cancel();
                    }
                    count < 2
                };
                watchdog(is_healthy, stop.clone()).await;
                stopping();
            });
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut daemon = start_daemon("systemd_hears_what_happens_and_the_watchdog_follows_health")
            .env("NOTIFY_SOCKET", &path)
            .env("WATCHDOG_USEC", "20000")
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let receive = || {
            let mut buffer = [0; 4096];
            let length = socket.recv(&mut buffer).unwrap();
            String::from_utf8(buffer[..length].to_vec()).unwrap()
        };
        assert!(receive().starts_with("RELOADING=1\nMONOTONIC_USEC="));
        assert_eq!(receive(), "READY=1\n");
        assert_eq!(receive(), "STATUS=two lines\n");
        assert_eq!(receive(), "WATCHDOG=1\n");
        assert_eq!(receive(), "WATCHDOG=1\n");
        assert_eq!(receive(), "STOPPING=1\n");
        assert!(daemon.wait().unwrap().success());
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_waits_for_tasks_but_not_for_ever() {
        let shutdown = Shutdown::default();
        let token = shutdown.token.clone();
        shutdown.spawn(async move { token.cancelled().await });
        assert!(shutdown.finish(Duration::from_secs(5)).await);
        let shutdown = Shutdown::default();
        shutdown.spawn(std::future::pending::<()>());
        assert!(!shutdown.finish(Duration::from_secs(5)).await);
    }

    #[tokio::test]
    async fn without_systemd_the_watchdog_ends() {
        ready();
        watchdog(|| panic!("nobody asks"), CancellationToken::new()).await;
    }
}
