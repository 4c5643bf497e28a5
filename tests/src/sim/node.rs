//! One life of a node: an agent and its poll cores, as the program puts them together.
//!
//! The cores run the program's own loop over queues of this world. What the program's threads do beside it (publish
//! leases, watch progress, carry orders over) is done here in the same order, at moments that the world decides on.

use crate::kit::settings::Settings;
use crate::sim::clock::{CoreClock, Machine};
use crate::sim::port::{Queue, SimPort};
use assert_no_alloc::{assert_no_alloc, violation_count};
use cluster::agent::{Agent, Destination, GroupConfig};
use cluster::engine::{Engine, EngineConfig, Setting};
use cluster::id::{Incarnation, Member, NodeId};
use cluster::link::Endpoint;
use cluster::message::{ChangeRequest, Message, WITNESS, decode, header};
use cluster::register::Register;
use cluster::role::Report;
use cluster::seal::Opened;
use crossbeam_channel::{Receiver, Sender, bounded};
use dataplane::core::{Core, Round};
use dataplane::crossing::Crossing;
use dataplane::sealing::Sealing;
use dataplane::shared::{Shared, ToCore};
use dataplane::sys::event::Event;
use dataplane::waking::waking;
use stack::flow::Flow;
use stack::key::FlowKey;
use stack::shard::Place;
use stack::stack::{Renewal, StackConfig};
use stack::tcp::state::State;
use stack::time::Instant;
use stack::wire::Mac;
use std::sync::Arc;

/// The MTU of both networks.
pub const MTU: usize = 1500;
/// Port of the mirrored records.
const DATA_PORT: u16 = 7947;
/// Orders and reports that may wait.
const CHANNEL_MAX: usize = 1024;

/// The clients' side of a node.
pub fn client_mac(index: usize) -> Mac {
    [2, 2, 0, 0, 0, index as u8 + 1]
}

/// The cluster's side of a node.
pub fn cluster_mac(index: usize) -> Mac {
    [2, 3, 0, 0, 0, index as u8 + 1]
}

/// Where a node is on the cluster link.
pub fn endpoint(index: usize) -> Endpoint {
    Endpoint { mac: cluster_mac(index), address: [10, 9, 0, index as u8 + 1], port: DATA_PORT }
}

/// One poll core and the world's ends of its queues.
pub struct SimCore {
    core: Core<SimPort, CoreClock>,
    clock: CoreClock,
    /// From and to the clients.
    pub client: Queue,
    /// From and to the other nodes.
    pub cluster: Queue,
    /// When it is polled next, in true time.
    pub due: u64,
    /// Its last round takes until then.
    pub busy_until: u64,
    /// It is stuck until then.
    pub stuck_until: u64,
}

/// What became of one round.
pub struct Polled {
    /// What it did.
    pub round: Round,
    /// When its frames left, in true time.
    pub at: u64,
    /// Frames for the clients.
    pub frames: Vec<Vec<u8>>,
    /// Datagrams for other nodes.
    pub datagrams: Vec<Vec<u8>>,
    /// How often it asked for memory or gave some back, although no order had come: everything was taken at start.
    pub allocations: u32,
}

/// One life of a node.
pub struct Life {
    /// Who it is.
    pub member: Member,
    /// Its ownership machine.
    pub agent: Agent,
    /// Its poll cores.
    pub cores: Vec<SimCore>,
    /// Leases and progress.
    pub shared: Arc<Shared>,
    /// When the agent is run next, in true time.
    pub agent_due: u64,
    /// The registers as the agent knows them.
    pub registers: Vec<Register>,
    /// What the agent has asked for since somebody looked.
    pub asked: Vec<ChangeRequest>,
    /// Messages for another life that the agent has taken.
    pub mistaken: u64,
    machine: Machine,
    sealing: Sealing,
    orders: Vec<Sender<ToCore>>,
    reports: Receiver<Report>,
    progress: Vec<(u64, Instant)>,
    neighbors: Vec<(NodeId, Mac)>,
    /// A lease has begun of which the cores have not heard.
    has_voice: bool,
}

/// What a life is made of.
pub struct Birth<'a> {
    /// Which node.
    pub index: usize,
    /// Which life of it.
    pub incarnation: u64,
    /// Its clock.
    pub machine: Machine,
    /// What its time of day is ahead of that, which somebody may have set since the life before.
    pub wall_offset: u64,
    /// Its limits and services.
    pub settings: &'a Settings,
    /// Its cores.
    pub cores: u8,
    /// The cluster's id.
    pub cluster: u64,
    /// Its agent's configuration, but for its life.
    pub agent: cluster::agent::Config,
    /// How its agent speaks.
    pub sealing: Sealing,
}

