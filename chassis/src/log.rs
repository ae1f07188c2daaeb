//! What a program says while it runs: to the terminal or the journal, and to a rolling file of JSON
//! lines.
//!
//! In the journal a line has no time (the journal knows it) and begins with its priority, as
//! sd-daemon(3) describes, so that `journalctl -p warning` works. The file is written by a thread
//! of its own behind a buffer of [`BUFFERED_LINES_MAX`] lines; when the disk is slower, lines are
//! dropped and counted instead of stopping the work. The directory is closed to others (0750), the
//! files too (0640). A new file begins every day at midnight UTC.

use std::fmt;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use chrono::{NaiveDate, Utc};
use serde::{Deserialize, Serialize};
use tracing::{Event, Level, Subscriber};
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_appender::rolling::{RollingFileAppender, Rotation};
use tracing_subscriber::fmt::format::{Format, Full, Writer};
use tracing_subscriber::fmt::time::SystemTime;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{EnvFilter, Layer, fmt::layer};

use crate::failure::{Exit, Failure};
use crate::progress::Bars;

/// Lines that may wait for the disk.
pub const BUFFERED_LINES_MAX: usize = 16 << 10;

/// The `[log]` section of a configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct LogConfig {
    /// What is logged: `error`, `warn`, `info`, `debug` or `trace`, also by part:
    /// `"info,depot=debug"`.
    pub level: String,
    /// How it looks on standard error.
    pub format: LogFormat,
    /// Where the JSON files go; none are written without.
    pub dir: Option<PathBuf>,
    /// How many daily files are kept, at least one.
    pub keep_files: usize,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { level: "info".to_owned(), format: LogFormat::Auto, dir: None, keep_files: 14 }
    }
}

/// How lines look on standard error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    /// `journal` under systemd (`JOURNAL_STREAM` is set), `terminal` otherwise.
    #[default]
    Auto,
    /// With time; with colours if it is a terminal and `NO_COLOR` is not set.
    Terminal,
    /// With priorities and without time.
    Journal,
}

/// Keeps the log going. Dropped, it writes what is buffered, for at most a second.
#[derive(Debug)]
pub struct LogGuard {
    /// Log lines are written above these.
    pub bars: Bars,
    file: Option<(ErrorCounter, WorkerGuard)>,
}

impl LogGuard {
    /// How many lines of the file were dropped because the disk was too slow.
    pub fn lines_lost(&self) -> u64 {
        self.file.as_ref().map_or(0, |(lost, _)| lost.dropped_lines() as u64)
    }
}

/// Starts the log of this process. `program` begins the names of the files:
/// `program.2026-11-23.json`. Fails if a log was started before.
pub fn start(config: &LogConfig, program: &str) -> Result<LogGuard> {
    let (subscriber, guard) = prepare(config, program)?;
    tracing::subscriber::set_global_default(subscriber).context("start the log")?;
    Ok(guard)
}

/// Refuses what [`start`] would refuse of the level.
pub fn check_level(config: &LogConfig) -> Result<(), Failure> {
    filter(config).map(drop)
}

fn filter(config: &LogConfig) -> Result<EnvFilter, Failure> {
    EnvFilter::try_new(&config.level).map_err(|_| {
        Failure::new(Exit::Usage, format!("`{}` is not a log level", config.level))
            .hint("write error, warn, info, debug or trace, or parts as in \"info,depot=debug\"")
    })
}

fn prepare(config: &LogConfig, program: &str) -> Result<(impl Subscriber + use<>, LogGuard)> {
    let filter = filter(config)?;
    let bars = Bars::new();
    let (file_layer, file) = match &config.dir {
        None => (None, None),
        Some(dir) => {
            let (writer, guard) = open_file(dir, program, config.keep_files)?;
            let lost = writer.error_counter();
            let json = layer().json().log_internal_errors(false).with_writer(writer);
            (Some(json), Some((lost, guard)))
        }
    };
    let lines = Lines { is_journal: is_journal(config.format) };
    let is_colourful = !lines.is_journal
        && io::stderr().is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let terminal_layer = layer()
        .with_ansi(is_colourful)
        // It would panic when standard error is closed.
        .log_internal_errors(false)
        .event_format(lines)
        .with_writer(AboveBars { bars: bars.clone() });
    let subscriber =
        tracing_subscriber::registry().with(filter).with(terminal_layer.and_then(file_layer));
    Ok((subscriber, LogGuard { bars, file }))
}

