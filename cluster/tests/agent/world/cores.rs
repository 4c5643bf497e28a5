//! What the cores of a node do with orders, and when they report.

use super::*;

impl World {
    /// The cores of a node have no flow of a generation any more, if it is one that was left behind or whose service leaves.
    pub fn last_flow_ends(&mut self, node: usize, generation: usize) {
        let attempt = match self.nodes[node].file {
            File::Left(attempt) => attempt,
            File::Names | File::Without => 0,
        };
        self.report_empty(node, generation, attempt);
    }

    /// The same, said in this attempt to leave.
    pub fn report_empty(&mut self, node: usize, generation: usize, attempt: u32) {
        let Some(status) = self.group_in(node, generation) else { return };
        for core in 0..CORES {
            let (group, epoch) = (GENERATIONS[generation], status.register.epoch);
            let report = Report::Empty { group, epoch, core, attempt };
            self.touch(node, |agent, now| agent.handle_report(now, report));
        }
    }

    /// The owner's core reports the peer filled, once the peer's core has been told to follow.
    pub(super) fn fill(
        &mut self,
        group: GroupId,
        (node, life): (usize, u64),
        epoch: u64,
        peer: (u8, u64),
    ) {
        let owner = &self.nodes[node];
        let heir = &self.nodes[usize::from(peer.0) - 1];
        let mirrors = matches!(owner.told(group).last(),
            Some(Command::Mirror { epoch: named, .. }) if named.0 == epoch);
        let follows = matches!(heir.told(group).last(),
            Some(Command::Follow { epoch: named, .. }) if named.0 == epoch);
        if owner.life != life || heir.life != peer.1 || !mirrors {
            return;
        }
        if owner.paused || !follows {
            return self.at(3, Event::Filled { group, node, life, epoch, peer });
        }
        self.filled.insert((group, peer.0, peer.1));
        self.outdated.remove(&(group, peer.0, peer.1));
        let generation = usize::from(group.generation());
        for core in 0..CORES {
            let status = self.group_in(node, generation);
            let in_sync = status.is_some_and(|group| group.register.in_sync);
            assert!(!in_sync, "core {core} has not reported");
            let report = Report::Filled {
                group,
                epoch: Epoch(epoch),
                core,
                peer: Member { node: NodeId(peer.0), incarnation: Incarnation(peer.1) },
                missing: 0,
            };
            self.touch(node, |agent, now| agent.handle_report(now, report));
        }
    }

    /// Every core reports, also if it was thawed meanwhile: what was said is on its way.
    pub(super) fn report_frozen(
        &mut self,
        group: GroupId,
        (node, life): (usize, u64),
        epoch: u64,
        (attempt, absent): (u32, u32),
    ) {
        if self.nodes[node].life != life {
            return;
        }
        if self.nodes[node].paused {
            let event = Event::Frozen { group, node, life, epoch, attempt, absent };
            return self.at(2, event);
        }
        for core in 0..CORES {
            let epoch = Epoch(epoch);
            let report = Report::Frozen { group, epoch, core, attempt, flows: 7, absent };
            self.touch(node, |agent, now| agent.handle_report(now, report));
        }
    }

    /// Whoever changes places with the owner must find it frozen, and holding what it served, or dead.
    pub(super) fn check_assumed(&self, index: usize, of: usize) {
        let group = |index: usize| self.group_in(index, of);
        let Some(peer) = group(index).and_then(|group| group.register.peer) else { return };
        let former = &self.nodes[usize::from(peer.node.0) - 1];
        let is_other_life = former.life != peer.incarnation.0 || former.coreless;
        // A late word of the swap may reach a node after the other has taken over again.
        let epoch = |index: usize| group(index).map_or(0, |group| group.register.epoch.0);
        let has_moved_on = epoch(usize::from(peer.node.0) - 1) > epoch(index);
        let is_silent = former.frozen[of].is_some() || !former.serves[of] || has_moved_on;
        if !is_other_life && !is_silent {
            self.tell();
        }
        assert!(is_other_life || is_silent, "node {} assumed from a living owner", index + 1);
    }

    /// What an owner that is alone has served nobody else holds, whatever copies there were: who carries these on must not
    /// speak.
    pub(super) fn check_copies(&mut self) {
        for (of, group) in GENERATIONS.into_iter().enumerate() {
            let voices = self.voices_in(of);
            if let Some(index) = voices.iter().find(|index| self.nodes[**index].carries_old[of]) {
                self.tell();
                panic!("node {} carries on what was served on without it", index + 1);
            }
            if let [voice] = voices[..]
                && self.register(voice, of).peer.is_none()
            {
                let others = self.filled.iter().filter(|(filled, node, _)| {
                    *filled == group && usize::from(*node) != voice + 1
                });
                self.outdated.extend(others.copied());
            }
        }
    }

