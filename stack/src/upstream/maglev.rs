//! Consistent hashing: a table that says which server a client's hash leads to, and that changes little when servers change.
//!
//! Each server has its own order of all places of the table; in turn, as often as their weights say, servers take the first
//! place of theirs that is free. The table follows from addresses, ports and weights alone: every core of every node has
//! the same one. Whether a server is up is no part of it: a client whose server is down asks again further on, and comes
//! back to it afterwards; nobody else moves.
//!
//! Dealing all places takes about twelve steps for each, because the last ones that are free are long looked for; a weight
//! that changes while clients come must not stop a core for so long. So a table is dealt beside the one that is in use, some
//! steps at a time, and takes its place when it is whole.
//!
//! Spec: Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer" (NSDI 2016), 3.4, with weights as in its
//! outlook: by how often a server takes a turn, here against the mean. Bounds: [`PLACES`] places, at least 64 for each of
//! the most servers.

use super::SERVERS_MAX;
use crate::wire::Address;
use alloc::vec::Vec;

/// Places of the table: a prime, so that every step visits all of them.
pub const PLACES: usize = 65_537;

const _: () = assert!(PLACES / SERVERS_MAX >= 64, "every server has its share");

/// So often a client whose server is not to be had asks further on, before it takes whoever suits it best.
pub const STEPS_MAX: u64 = 32;

/// No server: the table is empty.
const NOBODY: u16 = u16::MAX;

/// The table.
pub struct Maglev {
    /// Whom clients are led to.
    places: Vec<u16>,
    /// What is being dealt.
    next: Vec<u16>,
    /// Places of that which are free.
    free: usize,
    turns: Vec<Turn>,
    /// Whose turn it is.
    turn: usize,
    /// Sum of all weights.
    weights: u64,
}

/// A server that takes places.
#[derive(Clone, Copy)]
struct Turn {
    server: u16,
    weight: u64,
    /// Where it looks next, and in which steps.
    at: u64,
    step: u64,
    /// Its part of a turn that it has not taken yet, in parts of the sum of all weights.
    credit: u64,
}

impl Default for Maglev {
    /// An empty table, with all its memory.
    fn default() -> Maglev {
        Maglev {
            places: alloc::vec![NOBODY; PLACES],
            next: alloc::vec![NOBODY; PLACES],
            free: 0,
            turns: Vec::with_capacity(SERVERS_MAX),
            turn: 0,
            weights: 0,
        }
    }
}

impl Maglev {
    /// Begins to deal a table out to servers: address, port and weight of each.
    pub fn begin(&mut self, servers: impl Iterator<Item = (Address, u16, u16)>) {
        self.turns.clear();
        for (server, (address, port, weight)) in (0..).zip(servers).take(SERVERS_MAX) {
            let (at, step) = order(&address, port);
            if weight > 0 {
                self.turns.push(Turn { server, weight: weight.into(), at, step, credit: 0 });
            }
        }
        self.weights = self.turns.iter().map(|turn| turn.weight).sum();
        self.next.fill(NOBODY);
        (self.turn, self.free) = (0, PLACES);
        if self.turns.is_empty() {
            self.finish();
        }
    }

    /// Goes on with that for at most so many steps: a server's turn begins, or a place is looked at. Answers how many are
    /// left.
    pub fn deal(&mut self, mut steps: u32) -> u32 {
        let count = self.turns.len() as u64;
        while self.free > 0 && steps > 0 {
            steps -= 1;
            let turn = &mut self.turns[self.turn];
            if turn.credit < self.weights {
                turn.credit += turn.weight * count;
            } else {
                let place = &mut self.next[turn.at as usize];
                if *place == NOBODY {
                    *place = turn.server;
                    turn.credit -= self.weights;
                    self.free -= 1;
                }
                turn.at = (turn.at + turn.step) % PLACES as u64;
            }
            if turn.credit < self.weights {
                self.turn = (self.turn + 1) % self.turns.len();
            }
            if self.free == 0 {
                self.finish();
            }
        }
        steps
    }

    /// Whether a table is being dealt.
    pub fn is_dealing(&self) -> bool {
        self.free > 0
    }

    fn finish(&mut self) {
        self.free = 0;
        core::mem::swap(&mut self.places, &mut self.next);
    }

    /// The servers to ask for a client, one after the other.
    pub fn servers(&self, client: u64) -> impl Iterator<Item = u16> + '_ {
        let place = move |step| (mix(client ^ mix(step)) % PLACES as u64) as usize;
        (0..STEPS_MAX).map(move |step| self.places[place(step)]).filter(|server| *server != NOBODY)
    }
}

/// Where a server begins to look for its places, and in which steps.
fn order(address: &Address, port: u16) -> (u64, u64) {
    let words = address
        .0
        .chunks_exact(8)
        .map(|word| u64::from_le_bytes(word.try_into().expect("eight bytes")));
    let name = words.fold(port.into(), |name, word| mix(name ^ word));
    let (places, other) = (PLACES as u64, mix(!name));
    (name % places, other % (places - 1) + 1)
}

