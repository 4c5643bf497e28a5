//! What happens to a frame: a function of seed, direction and number, and of nothing else.
//!
//! Each question about a frame (is it lost? overtaken? by how many?) has a draw of its own, so that
//! turning one impairment on changes nothing about the others, and a run with the same seed loses
//! the same numbers again.
//!
//! Units: ppm, parts of a million; `_ns` nanoseconds.

/// Which way a frame goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// In at `a`, out at `b`.
    AToB,
    /// In at `b`, out at `a`.
    BToA,
}

/// How likely what is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Odds {
    /// It never arrives.
    pub loss_ppm: u32,
    /// It arrives twice.
    pub duplicate_ppm: u32,
    /// Later ones overtake it.
    pub reorder_ppm: u32,
    /// It arrives changed.
    pub corrupt_ppm: u32,
    /// It takes up to this much longer.
    pub jitter_ns: u64,
    /// Only TCP segments with payload are meant (jitter is for all).
    pub data_only: bool,
}

/// What happens to one frame.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Fate {
    /// It never arrives. Whatever else was drawn has no effect.
    pub lost: bool,
    /// It arrives twice.
    pub duplicated: bool,
    /// So many later frames go first.
    pub behind: Option<u64>,
    /// It arrives changed.
    pub flips: Option<Flips>,
    /// It takes so much longer.
    pub jitter_ns: u64,
}

/// Which bits of a packet arrive changed: some of one 16-bit word.
///
/// A ones' complement sum may miss changes in two words; it never misses a change in one, unless
/// all sixteen bits flip together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flips {
    place: u64,
    mask: u16,
}

/// Frames that overtake another at most. More than three, so that duplicate acknowledgements may be
/// taken for a loss.
const BEHIND_MAX: u64 = 8;

/// Bits of a packet that change at most.
const FLIPS_MAX: u64 = 3;

const MILLION: u64 = 1_000_000;
const ETHERNET_HEADER: usize = 14;

/// Draws of a frame. The numbers are part of what a seed means: new ones go to the end.
#[derive(Clone, Copy)]
enum Draw {
    Loss,
    Duplicate,
    Reorder,
    Behind,
    Corrupt,
    Place,
    Mask,
    Jitter,
}

impl Odds {
    /// What happens to frame `number`, counted from 0 in each direction.
    pub fn fate(&self, seed: u64, direction: Direction, number: u64) -> Fate {
        let draw = |draw: Draw| {
            let which = (direction as u64) << 8 | draw as u64;
            mix(mix(mix(seed) ^ number) ^ which)
        };
        let happens = |what: Draw, ppm: u32| draw(what) % MILLION < u64::from(ppm);
        let behind = || 1 + draw(Draw::Behind) % BEHIND_MAX;
        let flips = || Flips { place: draw(Draw::Place), mask: mask(draw(Draw::Mask)) };
        Fate {
            lost: happens(Draw::Loss, self.loss_ppm),
            duplicated: happens(Draw::Duplicate, self.duplicate_ppm),
            behind: happens(Draw::Reorder, self.reorder_ppm).then(behind),
            flips: happens(Draw::Corrupt, self.corrupt_ppm).then(flips),
            jitter_ns: draw(Draw::Jitter).checked_rem(self.jitter_ns).unwrap_or(0),
        }
    }
}

impl Flips {
    /// Changes a frame behind its Ethernet header.
    pub fn apply(&self, frame: &mut [u8]) {
        let packet = frame.get_mut(ETHERNET_HEADER..).unwrap_or_default();
        let words = packet.len() / 2;
        if words > 0 {
            let at = 2 * (self.place % words as u64) as usize;
            let [high, low] = self.mask.to_be_bytes();
            packet[at] ^= high;
            packet[at + 1] ^= low;
        }
    }
}

/// One to [`FLIPS_MAX`] bits; never none, because bits are set and not toggled.
fn mask(draw: u64) -> u16 {
    let count = 1 + draw % FLIPS_MAX;
    (0..count).fold(0, |mask, n| mask | 1 << ((draw >> (8 + 4 * n)) % 16))
}

/// The finaliser of splitmix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number
/// generators", 2014): every bit of the result depends on every bit of `x`.
fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

/// Whether a frame carries an IPv4 or IPv6 packet.
pub fn is_ip(frame: &[u8]) -> bool {
    matches!(frame.get(12..14), Some([0x08, 0x00] | [0x86, 0xdd]))
}

/// Whether a frame carries a TCP segment with payload. IPv6 extension headers are not looked
/// through: nobody here sends them.
pub fn has_payload(frame: &[u8]) -> bool {
    payload_bytes(frame).is_some_and(|bytes| bytes > 0)
}

