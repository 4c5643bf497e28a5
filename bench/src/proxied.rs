//! Connections that are passed on to a server: both ends of each as frame generators, the pair between them.
//!
//! Both ends have timestamps, SACK permitted and window scaling, and acknowledge what they get when they next speak. Acknowledgements
//! are end to end, as a node has them by itself. What is counted for each segment is all that it takes on the owner: from the one leg, to
//! the other, and the acknowledgement back.

use crate::burst::Burst;
use crate::client::{OWNER_MAC, PORT, ROUTER_MAC, SERVICE};
use crate::pair::{self, BURST_SEGMENTS, Link, Pair};
use crate::step::{PerStep, Step, step_ack};
use stack::app::AppConfig;
use stack::app::proxy::Ack;
use stack::seq::Seq;
use stack::service::Service;
use stack::time::{Duration, Instant};
use stack::upstream::{Server, Upstream};
use stack::wire::{
    Address, Flags, Frame, Header, Mac, Path, Segment, SegmentOptions, emit_address, emit_tcp,
    parse, payload_offset,
};
use std::collections::HashMap;

/// Connections.
pub const CONNECTIONS: usize = BURST_SEGMENTS;

/// Segments of a stream that come in one burst.
pub const STREAM_SEGMENTS: usize = 32;

/// Payload of a full segment beside timestamps.
pub const FULL_BYTES: usize = 1448;

const SERVER_MAC: Mac = [2, 0, 0, 0, 0, 8];
const SERVER: [u8; 4] = [192, 0, 2, 8];
const SOURCE: [u8; 4] = [192, 0, 2, 3];
const WINDOW_SCALE: u8 = 7;
/// How long an end takes to answer.
const END_DELAY: Duration = Duration::from_micros(200);
/// From one word of a connection to the next: longer than every timer that it sets.
const REST: Duration = Duration::from_secs(1);
/// Rounds within which a connection is open.
const OPEN_ROUNDS: usize = 20;
/// Bursts of a stream before it is measured: the congestion window is open then.
const STREAM_BEGINNING: usize = 8;

/// Which end of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Side {
    Client,
    Server,
}

/// One end of a connection.
struct End {
    mac: Mac,
    address: Address,
    port: u16,
    /// Of the owner's.
    other: (Address, u16),
    snd_nxt: Seq,
    rcv_nxt: Seq,
    ts_echo: u32,
}

/// See the module.
pub struct Proxied {
    pair: Pair,
    clients: Vec<End>,
    servers: Vec<End>,
    /// The connection of which a port of the owner's is the source.
    by_port: HashMap<u16, usize>,
}

impl Proxied {
    /// [`CONNECTIONS`] of them, all open.
    pub fn new(link: Link) -> Proxied {
        let mut proxied = Proxied {
            pair: Pair::new(2 * CONNECTIONS, link, &service(link)),
            clients: Vec::new(),
            servers: Vec::new(),
            by_port: HashMap::new(),
        };
        for index in 0..CONNECTIONS {
            proxied.open(index);
        }
        proxied.pair.check();
        proxied
    }

    /// A client comes, and the owner opens a connection to the server for it.
    fn open(&mut self, index: usize) {
        let unmeasured = &mut PerStep::default();
        let mut client = End::new(index, ROUTER_MAC, ([10, 0, 0, 1], 10_000 + index as u16));
        client.other = (Address::v4(SERVICE), PORT);
        self.pair.frames.clear();
        client.say(self.pair.now, Flags::SYN, 0, &mut self.pair.frames);
        self.clients.push(client);
        for _ in 0..OPEN_ROUNDS {
            self.pair.exchange(unmeasured);
            self.answer();
            let is_quiet = self.pair.frames.is_empty();
            if is_quiet && self.servers.len() > index {
                return;
            }
            // Before the first one opens, the owner may have to ask again where the server is.
            self.pair.now += if is_quiet { REST } else { END_DELAY };
            let now = self.pair.now;
            self.pair.owner.handle_timeouts(now);
        }
        panic!("connection {index} does not open");
    }

