//! What happens, in which order, by seed.

use crate::tree::Dice;

/// Logs that a schedule writes to.
pub const LOGS: u32 = 3;

/// Places of the shipper where it can be told to die (`--die-at PLACE:TIMES`).
pub const DEATHS: [&str; 5] = ["send", "delivered", "acknowledged", "save", "saved"];

/// One thing that happens. What cannot be done at the moment (nothing to compress, a shipper that is down already)
/// is passed over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Whole lines are appended in one write.
    Write {
        /// To this log.
        log: u32,
        /// How many.
        lines: u32,
    },
    /// The first part of a line; the next write to the log begins with the rest.
    WritePart {
        /// To this log.
        log: u32,
    },
    /// `log` becomes `log.1`, `log.1` becomes `log.2`; the log is made anew.
    Rotate {
        /// This log.
        log: u32,
    },
    /// As `Rotate`, but the writer keeps on writing to the old file once more before it opens the new one.
    RotateLate {
        /// This log.
        log: u32,
    },
    /// The log is copied to `log.1` and truncated, once everything in it is in the store: what is written between
    /// the shipper's last look and a truncation nobody can see.
    Truncate {
        /// This log.
        log: u32,
    },
    /// The newest rotated file that is not compressed becomes `.gz`, as `gzip` does it: a new file, then the old
    /// one is removed.
    Compress {
        /// Of this log.
        log: u32,
    },
    /// The oldest rotated file is removed, once everything in it is in the store.
    Delete {
        /// Of this log.
        log: u32,
    },
    /// The log is removed and made anew, with the same inode if the file system likes; once everything in it is in
    /// the store.
    Recreate {
        /// This log.
        log: u32,
    },
    /// The time of modification jumps, as when the clock was set.
    Redate {
        /// Of this log.
        log: u32,
        /// By so many seconds.
        seconds: i64,
    },
    /// The shipper is killed by SIGKILL.
    Kill,
    /// The shipper is started.
    Start,
    /// The shipper is killed and started so that it kills itself at a place, when it passes there so many times.
    StartToDie {
        /// One of [`DEATHS`].
        place: &'static str,
        /// The how-manieth time.
        times: u32,
    },
    /// The store ends every connection.
    StoreDown,
    /// The store is back.
    StoreUp,
    /// Some time passes.
    Wait {
        /// So long.
        milliseconds: u64,
    },
}

/// A list of steps with the seed that it comes from.
#[derive(Clone, Debug)]
pub struct Schedule {
    /// Also that of the lines and of the proxy.
    pub seed: u64,
    /// What happens.
    pub steps: Vec<Step>,
}

impl Schedule {
    /// As many steps as asked for. It begins with lines and a start, and neither the store nor the shipper is left
    /// down at the end.
    pub fn make(seed: u64, length: usize) -> Self {
        let mut dice = Dice::new(seed);
        let mut steps: Vec<Step> =
            (0..LOGS).map(|log| Step::Write { log, lines: dice.below(20) as u32 }).collect();
        steps.push(Step::Start);
        while steps.len() < length {
            steps.push(step(&mut dice));
        }
        steps.extend([Step::StoreUp, Step::Start]);
        Self { seed, steps }
    }
}

fn step(dice: &mut Dice) -> Step {
    let log = dice.below(LOGS.into()) as u32;
    match dice.below(100) {
        0..=35 => {
            let most = if dice.once_in(8) { 2000 } else { 30 };
            Step::Write { log, lines: 1 + dice.below(most) as u32 }
        }
        36..=45 => Step::WritePart { log },
        46..=53 => Step::Rotate { log },
        54..=57 => Step::RotateLate { log },
        58..=61 => Step::Truncate { log },
        62..=67 => Step::Compress { log },
        68..=70 => Step::Delete { log },
        71..=73 => Step::Recreate { log },
        74..=75 => Step::Redate { log, seconds: dice.below(172_800) as i64 - 86_400 },
        76..=79 => Step::Kill,
        80..=86 => Step::Start,
        87..=90 => {
            Step::StartToDie { place: dice.pick::<&str>(&DEATHS), times: 1 + dice.below(4) as u32 }
        }
        91..=92 => Step::StoreDown,
        93..=95 => Step::StoreUp,
        _ => Step::Wait { milliseconds: dice.below(300) },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_schedule_and_another_seed_another_one() {
        let made = |seed| Schedule::make(seed, 60).steps;
        assert_eq!(made(7), made(7));
        assert_ne!(made(7), made(8));
    }

    #[test]
    fn every_kind_of_step_comes_up() {
        let mut kinds: Vec<_> = (0..200)
            .flat_map(|seed| Schedule::make(seed, 60).steps)
            .map(|step| format!("{step:?}").split(' ').next().unwrap_or_default().to_owned())
            .collect();
        kinds.sort();
        kinds.dedup();
        assert_eq!(kinds.len(), 15, "{kinds:?}");
    }
}
