//! A client with an independent TCP: smoltcp's, of which every byte in and out is known.

use crate::kit::dialogue::{Dialogue, Progress, Step};
use crate::kit::packets::{self, Packets, smol};
use crate::kit::settings;
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};
use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr, Ipv4Address, Ipv6Address};
use stack::key::FlowKey;
use stack::time::{Duration, Instant};
use stack::wire::Address;

/// How a connection ended, as its client sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ending {
    /// It has not.
    Open,
    /// In good order.
    Closed,
    /// By a reset.
    Reset,
}

/// One connection of one client, playing a dialogue.
pub struct Client {
    wire: Packets,
    interface: Interface,
    sockets: SocketSet<'static>,
    handle: SocketHandle,
    settings: ClientSettings,
    dialogue: Dialogue,
    progress: Progress,
    /// Every byte received so far.
    pub received: Vec<u8>,
    /// The connection's end.
    pub ending: Ending,
    was_open: bool,
    present_from: Instant,
}

/// What the buffers and options of a client are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ClientSettings {
    /// Bytes of receive buffer.
    pub receive_buffer: usize,
    /// Bytes of send buffer.
    pub send_buffer: usize,
    /// Timestamps are offered.
    pub timestamps: bool,
    /// It says a small segment only when all before is acknowledged (RFC 9293 3.7.4, Nagle's algorithm).
    pub nagle: bool,
    /// It speaks IPv6.
    pub ipv6: bool,
    /// Who opens the connection.
    pub opener: Opener,
    /// Last octet of the service's [`settings::address`].
    pub host: u8,
    /// For so long it hears no TCP, as if nobody were there.
    pub absent: Duration,
}

/// Who opens a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Opener {
    /// The client.
    #[default]
    Client,
    /// The node: the client listens.
    Node,
    /// Both at once.
    Both,
    /// The node, for one of its own clients: this is a server.
    Proxy,
    /// Nobody: whoever tries is refused.
    Nobody,
}

impl Default for ClientSettings {
    fn default() -> ClientSettings {
        ClientSettings {
            receive_buffer: 8192,
            send_buffer: 8192,
            timestamps: true,
            nagle: false,
            ipv6: false,
            opener: Opener::Client,
            host: settings::ADDRESS[3],
            absent: Duration::ZERO,
        }
    }
}

impl Client {
    /// Client number `index`, about to connect.
    pub fn new(
        now: Instant,
        index: usize,
        seed: u64,
        settings: ClientSettings,
        dialogue: Dialogue,
    ) -> Client {
        let mut wire = Packets::default();
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = seed ^ (index as u64) << 32;
        let mut interface = Interface::new(config, &mut wire, smol(now));
        let (own, remote, prefix) = match settings.ipv6 {
            false => (
                IpAddress::Ipv4(Ipv4Address::from(address(index))),
                IpAddress::Ipv4(Ipv4Address::from(settings::address(settings.host))),
                8,
            ),
            true => (
                IpAddress::Ipv6(Ipv6Address::from(address_6(index))),
                IpAddress::Ipv6(Ipv6Address::from(settings::address_6(settings.host))),
                64,
            ),
        };
        interface.update_ip_addrs(|list| {
            list.push(IpCidr::new(own, prefix)).expect("room for one address");
        });
        let mut socket = Socket::new(
            SocketBuffer::new(vec![0; settings.receive_buffer]),
            SocketBuffer::new(vec![0; settings.send_buffer]),
        );
        socket.set_nagle_enabled(settings.nagle);
        if settings.timestamps {
            socket.set_tsval_generator(Some(packets::clock));
        }
        match settings.opener {
            Opener::Node | Opener::Proxy => {
                socket.listen(port(index)).expect("a fresh socket listens");
            }
            Opener::Client | Opener::Both => {
                let remote = (remote, dialogue.port);
                let connected = socket.connect(interface.context(), remote, port(index));
                connected.expect("a fresh socket connects");
            }
            Opener::Nobody => {}
        }
        let mut sockets = SocketSet::new(Vec::new());
        let handle = sockets.add(socket);
        Client {
            wire,
            interface,
            sockets,
            handle,
            settings,
            dialogue,
            progress: Progress::default(),
            received: Vec::new(),
            ending: Ending::Open,
            was_open: false,
            present_from: now + settings.absent,
        }
    }

    /// Takes an IP packet from the wire.
    pub fn handle_packet(&mut self, packet: &[u8]) {
        self.wire.incoming.push_back(packet.to_vec());
    }

    /// Does what is due at `now`; packets to send are then in [`Client::poll_packet`].
    pub fn handle_timeouts(&mut self, now: Instant) {
        packets::set_clock(now);
        // What one poll sends may change what the next has to do; the bound is far above any need.
        for _ in 0..64 {
            self.interface.poll(smol(now), &mut self.wire, &mut self.sockets);
            if !self.play(now) && self.wire.incoming.is_empty() {
                break;
            }
        }
        self.interface.poll(smol(now), &mut self.wire, &mut self.sockets);
        self.note_ending();
    }

    /// The next packet to send.
    pub fn poll_packet(&mut self) -> Option<Vec<u8>> {
        self.wire.outgoing.pop_front()
    }

    /// When [`Client::handle_timeouts`] is due.
    pub fn poll_timeout(&mut self, now: Instant) -> Option<Instant> {
        let at = self.interface.poll_at(smol(now), &self.sockets);
        let at = at.map(|at| Instant(at.total_micros() as u64 * 1_000));
        let resume_at = self.progress.resume_at;
        let pause = (resume_at != Instant::ZERO).then_some(resume_at);
        [at, pause].into_iter().flatten().min()
    }

