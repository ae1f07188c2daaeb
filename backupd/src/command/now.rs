//! `backupctl now`: wakes the daemon's drivers and waits for them. The backup is made by the
//! daemon, in the same way as a scheduled one; who interrupts this command ends the waiting only.

use anyhow::{Context as _, Result};
use chassis::control::Client;
use chassis::failure::{Exit, Failure, exit_of, hint_of};
use chassis::progress::{Bar, Bars};
use chassis::units::{ByteSize, format_duration};
use clap::Args;
use depot::names::JobName;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::Context;
use super::output::{Colour, escaped, note, paint, print, print_json};
use crate::daemon::answers::{Accepted, RunEvent, StatusAnswer};
use crate::report::{Outcome, RunReport};
use crate::run::RunOptions;
use crate::source::files::TreeSummary;

/// So many files with problems are named.
const PROBLEMS_SHOWN: usize = 20;

/// What to back up, and how.
#[derive(Debug, Args)]
pub struct NowArguments {
    /// The jobs; all of them if none is named
    jobs: Vec<JobName>,
    /// Do not wait for the end
    #[arg(long)]
    no_wait: bool,
    /// Database jobs by LSN: start over with a full backup
    #[arg(long)]
    full: bool,
    /// File jobs: read all files, even those that look unchanged
    #[arg(long)]
    rescan: bool,
    /// Go on although the clock is behind the last backup: it was wrong then, and is right now
    #[arg(long)]
    accept_clock: bool,
}

/// How asking for one job ended.
type Asked = (JobName, Result<Option<RunReport>>);

pub(super) fn run(context: &Context, arguments: &NowArguments) -> Result<Exit> {
    let config = context.config()?;
    let client = Client::new(&config.control_socket, "backupd");
    let runtime = super::runtime()?;
    let asked = runtime.block_on(async {
        // A daemon that is not there is said once, not once for every job.
        let status: StatusAnswer = client.get_json("/status").await?;
        let jobs = match arguments.jobs.as_slice() {
            [] => status.jobs.into_iter().map(|job| job.job).collect(),
            named => named.to_vec(),
        };
        anyhow::ensure!(
            !jobs.is_empty(),
            Failure::new(Exit::Nothing, "no job is configured")
                .hint("add one to the configuration")
        );
        Ok(ask_all(&client, &jobs, arguments).await)
    })?;
    show(context, asked)
}

async fn ask_all(client: &Client, jobs: &[JobName], arguments: &NowArguments) -> Vec<Asked> {
    let options = RunOptions {
        full: arguments.full,
        rescan: arguments.rescan,
        accept_clock: arguments.accept_clock,
    };
    let bars = Bars::new();
    let mut tasks = JoinSet::new();
    for job in jobs {
        let (client, job, wait) = (client.clone(), job.clone(), !arguments.no_wait);
        let bars = bars.clone();
        tasks.spawn(async move {
            let asked = if wait {
                follow(&client, &job, options, &bars).await.map(Some)
            } else {
                let path = format!("/jobs/{job}/run?wait=false");
                client.post_json::<Accepted>(&path, &options).await.map(|_| None)
            };
            (job, asked)
        });
    }
    let mut asked = tasks.join_all().await;
    asked.sort_by(|left, right| left.0.cmp(&right.0));
    asked
}

async fn follow(
    client: &Client,
    job: &JobName,
    options: RunOptions,
    bars: &Bars,
) -> Result<RunReport> {
    let mut lines = client.post_stream(&format!("/jobs/{job}/run"), &options).await?;
    let bar = Bar::start(bars);
    loop {
        let event = lines.next_json().await.with_context(|| format!("wait for job `{job}`"))?;
        match event {
            Some(RunEvent::Progress(mut snapshot)) => {
                snapshot.phase = format!("{job}: {}", snapshot.phase);
                bar.show(&snapshot);
            }
            Some(RunEvent::Report(report)) => return Ok(*report),
            Some(RunEvent::Stopped) | None => {
                return Err(Failure::new(
                    Exit::Interrupted,
                    "the run was stopped: the daemon is stopping",
                )
                .hint("look at `systemctl status backupd`")
                .into());
            }
        }
    }
}

