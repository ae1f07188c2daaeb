//! The oracle: it knows what a database has after each of its transactions, without asking the database.
//!
//! Sessions write at full speed. Each is a sequence of steps that its number and the seed decide alone; a step is
//! one transaction, or one definition, and has one GTID, by which the order of all commits is known. So what is there
//! at any point is what each session has after its steps up to there. A session that dies (with its server) ends in
//! doubt about its last step: whether that landed is asked once, of the server, and no point within the doubt is
//! chosen.
//!
//! # Layout
//! - `model`: steps, as statements and as what they change
//! - `session`: a client that runs steps, and what it recorded
//! - `content`: what is in a database, as text, and the first difference

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use chrono::{DateTime, TimeDelta, Utc};

use crate::servers::mariadb::MariaDb;
use crate::tree::Dice;

mod content;
mod model;
mod session;

pub use content::Content;
pub use model::{Model, Sizes};
pub use session::{Record, Step};

/// How long a session that cannot begin waits before the next attempt.
const RETRY: Duration = Duration::from_millis(50);
/// Times in the log are whole seconds, those of the beginning of a statement.
const TIME_BLUR: TimeDelta = TimeDelta::seconds(2);

/// What was written, by whom and in which order.
#[derive(Debug)]
pub struct Oracle {
    seed: u64,
    sizes: Sizes,
    next: AtomicU32,
    records: Mutex<Vec<Record>>,
}

impl Oracle {
    /// Makes the tables that all sessions share. The seed is printed.
    pub fn new(server: &MariaDb, seed: u64, sizes: Sizes) -> Result<Self> {
        #[expect(clippy::print_stderr, reason = "a test that fails is repeated with its seed")]
        {
            eprintln!("oracle: seed {seed}");
        }
        server.sql(model::TABLES).context("make tables")?;
        Ok(Self { seed, sizes, next: AtomicU32::new(1), records: Mutex::default() })
    }

    /// Writes from several sessions while something is done. Sessions that die are followed by new ones.
    pub fn write_while<T>(&self, socket: &Path, sessions: u32, work: impl FnOnce() -> T) -> T {
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            for _ in 0..sessions {
                scope.spawn(|| {
                    while !done.load(Ordering::Relaxed) {
                        let number = self.next.fetch_add(1, Ordering::Relaxed);
                        let record = session::run(socket, self.model(number), &done);
                        if record.steps.is_empty() {
                            thread::sleep(RETRY);
                        }
                        self.lock().push(record);
                    }
                });
            }
            let result = work();
            done.store(true, Ordering::Relaxed);
            result
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Record>> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn model(&self, session: u32) -> Model {
        Model::new(self.seed, session, self.sizes)
    }

    /// How many steps were acknowledged by sessions that have ended.
    pub fn steps(&self) -> usize {
        self.lock().iter().map(|record| record.steps.len()).sum()
    }

    /// What was written until now, when no session writes; asks the server about last steps in doubt.
    pub fn history(&self, server: &MariaDb) -> Result<History> {
        let content = Content::read(server)?;
        let mut sessions = Vec::new();
        let mut steps: Vec<Step> =
            self.lock().iter().flat_map(|record| record.steps.clone()).collect();
        steps.sort_by_key(|step| step.number);
        for record in self.lock().iter() {
            let landed = record.died.is_some() && self.has_landed(record, &content)?;
            let end_of_doubt = record.died.map_or(0, |died| {
                let after = steps.iter().find(|step| step.sent > died);
                after.map_or(u64::MAX, |step| step.number)
            });
            sessions.push(Session { record: record.clone(), landed, end_of_doubt });
        }
        Ok(History { seed: self.seed, sizes: self.sizes, sessions, steps })
    }

    fn has_landed(&self, record: &Record, content: &Content) -> Result<bool> {
        let there = content.of_session(record.session);
        let mut model = self.model(record.session);
        model.skip(record.steps.len());
        let without = model.content();
        model.skip(1);
        let with = model.content();
        let steps = record.steps.len();
        ensure!(
            there == with || there == without,
            "session {} has neither {steps} steps nor one more: {} {:?}",
            record.session,
            record.last_words,
            without.difference(&there)
        );
        Ok(there == with)
    }
}

/// What was written, in the order of commits.
#[derive(Debug)]
pub struct History {
    seed: u64,
    sizes: Sizes,
    sessions: Vec<Session>,
    steps: Vec<Step>,
}

#[derive(Debug)]
struct Session {
    record: Record,
    /// The step after the last acknowledged one is there too.
    landed: bool,
    /// From this number on that is certain; before, only up to the last acknowledged one.
    end_of_doubt: u64,
}

impl Session {
    fn doubts(&self, number: u64) -> bool {
        let last = self.record.steps.last().map_or(0, |step| step.number);
        self.landed && (last..self.end_of_doubt).contains(&number)
    }
}

impl History {
    /// All steps in the order of their commits.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// What a database has that was brought to the transaction with this number, and no further.
    pub fn at(&self, number: u64) -> Content {
        let mut content = Content::default();
        for session in &self.sessions {
            let Record { steps, session: id, .. } = &session.record;
            let done = steps.partition_point(|step| step.number <= number);
            let landed = session.landed && done == steps.len() && number >= session.end_of_doubt;
            let mut model = Model::new(self.seed, *id, self.sizes);
            model.skip(done + usize::from(landed));
            content.add(model.content());
        }
        content
    }

    /// Why sessions died.
    pub fn deaths(&self) -> Vec<&str> {
        let died = self.sessions.iter().filter(|session| session.record.died.is_some());
        died.map(|session| session.record.last_words.trim())
            .filter(|words| !words.contains("(2002)") && !words.contains("ERROR 2002"))
            .collect()
    }

    /// All that was ever written.
    pub fn latest(&self) -> Content {
        self.at(u64::MAX)
    }

    /// A step behind a number that no session was in doubt at.
    pub fn pick(&self, dice: &mut Dice, after: u64) -> &Step {
        let from = self.steps.partition_point(|step| step.number <= after);
        let steps = &self.steps[from..];
        loop {
            let step = &steps[dice.below(steps.len() as u64) as usize];
            if self.is_certain(step.number) && self.is_certain(step.number - 1) {
                return step;
            }
        }
    }

    /// Whether what is there at a number is known.
    pub fn is_certain(&self, number: u64) -> bool {
        !self.sessions.iter().any(|session| session.doubts(number))
    }

    /// Whether a database that has everything up to a number is what a point in time may give: all that was
    /// acknowledged well before it, nothing that was sent well after it.
    pub fn is_at_time(&self, number: u64, time: DateTime<Utc>) -> bool {
        self.steps.iter().all(|step| {
            let must = step.acknowledged + TIME_BLUR < time && !step.is_set_back;
            let may = step.sent - TIME_BLUR <= time || step.is_set_back;
            if step.number <= number { may } else { !must }
        })
    }
}
