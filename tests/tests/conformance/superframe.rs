//! TCP segmentation offload: what a NIC cuts out of a superframe is what would have left segment by segment.

use super::desk::{BOTH, Desk, Offer, Say, Setup, generate, sack};
use stack::wire::Flags;
use tests::kit::random::Random;

/// Two stacks that are told the same; the NIC of the second cuts.
struct Twins {
    whole: Desk,
    cut: Desk,
}

impl Twins {
    /// The same happens to both, and the same comes of it.
    fn both<T: PartialEq + std::fmt::Debug>(&mut self, mut step: impl FnMut(&mut Desk) -> T) -> T {
        let (whole, cut) = (step(&mut self.whole), step(&mut self.cut));
        assert_eq!(whole, cut);
        whole
    }
}

/// A client that downloads, loses, repeats itself, speaks in between, opens and closes its window, and waits.
fn tell(seed: u64) -> u64 {
    let mut random = Random::new(seed);
    let family = BOTH[random.below(2) as usize];
    let setup = Setup {
        nodelay: random.permille(700),
        mss: 1440 - random.below(900) as u16,
        segments_max: if random.permille(200) { 7 } else { 512 },
        ..Setup::new(family, generate(20_000 + random.below(400_000), random.permille(500)))
    };
    let mut twins = Twins { whole: Desk::with(setup.clone()), cut: Desk::with(setup) };
    twins.cut.cuts_superframes = true;
    twins.cut.segments_max = 2 + random.below(63) as usize;
    let offer = Offer {
        mss: Some(500 + random.below(1_000) as u16),
        scale: random.permille(700).then(|| random.below(5) as u8),
        sack: random.permille(700),
        timestamps: random.permille(700).then_some(1_000),
    };
    twins.both(|desk| desk.syn(offer));
    twins.both(|desk| desk.say(Flags::ACK, &[]));
    for _ in 0..60 {
        let Some(una) = twins.whole.flow().map(|flow| flow.local.snd_una) else { break };
        let flight = twins.whole.rcv_nxt.since(una);
        let ack = una + random.below(u64::from(flight) + 1) as u32;
        match random.below(10) {
            0..=4 => drop(twins.both(|desk| desk.acknowledge(ack))),
            // What lies before `ack` is missing, or seems to be.
            5 if offer.sack && twins.whole.rcv_nxt.after(ack) => {
                let blocks = sack(&[(ack, twins.whole.rcv_nxt)]);
                twins.both(|desk| {
                    let segment = desk.segment(Flags::ACK, &[]);
                    let options = [segment.options.clone(), blocks.clone()].concat();
                    desk.hear(Say { ack: una, options, ..segment })
                });
            }
            6 => {
                let len = 1 + random.below(300);
                let word = random.bytes(len as usize);
                twins.both(|desk| desk.say(Flags::ACK, &word));
            }
            // A hole is before it.
            7 => drop(twins.both(|desk| desk.say_at(desk.snd_nxt + 50, Flags::ACK, b"beyond"))),
            8 => {
                let window = random.below(0x1_0000) as u16;
                twins.both(|desk| desk.window = window);
            }
            _ => {
                let ms = random.below(700);
                twins.both(|desk| desk.wait_ms(ms));
            }
        }
    }
    assert_eq!(twins.whole.received, twins.cut.received);
    assert_eq!(twins.whole.superframes, 0);
    twins.cut.superframes
}

#[test]
fn a_superframe_is_the_segments_that_it_is_cut_into() {
    let superframes: u64 = (0..300).map(tell).sum();
    assert!(superframes > 1_000, "{superframes}");
}

/// A full window at once is one frame for the kernel, however many segments it is.
#[test]
fn a_window_of_segments_leaves_as_one_superframe() {
    for family in BOTH {
        let mut desk = Desk::with(Setup::new(family, generate(100_000, true)));
        desk.cuts_superframes = true;
        desk.syn(Offer { mss: Some(1_000), scale: None, sack: false, timestamps: None });
        let answer = desk.say(Flags::ACK, &[]);
        assert_eq!((answer.len(), desk.superframes), (10, 1));
        assert!(answer.iter().all(|segment| segment.payload.len() == 1_000));
    }
}
