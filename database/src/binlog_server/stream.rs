//! Packets to a replica: answers, and events of any length.

use std::io::{self, BufWriter, ErrorKind, Read, Write};
use std::net::TcpStream;

use crate::binlog::{EventKind, HEADER_BYTES, Header, flags, seal};

/// A packet of this length goes on in the next.
const PACKET_BYTES_MAX: usize = 0xff_ffff;
/// What a replica says is never longer.
const COMMAND_BYTES_MAX: usize = 1 << 20;
const BUFFER_BYTES: usize = 256 << 10;
/// Where the time is in a format description that says when its server was started.
const CREATED_AT: usize = HEADER_BYTES + 2 + 50;

/// Events on their way to a replica. What is written between two calls of [`Self::begin`] is the
/// content of one event.
#[derive(Debug)]
pub struct EventStream {
    socket: BufWriter<TcpStream>,
    sequence: u8,
    /// Bytes that are still to come of the packet, and of the event behind it.
    left: usize,
    behind: Option<usize>,
    is_gone: bool,
    sent: u64,
}

impl EventStream {
    pub(super) fn new(socket: TcpStream) -> Self {
        let socket = BufWriter::with_capacity(BUFFER_BYTES, socket);
        Self { socket, sequence: 0, left: 0, behind: None, is_gone: false, sent: 0 }
    }

    /// Whether the connection broke.
    pub fn is_gone(&self) -> bool {
        self.is_gone
    }

    /// Bytes of events that were sent.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// Begins an event of so many bytes.
    pub fn begin(&mut self, length: usize) -> io::Result<()> {
        assert!(self.left == 0 && self.behind.is_none(), "an event begins within another");
        self.sent += length as u64;
        self.packet(length + 1)?;
        // The first byte says that there is an event.
        self.write_all(&[0])
    }

    /// Sends a whole event.
    pub fn event(&mut self, event: &[u8]) -> io::Result<()> {
        self.begin(event.len())?;
        self.write_all(event)
    }

    /// Sends a format description as one that begins no log: it must not end temporary tables.
    pub fn format(&mut self, event: &[u8]) -> io::Result<()> {
        let mut event = event.to_vec();
        let mut header = [0; HEADER_BYTES];
        header.copy_from_slice(&event[..HEADER_BYTES]);
        let header = Header { next_position: 0, flags: 0, ..Header::parse(&header) };
        event[..HEADER_BYTES].copy_from_slice(&header.to_bytes());
        if let Some(created) = event.get_mut(CREATED_AT..CREATED_AT + 4) {
            created.fill(0);
        }
        seal(&mut event);
        self.event(&event)
    }

    /// Sends the event that names the file that follows; there is none, so it is made up.
    pub(super) fn rotation(&mut self, server_id: u32) -> io::Result<()> {
        const FILE: &[u8] = b"archive.000001";
        let length = HEADER_BYTES + 8 + FILE.len() + 4;
        let header = Header {
            time: 0,
            kind: EventKind::ROTATE,
            server_id,
            length: length as u32,
            next_position: 0,
            flags: flags::ARTIFICIAL,
        };
        let mut event = header.to_bytes().to_vec();
        event.extend_from_slice(&4_u64.to_le_bytes());
        event.extend_from_slice(FILE);
        event.extend_from_slice(&[0; 4]);
        seal(&mut event);
        self.event(&event)
    }

    /// Begins the packet of something of so many bytes.
    fn packet(&mut self, length: usize) -> io::Result<()> {
        let here = length.min(PACKET_BYTES_MAX);
        // A packet that is full has another behind it, were it an empty one.
        self.behind = (here == PACKET_BYTES_MAX).then_some(length - here);
        self.left = here;
        let mut header = (here as u32).to_le_bytes();
        header[3] = self.sequence;
        self.sequence = self.sequence.wrapping_add(1);
        self.put(&header)
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        let put = self.socket.write_all(bytes);
        self.is_gone |= put.is_err();
        put
    }

    /// Sends an answer whole.
    pub(super) fn send(&mut self, payload: &[u8]) -> io::Result<()> {
        self.packet(payload.len())?;
        self.write_all(payload)?;
        self.flush()
    }

    /// Reads a packet: what the replica says. None if nothing comes for a while.
    pub(super) fn receive(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut header = [0; 4];
        let received = match self.socket.get_mut().read(&mut header[..1]) {
            Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
            Err(error) if super::is_nothing(&error) => return Ok(None),
            Err(error) => Err(error),
            Ok(_) => self.rest(&mut header),
        };
        self.is_gone |= received.is_err();
        received.map(Some)
    }

    fn rest(&mut self, header: &mut [u8; 4]) -> io::Result<Vec<u8>> {
        self.fill(&mut header[1..])?;
        let length = u32::from_le_bytes([header[0], header[1], header[2], 0]) as usize;
        if length > COMMAND_BYTES_MAX {
            return Err(io::Error::new(ErrorKind::InvalidData, "the replica says too much"));
        }
        self.sequence = header[3].wrapping_add(1);
        let mut payload = vec![0; length];
        self.fill(&mut payload)?;
        Ok(payload)
    }

    fn fill(&mut self, mut bytes: &mut [u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.socket.get_mut().read(bytes) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(count) => bytes = &mut bytes[count..],
                Err(error) if super::is_nothing(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl Write for EventStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(self.left);
        if count == 0 && !bytes.is_empty() {
            return Err(io::Error::new(ErrorKind::InvalidData, "an event is longer than it says"));
        }
        self.put(&bytes[..count])?;
        self.left -= count;
        if self.left == 0
            && let Some(behind) = self.behind.take()
        {
            self.packet(behind)?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        let flushed = self.socket.flush();
        self.is_gone |= flushed.is_err();
        flushed
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    #[test]
    fn events_of_every_length_are_cut_into_packets_and_put_together_again() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let lengths = [
            19,
            1000,
            PACKET_BYTES_MAX - 2,
            PACKET_BYTES_MAX - 1,
            PACKET_BYTES_MAX,
            2 * PACKET_BYTES_MAX - 1,
            2 * PACKET_BYTES_MAX + 5,
        ];
        let sender = thread::spawn(move || {
            let mut stream = EventStream::new(TcpStream::connect(address).unwrap());
            for (number, length) in lengths.into_iter().enumerate() {
                stream.event(&vec![number as u8; length]).unwrap();
            }
            stream.flush().unwrap();
        });
        let mut socket = listener.accept().unwrap().0;
        for (number, length) in lengths.into_iter().enumerate() {
            let mut event = Vec::new();
            loop {
                let mut header = [0; 4];
                socket.read_exact(&mut header).unwrap();
                let part = u32::from_le_bytes([header[0], header[1], header[2], 0]) as usize;
                let before = event.len();
                event.resize(before + part, 0);
                socket.read_exact(&mut event[before..]).unwrap();
                if part < PACKET_BYTES_MAX {
                    break;
                }
            }
            assert_eq!(event.len(), length + 1);
            assert_eq!(event[0], 0);
            assert!(event[1..].iter().all(|byte| *byte == number as u8));
        }
        sender.join().unwrap();
    }
}