    /// Whether every step of the dialogue is done.
    pub fn is_done(&self) -> bool {
        self.progress.step == self.dialogue.steps.len()
    }

    /// smoltcp stops its timer when three duplicates of the acknowledgement before a lone FIN arrive (each kick
    /// may be one), and then never sends the FIN again. That is nothing a server could repair.
    pub fn has_lost_its_timer(&mut self, now: Instant) -> bool {
        let state = self.sockets.get::<Socket>(self.handle).state();
        let waits = matches!(state, State::FinWait1 | State::LastAck | State::Closing);
        waits && self.unacknowledged() == 0 && self.poll_timeout(now).is_none()
    }

    /// Whether its next step is to hear the other side's end.
    pub fn waits_for_the_end(&self) -> bool {
        matches!(self.dialogue.steps.get(self.progress.step), Some(Step::End))
    }

    /// Whether it has heard nothing and had nothing to say.
    pub fn awaits_first_word(&self) -> bool {
        let so_far = &self.dialogue.steps[..self.progress.step];
        self.received.is_empty() && !so_far.iter().any(|step| matches!(step, Step::Send(_)))
    }

    /// Where it stands, for messages.
    pub fn describe(&self) -> String {
        let socket = self.sockets.get::<Socket>(self.handle);
        format!(
            "step {} of {} ({:?}), {} bytes received, {} queued, socket {}, {:?}",
            self.progress.step,
            self.dialogue.steps.len(),
            self.dialogue.steps.get(self.progress.step).map(Step::name),
            self.received.len(),
            socket.send_queue(),
            socket.state(),
            self.ending,
        )
    }

    /// Bytes that the application has handed over and the node has not acknowledged.
    pub fn unacknowledged(&self) -> usize {
        self.sockets.get::<Socket>(self.handle).send_queue()
    }

    /// Whether it has closed, and that is not acknowledged.
    pub fn awaits_end(&self) -> bool {
        let state = self.sockets.get::<Socket>(self.handle).state();
        matches!(state, State::FinWait1 | State::Closing | State::LastAck)
    }

    fn note_ending(&mut self) {
        let socket = self.sockets.get::<Socket>(self.handle);
        let is_shut = matches!(socket.state(), State::Closed | State::Listen | State::SynSent);
        self.was_open |= !is_shut;
        if self.ending == Ending::Open && socket.state() == State::TimeWait {
            self.ending = Ending::Closed;
        }
        if self.ending == Ending::Open && self.was_open && socket.state() == State::Closed {
            self.ending = Ending::Closed;
        }
    }

    /// A reset for this connection was delivered; the socket alone does not tell it from a close.
    pub fn note_reset(&mut self) {
        let socket = self.sockets.get::<Socket>(self.handle);
        if self.ending == Ending::Open && socket.state() == State::Closed {
            self.ending = Ending::Reset;
        }
    }

    /// Whether nothing was heard of the other side.
    pub fn is_waiting(&self) -> bool {
        let state = self.sockets.get::<Socket>(self.handle).state();
        matches!(state, State::Listen | State::SynSent)
    }

    /// Whether it hears nothing.
    pub fn is_absent(&self, now: Instant) -> bool {
        now < self.present_from
    }

    /// From now on it hears nothing.
    pub fn vanish(&mut self) {
        self.present_from = Instant(u64::MAX);
    }

    /// Who opens its connection.
    pub fn opener(&self) -> Opener {
        self.settings.opener
    }

    /// Both ends of its connection, as a node names them.
    pub fn key(&self, index: usize) -> FlowKey {
        let host = self.settings.host;
        let (remote, local) = match self.settings.ipv6 {
            false => (Address::v4(address(index)), Address::v4(settings::address(host))),
            true => (Address(address_6(index)), Address(settings::address_6(host))),
        };
        FlowKey { remote, local, remote_port: port(index), local_port: self.dialogue.port }
    }

    /// Whether the socket is closed.
    pub fn is_closed(&self) -> bool {
        self.sockets.get::<Socket>(self.handle).state() == State::Closed
    }

    /// Plays on as far as possible; whether anything was done.
    fn play(&mut self, now: Instant) -> bool {
        let socket = self.sockets.get_mut::<Socket>(self.handle);
        let mut moved = false;
        if now >= self.progress.resume_at {
            self.progress.resume_at = Instant::ZERO;
        }
        loop {
            let reads = self.dialogue.steps.get(self.progress.step).is_none_or(Step::reads);
            if reads && now >= self.progress.read_at {
                moved |= self.progress.read(now, socket, &mut self.received, &self.dialogue);
            }
            let Some(step) = self.dialogue.steps.get(self.progress.step) else { return moved };
            let before = (self.progress.step, self.progress.sent);
            self.progress.play(now, step, socket, &self.received);
            if before == (self.progress.step, self.progress.sent) {
                return moved;
            }
            moved = true;
        }
    }
}

/// The address of client `index`.
pub fn address(index: usize) -> [u8; 4] {
    let [high, low] = (index as u16 + 1).to_be_bytes();
    [10, 1, high, low]
}

/// The IPv6 address of client `index`.
pub fn address_6(index: usize) -> [u8; 16] {
    let [high, low] = (index as u16 + 1).to_be_bytes();
    [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, high, low]
}

/// The port of client `index`.
pub fn port(index: usize) -> u16 {
    40_000 + index as u16
}

/// The Ethernet address of client `index`.
pub fn mac(index: usize) -> [u8; 6] {
    [2, 1, 0, 0, (index >> 8) as u8, index as u8]
}
