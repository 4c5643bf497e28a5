//! The metrics listener: a node's status in Prometheus' text format, for whoever scrapes it.
//!
//! A thread of its own answers `GET /metrics`, one client after the other, with what `understudy status --json`
//! and `servers --json` are made of at that moment ([`families`]); no poll core ever waits for it. It speaks as
//! much HTTP as a scraper needs: one request a connection, an answer with its length, and the end.
//!
//! Bounds: [`REQUEST_BYTES_MAX`] a request; a client has [`PATIENCE`] to ask and as long to take the answer.

mod families;

use crate::control::servers::Servers;
use crate::control::status::Status;
use prometheus::TextEncoder;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Bytes of a request at most, its header included.
pub const REQUEST_BYTES_MAX: usize = 8192;

/// How long a client may take to ask, and to take the answer.
pub const PATIENCE: Duration = Duration::from_secs(2);

/// Who could not be accepted (no descriptor is left, for example) is tried again after so long.
const PAUSE: Duration = Duration::from_millis(100);

/// The content type of the text format.
const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Says how the node and the servers are; `None` if it does not answer in time.
pub type Source = dyn Fn() -> Option<(Status, Servers)> + Send + Sync;

/// A running listener; it ends when this is dropped.
pub struct Server {
    address: SocketAddr,
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Listens at `address` and answers with what `source` says.
    pub fn start(address: SocketAddr, source: Arc<Source>) -> io::Result<Server> {
        let listener = TcpListener::bind(address)?;
        let address = listener.local_addr()?;
        let stopping = Arc::new(AtomicBool::new(false));
        let stop = stopping.clone();
        let thread = thread::Builder::new().name("metrics".into()).spawn(move || {
            for stream in listener.incoming() {
                if stop.load(Ordering::Acquire) {
                    return;
                }
                match stream {
                    // A client that leaves early has lost its answer and nothing else.
                    Ok(stream) => drop(serve(&stream, &*source)),
                    Err(_) => thread::sleep(PAUSE),
                }
            }
        })?;
        Ok(Server { address, stopping, thread: Some(thread) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Release);
        // The thread wakes up by a connection. If none can be made, it ends with the process.
        let woken = TcpStream::connect_timeout(&self.address, PATIENCE);
        if let (Some(thread), Ok(_)) = (self.thread.take(), woken) {
            let _ = thread.join();
        }
    }
}

/// All of it as text; every family has its help and its type.
pub fn text(status: &Status, servers: &Servers) -> String {
    let families = families::families(status, servers);
    TextEncoder::new().encode_to_string(&families).expect("families have names and samples")
}

/// Answers one client.
fn serve(stream: &TcpStream, source: &Source) -> io::Result<()> {
    let request = read_request(stream)?;
    let mut words = request.split(|byte| byte.is_ascii_whitespace());
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let path = target.split(|byte| *byte == b'?').next().unwrap_or_default();
    let plain = "text/plain; charset=utf-8";
    match (method, path) {
        (b"GET" | b"HEAD", b"/metrics") => match source() {
            Some((status, servers)) => {
                let text = text(&status, &servers);
                answer(stream, "200 OK", CONTENT_TYPE, &text, method == b"HEAD")
            }
            None => {
                let text = "the node does not answer in time\n";
                answer(stream, "503 Service Unavailable", plain, text, method == b"HEAD")
            }
        },
        (b"GET" | b"HEAD", _) if path.starts_with(b"/") => {
            answer(stream, "404 Not Found", plain, "metrics are at /metrics\n", method == b"HEAD")
        }
        (_, path) if path.starts_with(b"/") => {
            answer(stream, "405 Method Not Allowed", plain, "only GET and HEAD\n", false)
        }
        _ => answer(stream, "400 Bad Request", plain, "not understood\n", false),
    }
}

/// The head of a request, as far as it came within the bounds.
fn read_request(mut stream: &TcpStream) -> io::Result<Vec<u8>> {
    let limit = Instant::now() + PATIENCE;
    let mut request = Vec::with_capacity(1024);
    let mut piece = [0; 1024];
    let is_whole = |request: &[u8]| request.windows(4).any(|four| four == b"\r\n\r\n");
    while !is_whole(&request) && request.len() < REQUEST_BYTES_MAX {
        stream.set_read_timeout(Some(left(limit)?))?;
        match stream.read(&mut piece)? {
            0 => break,
            bytes => request.extend_from_slice(&piece[..bytes]),
        }
    }
    Ok(request)
}

fn answer(
    stream: &TcpStream,
    outcome: &str,
    content_type: &str,
    text: &str,
    is_head_only: bool,
) -> io::Result<()> {
    let allow = if outcome.starts_with("405") { "Allow: GET, HEAD\r\n" } else { "" };
    let length = text.len();
    let head = format!(
        "HTTP/1.1 {outcome}\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\n{allow}Connection: close\r\n\r\n"
    );
    let body = if is_head_only { "" } else { text };
    write_until(Instant::now() + PATIENCE, stream, (head + body).as_bytes())
}

/// Writes all of it, however slowly the client reads, until then.
fn write_until(limit: Instant, mut stream: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        stream.set_write_timeout(Some(left(limit)?))?;
        match stream.write(bytes)? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            written => bytes = &bytes[written..],
        }
    }
    Ok(())
}

