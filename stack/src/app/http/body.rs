//! The body of a request, taken in any cuts: by length, or in chunks.
//!
//! Every byte moves a small machine, so a cut may fall anywhere and the state between two segments is
//! a plain value of a few words. Size lines are taken strictly (a lenient reader behind or before a
//! strict one is how requests are smuggled): hexadecimal digits, then CR LF or an extension; no bare LF.
//!
//! Spec: RFC 9112 6.2, 7.1. Extensions and trailer fields are read and ignored.
//! Bounds: `HTTP_CHUNK_LINE_BYTES_MAX`, `HTTP_TRAILER_BYTES_MAX`, and the limit on the whole body.

use alloc::vec::Vec;

use crate::codec::{ImportError, Put, Reader};
use crate::limits::{HTTP_CHUNK_LINE_BYTES_MAX, HTTP_TRAILER_BYTES_MAX};

/// Where in a body the next byte stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
enum State {
    /// In a body of known length.
    Length,
    /// Before the first digit of a chunk's size.
    SizeStart,
    /// Behind a digit of it.
    Size,
    /// In the extension behind it.
    Extension,
    /// Before the LF of the size line.
    SizeLf,
    /// In a chunk's data.
    Data,
    /// Before the CR behind the data.
    DataCr,
    /// Before the LF behind the data.
    DataLf,
    /// At the beginning of a trailer line.
    TrailerStart,
    /// In a trailer line.
    Trailer,
    /// Before the LF of a trailer line.
    TrailerLf,
    /// Before the last LF of all.
    EndLf,
}

const STATES: [State; 12] = [
    State::Length,
    State::SizeStart,
    State::Size,
    State::Extension,
    State::SizeLf,
    State::Data,
    State::DataCr,
    State::DataLf,
    State::TrailerStart,
    State::Trailer,
    State::TrailerLf,
    State::EndLf,
];

/// How far a body has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Progress {
    /// More bytes are needed.
    More,
    /// This was the last byte.
    Done,
    /// Not a chunked body (400).
    Malformed,
    /// More bytes than allowed (413).
    TooLarge,
}

/// A body being read. Between two calls `received + remaining` is at most the limit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Body {
    state: State,
    /// Bytes of the size line, or of the trailer section, so far.
    line: u16,
    /// Bytes still to come: of the body, or of the chunk (while its size is read: the size so far).
    remaining: u64,
    /// Bytes of content so far.
    received: u64,
}

impl Body {
    /// Of known length, at least 1 and at most the limit.
    pub fn with_length(len: u64) -> Body {
        Body { state: State::Length, line: 0, remaining: len, received: 0 }
    }

    /// In chunks.
    pub fn chunked() -> Body {
        Body { state: State::SizeStart, line: 0, remaining: 0, received: 0 }
    }

    /// Bytes of content so far.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Takes a prefix of `input` and hands its content to `sink`; answers how much was taken.
    pub fn take(
        &mut self,
        input: &[u8],
        limit: u64,
        mut sink: impl FnMut(&[u8]),
    ) -> (usize, Progress) {
        let mut taken = 0;
        while taken < input.len() {
            let rest = &input[taken..];
            let progress = if matches!(self.state, State::Length | State::Data) {
                let n = self.remaining.min(rest.len() as u64);
                sink(&rest[..n as usize]);
                taken += n as usize;
                self.skip(n)
            } else {
                taken += 1;
                self.step(rest[0], limit)
            };
            if progress != Progress::More {
                return (taken, progress);
            }
        }
        (taken, Progress::More)
    }

    /// Counts `n` bytes of content.
    fn skip(&mut self, n: u64) -> Progress {
        self.remaining -= n;
        self.received += n;
        match (self.remaining, self.state) {
            (0, State::Length) => return Progress::Done,
            (0, _) => self.state = State::DataCr,
            _ => {}
        }
        Progress::More
    }

