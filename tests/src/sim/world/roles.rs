//! Who may speak, who holds what, and whether everything is as it should be.

use super::World;
use crate::sim::check::compare_contracts;
use crate::sim::host::Host;
use crate::sim::node::Life;
use cluster::agent::status::Status;
use cluster::engine::Engine;
use cluster::register::{Phase, Register};
use stack::flow::Standing;

impl World {
    /// At no true moment do two nodes hold a lease for one group that their own clocks say is in force.
    pub(super) fn check_voices(&mut self) {
        for group in 0..self.newest.len() {
            let now = self.now;
            let speaks = |node: &super::Node| {
                let life = node.life.as_ref()?;
                (life.lease(group) > node.machine.local(now)).then_some(life.member.node)
            };
            let mut voices = self.nodes.iter().filter_map(speaks);
            if let (Some(one), Some(other)) = (voices.next(), voices.next()) {
                let message = format!("nodes {one} and {other} both hold a lease of group {group}");
                return self.fail(message);
            }
        }
    }

    /// What a living node's agent says of itself.
    pub fn status(&self, node: usize) -> Option<Status> {
        let state = &self.nodes[node];
        Some(state.life.as_ref()?.agent.status(state.machine.local(self.now)))
    }

    /// Who may speak for a group by its own clock, if somebody may.
    pub fn speaker(&self, group: usize) -> Option<usize> {
        let speaks = |node: &super::Node| {
            let life = node.life.as_ref();
            life.is_some_and(|life| life.lease(group) > node.machine.local(self.now))
        };
        self.nodes.iter().position(speaks)
    }

    /// Who serves the newcomers of a service, as far as the registers tell.
    pub(super) fn server_of(&self, service: usize) -> Option<usize> {
        let services = self.shape().settings.ports.len();
        let generations = (service..self.newest.len()).step_by(services);
        let registers = generations.map(|group| self.register(group));
        let mut open =
            registers.filter(|register| register.is_live() && register.phase == Phase::Open);
        open.next().map(|register| usize::from(register.owner.node.0) - 1)
    }

    /// Whether a living node serves a group, or could take it over: its connections need not be lost.
    pub fn is_held(&self, group: usize) -> bool {
        let register = self.written(group).into_iter().chain([self.register(group)]);
        let Some(register) = register.max_by_key(|register| register.epoch) else { return false };
        let mut holders = [Some(register.owner), register.in_sync_peer()].into_iter().flatten();
        holders.any(|holder| self.lives().any(|life| life.member == holder))
    }

    pub(super) fn lives(&self) -> impl Iterator<Item = &Life> {
        self.nodes.iter().filter_map(|node| node.life.as_ref())
    }

    /// The newest register of a group that any living node knows.
    pub fn register(&self, group: usize) -> Register {
        let registers = self.lives().map(|life| life.registers[group]);
        registers.max_by_key(|register| register.epoch).unwrap_or(Register::NEVER)
    }

    /// Whether nothing is about to go wrong, every group that there is has an owner with a lease and a living peer in
    /// sync, and each service one in which flows begin.
    pub fn is_protected(&self) -> bool {
        let services = self.shape().settings.ports.len();
        let is_open = |group: usize| {
            let register = self.register(group);
            register.is_live() && register.phase == Phase::Open
        };
        let groups = 0..self.newest.len();
        let is_taken = |service| groups.clone().skip(service).step_by(services).any(is_open);
        let mut live = groups.clone().filter(|group| self.register(*group).is_live());
        let is_calm = self.now >= self.trouble_until;
        let stays = |group| self.is_group_protected(group) && !self.awaits_home(group);
        is_calm && (0..services).all(is_taken) && live.all(stays)
    }

    /// Whether home lives and will take the place of a group's peer: nobody holds all of it meanwhile. The owner may not have heard yet
    /// that it works.
    fn awaits_home(&self, group: usize) -> bool {
        let group = self.shape().settings.groups()[group];
        let home = &self.nodes[group.service() as usize % self.nodes.len()];
        // Of two nodes home is the owner or the peer.
        let may_come = self.nodes.len() > 2 && home.life.is_some();
        may_come && self.lives().any(|life| life.agent.awaits_home(group))
    }

    fn is_group_protected(&self, group: usize) -> bool {
        let register = self.register(group);
        let Some(peer) = register.in_sync_peer() else { return false };
        let knows = |member| {
            let life = self.lives().find(|life| life.member == member);
            life.filter(|life| life.registers[group] == register)
        };
        let Some(owner) = knows(register.owner) else { return false };
        let index = usize::from(owner.member.node.0) - 1;
        let has_voice = owner.lease(group) > self.nodes[index].machine.local(self.now);
        let has_copies = owner.engines().all(|engine| {
            let status = engine.status_of(group);
            status.copied == status.flows
        });
        has_voice && has_copies && knows(peer).is_some()
    }

    /// Where a peer is in sync its copies are what the owner's flows are, and it knows what is decided.
    pub fn check_copies(&mut self) -> Result<(), String> {
        for group in 0..self.newest.len() {
            let register = self.register(group);
            let life = |member| self.lives().find(|life| life.member == member);
            let peer = register.in_sync_peer().and_then(life);
            let (Some(owner), Some(peer)) = (life(register.owner), peer) else { continue };
            for flow in owner.flows(group).filter(|flow| flow.standing == Standing::Copied) {
                if let Some(copy) = peer.find(&flow.key).filter(|copy| copy.id == flow.id) {
                    compare_contracts(flow, copy)?;
                }
            }
            self.check_agreement(group)?;
        }
        Ok(())
    }

    /// What the nodes know of each client's connection.
    pub fn fates(&self) -> Vec<Fate> {
        let mut stacks = self.lives().flat_map(Life::engines).map(Engine::stack);
        let has_cookies = stacks.any(|stack| stack.counters().cookies_sent > 0);
        let fate = |host: &Host| match self.lives().any(|life| life.find(&host.key()).is_some()) {
            true => Fate::Known,
            false if has_cookies && host.client.awaits_first_word() => Fate::Unborn,
            false => Fate::Unknown,
        };
        self.hosts.iter().map(fate).collect()
    }

    /// What must hold of every life when it is over, or the story is.
    pub fn check_end(&self) -> Result<(), String> {
        self.lives().try_for_each(check_life)
    }
}

/// What the nodes know of a client's connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// Some node knows it.
    Known,
    /// No node does.
    Unknown,
    /// No node does, and perhaps none ever did: its SYN was answered by a cookie, the acknowledgement of that got lost, and the
    /// client waits for the first word (RFC 4987 3.6).
    Unborn,
}

/// No copy has turned out to differ from its flow, and every frame was used, handed back, only heard or dropped by name.
pub(super) fn check_life(life: &Life) -> Result<(), String> {
    for engine in life.engines() {
        let mismatches: u64 = engine.status().map(|status| status.backup.mismatches).sum();
        if mismatches > 0 {
            return Err(format!("{mismatches} copies differ from their flows, {:?}", life.member));
        }
        let counters = engine.stack().counters();
        let idle = counters.rx_strays + counters.rx_heard;
        let kept = counters.rx_used + idle + counters.drops.total();
        if kept != counters.rx_frames {
            let came = counters.rx_frames;
            return Err(format!(
                "{came} frames came in, {kept} are accounted for, {:?}",
                life.member
            ));
        }
    }
    Ok(())
}
