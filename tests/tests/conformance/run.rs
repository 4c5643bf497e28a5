//! A stream's segments that come in one burst are judged as one by one, though little of the later ones is looked at.

use super::desk::{BOTH, Desk, Offer, Say, Setup, frame, generate, http, sack};
use stack::app::AppConfig;
use stack::pool::NONE;
use stack::wire::Flags;
use tests::kit::random::Random;

/// Two stacks that are told the same, the one segment by segment, the other burst by burst.
struct Twins {
    apart: Desk,
    together: Desk,
}

impl Twins {
    fn hear(&mut self, burst: &[Say]) {
        let frames: Vec<Vec<u8>> = burst.iter().map(frame).collect();
        frames.iter().for_each(|frame| self.apart.put_frame(frame));
        self.together.put_burst(&frames);
        self.compare();
        assert_eq!(self.apart.poll(), self.together.poll());
        self.compare();
    }

    fn wait(&mut self, ms: u64) {
        assert_eq!(self.apart.wait_ms(ms), self.together.wait_ms(ms));
        self.compare();
    }

    /// Nothing that is known of the flow differs, nor what was counted.
    fn compare(&self) {
        let state = |desk: &Desk| {
            let env = &desk.stack.env;
            let place = desk.flow().map(|flow| flow.sender.place()).filter(|&place| place != NONE);
            let sender = place.map(|place| &env.senders.active[place].sender);
            format!("{:?} {sender:?} {}", desk.flow(), env.memory.chunks.available())
        };
        assert_eq!(state(&self.apart), state(&self.together));
        let counted = |desk: &Desk| {
            let counters = desk.stack.counters();
            let drops: Vec<_> = counters.drops.iter().collect();
            format!("{} {} {drops:?}", counters.rx_frames, counters.rx_used)
        };
        assert_eq!(counted(&self.apart), counted(&self.together));
    }
}

/// A client whose stream comes in bursts, with losses, repetitions and other words in between; how many segments continued another.
fn tell(seed: u64) -> u64 {
    let mut random = Random::new(seed);
    let app = match random.below(3) {
        0 => AppConfig::Echo,
        1 => http(),
        _ => generate(random.below(50_000), random.permille(500)),
    };
    let setup = Setup {
        receive_buffer: 3_000 + random.below(60_000) as u32,
        nodelay: random.permille(700),
        ..Setup::new(BOTH[random.below(2) as usize], app)
    };
    let mut twins = Twins { apart: Desk::with(setup.clone()), together: Desk::with(setup) };
    let offer = Offer {
        mss: Some(500 + random.below(1_000) as u16),
        scale: random.permille(700).then(|| random.below(5) as u8),
        sack: random.permille(700),
        timestamps: random.permille(700).then_some(1_000),
    };
    assert_eq!(twins.apart.syn(offer), twins.together.syn(offer));
    assert_eq!(twins.apart.say(Flags::ACK, &[]), twins.together.say(Flags::ACK, &[]));
    for _ in 0..30 {
        let Some(taken) = twins.apart.flow().map(|flow| flow.contract.rcv_nxt) else { break };
        if random.permille(700) {
            // What was lost, or had no room, is said again.
            twins.apart.snd_nxt = taken;
        }
        let burst = burst(&mut random, &mut twins.apart);
        twins.together.snd_nxt = twins.apart.snd_nxt;
        twins.hear(&burst);
        twins.wait(random.below(60));
    }
    twins.together.stack.counters().rx_continued
}

/// Some segments that go on from one another, and what the way makes of them. They may all be older than what was said before, offer
/// another window, or report what has arrived.
fn burst(random: &mut Random, desk: &mut Desk) -> Vec<Say> {
    let mut burst = Vec::new();
    if random.permille(200) {
        desk.window = random.below(0x1_0000) as u16;
    }
    let una = desk.flow().map_or(desk.rcv_nxt, |flow| flow.local.snd_una);
    let sacked = (random.permille(200) && desk.rcv_nxt.after(una + 1))
        .then(|| sack(&[(una + 1, desk.rcv_nxt)]));
    let older = if random.permille(200) { random.below(3_000) as u32 } else { 0 };
    for _ in 0..1 + random.below(12) {
        let len = if random.permille(800) { 400 } else { 1 + random.below(700) };
        let payload = random.bytes(len as usize);
        let flag = match random.below(40) {
            0 => Flags::FIN,
            1..=8 => Flags::PSH,
            9 if random.permille(100) => Flags::RST,
            _ => Flags(0),
        };
        let mut say = desk.segment(Flags::ACK.with(flag), &payload);
        desk.snd_nxt += len as u32 + u32::from(flag == Flags::FIN);
        say.ack = say.ack - older;
        say.options.extend(sacked.iter().flatten());
        match random.below(40) {
            0 => say.window = random.below(0x1_0000) as u16,
            1 => say.ack = say.ack - random.below(500) as u32,
            2 => say.urgent = 1,
            3 => say.seq = say.seq - random.below(2_000) as u32,
            4 => say.payload.clear(),
            5 => continue,
            _ => {}
        }
        burst.push(say);
    }
    if random.permille(200) && burst.len() > 1 {
        let at = random.below(burst.len() as u64 - 1) as usize;
        burst.swap(at, at + 1);
    }
    if random.permille(100) {
        burst.push(burst.last().cloned().unwrap_or_else(|| desk.segment(Flags::ACK, &[])));
    }
    burst
}

#[test]
fn a_burst_is_judged_as_its_segments_are_one_by_one() {
    let continued: u64 = (0..700).map(tell).sum();
    assert!(continued > 5_000, "{continued} segments continued another");
}
