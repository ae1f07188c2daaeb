//! The thread that reads and remembers, and the threads that send.
//!
//! The reader owns all files and the checkpoint. It hands batches to the senders through a channel that holds none:
//! when all of them are busy the reader waits, and so do the files. Senders report what is delivered; only then does an
//! offset move, and only what moved is written down.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::PoisonError;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use chrono::Utc;
use crossbeam_channel::{Receiver, Sender, bounded, select};

use crate::batch::{Batch, Item, Mark};
use crate::checkpoint::WINDOW_BYTES_MAX;
use crate::compose::Shape;
use crate::deliver::Delivery;
use crate::document::Document;
use crate::identity::Print;
use crate::life::{Bounds, Entry, Life, Outcome, Place};
use crate::parse::Context as ParseContext;
use crate::watch::{Hint, Watch};

mod reader;

pub use reader::{FileStatus, Question, ReadCounts, Reader, Settings};

/// How often the checkpoint is written while offsets move.
const SAVE_EVERY: Duration = Duration::from_secs(1);
/// What is read of one file before it is the turn of the next.
const TURN_CHUNKS: usize = 4;
/// The rest between these.
const ONCE_REST: Duration = Duration::from_millis(50);
/// Looks before `once` ends: a copy that is being made is told from another file by the second.
const SCANS_MIN: u32 = 3;
/// Stopping waits this long for answers that are on their way.
const LAST_ANSWERS: Duration = Duration::from_secs(5);
const SENDER_STACK_BYTES: usize = 512 << 10;
const READER_STACK_BYTES: usize = 1 << 20;
/// The longest rest of the reader: for what is ripe by time alone.
const REST_MAX: Duration = Duration::from_secs(1);

struct Running {
    reader: Reader,
    batch: Option<Batch>,
    number: u64,
    outbox: Sender<Batch>,
    answers: Receiver<(Batch, bool)>,
    /// What was noted when each batch was begun that is under way.
    under_way: BTreeMap<u64, BTreeMap<String, String>>,
    is_moved: bool,
    saved_at: Instant,
    scanned_at: Option<Instant>,
    scans: u32,
    buffer: Vec<u8>,
    document: Document,
    is_failed: bool,
}

/// Starts the senders and the reader. The thread ends when it is stopped, or with `once` when all is delivered.
pub fn start(reader: Reader, deliveries: Vec<Delivery>) -> Result<JoinHandle<Result<()>>> {
    let (outbox, batches) = bounded::<Batch>(0);
    // Room for every batch there is: a sender never waits here.
    let (answered, answers) = bounded(deliveries.len() + 1);
    for mut delivery in deliveries {
        let (batches, answered) = (batches.clone(), answered.clone());
        let fault = reader.settings.fault.clone();
        let sender = thread::Builder::new().name("send".into()).stack_size(SENDER_STACK_BYTES);
        sender
            .spawn(move || {
                while let Ok(batch) = batches.recv() {
                    let is_done = delivery.deliver(&batch);
                    fault.pass("delivered");
                    if answered.send((batch, is_done)).is_err() {
                        return;
                    }
                }
            })
            .context("start a sender")?;
    }
    let now = Instant::now();
    let running = Running {
        reader,
        batch: None,
        number: 0,
        outbox,
        answers,
        under_way: BTreeMap::new(),
        is_moved: false,
        // What is found first is written down at once.
        saved_at: now.checked_sub(SAVE_EVERY).unwrap_or(now),
        scanned_at: None,
        scans: 0,
        buffer: Vec::new(),
        document: Document::default(),
        is_failed: false,
    };
    let thread = thread::Builder::new().name("read".into()).stack_size(READER_STACK_BYTES);
    thread.spawn(move || running.run()).context("start the reader")
}

