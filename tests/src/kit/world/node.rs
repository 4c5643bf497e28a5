//! One node of the world: an engine for each of its cores.
//!
//! Frames and datagrams come in at one core after another, as from a NIC that knows nothing of flows; which core they
//! are for, the engine of the core that received them says, and then they cross over.

use super::MTU;
use crate::kit::settings::Settings;
use cluster::engine::{Engine, EngineConfig, GroupStatus, Setting};
use cluster::gather::Gather;
use cluster::id::{Epoch, GroupId, Incarnation, Member, NodeId};
use cluster::link::Endpoint;
use cluster::role::{Command, Report};
use stack::flow::{Flow, FlowId};
use stack::key::FlowKey;
use stack::service::Service;
use stack::shard::Place;
use stack::stack::{ConnectError, Ended, Ending, Renewal, Stack, StackConfig};
use stack::time::Instant;
use stack::wire::Mac;
use std::collections::BTreeMap;
use std::iter::once;

/// One node.
pub struct Node {
    /// The real thing, once for each core.
    pub engines: Vec<Engine>,
    /// It gets frames and is polled.
    pub is_alive: bool,
    /// The epoch under which it speaks.
    pub epoch: Epoch,
    /// Frames and datagrams that it has put out.
    pub outputs: u64,
    /// It dies right after this many.
    pub dies_after: Option<u64>,
    /// What it told the agent; that a group is filled, once all cores have said so.
    pub reports: Vec<Report>,
    /// Frames and datagrams that have crossed over from one core to another.
    pub crossed: u64,
    /// The core at which the next frame comes in.
    next_core: usize,
    filled: BTreeMap<(GroupId, Epoch), Gather>,
    pub(super) mac: Mac,
    pub(super) endpoint: Endpoint,
    pub(super) member: Member,
}

impl Node {
    pub(super) fn new(index: usize, life: u64, settings: &Settings) -> Node {
        let id = index as u8 + 1;
        let member = Member { node: NodeId(id), incarnation: Incarnation(100 * id as u64 + life) };
        let endpoint = Endpoint { mac: [2, 3, 0, 0, 0, id], address: [10, 9, 0, id], port: 7947 };
        let mac = [2, 2, 0, 0, 0, id];
        let cores = settings.cores[index];
        let engine = |core| {
            let place = Place { core, cores };
            let config = EngineConfig {
                member,
                cluster: 1,
                endpoint,
                link_mtu: MTU,
                is_sealed: false,
                wall_offset: 1_700_000_000_000_000_000 + index as u64 * 12_345_678_901,
                stack: stack_config(index, place, mac, settings),
            };
            let mut services = settings.services();
            for service in services.iter_mut().filter(|_| settings.is_shuffled) {
                let servers = &mut service.upstream.servers;
                let places = index % servers.len().max(1);
                servers.rotate_left(places);
            }
            Engine::new(&config, services, &settings.groups())
        };
        Node {
            engines: (0..cores).map(engine).collect(),
            is_alive: true,
            epoch: Epoch(0),
            outputs: 0,
            dies_after: None,
            reports: Vec::new(),
            crossed: 0,
            next_core: 0,
            filled: BTreeMap::new(),
            mac,
            endpoint,
            member,
        }
    }

    /// This life of this node.
    pub fn member(&self) -> Member {
        self.member
    }

    /// Its end of the cluster link.
    pub fn endpoint(&self) -> Endpoint {
        self.endpoint
    }

    /// Its cores.
    pub fn cores(&self) -> u8 {
        self.engines.len() as u8
    }

    /// The stack of a node with one core.
    pub fn stack(&self) -> &Stack {
        assert_eq!(self.engines.len(), 1, "ask for its `stacks`");
        self.engines[0].stack()
    }

    /// The stacks of its cores.
    pub fn stacks(&self) -> impl Iterator<Item = &Stack> {
        self.engines.iter().map(Engine::stack)
    }

    /// The flow with this key, on whichever core.
    pub fn find(&self, key: &FlowKey) -> Option<&Flow> {
        self.stacks().find_map(|stack| stack.flow(stack.find(key)?))
    }

