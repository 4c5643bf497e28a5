//! Floods of small questions: what they may cost, and who is answered all the same.
//!
//! One stack, no peer, and frames by hand: 64 in each round of 320 us, which is 200 000 a second.

use stack::drop::Drop;
use stack::fact::Fact;
use stack::limits::{
    COOKIES_PER_SECOND, NEIGHBOR_FRESH, REPLIES_FIRST, RESETS_PER_SECOND, TIMER_STEPS_MAX,
};
use stack::recorder::{FlowName, Lane, Progress, Recorder, Unmirrored};
use stack::seq::Seq;
use stack::shard::Place;
use stack::stack::{Mode, Stack, StackConfig};
use stack::time::{Duration, Instant};
use stack::wire::{
    Address, Flags, Frame, Header, Path, SegmentOptions, emit_address, emit_query, emit_tcp, parse,
};
use tests::kit::settings::{GENERATE, HTTP, HTTP_IMPATIENT, Port, Settings};

const MAC: [u8; 6] = [2, 2, 0, 0, 0, 1];
const CLIENTS_MAC: [u8; 6] = [2, 2, 0, 0, 0, 9];

/// Flows that there is room for; half of them may be half open.
const FLOWS: usize = 16;

const ROUND: Duration = Duration::from_micros(320);
const ROUND_FRAMES: u32 = 64;

struct Desk {
    stack: Stack,
    local: Address,
    now: Instant,
    /// Strangers so far.
    strangers: u32,
}

/// What a frame of the stack says, and to whom.
struct Heard {
    client: u32,
    flags: Flags,
    seq: Seq,
}

impl Desk {
    fn new() -> Desk {
        Desk::with_flows(FLOWS)
    }

    fn with_flows(flows: usize) -> Desk {
        Desk::with(flows, Settings::default())
    }

    fn with(flows: usize, settings: Settings) -> Desk {
        let config = StackConfig {
            node: 1,
            place: Place::ALONE,
            mac: MAC,
            secret: [7; 32],
            flows_max: flows,
            active_max: flows,
            uploads_max: FLOWS,
            segments_max: 64.max(flows),
            chunks_max: 64,
            pieces_max: 64,
            reassemblies_max: 4,
            link_mbits: 10_000,
        };
        let services = settings.services();
        let local = services[0].addresses[0];
        let mut stack = Stack::new(&config, services);
        let now = Instant(5_000_000_000);
        for group in 0..stack.groups().len() as u8 {
            stack.set_mode(now, group, Mode::Serving);
            stack.set_voice(group, true);
        }
        Desk { stack, local, now, strangers: 1 << 20 }
    }

    /// A segment of client `number`, who has an address of its own.
    fn segment(&self, number: u32, port: u16, flags: Flags, (seq, ack): (Seq, Seq)) -> Vec<u8> {
        let path = Path {
            source_mac: CLIENTS_MAC,
            destination_mac: MAC,
            source: Address::v4((0x0a00_0000 + number).to_be_bytes()),
            destination: self.local,
            hop_limit: 64,
        };
        let mss = flags.has(Flags::SYN).then_some(1460);
        let options = SegmentOptions { mss, ..SegmentOptions::default() };
        let (source_port, destination_port) = (4000, port);
        let header =
            Header { source_port, destination_port, seq, ack, flags, window: 65000, options };
        let mut frame = vec![0; 128];
        let len = emit_tcp(&mut frame, &path, &header, 0);
        frame.truncate(len);
        frame
    }

    fn syn(&self, number: u32) -> Vec<u8> {
        self.segment(number, HTTP, Flags::SYN, (Seq(number), Seq(0)))
    }

    /// A round of frames of strangers, all alike but for who sends them.
    fn strangers(&mut self, flags: Flags) -> Vec<Vec<u8>> {
        self.strangers += ROUND_FRAMES;
        let numbers = self.strangers - ROUND_FRAMES..self.strangers;
        numbers.map(|n| self.segment(n, HTTP, flags, (Seq(n), Seq(n)))).collect()
    }

    /// Hands in a burst; what the stack says in the same round.
    fn round(&mut self, frames: &[Vec<u8>]) -> Vec<Heard> {
        self.round_with(frames, &mut Unmirrored)
    }

    fn round_with<R: Recorder>(&mut self, frames: &[Vec<u8>], recorder: &mut R) -> Vec<Heard> {
        let mut heard = Vec::new();
        for frame in self.said(frames, recorder) {
            if let Ok(Frame::Tcp(segment)) = parse(&frame, &CLIENTS_MAC, &[]) {
                let address = u32::from_be_bytes(segment.destination.as_v4().unwrap());
                let client = address - 0x0a00_0000;
                heard.push(Heard { client, flags: segment.flags, seq: segment.seq });
            }
        }
        heard
    }

