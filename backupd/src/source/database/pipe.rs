//! The tool's stream as it comes out of its pipe, watched: no byte for too long, or a stop, is an error.
//!
//! Only the time that we wait for the tool counts as its silence; a slow depot makes us wait elsewhere.

use std::io::{self, Read};
use std::process::ChildStdout;
use std::time::{Duration, Instant};

use chassis::retry::Stop;
use chassis::units::format_duration;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// The most that Linux lets an ordinary process have; the default is 64 KiB.
const PIPE_BYTES: usize = 1 << 20;
/// How often a stop is looked for while the tool is silent.
const LOOK_EVERY: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// A readable end.
#[derive(Debug)]
pub(super) struct ToolPipe {
    stdout: ChildStdout,
    stall_timeout: Duration,
    stop: Stop,
}

impl ToolPipe {
    /// Takes the end that is read from, and enlarges the pipe where the system allows it.
    pub(super) fn new(stdout: ChildStdout, stall_timeout: Duration, stop: Stop) -> Self {
        if let Err(error) = rustix::pipe::fcntl_setpipe_size(&stdout, PIPE_BYTES) {
            tracing::debug!("pipe stays small: {error}");
        }
        Self { stdout, stall_timeout, stop }
    }

    fn await_bytes(&self) -> io::Result<()> {
        let since = Instant::now();
        loop {
            if self.stop.is_stopped() {
                return Err(io::Error::other("it was asked to stop"));
            }
            let mut ends = [PollFd::new(&self.stdout, PollFlags::IN)];
            match poll(&mut ends, Some(&LOOK_EVERY)) {
                Ok(0) if since.elapsed() >= self.stall_timeout => {
                    let text = format!("it was silent for {}", format_duration(self.stall_timeout));
                    return Err(io::Error::new(io::ErrorKind::TimedOut, text));
                }
                Ok(0) | Err(rustix::io::Errno::INTR) => {}
                Ok(_) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl Read for ToolPipe {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.await_bytes()?;
        self.stdout.read(buffer)
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;
    use crate::process::Group;

    fn pipe_of(script: &str, stall: Duration, stop: &Stop) -> (Group, ToolPipe) {
        let mut command = Command::new("/bin/sh");
        let mut group = Group::spawn(command.args(["-c", script]).stdout(Stdio::piped())).unwrap();
        let stdout = group.child().stdout.take().unwrap();
        (group, ToolPipe::new(stdout, stall, stop.clone()))
    }

    #[test]
    fn bytes_come_through_to_the_end() {
        let (_group, mut pipe) = pipe_of("echo hello", Duration::from_mins(1), &Stop::never());
        let mut text = String::new();
        pipe.read_to_string(&mut text).unwrap();
        assert_eq!(text, "hello\n");
    }

    #[test]
    fn a_silent_tool_is_given_up() {
        let (_group, mut pipe) = pipe_of("sleep 600", Duration::from_millis(150), &Stop::never());
        let error = pipe.read(&mut [0; 8]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(error.to_string(), "it was silent for 150 ms");
    }

    #[test]
    fn a_stop_ends_the_reading() {
        let stop = Stop::new();
        let (_group, mut pipe) = pipe_of("sleep 600", Duration::from_mins(10), &stop);
        stop.stop();
        assert!(pipe.read(&mut [0; 8]).unwrap_err().to_string().contains("asked to stop"));
    }
}
