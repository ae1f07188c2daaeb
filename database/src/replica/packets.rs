//! Packets over a socket, and the events in them as a stream of bytes.

use std::fmt;
use std::io::{self, BufReader, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};

use super::{ReplicaError, SILENCE_MAX};
use crate::options::Endpoint;
use crate::tls::Tls;

/// How long a read waits before it looks around.
pub const POLL: Duration = Duration::from_millis(200);
/// A packet of this length goes on in the next.
const PACKET_BYTES_MAX: usize = 0xff_ffff;
/// An answer that is read whole is never longer.
const ANSWER_BYTES_MAX: usize = 1 << 20;
const BUFFER_BYTES: usize = 128 << 10;

enum Socket {
    Tcp(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
    Unix(UnixStream),
}

impl Socket {
    fn connect(endpoint: &Endpoint) -> io::Result<Self> {
        let socket = match endpoint {
            Endpoint::Socket(path) => Self::Unix(UnixStream::connect(path)?),
            Endpoint::Tcp(host, port) => Self::Tcp(TcpStream::connect((host.as_str(), *port))?),
        };
        match &socket {
            Self::Tcp(stream) => {
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(POLL))?;
                stream.set_write_timeout(Some(SILENCE_MAX))?;
            }
            Self::Unix(stream) => {
                stream.set_read_timeout(Some(POLL))?;
                stream.set_write_timeout(Some(SILENCE_MAX))?;
            }
            Self::Tls(_) => {}
        }
        Ok(socket)
    }

    /// Goes on with an encrypted connection, which must be one over TCP.
    fn encrypt(&mut self, mut connection: ClientConnection) -> io::Result<()> {
        let Self::Tcp(stream) = self else { return Err(ErrorKind::Unsupported.into()) };
        let mut stream = stream.try_clone()?;
        let began = Instant::now();
        while connection.is_handshaking() {
            match connection.complete_io(&mut stream) {
                Err(error) if is_timeout(&error) && began.elapsed() < SILENCE_MAX => {}
                other => drop(other?),
            }
        }
        *self = Self::Tls(Box::new(StreamOwned::new(connection, stream)));
        Ok(())
    }
}

impl Read for Socket {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(bytes),
            Self::Tls(stream) => stream.read(bytes),
            Self::Unix(stream) => stream.read(bytes),
        }
    }
}

/// A connection.
pub(super) struct Wire {
    socket: BufReader<Socket>,
    sequence: u8,
    /// What is left of the packet that an event is in, and whether it goes on in another.
    left: usize,
    goes_on: bool,
    heard: Instant,
    /// Passwords may be sent in the clear: nobody else can listen.
    pub(super) is_private: bool,
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wire").field("left", &self.left).finish_non_exhaustive()
    }
}

impl Wire {
    pub(super) fn connect(endpoint: &Endpoint) -> Result<Self, ReplicaError> {
        let socket = Socket::connect(endpoint)?;
        Ok(Self {
            socket: BufReader::with_capacity(BUFFER_BYTES, socket),
            sequence: 0,
            left: 0,
            goes_on: false,
            heard: Instant::now(),
            is_private: matches!(endpoint, Endpoint::Socket(_)),
        })
    }

    /// Encrypts what follows. From then on passwords may be sent as they are.
    pub(super) fn encrypt(&mut self, tls: &Tls, host: &str) -> Result<(), ReplicaError> {
        let Some(check) = tls.check else { return Ok(()) };
        let broken = |what: String| io::Error::new(ErrorKind::InvalidData, format!("TLS: {what}"));
        let config = tls.client(check).map_err(broken)?;
        let name =
            ServerName::try_from(host.to_owned()).map_err(|error| broken(error.to_string()))?;
        let connection =
            ClientConnection::new(config, name).map_err(|error| broken(error.to_string()))?;
        self.socket.get_mut().encrypt(connection)?;
        self.is_private = true;
        Ok(())
    }

    /// Sends a command; the count of packets begins anew.
    pub(super) fn command(&mut self, payload: &[u8]) -> Result<(), ReplicaError> {
        self.sequence = 0;
        self.send(payload)
    }

