//! A server's machine, to which proxied connections are passed on: an independent TCP, as many connections as come.
//!
//! What it does in a connection, the first bytes of it say ([`Order`]); so its client knows every byte that must come back,
//! and a byte that was lost, repeated or altered on the way there shows in what comes back.
//!
//! Bounds: [`CONNECTIONS_MAX`] connections; one more is refused.

use crate::kit::client;
use crate::kit::packets::{self, Packets, smol};
use crate::kit::settings::{SOURCE, SOURCE_6, Settings};
use crate::sim::neighbor::Neighbor;
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};
use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr, IpEndpoint};
use stack::app::proxy::header::HeaderVersion;
use stack::generate;
use stack::sha256::Sha256;
use stack::time::{Duration, Instant};
use stack::wire::{Address, Flags, Frame, Mac, Segment, parse};
use std::net::IpAddr;

/// Connections that a server has at once.
const CONNECTIONS_MAX: usize = 64;
/// Bytes of each of a connection's two buffers.
const BUFFER: usize = 6000;
/// Bytes of an order.
pub const ORDER_BYTES: usize = 9;
/// Bytes of it that say how many bytes are wanted.
const LEN_BYTES: usize = 6;

/// What a client wants of its server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Kind {
    /// Everything behind the order back.
    Echo = b'e',
    /// A generated stream of this length.
    Generate = b'g',
    /// So many bytes are said, their hash is wanted.
    Digest = b'd',
}

/// The first bytes of a connection: what is wanted, and how much.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Order {
    /// What.
    pub kind: Kind,
    /// How many bytes.
    pub len: usize,
    /// How long the server thinks before it says anything.
    pub pause_ms: u16,
}

impl Order {
    /// As it is said.
    pub fn bytes(&self) -> [u8; ORDER_BYTES] {
        let mut bytes = [self.kind as u8; ORDER_BYTES];
        let (len, pause) = bytes[1..].split_at_mut(LEN_BYTES);
        len.copy_from_slice(&(self.len as u64).to_le_bytes()[..LEN_BYTES]);
        pause.copy_from_slice(&self.pause_ms.to_le_bytes());
        bytes
    }

    fn read(bytes: &[u8]) -> Option<Order> {
        let (&kind, rest) = bytes.split_first()?;
        let (len, pause) = rest.split_at_checked(LEN_BYTES)?;
        let len = len.iter().rev().fold(0, |len, &byte| len << 8 | usize::from(byte));
        let pause_ms = u16::from_le_bytes(*pause.first_chunk()?);
        let kinds = [Kind::Echo, Kind::Generate, Kind::Digest];
        let kind = kinds.into_iter().find(|known| *known as u8 == kind)?;
        Some(Order { kind, len, pause_ms })
    }

    /// What comes back for these bytes behind the order.
    pub fn answer(&self, said: &[u8]) -> Vec<u8> {
        match self.kind {
            Kind::Echo => said.to_vec(),
            Kind::Generate => {
                let mut bytes = vec![0; self.len];
                generate::fill(self.len as u64, 0, &mut bytes);
                bytes
            }
            Kind::Digest => Sha256::digest(said).to_vec(),
        }
    }
}

/// One connection.
struct Connection {
    handle: SocketHandle,
    /// Everything heard, from the first byte on.
    heard: Vec<u8>,
    /// What is to be said for that.
    answer: Vec<u8>,
    /// Bytes of it that are in the send buffer.
    answered: usize,
    /// When the first of them may be said; never before the order is known.
    answers_at: Option<Instant>,
}

impl Connection {
    /// Whether it has thought for long enough.
    fn may_answer(&self, now: Instant) -> bool {
        self.answers_at.is_some_and(|at| at <= now)
    }
}

/// One server's machine.
pub struct Server {
    number: usize,
    seed: u64,
    header: Option<HeaderVersion>,
    is_v6: bool,
    wire: Packets,
    interface: Interface,
    sockets: SocketSet<'static>,
    connections: Vec<Connection>,
    /// The program runs; without it whoever connects is refused.
    is_listening: bool,
    neighbor: Neighbor,
    /// What it was told that no proxy may say.
    pub complaint: Option<String>,
}

