//! One stack, alone, and a client of which every bit is under control.
//!
//! Frames are written and read here by hand, and every answer's checksums, lengths and padding are
//! checked on the way: what the stack's own wire code believes does not count. Time passes only in
//! [`Desk::wait`].

mod frame;

pub use frame::{CLIENT_MAC, Heard, PORT, SERVER_MAC, Say, frame, packet, sack, sum, timestamps};

use frame::read;
use stack::app::AppConfig;
use stack::app::generate::GenerateConfig;
use stack::app::http::HttpConfig;
use stack::content::Content;
use stack::drop::Drop;
use stack::flow::Flow;
use stack::key::FlowKey;
use stack::limits::{CONNECT_TIMEOUT, SUPERFRAME_BYTES_MAX};
use stack::recorder::Unmirrored;
use stack::seq::Seq;
use stack::service::{ArpPolicy, HOP_LIMIT, KeepAlive, Service};
use stack::shard::Place;
use stack::stack::{Mode, Stack, StackConfig};
use stack::tcp::sender::SenderConfig;
use stack::tcp::state::State;
use stack::time::{Duration, Instant};
use stack::upstream::Upstream;
use stack::wire::{Address, Flags, Mac};
use tests::nic::{cut, is_prepared};

/// SYN and ACK.
pub const SYN_ACK: Flags = Flags::SYN.with(Flags::ACK);
/// FIN and ACK.
pub const FIN_ACK: Flags = Flags::FIN.with(Flags::ACK);
/// RST and ACK.
pub const RST_ACK: Flags = Flags::RST.with(Flags::ACK);

/// The IP version.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// Both.
pub const BOTH: [Family; 2] = [Family::V4, Family::V6];

impl Family {
    /// Address `n` of the server's network 0, or the clients' network 1.
    pub fn address(self, network: u8, n: u8) -> Address {
        match self {
            Family::V4 => Address::v4([10, network, 0, n]),
            Family::V6 => Address([0xfd, 0, network, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, n]),
        }
    }
}

/// What a client offers in its SYN.
#[derive(Clone, Copy, Debug, Default)]
pub struct Offer {
    /// MSS option.
    pub mss: Option<u16>,
    /// Window scale option.
    pub scale: Option<u8>,
    /// SACK-permitted option.
    pub sack: bool,
    /// Timestamps option, with this TSval.
    pub timestamps: Option<u32>,
}

/// An offer of nothing but a common MSS.
pub const PLAIN: Offer = Offer { mss: Some(1000), scale: None, sack: false, timestamps: None };

impl Offer {
    /// The options of the SYN.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        if let Some(mss) = self.mss {
            bytes.extend([2, 4, (mss >> 8) as u8, mss as u8]);
        }
        if let Some(scale) = self.scale {
            bytes.extend([1, 3, 3, scale]);
        }
        if self.sack {
            bytes.extend([1, 1, 4, 2]);
        }
        if let Some(value) = self.timestamps {
            bytes.extend(timestamps(value, 0));
        }
        bytes
    }
}

/// The service.
#[derive(Clone, Debug)]
pub struct Setup {
    /// IP version.
    pub family: Family,
    /// What runs.
    pub app: AppConfig,
    /// Bytes of receive buffer.
    pub receive_buffer: u32,
    /// Segments that all flows may have in flight.
    pub segments_max: usize,
    /// Our MSS.
    pub mss: u16,
    /// Nagle's algorithm is off.
    pub nodelay: bool,
    /// TTL or hop limit.
    pub hop_limit: u8,
    /// See [`Service`].
    pub snoop: bool,
    /// See [`Service`].
    pub connect_timeout: Duration,
    /// See [`Service`].
    pub keep_alive: Option<KeepAlive>,
    /// See [`Service`].
    pub idle_timeout: Option<Duration>,
    /// See [`Service`].
    pub arp: ArpPolicy,
}

/// `generate` of so many bytes.
pub fn generate(len: u64, stay_open: bool) -> AppConfig {
    AppConfig::Generate(GenerateConfig { seed: 3, len, stay_open })
}

/// `http` with nothing to serve but generated objects.
pub fn http() -> AppConfig {
    AppConfig::Http(HttpConfig { upload_bytes_max: 1 << 20 })
}