    /// Hands in a burst; the frames that the stack sends in the same round.
    fn said<R: Recorder>(&mut self, frames: &[Vec<u8>], recorder: &mut R) -> Vec<Vec<u8>> {
        self.now += ROUND;
        self.stack.look_ahead(frames.iter().map(Vec::as_slice));
        for frame in frames {
            self.stack.handle_frame(self.now, frame, recorder);
        }
        self.stack.handle_timeouts(self.now, recorder);
        let (mut said, mut buffer) = (Vec::new(), [0; 2048]);
        while let Some((len, _)) = self.stack.poll_transmit(self.now, &mut buffer) {
            said.push(buffer[..len].to_vec());
        }
        said
    }

    /// Opens a flow for each of `clients`, all in the same moment of the first round.
    fn open(&mut self, clients: core::ops::Range<u32>, port: u16) {
        for client in clients {
            let syn = self.segment(client, port, Flags::SYN, (Seq(client), Seq(0)));
            let heard = self.round(&[syn]);
            self.now = Instant(self.now.0 - ROUND.0);
            let ack = (Seq(client + 1), heard[0].seq + 1);
            let ack = self.segment(client, port, Flags::ACK, ack);
            self.round(&[ack]);
            self.now = Instant(self.now.0 - ROUND.0);
        }
        self.now += ROUND;
    }

    /// Strangers take every place that half-open flows have.
    fn fill_backlog(&mut self) {
        let frames = self.strangers(Flags::SYN);
        self.round(&frames);
        assert_eq!(self.stack.slots().count(), FLOWS / 2);
    }

    fn rounds(time: Duration) -> u32 {
        (time.0 / ROUND.0) as u32
    }
}

fn count(heard: &[Heard], flags: Flags) -> u32 {
    heard.iter().filter(|heard| heard.flags.has(flags)).count() as u32
}

#[test]
fn a_flood_of_syns_has_its_share_of_answers_and_no_more() {
    let mut desk = Desk::new();
    desk.fill_backlog();
    let seconds = 2;
    let mut answered = 0;
    for _ in 0..Desk::rounds(Duration::from_secs(seconds)) {
        let frames = desk.strangers(Flags::SYN);
        answered += count(&desk.round(&frames), Flags::SYN);
    }
    let share = COOKIES_PER_SECOND * seconds as u32;
    assert!((share * 95 / 100..=share * 102 / 100).contains(&answered), "{answered}");
    assert_eq!(desk.stack.slots().count(), FLOWS / 2, "a cookie takes no flow");
    let counters = desk.stack.counters();
    assert!(counters.drops.of(Drop::ReplyRate) > 200_000);
    let settled =
        counters.rx_used + counters.rx_strays + counters.rx_heard + counters.drops.total();
    assert_eq!(counters.rx_frames, settled);
}

#[test]
fn the_second_syn_is_answered_whatever_the_flood() {
    let mut desk = Desk::new();
    desk.fill_backlog();
    // Who waits for an answer, and the round in which they say it again.
    let again = Desk::rounds(Duration::from_secs(1));
    let mut waiting: Vec<(u32, u32)> = Vec::new();
    let (mut at_once, mut at_second) = (0, 0);
    for round in 0..Desk::rounds(Duration::from_secs(4)) {
        let mut frames = desk.strangers(Flags::SYN);
        let newcomer = round / 20;
        let is_new = round % 20 == 0 && newcomer < 400;
        if is_new {
            frames[63] = desk.syn(newcomer);
        }
        let repeated = waiting.iter().position(|(_, at)| *at == round).map(|n| waiting.remove(n));
        if let Some((client, _)) = repeated {
            frames[62] = desk.syn(client);
        }
        let heard = desk.round(&frames);
        let is_answered = |client| heard.iter().any(|heard| heard.client == client);
        if let Some((client, _)) = repeated {
            assert!(is_answered(client), "client {client} said its SYN twice");
            at_second += 1;
        }
        match is_new && is_answered(newcomer) {
            true => at_once += 1,
            false if is_new => waiting.push((newcomer, round + again)),
            false => {}
        }
    }
    assert!(waiting.is_empty());
    assert_eq!(at_once + at_second, 400);
    assert!(at_second > 100, "a flood that leaves room for {at_once} of 400 shows nothing");
}

