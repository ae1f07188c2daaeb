//! What types cannot say about a configuration. The first thing that is wrong is reported, with file, key and a hint.

use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;

use chassis::failure::{Exit, Failure};
use chassis::units::Span;
use depot::names::JobName;
use depot::retention::Policy;

use super::{Config, DatabaseJob, DepotName, FilesJob, Job, Keeper, LogJob, Mode};
use crate::source::files::patterns;

type Checked = Result<(), Refusal>;

/// What is wrong, and with which key.
#[derive(Debug)]
pub(super) struct Refusal {
    pub key: String,
    pub failure: Failure,
}

impl Refusal {
    fn hint(mut self, hint: impl Into<String>) -> Self {
        self.failure = self.failure.hint(hint);
        self
    }
}

/// No run may last longer: what it refers to is safe from the keeper for 72 hours.
const DEADLINE_MAX: Duration = Duration::from_hours(48);
/// What a condemned pack is given at least before it goes.
const GRACE_MIN: Duration = Duration::from_hours(72);
/// More characters leave no room for ids in the names of the log's pieces.
const LOG_NAMES_MAX: usize = 80;
/// A shorter time would make a great many objects.
const LAG_MIN: Duration = Duration::from_secs(1);
const SEGMENT_MIN: u64 = 64 << 10;
const SPOOL_MIN: u64 = 64 << 20;
/// More threads than this only hurt the server.
const PARALLEL_MAX: u32 = 64;

/// Checks all of it.
pub(super) fn check(config: &Config) -> Checked {
    check_paths(config)
        .and_then(|()| check_host(config))
        .and_then(|()| check_depots(config))
        .and_then(|()| check_recipients(config))
        .and_then(|()| config.jobs.iter().try_for_each(|(name, job)| check_job(config, name, job)))
        .and_then(|()| config.keeper.iter().try_for_each(|keeper| check_keeper(config, keeper)))
}

fn refuse(key: &str, problem: impl std::fmt::Display) -> Refusal {
    let failure = Failure::new(Exit::Usage, format!("{key}: {problem}"));
    Refusal { key: key.to_owned(), failure }
}

/// Names the key that a failure is about.
fn under(key: &str, mut failure: Failure) -> Refusal {
    failure.message = format!("{key}: {}", failure.message);
    Refusal { key: key.to_owned(), failure }
}

fn check_paths(config: &Config) -> Checked {
    let paths = [("state-dir", &config.state_dir), ("control-socket", &config.control_socket)];
    paths.into_iter().try_for_each(|(key, path)| check_absolute(key, path))
}

fn check_absolute(key: &str, path: &Path) -> Checked {
    if path.is_absolute() {
        return Ok(());
    }
    Err(refuse(key, format_args!("`{}` is not an absolute path", path.display()))
        .hint("begin it with `/`: a daemon has no directory of its own"))
}

/// What else the next start would refuse.
fn check_host(config: &Config) -> Checked {
    chassis::metrics::check_loopback(config.metrics_listen, config.metrics_remote).map_err(
        |failure| {
            under("metrics-listen", failure).hint("set `metrics-remote = true` if that is wanted")
        },
    )?;
    chassis::log::check_level(&config.log).map_err(|failure| under("log.level", failure))
}

fn check_depots(config: &Config) -> Checked {
    for (name, store) in &config.depots {
        if let Some(directory) = &store.directory {
            check_absolute(&format!("depots.{name}.directory.path"), &directory.path)?;
        }
        let kinds = [store.directory.is_some(), store.sftp.is_some(), store.s3.is_some()];
        match kinds.into_iter().filter(|is_given| *is_given).count() {
            1 => {}
            0 => {
                return Err(refuse(&format!("depots.{name}"), "says nowhere where the depot is")
                    .hint(format!("add a table `[depots.{name}.directory]`, `.sftp` or `.s3`")));
            }
            _ => {
                return Err(refuse(&format!("depots.{name}"), "is in more than one place")
                    .hint("give each place a depot of its own; a job may name several"));
            }
        }
    }
    if config.depots.is_empty() && !config.jobs.is_empty() {
        return Err(refuse("depots", "there is none, and jobs need one")
            .hint("add a table such as `[depots.vault.directory]`"));
    }
    Ok(())
}

