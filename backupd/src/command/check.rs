//! `backupctl check`: one line a condition under which backups work, with what to do where one does not hold.
//!
//! It proves rather than guesses: an object is really put into every depot, the server is really asked.

use std::path::Path;

use anyhow::Result;
use chassis::config::check_private;
use chassis::durable::NewFile;
use chassis::failure::{Exit, Failure, hint_of};
use chassis::units::{ByteSize, format_duration};
use chrono::{DateTime, TimeDelta, Utc};
use database::checks::{Check, check_database};
use depot::block::BlockKey;
use depot::depot::{Depot, PROOF_PREFIX, explain};
use depot::names::JobName;
use depot::store::{Body, StoreError};
use serde::Serialize;

use super::Context;
use super::output::{Colour, paint, print, print_json};
use super::survey::open_once;
use crate::config::{Config, DepotName, FilesJob, Job, Source};

/// Below this, a run may not have room for its cache and its spool.
const FREE_BYTES_MIN: u64 = 1 << 30;
/// Clocks that differ by more make times in listings hard to trust.
const SKEW_MAX: TimeDelta = TimeDelta::seconds(120);
/// No correct clock is before this.
const BUILT: &str = "2026-11-01T00:00:00Z";

/// A condition, and what it is of.
#[derive(Debug, Serialize)]
struct Line {
    /// `host`, `depot NAME` or `job NAME`.
    of: String,
    #[serde(flatten)]
    check: Check,
}

pub(super) fn run(context: &Context, jobs: &[JobName]) -> Result<Exit> {
    let config = context.config()?;
    if let Some(unknown) = jobs.iter().find(|job| !config.jobs.contains_key(*job)) {
        return Err(Failure::new(Exit::Nothing, format!("there is no job `{unknown}`"))
            .hint("see `backupctl schedule` and the configuration")
            .into());
    }
    let mut lines = Vec::new();
    let mut tell = |of: &str, checks: Vec<Check>| -> Result<()> {
        for check in checks {
            let line = Line { of: of.to_owned(), check };
            if !context.json {
                print(&render(&line))?;
            }
            lines.push(line);
        }
        Ok(())
    };
    tell("host", host_checks(context, &config))?;
    for name in config.depots.keys() {
        tell(&format!("depot {name}"), depot_checks(&config, name))?;
    }
    for (name, job) in config.jobs.iter().filter(|(name, _)| jobs.is_empty() || jobs.contains(name))
    {
        tell(&format!("job {name}"), job_checks(job))?;
        if let Some(log) = &job.log {
            tell(&format!("job {name}"), super::prove::prove(&config, name, job, log))?;
        }
    }
    if context.json {
        print_json(&lines)?;
    }
    Ok(if lines.iter().all(|line| line.check.ok) { Exit::Done } else { Exit::Failed })
}

fn render(line: &Line) -> String {
    let check = &line.check;
    let verdict = if check.ok { paint("OK", Colour::Green) } else { paint("FAILED", Colour::Red) };
    let hint = check.hint.as_ref().map(|hint| format!("\n  hint: {hint}")).unwrap_or_default();
    format!("{}: {} ... {verdict}: {}{hint}", line.of, check.name, check.detail)
}

fn good(name: &str, detail: impl Into<String>) -> Check {
    Check { name: name.to_owned(), ok: true, detail: detail.into(), hint: None }
}

fn bad(name: &str, detail: impl Into<String>, hint: impl Into<String>) -> Check {
    Check { name: name.to_owned(), ok: false, detail: detail.into(), hint: Some(hint.into()) }
}

pub(super) fn of_result(name: &str, result: Result<String>) -> Check {
    match result {
        Ok(detail) => good(name, detail),
        Err(error) => Check {
            name: name.to_owned(),
            ok: false,
            detail: format!("{error:#}"),
            hint: hint_of(&error).map(str::to_owned),
        },
    }
}

fn host_checks(context: &Context, config: &Config) -> Vec<Check> {
    let mut checks = vec![good("configuration", context.config_path.display().to_string())];
    if !config.jobs.is_empty() {
        let recipients = config.recipients();
        let count = recipients.map(|recipients| recipients.texts().join(", "));
        checks.push(of_result("recipients", count));
        checks.push(of_result("block key", block_key(&config.block_key_path())));
    }
    checks.push(of_result("state directory", state_dir(&config.state_dir)));
    checks.push(space("space for state", free_bytes(existing(&config.state_dir))));
    checks.push(clock(Utc::now()));
    checks
}

fn block_key(path: &Path) -> Result<String> {
    if !path.exists() {
        return Ok(format!("{} will be made at the first start", path.display()));
    }
    check_private(path)?;
    BlockKey::load(path)?;
    Ok(path.display().to_string())
}

fn state_dir(dir: &Path) -> Result<String> {
    if !dir.exists() {
        return Ok(format!("{} will be made at the first start", dir.display()));
    }
    NewFile::create(dir, 0o600).map(drop).map_err(|error| {
        Failure::new(Exit::Failed, format!("write to {}", dir.display()))
            .hint("run this as the daemon's user, or correct the owner of the directory")
            .because(error)
    })?;
    Ok(dir.display().to_string())
}

