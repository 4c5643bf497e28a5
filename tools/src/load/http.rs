//! Just enough of HTTP/1.1 for a client: requests as text, and the head of an answer.

/// A head longer than this is an error.
const HEAD_MAX: usize = 8 * 1024;

/// Collects the head of an answer, whatever the cuts in which it comes.
#[derive(Debug, Default)]
pub struct ResponseHead {
    bytes: Vec<u8>,
}

/// What the head says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Length of the body.
    pub content_length: u64,
}

impl ResponseHead {
    /// Takes bytes; once the head is complete: what it says, and how many of `bytes` belonged to
    /// it.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Option<(Answer, usize)>, String> {
        let before = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        let from = before.saturating_sub(3);
        let end = self.bytes[from..].windows(4).position(|window| window == b"\r\n\r\n");
        let Some(end) = end.map(|at| from + at + 4) else {
            if self.bytes.len() > HEAD_MAX {
                return Err(format!("no end of the head within {HEAD_MAX} bytes"));
            }
            return Ok(None);
        };
        let answer = parse(&self.bytes[..end])?;
        Ok(Some((answer, end - before)))
    }
}

/// A request for a generated object.
pub fn get_generated(host: impl std::fmt::Display, len: u64, seed: u64, close: bool) -> Vec<u8> {
    let connection = if close { "Connection: close\r\n" } else { "" };
    format!("GET /generate/{len}?seed={seed} HTTP/1.1\r\nHost: {host}\r\n{connection}\r\n").into()
}

/// A request for one of which the server sends `step` bytes every so many milliseconds.
pub fn get_paced(host: impl std::fmt::Display, len: u64, seed: u64, step: u64, ms: u64) -> Vec<u8> {
    let path = format!("/generate/{len}?seed={seed}&step={step}&every_ms={ms}");
    format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n").into()
}

/// The head of an upload.
pub fn put(host: impl std::fmt::Display, id: u64, len: u64) -> Vec<u8> {
    format!("PUT /upload/{id} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len}\r\n\r\n").into()
}

/// The answer that an upload of these bytes must get.
pub fn upload_answer(len: u64, sha256: &str) -> String {
    format!("length={len} sha256={sha256}\n")
}

fn parse(head: &[u8]) -> Result<Answer, String> {
    let text = std::str::from_utf8(head).map_err(|_| "the head is not text".to_string())?;
    let mut lines = text.split("\r\n");
    let first = lines.next().unwrap_or_default();
    let status = first
        .strip_prefix("HTTP/1.1 ")
        .and_then(|rest| rest.get(..3))
        .and_then(|code| code.parse().ok())
        .ok_or_else(|| format!("not an HTTP/1.1 answer: {first:?}"))?;
    let length = lines.filter_map(|line| line.split_once(':')).find_map(|(name, value)| {
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    });
    let content_length = length.ok_or_else(|| format!("no Content-Length in {text:?}"))?;
    Ok(Answer { status, content_length })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_may_come_in_any_cuts() {
        let whole = b"HTTP/1.1 200 OK\r\ncontent-length: 12\r\n\r\nbody";
        for cut in 1..whole.len() {
            let mut head = ResponseHead::default();
            let (first, second) = whole.split_at(cut);
            let (answer, used) = match head.push(first).unwrap() {
                Some((answer, used)) => (answer, used),
                None => {
                    let (answer, used) = head.push(second).unwrap().unwrap();
                    (answer, cut + used)
                }
            };
            assert_eq!(answer, Answer { status: 200, content_length: 12 });
            assert_eq!(used, whole.len() - 4);
        }
    }

    #[test]
    fn nonsense_is_an_error() {
        assert!(ResponseHead::default().push(b"SSH-2.0\r\n\r\n").is_err());
        assert!(ResponseHead::default().push(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
        assert!(ResponseHead::default().push(&[b'x'; HEAD_MAX + 1]).is_err());
    }
}
