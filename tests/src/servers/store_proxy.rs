//! A proxy in front of a real store that spoils some of what goes through it, by seed: what the n-th request
//! meets is the same in every run. It never invents a success: what it says is stored, the store has said.
//!
//! One thread a connection, connections kept alive, bodies plain or gzip, no TLS.

mod bulk;
mod http;

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use flate2::read::MultiGzDecoder;

use self::http::Message;
use crate::tree::Dice;

/// How often a thread that waits for a request looks whether it is to end.
const POLL_INTERVAL: Duration = Duration::from_millis(50);
const UNPACKED_BYTES_MAX: u64 = 256 << 20;

/// What is done to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trick {
    /// Nothing.
    Honest,
    /// 429 for the whole; the store sees nothing.
    Busy,
    /// 500, 502, 503 or 504 for the whole; the store sees nothing.
    Failing,
    /// Some items are refused with 429 or 503 and the store sees only the others.
    Partial,
    /// The store has it all, and the answer ends at some byte.
    CutAnswer,
    /// The store has it all, and there is no answer for as long as [`Plan::hold`], then the connection ends.
    Silent,
    /// The connection ends before the store sees anything.
    Dropped,
    /// 413, unless it is a single item; the store sees nothing.
    TooLarge,
}

/// All that spoil something.
pub const TRICKS: [Trick; 7] = [
    Trick::Busy,
    Trick::Failing,
    Trick::Partial,
    Trick::CutAnswer,
    Trick::Silent,
    Trick::Dropped,
    Trick::TooLarge,
];

/// What is done, and how often.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Of everything that is left to chance.
    pub seed: u64,
    /// How many of a thousand requests are spoiled.
    pub spoiled: u64,
    /// By what.
    pub tricks: Vec<Trick>,
    /// How long a silent one is held.
    pub hold: Duration,
}

impl Plan {
    /// Everything is passed on as it is.
    pub fn honest() -> Self {
        Self { seed: 0, spoiled: 0, tricks: Vec::new(), hold: Duration::ZERO }
    }

    /// Every request meets the same.
    pub fn always(trick: Trick, seed: u64) -> Self {
        Self { seed, spoiled: 1000, tricks: vec![trick], hold: Duration::from_millis(100) }
    }

    /// A part of the requests meets anything.
    pub fn mixed(seed: u64, spoiled: u64) -> Self {
        Self { seed, spoiled, tricks: TRICKS.to_vec(), hold: Duration::from_millis(300) }
    }

    /// What the request of a number meets, and the chance for how.
    fn trick(&self, number: u64) -> (Trick, Dice) {
        let mut dice = Dice::new(self.seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let is_spoiled = dice.below(1000) < self.spoiled && !self.tricks.is_empty();
        let trick = if is_spoiled { *dice.pick(&self.tricks) } else { Trick::Honest };
        (trick, dice)
    }
}

/// What it did so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// `_bulk` requests, by what was done to them.
    pub bulks: BTreeMap<Trick, u64>,
    /// Other requests, by what was done to them.
    pub others: BTreeMap<Trick, u64>,
    /// Items that the store was given.
    pub items: u64,
    /// Items that were refused one by one.
    pub refused_items: u64,
    /// `_bulk` requests that are not what they should be; a test may want to see none.
    pub malformed: u64,
    /// Connections that were ended at once because the store was to be down.
    pub turned_away: u64,
}

#[derive(Debug)]
struct Shared {
    store: SocketAddr,
    plan: Mutex<Plan>,
    counts: Mutex<Counts>,
    bulks: AtomicU64,
    others: AtomicU64,
    is_down: AtomicBool,
    is_over: AtomicBool,
}

/// A running proxy; it ends when it is dropped.
#[derive(Debug)]
pub struct StoreProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl StoreProxy {
    /// Starts one on a free port in front of a store that listens without TLS.
    pub fn start(store: SocketAddr, plan: Plan) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").context("listen")?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            store,
            plan: Mutex::new(plan),
            counts: Mutex::default(),
            bulks: AtomicU64::new(0),
            others: AtomicU64::new(0),
            is_down: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
        });
        let accepting = Arc::clone(&shared);
        let thread = thread::spawn(move || accepting.accept(&listener));
        Ok(Self { address, shared, thread: Some(thread) })
    }

    /// Its address as a URL, without a slash at the end.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on another plan; its requests are counted from 0.
    pub fn follow(&self, plan: Plan) {
        *lock(&self.shared.plan) = plan;
        self.shared.bulks.store(0, SeqCst);
        self.shared.others.store(0, SeqCst);
    }

    /// From now on every connection is ended at once, or served again.
    pub fn set_down(&self, is_down: bool) {
        self.shared.is_down.store(is_down, SeqCst);
    }

    /// What it did so far.
    pub fn counts(&self) -> Counts {
        lock(&self.shared.counts).clone()
    }
}

