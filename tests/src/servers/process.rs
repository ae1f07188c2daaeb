//! A server process of ours: started on a free port, killed by its id when dropped.

use std::ffi::OsStr;
use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

/// Runs its arguments and ends with them; kills them at the end of its input.
const BOUND: &str = r#"exec 3<&0; "$@" </dev/null 3<&- & child=$!
(read -r _ <&3; kill -9 $child) & exec 3<&-; wait $child"#;
const START_TIMEOUT: Duration = Duration::from_secs(20);
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// A running process; killed and waited for on drop.
#[derive(Debug)]
pub struct Process {
    child: Child,
}

impl Process {
    /// Starts a command without input; its output goes to `log`.
    pub fn start(command: &mut Command, log: &Path) -> Result<Self> {
        let log = fs::File::options().create(true).append(true).open(log)?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = command.spawn().with_context(|| format!("start {command:?}"))?;
        Ok(Self { child })
    }

    /// As [`start`](Self::start), for a server that is kept in a static and so never dropped: it is killed when
    /// this program ends in whatever way, since its shell then reads the end of a pipe.
    pub fn start_bound(
        program: &[&OsStr],
        adapt: impl Fn(&mut Command),
        log: &Path,
    ) -> Result<Self> {
        let log = fs::File::options().create(true).append(true).open(log)?;
        let mut command = Command::new("sh");
        command.args(["-c", BOUND, "sh"]).args(program);
        adapt(&mut command);
        command.stdin(Stdio::piped()).stdout(log.try_clone()?).stderr(log);
        // The child keeps the pipe's other end open as long as it is not dropped.
        let child = command.spawn().with_context(|| format!("start {command:?}"))?;
        Ok(Self { child })
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has ended, and how.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Waits until something listens at `address`; an error if the process ends before, or after 20 seconds.
    pub fn wait_listening(&mut self, address: SocketAddr) -> Result<()> {
        wait_until("listens", || {
            if let Some(status) = self.child.try_wait()? {
                bail!("it ended: {status}");
            }
            Ok(TcpStream::connect(address).is_ok())
        })
    }

    /// The ids of all processes below this one, children before grandchildren.
    pub fn descendants(&self) -> Vec<u32> {
        descendants_of(self.id())
    }

    /// Sends a signal to all processes below this one, and returns how many there were.
    pub fn signal_descendants(&self, signal: Signal) -> usize {
        let ids = self.descendants();
        for id in &ids {
            send(*id, signal);
        }
        ids.len()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It must not have new children while the old ones are killed.
        send(self.id(), Signal::STOP);
        self.signal_descendants(Signal::KILL);
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Sends a signal to a process that may have ended by itself.
fn send(id: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(id).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, signal);
    }
}

/// The ids of all processes below one, children before grandchildren.
pub fn descendants_of(id: u32) -> Vec<u32> {
    let mut found = vec![id];
    let mut next = 0;
    while next < found.len() {
        found.extend(children(found[next]));
        next += 1;
    }
    found.split_off(1)
}

/// The children of a process, from the parent's id in `/proc/<id>/stat`.
fn children(parent: u32) -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let ids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    ids.filter(|id| parent_of(*id) == Some(parent)).collect()
}

fn parent_of(id: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    // "id (name) state parent ...": the name may hold spaces and parentheses.
    stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
}

/// A port of the loopback address that is free at this moment.
pub fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0").context("find a free port")?.local_addr()?)
}

/// Asks every ten milliseconds, for at most 20 seconds, until the answer is yes.
pub fn wait_until(what: &str, mut ask: impl FnMut() -> Result<bool>) -> Result<()> {
    let started = Instant::now();
    while !ask()? {
        if started.elapsed() > START_TIMEOUT {
            bail!("waited in vain until it {what}");
        }
        thread::sleep(POLL_INTERVAL);
    }
    Ok(())
}

/// Runs a command to its end, with some text as its input; an error, with what it printed, if it fails.
pub fn run(command: &mut Command, input: &str) -> Result<String> {
    use std::io::Write;
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("start {command:?}"))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A command that does not read its input closes it.
        drop(stdin.write_all(input.as_bytes()));
    }
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!("{command:?}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8(output.stdout)?.trim_end().to_owned())
}