impl Running {
    fn run(mut self) -> Result<()> {
        let (hint, hints) = bounded(1);
        let mut watch = Watch::start(hint, self.reader.stop.clone());
        while !self.reader.stop.is_stopped() && !self.is_failed {
            let now = Instant::now();
            let is_due =
                self.scanned_at.is_none_or(|at| now - at >= self.reader.settings.scan_every);
            if is_due {
                self.scan(now, watch.as_mut());
            }
            let is_busy = self.read_all(now);
            self.flush_if(now, !is_busy && self.reader.settings.once);
            self.take_answers();
            self.save_if(now);
            if is_busy {
                continue;
            }
            let is_idle = self.batch.is_none() && self.under_way.is_empty();
            if self.reader.settings.once && is_idle {
                if self.scans >= SCANS_MIN {
                    break;
                }
                self.scanned_at = None;
            }
            self.rest(&hints, now);
        }
        self.end()
    }

    fn scan(&mut self, now: Instant, watch: Option<&mut Watch>) {
        self.scanned_at = Some(now);
        self.scans += 1;
        self.reader.follow.scan(now);
        self.reader.counts.lost_bytes.add(std::mem::take(&mut self.reader.follow.lost_bytes));
        let Some(watch) = watch else { return };
        let folders: BTreeSet<&Path> = self
            .reader
            .follow
            .lives
            .values()
            .filter_map(|life| life.record.path.parent())
            .collect();
        for folder in folders {
            watch.add(folder);
        }
    }

    /// A turn of every file. Returns whether there may be more to read.
    fn read_all(&mut self, now: Instant) -> bool {
        let keys: Vec<u32> = self.reader.follow.lives.keys().copied().collect();
        let mut is_busy = false;
        for key in keys {
            for _ in 0..TURN_CHUNKS {
                match self.read_one(key, now) {
                    Some(Outcome::More) => is_busy = true,
                    Some(Outcome::Replaced) => {
                        self.reader.follow.replaced(key, now);
                        is_busy = true;
                        break;
                    }
                    Some(Outcome::AtEnd) | None => break,
                }
            }
        }
        is_busy
    }

    fn read_one(&mut self, key: u32, now: Instant) -> Option<Outcome> {
        let life = self.reader.follow.lives.get(&key)?;
        life.input.as_ref()?;
        if life.read >= life.saved + WINDOW_BYTES_MAX {
            // The next checkpoint lets it go on.
            self.is_moved = true;
            return None;
        }
        if !self.reader.follow.name(key) {
            return self.is_replaced_before_named(key);
        }
        let mut life = self.reader.follow.lives.remove(&key)?;
        let source = life.source;
        let shape = self.reader.settings.shapes.get_mut(source).map(std::mem::take);
        let outcome = shape.and_then(|mut shape| {
            let outcome = self.read_life(key, &mut life, &mut shape, now);
            self.reader.settings.shapes[source] = shape;
            outcome
        });
        self.reader.follow.lives.insert(key, life);
        outcome
    }

    /// A file that has no first line yet.
    fn is_replaced_before_named(&mut self, key: u32) -> Option<Outcome> {
        let life = self.reader.follow.lives.get_mut(&key)?;
        let size = life.input.as_ref()?.metadata().ok()?.len();
        life.record.size = size;
        None
    }

    fn read_life(
        &mut self,
        key: u32,
        life: &mut Life,
        shape: &mut Shape,
        now: Instant,
    ) -> Option<Outcome> {
        let settings = &self.reader.settings;
        let is_over = matches!(life.place, Place::Rotated | Place::Unlinked);
        let bounds = Bounds {
            entry_bytes: settings.entry_bytes,
            entry_age: settings.entry_age,
            is_final: is_over && now - life.quiet_since >= settings.entry_age,
        };
        let format = shape.format.clone();
        let mut buffer = std::mem::take(&mut self.buffer);
        let (cuts, read) = (life.record.cuts.len(), life.read);
        let read_at = Utc::now().timestamp_nanos_opt().unwrap_or_default();
        let outcome = life.read(format.as_ref(), &bounds, &mut buffer, now, &mut |life, entry| {
            self.take(key, life, shape, entry, read_at);
        });
        self.buffer = buffer;
        self.reader.follow.is_unsaved |= life.record.cuts.len() != cuts;
        if life.read != read {
            life.read_at = read_at;
        }
        let outcome = match outcome {
            Ok(outcome) => outcome,
            Err(error) => {
                tracing::warn!(file = %life.record.path.display(), "cannot be read further: {error}");
                life.quiet_since = now;
                return None;
            }
        };
        if let Some(batch) = self.batch.as_mut().filter(|_| life.read > life.record.offset)
            && batch.marks.iter().any(|mark| mark.life == key)
        {
            let mark = Mark { life: key, end: life.read, tail: life.read_tail };
            batch.mark(mark);
            life.send_out(batch.number, mark.end, mark.tail);
        }
        Some(outcome)
    }

