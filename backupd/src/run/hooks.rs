//! The commands of an operator before and after a run.
//!
//! They are told by environment variables what the run is about, get nothing on standard input, and
//! what they print goes to the log. There is no shell unless the configuration names one.

use std::process::{Command, Stdio};
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use chassis::retry::Stop;
use chassis::text::escaped;

use crate::process::{Ended, Group, Tail, for_each_line};

/// Lines of a hook's output in the message when it fails.
const LINES_IN_ERROR: usize = 3;
/// The last words of a hook are awaited this long after it ended: a process that it has set free may hold its output
/// open for ever.
const LAST_WORDS_TIMEOUT: Duration = Duration::from_secs(1);
/// Where to look when a hook fails.
pub(super) const HINT: &str =
    "its output is in the log; systemd runs it in the daemon's sandbox, see docs/operations.md";

/// What a hook is told.
#[derive(Clone, Debug, Default)]
pub struct HookFacts<'a> {
    /// `HOLDFAST_JOB`.
    pub job: &'a str,
    /// `HOLDFAST_SNAPSHOT`: the id of the backup; empty if there is none.
    pub snapshot: String,
    /// `HOLDFAST_STATE`: `starting`, `done`, `partial` or `failed`.
    pub state: &'a str,
    /// `HOLDFAST_ERROR`: empty if there is none.
    pub error: &'a str,
}

/// How long a hook may take.
#[derive(Clone, Copy, Debug)]
pub struct HookLimits<'a> {
    /// In all.
    pub timeout: Duration,
    /// Asks it to end sooner.
    pub stop: &'a Stop,
    /// So long it may go on then.
    pub after_stop: Duration,
}

/// Runs a hook, named `what` in errors; nothing to do if it is empty. Not to exit with 0 is an
/// error.
pub fn run_hook(
    what: &str,
    command: &[String],
    facts: &HookFacts<'_>,
    limits: HookLimits<'_>,
) -> Result<()> {
    let Some((program, arguments)) = command.split_first() else { return Ok(()) };
    let (reader, writer) = std::io::pipe().context("make pipe")?;
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env("HOLDFAST_JOB", facts.job)
        .env("HOLDFAST_SNAPSHOT", &facts.snapshot)
        .env("HOLDFAST_STATE", facts.state)
        // The environment of a process takes no zero.
        .env("HOLDFAST_ERROR", facts.error.replace('\0', "\u{fffd}"))
        .stdin(Stdio::null())
        .stdout(writer.try_clone().context("copy pipe")?)
        .stderr(writer);
    let mut group = Group::spawn(&mut command).with_context(|| format!("run {what} hook"))?;
    // The command holds the ends that are written to; ours must go, or reading would never end.
    drop(command);
    let tail = Tail::default();
    let (reading, is_read) = sync_channel::<()>(0);
    std::thread::spawn({
        let tail = tail.clone();
        let (job, what) = (facts.job.to_owned(), what.to_owned());
        move || {
            for_each_line(reader, |line| {
                tracing::info!(job, hook = what, "{}", escaped(line));
                tail.push(line);
            });
            drop(reading);
        }
    });
    let ended = wait(&mut group, limits)?;
    // All that it started goes with it, so that the pipe closes and the thread ends; unless a process left the group.
    drop(group);
    let _ = is_read.recv_timeout(LAST_WORDS_TIMEOUT);
    verdict(what, ended, limits.timeout, &tail)
}

fn wait(group: &mut Group, limits: HookLimits<'_>) -> Result<Ended> {
    let deadline = Instant::now() + limits.timeout;
    match group.wait(deadline, limits.stop)? {
        Ended::Stopped if !limits.after_stop.is_zero() => {
            let deadline = deadline.min(Instant::now() + limits.after_stop);
            let ended = group.wait(deadline, &Stop::never())?;
            Ok(if ended == Ended::Late { Ended::Stopped } else { ended })
        }
        ended => Ok(ended),
    }
}