#[test]
fn flows_speak_although_many_wait_for_answers() {
    let mut desk = Desk::new();
    let syn = desk.segment(1, GENERATE, Flags::SYN, (Seq(100), Seq(0)));
    let heard = desk.round(&[syn]);
    let iss = heard[0].seq;
    desk.fill_backlog();
    let mut frames = desk.strangers(Flags::SYN);
    frames[63] = desk.segment(1, GENERATE, Flags::ACK, (Seq(101), iss + 1));
    let heard = desk.round(&frames);
    let first =
        heard.iter().position(|heard| heard.client == 1).expect("the flow has bytes to send");
    assert_eq!(first, REPLIES_FIRST as usize);
    let data = heard.iter().filter(|heard| heard.client == 1).count();
    assert!(data > 1, "it has more than one segment to send");
    assert!(heard[first..first + data].iter().all(|heard| heard.client == 1), "in one go");
    assert!(count(&heard, Flags::SYN) > u32::from(REPLIES_FIRST), "the others come after it");
}

/// After a takeover a million flows share one idle time-out: no poll takes longer for that than the lease lasts.
#[test]
fn a_time_out_that_all_flows_share_is_spread_over_polls() {
    const MANY: u32 = 3_000;
    let mut desk = Desk::with_flows(MANY as usize);
    desk.open(0..MANY, HTTP_IMPATIENT);
    assert_eq!(desk.stack.slots().count(), MANY as usize);
    desk.now += Duration::from_secs(120);
    let (mut rounds, mut ended) = (0, 0);
    while ended < MANY {
        let heard = desk.round(&[]);
        assert!(heard.len() <= TIMER_STEPS_MAX as usize, "{} flows in one poll", heard.len());
        ended += count(&heard, Flags::FIN);
        rounds += 1;
        let is_due = desk.stack.has_work() || desk.stack.poll_timeout() <= Some(desk.now);
        assert!(ended == MANY || is_due, "nobody wakes for those that are left: {ended} of {MANY}");
        assert!(rounds < 100, "no end");
    }
    assert_eq!(ended, MANY);
}

/// Whoever gets its voice back asks those who waited for it, and none of the others.
#[test]
fn flows_with_nothing_to_say_are_not_asked_when_the_voice_is_back() {
    const MANY: u32 = 3_000;
    let mut desk = Desk::with_flows(MANY as usize + 1);
    desk.open(0..MANY, HTTP);
    let groups = desk.stack.groups().len() as u8;
    (0..groups).for_each(|group| desk.stack.set_voice(group, false));
    let syn = desk.segment(MANY, HTTP, Flags::SYN, (Seq(1), Seq(0)));
    assert_eq!(desk.round(&[syn]).len(), 0, "it has no voice");
    assert!(!desk.stack.has_work(), "who has no voice has nothing to do");
    (0..groups).for_each(|group| desk.stack.set_voice(group, true));
    assert!(desk.stack.has_work(), "one waits");
    assert_eq!(desk.round(&[]).len(), 1);
    assert!(!desk.stack.has_work(), "the others have nothing to say");
}

/// A log that is full.
struct NoRoom;

impl Recorder for NoRoom {
    fn room(&self, _: Lane, _: usize, _: bool) -> Option<usize> {
        None
    }

    fn record(&mut self, _: FlowName, _: &Fact, _: Progress, _: bool) -> u64 {
        unreachable!("there was no room")
    }

    fn follow(&mut self, _: FlowName, _: Progress, _: bool) {
        unreachable!("there was no room")
    }
}

#[test]
fn a_good_cookie_is_not_reset_for_want_of_log_room() {
    let mut desk = Desk::new();
    desk.fill_backlog();
    let syn = desk.syn(1);
    let heard = desk.round(&[syn]);
    assert!(count(&heard, Flags::SYN) == 1 && desk.stack.counters().cookies_sent > 0);
    let ack = [desk.segment(1, HTTP, Flags::ACK, (Seq(2), heard[0].seq + 1))];
    let groups = desk.stack.groups().len() as u8;
    (0..groups).for_each(|group| desk.stack.set_mirrored(group, true));
    let heard = desk.round_with(&ack, &mut NoRoom);
    assert_eq!((heard.len(), desk.stack.counters().drops.of(Drop::LogFull)), (0, 1));
    // The client says it again, with its data.
    (0..groups).for_each(|group| desk.stack.set_mirrored(group, false));
    desk.round(&ack);
    assert_eq!(desk.stack.counters().cookies_accepted, 1);
}

