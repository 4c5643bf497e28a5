//! The heads of responses, and the small bodies that stand behind some of them.
//!
//! A head is written into a buffer on the stack and pushed into the output in one go. There is no
//! `Date`: an answer depends on payload and pinned content alone, so that owner and peer make the same
//! bytes (a server without a clock sends none, RFC 9110 6.6.1).
//!
//! Spec: RFC 9112 4; RFC 9110 15. Bounds: `HTTP_RESPONSE_BYTES_MAX`.

use core::fmt::{self, Write};

use super::head::Reuse;
use super::resource::Resource;
use crate::limits::HTTP_RESPONSE_BYTES_MAX;

/// The status codes that are used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u16)]
pub enum Status {
    /// The representation, or an upload's receipt.
    Ok = 200,
    /// The range that was asked for.
    PartialContent = 206,
    /// The client has it already.
    NotModified = 304,
    /// Not HTTP, or framed ambiguously.
    BadRequest = 400,
    /// Nothing has this path.
    NotFound = 404,
    /// A method that is known but not served.
    MethodNotAllowed = 405,
    /// The request did not become whole in time.
    RequestTimeout = 408,
    /// The body is longer than the service allows.
    ContentTooLarge = 413,
    /// The target is longer than the service allows.
    UriTooLong = 414,
    /// No byte of the range exists.
    RangeNotSatisfiable = 416,
    /// An expectation other than `100-continue`.
    ExpectationFailed = 417,
    /// The head is longer than the service allows.
    FieldsTooLarge = 431,
    /// A method or transfer coding that is unknown.
    NotImplemented = 501,
    /// A version of HTTP other than 1.0 and 1.1.
    VersionUnsupported = 505,
}

impl Status {
    /// The reason phrase (RFC 9110 15).
    pub const fn reason(self) -> &'static str {
        match self {
            Status::Ok => "OK",
            Status::PartialContent => "Partial Content",
            Status::NotModified => "Not Modified",
            Status::BadRequest => "Bad Request",
            Status::NotFound => "Not Found",
            Status::MethodNotAllowed => "Method Not Allowed",
            Status::RequestTimeout => "Request Timeout",
            Status::ContentTooLarge => "Content Too Large",
            Status::UriTooLong => "URI Too Long",
            Status::RangeNotSatisfiable => "Range Not Satisfiable",
            Status::ExpectationFailed => "Expectation Failed",
            Status::FieldsTooLarge => "Request Header Fields Too Large",
            Status::NotImplemented => "Not Implemented",
            Status::VersionUnsupported => "HTTP Version Not Supported",
        }
    }
}

/// Text of at most `N` bytes.
pub struct Text<const N: usize> {
    bytes: [u8; N],
    len: usize,
}

impl<const N: usize> Text<N> {
    /// Empty.
    pub const fn new() -> Text<N> {
        Text { bytes: [0; N], len: 0 }
    }

    /// What was written.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// Appends one byte; `false` when there is no room.
    #[must_use]
    pub fn push(&mut self, byte: u8) -> bool {
        let room = self.bytes.get_mut(self.len);
        self.len += usize::from(room.is_some());
        room.map(|free| *free = byte).is_some()
    }
}

impl<const N: usize> Write for Text<N> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let free = self.bytes.get_mut(self.len..self.len + text.len()).ok_or(fmt::Error)?;
        free.copy_from_slice(text.as_bytes());
        self.len += text.len();
        Ok(())
    }
}

/// A response head, small body included.
pub type Response = Text<HTTP_RESPONSE_BYTES_MAX>;

/// The interim response that lets a body come.
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// What every write below relies on: `HTTP_RESPONSE_BYTES_MAX` covers the longest response.
const FITS: &str = "a response fits its buffer";

/// A status with its own name as the body; without the body if `head_only`.
pub fn plain(status: Status, reuse: Reuse, head_only: bool) -> Response {
    let mut out = Response::new();
    let (code, reason) = (status as u16, status.reason());
    start(&mut out, status, reuse);
    if status == Status::MethodNotAllowed {
        out.write_str("Allow: GET, HEAD, POST, PUT\r\n").expect(FITS);
    }
    let length = reason.len() + 5;
    write!(out, "Content-Type: text/plain\r\nContent-Length: {length}\r\n\r\n").expect(FITS);
    if !head_only {
        writeln!(out, "{code} {reason}").expect(FITS);
    }
    out
}

/// The receipt for an uploaded body.
pub fn receipt(length: u64, sha256: &[u8; 32], reuse: Reuse) -> Response {
    let mut body = Text::<128>::new();
    write!(body, "length={length} sha256=").expect(FITS);
    for byte in sha256 {
        write!(body, "{byte:02x}").expect(FITS);
    }
    body.write_str("\n").expect(FITS);
    let mut out = Response::new();
    start(&mut out, Status::Ok, reuse);
    let length = body.as_bytes().len();
    write!(out, "Content-Type: text/plain\r\nContent-Length: {length}\r\n\r\n").expect(FITS);
    let room = body.as_bytes().iter().all(|byte| out.push(*byte));
    assert!(room, "{FITS}");
    out
}

/// The head in front of a whole representation.
pub fn whole(resource: &Resource, reuse: Reuse) -> Response {
    let mut out = Response::new();
    start(&mut out, Status::Ok, reuse);
    describe(&mut out, resource);
    write!(out, "Content-Length: {}\r\n\r\n", resource.len).expect(FITS);
    out
}

/// The head in front of the bytes from `first` to `last`.
pub fn part(resource: &Resource, first: u64, last: u64, reuse: Reuse) -> Response {
    let mut out = Response::new();
    start(&mut out, Status::PartialContent, reuse);
    describe(&mut out, resource);
    let (len, part) = (resource.len, last - first + 1);
    write!(out, "Content-Range: bytes {first}-{last}/{len}\r\nContent-Length: {part}\r\n\r\n")
        .expect(FITS);
    out
}

/// No byte of the range exists (RFC 9110 15.5.17).
pub fn unsatisfiable(resource: &Resource, reuse: Reuse) -> Response {
    let mut out = Response::new();
    start(&mut out, Status::RangeNotSatisfiable, reuse);
    write!(out, "Content-Range: bytes */{}\r\nContent-Length: 0\r\n\r\n", resource.len)
        .expect(FITS);
    out
}

/// The client has the representation already.
pub fn not_modified(resource: &Resource, reuse: Reuse) -> Response {
    let mut out = Response::new();
    start(&mut out, Status::NotModified, reuse);
    write!(out, "ETag: {}\r\n\r\n", resource.etag()).expect(FITS);
    out
}

fn start(out: &mut Response, status: Status, reuse: Reuse) {
    let (code, reason) = (status as u16, status.reason());
    let connection = match reuse {
        Reuse::Implied => "",
        Reuse::Told => "Connection: keep-alive\r\n",
        Reuse::Close => "Connection: close\r\n",
    };
    write!(out, "HTTP/1.1 {code} {reason}\r\nServer: understudy\r\n{connection}").expect(FITS);
}

fn describe(out: &mut Response, resource: &Resource) {
    let (content_type, etag) = (resource.content_type, resource.etag());
    write!(out, "Content-Type: {content_type}\r\nETag: {etag}\r\nAccept-Ranges: bytes\r\n")
        .expect(FITS);
}