/// Spreads a number over all bits (splitmix64's finaliser).
fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ z >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ z >> 31
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(servers: &[(u8, u16)]) -> Maglev {
        let mut table = Maglev::default();
        let server = |&(n, weight)| (Address::v4([10, 2, 0, n]), 80, weight);
        table.begin(servers.iter().map(server));
        while table.is_dealing() {
            table.deal(u32::MAX);
        }
        table
    }

    /// Who has each place: the last octet of the server's address.
    fn owners(servers: &[(u8, u16)]) -> Vec<u8> {
        table(servers).places.iter().map(|&server| servers[server as usize].0).collect()
    }

    fn share(owners: &[u8], n: u8) -> f64 {
        owners.iter().filter(|owner| **owner == n).count() as f64 / PLACES as f64
    }

    #[test]
    fn places_are_shared_by_weight() {
        for weights in [&[1, 1, 1][..], &[3, 1], &[256, 1, 128, 0, 7], &[5; 100]] {
            let servers: Vec<(u8, u16)> = (1..).zip(weights.iter().copied()).collect();
            let owners = owners(&servers);
            let sum: u16 = weights.iter().sum();
            for (n, weight) in servers {
                let wanted = f64::from(weight) / f64::from(sum);
                let share = share(&owners, n);
                assert!(
                    (share - wanted).abs() <= 0.002 + wanted * 0.02,
                    "{n}: {share} for {wanted}"
                );
            }
        }
    }

    /// Minimal disruption: beside what a change must move, very little moves.
    #[test]
    fn a_server_that_comes_or_goes_moves_little_else() {
        let mut state = 7u64;
        let mut draw = |bound: u64| {
            state = mix(state);
            state % bound
        };
        for _ in 0..12 {
            let count = 2 + draw(40) as u8;
            let servers: Vec<(u8, u16)> = (0..count).map(|n| (n, 1 + draw(9) as u16)).collect();
            let gone = draw(count.into()) as u8;
            let fewer: Vec<_> = servers.iter().copied().filter(|(n, _)| *n != gone).collect();
            let (before, after) = (owners(&servers), owners(&fewer));
            let moved = before.iter().zip(&after).filter(|(a, b)| **a != gone && a != b).count();
            let moved = moved as f64 / PLACES as f64;
            // The paper measures below 2 % for tables a hundred times the servers, and less for larger ones.
            assert!(moved < 0.05, "{moved} of {count} servers, without {gone}");
            assert!(after.iter().all(|owner| *owner != gone));
        }
    }

    /// The order in which servers are listed, and the nodes, make no difference but in ties.
    #[test]
    fn a_weight_that_changes_moves_as_much_as_it_must() {
        let servers: Vec<(u8, u16)> = (0..10).map(|n| (n, 10)).collect();
        let mut heavier = servers.clone();
        heavier[3].1 = 20;
        let (before, after) = (owners(&servers), owners(&heavier));
        let must = share(&after, 3) - share(&before, 3);
        let moved = before.iter().zip(&after).filter(|(a, b)| a != b).count() as f64;
        assert!(moved / PLACES as f64 <= must + 0.08, "{moved} places, {must}");
    }

    #[test]
    fn without_weight_there_is_nobody_and_every_step_is_within_the_table() {
        assert_eq!(table(&[(1, 0), (2, 0)]).servers(7).count(), 0);
        assert_eq!(table(&[]).servers(7).count(), 0);
        let three = table(&[(1, 1), (2, 1), (3, 1)]);
        for client in 0..1000 {
            let asked: Vec<u16> = three.servers(mix(client)).collect();
            assert_eq!(asked.len() as u64, STEPS_MAX);
            // Whichever of them is left, it is found.
            assert!([0, 1, 2].iter().all(|server| asked.contains(server)));
        }
    }

    /// Some steps at a time lead to the same table, and all of them are few, whatever the servers weigh.
    #[test]
    fn a_table_is_dealt_in_steps_and_few_of_them() {
        let one = |n: usize, weight| (Address::v4([10, 2, (n >> 8) as u8, n as u8]), 80, weight);
        let of = |count: usize, weight: fn(usize) -> u16| -> Vec<(Address, u16, u16)> {
            (0..count).map(|n| one(n, weight(n))).collect()
        };
        let mixes = [
            of(1, |_| 1),
            of(SERVERS_MAX, |_| 1),
            of(SERVERS_MAX, |n| if n == 7 { 256 } else { 1 }),
            of(SERVERS_MAX, |n| if n % 2 == 0 { 256 } else { 1 }),
            of(40, |n| 1 + n as u16),
        ];
        for servers in mixes {
            let dealt = |at_once: u32| {
                let (mut table, mut steps) = (Maglev::default(), 0);
                table.begin(servers.iter().copied());
                while table.is_dealing() {
                    steps += at_once - table.deal(at_once);
                }
                (table.places, steps)
            };
            let (whole, steps) = dealt(1 << 24);
            assert!(steps as usize <= 13 * PLACES, "{steps} steps for {} servers", servers.len());
            assert_eq!(dealt(1), (whole.clone(), steps));
            assert_eq!(dealt(777), (whole, steps));
        }
    }
}
