//! Who has which frame of one direction: every frame is in exactly one state, and only the listed
//! transitions exist, so that a frame can be neither lost nor used twice.
//!
//! ```text
//!   receiving:  Free --> Fill --> Held --> Free        Fill: with the kernel, to be received into
//!
//!   sending:    Free --> Staged --> Tx --> Free        Tx: with the kernel, to be sent
//!                 ^       |  ^       |
//!                 +-------+  +-------+                 Staged: written, still private
//!             (thrown away)  (the kernel refused the burst before it looked at it)
//! ```
//!
//! Each direction has frames of its own; neither can starve the other. A frame to send may lie in
//! several chunks with a descriptor each: it is with the kernel until all of them have come back.
//! A transition that is not there is our bug and panics.

/// Where a frame is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum FrameState {
    /// With nobody.
    Free,
    /// In the fill or receive ring.
    Fill,
    /// Received, with the core.
    Held,
    /// Written to be sent, not shown to the kernel.
    Staged,
    /// Shown to the kernel, not completed.
    Tx,
}

use FrameState::{Fill, Free, Held, Staged, Tx};

/// The states of all frames of a direction, and which free one is taken next.
pub struct Frames {
    states: Vec<FrameState>,
    /// Descriptors of a frame in `Tx` that have not come back.
    parts: Vec<u8>,
    next: Next,
    counts: [u32; 5],
}

/// Which free frame is taken next.
enum Next {
    /// The one that became free last, while it is in the cache. The free ones.
    Newest(Vec<u32>),
    /// This one, and then the one behind it, round and round: none before it is free.
    InOrder(u32),
}

impl Frames {
    /// `count` free frames.
    pub fn new(count: u32) -> Frames {
        Frames::with(count, Next::Newest((0..count).rev().collect()))
    }

    /// `count` free frames that are taken in their order only.
    pub fn in_order(count: u32) -> Frames {
        Frames::with(count, Next::InOrder(0))
    }

    fn with(count: u32, next: Next) -> Frames {
        assert!(count > 0);
        Frames {
            states: vec![Free; count as usize],
            parts: vec![0; count as usize],
            next,
            counts: [count, 0, 0, 0, 0],
        }
    }

    /// Whether a frame can be taken.
    #[inline]
    pub fn has_next(&self) -> bool {
        match &self.next {
            Next::Newest(free) => !free.is_empty(),
            Next::InOrder(next) => self.states[*next as usize] == Free,
        }
    }

    /// Frames in this state.
    #[inline]
    pub fn count(&self, state: FrameState) -> u32 {
        self.counts[state as usize]
    }

    /// The state of a frame.
    #[inline]
    pub fn state(&self, frame: u32) -> FrameState {
        self.states[frame as usize]
    }

    /// Takes a free frame to receive into; there is one.
    #[inline]
    pub fn take_fill(&mut self) -> u32 {
        self.take(Fill)
    }

    /// Takes a free frame to write into; there is one.
    #[inline]
    pub fn take_staged(&mut self) -> u32 {
        self.take(Staged)
    }

    #[inline]
    fn take(&mut self, to: FrameState) -> u32 {
        let count = self.states.len() as u32;
        let frame = match &mut self.next {
            Next::Newest(free) => {
                free.pop().expect("whoever takes a frame has seen that one is free")
            }
            Next::InOrder(next) => std::mem::replace(next, (*next + 1) % count),
        };
        self.change(frame, Free, to);
        frame
    }

    /// A frame was received.
    #[inline]
    pub fn received(&mut self, frame: u32) {
        self.change(frame, Fill, Held);
    }

    /// The core has read a received frame.
    #[inline]
    pub fn recycled(&mut self, frame: u32) {
        self.give(frame, Held);
    }

    /// A staged frame was shown to the kernel, in so many descriptors.
    #[inline]
    pub fn kicked(&mut self, frame: u32, parts: u8) {
        assert!(parts > 0);
        self.change(frame, Staged, Tx);
        self.parts[frame as usize] = parts;
    }

    /// The kernel would not even look at the burst: the frame is ours again.
    pub fn refused(&mut self, frame: u32) {
        self.change(frame, Tx, Staged);
        self.parts[frame as usize] = 0;
    }