fn show(context: &Context, mut asked: Vec<Asked>) -> Result<Exit> {
    if let [(_, Err(_))] = asked.as_slice()
        && let Some((_, Err(error))) = asked.pop()
    {
        return Err(error);
    }
    let worst =
        asked.iter().map(|(_, result)| exit_of_one(result)).max_by_key(|exit| badness(*exit));
    if context.json {
        let all: Vec<Value> = asked.iter().map(|(job, result)| as_json(job, result)).collect();
        print_json(&all)?;
    } else {
        for (job, result) in &asked {
            show_one(job, result)?;
        }
    }
    Ok(worst.unwrap_or(Exit::Done))
}

fn exit_of_one(result: &Result<Option<RunReport>>) -> Exit {
    match result {
        Ok(None) => Exit::Done,
        Ok(Some(report)) => Exit::from_code(report.exit),
        Err(error) => exit_of(error),
    }
}

/// Of several ends, the worst decides.
fn badness(exit: Exit) -> u8 {
    match exit {
        Exit::Done => 0,
        Exit::Partial => 1,
        Exit::Busy => 2,
        Exit::Nothing => 3,
        Exit::Usage => 4,
        Exit::Interrupted => 5,
        Exit::Failed => 6,
    }
}

fn as_json(job: &JobName, result: &Result<Option<RunReport>>) -> Value {
    match result {
        Ok(Some(report)) => json!(report),
        Ok(None) => json!({ "job": job, "accepted": true }),
        Err(error) => json!({
            "job": job, "error": format!("{error:#}"), "hint": hint_of(error),
            "exit": exit_of(error) as u8,
        }),
    }
}

fn show_one(job: &JobName, result: &Result<Option<RunReport>>) -> Result<()> {
    match result {
        Ok(Some(report)) => show_report(report),
        Ok(None) => print(&format!("{job}: asked for")),
        Err(error) => {
            note(&format!("{job}: {error:#}"));
            if let Some(hint) = hint_of(error) {
                note(&format!("hint: {hint}"));
            }
            Ok(())
        }
    }
}

fn show_report(report: &RunReport) -> Result<()> {
    let took = format_duration(report.duration());
    let word = match report.outcome {
        Outcome::Done => paint("done", Colour::Green),
        Outcome::Partial => paint("partial", Colour::Yellow),
        Outcome::Failed => paint("FAILED", Colour::Red),
    };
    match &report.snapshot {
        Some(id) => print(&format!(
            "{}: {word} in {took}: {id} ({} files, {}, {} newly stored)",
            report.job,
            report.entries,
            ByteSize(report.bytes),
            ByteSize(report.stored)
        ))?,
        None => print(&format!("{}: {word} after {took}", report.job))?,
    }
    if let Some(line) = report.tree.as_ref().and_then(left_out) {
        print(&format!("{}: {line}", report.job))?;
    }
    for line in troubles(report) {
        note(&format!("{}: {}", report.job, escaped(&line)));
    }
    Ok(())
}

/// What a run left out on purpose.
fn left_out(tree: &TreeSummary) -> Option<String> {
    let words = [
        (tree.excluded, "excluded"),
        (tree.skipped, "sockets, pipes and devices"),
        (tree.vanished, "vanished meanwhile"),
    ];
    let words = words.into_iter().filter(|(count, _)| *count > 0);
    let words: Vec<String> = words.map(|(count, what)| format!("{count} {what}")).collect();
    (!words.is_empty()).then(|| format!("left out: {}", words.join(", ")))
}

fn troubles(report: &RunReport) -> Vec<String> {
    let mut lines: Vec<String> =
        report.error.iter().map(|error| format!("error: {error}")).collect();
    lines.extend(report.hint.iter().map(|hint| format!("hint: {hint}")));
    for depot in &report.depots {
        lines.extend(
            depot.error.iter().map(|error| format!("not in depot {}: {error}", depot.name)),
        );
    }
    let shown = report.problems.iter().take(PROBLEMS_SHOWN);
    lines.extend(shown.map(|problem| format!("{}: {}", problem.path, problem.what)));
    let hidden = report.problems.len().saturating_sub(PROBLEMS_SHOWN);
    if hidden > 0 {
        lines.push(format!("and {hidden} more files; see `backupctl show --identity`"));
    }
    lines
}
