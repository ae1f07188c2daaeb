//! What the command lines of all programs share: completions, manual pages, and a standard output
//! that may be closed early.
//!
//! Data goes through [`Stdout`]. When its reader has gone (`backupctl list | head`), writing ends
//! with an error that [`forgive_closed_stdout`] turns into success at the top; a broken pipe to
//! anything else stays an error.

use std::error::Error;
use std::fmt;
use std::io::{self, BufWriter, StdoutLock, Write};
use std::path::Path;

use anyhow::{Context, Result};
use clap::Command;
use clap_complete::Shell;
use serde::Serialize;

/// Standard output, buffered. Call [`finish`](Self::finish) to see the last errors.
#[derive(Debug)]
pub struct Stdout {
    inner: BufWriter<StdoutLock<'static>>,
}

impl Default for Stdout {
    fn default() -> Self {
        Self { inner: BufWriter::with_capacity(64 << 10, io::stdout().lock()) }
    }
}

impl Stdout {
    /// Writes a value as JSON on one line.
    pub fn json(&mut self, value: &impl Serialize) -> Result<()> {
        let mut line = serde_json::to_vec(value).context("write JSON")?;
        line.push(b'\n');
        self.write_all(&line).context("write standard output")
    }

    /// Writes what is left in the buffer.
    pub fn finish(mut self) -> Result<()> {
        self.flush().context("write standard output")
    }
}

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.inner.write(bytes).map_err(mark_closed)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush().map_err(mark_closed)
    }
}

/// A word for a shell, in quotes if it needs them.
pub fn quoted(word: &str) -> String {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"-_=./:,+@%".contains(&b);
    if !word.is_empty() && word.bytes().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[derive(Debug)]
struct StdoutClosed;

impl fmt::Display for StdoutClosed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("standard output was closed by its reader")
    }
}

impl Error for StdoutClosed {}

fn mark_closed(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::BrokenPipe => io::Error::new(io::ErrorKind::BrokenPipe, StdoutClosed),
        _ => error,
    }
}

/// Success if the only trouble was that the reader of our standard output had seen enough.
pub fn forgive_closed_stdout(result: Result<()>) -> Result<()> {
    match result {
        Err(error) if is_closed_stdout(&error) => Ok(()),
        result => result,
    }
}

fn is_closed_stdout(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .filter_map(io::Error::get_ref)
        .any(<dyn Error + Send + Sync>::is::<StdoutClosed>)
}

/// Writes the completion script of a command for a shell.
pub fn completions(mut command: Command, shell: Shell, output: &mut impl Write) -> Result<()> {
    let name = command.get_name().to_owned();
    // The generator panics when writing fails: let it write to memory.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, name, &mut script);
    output.write_all(&script).context("write completions")
}

/// Writes the manual page of a command, without those of its subcommands.
pub fn man(command: Command, output: &mut impl Write) -> Result<()> {
    clap_mangen::Man::new(command).render(output).context("write manual page")
}

/// Writes the manual pages of a command and of all its subcommands into an existing directory, as
/// `name.1` and `name-subcommand.1`.
pub fn man_pages(command: Command, dir: &Path) -> Result<()> {
    clap_mangen::generate_to(command, dir)
        .with_context(|| format!("write manual pages to {}", dir.display()))
}

#[cfg(test)]
mod tests {
    use clap::Arg;

    use super::*;

    fn command() -> Command {
        Command::new("backupctl")
            .about("Asks the backup daemon")
            .arg(Arg::new("json").long("json").help("Prints JSON").num_args(0))
            .subcommand(Command::new("list").about("Lists snapshots"))
    }

    fn written(write: impl FnOnce(&mut Vec<u8>) -> Result<()>) -> String {
        let mut output = Vec::new();
        write(&mut output).unwrap();
        String::from_utf8(output).unwrap()
    }

    #[test]
    fn completions_know_options_and_subcommands() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let script = written(|output| completions(command(), shell, output));
            assert!(script.contains("json") && script.contains("list"), "{shell}");
        }
    }

    #[test]
    fn manual_pages_are_written_for_every_command() {
        let page = written(|output| man(command(), output));
        assert!(page.contains(".TH backupctl 1") && page.contains("Prints JSON"), "{page}");
        let dir = tempfile::tempdir().unwrap();
        man_pages(command(), dir.path()).unwrap();
        let page = std::fs::read_to_string(dir.path().join("backupctl-list.1")).unwrap();
        assert!(page.contains("Lists snapshots"), "{page}");
    }

    #[test]
    fn a_closed_standard_output_is_success_and_any_other_broken_pipe_is_not() {
        let broken = || io::Error::from(io::ErrorKind::BrokenPipe);
        let ours = Err::<(), _>(mark_closed(broken())).context("write tar");
        assert!(forgive_closed_stdout(ours).is_ok());
        let other = Err::<(), _>(broken()).context("send pack");
        assert!(forgive_closed_stdout(other).is_err());
        assert!(forgive_closed_stdout(Ok(())).is_ok());
    }

    #[test]
    fn words_are_quoted_for_a_shell_only_if_they_need_it() {
        assert_eq!(quoted("/srv/a-b_c.d"), "/srv/a-b_c.d");
        assert_eq!(quoted("/srv/it's here"), r"'/srv/it'\''s here'");
        assert_eq!(quoted(""), "''");
    }
}