#[test]
fn a_flood_of_strays_has_its_share_of_resets_and_no_more() {
    let mut desk = Desk::new();
    let mut resets = 0;
    for _ in 0..Desk::rounds(Duration::from_secs(1)) {
        let frames = desk.strangers(Flags::ACK);
        resets += count(&desk.round(&frames), Flags::RST);
    }
    let share = RESETS_PER_SECOND;
    assert!((share * 95 / 100..=share * 102 / 100).contains(&resets), "{resets}");
    assert!(desk.stack.counters().drops.of(Drop::ReplyRate) > 180_000);
}

/// Whoever asks for our address as often as he can keeps us from asking for nobody: the servers stay known.
#[test]
fn a_flood_of_questions_makes_no_server_unreachable() {
    let mut desk = Desk::with(FLOWS, Settings::proxied(20));
    let servers = |desk: &Desk| -> Vec<Address> {
        desk.stack.env.services[0].upstream.servers.iter().map(|server| server.next_hop).collect()
    };
    let all = servers(&desk);
    let question = |target: &Address| {
        let (mut frame, asker) = (vec![0; 128], Address::v4([10, 9, 9, 9]));
        let len = emit_query(&mut frame, &CLIENTS_MAC, &asker, target);
        frame.truncate(len);
        frame
    };
    let flood = vec![question(&desk.local); ROUND_FRAMES as usize];
    let mut asked = 0;
    let mut frames = flood.clone();
    let mut play = |desk: &mut Desk, time: Duration| {
        for _ in 0..Desk::rounds(time) {
            let said = desk.said(&frames, &mut Unmirrored);
            frames.truncate(flood.len());
            for frame in said {
                // ARP: an operation at 20, who asks at 28, for whom at 38.
                let of_arp = frame[12..14] == [8, 6] && frame[20..22] == [0, 1];
                let target = of_arp.then(|| Address::v4(frame[38..42].try_into().unwrap()));
                if let Some(server) = target.filter(|target| all.contains(target)) {
                    let (mut answer, source) = (vec![0; 128], frame[28..32].try_into().unwrap());
                    let to = Some((MAC, Address::v4(source)));
                    let len = emit_address(&mut answer, &CLIENTS_MAC, &server, to);
                    answer.truncate(len);
                    frames.push(answer);
                    asked += 1;
                }
            }
        }
        asked
    };
    let first = play(&mut desk, Duration::from_millis(20));
    assert!(first >= all.len(), "{first} questions for {} servers", all.len());
    // They are believed for so long; then each is asked again, and answers.
    desk.now += NEIGHBOR_FRESH;
    let again = play(&mut desk, Duration::from_secs(2)) - first;
    assert!((all.len()..2 * all.len()).contains(&again), "{again} questions");
    let known = desk.stack.roster(0).servers().iter().filter(|server| server.mac.is_some()).count();
    assert_eq!(known, all.len());
    assert!(desk.stack.counters().drops.of(Drop::ReplyRate) > 100_000);
}

/// When each IPv4 address of as many services was announced first after they were taken over at once, in microseconds.
fn announced(settings: Settings) -> Vec<Option<u64>> {
    let mut desk = Desk::with(FLOWS, settings);
    let services = &desk.stack.env.services;
    let all: Vec<Address> = services.iter().flat_map(|service| service.addresses.clone()).collect();
    let all: Vec<Address> = all.into_iter().filter(|address| address.as_v4().is_some()).collect();
    let mut first = vec![None; all.len()];
    let start = desk.now;
    for _ in 0..Desk::rounds(Duration::from_secs(4)) {
        for frame in desk.said(&[], &mut Unmirrored) {
            // ARP, and its sender speaks of itself.
            if frame[12..14] == [8, 6] && frame[28..32] == frame[38..42] {
                let address = Address::v4(frame[28..32].try_into().expect("four bytes"));
                if let Some(at) = all.iter().position(|known| *known == address) {
                    first[at].get_or_insert(desk.now.since(start).micros());
                }
            }
        }
    }
    first
}

/// Very many addresses, or proxied services whose many servers are asked for at the same moment: all are announced, soon.
#[test]
fn very_many_addresses_that_are_taken_over_at_once_are_all_announced() {
    for (count, servers) in [(30, 0), (60, 0), (10, 16), (10, 40)] {
        let settings = if servers == 0 { Settings::default() } else { Settings::proxied(servers) };
        let one = settings.ports[0];
        let ports = (0..count).map(|n| Port { host: 10 + n, ..one }).collect();
        let first = announced(Settings { ports, ..settings });
        assert_eq!(first.len(), usize::from(count));
        let latest = first.iter().map(|at| at.expect("announced")).max();
        println!(
            "{count} services of {servers} servers: the last address is announced after {latest:?} us"
        );
        assert!(latest < Some(50_000), "{first:?}");
    }
}
