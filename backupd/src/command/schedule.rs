//! `backupctl schedule`: the next runs, told from the configuration alone.

use anyhow::Result;
use chassis::failure::Exit;
use chassis::schedule::Expression;
use chrono::{DateTime, Utc};
use clap::Args;
use depot::names::JobName;
use serde::Serialize;

use super::Context;
use super::output::{note, print, print_json, table};
use crate::config::Job;

/// How much to show.
#[derive(Debug, Args)]
pub struct ScheduleArguments {
    /// Runs of each job
    #[arg(short = 'n', long, value_name = "N", default_value_t = 5)]
    count: usize,
}

#[derive(Debug, Serialize)]
struct Planned<'c> {
    job: &'c JobName,
    schedule: &'c Expression,
    time_zone: &'c str,
    jitter_secs: u64,
    next: Vec<DateTime<Utc>>,
}

pub(super) fn run(context: &Context, arguments: &ScheduleArguments) -> Result<Exit> {
    let config = context.config()?;
    let now = Utc::now();
    let mut all = Vec::new();
    for (name, job) in &config.jobs {
        all.extend(plan(name, job, now, arguments.count));
    }
    if context.json {
        print_json(&all)?;
    } else if !all.is_empty() {
        print(&render(&all))?;
    }
    if all.is_empty() {
        note("no job has a schedule");
        return Ok(Exit::Nothing);
    }
    Ok(Exit::Done)
}

fn plan<'c>(
    name: &'c JobName,
    job: &'c Job,
    now: DateTime<Utc>,
    count: usize,
) -> Option<Planned<'c>> {
    let schedule = job.schedule.as_ref()?;
    Some(Planned {
        job: name,
        schedule,
        time_zone: job.time_zone.name(),
        jitter_secs: job.jitter.0.as_secs(),
        next: schedule.in_zone(job.time_zone).upcoming(now).take(count).collect(),
    })
}

/// All runs in the order of their times, each in the zone of its job.
fn render(all: &[Planned<'_>]) -> String {
    let mut runs: Vec<(DateTime<Utc>, &Planned<'_>)> =
        all.iter().flat_map(|plan| plan.next.iter().map(move |time| (*time, plan))).collect();
    runs.sort_by_key(|(time, plan)| (*time, plan.job));
    let rows: Vec<Vec<String>> = runs
        .iter()
        .map(|(time, plan)| {
            let zone: chrono_tz::Tz = plan.time_zone.parse().unwrap_or(chrono_tz::UTC);
            let local = time.with_timezone(&zone).format("%a %Y-%m-%d %H:%M %Z").to_string();
            vec![local, plan.job.to_string(), plan.schedule.to_string()]
        })
        .collect();
    table(&["TIME", "JOB", "SCHEDULE"], &rows, &[])
}
