//! As much of HTTP/1.1 as stands between a shipper and a store: whole messages, kept in memory, with a length or in
//! chunks. No TLS, no pipelining.

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

const HEAD_BYTES_MAX: usize = 64 << 10;
const BODY_BYTES_MAX: usize = 256 << 20;
const STORE_TIMEOUT: Duration = Duration::from_mins(1);

/// A request or an answer.
#[derive(Clone, Debug)]
pub(super) struct Message {
    /// `POST /_bulk HTTP/1.1` or `HTTP/1.1 200 OK`.
    pub(super) first: String,
    /// In their order, as they came.
    pub(super) headers: Vec<(String, String)>,
    /// Without its chunks.
    pub(super) body: Vec<u8>,
}

impl Message {
    /// An answer in JSON.
    pub(super) fn answer(status: u16, body: Vec<u8>) -> Self {
        let headers = vec![("content-type".to_owned(), "application/json".to_owned())];
        Self { first: format!("HTTP/1.1 {status} By-Plan"), headers, body }
    }

    /// The value of a header.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(other, _)| other.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// The path of a request, with its query.
    pub(super) fn path(&self) -> &str {
        self.first.split(' ').nth(1).unwrap_or_default()
    }

    /// The status of an answer; 0 if it has none.
    pub(super) fn status(&self) -> u16 {
        self.first.split(' ').nth(1).and_then(|word| word.parse().ok()).unwrap_or(0)
    }

    /// Reads one; none if the other side has closed before its first byte.
    pub(super) fn read(from: &mut BufReader<TcpStream>) -> io::Result<Option<Self>> {
        let Some(first) = read_line(from)? else { return Ok(None) };
        let mut headers = Vec::new();
        loop {
            let line = read_line(from)?.ok_or(ErrorKind::UnexpectedEof)?;
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').ok_or(ErrorKind::InvalidData)?;
            headers.push((name.to_owned(), value.trim().to_owned()));
        }
        let mut message = Self { first, headers, body: Vec::new() };
        if message.header("expect").is_some() {
            from.get_mut().write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        message.body = read_body(&message, from)?;
        Ok(Some(message))
    }

    /// As it goes over the wire, with a length and without what is about one connection only.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut bytes = format!("{}\r\n", self.first).into_bytes();
        for (name, value) in &self.headers {
            let name = name.to_ascii_lowercase();
            let is_ours =
                ["content-length", "transfer-encoding", "connection", "keep-alive", "expect"]
                    .contains(&name.as_str());
            if !is_ours {
                bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
            }
        }
        let length = format!("content-length: {}\r\n\r\n", self.body.len());
        bytes.extend_from_slice(length.as_bytes());
        bytes.extend_from_slice(&self.body);
        bytes
    }

    /// Removes headers of a name.
    pub(super) fn remove_header(&mut self, name: &str) {
        self.headers.retain(|(other, _)| !other.eq_ignore_ascii_case(name));
    }
}

/// Asks a store, over a connection of its own.
pub(super) fn ask(store: SocketAddr, request: &Message) -> io::Result<Message> {
    let mut stream = TcpStream::connect(store)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(STORE_TIMEOUT))?;
    stream.write_all(&request.bytes())?;
    let mut reader = BufReader::new(stream);
    let answer = Message::read(&mut reader)?;
    Ok(answer.ok_or(ErrorKind::UnexpectedEof)?)
}

fn read_line(from: &mut BufReader<TcpStream>) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    from.take(HEAD_BYTES_MAX as u64).read_until(b'\n', &mut line)?;
    if line.is_empty() {
        return Ok(None);
    }
    if line.pop() != Some(b'\n') {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    String::from_utf8(line).map(Some).map_err(|_| ErrorKind::InvalidData.into())
}

fn read_body(message: &Message, from: &mut BufReader<TcpStream>) -> io::Result<Vec<u8>> {
    if message.header("transfer-encoding").is_some_and(|how| how.contains("chunked")) {
        return read_chunks(from);
    }
    let length = message.header("content-length").unwrap_or("0");
    read_exactly(from, length.parse().map_err(|_| ErrorKind::InvalidData)?)
}

fn read_chunks(from: &mut BufReader<TcpStream>) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = read_line(from)?.ok_or(ErrorKind::UnexpectedEof)?;
        let size = line.split(';').next().unwrap_or_default().trim();
        let size = usize::from_str_radix(size, 16).map_err(|_| ErrorKind::InvalidData)?;
        if size == 0 {
            while read_line(from)?.is_some_and(|trailer| !trailer.is_empty()) {}
            return Ok(body);
        }
        body.extend(read_exactly(from, size)?);
        read_line(from)?;
        if body.len() > BODY_BYTES_MAX {
            return Err(ErrorKind::InvalidData.into());
        }
    }
}

fn read_exactly(from: &mut BufReader<TcpStream>, length: usize) -> io::Result<Vec<u8>> {
    if length > BODY_BYTES_MAX {
        return Err(ErrorKind::InvalidData.into());
    }
    let mut body = vec![0; length];
    from.read_exact(&mut body)?;
    Ok(body)
}