impl Drop for StoreProxy {
    fn drop(&mut self) {
        self.shared.is_over.store(true, SeqCst);
        drop(TcpStream::connect(self.address));
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

impl Shared {
    fn accept(self: &Arc<Self>, listener: &TcpListener) {
        for stream in listener.incoming().flatten() {
            if self.is_over.load(SeqCst) {
                return;
            }
            let shared = Arc::clone(self);
            // It ends with its connection, or within an interval after the proxy.
            thread::spawn(move || shared.serve(stream));
        }
    }

    /// All requests of a connection. An error of the client's side just ends it.
    fn serve(&self, stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let mut reader = BufReader::new(stream);
        while self.wait(&mut reader)? {
            if self.is_over.load(SeqCst) {
                return Ok(());
            }
            if self.is_down.load(SeqCst) {
                lock(&self.counts).turned_away += 1;
                return Ok(());
            }
            let Some(request) = Message::read(&mut reader)? else { return Ok(()) };
            let answer = self.answer(&request, reader.get_ref())?;
            let Some(bytes) = answer else {
                return reader.get_ref().shutdown(Shutdown::Both);
            };
            reader.get_mut().write_all(&bytes)?;
        }
        Ok(())
    }

    /// Whether there is a first byte; false at the end of the connection or of the proxy.
    fn wait(&self, reader: &mut BufReader<TcpStream>) -> io::Result<bool> {
        reader.get_ref().set_read_timeout(Some(POLL_INTERVAL))?;
        let is_there = loop {
            match reader.fill_buf() {
                Ok(bytes) => break !bytes.is_empty(),
                Err(error) if is_timeout(&error) && self.is_over.load(SeqCst) => break false,
                Err(error) if is_timeout(&error) => {}
                Err(error) => return Err(error),
            }
        };
        reader.get_ref().set_read_timeout(None)?;
        Ok(is_there)
    }

    /// What is written to the client; nothing if the connection is to end.
    fn answer(&self, request: &Message, client: &TcpStream) -> io::Result<Option<Vec<u8>>> {
        let path = request.path().split('?').next().unwrap_or_default();
        let is_bulk = path.ends_with("/_bulk");
        let numbers = if is_bulk { &self.bulks } else { &self.others };
        let (mut trick, mut dice) = lock(&self.plan).trick(numbers.fetch_add(1, SeqCst));
        if !is_bulk && matches!(trick, Trick::Partial | Trick::TooLarge) {
            trick = Trick::Honest;
        }
        let items = if is_bulk { self.items(request)? } else { Vec::new() };
        if trick == Trick::TooLarge && items.len() < 2 {
            trick = Trick::Honest;
        }
        let mut counts = lock(&self.counts);
        let tricks = if is_bulk { &mut counts.bulks } else { &mut counts.others };
        *tricks.entry(trick).or_default() += 1;
        drop(counts);
        match trick {
            Trick::Honest => Ok(Some(self.forward(request, items.len())?.bytes())),
            Trick::Busy => Ok(Some(refusal(429, "circuit_breaking_exception"))),
            Trick::Failing => Ok(Some(refusal(*dice.pick(&[500, 502, 503, 504]), "unavailable"))),
            Trick::TooLarge => Ok(Some(refusal(413, "content_too_large"))),
            Trick::Dropped => Ok(None),
            Trick::Partial => self.answer_partly(request, &items, &mut dice).map(Some),
            Trick::CutAnswer => {
                let bytes = self.forward(request, items.len())?.bytes();
                let length = dice.below(bytes.len() as u64) as usize;
                let mut client = client;
                client.write_all(&bytes[..length])?;
                Ok(None)
            }
            Trick::Silent => {
                self.forward(request, items.len())?;
                self.hold(client)?;
                Ok(None)
            }
        }
    }

    fn items(&self, request: &Message) -> io::Result<Vec<bulk::Item>> {
        let body = unpacked(request)?;
        bulk::items(request.path(), &body).map_err(|error| {
            lock(&self.counts).malformed += 1;
            io::Error::new(ErrorKind::InvalidData, error)
        })
    }

    fn forward(&self, request: &Message, items: usize) -> io::Result<Message> {
        lock(&self.counts).items += items as u64;
        http::ask(self.store, request)
    }

    fn answer_partly(
        &self,
        request: &Message,
        items: &[bulk::Item],
        dice: &mut Dice,
    ) -> io::Result<Vec<u8>> {
        let refused = bulk::refuse(items, dice);
        let count = refused.iter().flatten().count();
        lock(&self.counts).refused_items += count as u64;
        let mut answer = None;
        if count < items.len() {
            let mut request = request.clone();
            request.remove_header("content-encoding");
            request.remove_header("accept-encoding");
            request.body = bulk::remaining(items, &refused);
            let given = self.forward(&request, items.len() - count)?;
            if given.status() != 200 {
                return Ok(given.bytes());
            }
            answer = Some(given.body);
        }
        let merged = bulk::merge(answer.as_deref(), refused).map_err(io::Error::other)?;
        Ok(Message::answer(200, merged).bytes())
    }

    /// Says nothing until the client goes away or the time is over.
    fn hold(&self, client: &TcpStream) -> io::Result<()> {
        let (hold, started) = (lock(&self.plan).hold, Instant::now());
        client.set_read_timeout(Some(POLL_INTERVAL))?;
        while started.elapsed() < hold && !self.is_over.load(SeqCst) {
            match client.peek(&mut [0]) {
                Err(error) if is_timeout(&error) => {}
                _ => break,
            }
        }
        Ok(())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

fn refusal(status: u16, kind: &str) -> Vec<u8> {
    let reason = "refused by the plan of a test";
    let body = serde_json::json!({"error": {"type": kind, "reason": reason}, "status": status});
    Message::answer(status, body.to_string().into_bytes()).bytes()
}

fn unpacked(request: &Message) -> io::Result<Vec<u8>> {
    if request.header("content-encoding") != Some("gzip") {
        return Ok(request.body.clone());
    }
    let mut body = Vec::new();
    MultiGzDecoder::new(&request.body[..]).take(UNPACKED_BYTES_MAX).read_to_end(&mut body)?;
    Ok(body)
}
