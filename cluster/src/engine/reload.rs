//! What a reload changes on a core: settings of services, and which services there are.
//!
//! Services have places, and their groups' indices are those; what comes from other nodes names a group by its id, which is
//! looked up where it is read. A service that goes first leaves: it takes no newcomers, its flows and copies go on, and the agent
//! is told when the last flow has ended. Its place is free when the agent has given the group up as well.
//!
//! Bounds: [`stack::limits::GROUPS_MAX`] places. All memory comes with the order and goes back with it.

use super::{Engine, Group, Lanes, Role};
use crate::id::GroupId;
use crate::role::Report;
use stack::stack::Renewal;
use stack::time::Instant;

/// What becomes of a service.
pub enum Setting {
    /// It has these settings.
    Renew(Renewal),
    /// This group comes into a place that nobody has; or, as [`GroupId::NONE`] and [`Renewal::vacant`], the one that had it goes.
    Occupy(GroupId, Renewal),
    /// It leaves, in this attempt, or (`None`) stays.
    Leave(Option<u32>),
}

impl Engine {
    /// Carries out a change; what it replaces is left in `setting`. `false`: something of the group that had the place is left,
    /// and nothing has changed.
    pub fn reconfigure(&mut self, now: Instant, index: u8, setting: &mut Setting) -> bool {
        match setting {
            Setting::Renew(renewal) => {
                self.stack.reconfigure(now, index, renewal);
                true
            }
            Setting::Occupy(group, renewal) => self.occupy(index, *group, renewal),
            Setting::Leave(attempt) => {
                self.stack.set_leaving(index, attempt.is_some());
                self.groups[usize::from(index)].leaving = *attempt;
                true
            }
        }
    }

    fn occupy(&mut self, index: u8, id: GroupId, renewal: &mut Renewal) -> bool {
        let at = usize::from(index);
        while self.groups.len() <= at {
            self.groups.push(Group { id: GroupId::NONE, ..Group::default() });
            self.logs.0.push(Lanes::none());
        }
        let is_free = self.groups[at].role == Role::Idle && self.stack.occupy(index, renewal);
        if is_free {
            self.groups[at] = Group { id, ..Group::default() };
        }
        is_free
    }

    /// Tells the agent, once in an epoch and attempt, that a group that takes no newcomers has no flow here.
    pub(super) fn note_empty(&mut self, now: Instant, index: usize) {
        let state = &self.groups[index];
        let attempt = state.leaving.unwrap_or(0);
        let said = (state.epoch, attempt);
        if state.empty == said || state.role != Role::Owner {
            return;
        }
        let is_empty = match state.leaving {
            Some(_) => self.stack.is_through(now, index as u8),
            None => self.stack.is_left(index as u8) && self.stack.group(index as u8).flows() == 0,
        };
        if is_empty {
            let state = &mut self.groups[index];
            state.empty = said;
            let (group, epoch, core) = (state.id, state.epoch, self.stack.place().core);
            self.report(Report::Empty { group, epoch, core, attempt });
        }
    }
}
