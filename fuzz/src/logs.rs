//! What `logshipd` finds in its spool and hears from sockets.

use logshipd::spool::record::{Parsed, parse, segment_head};
use logshipd::spool::{parse_state, scan};
use logshipd::syslog::framing::Framer;

/// A message in these tests has at most this many bytes.
const MESSAGE_BYTES: usize = 64;

/// A segment of a spool, with and without its head, and a spool's state. What is whole stays so when more follows or
/// when what is not whole is cut off.
pub fn spool(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = parse_state(text);
        let _ = logshipd::journal::cursor_of(data);
    }
    for bytes in [data.to_vec(), [&segment_head(1)[..], data].concat()] {
        let Ok(scanned) = scan(&bytes) else { continue };
        let end = scanned.bytes as usize;
        assert!(end <= bytes.len() && scanned.first <= scanned.next, "{scanned:?}");
        assert_eq!(scan(&bytes[..end]), Ok(scanned));
    }
    let mut rest = data;
    while let Parsed::Whole(record, size) = parse(rest) {
        let mut written = Vec::new();
        record.write(&mut written);
        assert_eq!(written, rest[..size]);
        rest = &rest[size..];
    }
}

/// A stream of syslog: nothing is longer than allowed, and it does not matter how it is split.
pub fn stream(data: &[u8]) {
    let framed = |pieces: &[&[u8]]| {
        let (mut framer, mut found) = (Framer::new(MESSAGE_BYTES), Vec::new());
        let mut take = |message: &[u8], cut| {
            assert!(!message.is_empty() && message.len() <= MESSAGE_BYTES);
            found.push((message.to_vec(), cut));
        };
        for piece in pieces {
            framer.feed(piece, &mut take);
        }
        framer.end(&mut take);
        found
    };
    let (one, two) = data.split_at(data.len() / 2);
    assert_eq!(framed(&[data]), framed(&[one, two]));
    let bytes: Vec<&[u8]> = data.chunks(1).collect();
    assert_eq!(framed(&[data]), framed(&bytes));
}
