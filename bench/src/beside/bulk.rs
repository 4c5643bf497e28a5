//! One connection at full speed: how many bits a second arrive.
//!
//! Downloads are a generated object, checked at the start of every read against what it must be there;
//! uploads go to `discard` and count what the other side acknowledged. Before each turn a small upload
//! is answered with its hash. Nothing touches a disk. Neither end leaves work to hardware that does
//! not exist, so a segment is a frame for every contender.
//!
//! Units: samples are Gbit/s of payload.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddrV4, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Args;
use serde::{Deserialize, Serialize};
use tools::demo::bed::{Cable, Layout};
use tools::load::pattern;
use tools::load::wire::acked;

use crate::Common;
use crate::hand::Stream;
use crate::report::{Bound, Case, Fact, Report, Spread};
use crate::stage::{Contender, Server, Service, Stage};

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

/// Arguments of `beside bulk`.
#[derive(Args, Clone, Debug)]
pub struct BulkArgs {
    #[command(flatten)]
    pub common: Common,
    /// MTUs of the link.
    #[arg(long, value_delimiter = ',', default_values_t = [1500, 9000])]
    mtu: Vec<u32>,
    /// MTU of the cluster's link. One above that of the clients' link has room for the log's headers: each segment
    /// is then one record, in one datagram.
    #[arg(long, default_value_t = 9216)]
    link_mtu: u32,
    /// How long each transfer is measured, in milliseconds.
    #[arg(long, default_value_t = 1500)]
    ms: u64,
}

/// What a transfer came to.
#[derive(Serialize, Deserialize, Debug)]
pub struct Moved {
    /// Bytes that count.
    pub bytes: u64,
    /// In this time.
    pub ns: u64,
}

/// Measures.
pub fn run(args: &BulkArgs, common: &Common) -> anyhow::Result<Report> {
    let mut cases = Vec::new();
    let mut facts = Vec::new();
    for &mtu in &args.mtu {
        let measured = at_mtu(args, common, mtu);
        let [down, up] = measured.with_context(|| format!("with an MTU of {mtu}"))?;
        facts.push(mirrored_to_alone(&down));
        cases.extend([down, up]);
    }
    let conditions = vec![
        format!(
            "One connection over a cable of its own, {} rounds of {} ms each, offloads off at both ends.",
            common.rounds, args.ms
        ),
        format!("The cluster's link has an MTU of {}.", args.link_mtu),
        places(common),
    ];
    Ok(Report::new("bulk", conditions, cases, facts))
}

/// What mirroring leaves of a download.
fn mirrored_to_alone(down: &Case) -> Fact {
    let samples = |contender: Contender| {
        let rows = down.rows.iter().filter(move |row| row.contender == contender.name());
        rows.flat_map(|row| row.samples.iter().copied())
    };
    let pairs = samples(Contender::Mirrored).zip(samples(Contender::Alone));
    let ratios: Vec<f64> = pairs.map(|(mirrored, alone)| mirrored / alone).collect();
    let median = Spread::of(&ratios).map_or(0.0, |spread| spread.median);
    let name = format!("{}: mirrored against alone, median", down.name);
    Fact::new(name, median, "times").goal(Bound::AtLeast(0.9))
}

/// Who ran on which processor.
pub fn places(common: &Common) -> String {
    format!(
        "Client on processor {}, kernel server or owner's core on {}, peer's core and witness on {}.",
        common.client_cpu,
        common.server_cpu,
        common.peer_cpu()
    )
}

fn at_mtu(args: &BulkArgs, common: &Common, mtu: u32) -> anyhow::Result<[Case; 2]> {
    // What a frame on this bed costs leaves us less than all of it (GOALS).
    let goal = if mtu > 4000 { 0.95 } else { 0.85 };
    let case = |direction: &str| {
        let name = format!("{direction}, MTU {mtu}");
        Case::new(name, "Gbit/s", &Contender::names()).goal("alone", Bound::AtLeast(goal))
    };
    let mut cases = [case("download"), case("upload")];
    let link_mtu = args.link_mtu;
    let layout = Layout { cable: Cable::Direct, mtu, link_mtu, ..Layout::default() };
    let stage = Stage::new(common, &format!("bulk-{mtu}"), layout)?;
    for round in 1..=common.rounds {
        for contender in Contender::ALL {
            let name = contender.name();
            let server = stage.start(contender).with_context(|| name.to_string())?;
            let [down, up] = turn(args, &stage, &server).with_context(|| name.to_string())?;
            eprintln!(
                "MTU {mtu}, round {round} of {}: {name}, down {down:.2}, up {up:.2} Gbit/s",
                common.rounds
            );
            cases[0].add(name, down);
            cases[1].add(name, up);
        }
    }
    Ok(cases)
}

fn turn(args: &BulkArgs, stage: &Stage<'_>, server: &Server<'_>) -> anyhow::Result<[f64; 2]> {
    let target = |service| format!("--target={}", server.target(service));
    let _: Moved = stage.ask(&["prove".into(), target(Service::Web)])?;
    let ms = format!("--ms={}", args.ms);
    let down: Moved = stage.ask(&["download".into(), target(Service::Web), ms.clone()])?;
    let up: Moved = stage.ask(&["upload".into(), target(Service::Discard), ms])?;
    Ok([down, up].map(|moved| moved.gigabits()))
}

impl Moved {
    /// Gbit/s.
    pub fn gigabits(&self) -> f64 {
        self.bytes as f64 * 8.0 / self.ns as f64
    }
}

fn connect(target: SocketAddrV4) -> anyhow::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&target.into(), PATIENCE)
        .with_context(|| format!("cannot connect to {target}"))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// The hand that downloads.
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
            None if now - begin >= args.warm() => first = Some((now, offset)),
            Some((since, from)) if now - since >= args.measured() => {
                return Ok(Moved { bytes: offset - from, ns: (now - since).as_nanos() as u64 });
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

/// The hand that uploads.
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
            None if now - begin >= args.warm() => first = Some((now, acked(&stream))),
            Some((since, from)) if now - since >= args.measured() => {
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
    Ok(Moved { bytes: moved, ns })
}

/// The hand that proves that the bytes of an upload arrive.
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
    Ok(Moved { bytes: PROOF_BYTES as u64, ns: begin.elapsed().as_nanos() as u64 })
}