impl Life {
    /// A process that has just started.
    pub fn new(now: u64, birth: Birth<'_>) -> Life {
        let Birth { index, incarnation, machine, wall_offset, settings, cores, .. } = birth;
        let Birth { cluster, agent, sealing, .. } = birth;
        let member =
            Member { node: NodeId(index as u8 + 1), incarnation: Incarnation(incarnation) };
        let groups = settings.groups();
        let shared = Arc::new(Shared::new(&groups, cores.into()));
        let wake = Arc::new(Event::new().expect("events are to be had"));
        let (report, reports) = waking(CHANNEL_MAX, &wake);
        let crossings = Crossing::among(cores.into(), MTU + 18).expect("events are to be had");
        let mut orders = Vec::new();
        let core = |(n, crossing): (usize, Crossing)| {
            let place = Place { core: n as u8, cores };
            let config = EngineConfig {
                member,
                cluster: cluster as u32,
                endpoint: endpoint(index),
                link_mtu: MTU,
                is_sealed: matches!(sealing, Sealing::Noise(_)),
                wall_offset,
                stack: stack_config(index, place, settings),
            };
            let engine = Engine::new(&config, settings.services(), &groups);
            let (order, commands) = bounded(CHANNEL_MAX);
            orders.push(order);
            let clock = CoreClock::new(machine);
            let (client, cluster) = (Queue::default(), Queue::default());
            let clients = vec![match machine.cuts_superframes() {
                true => SimPort::new(client.clone(), MTU + 14).cutting(),
                false => SimPort::new(client.clone(), MTU + 14),
            }];
            let ports = (clients, vec![SimPort::new(cluster.clone(), MTU + 14)]);
            let channels = (commands, report.clone());
            let core = Core::new(engine, clock.clone(), ports, crossing, shared.clone(), channels);
            SimCore { core, clock, client, cluster, due: now, busy_until: 0, stuck_until: 0 }
        };
        let cores: Vec<SimCore> = crossings.into_iter().enumerate().map(core).collect();
        let local = machine.local(now);
        let config = cluster::agent::Config { me: member, cores: cores.len() as u8, ..agent };
        Life {
            member,
            agent: Agent::new(local, config),
            progress: vec![(0, local); cores.len()],
            cores,
            shared,
            agent_due: now,
            registers: vec![Register::NEVER; groups.len()],
            asked: Vec::new(),
            mistaken: 0,
            machine,
            sealing,
            orders,
            reports,
            neighbors: Vec::new(),
            has_voice: false,
        }
    }

    /// What the driver says of the interface towards the clients.
    pub fn note_carrier(&self, has_carrier: bool) {
        self.shared.publish_path(Some(has_carrier), 0, 0);
    }

    /// Runs the agent; what it has to say comes out.
    pub fn run_agent(&mut self, now: u64) -> Vec<(Destination, Vec<u8>)> {
        let local = self.machine.local(now);
        if local >= self.agent.poll_timeout() {
            self.agent.handle_timeout(local);
            self.publish(local);
            self.tell_neighbors();
        }
        self.sealing.handle_timeout(local);
        while let Ok(report) = self.reports.try_recv() {
            self.agent.handle_report(local, report);
            self.publish(local);
        }
        self.watch_progress(local);
        self.carry_out(local)
    }

    /// Hands the agent a datagram; what it has to say comes out.
    pub fn handle_message(
        &mut self,
        now: u64,
        from: Destination,
        mut bytes: Vec<u8>,
    ) -> Vec<(Destination, Vec<u8>)> {
        let local = self.machine.local(now);
        let answer = match self.sealing.open(local, &mut bytes) {
            Ok(Opened::Datagram(message)) => {
                let is_mine = is_for(message, self.member.incarnation);
                let received = self.agent.counters().received;
                self.agent.handle_message(local, message);
                self.mistaken += u64::from(!is_mine && self.agent.counters().received > received);
                self.publish(local);
                None
            }
            Ok(Opened::Reply(reply)) => Some(reply),
            Ok(Opened::Nothing) => None,
            Err(reason) => self.sealing.hint(local, reason, &bytes),
        };
        let answer = answer.map(|answer| (from, answer));
        answer.into_iter().chain(self.carry_out(local)).collect()
    }

