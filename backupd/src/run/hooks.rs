//! The commands of an operator before and after a run.
//!
//! They are told by environment variables what the run is about, get nothing on standard input, and
//! what they print goes to the log. There is no shell unless the configuration names one.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use chassis::retry::Stop;

use crate::process::{Ended, Group, Tail, for_each_line};

/// Lines of a hook's output in the message when it fails.
const LINES_IN_ERROR: usize = 3;

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

/// Runs a hook, named `what` in errors; nothing to do if it is empty. Not to exit with 0 is an
/// error.
pub fn run_hook(
    what: &str,
    command: &[String],
    facts: &HookFacts<'_>,
    timeout: Duration,
    stop: &Stop,
) -> Result<()> {
    let Some((program, arguments)) = command.split_first() else { return Ok(()) };
    let (reader, writer) = std::io::pipe().context("make pipe")?;
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env("HOLDFAST_JOB", facts.job)
        .env("HOLDFAST_SNAPSHOT", &facts.snapshot)
        .env("HOLDFAST_STATE", facts.state)
        .env("HOLDFAST_ERROR", facts.error)
        .stdin(Stdio::null())
        .stdout(writer.try_clone().context("copy pipe")?)
        .stderr(writer);
    let mut group = Group::spawn(&mut command).with_context(|| format!("run {what} hook"))?;
    // The command holds the ends that are written to; ours must go, or reading would never end.
    drop(command);
    let tail = Tail::default();
    let reading = std::thread::spawn({
        let tail = tail.clone();
        let (job, what) = (facts.job.to_owned(), what.to_owned());
        move || {
            for_each_line(reader, |line| {
                tracing::info!(job, hook = what, "{line}");
                tail.push(line);
            });
        }
    });
    let ended = group.wait(Instant::now() + timeout, stop)?;
    // All that it started goes with it, so that the pipe closes and the thread ends.
    drop(group);
    drop(reading.join());
    verdict(what, ended, timeout, &tail)
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
        let command = ["/bin/sh", "-c", script].map(str::to_owned);
        let facts =
            HookFacts { job: "site", snapshot: "id".into(), state: "done", error: "no disk" };
        run_hook("after", &command, &facts, timeout, &Stop::never())
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
}
