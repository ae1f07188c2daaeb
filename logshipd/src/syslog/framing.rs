//! Where a message ends in a stream (RFC 6587): after as many bytes as it says, or at the end of a line. A sender may
//! do either, message by message; a message over the limit is cut and the rest of it passed over.

/// A length with more digits is text.
const LENGTH_MAX: usize = 99_999_999;

/// Takes a stream apart.
#[derive(Debug)]
pub struct Framer {
    limit: usize,
    message: Vec<u8>,
    cut_bytes: u32,
    state: State,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// Before a message.
    Start,
    /// In its length.
    Length(usize),
    /// This many bytes of it are still to come.
    Counted(usize),
    /// In a line.
    Line,
}

impl Framer {
    /// For messages of at most this many bytes.
    pub fn new(limit: usize) -> Self {
        Self { limit, message: Vec::new(), cut_bytes: 0, state: State::Start }
    }

    /// Goes on with more of the stream; `take` gets each message with how many bytes were cut off it.
    pub fn feed(&mut self, mut bytes: &[u8], take: &mut impl FnMut(&[u8], u32)) {
        while let Some(&byte) = bytes.first() {
            match self.state {
                State::Start if matches!(byte, b'\n' | b'\r' | 0) => bytes = &bytes[1..],
                State::Start if matches!(byte, b'1'..=b'9') => self.state = State::Length(0),
                State::Start => self.state = State::Line,
                State::Length(length) if byte.is_ascii_digit() && length <= LENGTH_MAX / 10 => {
                    self.state = State::Length(length * 10 + usize::from(byte - b'0'));
                    bytes = &bytes[1..];
                }
                State::Length(length) if byte == b' ' => {
                    self.state = State::Counted(length);
                    bytes = &bytes[1..];
                }
                State::Length(length) => {
                    self.add(length.to_string().as_bytes());
                    self.state = State::Line;
                }
                State::Counted(left) => {
                    let (now, later) = bytes.split_at(left.min(bytes.len()));
                    self.add(now);
                    self.state = State::Counted(left - now.len());
                    bytes = later;
                    if left == now.len() {
                        self.give(take);
                    }
                }
                State::Line => {
                    let end = memchr::memchr2(b'\n', 0, bytes);
                    self.add(&bytes[..end.unwrap_or(bytes.len())]);
                    bytes = end.map_or(&[], |end| &bytes[end + 1..]);
                    if end.is_some() {
                        self.give(take);
                    }
                }
            }
        }
    }

    /// The stream is at its end: what was begun is a message, and cut if it should have been longer.
    pub fn end(&mut self, take: &mut impl FnMut(&[u8], u32)) {
        match self.state {
            State::Start => return,
            State::Length(length) => self.add(length.to_string().as_bytes()),
            State::Counted(left) => {
                self.cut_bytes =
                    self.cut_bytes.saturating_add(u32::try_from(left).unwrap_or(u32::MAX));
            }
            State::Line => {}
        }
        self.give(take);
    }

    fn add(&mut self, bytes: &[u8]) {
        let room = self.limit.saturating_sub(self.message.len());
        let (kept, cut) = bytes.split_at(room.min(bytes.len()));
        self.message.extend_from_slice(kept);
        self.cut_bytes =
            self.cut_bytes.saturating_add(u32::try_from(cut.len()).unwrap_or(u32::MAX));
    }

    fn give(&mut self, take: &mut impl FnMut(&[u8], u32)) {
        let message = super::trim(&self.message);
        if !message.is_empty() {
            take(message, self.cut_bytes);
        }
        self.message.clear();
        // One long message does not hold its memory for ever.
        self.message.shrink_to(8 << 10);
        self.cut_bytes = 0;
        self.state = State::Start;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn framed(pieces: &[&[u8]], limit: usize) -> Vec<(String, u32)> {
        let mut framer = Framer::new(limit);
        let mut found = Vec::new();
        let mut take = |message: &[u8], cut| {
            found.push((String::from_utf8_lossy(message).into_owned(), cut));
        };
        for piece in pieces {
            framer.feed(piece, &mut take);
        }
        framer.end(&mut take);
        found
    }

    fn check(stream: &str, expected: &[(&str, u32)]) {
        let expected: Vec<_> =
            expected.iter().map(|(text, cut)| ((*text).to_owned(), *cut)).collect();
        assert_eq!(framed(&[stream.as_bytes()], 20), expected, "{stream:?}");
        let bytes: Vec<&[u8]> = stream.as_bytes().chunks(1).collect();
        assert_eq!(framed(&bytes, 20), expected, "{stream:?} byte by byte");
    }

    #[test]
    fn both_ways_of_framing_and_their_mixture_are_read() {
        check("<1>one\n<1>two\n", &[("<1>one", 0), ("<1>two", 0)]);
        check("6 <1>one6 <1>two", &[("<1>one", 0), ("<1>two", 0)]);
        check("8 <1>a\n<2>\n<1>b\r\n", &[("<1>a\n<2>", 0), ("<1>b", 0)]);
        check("<1>nul\0<1>end", &[("<1>nul", 0), ("<1>end", 0)]);
        check("2026 is no length\n", &[("is no length", 2013)]);
        check("2026-11-28 a line\n", &[("2026-11-28 a line", 0)]);
        check("999999999999 x\n", &[("999999999999 x", 0)]);
        check("\n\n\0", &[]);
    }

    #[test]
    fn what_is_too_long_is_cut_and_the_next_message_is_whole() {
        check("<1>0123456789abcdefghij\n<1>b\n", &[("<1>0123456789abcdefg", 3), ("<1>b", 0)]);
        check("23 <1>0123456789abcdefghij<1>b\n", &[("<1>0123456789abcdefg", 3), ("<1>b", 0)]);
        check("10 <1>ab", &[("<1>ab", 5)]);
    }

    proptest! {
        #[test]
        fn it_does_not_matter_where_a_stream_is_split(
            stream in prop::collection::vec(prop::sample::select(&b"<1>a9 \n\0\r2"[..]), 0..200),
            at in 0..200usize,
        ) {
            let (one, two) = stream.split_at(at.min(stream.len()));
            prop_assert_eq!(framed(&[&stream], 9), framed(&[one, two], 9));
        }
    }
}
