//! `restore` is killed, or its line is cut, at random moments; then the same command gives the whole tree.

use std::fs;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use chassis::durable::TEMP_PREFIX;
use tests::servers::line::{Break, LineFault};
use tests::site::Site;
use tests::tree::{Dice, Made, change, describe, differences, make};

/// How often one restore is killed at most.
const KILLS_MAX: u64 = 4;
/// What is in a target until it is whole.
const MARKER: &str = ".restore-unfinished";

/// Sweeps: each round restores a changed tree from one of the depots.
pub fn sweep(seed: u64, rounds: u64) -> Result<()> {
    let mut site = Site::new()?;
    site.configure(&site.lab.site(""))?;
    let mut made = make_tree(&site, seed)?;
    site.start();
    let mut usual = Duration::from_secs(1);
    for round in 0..rounds {
        let mut dice = Dice::new(seed ^ (round << 32));
        change(&mut made, 5, dice.roll())?;
        let said = site.lab.ctl(&["now", "--json"]);
        ensure!(said.code == 0, "{said:?}");
        usual = self::round(&site, usual, &mut dice).with_context(|| format!("round {round}"))?;
    }
    Ok(())
}

fn make_tree(site: &Site, seed: u64) -> Result<Made> {
    let root = site.path("www");
    fs::remove_file(root.join("index.php"))?;
    let made = make(&root, seed)?;
    let mut dice = Dice::new(seed);
    for number in 0..20 {
        fs::write(root.join(format!("large-{number}")), dice.bytes(1_000_000))?;
    }
    Ok(made)
}

fn command(site: &Site, depot: &str) -> Command {
    let target = site.path("restored");
    let target = target.to_str().expect("scratch paths are UTF-8");
    site.lab.restore_command(&["--depot", depot, "--target", target, "--no-sync"])
}

/// Kills some restores, cuts the line of one, and lets the last one end; returns how long that one took from the
/// beginning or less.
fn round(site: &Site, usual: Duration, dice: &mut Dice) -> Result<Duration> {
    let depot = *dice.pick(&tests::site::DEPOTS);
    let mut killed = 0;
    for _ in 0..dice.below(KILLS_MAX + 1) {
        let delay = usual.mul_f64(dice.below(1000) as f64 / 1000.0);
        killed += u64::from(kill(command(site, depot), delay)?);
        start_over_if_whole(site)?;
    }
    let away = Duration::from_millis(dice.below(2000));
    let fault = LineFault { kind: Break::Cut, after_bytes: dice.below(20 << 20), away };
    let line = if depot == "sftp" { &site.sftp_line } else { &site.s3_line };
    line.break_at(fault);
    let started = Instant::now();
    let output = command(site, depot).output()?;
    let has_broken = line.mend();
    println!("{depot}: killed {killed} times, line broken: {has_broken}");
    let said = tests::program::Said::of(&output);
    ensure!(said.code == 0, "{depot}, {fault:?}: {said:?}");
    check_whole(site).with_context(|| format!("{depot}, {fault:?}"))?;
    ensure!(!site.path("restored").join(MARKER).exists(), "it is said to be unfinished");
    fs::remove_dir_all(site.path("restored"))?;
    Ok(if killed == 0 && !has_broken { started.elapsed() } else { usual })
}

/// Whether it was killed in time.
fn kill(mut command: Command, delay: Duration) -> Result<bool> {
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    thread::sleep(delay);
    child.kill()?;
    Ok(child.wait()?.signal().is_some())
}

/// What is not marked as unfinished must be whole: it ended before it was killed. Then it begins anew.
fn start_over_if_whole(site: &Site) -> Result<()> {
    let target = site.path("restored");
    // A mark that was being written is none, and there is nothing but it.
    let is_begun = target.exists() && !fs::read_dir(&target)?.all(|entry| is_torn_mark(&entry));
    if !is_begun || target.join(MARKER).exists() {
        return Ok(());
    }
    check_whole(site).context("it is not marked as unfinished")?;
    Ok(fs::remove_dir_all(&target)?)
}

fn is_torn_mark(entry: &io::Result<fs::DirEntry>) -> bool {
    let name = entry.as_ref().map(fs::DirEntry::file_name).unwrap_or_default();
    name.to_string_lossy().starts_with(TEMP_PREFIX)
}

fn check_whole(site: &Site) -> Result<()> {
    let (source, found) = (describe(&site.path("www"))?, describe(&site.path("restored"))?);
    let found = differences(&source, &found);
    ensure!(found.is_empty(), "{}", found.join("\n"));
    Ok(())
}
