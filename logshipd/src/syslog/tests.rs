//! Real senders: `logger` of util-linux over all three transports, and sockets of our own where it must be exact.

use std::io::Write;
use std::net::{Ipv4Addr, Shutdown};
use std::process::Command;
use std::time::Instant;

use super::*;
use crate::spool::Limits;

const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

struct Server {
    inbox: Arc<Inbox>,
    hints: crossbeam_channel::Receiver<()>,
    address: Address,
    stop: Stop,
    thread: Option<JoinHandle<()>>,
    _dir: tempfile::TempDir,
}

impl Server {
    fn start(address: impl FnOnce(&Path) -> Address, message_bytes: usize, bytes: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (hint, hints) = crossbeam_channel::bounded(1);
        let limits = Limits { bytes, segment_bytes: 1 << 16 };
        let (inbox, _) = Inbox::open(&dir.path().join("spool"), limits, 1, hint).unwrap();
        let (inbox, stop) = (Arc::new(inbox), Stop::default());
        let address = address(dir.path());
        let listening = listen(&address, message_bytes, Arc::clone(&inbox), stop.clone()).unwrap();
        let (address, thread) = (listening.address, Some(listening.thread));
        Self { inbox, hints, address, stop, thread, _dir: dir }
    }

    fn port(&self) -> SocketAddr {
        match &self.address {
            Address::Udp(at) | Address::Tcp(at) => *at,
            Address::Unix(..) => unreachable!("it has no port"),
        }
    }