fn payload_bytes(frame: &[u8]) -> Option<usize> {
    const TCP: u8 = 6;
    let packet = frame.get(ETHERNET_HEADER..)?;
    let word =
        |at: usize| Some(usize::from(u16::from_be_bytes([*packet.get(at)?, *packet.get(at + 1)?])));
    let (header, total, protocol) = match frame.get(12..14)? {
        [0x08, 0x00] => (4 * usize::from(packet.first()? & 0x0f), word(2)?, *packet.get(9)?),
        [0x86, 0xdd] => (40, 40 + word(4)?, *packet.get(6)?),
        _ => return None,
    };
    let offset = 4 * usize::from(packet.get(header + 12)? >> 4);
    (protocol == TCP).then(|| total.saturating_sub(header + offset))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ODDS: Odds = Odds {
        loss_ppm: 10_000,
        duplicate_ppm: 20_000,
        reorder_ppm: 30_000,
        corrupt_ppm: 40_000,
        jitter_ns: 1_000,
        data_only: false,
    };

    fn fates(odds: Odds, seed: u64, direction: Direction) -> Vec<Fate> {
        (0..100_000).map(|number| odds.fate(seed, direction, number)).collect()
    }

    #[test]
    fn the_seed_decides_and_directions_differ() {
        let once = fates(ODDS, 7, Direction::AToB);
        assert_eq!(once, fates(ODDS, 7, Direction::AToB));
        assert_ne!(once, fates(ODDS, 8, Direction::AToB));
        assert_ne!(once, fates(ODDS, 7, Direction::BToA));
    }

    #[test]
    fn each_thing_happens_as_often_as_it_should() {
        let all = fates(ODDS, 1, Direction::AToB);
        let check = |what: &str, ppm: u32, happens: fn(&Fate) -> bool| {
            let count = all.iter().filter(|fate| happens(fate)).count() as u32;
            let expected = ppm / 10;
            assert!(count.abs_diff(expected) < expected / 5, "{what}: {count} for {expected}");
        };
        check("lost", ODDS.loss_ppm, |fate| fate.lost);
        check("duplicated", ODDS.duplicate_ppm, |fate| fate.duplicated);
        check("overtaken", ODDS.reorder_ppm, |fate| fate.behind.is_some());
        check("changed", ODDS.corrupt_ppm, |fate| fate.flips.is_some());
        assert!(all.iter().all(|fate| fate.jitter_ns < ODDS.jitter_ns));
        assert!(all.iter().all(|fate| fate.behind.is_none_or(|n| (1..=BEHIND_MAX).contains(&n))));
    }

    #[test]
    fn one_impairment_does_not_move_the_others() {
        let alone = Odds { duplicate_ppm: 0, reorder_ppm: 0, corrupt_ppm: 0, ..ODDS };
        let lost =
            |odds| fates(odds, 3, Direction::AToB).iter().map(|f| f.lost).collect::<Vec<_>>();
        assert_eq!(lost(ODDS), lost(alone));
        assert_eq!(alone.fate(3, Direction::AToB, 5).flips, None);
    }

    /// RFC 1071.
    fn sum(bytes: &[u8]) -> u16 {
        let word = |pair: &[u8]| u32::from(u16::from_be_bytes([pair[0], pair[1]]));
        let mut sum: u32 = bytes.chunks_exact(2).map(word).sum();
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        sum as u16
    }

    #[test]
    fn no_flip_spares_the_packet_its_checksum_or_touches_the_ethernet_header() {
        let odds = Odds { corrupt_ppm: 1_000_000, ..Odds::default() };
        let mut frame = [0u8; 114];
        stack::generate::fill(1, 0, &mut frame);
        for number in 0..10_000 {
            let mut changed = frame;
            let fate = odds.fate(5, Direction::BToA, number);
            fate.flips.unwrap().apply(&mut changed);
            assert_eq!(changed[..ETHERNET_HEADER], frame[..ETHERNET_HEADER]);
            let bits: u32 = changed.iter().zip(frame).map(|(a, b)| (a ^ b).count_ones()).sum();
            assert!((1..=FLIPS_MAX as u32).contains(&bits), "frame {number}: {bits} bits");
            assert_ne!(sum(&changed[14..]), sum(&frame[14..]), "frame {number}");
        }
        Flips { place: 3, mask: 1 }.apply(&mut []);
        Flips { place: 3, mask: 1 }.apply(&mut [0; 15]);
    }

    #[test]
    fn payload_is_told_from_headers() {
        let mut frame = [0u8; 80];
        frame[12..14].copy_from_slice(&[0x08, 0x00]);
        frame[14] = 0x45;
        frame[17] = 40;
        frame[23] = 6;
        frame[46] = 0x50;
        assert!(is_ip(&frame) && !has_payload(&frame));
        frame[17] = 41;
        assert!(has_payload(&frame));
        frame[23] = 17;
        assert!(!has_payload(&frame));
        frame[12..14].copy_from_slice(&[0x86, 0xdd]);
        frame[18..21].copy_from_slice(&[0, 20, 6]);
        frame[66] = 0x50;
        assert!(is_ip(&frame) && !has_payload(&frame));
        frame[19] = 21;
        assert!(has_payload(&frame));
        frame[12..14].copy_from_slice(&[0x08, 0x06]);
        assert!(!is_ip(&frame) && !has_payload(&frame));
        for cut in 0..frame.len() {
            has_payload(&frame[..cut]);
        }
    }
}