    /// What the ends answer to what the owner says while a connection opens.
    fn answer(&mut self) {
        let Proxied { pair: Pair { now, frames, out, .. }, clients, servers, by_port } = self;
        frames.clear();
        for frame in out.iter() {
            let mac = if frame[..6] == ROUTER_MAC { ROUTER_MAC } else { SERVER_MAC };
            let segment = match parse(frame, &mac, &[]) {
                Ok(Frame::AddressQuery { sender_mac, sender, target, is_claim: false })
                    if target == Address::v4(SERVER) =>
                {
                    let to = Some((sender_mac, sender));
                    let len = emit_address(frames.room(), &SERVER_MAC, &target, to);
                    frames.push(len);
                    continue;
                }
                Ok(Frame::Tcp(segment)) => segment,
                _ => continue,
            };
            if mac == ROUTER_MAC {
                let client = clients.last_mut().expect("it has come");
                client.hear(&segment);
                client.say(*now, Flags::ACK, 0, frames);
            } else if segment.flags.has(Flags::SYN) {
                let mut server = End::new(servers.len(), SERVER_MAC, (SERVER, PORT));
                server.other = (segment.source, segment.source_port);
                server.hear(&segment);
                server.say(*now, Flags::SYN.with(Flags::ACK), 0, frames);
                by_port.insert(segment.source_port, servers.len());
                servers.push(server);
            } else {
                servers.last_mut().expect("it has answered").hear(&segment);
            }
        }
    }

    /// Each client says a word of `bytes`, is answered by one as long, and rests: `bursts` times. Answers how many segments with payload
    /// went through.
    pub fn run_words(&mut self, bursts: usize, bytes: usize, spent: &mut PerStep) -> usize {
        for _ in 0..bursts {
            for side in [Side::Client, Side::Server] {
                self.pair.frames.clear();
                let Proxied { pair: Pair { now, frames, .. }, clients, servers, .. } = self;
                let ends = if side == Side::Client { clients } else { servers };
                for end in ends {
                    end.say(*now, Flags::ACK.with(Flags::PSH), bytes, frames);
                }
                self.pair.exchange(spent);
                assert_eq!(self.hear(), CONNECTIONS * bytes, "every word arrives at once");
                self.pair.now += END_DELAY;
            }
            let all: Vec<usize> = (0..CONNECTIONS).collect();
            self.acknowledge(Side::Client, &all, spent);
            self.pair.now += REST;
            self.pair.let_timers_run(spent);
            self.hear();
        }
        self.pair.check();
        2 * bursts * CONNECTIONS
    }

    /// Opens the congestion window of the connection that carries streams.
    pub fn begin_stream(&mut self) {
        self.run_stream(STREAM_BEGINNING, &mut PerStep::default());
    }

    /// One connection carries a stream of full segments from the server to the client, in `bursts` bursts. Answers how many segments
    /// went through.
    pub fn run_stream(&mut self, bursts: usize, spent: &mut PerStep) -> usize {
        const CONNECTION: usize = 0;
        let mut arrived = 0;
        for _ in 0..bursts {
            self.pair.frames.clear();
            let Proxied { pair: Pair { now, frames, .. }, servers, .. } = self;
            for _ in 0..STREAM_SEGMENTS {
                servers[CONNECTION].say(*now, Flags::ACK, FULL_BYTES, frames);
            }
            self.pair.exchange(spent);
            // A congestion window that is small yet lets the rest out as it is acknowledged.
            for _ in 0..STREAM_SEGMENTS {
                arrived += self.hear();
                self.pair.now += END_DELAY;
                self.acknowledge(Side::Client, &[CONNECTION], spent);
                if self.pair.out.is_empty() {
                    break;
                }
            }
        }
        assert_eq!(arrived, bursts * STREAM_SEGMENTS * FULL_BYTES, "the whole stream arrives");
        self.pair.check();
        bursts * STREAM_SEGMENTS
    }

    /// These ends acknowledge all that they have got; what follows from that is in `out`.
    fn acknowledge(&mut self, side: Side, which: &[usize], spent: &mut PerStep) {
        let Proxied { pair, clients, servers, .. } = self;
        pair.frames.clear();
        let ends = if side == Side::Client { clients } else { servers };
        for &index in which {
            ends[index].say(pair.now, Flags::ACK, 0, &mut pair.frames);
        }
        let Pair { owner, now, frames, out, .. } = pair;
        out.clear();
        pair::timed(Step::Ack, spent, || step_ack(owner, *now, frames, out));
        pair.mirror(spent);
    }