fn is_journal(format: LogFormat) -> bool {
    match format {
        LogFormat::Auto => std::env::var_os("JOURNAL_STREAM").is_some(),
        LogFormat::Terminal => false,
        LogFormat::Journal => true,
    }
}

/// The two ways a line looks.
struct Lines {
    is_journal: bool,
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let format: Format<Full, SystemTime> = Format::default();
        if !self.is_journal {
            return format.with_target(false).format_event(context, writer, event);
        }
        write!(writer, "<{}>", priority(*event.metadata().level()))?;
        let format = format.without_time().with_level(false).with_target(false);
        format.format_event(context, writer, event)
    }
}

/// The priorities of syslog(3).
fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    }
}

/// Standard error, with the progress bars out of the way while a line is written.
#[derive(Clone)]
struct AboveBars {
    bars: Bars,
}

impl Write for AboveBars {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bars.suspend(|| io::stderr().write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for AboveBars {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

fn open_file(dir: &Path, program: &str, keep_files: usize) -> Result<(NonBlocking, WorkerGuard)> {
    let no_log = |error: io::Error| {
        Failure::new(Exit::Usage, format!("write the log to {}", dir.display()))
            .hint("create the directory for the user of this program, or set `log.dir`")
            .because(error)
    };
    if !dir.exists() {
        DirBuilder::new().recursive(true).mode(0o750).create(dir).map_err(no_log)?;
    }
    let mut files = DailyFiles {
        dir: dir.to_owned(),
        program: program.to_owned(),
        keep: keep_files.max(1),
        day: NaiveDate::MIN,
    };
    files.begin(Utc::now().date_naive()).map_err(no_log)?;
    let appender = RollingFileAppender::builder()
        .rotation(Rotation::DAILY)
        .filename_prefix(program)
        .filename_suffix("json")
        .build(dir)
        .with_context(|| format!("write the log to {}", dir.display()))?;
    let builder = NonBlockingBuilder::default().lossy(true);
    let builder = builder.buffered_lines_limit(BUFFERED_LINES_MAX).thread_name("log");
    Ok(builder.finish(PrivateAppender { appender, files }))
}

/// Creates the file of each day with its mode before the appender would with another, and removes
/// old ones. (The appender can remove too, but goes by the time of creation, and may take today's
/// file for the oldest.)
struct DailyFiles {
    dir: PathBuf,
    program: String,
    keep: usize,
    day: NaiveDate,
}

impl DailyFiles {
    fn begin(&mut self, day: NaiveDate) -> io::Result<()> {
        if day == self.day {
            return Ok(());
        }
        self.day = day;
        let path = self.dir.join(self.name_of(day));
        OpenOptions::new().append(true).create(true).mode(0o640).open(path)?;
        let mut days: Vec<_> = fs::read_dir(&self.dir)?
            .filter_map(|entry| self.day_of(entry.ok()?.file_name().to_str()?))
            .collect();
        days.sort();
        for old in days.iter().rev().skip(self.keep).filter(|old| **old != day) {
            fs::remove_file(self.dir.join(self.name_of(*old)))?;
        }
        Ok(())
    }

    /// As the appender names it.
    fn name_of(&self, day: NaiveDate) -> String {
        format!("{}.{}.json", self.program, day.format("%Y-%m-%d"))
    }

    fn day_of(&self, name: &str) -> Option<NaiveDate> {
        let day = name.strip_prefix(&self.program)?.strip_prefix('.')?.strip_suffix(".json")?;
        NaiveDate::parse_from_str(day, "%Y-%m-%d").ok()
    }
}

struct PrivateAppender {
    appender: RollingFileAppender,
    files: DailyFiles,
}

impl Write for PrivateAppender {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // If the file cannot be created, the appender says so too; an old one that stays does no
        // harm.
        drop(self.files.begin(Utc::now().date_naive()));
        self.appender.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.appender.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::failure::{exit_of, hint_of};

    #[test]
    fn the_file_holds_json_lines_and_is_private() {
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("log");
        let config = LogConfig {
            level: "warn,chassis=info".to_owned(),
            dir: Some(dir.clone()),
            ..LogConfig::default()
        };
        let (subscriber, guard) = prepare(&config, "backupd").unwrap();
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(job = "web", "run began");
            tracing::debug!("not shown");
        });
        assert_eq!(guard.lines_lost(), 0);
        drop(guard);
        let today = Utc::now().format("%Y-%m-%d");
        let path = dir.join(format!("backupd.{today}.json"));
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&dir), mode(&path)), (0o750, 0o640));
        let text = fs::read_to_string(&path).unwrap();
        let line: serde_json::Value = serde_json::from_str(text.trim_end()).unwrap();
        assert_eq!(line["fields"]["job"], "web");
        assert_eq!(line["level"], "INFO");
    }

    #[test]
    fn only_so_many_files_are_kept_and_never_todays_lost() {
        let dir = tempfile::tempdir().unwrap();
        let today = format!("backupd.{}.json", Utc::now().format("%Y-%m-%d"));
        let old = (10..20).map(|day| format!("backupd.2026-01-{day}.json"));
        let foreign = ["backup.2026-01-10.json", "backupd.json", "backupd.2026-01-10.json.gz"];
        for name in old.chain(foreign.map(str::to_owned)).chain([today.clone()]) {
            fs::write(dir.path().join(&name), &name).unwrap();
        }
        for (keep_files, left) in [(3, 3), (1, 1), (0, 1)] {
            drop(open_file(dir.path(), "backupd", keep_files).unwrap());
            assert_eq!(fs::read_dir(dir.path()).unwrap().count(), left + foreign.len());
        }
        assert_eq!(fs::read_to_string(dir.path().join(&today)).unwrap(), today);
    }

    #[test]
    fn a_slow_disk_loses_lines_and_counts_them() {
        let gate = Arc::new(Mutex::new(()));
        let closed = gate.lock().unwrap();
        struct Stuck(Arc<Mutex<()>>);
        impl Write for Stuck {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                drop(self.0.lock());
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let builder = NonBlockingBuilder::default().lossy(true).buffered_lines_limit(8);
        let (mut writer, worker) = builder.finish(Stuck(gate.clone()));
        let file = Some((writer.error_counter(), worker));
        let guard = LogGuard { bars: Bars::new(), file };
        for _ in 0..20 {
            writer.write_all(b"line\n").unwrap();
        }
        // Eight wait, one may be at the gate.
        assert!((11..=12).contains(&guard.lines_lost()), "{}", guard.lines_lost());
        drop(closed);
    }

    #[test]
    fn a_wrong_level_and_a_forbidden_directory_have_hints() {
        let config = LogConfig { level: "a=b=c".to_owned(), ..LogConfig::default() };
        let error = prepare(&config, "backupd").err().unwrap();
        assert_eq!(exit_of(&error), Exit::Usage);
        assert!(hint_of(&error).unwrap().contains("debug"));
        let dir = Some(PathBuf::from("/dev/null/log"));
        let error = prepare(&LogConfig { dir, ..LogConfig::default() }, "backupd").err().unwrap();
        assert!(hint_of(&error).unwrap().contains("log.dir"));
    }

    #[test]
    fn a_line_in_the_journal_has_a_priority_and_no_time() {
        let output = tempfile::NamedTempFile::new().unwrap();
        let file = output.reopen().unwrap();
        let journal = layer()
            .with_ansi(false)
            .event_format(Lines { is_journal: true })
            .with_writer(Mutex::new(file));
        let subscriber = tracing_subscriber::registry().with(journal);
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!(attempt = 2, "trying again");
            tracing::info!("done");
        });
        let text = fs::read_to_string(output.path()).unwrap();
        assert_eq!(text, "<4>trying again attempt=2\n<6>done\n");
    }

    #[test]
    fn configuration_has_defaults_and_is_strict() {
        assert_eq!(toml::from_str::<LogConfig>("").unwrap(), LogConfig::default());
        let config: LogConfig = toml::from_str("format = \"journal\"\nkeep-files = 3").unwrap();
        assert_eq!((config.format, config.keep_files), (LogFormat::Journal, 3));
        assert!(toml::from_str::<LogConfig>("keep_files = 3").is_err());
    }
}
