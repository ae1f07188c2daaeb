//! Takes a stage, a shipper and a proxy through a schedule.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::{Schedule, Shipper, Stage, Step};
use crate::servers::store_proxy::{Plan, StoreProxy};

const POLL_INTERVAL: Duration = Duration::from_millis(30);

/// How long is waited for the store to have everything.
#[derive(Clone, Copy, Debug)]
pub struct Settled {
    /// Before something is destroyed; it is left alone if the time is over.
    pub in_between: Duration,
    /// At the end, where it is an error.
    pub at_the_end: Duration,
}

/// Does all steps, then has the proxy be honest and waits until the store has as many documents as lines were
/// written. `count` asks the store itself, not the proxy.
pub fn drive(
    schedule: &Schedule,
    stage: &mut Stage,
    shipper: &mut Shipper,
    proxy: &StoreProxy,
    settled: Settled,
    count: impl Fn() -> Result<u64>,
) -> Result<()> {
    let mut is_down = false;
    for step in &schedule.steps {
        match *step {
            Step::Kill => shipper.kill(),
            Step::Start => shipper.start(None)?,
            Step::StartToDie { place, times } => {
                shipper.kill();
                shipper.start(Some(&format!("{place}:{times}")))?;
            }
            Step::StoreDown | Step::StoreUp => {
                is_down = *step == Step::StoreDown;
                proxy.set_down(is_down);
            }
            Step::Wait { milliseconds } => thread::sleep(Duration::from_millis(milliseconds)),
            _ => {}
        }
        let can_settle = !is_down && shipper.is_running()?;
        stage.act(step, |stage| {
            Ok(can_settle && has_all(stage, settled.in_between, || Ok(true), &count)?)
        })?;
    }
    proxy.set_down(false);
    proxy.follow(Plan::honest());
    stage.finish()?;
    // Whoever was told to die and has not yet is started again when he does.
    let is_settled =
        has_all(stage, settled.at_the_end, || shipper.start(None).map(|()| true), &count)?;
    let (is, must) = (count()?, stage.written().len());
    ensure!(is_settled, "seed {}: the store has {is} documents, not {must}", schedule.seed);
    shipper.kill();
    Ok(())
}

/// Waits until there are at least as many documents as lines; false if the time is over.
fn has_all(
    stage: &Stage,
    patience: Duration,
    mut keep_up: impl FnMut() -> Result<bool>,
    count: impl Fn() -> Result<u64>,
) -> Result<bool> {
    let started = Instant::now();
    while keep_up()? {
        if count().context("count documents")? >= stage.written().len() as u64 {
            return Ok(true);
        }
        if started.elapsed() > patience {
            break;
        }
        thread::sleep(POLL_INTERVAL);
    }
    Ok(false)
}