    /// Sends a packet that goes on with what was said before.
    pub(super) fn send(&mut self, payload: &[u8]) -> Result<(), ReplicaError> {
        assert!(payload.len() < PACKET_BYTES_MAX, "a command of {} bytes", payload.len());
        let mut packet = (payload.len() as u32).to_le_bytes()[..3].to_vec();
        packet.push(self.sequence);
        packet.extend_from_slice(payload);
        self.sequence = self.sequence.wrapping_add(1);
        match self.socket.get_mut() {
            Socket::Tcp(stream) => stream.write_all(&packet)?,
            Socket::Tls(stream) => {
                stream.write_all(&packet)?;
                stream.flush()?;
            }
            Socket::Unix(stream) => stream.write_all(&packet)?,
        }
        Ok(())
    }

    /// Reads an answer whole; an error that the server sends is one of ours.
    pub(super) fn packet(&mut self) -> Result<Vec<u8>, ReplicaError> {
        let length = self.header()?;
        if length > ANSWER_BYTES_MAX {
            return Err(ReplicaError::Protocol(format!("an answer of {length} bytes")));
        }
        let mut payload = vec![0; length];
        self.fill(&mut payload)?;
        match payload.first() {
            Some(0xff) => Err(server_error(&payload)),
            _ => Ok(payload),
        }
    }

    /// Goes to the packet of the next event. False if there is none for now.
    pub(super) fn begin(&mut self) -> Result<bool, ReplicaError> {
        if self.left > 0 || self.goes_on {
            return Err(ReplicaError::Protocol("an event is longer than it says".to_owned()));
        }
        if self.socket.buffer().is_empty() {
            match io::BufRead::fill_buf(&mut self.socket) {
                Ok([]) => return Err(io::Error::from(ErrorKind::UnexpectedEof).into()),
                Ok(_) => self.heard = Instant::now(),
                Err(error) if is_timeout(&error) => {
                    self.check_silence()?;
                    return Ok(false);
                }
                Err(error) => return Err(error.into()),
            }
        }
        let length = self.header()?;
        let mut first = [0];
        self.fill(&mut first)?;
        match first[0] {
            0 => {
                self.goes_on = length == PACKET_BYTES_MAX;
                self.left = length.saturating_sub(1);
                Ok(true)
            }
            0xff => {
                let mut payload = vec![0; length.min(ANSWER_BYTES_MAX)];
                payload[0] = 0xff;
                self.fill(&mut payload[1..])?;
                Err(server_error(&payload))
            }
            _ => Err(io::Error::new(ErrorKind::UnexpectedEof, "the server ended the log").into()),
        }
    }

    fn header(&mut self) -> io::Result<usize> {
        let mut header = [0; 4];
        self.fill(&mut header)?;
        self.sequence = header[3].wrapping_add(1);
        Ok(usize::from(header[0]) | usize::from(header[1]) << 8 | usize::from(header[2]) << 16)
    }

    fn fill(&mut self, bytes: &mut [u8]) -> io::Result<()> {
        let mut at = 0;
        while at < bytes.len() {
            match self.some(&mut bytes[at..])? {
                0 => return Err(ErrorKind::UnexpectedEof.into()),
                count => at += count,
            }
        }
        Ok(())
    }

    /// Reads what there is, and waits for the rest of what has begun.
    fn some(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.socket.read(bytes) {
                Err(error) if is_timeout(&error) => self.check_silence()?,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
                Ok(count) => {
                    self.heard = Instant::now();
                    return Ok(count);
                }
            }
        }
    }

    fn check_silence(&self) -> io::Result<()> {
        if self.heard.elapsed() < SILENCE_MAX {
            return Ok(());
        }
        let seconds = SILENCE_MAX.as_secs();
        let message = format!("the server was silent for {seconds} s");
        Err(io::Error::new(ErrorKind::ConnectionAborted, message))
    }
}

/// The bytes of one event, over as many packets as it takes.
impl Read for Wire {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        while self.left == 0 {
            if !self.goes_on {
                return Ok(0);
            }
            self.left = self.header()?;
            self.goes_on = self.left == PACKET_BYTES_MAX;
        }
        let count = bytes.len().min(self.left);
        let read = self.some(&mut bytes[..count])?;
        self.left -= read;
        Ok(read)
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

fn server_error(payload: &[u8]) -> ReplicaError {
    let code = payload.get(1..3).map_or(0, |bytes| u16::from_le_bytes([bytes[0], bytes[1]]));
    let text = payload.get(3..).unwrap_or_default();
    // A mark and five letters of state come first.
    let text = if text.first() == Some(&b'#') { text.get(6..).unwrap_or_default() } else { text };
    ReplicaError::Server { code, message: String::from_utf8_lossy(text).into_owned() }
}
