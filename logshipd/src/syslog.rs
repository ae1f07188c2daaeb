//! Syslog from sockets: unix datagrams, UDP and TCP. Messages go into an inbox as they came, RFC 3164 or 5424; taking
//! them apart is the parser's.
//!
//! A TCP sender waits while there is no room. Datagrams cannot wait, and whoever writes to a log socket must not
//! stand still because the store is away: they are dropped and counted, and so is what the system drops.

pub mod framing;

use std::fs;
use std::io::{self, ErrorKind, Read};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use chassis::retry::Stop;
use chrono::Utc;
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv, sockopt};

use self::framing::Framer;
use crate::document::UnixNanos;
use crate::inbox::{Inbox, Put};

/// How often a thread that waits looks whether it is to stop.
const POLL_INTERVAL: Duration = Duration::from_millis(200);
/// Datagrams that one sync is for, at most.
const DATAGRAMS_MAX: usize = 256;
/// Asked of the system for a datagram socket; it may give less.
const RECEIVE_BUFFER_BYTES: usize = 4 << 20;
/// Connections at a time.
const CONNECTIONS_MAX: usize = 256;
const CONNECTION_STACK_BYTES: usize = 256 << 10;
const CHUNK_BYTES: usize = 16 << 10;

/// Where messages come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A unix datagram socket, such as `/dev/log`, with its mode.
    Unix(PathBuf, u32),
    /// Datagrams.
    Udp(SocketAddr),
    /// Streams.
    Tcp(SocketAddr),
}

/// A socket that is listened to. Its thread ends when it is stopped.
#[derive(Debug)]
pub struct Listening {
    /// Where, with the port that was given if 0 was asked for.
    pub address: Address,
    /// Its thread.
    pub thread: JoinHandle<()>,
}

/// Listens. Messages of more than `message_bytes` are cut and marked.
pub fn listen(
    address: &Address,
    message_bytes: usize,
    inbox: Arc<Inbox>,
    stop: Stop,
) -> Result<Listening> {
    let thread = thread::Builder::new().name("syslog".into());
    match address {
        Address::Unix(path, mode) => {
            let socket = bind_unix(path, *mode)?;
            let address = address.clone();
            let run = move || receive_all(&socket, false, message_bytes, &inbox, &stop);
            Ok(Listening { address, thread: thread.spawn(run).context("start a listener")? })
        }
        Address::Udp(at) => {
            let socket = UdpSocket::bind(at).with_context(|| format!("listen at udp {at}"))?;
            let address = Address::Udp(socket.local_addr()?);
            let run = move || receive_all(&socket, true, message_bytes, &inbox, &stop);
            Ok(Listening { address, thread: thread.spawn(run).context("start a listener")? })
        }
        Address::Tcp(at) => {
            let listener = TcpListener::bind(at).with_context(|| format!("listen at tcp {at}"))?;
            listener.set_nonblocking(true)?;
            let address = Address::Tcp(listener.local_addr()?);
            let run = move || accept_all(&listener, message_bytes, &inbox, &stop);
            Ok(Listening { address, thread: thread.spawn(run).context("start a listener")? })
        }
    }
}

/// Binds a path; a socket that is there and that nobody listens to is replaced.
fn bind_unix(path: &Path, mode: u32) -> Result<UnixDatagram> {
    let told = || format!("listen at {}", path.display());
    if let Ok(metadata) = fs::symlink_metadata(path) {
        ensure!(metadata.file_type().is_socket(), "{} is not a socket", path.display());
        let asked = UnixDatagram::unbound().and_then(|socket| socket.connect(path));
        ensure!(asked.is_err(), "somebody listens at {} already", path.display());
        fs::remove_file(path).with_context(told)?;
    }
    let socket = UnixDatagram::bind(path).with_context(told)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).with_context(told)?;
    Ok(socket)
}

/// Reads datagrams until it is stopped.
fn receive_all(socket: &impl AsFd, is_udp: bool, limit: usize, inbox: &Inbox, stop: &Stop) {
    let _ = sockopt::set_socket_recv_buffer_size(socket, RECEIVE_BUFFER_BYTES);
    let timeout = sockopt::Timeout::Recv;
    let _ = sockopt::set_socket_timeout(socket, timeout, Some(POLL_INTERVAL));
    let mut buffer = vec![0; limit];
    let mut overflowed = 0;
    while !stop.is_stopped() {
        let mut count = 0;
        let mut flags = RecvFlags::TRUNC;
        while count < DATAGRAMS_MAX {
            match recv(socket, &mut buffer[..], flags) {
                Ok((kept, length)) => {
                    take_datagram(inbox, &buffer[..kept], length - kept);
                    count += 1;
                    // The first was waited for; of the others only what is there.
                    flags = RecvFlags::TRUNC | RecvFlags::DONTWAIT;
                }
                Err(Errno::AGAIN | Errno::INTR) => break,
                Err(error) => {
                    tracing::warn!("failed to read a datagram: {error}");
                    stop.wait_timeout(POLL_INTERVAL);
                    break;
                }
            }
        }
        if count > 0 {
            inbox.commit();
        }
        if is_udp && let Some(drops) = udp_drops(socket) {
            inbox.counts.overflowed.fetch_add(drops - overflowed, Relaxed);
            overflowed = drops;
        }
    }
}

