//! Visits every state of a small world, breadth first, and says how it can go wrong.
//!
//! Two questions: can a rule be broken (then the shortest way there is told), and can every state that is reached still
//! come to a good end (then nobody ever waits for something that nothing brings)?
//!
//! Every state is visited; a world says itself what of it nothing will look at again ([`Model::reduced`]). States are kept
//! once, and steps get their names only when a way is told: so a million states take a few seconds.
//!
//! Bounds: [`STATES_MAX`] states; a world with more is too large for a test.

use std::fmt::Debug;
use std::hash::{BuildHasher, BuildHasherDefault, Hash, Hasher};

/// More states than this end the search.
const STATES_MAX: usize = 4_000_000;

/// A world that can be visited.
pub trait Model: Copy + Eq + Hash + Debug {
    /// Every step that is possible, and the world after it. A step that breaks a rule says which.
    fn steps(&self, into: &mut Steps<Self>);

    /// Whether everybody has got what was theirs.
    fn is_good_end(&self) -> bool;

    /// The state without what nothing will ever look at: states that differ by that alone are one.
    fn reduced(self) -> Self;
}

/// The steps that are possible in one state.
pub struct Steps<M> {
    all: Vec<(String, Result<M, String>)>,
    /// Steps have their names; else they are empty.
    has_names: bool,
}

impl<M: Model> Steps<M> {
    fn new(has_names: bool) -> Steps<M> {
        Steps { all: Vec::new(), has_names }
    }

    /// One more.
    pub fn add(&mut self, name: impl FnOnce() -> String, next: Result<M, String>) {
        let name = if self.has_names { name() } else { String::new() };
        self.all.push((name, next.map(M::reduced)));
    }
}

/// What came of a search.
#[derive(Debug)]
pub enum Verdict {
    /// Nothing can go wrong in so many states.
    Sound(usize),
    /// A rule can be broken.
    Broken {
        /// Which.
        why: String,
        /// By these steps.
        way: Vec<String>,
    },
    /// Something waits for ever.
    Stuck {
        /// After these steps.
        way: Vec<String>,
        /// Where.
        state: String,
    },
}

/// Mixes what a state consists of, a word at a time, as the compiler's own tables do.
#[derive(Default)]
struct Mixer(u64);

impl Hasher for Mixer {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.write_u8(byte));
    }

    #[inline(always)]
    fn write_u8(&mut self, byte: u8) {
        self.write_u64(byte.into());
    }

    #[inline(always)]
    fn write_u64(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(0x517c_c1b7_2722_0a95);
    }

    fn write_usize(&mut self, word: usize) {
        self.write_u64(word as u64);
    }

    #[inline(always)]
    fn write_isize(&mut self, word: isize) {
        self.write_u64(word as u64);
    }

    fn finish(&self) -> u64 {
        self.0 ^ self.0 >> 32
    }
}

/// A place in the table that nobody has taken.
const FREE: (u32, u32) = (0, u32::MAX);

/// Every state, and how it was reached first.
struct Visited<M> {
    states: Vec<M>,
    /// The state before.
    before: Vec<u32>,
    /// Hashes of states and their indices, at the first free place from the hash on; at most half of it is taken.
    table: Vec<(u32, u32)>,
}

impl<M: Model> Visited<M> {
    fn new() -> Visited<M> {
        Visited { states: Vec::new(), before: Vec::new(), table: vec![FREE; 1 << 10] }
    }

    /// The first place in the table from a hash on that is free or suits.
    fn place(&self, hash: u32, suits: impl Fn(u32) -> bool) -> usize {
        let mask = self.table.len() - 1;
        let mut at = hash as usize & mask;
        while self.table[at] != FREE && !(self.table[at].0 == hash && suits(self.table[at].1)) {
            at = (at + 1) & mask;
        }
        at
    }

    fn note(&mut self, state: M, before: u32) -> u32 {
        let hash = BuildHasherDefault::<Mixer>::default().hash_one(state) as u32;
        let at = self.place(hash, |index| self.states[index as usize] == state);
        if self.table[at] != FREE {
            return self.table[at].1;
        }
        let index = self.states.len() as u32;
        self.table[at] = (hash, index);
        self.states.push(state);
        self.before.push(before);
        if self.states.len() * 2 > self.table.len() {
            let larger = vec![FREE; self.table.len() * 2];
            let smaller = std::mem::replace(&mut self.table, larger);
            for (hash, index) in smaller.into_iter().filter(|&entry| entry != FREE) {
                let at = self.place(hash, |_| false);
                self.table[at] = (hash, index);
            }
        }
        index
    }

    /// The names of the steps that lead to a state.
    fn way(&self, mut at: u32) -> Vec<String> {
        let mut way = Vec::new();
        while at != 0 {
            let (before, state) = (self.before[at as usize], self.states[at as usize]);
            let mut steps = Steps::new(true);
            self.states[before as usize].steps(&mut steps);
            let mut those = steps.all.into_iter().filter(|step| step.1 == Ok(state));
            way.push(those.next().expect("it was reached from there").0);
            at = before;
        }
        way.reverse();
        way
    }

    /// The way to a state, and the one of its steps from there on.
    fn way_through(&self, at: u32, step: usize) -> Vec<String> {
        let mut steps = Steps::new(true);
        self.states[at as usize].steps(&mut steps);
        let mut way = self.way(at);
        way.push(steps.all.swap_remove(step).0);
        way
    }
}

/// Searches from `start` on.
pub fn search<M: Model>(start: M) -> Verdict {
    let mut visited = Visited::new();
    visited.note(start, 0);
    let (mut at, mut edges, mut steps) = (0, Vec::new(), Steps::new(false));
    while (at as usize) < visited.states.len() {
        assert!(visited.states.len() <= STATES_MAX, "too many states");
        visited.states[at as usize].steps(&mut steps);
        for (index, (_, next)) in steps.all.drain(..).enumerate() {
            match next {
                Ok(next) => {
                    let to = visited.note(next, at);
                    if to != at {
                        edges.push((to, at));
                    }
                }
                Err(why) => return Verdict::Broken { why, way: visited.way_through(at, index) },
            }
        }
        at += 1;
    }
    match stuck(&visited.states, &edges) {
        None => Verdict::Sound(visited.states.len()),
        Some(at) => {
            let state = format!("{:?}", visited.states[at as usize]);
            Verdict::Stuck { way: visited.way(at), state }
        }
    }
}

/// The first state from which no good end can be reached, given all steps, backwards: (to, from).
fn stuck<M: Model>(states: &[M], edges: &[(u32, u32)]) -> Option<u32> {
    // Where each state's steps towards it begin, once they are in order.
    let mut first = vec![0; states.len() + 1];
    edges.iter().for_each(|edge| first[edge.0 as usize + 1] += 1);
    (1..first.len()).for_each(|state| first[state] += first[state - 1]);
    let (mut next, mut sources) = (first.clone(), vec![0; edges.len()]);
    for &(to, from) in edges {
        sources[next[to as usize]] = from;
        next[to as usize] += 1;
    }
    let mut can_end: Vec<bool> = states.iter().map(M::is_good_end).collect();
    let mut waiting: Vec<usize> = (0..states.len()).filter(|&state| can_end[state]).collect();
    while let Some(to) = waiting.pop() {
        for &from in &sources[first[to]..first[to + 1]] {
            if !std::mem::replace(&mut can_end[from as usize], true) {
                waiting.push(from as usize);
            }
        }
    }
    can_end.iter().position(|can_end| !can_end).map(|state| state as u32)
}