impl Server {
    /// A server that has just started; `number` is its own among clients and servers.
    pub fn new(now: Instant, number: usize, seed: u64, settings: &Settings) -> Server {
        Server::start(now, number, seed, (settings.header, settings.is_server_6(number)))
    }

    fn start(
        now: Instant,
        number: usize,
        seed: u64,
        (header, is_v6): (Option<HeaderVersion>, bool),
    ) -> Server {
        let mut wire = Packets::default();
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = seed ^ now.0 ^ (number as u64) << 40;
        let mut interface = Interface::new(config, &mut wire, smol(now));
        let (address, source) = match is_v6 {
            false => (Address::v4(client::address(number)), Address::v4(SOURCE)),
            true => (Address(client::address_6(number)), Address(SOURCE_6)),
        };
        interface.update_ip_addrs(|list| {
            list.push(IpCidr::new(ip(&address), 8)).expect("room for one address");
        });
        let own = (client::mac(number), address);
        Server {
            number,
            seed,
            header,
            is_v6,
            wire,
            interface,
            sockets: SocketSet::new(Vec::new()),
            connections: Vec::new(),
            is_listening: true,
            neighbor: Neighbor::new(now, own, source, 0),
            complaint: None,
        }
    }

    /// Whether its program runs.
    pub fn is_listening(&self) -> bool {
        self.is_listening
    }

    /// Its program ends: every connection is reset, and nobody listens.
    pub fn stop(&mut self) {
        self.is_listening = false;
        for connection in &self.connections {
            self.sockets.get_mut::<Socket>(connection.handle).abort();
        }
    }

    /// Its machine has no power: whoever plugs it in again finds nobody, until it starts anew.
    pub fn lose_power(&mut self) {
        self.is_listening = false;
        self.sockets = SocketSet::new(Vec::new());
        self.connections.clear();
    }

    /// It starts anew and knows of no connection.
    pub fn restart(&mut self, now: Instant) {
        *self = Server::start(now, self.number, self.seed, (self.header, self.is_v6));
    }

    /// When [`Server::poll`] is due.
    pub fn poll_timeout(&mut self, now: Instant) -> Option<Instant> {
        let at = self.interface.poll_at(smol(now), &self.sockets);
        let at = at.map(|at| Instant(at.total_micros() as u64 * 1_000));
        let thinks = self.connections.iter().filter(|connection| !connection.may_answer(now));
        let answers = thinks.filter_map(|connection| connection.answers_at).min();
        [at, self.neighbor.poll_timeout(), answers].into_iter().flatten().min()
    }

    /// Does what is due; frames to send come out.
    pub fn poll(&mut self, now: Instant) -> Vec<Vec<u8>> {
        packets::set_clock(now);
        // Each connection may have something to do for what another poll has changed; the bound is far above any need.
        for _ in 0..64 {
            self.interface.poll(smol(now), &mut self.wire, &mut self.sockets);
            if !self.serve(now) && self.wire.incoming.is_empty() {
                break;
            }
        }
        self.interface.poll(smol(now), &mut self.wire, &mut self.sockets);
        self.forget();
        let Server { wire, neighbor, .. } = self;
        neighbor.poll(now, std::iter::from_fn(|| wire.outgoing.pop_front()))
    }

    /// Takes a frame from the switch; an answer to a question may come out.
    pub fn handle_frame(&mut self, now: Instant, frame: &[u8]) -> Option<Vec<u8>> {
        let to: Mac = frame[..6].try_into().expect("frames have headers");
        match parse(frame, &to, &[]) {
            Ok(Frame::Tcp(segment)) => {
                self.neighbor.note_heard(now);
                self.expect(&segment);
                self.wire.incoming.push_back(frame[14..].to_vec());
                self.interface.poll(smol(now), &mut self.wire, &mut self.sockets);
                None
            }
            Ok(other) => self.neighbor.handle_frame(now, to, &other),
            Err(_) => None,
        }
    }

