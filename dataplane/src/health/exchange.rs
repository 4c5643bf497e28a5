//! What a check says to a server, and what it makes of the answer; without I/O.
//!
//! ```text
//! connected -> `say` until nothing is left -> `hear` for what comes -> an outcome, by an answer, its end or the time-out
//! ```
//!
//! A server that expects the PROXY protocol hears first that this connection is nobody's: `UNKNOWN`, or `LOCAL`.
//!
//! Spec: RFC 9112 4 (status line); "The PROXY protocol", 2.1 and 2.2. Bounds: [`STATUS_LINE_BYTES_MAX`].

use super::verdict::Outcome;
use crate::config::{Check, CheckKind, ProxyProtocol};

/// A server whose status line is longer speaks something else.
const STATUS_LINE_BYTES_MAX: usize = 1024;

/// One check under way.
#[derive(Debug)]
pub struct Exchange {
    /// What is yet to be said.
    request: Vec<u8>,
    /// What the answer began with.
    heard: Vec<u8>,
    /// Statuses that pass; `None` if it is enough to be connected.
    passing: Option<(u16, u16)>,
}

impl Exchange {
    /// Towards a server at `authority`.
    pub fn new(check: &Check, header: Option<ProxyProtocol>, authority: &str) -> Exchange {
        let mut exchange = Exchange { request: Vec::new(), heard: Vec::new(), passing: None };
        if let CheckKind::Http { method, path, host, status } = &check.kind {
            exchange.request.extend_from_slice(match header {
                Some(ProxyProtocol::V1) => b"PROXY UNKNOWN\r\n",
                Some(ProxyProtocol::V2) => b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0",
                None => b"",
            });
            let host = host.as_deref().unwrap_or(authority);
            let request = format!(
                "{method} {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: understudy-check\r\nAccept: */*\r\n\
                 Connection: close\r\n\r\n"
            );
            exchange.request.extend_from_slice(request.as_bytes());
            exchange.passing = Some((status.first, status.last));
        }
        exchange
    }

    /// The connection is there.
    pub fn handle_connected(&self) -> Option<Outcome> {
        self.passing.is_none().then(|| Outcome::Passed("connected".into()))
    }

    /// What to say next.
    pub fn say(&self) -> &[u8] {
        &self.request
    }

    /// So many bytes of it were said.
    pub fn said(&mut self, bytes: usize) {
        self.request.drain(..bytes);
    }

    /// The server says something.
    pub fn hear(&mut self, bytes: &[u8]) -> Option<Outcome> {
        let room = STATUS_LINE_BYTES_MAX - self.heard.len();
        self.heard.extend_from_slice(&bytes[..bytes.len().min(room)]);
        let end = self.heard.iter().position(|byte| *byte == b'\n');
        match end {
            Some(end) => Some(self.judge(&self.heard[..end])),
            None if self.heard.len() == STATUS_LINE_BYTES_MAX => Some(no_http()),
            None => None,
        }
    }

    /// The server says nothing more.
    pub fn handle_end(&self) -> Outcome {
        match self.heard.is_empty() {
            true => Outcome::Failed("it closed the connection without an answer".into()),
            false => no_http(),
        }
    }

    fn judge(&self, line: &[u8]) -> Outcome {
        let line = String::from_utf8_lossy(line);
        let mut words = line.trim_end().splitn(3, ' ');
        let (version, status) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
        let status = match status.parse::<u16>() {
            Ok(status) if version.starts_with("HTTP/1.") && status >= 100 => status,
            _ => return no_http(),
        };
        match self.passing {
            Some((first, last)) if !(first..=last).contains(&status) => {
                Outcome::Failed(format!("HTTP status {status}"))
            }
            _ => Outcome::Passed(format!("HTTP status {status}")),
        }
    }
}

fn no_http() -> Outcome {
    Outcome::Failed("what it answers is not HTTP".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::StatusRange;

    fn http(first: u16, last: u16) -> Exchange {
        let kind = CheckKind::Http {
            method: "HEAD".into(),
            path: "/up?x=1".into(),
            host: Some("example.org".into()),
            status: StatusRange { first, last },
        };
        Exchange::new(&Check { kind, ..Check::default() }, None, "10.0.0.1:80")
    }

    #[test]
    fn a_connection_is_enough_unless_more_is_asked_for() {
        let tcp = Exchange::new(&Check::default(), Some(ProxyProtocol::V2), "10.0.0.1:80");
        assert_eq!(tcp.handle_connected(), Some(Outcome::Passed("connected".into())));
        assert_eq!(http(200, 399).handle_connected(), None);
    }

    #[test]
    fn the_request_is_what_the_configuration_says() {
        let mut exchange = http(200, 399);
        let text = String::from_utf8(exchange.say().to_vec()).expect("text");
        assert!(text.starts_with("HEAD /up?x=1 HTTP/1.1\r\nHost: example.org\r\n"), "{text}");
        assert!(text.ends_with("Connection: close\r\n\r\n"));
        exchange.said(text.len() - 1);
        assert_eq!(exchange.say(), b"\n");
        let kind = CheckKind::default_http();
        let check = Check { kind, ..Check::default() };
        for (version, begins) in [
            (ProxyProtocol::V1, &b"PROXY UNKNOWN\r\nGET / HTTP/1.1\r\nHost: [fd00::1]:80\r\n"[..]),
            (ProxyProtocol::V2, &b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0GET / HTTP/1.1\r\n"[..]),
        ] {
            let exchange = Exchange::new(&check, Some(version), "[fd00::1]:80");
            assert!(exchange.say().starts_with(begins), "{version:?}");
        }
    }

    #[test]
    fn the_status_decides_however_it_arrives() {
        for (answer, passes) in [
            (&b"HTTP/1.1 200 OK\r\n"[..], true),
            (b"HTTP/1.0 399 \r\n", true),
            (b"HTTP/1.1 204\r\nX: y\r\n", true),
            (b"HTTP/1.1 400 Bad\r\n", false),
            (b"HTTP/1.1 503 Service Unavailable\r\n", false),
            (b"HTTP/2 200\r\n", false),
            (b"SSH-2.0-OpenSSH_9.2\r\n", false),
            (b"HTTP/1.1 2000 OK\n", false),
            (b"HTTP/1.1 99 OK\n", false),
            (b"\xff\xfe\n", false),
            (b"\n", false),
        ] {
            let mut whole = http(200, 399);
            let outcome = whole.hear(answer).expect("a line");
            assert_eq!(matches!(outcome, Outcome::Passed(_)), passes, "{answer:?}");
            let mut bytewise = http(200, 399);
            let first = answer.iter().find_map(|byte| bytewise.hear(&[*byte]));
            assert_eq!(first, Some(outcome));
        }
    }

    #[test]
    fn what_is_no_answer_fails() {
        let silent = http(200, 399).handle_end();
        assert_eq!(silent, Outcome::Failed("it closed the connection without an answer".into()));
        let mut torn = http(200, 399);
        assert_eq!(torn.hear(b"HTTP/1.1 20"), None);
        assert_eq!(torn.handle_end(), no_http());
        // A line without an end is cut off, not collected.
        assert_eq!(http(200, 399).hear(&[b'x'; 100_000]), Some(no_http()));
        let mut slow = http(200, 399);
        let outcome = (0..).find_map(|_| slow.hear(b"xyz"));
        assert_eq!((outcome, slow.heard.len()), (Some(no_http()), STATUS_LINE_BYTES_MAX));
    }
}