    /// When the agent has something to do without being asked, in true time.
    pub fn agent_timeout(&self) -> u64 {
        self.machine.when(self.agent.poll_timeout())
    }

    fn publish(&mut self, local: Instant) {
        for (index, group) in self.shared.groups() {
            let until = self.agent.lease(group).0;
            let known =
                self.shared.leases[index].until.swap(until, std::sync::atomic::Ordering::AcqRel);
            self.has_voice |= known <= local.0 && local.0 < until;
        }
    }

    /// Whether the cores have something to hear: an order, or that they may speak again.
    pub fn take_news(&mut self) -> bool {
        std::mem::take(&mut self.has_voice) || self.orders.iter().any(|orders| !orders.is_empty())
    }

    /// Whether cores have told the agent something.
    pub fn has_reports(&self) -> bool {
        !self.reports.is_empty()
    }

    /// Groups that there are.
    pub fn leases(&self) -> usize {
        self.shared.groups().count()
    }

    /// Until when the cores may speak for a group, on this machine's clock.
    pub fn lease(&self, group: usize) -> Instant {
        Instant(self.shared.leases[group].until.load(std::sync::atomic::Ordering::Acquire))
    }

    fn watch_progress(&mut self, local: Instant) {
        let limit = self.agent.timers().stuck;
        let mut is_stuck = false;
        for (core, last) in self.progress.iter_mut().enumerate() {
            let rounds = self.shared.progress(core);
            if rounds != last.0 {
                *last = (rounds, local);
            }
            is_stuck |= rounds == 0 || local.since(last.1) > limit;
        }
        self.agent.handle_progress(local, !is_stuck);
        self.agent.handle_path(local, self.shared.path(local));
        self.publish(local);
    }

    /// As the agent's thread does it: keys go to the cores before anything that was heard under them.
    fn carry_out(&mut self, local: Instant) -> Vec<(Destination, Vec<u8>)> {
        while let Some(keys) = self.sealing.poll_keys() {
            if keys.peer().node != WITNESS {
                tell(&self.orders, || ToCore::Session(keys.session()));
            }
        }
        for (index, group) in self.shared.groups() {
            self.registers[index] = self.agent.register(group);
        }
        while let Some(command) = self.agent.poll_command() {
            self.tell_neighbors();
            tell(&self.orders, || ToCore::Command(command));
        }
        let mut said = Vec::new();
        while let Some((to, message)) = self.agent.poll_message() {
            if let Ok((_, Message::Change(request))) = decode(&message) {
                self.asked.push(request);
            }
            let node = match to {
                Destination::Node(node) => node,
                Destination::Witness => WITNESS,
            };
            said.extend(self.sealing.seal(local, node, message).map(|bytes| (to, bytes)));
        }
        while let Some((node, bytes)) = self.sealing.poll_datagram() {
            let to = if node == WITNESS { Destination::Witness } else { Destination::Node(node) };
            said.push((to, bytes));
        }
        said
    }

    /// The services and groups have these settings from now on, which may be taken by who runs.
    pub fn reload(&mut self, local: Instant, settings: &Settings, groups: Vec<GroupConfig>) {
        let cores = self.orders.len() as u8;
        for (core, orders) in (0..).zip(&self.orders) {
            let place = Place { core, cores };
            let services = (0..).zip(settings.services());
            let renewed = |service| Setting::Renew(Renewal::new(service, place));
            let settings = services.map(|(n, service)| (n, renewed(service))).collect();
            // What they replace is given back; nobody here needs it.
            let order = ToCore::Reconfigure(settings, bounded(1).0);
            orders.try_send(order).expect("room for orders");
        }
        self.agent.handle_settings(local, groups);
    }

    /// A service leaves, in this attempt, or stays; the agent hears of these groups.
    pub fn name(
        &mut self,
        local: Instant,
        service: u8,
        attempt: Option<u32>,
        groups: Vec<GroupConfig>,
    ) {
        let settings = || vec![(service, Setting::Leave(attempt))];
        tell(&self.orders, || ToCore::Reconfigure(settings(), bounded(1).0));
        self.agent.handle_settings(local, groups);
    }

    /// The same order for every core.
    pub fn tell_cores(&self, order: impl Fn() -> ToCore) {
        tell(&self.orders, order);
    }

