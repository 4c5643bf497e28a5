//! Links and the switch: what a frame goes through between two machines.

use crate::kit::random::Random;
use stack::wire::Mac;
use std::collections::{BTreeMap, BTreeSet};

/// A machine's end on one of the two networks. The clients' network has nodes and hosts, the cluster's nodes and the
/// witness.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Plug {
    /// A node, by its index.
    Node(usize),
    /// A client's machine, by its index.
    Host(usize),
    /// A server's machine, by its index.
    Server(usize),
    /// The witness.
    Witness,
}

/// Which of the two networks.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Side {
    /// Clients and nodes.
    Client,
    /// Nodes and witness.
    Cluster,
}

/// How bad a network is; all its links alike.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Weather {
    /// One way, in nanoseconds.
    pub delay: u64,
    /// Up to so much more: frames overtake each other.
    pub jitter: u64,
    /// Lost, in a thousand.
    pub loss: u64,
    /// Arriving twice, in a thousand.
    pub twice: u64,
    /// The second copy of one up to so much later still.
    pub straggling: u64,
    /// With a bit turned over, in a thousand.
    pub damage: u64,
}

impl Weather {
    /// No faults.
    pub const fn fair(delay: u64) -> Weather {
        Weather { delay, jitter: 0, loss: 0, twice: 0, straggling: 0, damage: 0 }
    }
}

/// Turns a bit over where only IP's and TCP's own checksums can tell: what else there is on a wire has Ethernet's, and is
/// lost. So it is in datagrams of agents, whose bytes begin behind their headers.
fn damage(frame: &mut Vec<u8>, random: &mut Random) {
    const HEADER: usize = 14;
    if !matches!(frame.get(12..HEADER), Some([8, 0] | [0x86, 0xdd])) {
        return frame.clear();
    }
    let bit = random.below(8 * (frame.len() - HEADER) as u64) as usize;
    frame[HEADER + bit / 8] ^= 1 << (bit % 8);
}

/// One of the two networks.
#[derive(Debug)]
pub struct Network {
    /// How bad it is.
    pub weather: Weather,
    /// How bad it is when nothing is wrong.
    usual: Weather,
    /// One way from the first to the second, nothing passes.
    cut: BTreeSet<(Plug, Plug)>,
    /// Plugs from which and to which nothing passes.
    unplugged: BTreeSet<Plug>,
    /// Until when what comes from or goes to a plug is held up.
    clogged: BTreeMap<Plug, u64>,
    table: BTreeMap<Mac, Plug>,
    plugs: Vec<Plug>,
    /// Frames that were lost, doubled, damaged or cut off.
    pub harmed: u64,
}

impl Network {
    /// A network of these plugs.
    pub fn new(weather: Weather, plugs: Vec<Plug>) -> Network {
        Network {
            weather,
            usual: weather,
            cut: BTreeSet::new(),
            unplugged: BTreeSet::new(),
            clogged: BTreeMap::new(),
            table: BTreeMap::new(),
            plugs,
            harmed: 0,
        }
    }

    /// Another machine is plugged in.
    pub fn add(&mut self, plug: Plug) {
        self.plugs.push(plug);
    }

    /// Cuts or joins one direction between two plugs.
    pub fn set_cut(&mut self, from: Plug, to: Plug, is_cut: bool) {
        match is_cut {
            true => self.cut.insert((from, to)),
            false => self.cut.remove(&(from, to)),
        };
    }

    /// Pulls a plug or puts it back. The switch forgets what it has learnt of it.
    pub fn set_unplugged(&mut self, plug: Plug, is_out: bool) {
        if is_out {
            self.unplugged.insert(plug);
            self.table.retain(|_, known| *known != plug);
        } else {
            self.unplugged.remove(&plug);
        }
    }

    /// What comes from or goes to a plug waits until then, and arrives all at once.
    pub fn clog(&mut self, plug: Plug, until: u64) {
        self.clogged.insert(plug, until);
    }

    /// Whether a plug has a carrier.
    pub fn has_carrier(&self, plug: Plug) -> bool {
        !self.unplugged.contains(&plug)
    }

    /// Whether everything passes, as it does when nothing is wrong.
    pub fn is_well(&self, now: u64) -> bool {
        let is_clogged = self.clogged.values().any(|until| now <= *until);
        let is_whole = self.cut.is_empty() && self.unplugged.is_empty();
        is_whole && !is_clogged && self.weather == self.usual
    }

    /// Everything passes again, and the weather is as usual.
    pub fn heal(&mut self) {
        self.cut.clear();
        self.unplugged.clear();
        self.clogged.clear();
        self.weather = self.usual;
    }

