//! Commands that we start: in a process group of their own, bounded in time, their words kept.
//!
//! A [`Group`] never outlives its owner: dropping it ends the command, and the end of the command
//! is the end of all that it started. What a command prints is kept only to the length of a
//! [`Tail`], so that a chatty one costs no memory.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use chassis::failure::{Exit, Failure};
use chassis::retry::Stop;
use chassis::text::escaped;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

/// How long a command may take to end after it was asked to.
const PATIENCE: Duration = Duration::from_secs(3);
const POLL_FIRST: Duration = Duration::from_millis(2);
const POLL_MAX: Duration = Duration::from_millis(100);
/// Lines of a command's output that are kept.
pub const TAIL_LINES_MAX: usize = 40;
/// A longer line is cut.
pub const LINE_BYTES_MAX: usize = 2000;

/// A running command and all that it started.
#[derive(Debug)]
pub struct Group {
    child: Child,
    status: Option<ExitStatus>,
}

/// How waiting for a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// By itself.
    Exited(ExitStatus),
    /// It was still running at the deadline.
    Late,
    /// Somebody asked to stop.
    Stopped,
}

impl Group {
    /// Starts a command. Its standard streams are the caller's choice.
    pub fn spawn(command: &mut Command) -> Result<Self> {
        let program = command.get_program().to_string_lossy().into_owned();
        let child = command.process_group(0).spawn().map_err(|error| {
            let hint = match error.kind() {
                std::io::ErrorKind::NotFound => "install it, or correct its path",
                std::io::ErrorKind::PermissionDenied => "the daemon must be allowed to run it",
                _ => "see what the system says",
            };
            Failure::new(Exit::Failed, format!("start {program}")).hint(hint).because(error)
        })?;
        Ok(Self { child, status: None })
    }

    /// The child, to take its streams.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Its exit status, if it has ended.
    pub fn status(&mut self) -> Result<Option<ExitStatus>> {
        if self.status.is_none() && self.has_exited()? {
            self.reap()?;
        }
        Ok(self.status)
    }

    /// Looks without collecting it: until it is collected, its number is nobody else's.
    fn has_exited(&self) -> Result<bool> {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
        let found = waitid(WaitId::Pid(self.pid()), options).context("wait for command")?;
        Ok(found.is_some())
    }

    /// Ends what it left behind, then collects it.
    fn reap(&mut self) -> Result<()> {
        self.signal(Signal::KILL);
        self.status = Some(self.child.wait().context("wait for command")?);
        Ok(())
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Waits until it ends, until `deadline`, or until asked to stop; it is not ended by this.
    pub fn wait(&mut self, deadline: Instant, stop: &Stop) -> Result<Ended> {
        let mut pause = POLL_FIRST;
        loop {
            if let Some(status) = self.status()? {
                return Ok(Ended::Exited(status));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(Ended::Late);
            }
            if stop.wait_timeout(pause.min(left)) {
                return Ok(Ended::Stopped);
            }
            pause = (pause * 2).min(POLL_MAX);
        }
    }

    /// Ends all of it: asks, waits a little, then kills.
    pub fn end(&mut self) {
        if self.status.is_some() {
            return;
        }
        self.signal(Signal::TERM);
        if matches!(self.wait(Instant::now() + PATIENCE, &Stop::never()), Ok(Ended::Exited(_))) {
            return;
        }
        drop(self.reap());
    }

    fn signal(&self, signal: Signal) {
        // It may be gone by now, which is what is wanted.
        let _ = kill_process_group(self.pid(), signal);
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.end();
    }
}

/// The last lines of a command's output, shared between the thread that reads it and whoever
/// reports.
#[derive(Clone, Debug, Default)]
pub struct Tail {
    lines: Arc<Mutex<VecDeque<String>>>,
}

impl Tail {
    /// Adds a line, fit to be printed; the oldest one goes if there are more than [`TAIL_LINES_MAX`].
    pub fn push(&self, line: &str) {
        let mut lines = self.lock();
        if lines.len() == TAIL_LINES_MAX {
            lines.pop_front();
        }
        lines.push_back(escaped(line).into_owned());
    }

    /// The last `count` lines.
    pub fn last(&self, count: usize) -> Vec<String> {
        let lines = self.lock();
        lines.iter().skip(lines.len().saturating_sub(count)).cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<String>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Calls `each` with every line of `stream`, cut at [`LINE_BYTES_MAX`], until it ends.
pub fn for_each_line(stream: impl Read, mut each: impl FnMut(&str)) {
    let mut stream = BufReader::new(stream);
    let mut line = Vec::new();
    loop {
        line.clear();
        let limit = LINE_BYTES_MAX as u64;
        match stream.by_ref().take(limit).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => each(String::from_utf8_lossy(&line).trim_end()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Stdio;

    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]).stdin(Stdio::null());
        command
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_millis(50)
    }

    #[test]
    fn a_command_that_takes_too_long_is_late_and_ended_with_all_it_started() {
        let mut command = shell("sleep 600 & echo $!; wait");
        let mut group = Group::spawn(command.stdout(Stdio::piped())).unwrap();
        let mut out = BufReader::new(group.child().stdout.take().unwrap());
        let mut pid = String::new();
        out.read_line(&mut pid).unwrap();
        assert_eq!(group.wait(soon(), &Stop::never()).unwrap(), Ended::Late);
        drop(group);
        // The pipe closes only when the last process that has it is gone.
        assert_eq!(out.read_line(&mut pid).unwrap(), 0);
    }

    #[test]
    fn a_command_that_does_not_listen_is_killed() {
        let mut command = shell("trap '' TERM; echo ready; while :; do sleep 0.1; done");
        let mut group = Group::spawn(command.stdout(Stdio::piped())).unwrap();
        let mut line = String::new();
        BufReader::new(group.child().stdout.take().unwrap()).read_line(&mut line).unwrap();
        group.end();
        assert!(group.status().unwrap().is_some_and(|status| !status.success()));
    }

    #[test]
    fn a_stop_ends_the_wait() {
        let stop = Stop::new();
        stop.stop();
        let mut group = Group::spawn(&mut shell("sleep 600")).unwrap();
        let hour = Instant::now() + Duration::from_hours(1);
        assert_eq!(group.wait(hour, &stop).unwrap(), Ended::Stopped);
    }

    #[test]
    fn a_missing_program_has_a_hint() {
        let error = Group::spawn(&mut Command::new("/nowhere/tool")).unwrap_err();
        assert_eq!(chassis::failure::hint_of(&error), Some("install it, or correct its path"));
    }

    #[test]
    fn only_the_last_lines_are_kept_and_long_ones_are_cut() {
        let tail = Tail::default();
        let text =
            format!("{}{}\n", "x\n".repeat(TAIL_LINES_MAX + 3), "y".repeat(LINE_BYTES_MAX + 5));
        for_each_line(text.as_bytes(), |line| tail.push(line));
        let lines = tail.last(TAIL_LINES_MAX * 2);
        assert_eq!(lines.len(), TAIL_LINES_MAX);
        assert_eq!(lines[TAIL_LINES_MAX - 2].len(), LINE_BYTES_MAX);
        assert_eq!(lines[TAIL_LINES_MAX - 1], "yyyyy");
        assert_eq!(tail.last(1), ["yyyyy"]);
    }
}
