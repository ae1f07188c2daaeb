//! The driver on paused time, with a clock that follows it and can be made to jump.

use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering::SeqCst};

use chrono_tz::UTC;
use proptest::prelude::*;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::*;

fn at(text: &str) -> DateTime<Utc> {
    DateTime::parse_from_rfc3339(text).unwrap().with_timezone(&Utc)
}

fn timing(expression: &str, jitter_secs: u64) -> Timing {
    let schedule = Some(Schedule::parse(expression, UTC).unwrap());
    Timing { schedule, jitter: Duration::from_secs(jitter_secs) }
}

/// A wall clock that goes with tokio's time.
#[derive(Clone)]
struct Wall {
    start: Instant,
    base: DateTime<Utc>,
    jumped_secs: Arc<AtomicI64>,
}

impl Wall {
    fn new(base: &str) -> Self {
        Self { start: Instant::now(), base: at(base), jumped_secs: Arc::default() }
    }

    fn now(&self) -> DateTime<Utc> {
        self.base + delta(self.start.elapsed()) + TimeDelta::seconds(self.jumped_secs.load(SeqCst))
    }

    fn jump(&self, by: TimeDelta) {
        self.jumped_secs.fetch_add(by.num_seconds(), SeqCst);
    }

    /// Lets time pass until the clock shows `until`.
    async fn reach(&self, until: &str) {
        sleep((at(until) - self.now()).to_std().unwrap()).await;
    }
}

type Runs = Arc<Mutex<Vec<(DateTime<Utc>, Reason)>>>;