    /// One byte that is not content.
    fn step(&mut self, byte: u8, limit: u64) -> Progress {
        self.line += 1;
        let in_trailer = matches!(self.state, State::TrailerStart | State::Trailer);
        let line_max = if in_trailer { HTTP_TRAILER_BYTES_MAX } else { HTTP_CHUNK_LINE_BYTES_MAX };
        if self.line > line_max && !matches!(self.state, State::TrailerLf | State::EndLf) {
            return Progress::Malformed;
        }
        self.state = match (self.state, byte) {
            (State::SizeStart | State::Size, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                let digit = char::from(byte).to_digit(16).map_or(0, u64::from);
                let size = self.remaining.checked_mul(16).and_then(|size| size.checked_add(digit));
                match size.filter(|size| *size <= limit.saturating_sub(self.received)) {
                    Some(size) => self.remaining = size,
                    None => return Progress::TooLarge,
                }
                State::Size
            }
            (State::Size, b';') => State::Extension,
            (State::Extension, b'\t' | b' '..=b'~' | 0x80..) => State::Extension,
            (State::Size | State::Extension, b'\r') => State::SizeLf,
            (State::SizeLf, b'\n') => {
                self.line = 0;
                if self.remaining == 0 { State::TrailerStart } else { State::Data }
            }
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => {
                self.line = 0;
                State::SizeStart
            }
            (State::TrailerStart, b'\r') => State::EndLf,
            (State::TrailerStart, b'!'..=b'~') => State::Trailer,
            (State::Trailer, b'\t' | b' '..=b'~' | 0x80..) => State::Trailer,
            (State::Trailer, b'\r') => State::TrailerLf,
            (State::TrailerLf, b'\n') => State::TrailerStart,
            (State::EndLf, b'\n') => return Progress::Done,
            _ => return Progress::Malformed,
        };
        Progress::More
    }

    /// Writes the state behind `out`.
    pub fn export(&self, out: &mut Vec<u8>) {
        let Body { state, line, remaining, received } = self;
        out.put_u8(*state as u8);
        out.put_u16(*line);
        out.put_u64(*remaining);
        out.put_u64(*received);
    }

    /// Reads what `export` wrote.
    pub fn import(reader: &mut Reader, limit: u64) -> Result<Body, ImportError> {
        let state = *STATES.get(reader.u8()? as usize).ok_or(ImportError::Invalid)?;
        let (line, remaining, received) = (reader.u16()?, reader.u64()?, reader.u64()?);
        let within = received.checked_add(remaining).is_some_and(|all| all <= limit);
        let in_data = matches!(state, State::Length | State::Data);
        if !within || line > HTTP_TRAILER_BYTES_MAX + 2 || (in_data && remaining == 0) {
            return Err(ImportError::Invalid);
        }
        Ok(Body { state, line, remaining, received })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(input: &[u8], cut: usize, limit: u64) -> (Vec<u8>, usize, Progress) {
        let mut body = Body::chunked();
        let (mut content, mut taken) = (Vec::new(), 0);
        for part in input.chunks(cut) {
            let (n, progress) = body.take(part, limit, |bytes| content.extend_from_slice(bytes));
            taken += n;
            if progress != Progress::More {
                return (content, taken, progress);
            }
            assert_eq!(n, part.len());
            let mut out = Vec::new();
            body.export(&mut out);
            assert_eq!(Body::import(&mut Reader::new(&out), limit), Ok(body));
        }
        (content, taken, Progress::More)
    }

    #[test]
    fn chunks_extensions_and_trailers_are_read_in_any_cut() {
        let input = b"4\r\nWiki\r\n006;a=\"b\"\r\npedia \r\n1A\r\nabcdefghijklmnopqrstuvwxyz\r\n\
            0\r\nX-Sum: 1\r\nY:\r\n\r\nGET";
        for cut in 1..input.len() {
            let (content, taken, progress) = read(input, cut, 36);
            assert_eq!(content, b"Wikipedia abcdefghijklmnopqrstuvwxyz");
            assert_eq!((taken, progress), (input.len() - 3, Progress::Done));
        }
    }

    #[test]
    fn what_is_not_a_chunk_is_malformed() {
        let long = [b"1;".to_vec(), alloc::vec![b'x'; 300]].concat();
        let cases: [&[u8]; 12] = [
            b"\r\n",
            b"g\r\n",
            b"4 \r\n",
            b"4\n",
            b"4\rx",
            b";x\r\n",
            b"-1\r\n",
            b"0x4\r\n",
            b"1\r\nab",
            b"1\r\na\n",
            b"0\r\n\nx",
            &long,
        ];
        for case in cases {
            assert_eq!(read(case, 1, 100).2, Progress::Malformed, "{case:?}");
        }
        let trailers = [b"0\r\nx".to_vec(), alloc::vec![b'x'; 9000]].concat();
        assert_eq!(read(&trailers, 100, 100).2, Progress::Malformed);
    }

    #[test]
    fn sizes_beyond_the_limit_are_too_large_whatever_their_digits() {
        assert_eq!(read(b"65\r\n", 1, 100).2, Progress::TooLarge);
        assert_eq!(read(b"fffffffffffffffff\r\n", 9, u64::MAX).2, Progress::TooLarge);
        assert_eq!(read(b"2\r\nab\r\n2\r\n", 3, 3).2, Progress::TooLarge);
        assert_eq!(read(b"00000000000000000002\r\nab", 3, 3).2, Progress::More);
    }
}
