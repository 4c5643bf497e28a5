//! Visits every state of a small world, breadth first, and says how it can go wrong.
//!
//! Two questions: can a rule be broken (then the shortest way there is told), and can every state that is reached still
//! come to a good end (then nobody ever waits for something that nothing brings)?
//!
//! Bounds: [`STATES_MAX`] states; a world with more is too large for a test.

use std::collections::HashMap;
use std::fmt::Debug;
use std::hash::Hash;

/// More states than this end the search.
const STATES_MAX: usize = 6_000_000;

/// A world that can be visited.
pub trait Model: Copy + Eq + Hash + Debug {
    /// Every step that is possible, by name, and the world after it. A step that breaks a rule says which.
    fn steps(&self, into: &mut Vec<(String, Result<Self, String>)>);

    /// Whether everybody has got what was theirs.
    fn is_good_end(&self) -> bool;
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

/// Every state, and how it was reached first.
struct Visited<M> {
    states: Vec<M>,
    index: HashMap<M, u32>,
    /// The state before.
    before: Vec<u32>,
}

impl<M: Model> Visited<M> {
    fn note(&mut self, state: M, before: u32) -> u32 {
        *self.index.entry(state).or_insert_with(|| {
            self.states.push(state);
            self.before.push(before);
            self.states.len() as u32 - 1
        })
    }

    /// The names of the steps that lead to a state.
    fn way(&self, mut at: u32) -> Vec<String> {
        let mut way = Vec::new();
        let mut steps = Vec::new();
        while at != 0 {
            let (before, state) = (self.before[at as usize], self.states[at as usize]);
            steps.clear();
            self.states[before as usize].steps(&mut steps);
            let is_it = |step: &&(String, Result<M, String>)| step.1 == Ok(state);
            way.push(steps.iter().find(is_it).expect("it was reached from there").0.clone());
            at = before;
        }
        way.reverse();
        way
    }
}

/// Searches from `start` on.
pub fn search<M: Model>(start: M) -> Verdict {
    let mut visited = Visited { states: Vec::new(), index: HashMap::new(), before: Vec::new() };
    visited.note(start, 0);
    let (mut at, mut edges, mut steps) = (0, Vec::new(), Vec::new());
    while (at as usize) < visited.states.len() {
        assert!(visited.states.len() <= STATES_MAX, "too many states");
        steps.clear();
        visited.states[at as usize].steps(&mut steps);
        for (name, next) in steps.drain(..) {
            match next {
                Ok(next) => edges.push((visited.note(next, at), at)),
                Err(why) => {
                    let mut way = visited.way(at);
                    way.push(name);
                    return Verdict::Broken { why, way };
                }
            }
        }
        at += 1;
    }
    match stuck(&visited.states, edges) {
        None => Verdict::Sound(visited.states.len()),
        Some(at) => {
            let state = format!("{:?}", visited.states[at as usize]);
            Verdict::Stuck { way: visited.way(at), state }
        }
    }
}

/// The first state from which no good end can be reached, given all steps, backwards.
fn stuck<M: Model>(states: &[M], mut edges: Vec<(u32, u32)>) -> Option<u32> {
    edges.sort_unstable();
    let ends = |index: &u32| states[*index as usize].is_good_end();
    let mut waiting: Vec<u32> = (0..states.len() as u32).filter(ends).collect();
    let mut can_end = vec![false; states.len()];
    waiting.iter().for_each(|&index| can_end[index as usize] = true);
    while let Some(to) = waiting.pop() {
        let first = edges.partition_point(|edge| edge.0 < to);
        for &(_, from) in edges[first..].iter().take_while(|edge| edge.0 == to) {
            if !std::mem::replace(&mut can_end[from as usize], true) {
                waiting.push(from);
            }
        }
    }
    can_end.iter().position(|can_end| !can_end).map(|index| index as u32)
}