    /// A staged frame was thrown away.
    #[inline]
    pub fn discarded(&mut self, frame: u32) {
        self.give(frame, Staged);
    }

    /// One descriptor of a sent frame has come back.
    #[inline]
    pub fn completed(&mut self, frame: u32) {
        let parts = &mut self.parts[frame as usize];
        if *parts > 1 {
            *parts -= 1;
            return;
        }
        *parts = 0;
        self.give(frame, Tx);
    }

    #[inline]
    fn give(&mut self, frame: u32, from: FrameState) {
        self.change(frame, from, Free);
        if let Next::Newest(free) = &mut self.next {
            free.push(frame);
        }
    }

    #[inline]
    fn change(&mut self, frame: u32, from: FrameState, to: FrameState) {
        let state = &mut self.states[frame as usize];
        assert!(*state == from, "frame {frame} is {state:?}, not {from:?}");
        *state = to;
        self.counts[from as usize] -= 1;
        self.counts[to as usize] += 1;
    }

    /// Counts everything anew and panics if it does not add up. For tests and rare checks.
    pub fn check(&self) {
        let mut counts = [0; 5];
        for (state, parts) in self.states.iter().zip(&self.parts) {
            counts[*state as usize] += 1;
            assert_eq!(*state == Tx, *parts > 0);
        }
        assert_eq!(counts, self.counts);
        if let Next::Newest(free) = &self.next {
            assert_eq!(free.len(), self.count(Free) as usize);
            assert!(free.iter().all(|frame| self.state(*frame) == Free));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn received_frames_run_through_their_states_and_come_back() {
        let mut frames = Frames::new(2);
        let taken = [frames.take_fill(), frames.take_fill()];
        assert_eq!((frames.count(Free), frames.count(Fill)), (0, 2));
        frames.received(taken[1]);
        frames.recycled(taken[1]);
        frames.check();
        assert_eq!((frames.count(Free), frames.take_fill()), (1, taken[1]));
    }

    #[test]
    fn sent_frames_come_back_when_all_their_parts_have() {
        let mut frames = Frames::new(2);
        let taken = [frames.take_staged(), frames.take_staged()];
        frames.discarded(taken[0]);
        frames.kicked(taken[1], 3);
        frames.check();
        frames.refused(taken[1]);
        frames.kicked(taken[1], 3);
        for _ in 0..3 {
            assert_eq!(frames.count(Tx), 1);
            frames.completed(taken[1]);
            frames.check();
        }
        assert_eq!(frames.count(Free), 2);
    }

    #[test]
    fn frames_in_order_wait_for_the_one_whose_turn_it_is() {
        let mut frames = Frames::in_order(3);
        let taken = [frames.take_fill(), frames.take_fill(), frames.take_fill()];
        assert_eq!((taken, frames.has_next()), ([0, 1, 2], false));
        taken.iter().for_each(|frame| frames.received(*frame));
        frames.recycled(1);
        frames.recycled(2);
        frames.check();
        assert!(!frames.has_next(), "two are free, and it is the turn of another");
        frames.recycled(0);
        assert_eq!([0, 1, 2].map(|_| frames.take_fill()), taken);
        frames.check();
    }

    #[test]
    #[should_panic(expected = "has seen that one is free")]
    fn no_more_can_be_taken_than_there_are() {
        let mut frames = Frames::new(2);
        for _ in 0..3 {
            frames.take_staged();
        }
    }

    #[test]
    #[should_panic(expected = "is Free, not Held")]
    fn a_frame_cannot_be_recycled_twice() {
        let mut frames = Frames::new(2);
        let frame = frames.take_fill();
        frames.received(frame);
        frames.recycled(frame);
        frames.recycled(frame);
    }

    #[test]
    #[should_panic(expected = "is Free, not Tx")]
    fn a_completion_too_many_is_not_believed() {
        let mut frames = Frames::new(2);
        let frame = frames.take_staged();
        frames.kicked(frame, 2);
        (0..3).for_each(|_| frames.completed(frame));
    }
}