    /// Its flows.
    pub fn flows(&self) -> impl Iterator<Item = &Flow> {
        self.stacks().flat_map(|stack| stack.slots().filter_map(|slot| stack.flow(slot)))
    }

    /// How its groups stand, core by core.
    pub fn status(&self) -> impl Iterator<Item = GroupStatus> {
        self.engines.iter().flat_map(Engine::status)
    }

    /// What became of frames that it does not serve, all cores together.
    pub fn forwarded(&self) -> Vec<(&'static str, u64)> {
        let mut sum: BTreeMap<&'static str, u64> = BTreeMap::new();
        for counters in self.engines.iter().map(Engine::forward_counters) {
            for (name, count) in counters.drops().into_iter().chain(counters.events()) {
                *sum.entry(name).or_default() += count;
            }
        }
        sum.into_iter().collect()
    }

    /// Gives or takes the right to speak for a group.
    pub fn set_voice(&mut self, group: u8, has_voice: bool) {
        self.engines.iter_mut().for_each(|engine| engine.set_voice(group, has_voice));
    }

    /// Opens a connection of the service with this index, on the core where its flow belongs.
    pub fn connect(
        &mut self,
        now: Instant,
        service: u8,
        key: FlowKey,
        next_hop: Mac,
    ) -> Result<u32, ConnectError> {
        let mut core = 0;
        loop {
            match self.engines[core].connect(now, service, key, next_hop) {
                Err(ConnectError::OtherCore { core: other }) => core = other.into(),
                result => return result,
            }
        }
    }

    /// The service with this index has the settings that `change` makes of those of before.
    pub fn reconfigure(&mut self, now: Instant, index: u8, change: impl Fn(&mut Service)) {
        for engine in &mut self.engines {
            let mut service = engine.stack().env.services[usize::from(index)].clone();
            change(&mut service);
            let renewal = Renewal::new(service, engine.stack().place());
            engine.reconfigure(now, index, &mut Setting::Renew(renewal));
        }
    }

    /// Every core carries this change of the service with this index out; whether all of it was done on all of them.
    pub fn change(&mut self, now: Instant, index: u8, change: impl Fn(Place) -> Setting) -> bool {
        let each = |engine: &mut Engine| {
            let mut setting = change(engine.stack().place());
            engine.reconfigure(now, index, &mut setting)
        };
        let done: Vec<bool> = self.engines.iter_mut().map(each).collect();
        done.into_iter().all(|done| done)
    }

    /// The connections that have ended since the last time; so many more are noted by each core.
    pub fn endings(&mut self, room: usize) -> Vec<Ending> {
        let fetch = |engine: &mut Engine| {
            let mut endings = Vec::with_capacity(room);
            engine.swap_endings(&mut endings);
            endings
        };
        self.engines.iter_mut().flat_map(fetch).collect()
    }

    /// Ends the connection with this name, because an operator wants it; the core that has it says what came of it.
    pub fn end_flow(&mut self, now: Instant, id: FlowId) -> Ended {
        let ended = self.engines.iter_mut().map(|engine| engine.end_flow(now, id));
        ended.filter(|ended| *ended != Ended::NoFlow).last().unwrap_or(Ended::NoFlow)
    }

    pub(super) fn handle_command(&mut self, now: Instant, command: Command) {
        self.engines.iter_mut().for_each(|engine| engine.handle_command(now, command));
    }

    /// A burst of the client side comes in at the next core.
    pub(super) fn handle_frames(&mut self, now: Instant, frames: &[&[u8]]) {
        let core = self.receiver();
        self.engines[core].look_ahead(frames.iter().copied());
        let mut rest = frames;
        while let [first, ..] = rest {
            let Some(elsewhere) = self.engines[core].pass_over() else {
                let taken = self.engines[core].handle_frames(now, rest);
                self.spread(now, core, first);
                rest = &rest[taken..];
                continue;
            };
            let other = usize::from(elsewhere.core);
            self.crossed += 1;
            self.engines[other].look_ahead_hashed(once(elsewhere.hash));
            assert_eq!(self.engines[other].pass_over(), None, "nothing crosses over twice");
            self.engines[other].handle_frame(now, first);
            self.spread(now, other, first);
            rest = &rest[1..];
        }
    }

