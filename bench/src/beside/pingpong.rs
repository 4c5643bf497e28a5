//! Small exchanges on one connection: how long each takes, from write to the last byte of the echo.
//!
//! The client blocks in `read`, as does the kernel's echo server; a node polls.
//!
//! Units: samples are microseconds.

use std::io::{Read, Write};
use std::net::{SocketAddrV4, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Args;
use serde::{Deserialize, Serialize};
use tools::demo::bed::{Cable, Layout};

use crate::Common;
use crate::bulk::places;
use crate::report::{Bound, Case, Report};
use crate::stage::{Contender, Service, Stage};

/// Exchanges before anything counts.
const WARM: usize = 500;

/// How long an exchange may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Arguments of `beside pingpong`.
#[derive(Args, Clone, Debug)]
pub struct PingpongArgs {
    #[command(flatten)]
    pub common: Common,
    /// Bytes of an exchange.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 64])]
    bytes: Vec<usize>,
    /// Exchanges in each turn.
    #[arg(long, default_value_t = 20_000)]
    count: usize,
}

/// What a turn came to, in nanoseconds.
#[derive(Serialize, Deserialize, Debug)]
pub struct Percentiles {
    /// Half of the exchanges took at most this.
    pub p50: u64,
    /// 99 of 100.
    pub p99: u64,
    p999: u64,
}

/// Measures.
pub fn run(args: &PingpongArgs, common: &Common) -> anyhow::Result<Report> {
    let mut cases: Vec<Case> = args.bytes.iter().flat_map(|bytes| cases(*bytes)).collect();
    let layout = Layout { cable: Cable::Direct, ..Layout::default() };
    let stage = Stage::new(common, "pingpong", layout)?;
    for round in 1..=common.rounds {
        for contender in Contender::ALL {
            let name = contender.name();
            let server = stage.start(contender).with_context(|| name.to_string())?;
            for (bytes, cases) in args.bytes.iter().zip(cases.chunks_mut(3)) {
                let words = [
                    "pingpong".into(),
                    format!("--target={}", server.target(Service::Echo)),
                    format!("--bytes={bytes}"),
                    format!("--count={}", args.count),
                ];
                let found: Percentiles = stage.ask(&words).with_context(|| name.to_string())?;
                let found = [found.p50, found.p99, found.p999].map(|ns| ns as f64 / 1000.0);
                eprintln!(
                    "{bytes} bytes, round {round} of {}: {name}, p50 {:.1}, p99 {:.1}, p99.9 {:.1} us",
                    common.rounds, found[0], found[1], found[2]
                );
                cases.iter_mut().zip(found).for_each(|(case, us)| case.add(name, us));
            }
        }
    }
    let conditions = vec![
        format!("{} rounds of {} exchanges, a cable of their own.", common.rounds, args.count),
        places(common),
    ];
    Ok(Report::new("pingpong", conditions, cases, Vec::new()))
}

fn cases(bytes: usize) -> [Case; 3] {
    let case = |percentile: &str| {
        let name = format!("{percentile} of exchanges of {bytes} bytes");
        Case::new(name, "us", &Contender::names())
    };
    [
        case("p50").goal("alone", Bound::AtMost(0.5)).goal("mirrored", Bound::AtMost(0.8)),
        case("p99").goal("alone", Bound::AtMost(1.0)),
        case("p99.9"),
    ]
}

/// The hand that exchanges.
pub fn exchange(target: SocketAddrV4, bytes: usize, count: usize) -> anyhow::Result<Percentiles> {
    let mut stream = TcpStream::connect_timeout(&target.into(), PATIENCE)
        .with_context(|| format!("cannot connect to {target}"))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let (mut message, mut echo) = (vec![0; bytes], vec![0; bytes]);
    let mut times = Vec::with_capacity(count);
    for number in 0..count + WARM {
        tools::load::pattern::fill(number as u64, 0, &mut message);
        let begin = Instant::now();
        stream.write_all(&message)?;
        stream.read_exact(&mut echo)?;
        let took = begin.elapsed().as_nanos() as u64;
        if echo != message {
            bail!("exchange {number} came back different");
        }
        if number >= WARM {
            times.push(took);
        }
    }
    times.sort_unstable();
    let at = |permille: usize| times[(times.len() - 1) * permille / 1000];
    Ok(Percentiles { p50: at(500), p99: at(990), p999: at(999) })
}