impl Setup {
    /// A service with usual settings.
    pub fn new(family: Family, app: AppConfig) -> Setup {
        Setup {
            family,
            app,
            receive_buffer: 16 << 10,
            segments_max: 512,
            mss: 1440,
            nodelay: true,
            hop_limit: HOP_LIMIT,
            connect_timeout: CONNECT_TIMEOUT,
            keep_alive: None,
            idle_timeout: None,
            arp: ArpPolicy::default(),
            snoop: false,
        }
    }

    fn service(&self, n: u8) -> Service {
        Service {
            addresses: vec![self.family.address(0, n)],
            arp: self.arp,
            ports: vec![(PORT, PORT)],
            app: self.app,
            content: Content::default(),
            receive_buffer: self.receive_buffer,
            idle_timeout: self.idle_timeout,
            keep_alive: self.keep_alive,
            connect_timeout: self.connect_timeout,
            sender: SenderConfig::default(),
            mss: self.mss + if self.family == Family::V6 { 20 } else { 0 },
            nodelay: self.nodelay,
            hop_limit: self.hop_limit,
            snoop: self.snoop,
            upstream: Upstream::default(),
        }
    }
}

/// One stack and one client.
pub struct Desk {
    /// The stack under test.
    pub stack: Stack,
    /// The time.
    pub now: Instant,
    /// IP version.
    pub family: Family,
    /// The client's port.
    pub port: u16,
    /// Next sequence number to send.
    pub snd_nxt: Seq,
    /// Next sequence number expected.
    pub rcv_nxt: Seq,
    /// The window that the client offers, not scaled.
    pub window: u16,
    /// TSval of the next segments, once agreed on.
    pub tsval: Option<u32>,
    /// Frames that were no segments, ever.
    pub others: Vec<Vec<u8>>,
    /// Where the last segment came from.
    pub heard_from: Mac,
    /// The newest TSval that came back.
    pub tsecr: u32,
    /// Payload in order so far.
    pub received: Vec<u8>,
    /// Segments of a superframe at most.
    pub segments_max: usize,
    /// Its NIC cuts superframes.
    pub cuts_superframes: bool,
    /// Those that it has cut.
    pub superframes: u64,
}

impl Desk {
    /// A desk with usual settings.
    pub fn new(family: Family, app: AppConfig) -> Desk {
        Desk::with(Setup::new(family, app))
    }

    /// A desk as told. A second service listens on another address.
    pub fn with(setup: Setup) -> Desk {
        let config = StackConfig {
            node: 1,
            place: Place::ALONE,
            mac: SERVER_MAC,
            secret: [7; 32],
            flows_max: 16,
            active_max: 16,
            uploads_max: 16,
            segments_max: setup.segments_max,
            chunks_max: 8192,
            pieces_max: 512,
            reassemblies_max: 8,
            link_mbits: 10_000,
        };
        let mut stack = Stack::new(&config, vec![setup.service(100), setup.service(101)]);
        let now = Instant(5_000_000_000);
        stack.set_mode(now, 0, Mode::Serving);
        stack.set_mode(now, 1, Mode::Serving);
        let mut desk = Desk {
            stack,
            now,
            family: setup.family,
            port: 40_000,
            snd_nxt: Seq(0xffff_ff00),
            rcv_nxt: Seq(0),
            window: 0xffff,
            tsval: None,
            others: Vec::new(),
            heard_from: Mac::default(),
            tsecr: 0,
            received: Vec::new(),
            segments_max: 64,
            cuts_superframes: false,
            superframes: 0,
        };
        desk.poll();
        desk
    }

    /// A desk with an established connection.
    pub fn connected(setup: Setup, offer: Offer) -> Desk {
        let mut desk = Desk::with(setup);
        desk.open(offer);
        desk
    }

    /// The stack opens a connection to the client; answers what comes.
    pub fn connect(&mut self) -> Vec<Heard> {
        let key = self.key();
        let opened = self.stack.connect(self.now, 0, key, CLIENT_MAC, &mut Unmirrored);
        assert!(opened.is_ok(), "{opened:?}");
        self.poll()
    }

    /// Both ends of the flow.
    pub fn key(&self) -> FlowKey {
        FlowKey {
            remote: self.family.address(1, 1),
            local: self.family.address(0, 100),
            remote_port: self.port,
            local_port: PORT,
        }
    }

