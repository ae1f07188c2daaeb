//! A line to a server that can be cut or fall silent: a TCP proxy on a loopback port of its own.
//!
//! It counts the bytes that pass, in both directions and over all connections, and does at a given byte what it was
//! told to. Two threads a connection; all of them end when the line is dropped.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

const PIECE_BYTES: usize = 16 << 10;

/// What happens to a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Break {
    /// All connections end at once.
    Cut,
    /// Nothing passes any more; when the line comes back, the connections end.
    Silence,
}

/// When and how long a line breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LineFault {
    /// How it breaks.
    pub kind: Break,
    /// How many bytes still pass before.
    pub after_bytes: u64,
    /// How long until it can be used again.
    pub away: Duration,
}

#[derive(Debug)]
struct State {
    upstream: SocketAddr,
    fault: Option<LineFault>,
    next_upstream: Option<SocketAddr>,
    passed: u64,
    away_until: Option<Instant>,
    has_broken: bool,
    is_closed: bool,
    streams: Vec<TcpStream>,
}

impl State {
    fn end_connections(&mut self) {
        for stream in self.streams.drain(..) {
            // It may have ended by itself.
            drop(stream.shutdown(Shutdown::Both));
        }
    }

    fn is_away(&self) -> bool {
        self.away_until.is_some_and(|until| Instant::now() < until)
    }
}

/// A line to one server. All its connections end when it is dropped.
#[derive(Debug)]
pub struct Line {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

impl Line {
    /// A line to a server, sound as yet.
    pub fn to(upstream: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").context("open line")?;
        let address = listener.local_addr()?;
        let state = Arc::new(Mutex::new(State {
            upstream,
            fault: None,
            next_upstream: None,
            passed: 0,
            away_until: None,
            has_broken: false,
            is_closed: false,
            streams: Vec::new(),
        }));
        let shared = Arc::clone(&state);
        thread::spawn(move || accept(&listener, &shared));
        Ok(Self { address, state })
    }

    /// Where it begins.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Bytes that have passed.
    pub fn passed(&self) -> u64 {
        lock(&self.state).passed
    }

    /// Breaks it once, later.
    pub fn break_at(&self, fault: LineFault) {
        let mut state = lock(&self.state);
        state.fault = Some(LineFault { after_bytes: state.passed + fault.after_bytes, ..fault });
        state.has_broken = false;
    }

    /// Cuts it after so many bytes, once; from then on it leads to another server.
    pub fn lead_astray(&self, after_bytes: u64, upstream: SocketAddr) {
        lock(&self.state).next_upstream = Some(upstream);
        self.break_at(LineFault { kind: Break::Cut, after_bytes, away: Duration::ZERO });
    }

    /// Makes it lead to a server; connections that are there stay.
    pub fn lead_to(&self, upstream: SocketAddr) {
        lock(&self.state).upstream = upstream;
    }

    /// Makes it sound again; returns whether it had broken.
    pub fn mend(&self) -> bool {
        let mut state = lock(&self.state);
        state.fault = None;
        state.next_upstream = None;
        if state.is_away() {
            state.end_connections();
        }
        state.away_until = None;
        std::mem::take(&mut state.has_broken)
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let mut state = lock(&self.state);
        state.is_closed = true;
        state.end_connections();
        drop(state);
        // Wakes the thread that accepts.
        drop(TcpStream::connect(self.address));
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn accept(listener: &TcpListener, state: &Arc<Mutex<State>>) {
    for stream in listener.incoming() {
        if lock(state).is_closed {
            return;
        }
        if let Ok(near) = stream {
            // A server that is down ends the connection, as it should.
            drop(connect(near, state));
        }
    }
}

fn connect(near: TcpStream, state: &Arc<Mutex<State>>) -> Result<()> {
    let upstream = {
        let state = lock(state);
        if state.is_away() && state.fault.is_none() {
            return Ok(());
        }
        state.upstream
    };
    let far = TcpStream::connect(upstream)?;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    lock(state).streams.extend([near.try_clone()?, far.try_clone()?]);
    for (from, to) in [(near.try_clone()?, far.try_clone()?), (far, near)] {
        let state = Arc::clone(state);
        thread::spawn(move || {
            drop(pass_on(&from, &to, &state));
            drop(from.shutdown(Shutdown::Both));
            drop(to.shutdown(Shutdown::Both));
        });
    }
    Ok(())
}

fn pass_on(mut from: &TcpStream, mut to: &TcpStream, state: &Mutex<State>) -> Result<()> {
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let length = from.read(&mut piece)?;
        if length == 0 {
            return Ok(());
        }
        let (allowed, broken) = allow(length, state);
        to.write_all(&piece[..allowed])?;
        if let Some(fault) = broken {
            break_now(fault, state);
        }
        if allowed < length {
            return Ok(());
        }
    }
}

/// How much of a piece may pass, and the fault that begins right behind it.
fn allow(length: usize, state: &Mutex<State>) -> (usize, Option<LineFault>) {
    let mut state = lock(state);
    if state.is_away() {
        return (0, None);
    }
    let before = state.fault.map(|fault| fault.after_bytes.saturating_sub(state.passed));
    let allowed = before.map_or(length, |before| length.min(before as usize));
    state.passed += allowed as u64;
    if before.is_none_or(|before| before > allowed as u64) {
        return (allowed, None);
    }
    let fault = state.fault.take();
    state.has_broken = true;
    state.away_until = fault.map(|fault| Instant::now() + fault.away);
    if let Some(next) = state.next_upstream.take() {
        state.upstream = next;
    }
    (allowed, fault)
}

fn break_now(fault: LineFault, state: &Mutex<State>) {
    if fault.kind == Break::Silence {
        // Whoever mends the line before ends the connections himself.
        thread::sleep(fault.away);
    }
    lock(state).end_connections();
}
