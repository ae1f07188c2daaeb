//! The driver of one recurring job: it runs when due or when asked, never twice at once, by one
//! code path.
//!
//! An activation carries no input. A due time and a request only wake the driver; what it does then
//! is decided by what is true: the clock, the schedule, the time up to which everything is dealt
//! with, and how many requests are unanswered. So a thousand requests during one run lead to one
//! more run, and none is lost.
//!
//! **Missed runs.** Due times that passed while the host was down, asleep, or busy with the
//! previous run are made up for by one run. A job that takes longer than its period runs back to
//! back, it does not pile up.
//!
//! **A new schedule** counts from when it is set: its due times before that were nobody's. Only what
//! the old one still owed is made up for.
//!
//! **Clocks.** Time comes from a closure and may jump. While waiting, the driver looks at it every
//! [`CLOCK_CHECK_INTERVAL`], so a jump ahead is noticed soon and is a missed run. After a jump back
//! the driver does not repeat the run of the due time that it has already served. But if more than
//! one due time comes again, the clock was far ahead before: the driver then starts over from what
//! the clock says now, or it would stand still until the wrong time comes round. At worst, a jump
//! back costs one run.
//!
//! **Stopping.** A stop ends the waiting at once. It does not end a run: the job has a flag of its
//! own for that, and the driver waits for it.

#[cfg(test)]
mod tests;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::schedule::Schedule;

/// How often the clock is looked at while waiting.
pub const CLOCK_CHECK_INTERVAL: Duration = Duration::from_secs(30);

/// A run that begins this much (and the jitter) later than it was due is called missed.
pub const LATENESS_MAX: Duration = Duration::from_mins(1);

/// When a job runs by itself.
#[derive(Clone, Debug, Default)]
pub struct Timing {
    /// Nothing: only when asked.
    pub schedule: Option<Schedule>,
    /// A scheduled or missed run begins later than it is due by up to this, at random, so that many
    /// hosts do not begin as one. Asked runs begin at once.
    pub jitter: Duration,
}

/// Why a run began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// It was due.
    Scheduled,
    /// It was due some time ago: the host was down or the previous run took too long.
    Missed,
    /// Somebody asked.
    Asked,
}

/// What a driver is doing, for whoever shows or awaits it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Status<R> {
    /// The run that is on.
    pub running: Option<Running>,
    /// The last run that ended since the program began.
    pub last: Option<Finished<R>>,
    /// When the next run begins by itself, jitter included.
    pub next_due: Option<DateTime<Utc>>,
    /// Requests answered by runs that have ended. A [`Ticket`] is answered when this has reached
    /// it.
    pub answered: u64,
}

/// A run that is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Running {
    /// When it began.
    pub since: DateTime<Utc>,
    /// Why it began.
    pub reason: Reason,
}

/// A run that has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Finished<R> {
    /// Why it began.
    pub reason: Reason,
    /// When it began.
    pub started: DateTime<Utc>,
    /// When it ended.
    pub ended: DateTime<Utc>,
    /// How.
    pub result: R,
}

/// A request for a run; see [`Status::answers`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket(u64);

impl<R> Status<R> {
    /// Whether a run that began after the request has ended; [`Status::last`] is it, or a later
    /// one.
    pub fn answers(&self, ticket: Ticket) -> bool {
        self.answered >= ticket.0
    }
}

#[derive(Debug, Default)]
struct Wanted {
    asked: u64,
    timing: Timing,
}

/// Wakes a [`Driver`] from anywhere. Never blocks.
#[derive(Clone, Debug)]
pub struct Activator {
    wanted: Arc<watch::Sender<Wanted>>,
}

impl Activator {
    /// Asks for a run. One that is on does not count: it may have passed what the caller wants to
    /// see done.
    pub fn ask(&self) -> Ticket {
        let mut ticket = Ticket(0);
        self.wanted.send_modify(|wanted| {
            wanted.asked += 1;
            ticket = Ticket(wanted.asked);
        });
        ticket
    }

    /// Replaces the timing; a run that is on goes on. Due times that are dealt with stay so.
    pub fn set_timing(&self, timing: Timing) {
        self.wanted.send_modify(|wanted| wanted.timing = timing);
    }
}

/// Runs one job. Made by [`driver`], used up by [`run`](Self::run).
#[derive(Debug)]
pub struct Driver<R> {
    wanted: watch::Receiver<Wanted>,
    status: watch::Sender<Status<R>>,
    last_started: Option<DateTime<Utc>>,
}

/// Makes a driver, its activator and its status. `last_started` is when the job began last in an
/// earlier life of the program: if it has been due since, it is made up for. Nothing means never,
/// and nothing is made up for then.
pub fn driver<R>(
    timing: Timing,
    last_started: Option<DateTime<Utc>>,
) -> (Driver<R>, Activator, watch::Receiver<Status<R>>) {
    let (wanted_sender, wanted) = watch::channel(Wanted { asked: 0, timing });
    let nothing = Status { running: None, last: None, next_due: None, answered: 0 };
    let (status, status_receiver) = watch::channel(nothing);
    let activator = Activator { wanted: Arc::new(wanted_sender) };
    (Driver { wanted, status, last_started }, activator, status_receiver)
}