    /// One more socket listens, if somebody new connects: nobody else may be taken by it.
    fn expect(&mut self, segment: &Segment) {
        let from = IpEndpoint::new(ip(&segment.source), segment.source_port);
        let is_it = |connection: &Connection| {
            self.sockets.get::<Socket>(connection.handle).remote_endpoint() == Some(from)
        };
        if !self.is_listening
            || !segment.flags.has(Flags::SYN)
            || self.connections.len() == CONNECTIONS_MAX
            || self.connections.iter().any(is_it)
        {
            return;
        }
        let buffer = || SocketBuffer::new(vec![0; BUFFER]);
        let mut socket = Socket::new(buffer(), buffer());
        socket.set_nagle_enabled(false);
        socket.set_tsval_generator(Some(packets::clock));
        socket.listen(client::port(self.number)).expect("a fresh socket listens");
        let handle = self.sockets.add(socket);
        self.connections.push(Connection {
            handle,
            heard: Vec::new(),
            answer: Vec::new(),
            answered: 0,
            answers_at: None,
        });
    }

    /// Takes and answers what has come; whether that was anything.
    fn serve(&mut self, now: Instant) -> bool {
        let Server { sockets, connections, header, complaint, .. } = self;
        let mut moved = false;
        for connection in connections {
            let socket = sockets.get_mut::<Socket>(connection.handle);
            let mut buffer = [0; 2048];
            let before = connection.heard.len();
            while let Ok(len) = socket.recv_slice(&mut buffer)
                && len > 0
            {
                connection.heard.extend_from_slice(&buffer[..len]);
            }
            if connection.heard.len() > before {
                moved = true;
                match answer(&connection.heard, *header) {
                    Ok(Some((order, answer))) => {
                        let pause = Duration::from_millis(order.pause_ms.into());
                        connection.answer = answer;
                        connection.answers_at.get_or_insert(now + pause);
                    }
                    Ok(None) => {}
                    Err(why) => *complaint = Some(why),
                }
            }
            let rest = connection.answer.get(connection.answered..).unwrap_or(&[]);
            if !rest.is_empty() && connection.may_answer(now) && socket.may_send() {
                let said = socket.send_slice(rest).unwrap_or(0);
                connection.answered += said;
                moved |= said > 0;
            }
            let is_said = connection.answered == connection.answer.len();
            if is_said && socket.state() == State::CloseWait {
                socket.close();
                moved = true;
            }
        }
        moved
    }

    /// What is over is forgotten.
    fn forget(&mut self) {
        let Server { sockets, connections, .. } = self;
        connections.retain(|connection| {
            let state = sockets.get::<Socket>(connection.handle).state();
            let is_over = matches!(state, State::Closed | State::Listen);
            if is_over {
                sockets.remove(connection.handle);
            }
            !is_over
        });
    }
}

/// An address as smoltcp has it.
fn ip(address: &Address) -> IpAddress {
    IpAddress::from(match address.as_v4() {
        Some(v4) => IpAddr::from(v4),
        None => IpAddr::from(address.0),
    })
}

/// What is wanted, once that is known, and everything that is to be said for what was heard. Errors: what no proxy may say.
fn answer(heard: &[u8], header: Option<HeaderVersion>) -> Result<Option<(Order, Vec<u8>)>, String> {
    let said = without_header(heard, header)?;
    let Some((order, said)) = said.and_then(|said| said.split_at_checked(ORDER_BYTES)) else {
        return Ok(None);
    };
    let order = Order::read(order).ok_or("a connection does not begin with its order")?;
    let answer = match order.kind {
        Kind::Digest if said.len() < order.len => Vec::new(),
        _ => order.answer(said),
    };
    Ok(Some((order, answer)))
}

/// What stands behind the header that names the client; `None` as long as it is not complete.
fn without_header(bytes: &[u8], header: Option<HeaderVersion>) -> Result<Option<&[u8]>, String> {
    let begins = |with: &[u8]| bytes.iter().zip(with).all(|(a, b)| a == b);
    let (start, len) = match header {
        None => return Ok(Some(bytes)),
        Some(HeaderVersion::V1) => {
            let end = bytes.windows(2).position(|end| end == b"\r\n").map(|end| end + 2);
            (&b"PROXY TCP"[..], end)
        }
        Some(HeaderVersion::V2) => {
            let len =
                bytes.get(14..16).map(|len| 16 + usize::from(len[0]) * 256 + usize::from(len[1]));
            (&b"\r\n\r\n\0\r\nQUIT\n\x21"[..], len)
        }
    };
    if !begins(start) {
        return Err("a connection does not begin with the header that names its client".into());
    }
    Ok(len.and_then(|len| bytes.get(len..)))
}