    /// Waits for so many messages, and acknowledges them.
    #[track_caller]
    fn messages(&self, count: usize) -> Vec<(String, u32)> {
        let mut found = Vec::new();
        let started = Instant::now();
        while found.len() < count {
            let mut newest = 0;
            let mut take = |record: crate::spool::record::Record<'_>| {
                newest = record.sequence;
                let text = String::from_utf8_lossy(record.message).into_owned();
                found.push((text, record.cut_bytes));
            };
            if self.inbox.read(1 << 16, &mut take).unwrap() > 0 {
                self.inbox.acknowledge(newest).unwrap();
            } else {
                let _ = self.hints.recv_timeout(Duration::from_millis(100));
            }
            assert!(started.elapsed() < Duration::from_secs(30), "{} of {count}", found.len());
        }
        found
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.stop();
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

fn logger(arguments: &[&str]) {
    let status = Command::new("logger").args(arguments).status().unwrap();
    assert!(status.success(), "logger {arguments:?}");
}

#[test]
fn logger_writes_to_a_unix_socket() {
    let server = Server::start(|dir| Address::Unix(dir.join("log"), 0o666), 8192, 1 << 20);
    let Address::Unix(path, _) = &server.address else { unreachable!() };
    logger(&[
        "--socket",
        path.to_str().unwrap(),
        "-p",
        "local0.info",
        "-t",
        "site",
        "hello over unix",
    ]);
    let (message, cut) = &server.messages(1)[0];
    assert!(
        message.starts_with("<134>") && message.ends_with("site: hello over unix"),
        "{message}"
    );
    assert_eq!(*cut, 0);
}

#[test]
fn logger_sends_both_formats_over_udp_and_tcp() {
    for (transport, address) in [("--udp", Address::Udp(ANY)), ("--tcp", Address::Tcp(ANY))] {
        let server = Server::start(|_| address, 8192, 1 << 20);
        let port = server.port().port().to_string();
        for format in ["--rfc3164", "--rfc5424"] {
            let to = ["--server", "127.0.0.1", "--port", &port, transport, format];
            logger(&[&to[..], &["-p", "local0.err", "-t", "site", "hello"]].concat());
            let (message, _) = &server.messages(1)[0];
            assert!(message.starts_with("<131>") && message.ends_with("hello"), "{message}");
            assert_eq!(message.starts_with("<131>1 "), format == "--rfc5424", "{message}");
        }
        if transport == "--tcp" {
            let to = ["--server", "127.0.0.1", "--port", &port, "--tcp", "--octet-count"];
            logger(&[&to[..], &["--rfc5424", "-t", "site", "counted"]].concat());
            let (message, _) = &server.messages(1)[0];
            assert!(message.starts_with('<') && message.ends_with("counted"), "{message}");
        }
    }
}

#[test]
fn a_datagram_over_the_limit_is_cut_and_says_by_how_much() {
    let server = Server::start(|_| Address::Udp(ANY), 100, 1 << 20);
    let socket = UdpSocket::bind(ANY).unwrap();
    socket.send_to(&[b'x'; 150], server.port()).unwrap();
    assert_eq!(server.messages(1), [("x".repeat(100), 50)]);
    assert_eq!(server.inbox.counts.cut.load(Relaxed), 1);
}

#[test]
fn datagrams_that_find_no_room_are_counted() {
    let server = Server::start(|dir| Address::Unix(dir.join("log"), 0o600), 1000, 10_000);
    let Address::Unix(path, _) = &server.address else { unreachable!() };
    let socket = UnixDatagram::unbound().unwrap();
    for _ in 0..100 {
        socket.send_to(&[b'x'; 500], path).unwrap();
    }
    let started = Instant::now();
    let counts = &server.inbox.counts;
    let (mut taken, mut dropped) = (0, 0);
    while taken + dropped < 100 && started.elapsed() < Duration::from_secs(30) {
        let _ = server.hints.recv_timeout(Duration::from_millis(20));
        (taken, dropped) = (counts.taken.load(Relaxed), counts.dropped.load(Relaxed));
    }
    assert!((15..20).contains(&taken), "{taken} taken, {dropped} dropped");
    assert_eq!(taken + dropped, 100);
    assert_eq!(server.messages(taken as usize).len(), taken as usize);
}

#[test]
fn a_stream_waits_while_there_is_no_room_and_loses_nothing() {
    const COUNT: usize = 3000;
    let server = Server::start(|_| Address::Tcp(ANY), 1000, 20_000);
    let port = server.port();
    let sender = thread::spawn(move || {
        let mut stream = TcpStream::connect(port).unwrap();
        for number in 0..COUNT {
            let text = format!("<1>{number} {}", "x".repeat(200));
            let framed = match number % 2 {
                0 => format!("{text}\n"),
                _ => format!("{} {text}", text.len()),
            };
            stream.write_all(framed.as_bytes()).unwrap();
        }
        stream.shutdown(Shutdown::Write).unwrap();
    });
    let found = server.messages(COUNT);
    for (number, (message, cut)) in found.iter().enumerate() {
        assert!(message.starts_with(&format!("<1>{number} x")) && *cut == 0, "{message}");
    }
    assert_eq!(server.inbox.counts.dropped.load(Relaxed), 0);
    sender.join().unwrap();
}

#[test]
fn the_system_tells_how_many_it_dropped() {
    let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt \
                 uid  timeout inode ref pointer drops\n 6183: 0100007F:0035 00000000:0000 07 \
                 00000000:00000000 00:00000000 00000000 0 0 4242 2 0000000000000000 17\n";
    assert_eq!(drops_in(table, 4242), Some(17));
    assert_eq!(drops_in(table, 4243), None);
    let socket = UdpSocket::bind(ANY).unwrap();
    assert_eq!(udp_drops(&socket), Some(0));
    sockopt::set_socket_recv_buffer_size(&socket, 4096).unwrap();
    let sender = UdpSocket::bind(ANY).unwrap();
    for _ in 0..200 {
        sender.send_to(&[b'x'; 1000], socket.local_addr().unwrap()).unwrap();
    }
    assert!(udp_drops(&socket).unwrap() > 100, "{:?}", udp_drops(&socket));
}

#[test]
fn a_dead_socket_is_replaced_and_a_living_one_or_a_file_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    drop(bind_unix(&path, 0o600).unwrap());
    let living = bind_unix(&path, 0o620).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o620);
    assert!(bind_unix(&path, 0o600).unwrap_err().to_string().contains("already"));
    drop(living);
    fs::remove_file(&path).unwrap();
    fs::write(&path, "precious").unwrap();
    assert!(bind_unix(&path, 0o600).unwrap_err().to_string().contains("not a socket"));
    assert_eq!(fs::read(&path).unwrap(), b"precious");
}