fn take_datagram(inbox: &Inbox, message: &[u8], cut: usize) {
    let message = trim(message);
    if message.is_empty() {
        return;
    }
    let cut = u32::try_from(cut).unwrap_or(u32::MAX);
    if inbox.put(now(), cut, message) == Put::Refused {
        inbox.counts.dropped.fetch_add(1, Relaxed);
    }
}

/// How many datagrams the system has dropped for want of buffer.
fn udp_drops(socket: &impl AsFd) -> Option<u64> {
    let inode = rustix::fs::fstat(socket).ok()?.st_ino;
    let tables = ["/proc/self/net/udp", "/proc/self/net/udp6"];
    tables.iter().find_map(|table| drops_in(&fs::read_to_string(table).ok()?, inode))
}

/// The last column of the line whose tenth is the inode.
fn drops_in(table: &str, inode: u64) -> Option<u64> {
    let inode = inode.to_string();
    let mut lines = table.lines().map(|line| line.split_ascii_whitespace());
    lines.find_map(|mut words| {
        (words.nth(9)? == inode).then(|| words.last())?.and_then(|drops| drops.parse().ok())
    })
}

fn accept_all(listener: &TcpListener, limit: usize, inbox: &Arc<Inbox>, stop: &Stop) {
    let open = Arc::new(AtomicUsize::new(0));
    let mut connections: Vec<JoinHandle<()>> = Vec::new();
    while !stop.is_stopped() {
        let Some(stream) = accept(listener, stop) else { continue };
        connections.retain(|connection| !connection.is_finished());
        if open.load(SeqCst) >= CONNECTIONS_MAX {
            inbox.counts.refused.fetch_add(1, Relaxed);
            continue;
        }
        open.fetch_add(1, SeqCst);
        let (own_inbox, own_stop, own_open) = (Arc::clone(inbox), stop.clone(), Arc::clone(&open));
        let thread = thread::Builder::new().stack_size(CONNECTION_STACK_BYTES);
        let run = move || {
            if let Err(error) = read_stream(stream, limit, &own_inbox, &own_stop) {
                tracing::warn!("a syslog connection ended: {error}");
            }
            own_open.fetch_sub(1, SeqCst);
        };
        match thread.spawn(run) {
            Ok(connection) => connections.push(connection),
            Err(error) => {
                open.fetch_sub(1, SeqCst);
                tracing::warn!("failed to start a thread for a connection: {error}");
            }
        }
    }
    for connection in connections {
        drop(connection.join());
    }
}

/// The next connection; none after a while, or when it is stopped.
fn accept(listener: &TcpListener, stop: &Stop) -> Option<TcpStream> {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let timeout = Timespec { tv_sec: 0, tv_nsec: POLL_INTERVAL.as_nanos() as i64 };
    poll(&mut [PollFd::new(listener, PollFlags::IN)], Some(&timeout)).ok()?;
    match listener.accept() {
        Ok((stream, _)) => Some(stream),
        Err(error) if error.kind() == ErrorKind::WouldBlock => None,
        Err(error) => {
            tracing::warn!("failed to accept a connection: {error}");
            stop.wait_timeout(POLL_INTERVAL);
            None
        }
    }
}

fn read_stream(mut stream: TcpStream, limit: usize, inbox: &Inbox, stop: &Stop) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(POLL_INTERVAL))?;
    let mut framer = Framer::new(limit);
    let mut buffer = vec![0; CHUNK_BYTES];
    let mut take = |message: &[u8], cut: u32| {
        if inbox.put_patiently(now(), cut, message, stop) == Put::Refused {
            inbox.counts.dropped.fetch_add(1, Relaxed);
        }
    };
    while !stop.is_stopped() {
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => framer.feed(&buffer[..length], &mut take),
            Err(error) if is_timeout(&error) => continue,
            Err(error) => {
                framer.end(&mut take);
                inbox.commit();
                return Err(error);
            }
        }
        inbox.commit();
    }
    framer.end(&mut take);
    inbox.commit();
    Ok(())
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}

/// Without the ends that senders put after a message.
fn trim(message: &[u8]) -> &[u8] {
    let is_end = |byte: &u8| matches!(byte, b'\n' | b'\r' | 0);
    let length = message.iter().rposition(|byte| !is_end(byte)).map_or(0, |last| last + 1);
    &message[..length]
}

fn now() -> UnixNanos {
    Utc::now().timestamp_nanos_opt().unwrap_or_default()
}

#[cfg(test)]
mod tests;