    /// Whether the cores have carried out every order, and have heard all that they tell each other.
    pub fn is_told(&self) -> bool {
        let has_untold = self.engines().any(Engine::has_untold);
        self.orders.iter().all(Sender::is_empty) && !self.has_parcels() && !has_untold
    }

    /// Whether anything of the cluster's network is on the way to a core.
    pub fn has_mail(&self) -> bool {
        self.has_parcels() || self.cores.iter().any(|core| core.cluster.has_incoming())
    }

    /// Whether anything is on the way from one core to another.
    fn has_parcels(&self) -> bool {
        let crossings = self.cores.iter().map(|core| core.core.crossing().counters());
        let (sent, received) = crossings.fold((0, 0), |(sent, received), counters| {
            (sent + counters.sent, received + counters.received)
        });
        sent != received
    }

    /// Frames that were lost on the way from one core to another, as it has counted them.
    pub fn lost_parcels(&self) -> u64 {
        let crossings = self.cores.iter().map(|core| core.core.crossing().counters());
        crossings.map(|counters| counters.full + counters.too_long).sum()
    }

    fn tell_neighbors(&mut self) {
        for (id, mac) in self.agent.neighbors() {
            if self.neighbors.contains(&(id, mac)) {
                continue;
            }
            self.neighbors.retain(|(known, _)| *known != id);
            self.neighbors.push((id, mac));
            let endpoint = Endpoint { mac, ..endpoint(id.0 as usize - 1) };
            tell(&self.orders, || ToCore::Neighbor(id, endpoint));
        }
    }

    /// One round of a core, which is interrupted for so many nanoseconds after it has read the clock.
    pub fn poll(&mut self, now: u64, core: usize, interruption: u64) -> Polled {
        let has_orders = !self.orders[core].is_empty();
        let core = &mut self.cores[core];
        core.clock.begin(now, interruption);
        let before = violation_count();
        let round = match has_orders {
            true => core.core.poll(),
            false => assert_no_alloc(|| core.core.poll()),
        };
        Polled {
            round,
            at: core.clock.end(),
            frames: core.client.take(),
            datagrams: core.cluster.take(),
            allocations: violation_count() - before,
        }
    }

    /// When a core has something to do although no frame arrives, in true time.
    pub fn core_timeout(&self, core: usize) -> Option<u64> {
        let at = self.cores[core].core.poll_timeout()?;
        Some(self.machine.when(at))
    }

    /// Parcels that a core has handed to others.
    pub fn handed_over(&self, core: usize) -> u64 {
        self.cores[core].core.crossing().counters().sent
    }

    /// The engine of each core.
    pub fn engines(&self) -> impl Iterator<Item = &Engine> {
        self.cores.iter().map(|core| core.core.engine())
    }

    /// The flows of a group that have not ended, on every core.
    pub fn flows(&self, group: usize) -> impl Iterator<Item = &Flow> {
        let slots = self.engines().flat_map(|engine| {
            let stack = engine.stack();
            (0..stack.slots_max() as u32).filter_map(move |slot| stack.flow(slot))
        });
        slots.filter(move |flow| {
            usize::from(flow.group) == group && flow.contract.state != State::Closed
        })
    }

    /// The flow with this key, on whichever core.
    pub fn find(&self, key: &FlowKey) -> Option<&Flow> {
        self.engines().find_map(|engine| engine.stack().flow(engine.stack().find(key)?))
    }
}

/// The same order for every core.
fn tell(cores: &[Sender<ToCore>], order: impl Fn() -> ToCore) {
    for core in cores {
        core.try_send(order()).expect("room for orders");
    }
}

/// Whether a message is for this life of its node, or for any.
fn is_for(message: &[u8], life: Incarnation) -> bool {
    let to = header(message).map(|header| header.to.incarnation);
    to.is_ok_and(|to| to.0 == 0 || to == life)
}

fn stack_config(index: usize, place: Place, settings: &Settings) -> StackConfig {
    StackConfig {
        node: index as u8 + 1,
        place,
        mac: client_mac(index),
        secret: [7; 32],
        flows_max: place.part_of(settings.flows_max),
        active_max: place.part_of(settings.flows_max),
        uploads_max: place.part_of(settings.flows_max),
        segments_max: place.part_of(settings.segments_max),
        chunks_max: place.part_of(settings.chunks_max),
        pieces_max: place.part_of(64 * settings.flows_max),
        reassemblies_max: place.part_of(settings.flows_max),
        link_mbits: settings.link_mbits,
    }
}