    /// The ends take what the owner says; answers the bytes of payload among it.
    fn hear(&mut self) -> usize {
        let Proxied { pair, clients, servers, by_port } = self;
        let mut bytes = 0;
        for frame in pair.out.iter() {
            let mac = if frame[..6] == ROUTER_MAC { ROUTER_MAC } else { SERVER_MAC };
            let Ok(Frame::Tcp(segment)) = parse(frame, &mac, &[]) else { continue };
            let end = match mac == ROUTER_MAC {
                true => &mut clients[usize::from(segment.destination_port - 10_000)],
                false => &mut servers[by_port[&segment.source_port]],
            };
            bytes += end.hear(&segment);
        }
        bytes
    }
}

impl End {
    fn new(index: usize, mac: Mac, (address, port): ([u8; 4], u16)) -> End {
        let snd_nxt = Seq((index as u32).wrapping_mul(0x9e37_79b9));
        let (address, other) = (Address::v4(address), (Address::default(), 0));
        End { mac, address, port, other, snd_nxt, rcv_nxt: Seq(0), ts_echo: 0 }
    }

    fn say(&mut self, now: Instant, flags: Flags, bytes: usize, burst: &mut Burst) {
        let path = Path {
            source_mac: self.mac,
            destination_mac: OWNER_MAC,
            source: self.address,
            destination: self.other.0,
            hop_limit: 64,
        };
        let is_syn = flags.has(Flags::SYN);
        let options = SegmentOptions {
            mss: is_syn.then_some(1460),
            window_scale: is_syn.then_some(WINDOW_SCALE),
            sack_permitted: is_syn,
            timestamps: Some(((now.0 / 1_000_000) as u32, self.ts_echo)),
            ..SegmentOptions::default()
        };
        let header = Header {
            source_port: self.port,
            destination_port: self.other.1,
            seq: self.snd_nxt,
            ack: self.rcv_nxt,
            flags,
            window: 0xffff,
            options,
        };
        self.snd_nxt += bytes as u32 + u32::from(is_syn);
        let buffer = burst.room();
        let at = payload_offset(&path.destination, &options);
        buffer[at..at + bytes].fill(0x5a);
        let len = emit_tcp(buffer, &path, &header, bytes);
        burst.push(len);
    }

    /// Takes a segment of the owner; answers its payload's bytes.
    fn hear(&mut self, segment: &Segment) -> usize {
        assert!(!segment.flags.has(Flags::RST), "the owner resets port {}", self.port);
        let is_syn = segment.flags.has(Flags::SYN);
        assert!(is_syn || segment.is_empty() || segment.seq == self.rcv_nxt, "in order");
        if is_syn || !segment.is_empty() {
            self.rcv_nxt = segment.seq + segment.len();
        }
        self.ts_echo = segment.options.timestamps.map_or(self.ts_echo, |(value, _)| value);
        segment.payload.len()
    }
}

fn service(link: Link) -> Service {
    let server = Server {
        address: Address::v4(SERVER),
        port: PORT,
        weight: 1,
        next_hop: Address::v4(SERVER),
        is_retired: false,
        is_backup: false,
        connections_max: 0,
    };
    let upstream = Upstream {
        servers: vec![server],
        sources: vec![Address::v4(SOURCE)],
        attempts_max: 3,
        ..Upstream::default()
    };
    let service = pair::service(AppConfig::Proxy(Ack::EndToEnd), SERVICE, PORT, link);
    Service { receive_buffer: 1 << 20, upstream, ..service }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_streams_go_through_and_the_peer_holds_every_connection() {
        let mut proxied = Proxied::new(Link { mtu: 1500, is_sealed: true, is_heard: false });
        let mut spent = PerStep::default();
        assert_eq!(proxied.run_words(3, 64, &mut spent), 6 * CONNECTIONS);
        assert_eq!(proxied.run_stream(10, &mut spent), 10 * STREAM_SEGMENTS);
        let continued = proxied.pair.owner.stack().counters().rx_continued;
        assert_eq!(continued, 10 * (STREAM_SEGMENTS as u64 - 1), "of each burst all but the first");
        let steps = Step::ALL.iter().filter(|&&step| step != Step::Hear);
        assert!(steps.into_iter().all(|&step| spent.of(step) > 0.0), "{spent:?}");
    }
}
