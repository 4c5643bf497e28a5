//! The head of a request: where it ends, whether it is acceptable, and what it asks for.
//!
//! [`scan`] runs over every byte once, whatever the cuts, and decides what needs no grammar: a line
//! ends with CR LF and nothing else (a bare CR or LF, and NUL, is 400: a lenient and a strict reader of
//! one stream are how requests are smuggled), and the head ends within `HTTP_HEAD_BYTES_MAX`. Only a
//! whole head is parsed. Framing that two readers could see differently is refused with 400 and a close.
//!
//! Spec: RFC 9112 2.2, 3, 5, 6; RFC 9110 9.3, 10.1.1. Left out: CONNECT, OPTIONS, TRACE (405).

use super::range::decimal;
use super::respond::Status;
use crate::limits::{HTTP_FIELDS_MAX, HTTP_HEAD_BYTES_MAX, HTTP_TARGET_BYTES_MAX};

/// What [`scan`] found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scan {
    /// No end yet.
    Incomplete,
    /// The head is the first so many bytes.
    Complete(usize),
    /// It will never be a head.
    Refused(Status),
}

/// Looks for the end of the head that begins with `input`, whose first `seen` bytes an earlier call
/// found incomplete.
pub fn scan(input: &[u8], seen: usize) -> Scan {
    for at in seen..input.len() {
        if at == HTTP_HEAD_BYTES_MAX {
            let line_ended = input[..at].contains(&b'\n');
            return Scan::Refused(if line_ended {
                Status::FieldsTooLarge
            } else {
                Status::UriTooLong
            });
        }
        let after_cr = at > 0 && input[at - 1] == b'\r';
        if (input[at] == b'\n') != after_cr || input[at] == 0 {
            return Scan::Refused(Status::BadRequest);
        }
        if input[at] == b'\n' && at >= 3 && input[at - 2] == b'\n' {
            return Scan::Complete(at + 1);
        }
    }
    Scan::Incomplete
}

/// The methods that are served.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Method {
    /// Asks for a representation.
    Get,
    /// Asks for the head of the answer to GET.
    Head,
    /// Uploads.
    Post,
    /// Uploads.
    Put,
}

/// How the end of the request's body is found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Framing {
    /// It has so many bytes.
    Length(u64),
    /// It is chunked.
    Chunked,
}

/// What becomes of the connection behind the response.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reuse {
    /// It stays open, as HTTP/1.1 has it.
    Implied,
    /// It stays open, which an HTTP/1.0 client must be told.
    Told,
    /// It is closed.
    Close,
}

/// A request, with what the answer depends on.
#[derive(Debug)]
pub struct Request<'a> {
    /// What is asked.
    pub method: Method,
    /// The path, still percent-encoded, beginning with `/`.
    pub path: &'a [u8],
    /// What follows the `?`.
    pub query: &'a [u8],
    /// Of the body that follows.
    pub framing: Framing,
    /// Of the connection.
    pub reuse: Reuse,
    /// The client waits for `100 Continue` before it sends the body.
    pub expects_continue: bool,
    /// `Range`.
    pub range: Option<&'a [u8]>,
    /// `If-Range`.
    pub if_range: Option<&'a [u8]>,
    /// `If-None-Match`.
    pub if_none_match: Option<&'a [u8]>,
}

/// Parses a whole head. An error is answered and the connection closed.
pub fn parse(head: &[u8]) -> Result<Request<'_>, Status> {
    let mut fields = [httparse::EMPTY_HEADER; HTTP_FIELDS_MAX];
    let mut parsed = httparse::Request::new(&mut fields);
    match parsed.parse(head) {
        Ok(httparse::Status::Complete(len)) if len == head.len() => {}
        Ok(_) => return Err(Status::BadRequest),
        Err(httparse::Error::TooManyHeaders) => return Err(Status::FieldsTooLarge),
        Err(httparse::Error::Version) => return Err(version_status(head)),
        Err(_) => return Err(Status::BadRequest),
    }
    let (Some(method), Some(target), Some(minor)) = (parsed.method, parsed.path, parsed.version)
    else {
        return Err(Status::BadRequest);
    };
    let mut names = Fields::default();
    for field in parsed.headers.iter() {
        names.add(field.name, field.value.trim_ascii())?;
    }
    request(method, target.as_bytes(), minor, names)
}