    /// Where a switch sends a frame that comes in at `from`: to whom it has learnt, or to everybody.
    pub fn route(&mut self, from: Plug, frame: &[u8]) -> Vec<Plug> {
        if !self.has_carrier(from) {
            return Vec::new();
        }
        let mac = |at: usize| -> Mac { frame[at..at + 6].try_into().expect("frames have headers") };
        let (to, source) = (mac(0), mac(6));
        if source[0] & 1 == 0 {
            self.table.insert(source, from);
        }
        match self.table.get(&to) {
            Some(&plug) if to[0] & 1 == 0 => (plug != from).then_some(plug).into_iter().collect(),
            _ => self.plugs.iter().copied().filter(|plug| *plug != from).collect(),
        }
    }

    /// When copies of a frame from one plug to another arrive after `now`, and what has become of them.
    pub fn carry(
        &mut self,
        now: u64,
        (from, to): (Plug, Plug),
        frame: &[u8],
        random: &mut Random,
    ) -> Vec<(u64, Vec<u8>)> {
        let is_out = !self.has_carrier(from) || !self.has_carrier(to);
        if is_out || self.cut.contains(&(from, to)) || random.permille(self.weather.loss) {
            self.harmed += 1;
            return Vec::new();
        }
        let clogged = [from, to].map(|plug| self.clogged.get(&plug).copied().unwrap_or(0));
        let copies = 1 + random.permille(self.weather.twice) as usize;
        self.harmed += copies as u64 - 1;
        let copy = |index: usize| {
            let straggling = if index == 0 { 0 } else { self.weather.straggling };
            let late = random.below(self.weather.jitter + 1) + random.below(straggling + 1);
            let at = clogged.into_iter().fold(now + self.weather.delay + late, u64::max);
            let mut frame = frame.to_vec();
            if random.permille(self.weather.damage) {
                self.harmed += 1;
                damage(&mut frame, random);
            }
            (at, frame)
        };
        (0..copies).map(copy).filter(|(_, frame)| !frame.is_empty()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DELAY: u64 = 100;
    const FRAME: [u8; 14] = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];

    fn network() -> (Network, Random) {
        let plugs = vec![Plug::Node(0), Plug::Node(1), Plug::Host(0)];
        (Network::new(Weather::fair(DELAY), plugs), Random::new(1))
    }

    fn arrivals(world: &mut (Network, Random), now: u64, from: Plug, to: Plug) -> Vec<u64> {
        let (network, random) = world;
        let copies = network.carry(now, (from, to), &FRAME, random);
        copies.into_iter().map(|(at, _)| at).collect()
    }

    #[test]
    fn what_passes_a_clogged_plug_arrives_all_at_once_when_it_is_free() {
        let mut world = network();
        world.0.clog(Plug::Node(0), 5_000);
        assert_eq!(arrivals(&mut world, 1_000, Plug::Node(0), Plug::Host(0)), [5_000]);
        assert_eq!(arrivals(&mut world, 2_000, Plug::Host(0), Plug::Node(0)), [5_000]);
        assert_eq!(arrivals(&mut world, 2_000, Plug::Host(0), Plug::Node(1)), [2_000 + DELAY]);
        assert_eq!(arrivals(&mut world, 4_950, Plug::Node(0), Plug::Host(0)), [4_950 + DELAY]);
        assert_eq!(world.0.harmed, 0, "nothing is lost in it");
        assert!(!world.0.is_well(5_000) && world.0.is_well(5_001));
    }

    #[test]
    fn a_cut_is_of_one_direction_and_a_pulled_plug_of_both() {
        let mut world = network();
        world.0.set_cut(Plug::Node(0), Plug::Node(1), true);
        assert!(arrivals(&mut world, 0, Plug::Node(0), Plug::Node(1)).is_empty());
        assert_eq!(arrivals(&mut world, 0, Plug::Node(1), Plug::Node(0)), [DELAY]);
        world.0.set_unplugged(Plug::Node(1), true);
        assert!(arrivals(&mut world, 0, Plug::Node(1), Plug::Node(0)).is_empty());
        assert_eq!(world.0.harmed, 2);
        world.0.heal();
        assert_eq!(arrivals(&mut world, 0, Plug::Node(0), Plug::Node(1)), [DELAY]);
    }

    #[test]
    fn a_switch_floods_what_it_has_not_learnt_and_forgets_a_pulled_plug() {
        let (mut network, _) = network();
        assert_eq!(network.route(Plug::Node(0), &FRAME), [Plug::Node(1), Plug::Host(0)]);
        let mut answer = FRAME;
        answer[..6].copy_from_slice(&FRAME[6..12]);
        answer[6..12].copy_from_slice(&FRAME[..6]);
        assert_eq!(network.route(Plug::Host(0), &answer), [Plug::Node(0)]);
        assert_eq!(network.route(Plug::Node(0), &FRAME), [Plug::Host(0)]);
        network.set_unplugged(Plug::Host(0), true);
        assert_eq!(network.route(Plug::Node(0), &FRAME), [Plug::Node(1), Plug::Host(0)]);
        assert!(network.route(Plug::Host(0), &answer).is_empty());
    }
}
