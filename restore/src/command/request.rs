//! Which point is asked for, and what does not go together with one.

use anyhow::Result;
use chassis::clock::{local_zone, parse_time};
use chassis::failure::{Exit, Failure};
use chrono::{DateTime, Utc};

use super::Arguments;
use crate::point::Goal;

/// The point that is asked for; none if it is a plain restore.
pub(super) fn goal_of(arguments: &Arguments, now: DateTime<Utc>) -> Result<Option<Goal>> {
    let goal = match arguments {
        Arguments { point_in_time: Some(text), .. } => {
            Goal::Time(parse_time(text, now, local_zone())?)
        }
        Arguments { to_gtid: Some(gtid), .. } => Goal::To(gtid.clone()),
        Arguments { before_gtid: Some(gtid), .. } => Goal::Before(gtid.clone()),
        Arguments { to_latest: true, .. } => Goal::Latest,
        _ => {
            refuse_without_point(arguments)?;
            return Ok(None);
        }
    };
    Ok(Some(goal))
}

/// Refuses what cannot be had together with a point.
pub(super) fn check_parts(arguments: &Arguments) -> Result<(), Failure> {
    if !arguments.table.is_empty() || !arguments.path.is_empty() {
        let message = "parts cannot be brought to a point: the log is of the whole server";
        return Err(Failure::new(Exit::Usage, message).hint(
            "restore all of it to the point, into a directory of its own; start a server on it, \
             and dump the table there",
        ));
    }
    if arguments.delta || arguments.keep_going {
        let message = "a point is reached in a new directory, from a whole backup";
        let failure = Failure::new(Exit::Usage, message);
        return Err(failure.hint("leave --delta and --keep-going away"));
    }
    Ok(())
}

fn refuse_without_point(arguments: &Arguments) -> Result<(), Failure> {
    let named = [
        (arguments.timeline.is_some(), "--timeline"),
        (arguments.base.is_some(), "--base"),
        (arguments.with_files, "--with-files"),
        (arguments.binlog, "--binlog"),
        (arguments.galera_bootstrap, "--galera-bootstrap"),
        (arguments.replay_workers.is_some(), "--replay-workers"),
    ];
    match named.iter().find(|(is_given, _)| *is_given) {
        None => Ok(()),
        Some((_, name)) => Err(Failure::new(Exit::Usage, format!("{name} needs a point"))
            .hint("add --point-in-time, --to-gtid, --before-gtid or --to-latest")),
    }
}

/// The point as it was typed: a restore that goes on must be of the same.
pub(super) fn request(arguments: &Arguments) -> Vec<String> {
    let gtid = |name: &str, gtid: &Option<database::gtid::Gtid>| {
        gtid.as_ref().map(|gtid| format!("{name} {gtid}"))
    };
    let time = arguments.point_in_time.as_ref().map(|text| format!("--point-in-time {text}"));
    let timeline = arguments.timeline.as_ref().map(|timeline| format!("--timeline {timeline:?}"));
    let latest = arguments.to_latest.then(|| "--to-latest".to_owned());
    [
        time,
        gtid("--to-gtid", &arguments.to_gtid),
        gtid("--before-gtid", &arguments.before_gtid),
        latest,
        timeline,
    ]
    .into_iter()
    .flatten()
    .collect()
}