/// 505 for a version of HTTP that is not served, 400 for what is none.
fn version_status(head: &[u8]) -> Status {
    let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
    match line.rsplit(|byte| *byte == b' ').next().unwrap_or_default() {
        [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9'] => {
            Status::VersionUnsupported
        }
        _ => Status::BadRequest,
    }
}

/// The fields that matter, as they are read.
#[derive(Default)]
struct Fields<'a> {
    hosts: usize,
    content_length: Option<u64>,
    /// Whether `Transfer-Encoding` is there, and whether it is exactly `chunked`.
    chunked: Option<bool>,
    close: bool,
    keep_alive: bool,
    /// Whether `Expect` is there, and whether it is `100-continue`.
    expect: Option<bool>,
    range: Once<'a>,
    if_range: Once<'a>,
    if_none_match: Once<'a>,
}

/// A field that is ignored when it is repeated: none of these may be.
#[derive(Default)]
struct Once<'a> {
    value: Option<&'a [u8]>,
    repeated: bool,
}

impl<'a> Once<'a> {
    fn add(&mut self, value: &'a [u8]) {
        self.repeated = self.value.is_some() || self.repeated;
        self.value = Some(value);
    }

    fn get(self) -> Option<&'a [u8]> {
        if self.repeated { None } else { self.value }
    }
}

impl<'a> Fields<'a> {
    fn add(&mut self, name: &str, value: &'a [u8]) -> Result<(), Status> {
        let is = |wanted: &str| name.eq_ignore_ascii_case(wanted);
        if is("host") {
            self.hosts += 1;
            if !value.iter().all(|byte| byte.is_ascii_graphic() && !b"/?#@\\,".contains(byte)) {
                return Err(Status::BadRequest);
            }
        } else if is("content-length") {
            // RFC 9112 6.3: a list, a sign, a second opinion: all unrecoverable.
            let length = decimal(value).ok_or(Status::BadRequest)?;
            if self.content_length.is_some_and(|before| before != length) {
                return Err(Status::BadRequest);
            }
            self.content_length = Some(length);
        } else if is("transfer-encoding") {
            if self.chunked.is_some() {
                return Err(Status::BadRequest);
            }
            self.chunked = Some(value.eq_ignore_ascii_case(b"chunked"));
        } else if is("connection") {
            for token in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
                self.close |= token.eq_ignore_ascii_case(b"close");
                self.keep_alive |= token.eq_ignore_ascii_case(b"keep-alive");
            }
        } else if is("expect") {
            let known = value.eq_ignore_ascii_case(b"100-continue");
            self.expect = Some(known && self.expect != Some(false));
        } else if is("range") {
            self.range.add(value);
        } else if is("if-range") {
            self.if_range.add(value);
        } else if is("if-none-match") {
            self.if_none_match.add(value);
        }
        Ok(())
    }
}

fn request<'a>(
    method: &str,
    target: &'a [u8],
    minor: u8,
    fields: Fields<'a>,
) -> Result<Request<'a>, Status> {
    // RFC 9112 3.2: exactly one Host in HTTP/1.1.
    if fields.hosts > 1 || (fields.hosts == 0 && minor == 1) {
        return Err(Status::BadRequest);
    }
    let framing = match (fields.chunked, fields.content_length) {
        // RFC 9112 6.1, 6.3: both, or one that HTTP/1.0 does not know, is an attempt to smuggle.
        (Some(_), Some(_)) => return Err(Status::BadRequest),
        (Some(_), None) if minor == 0 => return Err(Status::BadRequest),
        (Some(false), None) => return Err(Status::NotImplemented),
        (Some(true), None) => Framing::Chunked,
        (None, length) => Framing::Length(length.unwrap_or(0)),
    };
    let method = match method {
        "GET" => Method::Get,
        "HEAD" => Method::Head,
        "POST" => Method::Post,
        "PUT" => Method::Put,
        "CONNECT" | "DELETE" | "OPTIONS" | "PATCH" | "TRACE" => {
            return Err(Status::MethodNotAllowed);
        }
        _ => return Err(Status::NotImplemented),
    };
    let (path, query) = split_target(target)?;
    let expects_continue = match fields.expect {
        Some(false) => return Err(Status::ExpectationFailed),
        // RFC 9110 10.1.1: ignored in HTTP/1.0.
        Some(true) => minor == 1,
        None => false,
    };
    let reuse = match (minor, fields.close, fields.keep_alive) {
        (1, false, _) => Reuse::Implied,
        (0, false, true) => Reuse::Told,
        _ => Reuse::Close,
    };
    Ok(Request {
        method,
        path,
        query,
        framing,
        reuse,
        expects_continue,
        range: fields.range.get(),
        if_range: fields.if_range.get(),
        if_none_match: fields.if_none_match.get(),
    })
}

