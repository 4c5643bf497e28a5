//! Handing a group over without a failure: frozen, then served by the peer and copied here, or thawed.
//!
//! ```text
//! old owner: Serving -> Frozen -> (everything committed) -> Silent: its flows are the copies now
//!                         `----> Serving again, if nothing comes of it
//! new owner: Silent -> Serving: every flow is copied from its first op on
//! ```
//!
//! A frozen group changes no contract: it takes no frame, no timer of it fires, and what the peer acknowledges only
//! moves what may be said. So both nodes hold the same contracts at the frozen op, and neither needs a fill.
//!
//! Bounds: each step changes the group; its flows follow (`turnover.rs`).

use super::{Group, Mode, Stack};
use crate::time::Instant;

impl Stack {
    /// As owner: nothing more comes in or goes out.
    pub fn freeze(&mut self, group: u8) {
        let state = &mut self.groups[group as usize];
        if state.mode == Mode::Serving {
            state.mode = Mode::Frozen;
            self.note_speaking(group);
        }
    }

    /// Serves on what was frozen. Whose timer ran out meanwhile and whoever has something to say is in the queue.
    pub fn thaw(&mut self, now: Instant, group: u8) {
        let state = &mut self.groups[group as usize];
        if state.mode == Mode::Frozen {
            state.mode = Mode::Serving;
            self.note_speaking(group);
            // What the checks have found meanwhile.
            self.rosters[group as usize].go_on(now);
            self.tell_cores(group);
            self.begin_purge(group);
        }
    }

    /// Flows of the group of which the peer holds no copy; those that are over and have yet to say so count, too.
    pub fn absent(&self, group: u8) -> u32 {
        let Group { flows, copied, .. } = self.groups[group as usize];
        assert!(copied <= flows, "{copied} of {flows} flows of group {group} are copied");
        flows - copied
    }

    /// The frozen owner becomes the peer: what it served are silent copies from here on. Flows that the new owner knows
    /// nothing of are forgotten.
    pub fn demote(&mut self, group: u8) {
        let state = &mut self.groups[group as usize];
        assert_eq!(state.mode, Mode::Frozen, "only a frozen group is handed over");
        state.eras.yielded = state.eras.begin();
        (state.mode, state.is_mirrored, state.copied, state.announcing) =
            (Mode::Silent, false, 0, None);
        self.rosters[group as usize].end();
        self.schedule_announcement();
        self.begin_sweep();
    }

    /// Right after [`Stack::promote`], by a handover: the former owner holds a copy of every flow, equal to this one, and
    /// nothing happened that this node does not know, so there is nothing to probe for.
    pub fn attach_all(&mut self, group: u8) {
        let state = &mut self.groups[group as usize];
        state.eras.inherited = true;
        (state.copied, state.is_mirrored) = (state.flows, true);
    }
}