fn verdict(what: &str, ended: Ended, timeout: Duration, tail: &Tail) -> Result<()> {
    match ended {
        Ended::Exited(status) if status.success() => Ok(()),
        Ended::Exited(status) => {
            let said = tail.last(LINES_IN_ERROR).join(" | ");
            bail!("{what} hook failed with {status}: {said}")
        }
        Ended::Late => {
            bail!("{what} hook did not end within {}", chassis::units::format_duration(timeout))
        }
        Ended::Stopped => bail!("{what} hook was ended: the daemon is stopping"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(script: &str, timeout: Duration) -> Result<()> {
        let stop = Stop::never();
        run_with(script, "no disk", HookLimits { timeout, stop: &stop, after_stop: timeout })
    }

    fn run_with(script: &str, error: &str, limits: HookLimits<'_>) -> Result<()> {
        let command = ["/bin/sh", "-c", script].map(str::to_owned);
        let facts = HookFacts { job: "site", snapshot: "id".into(), state: "done", error };
        run_hook("after", &command, &facts, limits)
    }

    #[test]
    fn a_hook_is_told_what_happened() {
        let script = r#"set -- "$HOLDFAST_JOB" "$HOLDFAST_SNAPSHOT" "$HOLDFAST_STATE" "$HOLDFAST_ERROR"
            [ "$*" = "site id done no disk" ]"#;
        run(script, Duration::from_secs(30)).unwrap();
    }

    #[test]
    fn a_hook_that_fails_says_why() {
        let error = run("echo out; echo no lock >&2; exit 7", Duration::from_secs(30)).unwrap_err();
        assert_eq!(error.to_string(), "after hook failed with exit status: 7: out | no lock");
    }

    #[test]
    fn a_hook_that_hangs_or_leaves_a_child_behind_does_not_hold_up_the_run() {
        let start = Instant::now();
        let error = run("sleep 600", Duration::from_millis(50)).unwrap_err();
        assert_eq!(error.to_string(), "after hook did not end within 50 ms");
        run("sleep 600 & exit 0", Duration::from_secs(30)).unwrap();
        assert!(start.elapsed() < Duration::from_secs(20));
    }

    #[test]
    fn a_process_that_a_hook_sets_free_does_not_hold_up_the_run() {
        let dir = tempfile::tempdir().unwrap();
        let pid = dir.path().join("pid");
        let free = format!("echo $$ > {}; exec sleep 600", pid.display());
        let script = format!(
            "setsid sh -c '{free}' & until [ -s {0} ]; do sleep 0.01; done; echo last; exit 3",
            pid.display()
        );
        let error = run(&script, Duration::from_secs(30)).unwrap_err();
        let pid = std::fs::read_to_string(pid).unwrap().trim().parse().unwrap();
        let pid = rustix::process::Pid::from_raw(pid).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        assert_eq!(error.to_string(), "after hook failed with exit status: 3: last");
    }

    #[test]
    fn a_stop_leaves_a_hook_the_time_it_is_given() {
        let stop = Stop::new();
        stop.stop();
        let timeout = Duration::from_secs(30);
        let limits = |after_stop| HookLimits { timeout, stop: &stop, after_stop };
        run_with("sleep 0.1", "", limits(timeout)).unwrap();
        for after_stop in [Duration::ZERO, Duration::from_millis(50)] {
            let error = run_with("sleep 600", "", limits(after_stop)).unwrap_err();
            assert_eq!(error.to_string(), "after hook was ended: the daemon is stopping");
        }
    }

    #[test]
    fn any_error_can_be_told() {
        let stop = Stop::never();
        let timeout = Duration::from_secs(30);
        let limits = HookLimits { timeout, stop: &stop, after_stop: timeout };
        run_with("[ \"$HOLDFAST_ERROR\" = a\u{fffd}b ]", "a\0b", limits).unwrap();
    }
}
