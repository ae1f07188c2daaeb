//! One fault, drawn by seed and done to a run.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tests::program::Said;
use tests::servers::line::{Break, Line, LineFault};
use tests::servers::process::descendants_of;
use tests::site::Site;
use tests::tree::Dice;

use super::source::Kind;

/// No command may take longer, whatever is broken: retries end within three minutes.
const PATIENCE: Duration = Duration::from_mins(5);

/// What goes wrong.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// The daemon is killed.
    KillDaemon(Duration),
    /// The tool that copies the database is killed.
    KillTool(Duration),
    /// It hangs.
    StopTool(Duration),
    /// A line breaks.
    Line { is_sftp: bool, fault: LineFault },
    /// A line breaks, and the daemon is killed while it tries again.
    LineAndKill { is_sftp: bool, fault: LineFault, delay: Duration },
    /// The disk of a depot (1 is the directory, 2 SFTP) or of the state directory (0) is full.
    FullDisk { which: usize, free_bytes: u64 },
    /// The keeper prunes at the same time, and is perhaps killed.
    Prune { delay: Duration, is_killed: bool },
}

impl Fault {
    /// Draws one. `usual` is how long a run takes, `moved` how many bytes it sends over a line.
    pub fn draw(kind: Kind, dice: &mut Dice, usual: Duration, moved: u64, has_disks: bool) -> Self {
        let moment = |dice: &mut Dice| usual.mul_f64(dice.below(1000) as f64 / 1000.0);
        match dice.below(12) {
            0..=2 => Self::KillDaemon(moment(dice)),
            3 | 4 if kind == Kind::Database => Self::KillTool(moment(dice)),
            5 if kind == Kind::Database => Self::StopTool(moment(dice)),
            3..=6 => {
                let (is_sftp, fault) = draw_line(dice, moved);
                Self::Line { is_sftp, fault }
            }
            7 => {
                let (is_sftp, fault) = draw_line(dice, moved);
                let delay = moment(dice) + Duration::from_millis(dice.below(500));
                Self::LineAndKill { is_sftp, fault, delay }
            }
            8..=10 if has_disks => {
                let which = dice.below(3) as usize;
                let free_bytes = if which == 0 { dice.below(200_000) } else { dice.below(moved) };
                Self::FullDisk { which, free_bytes }
            }
            _ => Self::Prune { delay: moment(dice), is_killed: dice.once_in(2) },
        }
    }

    /// A name for the figures.
    pub fn name(&self) -> &'static str {
        match self {
            Self::KillDaemon(_) => "daemon killed",
            Self::KillTool(_) => "tool killed",
            Self::StopTool(_) => "tool hangs",
            Self::Line { fault: LineFault { kind: Break::Cut, .. }, .. } => "line cut",
            Self::Line { .. } => "line silent",
            Self::LineAndKill { .. } => "line broken, daemon killed",
            Self::FullDisk { which: 0, .. } => "state directory full",
            Self::FullDisk { .. } => "depot full",
            Self::Prune { is_killed: false, .. } => "prune meanwhile",
            Self::Prune { .. } => "prune killed meanwhile",
        }
    }

    /// Whether the daemon has to be started again.
    pub fn kills_the_daemon(&self) -> bool {
        matches!(self, Self::KillDaemon(_) | Self::LineAndKill { .. })
    }

    /// Runs a job with it. Afterwards the world is whole again but for the daemon, which may be dead.
    pub fn run(&self, site: &Site, job: &str) -> Result<Said> {
        if let Self::FullDisk { which, free_bytes } = self {
            let disk = &site.disks.as_ref().context("there are disks to fill")?[*which];
            disk.fill(*free_bytes)?;
            let said = now(site, job, || Ok(()));
            disk.relieve()?;
            return said;
        }
        if let Self::Line { is_sftp, fault } | Self::LineAndKill { is_sftp, fault, .. } = self {
            line(site, *is_sftp).break_at(*fault);
        }
        let said = now(site, job, || self.strike(site));
        site.sftp_line.mend();
        site.s3_line.mend();
        said
    }

    /// What is done while the run goes on.
    fn strike(&self, site: &Site) -> Result<()> {
        match self {
            Self::KillDaemon(delay) | Self::LineAndKill { delay, .. } => {
                thread::sleep(*delay);
                site.daemon().signal(Signal::KILL);
            }
            Self::KillTool(delay) => signal_tool(site, *delay, Signal::KILL),
            Self::StopTool(delay) => signal_tool(site, *delay, Signal::STOP),
            Self::Prune { delay, is_killed } => prune(site, *delay, *is_killed)?,
            Self::Line { .. } | Self::FullDisk { .. } => {}
        }
        Ok(())
    }
}

fn draw_line(dice: &mut Dice, moved: u64) -> (bool, LineFault) {
    let kind = *dice.pick(&[Break::Cut, Break::Silence]);
    // Longer than the timeout of SFTP, or much shorter.
    let away = Duration::from_millis(*dice.pick(&[0, 300, 1500, 4000]));
    (dice.once_in(2), LineFault { kind, after_bytes: dice.below(moved), away })
}

fn line(site: &Site, is_sftp: bool) -> &Line {
    if is_sftp { &site.sftp_line } else { &site.s3_line }
}

/// Runs the job with the command, and something beside it.
pub fn now(site: &Site, job: &str, beside: impl FnOnce() -> Result<()>) -> Result<Said> {
    let started = Instant::now();
    let said = thread::scope(|scope| {
        let running = scope.spawn(|| site.lab.ctl(&["now", job, "--json"]));
        beside()?;
        running.join().map_err(|_| anyhow::anyhow!("the command could not be run"))
    })?;
    ensure!(started.elapsed() < PATIENCE, "it took {:?}: {said:?}", started.elapsed());
    Ok(said)
}

/// The daemon's children are the tool; there may be none at that moment.
fn signal_tool(site: &Site, delay: Duration, signal: Signal) {
    thread::sleep(delay);
    for id in descendants_of(site.daemon().id()) {
        if let Some(pid) = i32::try_from(id).ok().and_then(Pid::from_raw) {
            // It may have ended by itself.
            let _ = kill_process(pid, signal);
        }
    }
}

fn prune(site: &Site, delay: Duration, is_killed: bool) -> Result<()> {
    if !is_killed {
        thread::sleep(delay);
        let said = site.keeper_ctl(&["prune"]);
        // Somebody who reads sees that a run is being committed, and that is all.
        ensure!(said.code == 0, "prune: {said:?}");
        return Ok(());
    }
    let mut child = site.keeper_command(&["prune"]).spawn().context("start prune")?;
    thread::sleep(delay.min(Duration::from_millis(600)));
    // It may have ended by itself.
    drop(child.kill());
    drop(child.wait());
    Ok(())
}
