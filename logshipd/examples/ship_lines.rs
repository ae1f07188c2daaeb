//! Writes an access log of any size: the lines of a real nginx, again and again, with times, addresses, durations and
//! request ids that vary as under load.
//!
//!     cargo run --release -p logshipd --example ship_lines FILE MEBIBYTES [SEED]
//!
//! The same seed gives the same lines. Prints how many there are.

use std::fs::File;
use std::io::{self, BufWriter, Write};

use anyhow::{Context, Result};
use chrono::{DateTime, Duration, Utc};

const LINES: &str = include_str!("../../tests/lines/nginx-access.log");
/// Lines in a second of the log.
const RATE: u32 = 500;

/// A small generator of numbers that is good enough to vary lines.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.roll() % limit
    }
}

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().context("name a file")?;
    let mebibytes: u64 = arguments.next().context("say how many MiB")?.parse()?;
    let seed: u64 = arguments.next().map_or(Ok(20_261_128), |seed| seed.parse())?;
    let mut dice = Dice(seed.max(1));
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path)?);
    let samples: Vec<&str> = LINES.lines().collect();
    let mut time: DateTime<Utc> = "2026-11-28T00:00:00Z".parse()?;
    let (mut bytes, mut count) = (0, 0_u32);
    while bytes < mebibytes << 20 {
        if count.is_multiple_of(RATE) {
            time += Duration::seconds(1);
        }
        count += 1;
        let sample = samples[dice.below(samples.len() as u64) as usize];
        let line = vary(sample, time, &mut dice).context("a line that is not as expected")?;
        file.write_all(line.as_bytes())?;
        bytes += line.len() as u64;
    }
    file.flush()?;
    writeln!(io::stdout(), "{count}")?;
    Ok(())
}

/// The same request by somebody else, at another time, that took another time.
fn vary(sample: &str, time: DateTime<Utc>, dice: &mut Dice) -> Option<String> {
    let (_, rest) = sample.split_once(" - - [")?;
    let (_, rest) = rest.split_once(']')?;
    let (request, rest) = rest.split_once(" rt=")?;
    let (_, rest) = rest.split_once(' ')?;
    let (upstream, _) = rest.split_once(" rid=")?;
    let (address, millis) = (dice.roll(), dice.below(900).pow(2) / 2000);
    let [_, _, c, d, ..] = address.to_le_bytes();
    // What an upstream took is a part of all.
    let upstream = upstream.replace("0.000", &format!("0.{:03}", millis.min(999) * 9 / 10));
    Some(format!(
        "203.0.{c}.{d} - - [{}]{request} rt=0.{:03} {upstream} rid={:016x}{:016x}\n",
        time.format("%d/%b/%Y:%H:%M:%S +0000"),
        millis.min(999),
        dice.roll(),
        dice.roll(),
    ))
}