    /// If the frame that a core has taken tells where a server is, every other core hears it.
    fn spread(&mut self, now: Instant, core: usize, frame: &[u8]) {
        if self.engines[core].take_learnt() {
            for other in (0..self.engines.len()).filter(|&other| other != core) {
                self.engines[other].handle_frame(now, frame);
                self.engines[other].take_learnt();
            }
        }
    }

    /// A frame of the cluster side comes in at the next core.
    pub(super) fn handle_datagram(&mut self, now: Instant, frame: &[u8]) {
        let mut core = self.receiver();
        if let Some(other) = self.engines[core].core_of_datagram(frame) {
            core = other.into();
            self.crossed += 1;
        }
        self.engines[core].handle_datagram(now, &mut frame.to_vec());
    }

    fn receiver(&mut self) -> usize {
        self.next_core = (self.next_core + 1) % self.engines.len();
        self.next_core
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.engines.iter().filter_map(Engine::poll_timeout).min()
    }

    pub(super) fn handle_timeouts(&mut self, now: Instant) {
        self.engines.iter_mut().for_each(|engine| engine.handle_timeouts(now));
        self.tell_cores(now);
    }

    /// What one core has to tell the others about servers, they hear.
    fn tell_cores(&mut self, now: Instant) {
        while let Some(core) = self.engines.iter().position(Engine::has_untold) {
            let Some((group, epoch, word)) = self.engines[core].poll_untold() else { continue };
            let word = word.to_vec();
            for other in (0..self.engines.len()).filter(|&other| other != core) {
                self.engines[other].hear_decided(now, group, epoch, &word);
            }
        }
    }

    pub(super) fn poll_datagram(&mut self, now: Instant, buffer: &mut [u8]) -> Option<usize> {
        self.engines.iter_mut().find_map(|engine| engine.poll_datagram(now, buffer))
    }

    pub(super) fn poll_frame(&mut self, now: Instant, buffer: &mut [u8]) -> Option<usize> {
        let mut engines = self.engines.iter_mut();
        engines.find_map(|engine| engine.poll_frame(now, buffer)).map(|(len, _)| len)
    }

    /// Takes what the cores report.
    pub(super) fn gather_reports(&mut self) {
        let cores = self.cores();
        for engine in &mut self.engines {
            while let Some(report) = engine.poll_report() {
                let is_new = match report {
                    Report::Filled { group, epoch, core, .. } => {
                        let new = Gather::new(cores);
                        let gather = self.filled.entry((group, epoch)).or_insert(new);
                        assert!(gather.note(core), "a core reports once");
                        gather.is_complete()
                    }
                    Report::Promoted { .. }
                    | Report::Frozen { .. }
                    | Report::Stalled { .. }
                    | Report::Empty { .. }
                    | Report::Differed { .. } => true,
                };
                if is_new {
                    self.reports.push(report);
                }
            }
        }
    }

    pub(super) fn count_output(&mut self) {
        self.outputs += 1;
        if self.dies_after == Some(self.outputs) {
            self.is_alive = false;
        }
    }
}

/// Limits of a node's core.
pub fn stack_config(index: usize, place: Place, mac: Mac, settings: &Settings) -> StackConfig {
    let chunks_max = match settings.peer_chunks_max {
        Some(chunks) if index == 1 => chunks,
        _ => settings.chunks_max,
    };
    StackConfig {
        node: index as u8 + 1,
        place,
        mac,
        secret: [7; 32],
        flows_max: place.part_of(settings.flows_max),
        active_max: place.part_of(settings.active_max.unwrap_or(settings.flows_max)),
        uploads_max: place.part_of(settings.uploads_max.unwrap_or(settings.flows_max)),
        segments_max: place.part_of(settings.segments_max),
        chunks_max: place.part_of(chunks_max),
        pieces_max: place.part_of(64 * settings.flows_max),
        reassemblies_max: place.part_of(settings.flows_max),
        link_mbits: settings.link_mbits,
    }
}
