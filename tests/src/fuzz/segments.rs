//! A connection to an echo, against a model of its stream: whatever a client does that keeps to what it has said, all of it
//! comes back in the end, unless it ended the connection itself.
//!
//! The client says pieces of one stream anywhere, again and out of order, under any flags and with options; closes it,
//! aborts it, is silent, closes its window, and lies about what it has by SACK, which is only a hint (RFC 2018 8). Its
//! acknowledgements and its stream are true: who lies about these has broken the connection himself.

use super::{Dice, STEPS_MAX, assert_nothing_leaks, open_with, small};
use crate::kit::raw::Raw;
use crate::kit::settings::ECHO;
use crate::kit::world::World;
use cluster::id::Epoch;
use stack::seq::Seq;
use stack::time::Duration;
use stack::wire::{Flags, SegmentOptions};

/// Bytes of the stream lie before this, and a segment's length.
const STREAM_BYTES_MAX: u32 = 6000;
/// A client is silent for less than any patience.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// What is left to say, and to hear, takes fewer words than this: half of them follow each other at once, the others by longer
/// than any timer runs.
const WORDS_MAX: u32 = 200;

/// The client's byte at this offset of its stream: wherever it is said again, it is the same.
fn said_at(offset: u32) -> u8 {
    (offset % 251) as u8
}

/// What the client has said and heard.
struct Talk {
    raw: usize,
    /// Where its stream begins, and the answers.
    first: Seq,
    answers: Seq,
    /// Behind the last byte that was said.
    said: u32,
    /// Behind the last one that was acknowledged.
    acked: u32,
    /// It has closed, behind this byte.
    end: Option<u32>,
    /// It has heard that this is known.
    is_end_acked: bool,
    /// It has said a reset where it may have hit.
    has_aborted: bool,
    /// TSval of the last segment that was heard, if there are timestamps.
    stamp: Option<u32>,
}

/// Segments, time, and the owner's death.
pub fn segments(data: &[u8]) -> bool {
    let mut world = World::mirrored(small());
    let mut dice = Dice(data);
    let mut talk = Talk::begin(&mut world, dice.byte());
    let (mut is_promoted, mut silent) = (false, Duration::ZERO);
    for _ in 0..STEPS_MAX {
        if dice.is_empty() {
            break;
        }
        match dice.byte() {
            op @ 0..=209 => talk.say_anything(&mut world, &mut dice, op),
            op @ 210..=249 => {
                let time = Duration::from_micros(u64::from(dice.word()) * u64::from(op % 4) * 5);
                if silent.0 + time.0 < SILENCE_MAX.0 {
                    silent.0 += time.0;
                    world.run_for(time);
                }
            }
            250 if !talk.has_ended() => talk.abort(&mut world, &mut dice),
            251..=253 => talk.close(&mut world),
            _ if !is_promoted => {
                is_promoted = true;
                world.kill(0);
                world.run_for(Duration::from_micros(dice.word().into()));
                world.promote(1, Epoch(3));
            }
            _ => world.run_for(Duration::from_millis(500)),
        }
        talk.listen(&mut world);
    }
    let is_whole = talk.finish(&mut world);
    assert!(
        is_whole || talk.has_aborted,
        "{} of {} bytes came back",
        talk.heard(&world),
        talk.said
    );
    let is_deep = is_whole && talk.said > 0;
    assert_nothing_leaks(&mut world);
    is_deep
}

impl Talk {
    /// Connects, with the options that these bits say.
    fn begin(world: &mut World, bits: u8) -> Talk {
        let stamp = (bits & 1 != 0).then_some(0);
        let asked = SegmentOptions {
            mss: Some(if bits & 2 != 0 { 1200 } else { 88 }),
            window_scale: (bits & 4 != 0).then_some(bits >> 5),
            sack_permitted: bits & 8 == 0,
            timestamps: stamp.map(|echo| (clock(world), echo)),
            ..SegmentOptions::default()
        };
        let then = SegmentOptions { timestamps: asked.timestamps, ..SegmentOptions::default() };
        let raw = open_with(world, ECHO, asked, then);
        let (first, answers) = (world.raws[raw].snd_nxt, world.raws[raw].rcv_nxt);
        Talk {
            raw,
            first,
            answers,
            said: 0,
            acked: 0,
            end: None,
            is_end_acked: false,
            has_aborted: false,
            stamp,
        }
    }

    /// A piece of the stream, or what is none, as the dice want it.
    fn say_anything(&mut self, world: &mut World, dice: &mut Dice, op: u8) {
        let at = u32::from(dice.word()) % STREAM_BYTES_MAX;
        let len = u32::from(dice.byte()) * 4;
        let window = dice.word();
        let back = u32::from(op % 3) * u32::from(op);
        let is_plain = op < 160 || self.has_ended();
        let mut flags = if is_plain { Flags::ACK } else { Flags(dice.byte()) };
        // A FIN has its place, a reset is said by `abort`, and there is one connection.
        flags = Flags(flags.0 & !Flags::FIN.with(Flags::RST).0);
        if flags.has(Flags::SYN) && self.end.is_some() {
            flags = Flags::ACK;
        }
        let options = self.options(world, dice, op);
        let client = &mut world.raws[self.raw];
        client.window = if op.is_multiple_of(4) { window } else { 0xffff };
        client.options = options;
        let ack = Seq(client.rcv_nxt.0.wrapping_sub(back));
        let len = if flags.has(Flags::SYN) { 0 } else { len };
        self.say_piece(world, (at, len), ack, flags);
    }