/// Path and query of a target in origin form or absolute form (RFC 9112 3.2.1, 3.2.2).
fn split_target(target: &[u8]) -> Result<(&[u8], &[u8]), Status> {
    if target.len() > HTTP_TARGET_BYTES_MAX {
        return Err(Status::UriTooLong);
    }
    if !target.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'#') {
        return Err(Status::BadRequest);
    }
    let scheme = |name: &[u8]| {
        let (start, rest) = target.split_at_checked(name.len())?;
        start.eq_ignore_ascii_case(name).then_some(rest)
    };
    let origin = match scheme(b"http://").or_else(|| scheme(b"https://")) {
        Some(rest) => {
            let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?'));
            &rest[end.unwrap_or(rest.len())..]
        }
        None if target.starts_with(b"/") => target,
        None => return Err(Status::BadRequest),
    };
    let question = origin.iter().position(|byte| *byte == b'?').unwrap_or(origin.len());
    let (path, query) = origin.split_at(question);
    let path = if path.is_empty() { b"/" } else { path };
    Ok((path, query.get(1..).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    fn status(head: &str) -> Option<Status> {
        match scan(head.as_bytes(), 0) {
            Scan::Complete(len) if len == head.len() => parse(head.as_bytes()).err(),
            Scan::Refused(status) => Some(status),
            other => panic!("{head:?}: {other:?}"),
        }
    }

    #[test]
    fn scanning_in_any_cuts_finds_the_same() {
        let cases: [(&[u8], Scan); 6] = [
            (b"GET / HTTP/1.1\r\nA: b\r\n\r\nrest", Scan::Complete(24)),
            (b"GET / HTTP/1.1\r\nA: b\r\n\r", Scan::Incomplete),
            (b"GET / HTTP/1.1\nA: b\n\n", Scan::Refused(Status::BadRequest)),
            (b"GET / HTTP/1.1\r\nA: \rb\r\n\r\n", Scan::Refused(Status::BadRequest)),
            (b"GET / HTTP/1.1\r\nA: \0\r\n\r\n", Scan::Refused(Status::BadRequest)),
            (b"\nGET", Scan::Refused(Status::BadRequest)),
        ];
        for (input, wanted) in cases {
            for cut in 0..input.len() {
                let found = match scan(&input[..cut], 0) {
                    Scan::Incomplete => scan(input, cut),
                    found => found,
                };
                assert_eq!(found, wanted, "{input:?} cut at {cut}");
            }
        }
        let target = [b"GET /".to_vec(), alloc::vec![b'a'; 9000]].concat();
        assert_eq!(scan(&target, 0), Scan::Refused(Status::UriTooLong));
        assert_eq!(scan(&target[..8192], 0), Scan::Incomplete);
        let fields = [b"GET / HTTP/1.1\r\nA: ".to_vec(), alloc::vec![b'a'; 9000]].concat();
        assert_eq!(scan(&fields, 8000), Scan::Refused(Status::FieldsTooLarge));
    }

    #[test]
    fn requests_are_read() {
        let request =
            parse(b"PUT /a%20b?x=1 HTTP/1.1\r\nhost: h\r\nContent-Length: 5\r\n\r\n").unwrap();
        assert_eq!((request.method, request.path), (Method::Put, &b"/a%20b"[..]));
        assert_eq!((request.query, request.framing), (&b"x=1"[..], Framing::Length(5)));
        assert_eq!(request.reuse, Reuse::Implied);
        let request =
            parse(b"GET http://h:80?q HTTP/1.0\r\nConnection: a, Keep-Alive\r\n\r\n").unwrap();
        assert_eq!(
            (request.path, request.query, request.reuse),
            (&b"/"[..], &b"q"[..], Reuse::Told)
        );
        let request = parse(b"GET / HTTP/1.0\r\n\r\n").unwrap();
        assert_eq!(request.reuse, Reuse::Close);
        let request =
            parse(b"GET / HTTP/1.1\r\nHost:\r\nConnection: close\r\nRange: bytes=1-\r\n\r\n");
        let request = request.unwrap();
        assert_eq!((request.reuse, request.range), (Reuse::Close, Some(&b"bytes=1-"[..])));
    }

    #[test]
    fn what_two_readers_could_frame_differently_is_refused() {
        let with =
            |fields: &str| status(&alloc::format!("POST / HTTP/1.1\r\nHost: h\r\n{fields}\r\n"));
        let bad = Some(Status::BadRequest);
        assert_eq!(with("Content-Length: 1\r\nTransfer-Encoding: chunked\r\n"), bad);
        assert_eq!(with("Content-Length: 1\r\nContent-Length: 2\r\n"), bad);
        assert_eq!(with("Content-Length: 1\r\nContent-Length: 1\r\n"), None);
        assert_eq!(with("Content-Length: 1, 1\r\n"), bad);
        assert_eq!(with("Content-Length: +1\r\n"), bad);
        assert_eq!(with("Content-Length: \r\n"), bad);
        assert_eq!(with("Content-Length : 1\r\n"), bad);
        assert_eq!(with("Content-Length: 1\r\n 2\r\n"), bad);
        assert_eq!(with("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"), bad);
        assert_eq!(with("Transfer-Encoding: gzip, chunked\r\n"), Some(Status::NotImplemented));
        assert_eq!(with("Transfer-Encoding: chunked\r\n"), None);
        assert_eq!(status("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"), bad);
    }

    #[test]
    fn refusals_have_their_own_status() {
        let line = |line: &str| status(&alloc::format!("{line}\r\nHost: h\r\n\r\n"));
        assert_eq!(line("GET / HTTP/1.1"), None);
        assert_eq!(line("GET / HTTP/2.0"), Some(Status::VersionUnsupported));
        assert_eq!(line("GET / FTP/1.1"), Some(Status::BadRequest));
        assert_eq!(line("GET /"), Some(Status::BadRequest));
        assert_eq!(line("GET * HTTP/1.1"), Some(Status::BadRequest));
        assert_eq!(line("GET /#f HTTP/1.1"), Some(Status::BadRequest));
        assert_eq!(line("GET  / HTTP/1.1"), Some(Status::BadRequest));
        assert_eq!(line("OPTIONS * HTTP/1.1"), Some(Status::MethodNotAllowed));
        assert_eq!(line("BREW / HTTP/1.1"), Some(Status::NotImplemented));
        let long = alloc::format!("GET /{} HTTP/1.1", "a".repeat(HTTP_TARGET_BYTES_MAX));
        assert_eq!(line(&long), Some(Status::UriTooLong));
        assert_eq!(status("GET / HTTP/1.1\r\n\r\n"), Some(Status::BadRequest));
        assert_eq!(
            status("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"),
            Some(Status::BadRequest)
        );
        assert_eq!(status("GET / HTTP/1.1\r\nHost: a b\r\n\r\n"), Some(Status::BadRequest));
        let expect = "GET / HTTP/1.1\r\nHost: a\r\nExpect: tea\r\n\r\n";
        assert_eq!(status(expect), Some(Status::ExpectationFailed));
        let fields: Vec<u8> = "A: b\r\n".repeat(80).into_bytes();
        let head = [b"GET / HTTP/1.1\r\n", &fields[..], b"\r\n"].concat();
        assert_eq!(parse(&head).err(), Some(Status::FieldsTooLarge));
    }
}
