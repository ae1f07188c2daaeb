//! The rounds of a sweep over one source.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use depot::names::SnapshotId;
use tests::site::{DEPOTS, Site};
use tests::tree::Dice;

use super::check::{Seen, check, check_caught_up, check_restore, prune};
use super::fault::{Fault, now};
use super::source::{Claims, Kind, Source};

/// So often days pass and the keeper prunes.
const ROUNDS_A_PRUNE: u64 = 4;

/// What a sweep knows.
struct World {
    kind: Kind,
    site: Site,
    source: Source,
    claims: Claims,
    seen: Seen,
    /// How long the last run without a fault took, and the bytes that it moved over a line.
    usual: (Duration, u64),
    figures: BTreeMap<String, u64>,
}

/// Sweeps: a good run first, then so many rounds.
pub fn sweep(kind: Kind, seed: u64, rounds: u64) -> Result<()> {
    let mut site = Site::with_small_disks()?;
    let source = Source::make(kind, &mut site, seed)?;
    site.start();
    let usual = (Duration::from_secs(2), 4 << 20);
    let (claims, seen, figures) = Default::default();
    let mut world = World { kind, site, source, claims, seen, usual, figures };
    let mut dice = Dice::new(seed);
    let started = Instant::now();
    world.good_run(&mut dice).context("first run")?;
    for round in 0..rounds {
        let mut dice = Dice::new(seed ^ (round << 32));
        world.round(&mut dice).with_context(|| world.story(round))?;
        if round % ROUNDS_A_PRUNE == ROUNDS_A_PRUNE - 1 {
            prune(&world.site, &mut world.claims, &mut world.seen, false)
                .with_context(|| world.story(round))?;
        }
    }
    prune(&world.site, &mut world.claims, &mut world.seen, true).context("last prune")?;
    world.claims.keys().try_for_each(|id| world.restore_one(id, &mut dice))?;
    println!("{rounds} rounds of {kind:?} in {:?}: {:#?}", started.elapsed(), world.figures);
    Ok(())
}

impl World {
    /// What happened in a round, for who has to find out why.
    fn story(&self, round: u64) -> String {
        format!(
            "round {round}, {:#?}, the daemon said:\n{}",
            self.figures,
            self.site.daemon().log()
        )
    }

    fn count(&mut self, what: impl Into<String>) {
        *self.figures.entry(what.into()).or_default() += 1;
    }

    /// A broken run, then one that must do.
    fn round(&mut self, dice: &mut Dice) -> Result<()> {
        self.source.change(dice)?;
        let job = self.source.job(dice);
        let (usual, moved) = self.usual;
        let fault = Fault::draw(self.kind, dice, usual, moved, self.site.disks.is_some());
        println!("{job}: {fault:?}");
        let (said, claim) =
            self.source.during(&self.site, || fault.run(&self.site, job)).context("faulty run")?;
        println!("  {} {}", said.code, said.stderr.lines().next().unwrap_or_default());
        self.count(format!("{}: code {}", fault.name(), said.code));
        ensure!([0, 1, 3].contains(&said.code), "{fault:?}: {said:?}");
        ensure!(!said.stderr.contains("panicked"), "{fault:?}: {said:?}");
        if fault.kills_the_daemon() {
            self.site.start();
        }
        let is_pruned = matches!(fault, Fault::Prune { .. });
        let new = check(&self.site, &mut self.claims, &claim, &mut self.seen, is_pruned, dice)
            .with_context(|| format!("after {fault:?}, {said:?}"))?;
        self.count(format!("backups looked at after {}: {new}", fault.name()));
        self.source.change(dice)?;
        self.good_run(dice).with_context(|| format!("after {fault:?}, {said:?}"))
    }

    fn good_run(&mut self, dice: &mut Dice) -> Result<()> {
        let job = self.source.job(dice);
        let (started, moved) = (Instant::now(), self.site.s3_line.passed());
        let (said, claim) = self.source.during(&self.site, || now(&self.site, job, || Ok(())))?;
        ensure!(said.code == 0, "a run without a fault: {said:?}");
        self.usual = (started.elapsed(), (self.site.s3_line.passed() - moved).max(1));
        check(&self.site, &mut self.claims, &claim, &mut self.seen, false, dice)
            .context("after a good run")?;
        check_caught_up(&self.site, job)?;
        // One of all that are there.
        let ids: Vec<_> = self.claims.keys().cloned().collect();
        self.restore_one(dice.pick(&ids), dice)
    }

    fn restore_one(&self, id: &SnapshotId, dice: &mut Dice) -> Result<()> {
        let has = |name: &&'static str| self.seen[name].contains(id);
        let depots: Vec<_> = DEPOTS.into_iter().filter(has).collect();
        check_restore(&self.site, &self.claims, id, &depots, dice)
    }
}