fn left(limit: Instant) -> io::Result<Duration> {
    let left = limit.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(status: Option<Status>) -> Server {
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let source = move || Some((status.clone()?, Servers::default()));
        Server::start(address, Arc::new(source)).expect("a port")
    }

    /// A client that reads a little now and then makes no time out begin again.
    #[test]
    fn an_answer_has_one_deadline() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("it is bound");
        let mut client = TcpStream::connect(address).expect("it listens");
        let (stream, _) = listener.accept().expect("a client");
        let reader = thread::spawn(move || {
            // As long as anything comes.
            let mut piece = [0; 512];
            while client.read(&mut piece).is_ok_and(|bytes| bytes > 0) {
                thread::sleep(Duration::from_millis(1));
            }
        });
        let limit = Instant::now() + Duration::from_millis(200);
        let error = write_until(limit, &stream, &vec![0; 1 << 25]).expect_err("it is too slow");
        let is_late = [io::ErrorKind::TimedOut, io::ErrorKind::WouldBlock].contains(&error.kind());
        assert!(is_late && Instant::now() >= limit, "{error}");
        drop(stream);
        reader.join().expect("it has read what came");
    }

    fn ask(server: &Server, request: &[u8]) -> String {
        let mut stream = TcpStream::connect(server.address()).expect("the listener");
        stream.write_all(request).expect("room");
        stream.shutdown(std::net::Shutdown::Write).expect("half a close");
        let mut answer = Vec::new();
        // What was left unread makes the kernel reset the connection after the answer.
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8(answer).expect("text")
    }

    #[test]
    fn a_scraper_gets_the_status_with_its_length() {
        let server = server(Some(Status { node: 7, ..Status::default() }));
        let answer = ask(&server, b"GET /metrics?x=1 HTTP/1.1\r\nHost: a\r\n\r\n");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{head}");
        assert!(head.contains("Content-Type: text/plain; version=0.0.4"), "{head}");
        assert_eq!(body, text(&Status { node: 7, ..Status::default() }, &Servers::default()));
        let head_only = ask(&server, b"HEAD /metrics HTTP/1.1\r\n\r\n");
        assert_eq!(head_only, format!("{head}\r\n\r\n"));
    }

    #[test]
    fn bad_requests_are_answered_and_the_next_one_is_served() {
        let server = server(Some(Status::default()));
        let oversized = [b'a'; 2 * REQUEST_BYTES_MAX];
        let mut long_path = b"GET /".to_vec();
        long_path.extend_from_slice(&oversized);
        for (request, outcome) in [
            (&b"GET / HTTP/1.1\r\n\r\n"[..], "404"),
            (b"GET /metrics/ HTTP/1.1\r\n\r\n", "404"),
            (b"POST /metrics HTTP/1.1\r\n\r\n", "405"),
            (b"", "400"),
            (b"\r\n\r\n", "400"),
            (b"\xff\xfe\x00", "400"),
            (b"GET", "400"),
            (b"GET metrics HTTP/1.1\r\n\r\n", "400"),
        ] {
            let answer = ask(&server, request);
            assert!(answer.starts_with(&format!("HTTP/1.1 {outcome} ")), "{request:?}: {answer}");
        }
        for request in [&oversized[..], &long_path] {
            let _ = TcpStream::connect(server.address()).and_then(|mut s| s.write_all(request));
        }
        let answer = ask(&server, b"GET /metrics HTTP/1.0\r\n\r\n");
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    }

    #[test]
    fn a_node_that_does_not_answer_is_said_so() {
        let answer = ask(&server(None), b"GET /metrics HTTP/1.1\r\n\r\n");
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    }

    /// Whoever connects and says nothing holds up the others for a bounded time.
    #[test]
    fn a_silent_client_is_given_up() {
        let server = server(Some(Status::default()));
        let _silent = TcpStream::connect(server.address()).expect("the listener");
        let answer = ask(&server, b"GET /metrics HTTP/1.1\r\n\r\n");
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    }
}
