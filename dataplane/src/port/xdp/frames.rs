//! Who has which frame of a port's memory: every frame is in exactly one state, and only the listed
//! transitions exist, so that a frame can be neither lost nor used twice.
//!
//! ```text
//!            +--> Fill --> Held --+        Fill: with the kernel, to be received into
//!   Free ----+                    +--> Free
//!            +--> Staged --> Tx --+        Tx: with the kernel, to be sent
//!                   ^  |     |    |
//!                   |  +-----|----+        Staged: written, still private
//!                   +--------+ (the kernel refused the burst before it looked at it)
//! ```
//!
//! Half of the frames are for receiving, half for sending; neither direction can starve the other.
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

/// The states of all frames, and the free ones as a stack.
pub struct Frames {
    states: Vec<FrameState>,
    free: Vec<u32>,
    counts: [u32; 5],
}

impl Frames {
    /// `count` free frames (an even number).
    pub fn new(count: u32) -> Frames {
        assert!(count > 0 && count.is_multiple_of(2));
        let free = (0..count).rev().collect();
        Frames { states: vec![Free; count as usize], free, counts: [count, 0, 0, 0, 0] }
    }

    /// Frames in this state.
    #[inline]
    pub fn count(&self, state: FrameState) -> u32 {
        self.counts[state as usize]
    }

    /// Frames of each direction.
    #[inline]
    pub fn half(&self) -> u32 {
        self.states.len() as u32 / 2
    }

    /// Frames that may be taken for receiving now.
    #[inline]
    pub fn receive_room(&self) -> u32 {
        self.half() - self.count(Fill) - self.count(Held)
    }

    /// Frames that may be taken for sending now.
    #[inline]
    pub fn send_room(&self) -> u32 {
        self.half() - self.count(Staged) - self.count(Tx)
    }

    /// The state of a frame.
    #[inline]
    pub fn state(&self, frame: u32) -> FrameState {
        self.states[frame as usize]
    }

    /// Takes a free frame to receive into; there is room (`receive_room`).
    #[inline]
    pub fn take_fill(&mut self) -> u32 {
        assert!(self.receive_room() > 0, "the receiving half is used up");
        self.take(Fill)
    }

    /// Takes a free frame to write into; there is room (`send_room`).
    #[inline]
    pub fn take_staged(&mut self) -> u32 {
        assert!(self.send_room() > 0, "the sending half is used up");
        self.take(Staged)
    }

    #[inline]
    fn take(&mut self, to: FrameState) -> u32 {
        let frame = self.free.pop().expect("each half has frames of its own");
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

    /// A staged frame was shown to the kernel.
    #[inline]
    pub fn kicked(&mut self, frame: u32) {
        self.change(frame, Staged, Tx);
    }

    /// The kernel would not even look at the burst: the frame is ours again.
    pub fn refused(&mut self, frame: u32) {
        self.change(frame, Tx, Staged);
    }

    /// A staged frame was thrown away.
    #[inline]
    pub fn discarded(&mut self, frame: u32) {
        self.give(frame, Staged);
    }

    /// The kernel is done with a sent frame.
    #[inline]
    pub fn completed(&mut self, frame: u32) {
        self.give(frame, Tx);
    }

    #[inline]
    fn give(&mut self, frame: u32, from: FrameState) {
        self.change(frame, from, Free);
        self.free.push(frame);
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
        for state in &self.states {
            counts[*state as usize] += 1;
        }
        assert_eq!(counts, self.counts);
        assert_eq!(self.free.len(), self.count(Free) as usize);
        assert!(self.free.iter().all(|frame| self.state(*frame) == Free));
        assert!(self.count(Fill) + self.count(Held) <= self.half());
        assert!(self.count(Staged) + self.count(Tx) <= self.half());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_halves_run_through_their_states_and_come_back() {
        let mut frames = Frames::new(4);
        let received = [frames.take_fill(), frames.take_fill()];
        let sent = [frames.take_staged(), frames.take_staged()];
        assert_eq!((frames.receive_room(), frames.send_room(), frames.count(Free)), (0, 0, 0));
        frames.received(received[1]);
        frames.recycled(received[1]);
        frames.discarded(sent[0]);
        frames.kicked(sent[1]);
        frames.check();
        frames.refused(sent[1]);
        frames.kicked(sent[1]);
        frames.completed(sent[1]);
        frames.check();
        assert_eq!((frames.receive_room(), frames.send_room(), frames.count(Free)), (1, 2, 3));
    }

    #[test]
    #[should_panic(expected = "the sending half is used up")]
    fn sending_cannot_take_what_is_for_receiving() {
        let mut frames = Frames::new(4);
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
    fn a_completion_for_a_discarded_frame_is_not_believed() {
        let mut frames = Frames::new(2);
        let frame = frames.take_staged();
        frames.discarded(frame);
        frames.completed(frame);
    }
}
