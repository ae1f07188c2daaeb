//! A store that forgets: takes bulk requests, unpacks and counts them, and answers each item. What is measured
//! against it is the shipper alone.
//!
//!     cargo run --release -p logshipd --example null_store 127.0.0.1:9200
//!
//! `GET /_null` says what it has got: `{"documents":..,"requests":..,"bytes":..,"raw_bytes":..}`, where `bytes` came
//! over the line and `raw_bytes` is what they were unpacked. HTTP/1.1 with a length or in chunks, gzip or not;
//! one thread a connection.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use anyhow::{Context, Result, bail};
use flate2::read::MultiGzDecoder;

/// A request line or a header is never longer.
const LINE_BYTES_MAX: u64 = 64 << 10;
const BODY_BYTES_MAX: u64 = 256 << 20;

#[derive(Debug, Default)]
struct Got {
    documents: AtomicU64,
    requests: AtomicU64,
    bytes: AtomicU64,
    raw_bytes: AtomicU64,
}

#[derive(Debug, Default)]
struct Request {
    method: String,
    path: String,
    length: u64,
    is_chunked: bool,
    is_gzip: bool,
    closes: bool,
    waits: bool,
}

fn main() -> Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:9200".to_owned());
    let listener = TcpListener::bind(&address).with_context(|| format!("listen at {address}"))?;
    let got = Arc::new(Got::default());
    for stream in listener.incoming() {
        let (stream, got) = (stream?, Arc::clone(&got));
        thread::spawn(move || {
            if let Err(error) = serve(&stream, &got) {
                drop(writeln!(io::stderr(), "null_store: {error:#}"));
            }
        });
    }
    Ok(())
}

fn serve(stream: &TcpStream, got: &Got) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::with_capacity(256 << 10, stream);
    let (mut packed, mut body, mut answer) = (Vec::new(), Vec::new(), Vec::new());
    while let Some(request) = read_head(&mut reader)? {
        if request.waits {
            (&mut &*stream).write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        read_body(&mut reader, &request, &mut packed)?;
        body.clear();
        if request.is_gzip {
            MultiGzDecoder::new(packed.as_slice()).read_to_end(&mut body).context("unpack body")?;
        } else {
            body.extend_from_slice(&packed);
        }
        answer.clear();
        let status = respond(&request, &body, packed.len() as u64, got, &mut answer)?;
        let head = format!(
            "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            answer.len()
        );
        (&mut &*stream).write_all(head.as_bytes())?;
        if request.method != "HEAD" {
            (&mut &*stream).write_all(&answer)?;
        }
        if request.closes {
            break;
        }
    }
    Ok(())
}

/// `None` at the end of the connection.
fn read_head(reader: &mut impl BufRead) -> Result<Option<Request>> {
    let Some(line) = read_line(reader)? else { return Ok(None) };
    let mut words = line.split(' ').map(str::to_owned);
    let (Some(method), Some(path)) = (words.next(), words.next()) else {
        bail!("not a request: {line}")
    };
    let mut request = Request { method, path, ..Request::default() };
    while let Some(line) = read_line(reader)?.filter(|line| !line.is_empty()) {
        let (name, value) = line.split_once(':').context("a header without a colon")?;
        let value = value.trim();
        match name.to_ascii_lowercase().as_str() {
            "content-length" => request.length = value.parse().context("read length")?,
            "transfer-encoding" => request.is_chunked = value.eq_ignore_ascii_case("chunked"),
            "content-encoding" => request.is_gzip = value.eq_ignore_ascii_case("gzip"),
            "connection" => request.closes = value.eq_ignore_ascii_case("close"),
            "expect" => request.waits = true,
            _ => {}
        }
    }
    Ok(Some(request))
}

fn read_line(reader: &mut impl BufRead) -> Result<Option<String>> {
    let mut line = String::new();
    if reader.by_ref().take(LINE_BYTES_MAX).read_line(&mut line)? == 0 {
        return Ok(None);
    }
    Ok(Some(line.trim_end().to_owned()))
}

fn read_body(reader: &mut impl BufRead, request: &Request, body: &mut Vec<u8>) -> Result<()> {
    body.clear();
    if !request.is_chunked {
        return take(reader, request.length, body);
    }
    loop {
        let line = read_line(reader)?.context("an end within the body")?;
        let length = line.split(';').next().unwrap_or_default();
        let length = u64::from_str_radix(length, 16).context("read length of a chunk")?;
        take(reader, length, body)?;
        read_line(reader)?;
        if length == 0 {
            return Ok(());
        }
    }
}

fn take(reader: &mut impl BufRead, length: u64, body: &mut Vec<u8>) -> Result<()> {
    anyhow::ensure!(body.len() as u64 + length <= BODY_BYTES_MAX, "a body of {length} bytes");
    let taken = reader.by_ref().take(length).read_to_end(body)? as u64;
    anyhow::ensure!(taken == length, "an end within the body");
    Ok(())
}

/// Writes the answer's body and returns its status.
fn respond(
    request: &Request,
    body: &[u8],
    packed_bytes: u64,
    got: &Got,
    answer: &mut Vec<u8>,
) -> Result<&'static str> {
    let path = request.path.split('?').next().unwrap_or_default();
    let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    if path.ends_with("/_bulk") {
        let documents = answer_bulk(body, answer)?;
        for (counter, value) in [
            (&got.documents, documents),
            (&got.requests, 1),
            (&got.bytes, packed_bytes),
            (&got.raw_bytes, body.len() as u64),
        ] {
            counter.fetch_add(value, Ordering::Relaxed);
        }
    } else if path == "/_null" {
        let [documents, requests] = [read(&got.documents), read(&got.requests)];
        let [bytes, raw_bytes] = [read(&got.bytes), read(&got.raw_bytes)];
        write!(
            answer,
            r#"{{"documents":{documents},"requests":{requests},"bytes":{bytes},"raw_bytes":{raw_bytes}}}"#
        )?;
    } else {
        // Enough for shippers that look whether and what it is before they send.
        answer.extend_from_slice(
            br#"{"status":"green","version":{"number":"8.19.0","build_flavor":"default"}}"#,
        );
    }
    Ok("200 OK")
}

/// An item for each action: `created`, with the index that was asked for where the action names one.
fn answer_bulk(body: &[u8], answer: &mut Vec<u8>) -> Result<u64> {
    answer.extend_from_slice(br#"{"errors":false,"took":0,"items":["#);
    let mut lines = body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let mut documents = 0;
    while let Some(action) = lines.next() {
        let is_index = action.starts_with(b"{\"index\"") || action.starts_with(b"{ \"index\"");
        let verb = if is_index { "index" } else { "create" };
        lines.next().context("an action without a document")?;
        if documents > 0 {
            answer.push(b',');
        }
        documents += 1;
        write!(
            answer,
            r#"{{"{verb}":{{"_index":"null","_id":"{documents}","_version":1,"result":"created","status":201}}}}"#
        )?;
    }
    answer.extend_from_slice(b"]}");
    Ok(documents)
}
