//! Plain servers over the kernel's TCP: http (80), echo (7), discard (9).
//!
//! They exist to try the clients, and to show beside the appliance what a dying server does to its
//! connections. One thread per connection; only what the clients ask for is understood.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use sha2::{Digest, Sha256};

use super::http::upload_answer;
use super::pattern;
use super::wire::use_cubic;

/// Bytes written at a time at most.
const STEP_MAX: usize = 64 * 1024;

type Handler = fn(TcpStream) -> io::Result<()>;

/// Serves until the process ends.
pub fn serve(address: Ipv4Addr) -> anyhow::Result<()> {
    let services: [(u16, Handler); 3] = [(80, http), (7, echo), (9, discard)];
    let mut threads = Vec::new();
    for (port, handler) in services {
        let listener = TcpListener::bind((address, port))
            .with_context(|| format!("cannot listen on {address}:{port}"))?;
        // Connections inherit it.
        use_cubic(&listener);
        threads.push(thread::spawn(move || accept(&listener, handler)));
    }
    for thread in threads {
        let _ = thread.join();
    }
    Ok(())
}

fn accept(listener: &TcpListener, handler: Handler) {
    for stream in listener.incoming().flatten() {
        // A client that goes away ends its own thread and nothing else.
        let spawned = thread::Builder::new().stack_size(256 * 1024).spawn(move || {
            let _ = stream.set_nodelay(true);
            let _ = handler(stream);
        });
        drop(spawned);
    }
}

fn echo(mut stream: TcpStream) -> io::Result<()> {
    let mut input = stream.try_clone()?;
    io::copy(&mut input, &mut stream).map(drop)
}

fn discard(mut stream: TcpStream) -> io::Result<()> {
    let mut buf = vec![0u8; 256 * 1024];
    while stream.read(&mut buf)? > 0 {}
    Ok(())
}

fn http(stream: TcpStream) -> io::Result<()> {
    let mut output = stream.try_clone()?;
    let mut input = BufReader::new(stream);
    while let Some(request) = read_request(&mut input)? {
        if request.line.starts_with("GET ") {
            send_generated(&mut output, &request.line)?;
        } else {
            receive_upload(&mut input, &mut output, &request)?;
        }
        if request.close {
            break;
        }
    }
    Ok(())
}

struct Request {
    line: String,
    length: u64,
    expect: bool,
    close: bool,
}

fn read_request(input: &mut impl BufRead) -> io::Result<Option<Request>> {
    let mut request = Request { line: String::new(), length: 0, expect: false, close: false };
    if input.read_line(&mut request.line)? == 0 {
        return Ok(None);
    }
    loop {
        let mut line = String::new();
        if input.read_line(&mut line)? == 0 || line.trim().is_empty() {
            return Ok(Some(request));
        }
        let line = line.trim().to_ascii_lowercase();
        if let Some(length) = line.strip_prefix("content-length:") {
            request.length = length.trim().parse().unwrap_or(0);
        }
        request.expect |= line.starts_with("expect:");
        request.close |= line == "connection: close";
    }
}

/// `GET /generate/<length>?seed=<n>[&step=<bytes>&every_ms=<n>] …`: so many bytes at a time, so long after the last ones.
fn send_generated(output: &mut impl Write, line: &str) -> io::Result<()> {
    let path = line.split(' ').nth(1).unwrap_or_default();
    let Some(Wanted { len, seed, step, every }) = Wanted::of(path) else {
        return output.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
    };
    output.write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: {len}\r\n\r\n").as_bytes())?;
    let mut buf = vec![0u8; step];
    let mut offset = 0;
    let mut due = Instant::now();
    while offset < len {
        let take = (len - offset).min(buf.len() as u64) as usize;
        pattern::fill(seed, offset, &mut buf[..take]);
        output.write_all(&buf[..take])?;
        offset += take as u64;
        due += every;
        thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    Ok(())
}

/// What a request asks for.
#[derive(Debug, PartialEq, Eq)]
struct Wanted {
    len: u64,
    seed: u64,
    /// Bytes written at a time.
    step: usize,
    /// From one time to the next; zero: at once.
    every: Duration,
}

impl Wanted {
    /// Reads a path; `None` if it makes no sense.
    fn of(path: &str) -> Option<Wanted> {
        let (len, query) =
            path.trim_start_matches("/generate/").split_once('?').unwrap_or((path, ""));
        let mut wanted =
            Wanted { len: len.parse().ok()?, seed: 0, step: STEP_MAX, every: Duration::ZERO };
        for (key, value) in query.split('&').filter_map(|word| word.split_once('=')) {
            let number: u64 = value.parse().ok()?;
            match key {
                "seed" => wanted.seed = number,
                "step" => wanted.step = usize::try_from(number).ok()?.clamp(1, STEP_MAX),
                "every_ms" => wanted.every = Duration::from_millis(number),
                _ => return None,
            }
        }
        Some(wanted)
    }
}

fn receive_upload(
    input: &mut impl Read,
    output: &mut impl Write,
    request: &Request,
) -> io::Result<()> {
    if request.expect {
        output.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
    }
    let mut hash = Sha256::new();
    let mut buf = vec![0u8; 64 * 1024];
    let mut left = request.length;
    while left > 0 {
        let want = left.min(buf.len() as u64) as usize;
        let len = input.read(&mut buf[..want])?;
        if len == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        hash.update(&buf[..len]);
        left -= len as u64;
    }
    let body = upload_answer(request.length, &pattern::hex(&hash.finalize()));
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
    output.write_all(head.as_bytes())?;
    output.write_all(body.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_comes_at_once_or_in_steps() {
        let wanted = Wanted { len: 10, seed: 7, step: STEP_MAX, every: Duration::ZERO };
        assert_eq!(Wanted::of("/generate/10?seed=7"), Some(wanted));
        let every = Duration::from_millis(50);
        let wanted = Wanted { len: 10, seed: 0, step: 3, every };
        assert_eq!(Wanted::of("/generate/10?step=3&every_ms=50"), Some(wanted));
        for path in ["/generate/x", "/generate/10?seed=x", "/generate/10?pace=3", "/other"] {
            assert_eq!(Wanted::of(path), None, "{path}");
        }
        let mut answer = Vec::new();
        send_generated(&mut answer, "GET /generate/10?step=3&every_ms=1 HTTP/1.1").unwrap();
        let mut body = [0; 10];
        pattern::fill(0, 0, &mut body);
        assert!(answer.ends_with(&body), "{answer:?}");
    }
}
