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
//! Bounds: each step looks at every slot once; it is no part of a segment's path.

use super::{Mode, Stack};
use crate::flow::Standing;
use crate::tcp::state::State;

impl Stack {
    /// As owner: nothing more comes in or goes out.
    pub fn freeze(&mut self, group: u8) {
        let state = &mut self.groups[group as usize];
        if state.mode == Mode::Serving {
            state.mode = Mode::Frozen;
        }
    }

    /// Serves on what was frozen. Timers that ran out meanwhile are looked at, and whoever has something to say says it.
    pub fn thaw(&mut self, group: u8) {
        if self.groups[group as usize].mode != Mode::Frozen {
            return;
        }
        self.groups[group as usize].mode = Mode::Serving;
        for slot in 0..self.flows.capacity() as u32 {
            if self.flows.is_used(slot) && self.flows[slot].group == group {
                self.ready.push(slot);
            }
        }
    }

    /// Flows of the group of which the peer holds no copy.
    pub fn absent(&self, group: u8) -> u32 {
        let state = &self.groups[group as usize];
        if state.flows == state.copied {
            return 0;
        }
        let is_absent = |&slot: &u32| {
            let flow = &self.flows[slot];
            flow.group == group
                && flow.standing == Standing::Absent
                && flow.contract.state != State::Closed
        };
        self.flows.indices().filter(is_absent).count() as u32
    }

    /// The frozen owner becomes the peer: what it served are silent copies from here on. Flows that the new owner knows
    /// nothing of are forgotten.
    pub fn demote(&mut self, group: u8) {
        assert_eq!(
            self.groups[group as usize].mode,
            Mode::Frozen,
            "only a frozen group is handed over"
        );
        for slot in 0..self.flows.capacity() as u32 {
            if !self.flows.is_used(slot) || self.flows[slot].group != group {
                continue;
            }
            let flow = &self.flows[slot];
            if flow.contract.state == State::Closed || flow.standing == Standing::Absent {
                self.remove(slot);
                continue;
            }
            self.wheel.disarm(slot);
            self.ready.remove(slot);
            let flow = &mut self.flows[slot];
            self.syn_received -= flow.local.is_half_open as u32;
            flow.fall_silent(&mut self.env);
            self.name_copy(slot);
        }
        self.unprobed.retain(|&slot| self.flows.is_used(slot) && self.flows[slot].group != group);
        let state = &mut self.groups[group as usize];
        (state.mode, state.is_mirrored, state.copied, state.announced_from) =
            (Mode::Silent, false, 0, None);
        self.schedule_announcement();
    }

    /// After [`Stack::promote`] by a handover: the former owner holds a copy of every flow, equal to this one, and
    /// nothing happened that this node does not know, so there is nothing to probe for.
    pub fn attach_all(&mut self, group: u8) {
        for slot in 0..self.flows.capacity() as u32 {
            if self.flows.is_used(slot) && self.flows[slot].group == group {
                let flow = &mut self.flows[slot];
                flow.standing = Standing::Copied;
                (flow.local.last_op, flow.local.hold_op) = (0, 0);
            }
        }
        self.unprobed.retain(|&slot| self.flows.is_used(slot) && self.flows[slot].group != group);
        let state = &mut self.groups[group as usize];
        (state.copied, state.is_mirrored) = (state.flows, true);
    }
}
