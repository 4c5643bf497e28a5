//! One connection at full speed: how many bytes a second arrive.
//!
//! Downloads are a generated object, checked at the start of every read against what it must be there; uploads go to a
//! service that forgets them, and count what the other side acknowledged. `--prove` uploads a little instead and compares
//! the hash that comes back.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddrV4, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};

use crate::load::pattern;
use crate::load::wire::acked;
use crate::print;

/// Which object is downloaded.
const SEED: u64 = 7;

/// Bytes of it: more than any run can take.
const OBJECT_BYTES: u64 = 1 << 40;

/// Bytes read or written by one call.
const CALL_BYTES: usize = 256 << 10;

/// Bytes of each read that are compared.
const COMPARED_BYTES: usize = 64;

/// Bytes of the upload whose hash is compared.
const PROOF_BYTES: usize = 2 << 20;

/// How long a connection may say nothing.
const PATIENCE: Duration = Duration::from_secs(10);

/// Which way the bytes go.
#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// From the server: a generated object.
    Down,
    /// To the server, which forgets it.
    Up,
    /// A little to the server, which answers with its hash.
    Prove,
}

/// Arguments of `understudy bench bulk`.
#[derive(Args, Debug, Clone)]
pub struct BulkArgs {
    /// Which way the bytes go.
    #[arg(value_enum)]
    pub way: Way,
    /// Where and how long.
    #[command(flatten)]
    pub stream: Stream,
    /// Print the outcome as JSON.
    #[arg(long)]
    pub json: bool,
}

/// A bulk transfer.
#[derive(Args, Debug, Clone)]
pub struct Stream {
    /// The service: http (down, prove) or discard (up).
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub target: SocketAddrV4,
    /// How long is measured.
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 5_000)]
    pub ms: u64,
    /// How long it runs before that.
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 300)]
    pub warm_ms: u64,
}

/// What a transfer came to.
#[derive(Serialize, Deserialize, Debug)]
pub struct Moved {
    /// Bytes that count.
    pub bytes: u64,
    /// In this time.
    pub ns: u64,
    /// Bytes of the whole connection.
    pub total: u64,
}

impl Moved {
    /// Gbit/s.
    pub fn gigabits(&self) -> f64 {
        self.bytes as f64 * 8.0 / self.ns as f64
    }
}

/// Moves bytes, and says how fast.
pub fn main(args: &BulkArgs) -> anyhow::Result<bool> {
    let moved = match args.way {
        Way::Down => download(&args.stream)?,
        Way::Up => upload(&args.stream)?,
        Way::Prove => prove(args.stream.target)?,
    };
    let text = match args.json {
        true => serde_json::to_string(&moved)? + "\n",
        false => {
            let (mb, seconds) = (moved.bytes as f64 / 1e6, moved.ns as f64 / 1e9);
            let rate = moved.gigabits();
            format!("{mb:.1} MB in {seconds:.2} s: {rate:.2} Gbit/s, {:.0} MB/s\n", mb / seconds)
        }
    };
    print(&text);
    Ok(true)
}

fn connect(target: SocketAddrV4) -> anyhow::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&target.into(), PATIENCE)
        .with_context(|| format!("cannot connect to {target}"))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Reads as fast as it can.
pub fn download(args: &Stream) -> anyhow::Result<Moved> {
    let mut stream = connect(args.target)?;
    let request = format!("GET /generate/{OBJECT_BYTES}?seed={SEED} HTTP/1.1\r\nHost: x\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    skip_head(&mut stream)?;
    let mut buffer = vec![0; CALL_BYTES];
    let mut offset = 0;
    let begin = Instant::now();
    let mut first = None;
    loop {
        let len = stream.read(&mut buffer)?;
        if len == 0 {
            bail!("the download ended after {offset} bytes");
        }
        let compared = &buffer[..len.min(COMPARED_BYTES)];
        if let Some(at) = pattern::first_difference(SEED, offset, compared) {
            bail!("byte {at} of the download is wrong");
        }
        offset += len as u64;
        let now = Instant::now();
        match first {
            None if now - begin >= Duration::from_millis(args.warm_ms) => {
                first = Some((now, offset))
            }
            Some((since, from)) if now - since >= Duration::from_millis(args.ms) => {
                let ns = (now - since).as_nanos() as u64;
                return Ok(Moved { bytes: offset - from, ns, total: offset });
            }
            _ => {}
        }
    }
}

/// Reads an HTTP head byte by byte.
fn skip_head(stream: &mut TcpStream) -> anyhow::Result<String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

/// Writes as fast as it can.
pub fn upload(args: &Stream) -> anyhow::Result<Moved> {
    let mut stream = connect(args.target)?;
    let mut buffer = vec![0; CALL_BYTES];
    pattern::fill(SEED, 0, &mut buffer);
    let mut written = 0;
    let begin = Instant::now();
    let mut first = None;
    let (moved, ns) = loop {
        written += stream.write(&buffer)? as u64;
        let now = Instant::now();
        match first {
            None if now - begin >= Duration::from_millis(args.warm_ms) => {
                first = Some((now, acked(&stream)))
            }
            Some((since, from)) if now - since >= Duration::from_millis(args.ms) => {
                break (acked(&stream) - from, (now - since).as_nanos() as u64);
            }
            _ => {}
        }
    };
    stream.shutdown(Shutdown::Write)?;
    let rest = stream.read(&mut buffer)?;
    // The kernel counts the SYN, and the FIN has been acknowledged as well if the other side is done.
    let held = acked(&stream);
    if rest != 0 || held < written || held > written + 2 {
        bail!("{written} bytes were written, {held} acknowledged, {rest} came back");
    }
    Ok(Moved { bytes: moved, ns, total: written })
}

/// Proves that the bytes of an upload arrive.
pub fn prove(target: SocketAddrV4) -> anyhow::Result<Moved> {
    let mut stream = connect(target)?;
    let mut body = vec![0; PROOF_BYTES];
    pattern::fill(SEED, 0, &mut body);
    let begin = Instant::now();
    let head = format!(
        "PUT / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {PROOF_BYTES}\r\n\r\n"
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(&body)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let hash = pattern::sha256(SEED, PROOF_BYTES as u64);
    if !answer.contains(&hash) {
        bail!("the upload was answered with {answer:?}, not with the hash {hash}");
    }
    let bytes = PROOF_BYTES as u64;
    Ok(Moved { bytes, ns: begin.elapsed().as_nanos() as u64, total: bytes })
}