fn check_recipients(config: &Config) -> Checked {
    if config.jobs.is_empty() {
        return Ok(());
    }
    if config.recipients.is_empty() && config.recipients_file.is_none() {
        return Err(refuse("recipients", "there is none: nobody could ever read a backup")
            .hint("run `backupctl keys generate` on a safe host, and put the public key here"));
    }
    config.recipients().map(drop).map_err(|error| {
        let hint = chassis::failure::hint_of(&error)
            .unwrap_or(
                "a file of recipients has one public key a line, `age1...` or `ssh-ed25519 ...`",
            )
            .to_owned();
        refuse("recipients", format_args!("{error:#}")).hint(hint)
    })
}

fn check_job(config: &Config, name: &JobName, job: &Job) -> Checked {
    let key = |field: &str| format!("jobs.{name}.{field}");
    check_kind(name, job)?;
    check_depot_names(config, &key("depots"), job.depots.as_deref())?;
    if job.deadline.0.is_zero() || job.deadline.0 > DEADLINE_MAX {
        return Err(refuse(&key("deadline"), format_args!("{} is not allowed", job.deadline))
            .hint("at most 48h: the keeper spares what a run refers to for 72 hours"));
    }
    // No run outlives its deadline, so nothing in it is waited for any longer; and clocks can tell such times.
    for (field, span) in [("jitter", job.jitter), ("hook-timeout", job.hook_timeout)] {
        check_span(&key(field), span)?;
    }
    check_nonzero(&key("hook-timeout"), job.hook_timeout)?;
    for (field, hook) in
        [("before", &job.before), ("after", &job.after), ("after-failed", &job.after_failed)]
    {
        check_hook(&key(field), hook)?;
    }
    if let Some(files) = &job.files {
        check_files(&key("files"), files)?;
    }
    job.log.iter().try_for_each(|log| check_log(config, name, job, log))?;
    job.database.iter().try_for_each(|database| check_database(&key("database"), database))
}

fn check_span(key: &str, span: Span) -> Checked {
    if span.0 <= DEADLINE_MAX {
        return Ok(());
    }
    Err(refuse(key, format_args!("{span} is not allowed"))
        .hint("at most 48h, as long as a run may take"))
}

fn check_nonzero(key: &str, span: Span) -> Checked {
    if span.0.is_zero() {
        return Err(refuse(key, "nothing can be done in no time").hint("write such as `10m`"));
    }
    Ok(())
}

fn check_kind(name: &JobName, job: &Job) -> Checked {
    let tables = format!("`[jobs.{name}.files]`, `.database` or `.log`");
    let kinds = [job.files.is_some(), job.database.is_some(), job.log.is_some()];
    match kinds.into_iter().filter(|is_given| *is_given).count() {
        0 => Err(refuse(&format!("jobs.{name}"), "says nowhere what to back up")
            .hint(format!("add one of {tables}"))),
        2.. => Err(refuse(&format!("jobs.{name}"), "has two sources")
            .hint(format!("keep one of {tables}; make a second job for the other"))),
        _ => Ok(()),
    }
}

fn check_depot_names(config: &Config, key: &str, names: Option<&[DepotName]>) -> Checked {
    let Some(names) = names else { return Ok(()) };
    if names.is_empty() {
        return Err(refuse(key, "is empty").hint("leave the key out for all depots"));
    }
    let mut seen = HashSet::new();
    for name in names {
        if !config.depots.contains_key(name) {
            return Err(under(key, config.no_such_depot(name)));
        }
        if !seen.insert(name) {
            return Err(refuse(key, format_args!("`{name}` is named twice")).hint("name it once"));
        }
    }
    Ok(())
}

fn check_hook(key: &str, hook: &[String]) -> Checked {
    match hook.first() {
        Some(program) if !program.starts_with('/') => {
            Err(refuse(key, format_args!("`{program}` is not an absolute path")).hint(
                "name the program with its path; there is no shell: `[\"/bin/sh\", \"-c\", ...]`",
            ))
        }
        _ => Ok(()),
    }
}