impl<R> Driver<R> {
    /// Runs until `stop`. Unanswered requests are not served any more then. If `work` panics, so
    /// does this, and the status is closed.
    pub async fn run<F, W>(
        mut self,
        stop: CancellationToken,
        now: impl Fn() -> DateTime<Utc>,
        mut work: W,
    ) where
        W: FnMut(Reason) -> F,
        F: Future<Output = R>,
    {
        // Up to here, every due time is dealt with.
        let mut served_until = self.last_started.unwrap_or_else(&now);
        let mut planned: Option<Planned> = None;
        let mut schedule = self.wanted.borrow().timing.schedule.clone();
        let mut is_orphaned = false;
        while !stop.is_cancelled() {
            let (asked, timing) = {
                let wanted = self.wanted.borrow_and_update();
                (wanted.asked, wanted.timing.clone())
            };
            let time = now();
            let is_new = !is_same(schedule.as_ref(), timing.schedule.as_ref());
            if is_new && !is_due(schedule.as_ref(), served_until, time) {
                served_until = served_until.max(time);
            }
            schedule.clone_from(&timing.schedule);
            if let Some(schedule) = &timing.schedule
                && is_far_ahead(schedule, served_until, time)
            {
                served_until = time;
            }
            planned = plan(&timing, served_until, time, planned);
            self.publish_next(planned);
            if let Some(reason) = self.reason(asked, planned, time, timing.jitter) {
                served_until = time;
                planned = None;
                self.status.send_modify(|status| {
                    status.running = Some(Running { since: time, reason });
                    status.next_due = None;
                });
                let result = work(reason).await;
                self.finish(Finished { reason, started: time, ended: now(), result }, asked);
                continue;
            }
            if is_orphaned && planned.is_none() {
                break; // No schedule, and nobody left who could ask.
            }
            let wait = planned.map_or(CLOCK_CHECK_INTERVAL, |planned| planned.wait(time));
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                changed = self.wanted.changed(), if !is_orphaned => is_orphaned = changed.is_err(),
                () = sleep(wait) => {}
            }
        }
    }

    fn reason(
        &self,
        asked: u64,
        planned: Option<Planned>,
        now: DateTime<Utc>,
        jitter: Duration,
    ) -> Option<Reason> {
        if asked > self.status.borrow().answered {
            return Some(Reason::Asked);
        }
        let planned = planned.filter(|planned| planned.begin <= now)?;
        let is_late = now - planned.due > delta(jitter.saturating_add(LATENESS_MAX));
        Some(if is_late { Reason::Missed } else { Reason::Scheduled })
    }

    fn publish_next(&self, planned: Option<Planned>) {
        let next_due = planned.map(|planned| planned.begin);
        self.status.send_if_modified(|status| {
            let is_new = status.next_due != next_due;
            status.next_due = next_due;
            is_new
        });
    }

    fn finish(&self, finished: Finished<R>, answered: u64) {
        self.status.send_modify(|status| {
            status.running = None;
            status.last = Some(finished);
            status.answered = answered;
        });
    }
}

/// A due time, and when its run begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Planned {
    due: DateTime<Utc>,
    begin: DateTime<Utc>,
}

impl Planned {
    fn wait(&self, now: DateTime<Utc>) -> Duration {
        (self.begin - now).to_std().unwrap_or_default().min(CLOCK_CHECK_INTERVAL)
    }
}

/// The next run by schedule. Keeps the chance of an earlier plan for the same due time, unless the
/// clock has jumped such that it would begin too late.
fn plan(
    timing: &Timing,
    served_until: DateTime<Utc>,
    now: DateTime<Utc>,
    earlier: Option<Planned>,
) -> Option<Planned> {
    let due = timing.schedule.as_ref()?.next_after(served_until)?;
    let from = due.max(now);
    let jitter = delta(timing.jitter);
    let is_fit = |planned: &Planned| planned.due == due && planned.begin <= from + jitter;
    earlier.filter(is_fit).or_else(|| {
        let begin = from + delta(timing.jitter.mul_f64(rand::random()));
        Some(Planned { due, begin })
    })
}

fn is_same(old: Option<&Schedule>, new: Option<&Schedule>) -> bool {
    let key = |schedule: &Schedule| (schedule.expression().to_owned(), schedule.zone());
    old.map(key) == new.map(key)
}

/// Whether a due time has passed that is not dealt with.
fn is_due(schedule: Option<&Schedule>, served_until: DateTime<Utc>, now: DateTime<Utc>) -> bool {
    let due = schedule.and_then(|schedule| schedule.next_after(served_until));
    due.is_some_and(|due| due <= now)
}

/// Whether more than one due time that counts as served comes again.
fn is_far_ahead(schedule: &Schedule, served_until: DateTime<Utc>, now: DateTime<Utc>) -> bool {
    schedule.upcoming(now).take_while(|due| *due <= served_until).take(2).count() > 1
}

/// Nothing is put off by more than a year: a time that is to be reached must be one that a clock can show.
fn delta(duration: Duration) -> TimeDelta {
    const LONGEST: TimeDelta = TimeDelta::days(365);
    TimeDelta::from_std(duration).map_or(LONGEST, |delta| delta.min(LONGEST))
}