    /// Puts an entry into the batch, and sends the batch if it is full.
    fn take(
        &mut self,
        key: u32,
        life: &mut Life,
        shape: &mut Shape,
        entry: Entry<'_>,
        read_at: i64,
    ) {
        let settings = &self.reader.settings;
        let context = ParseContext { read_at, zone: settings.zone, privacy: settings.privacy };
        let (stream, is_parsed) =
            shape.compose(&entry, &life.record.base, &context, &mut self.document);
        self.reader.counts.entries.increment();
        self.reader.counts.unparsed.add(u64::from(!is_parsed));
        self.reader.counts.cut_bytes.add(entry.cut);
        let generation = life.record.generation.expect("only files with a first line are read");
        let batch = match &mut self.batch {
            Some(batch) => batch,
            none => {
                self.number += 1;
                let noted =
                    self.reader.noted.lock().unwrap_or_else(PoisonError::into_inner).clone();
                self.under_way.insert(self.number, noted);
                none.insert(Batch::new(self.number, settings.batch_bytes, Instant::now()))
            }
        };
        let is_uncertain = entry.offset < life.record.uncertain;
        let item = Item { start: 0, stream: 0, generation, offset: entry.offset, is_uncertain };
        batch.add(&stream, item, settings.has_ids, self.document.finish());
        let mark = Mark { life: key, end: entry.end, tail: Print::default() };
        batch.mark(mark);
        if batch.body.len() < settings.batch_bytes && batch.items.len() < settings.batch_documents {
            return;
        }
        let tail = Print::of_tail(entry.before);
        batch.mark(Mark { tail, ..mark });
        life.send_out(batch.number, entry.end, tail);
        // This life is not among the others now: what is saved of it must be as new.
        self.send_with(Some((key, life)));
    }

    fn flush_if(&mut self, now: Instant, is_last: bool) {
        let age = self.reader.settings.batch_age;
        if self.batch.as_ref().is_some_and(|batch| is_last || now - batch.opened >= age) {
            self.send_with(None);
        }
    }

    /// Sends the batch; before that, what must be on disk is written. Waits while all senders are busy.
    fn send_with(&mut self, mut apart: Option<(u32, &mut Life)>) {
        if self.reader.follow.is_unsaved {
            self.save(apart.as_mut().map(|(key, life)| (*key, &mut **life)));
        }
        let Some(mut batch) = self.batch.take() else { return };
        if self.is_failed {
            return;
        }
        self.reader.settings.fault.pass("send");
        loop {
            let stopped = self.reader.stop.is_stopped();
            match self.outbox.send_timeout(batch, Duration::from_millis(20)) {
                Ok(()) => return,
                Err(_) if stopped => return,
                Err(error) => batch = error.into_inner(),
            }
            while let Ok(answer) = self.answers.try_recv() {
                let apart = apart.as_mut().map(|(key, life)| (*key, &mut **life));
                self.take_answer(answer, apart);
            }
        }
    }

    fn take_answers(&mut self) {
        while let Ok(answer) = self.answers.try_recv() {
            self.take_answer(answer, None);
        }
    }

    fn take_answer(
        &mut self,
        (batch, is_done): (Batch, bool),
        mut apart: Option<(u32, &mut Life)>,
    ) {
        if !is_done {
            return;
        }
        self.under_way.remove(&batch.number);
        for mark in &batch.marks {
            match &mut apart {
                Some((key, life)) if *key == mark.life => life.acknowledge(batch.number),
                _ => {
                    if let Some(life) = self.reader.follow.lives.get_mut(&mark.life) {
                        life.acknowledge(batch.number);
                    }
                }
            }
        }
        self.is_moved = true;
        self.reader.settings.fault.pass("acknowledged");
    }