    fn options(&self, world: &World, dice: &mut Dice, op: u8) -> SegmentOptions {
        let mut options = self.stamped(world);
        if op.is_multiple_of(5) {
            let (from, to) = (u32::from(dice.word()), u32::from(dice.word()));
            options.sack[0] = Some((self.answers + from, self.answers + to));
        }
        if op % 16 == 1 {
            // An old segment, that comes late: it may be refused, or not.
            let age = u32::from(dice.byte());
            options.timestamps =
                options.timestamps.map(|(value, echo)| (value.wrapping_sub(age), echo));
        }
        options
    }

    /// The timestamps that belong to now.
    fn stamped(&self, world: &World) -> SegmentOptions {
        let timestamps = self.stamp.map(|echo| (clock(world), echo));
        SegmentOptions { timestamps, ..SegmentOptions::default() }
    }

    /// A piece of the stream, as far as there is one; its end, if it reaches it.
    fn say_piece(&mut self, world: &mut World, (at, len): (u32, u32), ack: Seq, flags: Flags) {
        let end = self.end.unwrap_or(u32::MAX);
        let (at, to) = (at.min(end), (at + len).min(end));
        let payload: Vec<u8> = (at..to).map(said_at).collect();
        if at < to {
            self.said = self.said.max(to);
        }
        let flags = if to == end { flags.with(Flags::FIN) } else { flags };
        world.raws[self.raw].send_exactly(self.first + at, ack, flags, &payload);
        world.send_raw(self.raw);
    }

    /// Nothing comes behind what was said.
    fn close(&mut self, world: &mut World) {
        let at = *self.end.get_or_insert(self.said);
        world.raws[self.raw].options = self.stamped(world);
        let ack = world.raws[self.raw].rcv_nxt;
        self.say_piece(world, (at, 0), ack, Flags::ACK);
    }

    /// A reset: one that may hit, or one that cannot.
    fn abort(&mut self, world: &mut World, dice: &mut Dice) {
        let may_hit = dice.byte() < 128;
        // RFC 5961 3.2: only where the next byte is expected; the rest is challenged, or nothing.
        let seq = match may_hit {
            true => self.first + self.acked + u32::from(dice.byte() % 2),
            false => Seq((self.first + self.acked).0.wrapping_sub(1 + u32::from(dice.word()))),
        };
        self.has_aborted |= may_hit;
        world.raws[self.raw].options = self.stamped(world);
        let ack = world.raws[self.raw].rcv_nxt;
        world.raws[self.raw].send_exactly(
            seq,
            ack,
            Flags::RST.with(Flags(dice.byte() & 0x10)),
            &[],
        );
        world.send_raw(self.raw);
    }

    /// What has arrived is checked.
    fn listen(&mut self, world: &mut World) {
        while let Some(heard) = world.raws[self.raw].take() {
            if heard.flags.has(Flags::RST) {
                assert!(self.has_aborted || self.has_ended_at(&world.raws[self.raw]), "{heard:?}");
                continue;
            }
            let acked = heard.ack.since(self.first);
            let is_fin_acked = self.end.is_some_and(|end| acked == end + 1);
            assert!(acked <= self.said || is_fin_acked, "{acked} of {} is acknowledged", self.said);
            self.acked = self.acked.max(acked.min(self.said));
            self.is_end_acked |= is_fin_acked;
            self.stamp = heard.options.timestamps.map_or(self.stamp, |(value, _)| Some(value));
            let offset = heard.seq.distance(self.answers);
            for (n, &byte) in heard.payload.iter().enumerate() {
                let at = offset + n as i32;
                assert_eq!(byte, said_at(at as u32), "the echo at {at}");
                assert!((at as u32) < self.said, "an echo of what was not said, at {at}");
            }
        }
        let raw = &world.raws[self.raw];
        if self.has_ended_at(raw) {
            self.acked = self.said;
        }
    }

    /// Says what is not acknowledged yet, and listens, until everything has come back; whether it has.
    fn finish(&mut self, world: &mut World) -> bool {
        for word in 0..WORDS_MAX {
            self.listen(world);
            let is_said = self.acked == self.said && self.heard(world) == self.said;
            if is_said && (self.end.is_none() || self.has_ended_at(&world.raws[self.raw])) {
                return true;
            }
            let options = self.stamped(world);
            let raw = &mut world.raws[self.raw];
            (raw.window, raw.options) = (0xffff, options);
            let (ack, flags) = (raw.rcv_nxt, Flags::ACK.with(Flags::PSH));
            if self.is_end_acked {
                // What is repeated behind its acknowledgement is no word: RFC 9293 3.10.7.4, first.
                raw.send_exactly(self.first + self.said + 1, ack, Flags::ACK, &[]);
                world.send_raw(self.raw);
            } else {
                let len = (self.said - self.acked).min(1000);
                self.say_piece(world, (self.acked, len), ack, flags);
            }
            let patience = if word < WORDS_MAX / 2 { 20 } else { 1_500 };
            world.run_for(Duration::from_millis(patience));
            if self.has_aborted && word > 20 {
                break;
            }
        }
        false
    }

    /// Bytes that have come back, in order.
    fn heard(&self, world: &World) -> u32 {
        world.raws[self.raw].received.len() as u32
    }

    /// Whether both have closed: whoever speaks then is answered by a reset.
    fn has_ended_at(&self, raw: &Raw) -> bool {
        let all =
            |end: u32| raw.received.len() as u32 == end && raw.rcv_nxt == self.answers + end + 1;
        self.end.is_some_and(all)
    }

    fn has_ended(&self) -> bool {
        self.end.is_some()
    }
}

/// The client's clock.
fn clock(world: &World) -> u32 {
    world.now.millis() as u32
}