fn check_files(key: &str, files: &FilesJob) -> Checked {
    check_absolute(&format!("{key}.root"), &files.root)?;
    for (field, list) in [("include", &files.include), ("exclude", &files.exclude)] {
        for pattern in list {
            patterns::check(pattern)
                .map_err(|bad| refuse(&format!("{key}.{field}"), &bad).hint(bad.hint))?;
        }
    }
    Ok(())
}

fn check_database(key: &str, job: &DatabaseJob) -> Checked {
    check_absolute(&format!("{key}.option-file"), &job.option_file)?;
    check_nonzero(&format!("{key}.stall-timeout"), job.stall_timeout)?;
    if !(1..=PARALLEL_MAX).contains(&job.parallel) {
        return Err(refuse(
            &format!("{key}.parallel"),
            format_args!("{} is not allowed", job.parallel),
        )
        .hint(format!("1 to {PARALLEL_MAX} threads")));
    }
    check_span(&format!("{key}.stall-timeout"), job.stall_timeout)?;
    if job.full_every.is_some() && job.mode == Mode::Blocks {
        return Err(refuse(
            &format!("{key}.full-every"),
            "has no meaning with `mode = \"blocks\"`",
        )
        .hint("every backup of that mode is a full one; leave it out, or use `mode = \"lsn\"`"));
    }
    database::tool::check_extra(&job.extra_args).map_err(|error| {
        let mut refused = refuse(&format!("{key}.extra-args"), &error);
        refused.failure.hint = error.hint;
        refused
    })
}

fn check_log(config: &Config, name: &JobName, job: &Job, log: &LogJob) -> Checked {
    let key = |field: &str| format!("jobs.{name}.log.{field}");
    check_absolute(&key("option-file"), &log.option_file)?;
    let has_runs = job.schedule.is_some() || !job.before.is_empty() || !job.after.is_empty();
    if has_runs || !job.after_failed.is_empty() {
        return Err(refuse(&format!("jobs.{name}"), "has a schedule or a hook")
            .hint("a log is archived all the time: leave them out"));
    }
    if name.as_str().len() + config.host.as_str().len() > LOG_NAMES_MAX {
        return Err(refuse(&format!("jobs.{name}"), "its name is too long").hint(format!(
            "the names of job and host may have {LOG_NAMES_MAX} characters together"
        )));
    }
    let base =
        log.base.as_ref().map(|base| config.jobs.get(base).and_then(|job| job.database.as_ref()));
    if base.is_some_and(|found| found.is_none()) {
        return Err(refuse(&key("base"), "is no database job of this file")
            .hint("name the job whose backups this log brings forward"));
    }
    if log.server_id == Some(0) {
        return Err(refuse(&key("server-id"), "0 is no id").hint("leave it out to have one made"));
    }
    if log.max_lag.0 < LAG_MIN || log.spool_limit.0 < SPOOL_MIN || log.segment_size.0 < SEGMENT_MIN
    {
        return Err(refuse(&format!("jobs.{name}.log"), "a limit is too small")
            .hint("max-lag at least 1s, segment-size at least 64KiB, spool-limit at least 64MiB"));
    }
    Ok(())
}

fn check_keeper(config: &Config, keeper: &Keeper) -> Checked {
    check_depot_names(config, "keeper.depots", keeper.depots.as_deref())?;
    check_span("keeper.jitter", keeper.jitter)?;
    if keeper.grace.0 < GRACE_MIN {
        return Err(refuse("keeper.grace", format_args!("{} is too short", keeper.grace))
            .hint("at least 72h: a run of up to 48 hours may still refer to a condemned pack"));
    }
    let own = keeper.jobs.iter().map(|(name, rule)| (format!("keeper.jobs.{name}"), rule));
    let default = keeper.default.iter().map(|rule| ("keeper.default".to_owned(), rule));
    for (key, rule) in own.chain(default) {
        if *rule == Policy::default() {
            return Err(refuse(&key, "keeps nothing")
                .hint("say what to keep, such as `daily = 14`; leave the table out to keep all"));
        }
    }
    Ok(())
}