    fn save_if(&mut self, now: Instant) {
        let is_due = self.is_moved || self.reader.follow.is_unsaved;
        if is_due && now - self.saved_at >= SAVE_EVERY {
            self.save(None);
        }
    }

    fn save(&mut self, apart: Option<(u32, &mut Life)>) {
        self.reader.settings.fault.pass("save");
        let mut checkpoint = self.reader.follow.checkpoint();
        if let Some((_, life)) = &apart {
            checkpoint.records.push(life.record.clone());
        }
        let noted = self.under_way.values().next().cloned();
        checkpoint.streams = noted.unwrap_or_else(|| {
            self.reader.noted.lock().unwrap_or_else(PoisonError::into_inner).clone()
        });
        if let Err(error) = self.reader.checkpoints.save(&checkpoint) {
            // Nothing new may be sent that is not written down; offsets may stay behind.
            tracing::error!("failed to save the checkpoint: {error:#}");
            self.is_failed = self.reader.follow.is_unsaved;
            self.saved_at = Instant::now();
            return;
        }
        self.reader.settings.fault.pass("saved");
        self.reader.follow.is_unsaved = false;
        self.is_moved = false;
        self.saved_at = Instant::now();
        for life in self.reader.follow.lives.values_mut() {
            life.saved = life.record.offset;
        }
        if let Some((_, life)) = apart {
            life.saved = life.record.offset;
        }
    }

    fn rest(&mut self, hints: &Receiver<Hint>, now: Instant) {
        let batch_due =
            self.batch.as_ref().map(|batch| batch.opened + self.reader.settings.batch_age);
        let save_due = self.is_moved.then(|| self.saved_at + SAVE_EVERY);
        let once_due = self.reader.settings.once.then(|| now + ONCE_REST);
        let due = [batch_due, save_due, once_due].into_iter().flatten().min();
        let timeout = due.map_or(REST_MAX, |due| due.saturating_duration_since(now)).min(REST_MAX);
        if self.batch.is_none() && self.under_way.is_empty() {
            self.buffer = Vec::new();
        }
        let answers = self.answers.clone();
        let questions = self.reader.questions.clone();
        select! {
            recv(hints) -> hint => if hint == Ok(Hint::Named) { self.scanned_at = None },
            recv(answers) -> answer => {
                if let Ok(answer) = answer {
                    self.take_answer(answer, None);
                }
            }
            recv(questions) -> question => if let Ok(question) = question { self.tell(&question) },
            default(timeout) => {}
        }
    }

    fn tell(&self, question: &Question) {
        let now = Utc::now().timestamp_nanos_opt().unwrap_or_default();
        let lives = self.reader.follow.lives.values().filter(|life| !life.record.closed);
        let files = lives.map(|life| {
            let behind = life.behind();
            let since = if behind == 0 { now } else { life.read_at };
            FileStatus {
                path: life.record.path.clone(),
                place: format!("{:?}", life.place).to_lowercase(),
                offset: life.record.offset,
                size: life.record.size,
                behind_bytes: behind,
                behind_seconds: (now - since) as f64 / 1e9,
            }
        });
        drop(question.try_send(files.collect()));
    }

    /// What is on its way may still arrive; then everything that is known is written down.
    fn end(mut self) -> Result<()> {
        let until = Instant::now() + LAST_ANSWERS;
        let sent = |running: &Self| {
            let building = usize::from(running.batch.is_some());
            running.under_way.len() > building
        };
        while sent(&self)
            && let Ok(answer) = self.answers.recv_deadline(until)
        {
            let is_done = answer.1;
            self.take_answer(answer, None);
            if !is_done {
                break;
            }
        }
        anyhow::ensure!(!self.is_failed, "the checkpoint cannot be written");
        self.save(None);
        Ok(())
    }
}
