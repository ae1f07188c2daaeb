//! What a program says and returns when it could not do what was asked.
//!
//! Library code returns `anyhow::Error` with verbs as context. Where the user can do something
//! about it, a [`Failure`] in the chain carries the advice and the exit code; [`report`] prints the
//! chain once, at the top.

use std::fmt;
use std::io::{self, Write};

/// Exit codes of all programs. Documented in `docs/errors.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Everything asked for was done.
    Done = 0,
    /// It failed; nothing stored before was lost.
    Failed = 1,
    /// Wrong usage or configuration; nothing was started.
    Usage = 2,
    /// Done in part: the report names what is missing.
    Partial = 3,
    /// Nothing matches what was asked for.
    Nothing = 4,
    /// Another run holds what this one needs.
    Busy = 5,
    /// Stopped by a signal.
    Interrupted = 130,
}

impl Exit {
    /// The exit of a code that another program of ours returned; [`Exit::Failed`] for any other.
    pub fn from_code(code: u8) -> Self {
        let known =
            [Self::Done, Self::Usage, Self::Partial, Self::Nothing, Self::Busy, Self::Interrupted];
        known.into_iter().find(|exit| *exit as u8 == code).unwrap_or(Self::Failed)
    }
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        std::process::ExitCode::from(exit as u8)
    }
}

/// An error with advice and an exit code. Put it at the root of a chain, or around a cause with
/// [`Failure::from`].
#[derive(Debug)]
pub struct Failure {
    /// The exit code that this failure asks for.
    pub exit: Exit,
    /// What happened: lower case, no full stop.
    pub message: String,
    /// What the user can do about it; printed as `hint: ...`.
    pub hint: Option<String>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Failure {
    /// A failure without advice yet.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), hint: None, source: None }
    }

    /// Adds advice: what to do next, as a sentence without full stop.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds the cause; it is printed after the message.
    pub fn because(mut self, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(cause.into());
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|source| source.as_ref() as _)
    }
}

/// The exit code that an error chain asks for: that of the first [`Failure`] in it, else
/// [`Exit::Failed`].
pub fn exit_of(error: &anyhow::Error) -> Exit {
    first_failure(error).map_or(Exit::Failed, |failure| failure.exit)
}

/// The advice in an error chain, if any.
pub fn hint_of(error: &anyhow::Error) -> Option<&str> {
    error.chain().filter_map(failure_in).find_map(|failure| failure.hint.as_deref())
}

fn first_failure(error: &anyhow::Error) -> Option<&Failure> {
    error.chain().find_map(failure_in)
}

/// A failure that went through a reader is within an `io::Error`, whose source is that of the
/// failure and not the failure itself.
fn failure_in<'a>(cause: &'a (dyn std::error::Error + 'static)) -> Option<&'a Failure> {
    let inner = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    cause.downcast_ref().or_else(|| inner.and_then(|inner| inner.downcast_ref()))
}

/// Prints an error chain once to standard error, with its hint, and returns the exit code.
///
/// With `json` the last line is an object: `{"error": ..., "hint": ..., "exit": ...}`.
pub fn report(error: &anyhow::Error, json: bool) -> Exit {
    let exit = exit_of(error);
    let mut stderr = std::io::stderr().lock();
    let printed = if json {
        let line = serde_json::json!({
            "error": format!("{error:#}"), "hint": hint_of(error), "exit": exit as u8,
        });
        writeln!(stderr, "{line}")
    } else {
        writeln!(stderr, "error: {error:#}")
            .and_then(|()| hint_of(error).map_or(Ok(()), |hint| writeln!(stderr, "hint: {hint}")))
    };
    drop(printed);
    exit
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn exit_and_hint_are_found_behind_a_reader() {
        let failure = Failure::new(Exit::Busy, "depot is away").hint("wait for it").because("cut");
        let error = Err::<(), _>(io::Error::other(failure)).context("read").expect_err("an error");
        assert_eq!(exit_of(&error), Exit::Busy);
        assert_eq!(hint_of(&error), Some("wait for it"));
        assert_eq!(format!("{error:#}"), "read: depot is away: cut");
    }

    #[test]
    fn exit_and_hint_are_found_below_context() {
        let error = Err::<(), _>(Failure::new(Exit::Busy, "job is running").hint("wait for it"))
            .context("start job")
            .expect_err("is an error");
        assert_eq!(exit_of(&error), Exit::Busy);
        assert_eq!(hint_of(&error), Some("wait for it"));
        assert_eq!(format!("{error:#}"), "start job: job is running");
    }
}
