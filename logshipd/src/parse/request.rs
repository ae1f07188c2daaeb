//! The first line of a request and the URL in it.

use memchr::{memchr, memrchr};

use crate::document::Document;

use super::Privacy;

/// An extension is not longer; what is longer is part of a name.
const EXTENSION_BYTES_MAX: usize = 10;

/// `GET /path?query HTTP/1.1`, taken apart.
#[derive(Clone, Copy, Debug)]
pub(super) struct Request<'a> {
    method: &'a [u8],
    url: &'a [u8],
    version: Option<&'a [u8]>,
}

impl<'a> Request<'a> {
    /// `None` if it is no request, such as the bytes of a TLS handshake. A request line that the server
    /// cut may lack its version.
    #[inline]
    pub fn read(line: &'a [u8]) -> Option<Self> {
        let space = memchr(b' ', line)?;
        let (method, rest) = (&line[..space], &line[space + 1..]);
        let is_method = !method.is_empty()
            && method.len() <= 20
            && method.iter().all(|byte| byte.is_ascii_uppercase() || matches!(byte, b'-' | b'_'));
        if !is_method || rest.is_empty() {
            return None;
        }
        let version = memrchr(b' ', rest)
            .and_then(|space| Some((space, rest[space + 1..].strip_prefix(b"HTTP/")?)))
            .filter(|(_, version)| version.iter().all(|b| b.is_ascii_digit() || *b == b'.'));
        Some(match version {
            Some((space, version)) => Self { method, url: &rest[..space], version: Some(version) },
            None => Self { method, url: rest, version: None },
        })
    }

    /// Writes `http.request.method`, `url.*` and `http.version`.
    #[inline]
    pub fn write(self, to: &mut Document, privacy: Privacy) {
        to.text("http.request.method", self.method);
        url(to, self.url, privacy);
        to.text_of("http.version", self.version.filter(|version| !version.is_empty()));
    }
}

/// Writes `url.original`, `url.path`, `url.query` and `url.extension`.
#[inline]
pub(super) fn url(to: &mut Document, original: &[u8], privacy: Privacy) {
    if privacy.mask_query_strings {
        masked(to, "url.original", original);
    } else {
        to.text("url.original", original);
    }
    let local = match memchr(b':', original) {
        Some(colon) if original[colon..].starts_with(b"://") => {
            let host = colon + 3;
            memchr(b'/', &original[host..]).map_or(&b"/"[..], |slash| &original[host + slash..])
        }
        _ => original,
    };
    let (path, query) = match memchr(b'?', local) {
        Some(mark) => (&local[..mark], Some(&local[mark + 1..])),
        None => (local, None),
    };
    to.text("url.path", path);
    match query {
        None | Some([]) => {}
        Some(query) if privacy.mask_query_strings => masked_query(to, query),
        Some(query) => to.text("url.query", query),
    }
    if let Some(extension) = extension(path) {
        to.text("url.extension", extension);
    }
}

#[inline]
fn extension(path: &[u8]) -> Option<&[u8]> {
    let from = path.len().saturating_sub(EXTENSION_BYTES_MAX + 1);
    let tail = &path[from..];
    let extension = &tail[memrchr(b'.', tail)? + 1..];
    (!extension.is_empty() && extension.iter().all(u8::is_ascii_alphanumeric)).then_some(extension)
}

/// Writes a URL whose query string keeps the names of its parameters only.
pub(super) fn masked(to: &mut Document, key: &str, url: &[u8]) {
    let Some(mark) = memchr(b'?', url) else { return to.text(key, url) };
    let mut room = std::mem::take(&mut to.room);
    room.extend_from_slice(&url[..=mark]);
    mask(&url[mark + 1..], &mut room);
    to.text(key, &room);
    room.clear();
    to.room = room;
}

fn masked_query(to: &mut Document, query: &[u8]) {
    let mut room = std::mem::take(&mut to.room);
    mask(query, &mut room);
    to.text("url.query", &room);
    room.clear();
    to.room = room;
}

/// `a=1&b=2` as `a=*&b=*`; a value without a name is `*`.
fn mask(query: &[u8], room: &mut Vec<u8>) {
    for (index, pair) in query.split(|&byte| byte == b'&').enumerate() {
        if index > 0 {
            room.push(b'&');
        }
        if let Some(equals) = memchr(b'=', pair) {
            room.extend_from_slice(&pair[..=equals]);
        }
        room.push(b'*');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, mask_query_strings: bool, expected: &str) {
        let mut document = Document::default();
        let privacy = Privacy { mask_query_strings, ..Privacy::default() };
        Request::read(line.as_bytes()).unwrap().write(&mut document, privacy);
        assert_eq!(std::str::from_utf8(document.finish()).unwrap(), expected);
    }

    #[test]
    fn a_request_is_taken_apart() {
        check(
            "GET /a/b.php?x=1&y HTTP/1.1",
            false,
            concat!(
                r#"{"http.request.method":"GET","url.original":"/a/b.php?x=1&y","#,
                r#""url.path":"/a/b.php","url.query":"x=1&y","url.extension":"php","http.version":"1.1"}"#
            ),
        );
        check(
            "GET http://example.org HTTP/1.0",
            false,
            r#"{"http.request.method":"GET","url.original":"http://example.org","url.path":"/","http.version":"1.0"}"#,
        );
        check(
            "OPTIONS * HTTP/2.0",
            false,
            r#"{"http.request.method":"OPTIONS","url.original":"*","url.path":"*","http.version":"2.0"}"#,
        );
        check(
            "GET /a b",
            false,
            concat!(
                r#"{"http.request.method":"GET","url.original":"/a b","#,
                r#""url.path":"/a b"}"#
            ),
        );
    }

    #[test]
    fn a_masked_query_keeps_its_names() {
        check(
            "GET /a?token=abc&x HTTP/1.1",
            true,
            concat!(
                r#"{"http.request.method":"GET","url.original":"/a?token=*&*","#,
                r#""url.path":"/a","url.query":"token=*&*","http.version":"1.1"}"#
            ),
        );
    }

    #[test]
    fn what_is_no_request_is_none() {
        for line in ["", "hello", "\u{16}\u{3}\u{1}", "get / HTTP/1.1", "GET ", "<BADREQ>"] {
            assert!(Request::read(line.as_bytes()).is_none(), "{line}");
        }
    }
}