/// A driver in a task, whose job takes some time and notes when it began and why.
struct Bench {
    wall: Wall,
    runs: Runs,
    activator: Activator,
    status: watch::Receiver<Status<usize>>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

fn start(now: &str, timing: Timing, last_started: Option<&str>, takes_secs: u64) -> Bench {
    let wall = Wall::new(now);
    let (driver, activator, status) = driver(timing, last_started.map(at));
    let stop = CancellationToken::new();
    let runs = Runs::default();
    let concurrent = Arc::new(AtomicU32::new(0));
    let work = {
        let (runs, wall) = (runs.clone(), wall.clone());
        move |reason| {
            let (runs, wall, concurrent) = (runs.clone(), wall.clone(), concurrent.clone());
            async move {
                assert_eq!(concurrent.fetch_add(1, SeqCst), 0, "two runs at once");
                runs.lock().unwrap().push((wall.now(), reason));
                sleep(Duration::from_secs(takes_secs)).await;
                concurrent.fetch_sub(1, SeqCst);
                runs.lock().unwrap().len()
            }
        }
    };
    let clock = wall.clone();
    let task = tokio::spawn(driver.run(stop.clone(), move || clock.now(), work));
    Bench { wall, runs, activator, status, stop, task }
}

impl Bench {
    /// Stops and checks what ran; times are exact to the second.
    async fn ran(self, expected: &[(&str, Reason)]) {
        self.stop.cancel();
        self.task.await.unwrap();
        let runs: Vec<_> = self.runs.lock().unwrap().clone();
        let shown = |time: DateTime<Utc>| time.format("%Y-%m-%dT%H:%M:%SZ").to_string();
        let runs: Vec<_> = runs.into_iter().map(|(time, reason)| (shown(time), reason)).collect();
        let expected: Vec<_> =
            expected.iter().map(|(time, reason)| ((*time).to_owned(), *reason)).collect();
        assert_eq!(runs, expected);
    }
}

use Reason::{Asked, Missed, Scheduled};

#[tokio::test(start_paused = true)]
async fn it_runs_when_due_and_not_at_the_first_start() {
    let bench = start("2026-11-23T12:00:00Z", timing("30 2 * * *", 0), None, 60);
    bench.wall.reach("2026-11-25T12:00:00Z").await;
    let status = bench.status.borrow().clone();
    assert_eq!(status.next_due, Some(at("2026-11-26T02:30:00Z")));
    assert_eq!(status.last.unwrap().ended, at("2026-11-25T02:31:00Z"));
    bench.ran(&[("2026-11-24T02:30:00Z", Scheduled), ("2026-11-25T02:30:00Z", Scheduled)]).await;
}

#[tokio::test(start_paused = true)]
async fn what_was_missed_while_down_is_made_up_for_once() {
    let last = Some("2026-11-20T02:30:00Z");
    let bench = start("2026-11-23T12:00:00Z", timing("30 2 * * *", 0), last, 60);
    bench.wall.reach("2026-11-24T12:00:00Z").await;
    bench.ran(&[("2026-11-23T12:00:00Z", Missed), ("2026-11-24T02:30:00Z", Scheduled)]).await;
}

#[tokio::test(start_paused = true)]
async fn what_ran_before_a_restart_does_not_run_again() {
    let last = Some("2026-11-23T02:30:00Z");
    let bench = start("2026-11-23T02:31:00Z", timing("30 2 * * *", 0), last, 60);
    bench.wall.reach("2026-11-24T02:00:00Z").await;
    bench.ran(&[]).await;
}

#[tokio::test(start_paused = true)]
async fn any_number_of_requests_in_a_run_lead_to_one_more() {
    let bench = start("2026-11-23T12:00:00Z", Timing::default(), None, 60);
    let first = bench.activator.ask();
    bench.wall.reach("2026-11-23T12:00:30Z").await;
    assert_eq!(bench.status.borrow().running.unwrap().reason, Asked);
    let second = bench.activator.ask();
    let third = bench.activator.ask();
    let mut status = bench.status.clone();
    let answered = status.wait_for(|status| status.answers(first)).await.unwrap().clone();
    assert_eq!(answered.last.as_ref().unwrap().result, 1);
    assert!(!answered.answers(second), "a run that was on when asked does not count");
    let answered = status.wait_for(|status| status.answers(third)).await.unwrap().clone();
    assert_eq!(answered.last.unwrap().result, 2);
    bench.wall.reach("2026-11-23T14:00:00Z").await;
    bench.ran(&[("2026-11-23T12:00:00Z", Asked), ("2026-11-23T12:01:00Z", Asked)]).await;
}

#[tokio::test(start_paused = true)]
async fn an_asked_run_serves_the_due_times_it_has_passed() {
    let bench = start("2026-11-23T02:29:50Z", timing("30 2 * * *", 0), None, 1);
    bench.activator.ask();
    bench.wall.reach("2026-11-23T03:00:00Z").await;
    bench.ran(&[("2026-11-23T02:29:50Z", Asked), ("2026-11-23T02:30:00Z", Scheduled)]).await;
}

#[tokio::test(start_paused = true)]
async fn a_run_longer_than_its_period_is_followed_by_one() {
    let bench = start("2026-11-23T12:30:00Z", timing("0 * * * *", 0), None, 9000);
    bench.wall.reach("2026-11-23T18:10:00Z").await;
    bench
        .ran(&[
            ("2026-11-23T13:00:00Z", Scheduled),
            ("2026-11-23T15:30:00Z", Missed),
            ("2026-11-23T18:00:00Z", Missed),
        ])
        .await;
}

#[tokio::test(start_paused = true)]
async fn jitter_delays_within_its_bound_and_not_by_habit() {
    let bench = start("2026-11-23T00:30:00Z", timing("0 * * * *", 600), None, 1);
    bench.wall.reach("2026-11-24T00:59:00Z").await;
    let runs = bench.runs.lock().unwrap().clone();
    assert_eq!(runs.len(), 24);
    let delays: Vec<_> = runs.iter().map(|(time, _)| time.timestamp() % 3600).collect();
    assert!(delays.iter().all(|delay| (0..=600).contains(delay)), "{delays:?}");
    assert!(delays.iter().any(|delay| *delay != delays[0]), "{delays:?}");
    assert!(runs.iter().all(|(_, reason)| *reason == Scheduled));
    bench.stop.cancel();
    bench.task.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_clock_set_back_does_not_repeat_a_run() {
    let bench = start("2026-11-23T02:00:00Z", timing("30 2 * * *", 0), None, 1);
    bench.wall.reach("2026-11-23T03:00:00Z").await;
    bench.wall.jump(TimeDelta::hours(-1));
    bench.wall.reach("2026-11-24T03:00:00Z").await;
    bench.ran(&[("2026-11-23T02:30:00Z", Scheduled), ("2026-11-24T02:30:00Z", Scheduled)]).await;
}

#[tokio::test(start_paused = true)]
async fn a_clock_set_back_by_years_does_not_stand_still() {
    let bench = start("2036-11-23T02:00:00Z", timing("30 2 * * *", 0), None, 1);
    bench.wall.reach("2036-11-23T03:00:00Z").await;
    bench.wall.jump(at("2026-11-23T01:00:00Z") - bench.wall.now());
    bench.wall.reach("2026-11-23T03:00:00Z").await;
    bench.ran(&[("2036-11-23T02:30:00Z", Scheduled), ("2026-11-23T02:30:00Z", Scheduled)]).await;
}

#[tokio::test(start_paused = true)]
async fn a_last_start_in_the_far_future_does_not_stand_still() {
    let last = Some("2036-01-01T00:00:00Z");
    let bench = start("2026-11-23T02:00:00Z", timing("30 2 * * *", 0), last, 1);
    bench.wall.reach("2026-11-23T03:00:00Z").await;
    bench.ran(&[("2026-11-23T02:30:00Z", Scheduled)]).await;
}

#[tokio::test(start_paused = true)]
async fn a_clock_set_ahead_is_noticed_and_made_up_for() {
    let bench = start("2026-11-23T01:00:00Z", timing("30 2 * * *", 0), None, 1);
    bench.wall.reach("2026-11-23T01:00:10Z").await;
    bench.wall.jump(TimeDelta::hours(4));
    bench.wall.reach("2026-11-23T06:00:00Z").await;
    bench.ran(&[("2026-11-23T05:00:30Z", Missed)]).await;
}

#[tokio::test(start_paused = true)]
async fn a_new_timing_takes_effect_while_waiting() {
    let bench = start("2026-11-23T01:00:00Z", timing("30 2 * * *", 0), None, 1);
    bench.wall.reach("2026-11-23T02:00:00Z").await;
    bench.activator.set_timing(timing("15 2 * * *", 0));
    bench.wall.reach("2026-11-23T03:00:00Z").await;
    bench.ran(&[("2026-11-23T02:15:00Z", Scheduled)]).await;
}

#[tokio::test(start_paused = true)]
async fn the_past_of_a_new_schedule_is_not_made_up_for() {
    let bench = start("2026-11-23T12:00:00Z", timing("30 2 * * *", 0), None, 1);
    bench.wall.reach("2026-11-24T12:00:00Z").await;
    bench.activator.set_timing(timing("0 6 * * *", 0));
    bench.wall.reach("2026-11-25T05:00:00Z").await;
    bench.activator.set_timing(Timing::default());
    bench.wall.reach("2026-11-25T12:00:00Z").await;
    bench.activator.set_timing(timing("0 6 * * *", 0));
    bench.wall.reach("2026-11-26T12:00:00Z").await;
    bench.ran(&[("2026-11-24T02:30:00Z", Scheduled), ("2026-11-26T06:00:00Z", Scheduled)]).await;
}

#[tokio::test(start_paused = true)]
async fn what_the_old_schedule_owes_is_made_up_for_under_the_new_one() {
    let bench = start("2026-11-23T12:00:00Z", timing("0 13 * * *", 0), None, 7200);
    bench.wall.reach("2026-11-23T12:30:00Z").await;
    bench.activator.ask();
    bench.wall.reach("2026-11-23T14:10:00Z").await;
    bench.activator.set_timing(timing("5 13 * * *", 0));
    bench.wall.reach("2026-11-23T18:00:00Z").await;
    bench.ran(&[("2026-11-23T12:30:00Z", Asked), ("2026-11-23T14:30:00Z", Missed)]).await;
}

#[tokio::test(start_paused = true)]
async fn a_driver_that_nobody_can_ask_still_sleeps_between_its_runs() {
    let looks = Arc::new(AtomicU32::new(0));
    let wall = Wall::new("2026-11-23T12:00:00Z");
    let (driver, activator, _status) = driver::<()>(timing("30 13 * * *", 0), None);
    drop(activator);
    let stop = CancellationToken::new();
    let clock = {
        let (wall, looks) = (wall.clone(), looks.clone());
        move || {
            // One that does not sleep keeps the paused time from going on.
            assert!(looks.fetch_add(1, SeqCst) < 1000, "it spins");
            wall.now()
        }
    };
    let task = tokio::spawn(driver.run(stop.clone(), clock, |_| async {}));
    wall.reach("2026-11-23T14:00:00Z").await;
    stop.cancel();
    task.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_stop_waits_for_the_run_and_begins_no_other() {
    let bench = start("2026-11-23T12:00:00Z", Timing::default(), None, 60);
    bench.activator.ask();
    bench.wall.reach("2026-11-23T12:00:10Z").await;
    bench.activator.ask();
    let (wall, status) = (bench.wall.clone(), bench.status.clone());
    bench.ran(&[("2026-11-23T12:00:00Z", Asked)]).await;
    assert_eq!(wall.now(), at("2026-11-23T12:01:00Z"));
    assert_eq!(status.borrow().last.as_ref().unwrap().result, 1);
}

#[tokio::test(start_paused = true)]
async fn without_schedule_and_activator_the_driver_ends() {
    let bench = start("2026-11-23T12:00:00Z", Timing::default(), None, 1);
    drop(bench.activator);
    bench.task.await.unwrap();
}

#[test]
fn no_jitter_leads_beyond_what_a_clock_can_show() {
    let now = at("2026-01-01T00:00:00Z");
    for secs in [1 << 40, 1 << 50, u64::MAX] {
        let planned = plan(&timing("@daily", secs), now, now, None).unwrap();
        assert!(planned.begin - now <= TimeDelta::days(366), "{planned:?}");
    }
}

proptest! {
    /// Whatever the clock did before: the next due time is waited for no longer than two periods,
    /// and only a long way back makes served ones come again.
    #[test]
    fn the_next_due_time_is_new_and_near(served in 0..2_000_000i64, now in 0..2_000_000i64) {
        let schedule = Schedule::parse("30 2 * * *", UTC).unwrap();
        let base = at("2026-01-01T00:00:00Z");
        let (served, now) = (base + TimeDelta::seconds(served), base + TimeDelta::seconds(now));
        if is_far_ahead(&schedule, served, now) {
            prop_assert!(served > now + TimeDelta::days(1));
        } else {
            prop_assert!(schedule.next_after(served).unwrap() <= now + TimeDelta::days(2));
        }
    }
}