/// The directory, or the nearest one above that exists.
fn existing(dir: &Path) -> &Path {
    dir.ancestors().find(|dir| dir.exists()).unwrap_or(Path::new("/"))
}

fn free_bytes(dir: &Path) -> Result<Option<u64>> {
    let stat = rustix::fs::statvfs(dir)?;
    Ok(Some(stat.f_bavail.saturating_mul(stat.f_frsize)))
}

fn space(name: &str, free: Result<Option<u64>>) -> Check {
    match free {
        Ok(Some(bytes)) if bytes < FREE_BYTES_MIN => {
            let least = ByteSize(FREE_BYTES_MIN);
            bad(name, format!("{} free", ByteSize(bytes)), format!("free at least {least}"))
        }
        Ok(Some(bytes)) => good(name, format!("{} free", ByteSize(bytes))),
        Ok(None) => good(name, "the store does not say"),
        Err(error) => of_result(name, Err(error)),
    }
}

fn clock(now: DateTime<Utc>) -> Check {
    let built: DateTime<Utc> = BUILT.parse().expect("a constant time");
    let shown = now.format("%F %T UTC").to_string();
    if now < built {
        return bad("clock", shown, "it is before this program was made: set it, and run NTP");
    }
    good("clock", shown)
}

fn depot_checks(config: &Config, name: &DepotName) -> Vec<Check> {
    let depot = match open_once(config, name) {
        Ok(depot) => depot,
        Err(error) => return vec![of_result("reachable", Err(error))],
    };
    let mut checks = vec![good("reachable", format!("format 1, id {}", depot.id()))];
    if !config.jobs.is_empty() {
        checks.extend(put_proof(config, &depot));
    }
    checks.push(of_result(
        "readable",
        depot.snapshots().map(|found| format!("{} backups", found.len())),
    ));
    checks.push(space("space", depot.store().free_bytes().map_err(explain)));
    checks
}

/// Puts an object that says that this host was here today: one a day at most, and the keeper takes them away. Where it
/// is already, the store has proven that it would not write over it.
fn put_proof(config: &Config, depot: &Depot) -> Vec<Check> {
    let now = Utc::now();
    let object = format!("{PROOF_PREFIX}{}--{}", config.host, now.format("%Y%m%d"));
    match depot.store().create(&object, Body::Bytes(b"backupctl check\n")) {
        Ok(()) => vec![good("writable", format!("put {object}")), skew(depot, &object, now)],
        Err(StoreError::Exists { .. }) => {
            vec![good("writable", format!("{object} was put earlier today"))]
        }
        Err(error) => vec![of_result("writable", Err(explain(error)))],
    }
}

fn skew(depot: &Depot, object: &str, now: DateTime<Utc>) -> Check {
    let info = match depot.store().stat(object) {
        Ok(Some(info)) => info,
        Ok(None) => return bad("clock", "the object just put is not there", "see the depot's log"),
        Err(error) => return of_result("clock", Err(explain(error))),
    };
    let difference = (now - DateTime::<Utc>::from(info.arrived)).abs();
    let shown = format_duration(difference.to_std().unwrap_or_default());
    if difference > SKEW_MAX {
        return bad("clock", format!("differs by {shown}"), "run NTP here and on the depot's host");
    }
    good("clock", format!("differs by {shown}"))
}

fn job_checks(job: &Job) -> Vec<Check> {
    let mut checks = match job.source() {
        Source::Files(files) => vec![tree(files)],
        Source::Database(database) => check_database(database.tool, &database.option_file),
        Source::Log(log) => database::checks::check_log(log.tool, &log.option_file),
    };
    for (name, command) in
        [("before", &job.before), ("after", &job.after), ("after-failed", &job.after_failed)]
    {
        checks.extend(command.first().map(|program| hook(name, Path::new(program))));
    }
    checks
}

fn tree(files: &FilesJob) -> Check {
    let root = files.root.display();
    match std::fs::read_dir(&files.root).map(|mut entries| entries.next().transpose()) {
        Ok(Ok(Some(_))) => good("directory", root.to_string()),
        Ok(Ok(None)) if files.allow_empty => good("directory", format!("{root} is empty")),
        Ok(Ok(None)) => bad("directory", format!("{root} is empty"), "is it mounted?"),
        Ok(Err(error)) | Err(error) => {
            bad("directory", format!("{root}: {error}"), "the daemon must be able to read it")
        }
    }
}

fn hook(name: &str, program: &Path) -> Check {
    let name = format!("hook {name}");
    let shown = program.display();
    match rustix::fs::access(program, rustix::fs::Access::EXEC_OK) {
        Ok(()) => good(&name, shown.to_string()),
        Err(error) => bad(&name, format!("{shown}: {error}"), "correct its path, or `chmod +x` it"),
    }
}