    pub(super) fn obey(&mut self, index: usize, life: u64, command: Command) {
        if let Command::Newcomers { group, are_taken, .. } = command {
            return self.hear_of_newcomers(index, group, are_taken);
        }
        let group = group_of(&command);
        let of = usize::from(group.generation());
        let name = (group, index as u8 + 1, life);
        match command {
            Command::Mirror { epoch, peer, peer_cores, .. } => {
                assert_eq!(peer_cores, CORES);
                let peer = (peer.node.0, peer.incarnation.0);
                let after = self.noise.between(1, 80);
                self.at(after, Event::Filled { group, node: index, life, epoch: epoch.0, peer });
            }
            Command::Promote { epoch, .. } | Command::Assume { epoch, .. } => {
                // Copies that were served are no copies any more.
                let held = self.filled.remove(&name);
                assert!(held, "node {} was promoted without the copies", index + 1);
                let is_old = self.outdated.remove(&name);
                if matches!(command, Command::Assume { .. }) {
                    self.check_assumed(index, of);
                }
                self.nodes[index].becomes(of, true);
                self.nodes[index].carries_old[of] = is_old;
                self.at(1, Event::Promoted { group, node: index, life, epoch: epoch.0 });
            }
            Command::Follow { .. } | Command::Stop { .. } => {
                self.filled.remove(&name);
                self.outdated.remove(&name);
                self.nodes[index].becomes(of, false);
            }
            Command::Freeze { epoch, attempt, .. } | Command::Close { epoch, attempt, .. } => {
                let node = &mut self.nodes[index];
                let is_free = node.frozen[of].is_none() && !node.closing[of];
                assert!(node.serves[of] && is_free, "frozen is who serves, once");
                match command {
                    Command::Close { .. } => node.closing[of] = true,
                    _ => node.frozen[of] = Some(attempt),
                }
                let (after, absent) = (self.noise.between(0, self.freeze_ms), self.absent);
                let (node, epoch) = (index, epoch.0);
                self.at(after, Event::Frozen { group, node, life, epoch, attempt, absent });
            }
            Command::Thaw { .. } => {
                let node = &mut self.nodes[index];
                let is_thawed =
                    node.frozen[of].take().is_some() | std::mem::take(&mut node.closing[of]);
                assert!(is_thawed, "only the frozen are thawed");
            }
            Command::Yield { .. } => {
                let node = &mut self.nodes[index];
                let is_frozen = node.frozen[of].take().is_some();
                assert!(node.serves[of] && is_frozen, "only the frozen yield");
                node.serves[of] = false;
                self.filled.insert(name);
            }
            Command::Alone { .. } => {
                (self.nodes[index].frozen[of], self.nodes[index].closing[of]) = (None, false);
            }
            Command::Route { epoch, to, .. } => {
                // Says nothing of what this node is.
                self.nodes[index].route = Some((epoch, to.node));
                return;
            }
            Command::Serve { .. } => self.nodes[index].becomes(of, true),
            _ => {}
        }
        self.nodes[index].told_mut(group).push(command);
    }

    /// A generation is closed by what its cores hear of the newest; one that may let flows begin again is not.
    pub(super) fn hear_of_newcomers(&mut self, index: usize, group: GroupId, are_taken: bool) {
        let node = &mut self.nodes[index];
        let of = usize::from(group.generation());
        node.newcomers = Some((group, are_taken));
        node.closing[1 - of] = false;
        node.closing[of] &= are_taken;
    }
}

/// Which group an order to the cores is about.
fn group_of(command: &Command) -> GroupId {
    match *command {
        Command::Serve { group, .. }
        | Command::Promote { group, .. }
        | Command::Mirror { group, .. }
        | Command::Protected { group, .. }
        | Command::Alone { group, .. }
        | Command::Follow { group, .. }
        | Command::FollowInSync { group, .. }
        | Command::Freeze { group, .. }
        | Command::Close { group, .. }
        | Command::Thaw { group, .. }
        | Command::Assume { group, .. }
        | Command::Yield { group, .. }
        | Command::Route { group, .. }
        | Command::Newcomers { group, .. }
        | Command::Stop { group } => group,
    }
}