    /// Answers a SYN of the stack; answers what comes back.
    pub fn answer_syn(&mut self, offer: Offer, flags: Flags, payload: &[u8]) -> Vec<Heard> {
        self.tsval = offer.timestamps;
        let mut options = Offer { timestamps: None, ..offer }.bytes();
        options.extend(offer.timestamps.map_or(Vec::new(), |value| timestamps(value, self.tsecr)));
        let say = Say { options, ..self.segment(flags, payload) };
        self.snd_nxt += 1 + payload.len() as u32 + flags.has(Flags::FIN) as u32;
        self.hear(say)
    }

    /// Shakes hands; answers what came after the SYN-ACK.
    pub fn open(&mut self, offer: Offer) -> Vec<Heard> {
        let answer = self.syn(offer);
        assert_eq!(answer.len(), 1, "{answer:?}");
        self.say(Flags::ACK, &[])
    }

    /// Sends a SYN.
    pub fn syn(&mut self, offer: Offer) -> Vec<Heard> {
        let say = Say { options: offer.bytes(), ..self.segment(Flags::SYN, &[]) };
        self.snd_nxt += 1;
        self.tsval = offer.timestamps;
        self.hear(say)
    }

    /// The segment that would come next.
    pub fn segment(&self, flags: Flags, payload: &[u8]) -> Say {
        let ack = if flags.has(Flags::ACK) { self.rcv_nxt } else { Seq(0) };
        Say {
            source: self.family.address(1, 1),
            source_port: self.port,
            destination: self.family.address(0, 100),
            seq: self.snd_nxt,
            ack,
            flags,
            window: self.window,
            urgent: 0,
            options: self.tsval.map_or(Vec::new(), |value| timestamps(value, self.tsecr)),
            payload: payload.to_vec(),
        }
    }

    /// Sends what comes next; answers what comes back.
    pub fn say(&mut self, flags: Flags, payload: &[u8]) -> Vec<Heard> {
        let say = self.segment(flags, payload);
        let controls = flags.has(Flags::SYN) as u32 + flags.has(Flags::FIN) as u32;
        self.snd_nxt += payload.len() as u32 + controls;
        self.hear(say)
    }

    /// Sends a segment at `seq`.
    pub fn say_at(&mut self, seq: Seq, flags: Flags, payload: &[u8]) -> Vec<Heard> {
        let say = Say { seq, ..self.segment(flags, payload) };
        self.hear(say)
    }

    /// Acknowledges everything up to `ack`.
    pub fn acknowledge(&mut self, ack: Seq) -> Vec<Heard> {
        let say = Say { ack, ..self.segment(Flags::ACK, &[]) };
        self.hear(say)
    }

    /// Sends a segment; answers what comes back.
    pub fn hear(&mut self, say: Say) -> Vec<Heard> {
        self.put(&say);
        self.poll()
    }

    /// Hands in a segment without asking for answers.
    pub fn put(&mut self, say: &Say) {
        self.put_frame(&frame(say));
    }

    /// Hands in a frame without asking for answers.
    pub fn put_frame(&mut self, frame: &[u8]) {
        self.stack.handle_frame(self.now, frame, &mut Unmirrored);
    }

    /// Hands in frames as a burst.
    pub fn put_burst(&mut self, frames: &[Vec<u8>]) {
        let frames: Vec<&[u8]> = frames.iter().map(|frame| &frame[..]).collect();
        self.stack.look_ahead(frames.iter().copied());
        let mut rest = &frames[..];
        while !rest.is_empty() {
            let (taken, _) = self.stack.handle_frames(self.now, rest, &mut Unmirrored);
            rest = &rest[taken..];
        }
    }

    /// What the stack has to say now.
    pub fn poll(&mut self) -> Vec<Heard> {
        let mut heard = Vec::new();
        self.stack.handle_timeouts(self.now, &mut Unmirrored);
        while let Some(frames) = self.poll_frames() {
            for frame in frames {
                let Some(segment) = read(self.now, &frame) else {
                    self.others.push(frame);
                    continue;
                };
                self.heard_from.copy_from_slice(&frame[6..12]);
                self.note(&segment);
                heard.push(segment);
            }
        }
        heard
    }

    /// The next frame; if it is a superframe and there is somebody to cut it, what comes of it.
    fn poll_frames(&mut self) -> Option<Vec<Vec<u8>>> {
        let mut buffer = [0; SUPERFRAME_BYTES_MAX];
        if self.cuts_superframes
            && let Some((superframe, _)) =
                self.stack.poll_superframe(self.now, &mut buffer, self.segments_max)
        {
            self.superframes += 1;
            let frame = &buffer[..superframe.bytes];
            assert!(is_prepared(frame, &superframe));
            return Some(cut(frame, &superframe));
        }
        let (len, _) = self.stack.poll_transmit(self.now, &mut buffer[..2048])?;
        Some(vec![buffer[..len].to_vec()])
    }

    fn note(&mut self, heard: &Heard) {
        if heard.flags.has(Flags::RST) || heard.port != self.port {
            return;
        }
        if let Some((value, _)) = heard.timestamps {
            self.tsecr = value;
        }
        if heard.flags.has(Flags::SYN) {
            self.rcv_nxt = heard.seq + 1;
        } else if heard.seq == self.rcv_nxt {
            self.received.extend_from_slice(&heard.payload);
            self.rcv_nxt += heard.payload.len() as u32 + heard.flags.has(Flags::FIN) as u32;
        }
    }

    /// Lets time pass; answers what comes.
    pub fn wait(&mut self, time: Duration) -> Vec<Heard> {
        let end = self.now + time;
        let mut heard = Vec::new();
        while let Some(at) = self.stack.poll_timeout().filter(|at| *at <= end) {
            self.now = (at + Duration::from_micros(1)).max(self.now + Duration::from_micros(1));
            heard.extend(self.poll());
        }
        self.now = self.now.max(end);
        heard
    }

    /// Milliseconds pass.
    pub fn wait_ms(&mut self, ms: u64) -> Vec<Heard> {
        self.wait(Duration::from_millis(ms))
    }

    /// The flow, while there is one.
    pub fn flow(&self) -> Option<&Flow> {
        self.stack.flow(self.stack.find(&self.key())?)
    }

    /// Its state.
    pub fn state(&self) -> Option<State> {
        self.flow().map(|flow| flow.contract.state)
    }

    /// Frames dropped for `reason`.
    pub fn drops(&self, reason: Drop) -> u64 {
        self.stack.counters().drops.of(reason)
    }
}

/// The payload of all segments, one after another.
pub fn payload(heard: &[Heard]) -> Vec<u8> {
    heard.iter().flat_map(|segment| segment.payload.clone()).collect()
}

/// A desk whose connection stands in `state`, a synchronized one.
pub fn in_state(family: Family, state: State) -> Desk {
    let app = match state {
        State::Established | State::LastAck => AppConfig::Echo,
        State::CloseWait => http(),
        _ => generate(100, false),
    };
    let mut desk = Desk::connected(Setup::new(family, app), PLAIN);
    match state {
        State::Established | State::FinWait1 => {}
        State::LastAck => {
            desk.say(FIN_ACK, &[]);
        }
        State::CloseWait => {
            // More requests than may wait, none of whose answers is acknowledged.
            let una = desk.rcv_nxt;
            for _ in 0..20 {
                let say = Say {
                    ack: una,
                    window: 1,
                    ..desk.segment(Flags::ACK, b"GET /generate/9000 HTTP/1.1\r\nHost: x\r\n\r\n")
                };
                desk.snd_nxt += say.payload.len() as u32;
                desk.hear(say);
            }
            let say = Say { ack: una, window: 1, ..desk.segment(FIN_ACK, &[]) };
            desk.snd_nxt += 1;
            desk.hear(say);
        }
        State::Closing => {
            let before_fin = desk.rcv_nxt - 1;
            let say = Say { ack: before_fin, ..desk.segment(FIN_ACK, &[]) };
            desk.snd_nxt += 1;
            desk.hear(say);
        }
        _ => {
            desk.say(Flags::ACK, &[]);
            if state == State::TimeWait {
                desk.say(FIN_ACK, &[]);
            }
        }
    }
    assert_eq!(desk.state(), Some(state));
    desk
}

/// The states after the SYN exchange.
pub const SYNCHRONIZED: [State; 7] = [
    State::Established,
    State::FinWait1,
    State::FinWait2,
    State::CloseWait,
    State::Closing,
    State::LastAck,
    State::TimeWait,
];
