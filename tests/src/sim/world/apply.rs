//! Faults happen.

use super::{Event, Interruption, Node, World};
use crate::kit::settings::{PROXY, Settings};
use crate::sim::check::is_syn;
use crate::sim::clock::Machine;
use crate::sim::fault::{Fault, MS, Reload};
use crate::sim::network::{Plug, Side};
use crate::sim::node::{Birth, Life, cluster_mac};
use cluster::agent::handover::Order;
use cluster::agent::{self, Arbiter, GroupConfig};
use cluster::id::{GroupId, Incarnation, Member, NodeId};
use cluster::message::advertise::{Failback, OnPeerLoss};
use cluster::message::{Header, Message, WITNESS, any_life, encode};
use cluster::register::Register;
use cluster::seal::{self, Counters, Party, SEED_BYTES};
use cluster::witness::Witness;
use crossbeam_channel::bounded;
use dataplane::sealing::Sealing;
use dataplane::shared::ToCore;
use stack::time::{Duration, Instant};
use stack::upstream::decision::{Admin, Change};

/// An ambush waits for so long for a peer to get in sync, or for a client to connect.
const AMBUSH: u64 = 1_000 * MS;
/// The time of day when the world begins, in nanoseconds since 1970, and how wrong that of a machine may be: a year.
const WALL: u64 = 1_700_000_000_000_000_000;
const WALL_WRONG: u64 = 31_536_000_000_000_000;
/// The cluster's id.
pub(super) const CLUSTER: u64 = 0x0c0f_fee0;

impl World {
    pub(super) fn apply(&mut self, fault: Fault) {
        let now = self.now;
        self.check.wakes.excuse();
        self.strays.excuse();
        self.calm_since = now;
        match fault {
            Fault::Crash { node, is_told } => self.crash(node, is_told),
            Fault::CrashOwner { service, is_told } => {
                if let Some(node) = self.server_of(service) {
                    self.crash(node, is_told);
                }
            }
            Fault::Start { node } => self.start(node),
            Fault::Pause { node, time } => {
                self.expect_trouble(time);
                let state = &mut self.nodes[node];
                state.paused_until = state.paused_until.max(now + time);
            }
            Fault::Stick { node, core, time } => {
                self.expect_trouble(time);
                self.stick((node, core), time);
            }
            Fault::StickOwner { service, core, time } => {
                self.expect_trouble(time);
                if let Some(node) = self.server_of(service) {
                    self.stick((node, core), time);
                }
            }
            Fault::Interrupt { node, core, time, is_checked } => {
                self.expect_trouble(time);
                if let Some(next) = self.nodes[node].interruptions.get_mut(core) {
                    *next = Interruption { time, is_checked };
                }
            }
            Fault::Unplug { side, plug, is_out } => {
                self.network(side).set_unplugged(plug, is_out);
            }
            Fault::Cut { side, from, to, is_cut } => self.network(side).set_cut(from, to, is_cut),
            Fault::Clog { side, plug, time } => {
                self.expect_trouble(time);
                self.network(side).clog(plug, now + time);
            }
            Fault::Weather { side, weather } => self.network(side).weather = weather,
            Fault::CrashWitness => self.crash_witness(),
            Fault::StartWitness => self.start_witness(),
            Fault::Handover { group: index, to } => {
                let group = self.shape.settings.groups()[index];
                let to = NodeId(to as u8 + 1);
                let order = Order::Handover { group, to, epoch: None, force: false };
                (0..self.nodes.len()).for_each(|node| self.order(node, order));
            }
            Fault::Drain { node } => self.order(node, Order::Drain),
            Fault::Undrain { node } => self.order(node, Order::Undrain),
            Fault::Slow { node, per_frame } => self.nodes[node].per_frame = per_frame,
            Fault::Ambush { time } => {
                (self.ambush, self.trouble_until) = (Some(time), now + AMBUSH);
            }
            Fault::Trap { server, time } => {
                (self.trap, self.trouble_until) = (Some((server, time)), now + AMBUSH);
            }
            Fault::StopServer { server, is_told } => self.stop_server(server, is_told),
            Fault::Judge { node, server, is_up } => self.judge(node, server, is_up),
            Fault::Assign { server, change } => self.assign(server, change),
            Fault::Reload { node, change } => self.reload(node, change),
            Fault::Name { node, service, is_named } => self.name(node, service, is_named),
            Fault::StartServer { server } => self.start_server(server),
        }
    }

    /// What has begun ends by itself after so long. Until then the next mishap would be a second one, though nobody may have noticed
    /// the first one yet.
    fn expect_trouble(&mut self, time: u64) {
        self.trouble_until = self.trouble_until.max(self.now + time);
    }

    fn stick(&mut self, (node, core): (usize, usize), time: u64) {
        if let Some(life) = &mut self.nodes[node].life
            && let Some(core) = life.cores.get_mut(core)
        {
            core.stuck_until = self.now + time;
        }
    }

    /// A group has a peer in sync: if that was planned, the two lose each other.
    pub(super) fn spring(&mut self, register: &Register) {
        let plug = |member: Member| Plug::Node(usize::from(member.node.0) - 1);
        let (Some(peer), true) = (register.in_sync_peer(), self.now < self.trouble_until) else {
            return;
        };
        let Some(time) = self.ambush.take() else { return };
        let (owner, peer) = (plug(register.owner), plug(peer));
        let late = self.random.below(10 * MS);
        for (from, to, wait) in [(peer, owner, 0), (owner, peer, late)] {
            let cut = |is_cut| Fault::Cut { side: Side::Cluster, from, to, is_cut };
            self.schedule(wait, cut(true));
            self.schedule(wait + time, cut(false));
        }
        self.trouble_until = self.now + late + time;
    }

    /// A server has said something: if it was an answer to a SYN, and that was planned, nobody reaches it from now on.
    pub(super) fn close_trap(&mut self, server: usize, frame: &[u8]) {
        let is_due = self.now < self.trouble_until;
        let Some((_, time)) = self.trap.filter(|trap| trap.0 == server && is_due) else { return };
        if is_syn(frame) {
            self.trap = None;
            let plug = Plug::Server(server);
            let unplug = |is_out| Fault::Unplug { side: Side::Client, plug, is_out };
            self.schedule(0, unplug(true));
            self.schedule(time, unplug(false));
            self.trouble_until = self.now + time;
        }
    }

    fn network(&mut self, side: Side) -> &mut crate::sim::network::Network {
        match side {
            Side::Client => &mut self.clients,
            Side::Cluster => &mut self.cluster,
        }
    }

    /// What the operator orders; what cannot be done is refused and nothing else.
    fn order(&mut self, node: usize, order: Order) {
        let state = &mut self.nodes[node];
        if state.paused_until > self.now {
            return;
        }
        let local = state.machine.local(self.now);
        if let Some(life) = &mut state.life {
            let _ = life.agent.handle_order(local, order);
        }
    }

    /// Whose connection may have been with it has an excuse.
    fn stop_server(&mut self, index: usize, is_told: bool) {
        for host in self.hosts.iter_mut().filter(|host| host.is_proxied) {
            host.is_excused = true;
        }
        match is_told {
            true => self.servers[index].stop(),
            false => {
                self.clients.set_unplugged(Plug::Server(index), true);
                self.servers[index].lose_power();
            }
        }
        self.run_server(index);
    }

    fn judge(&mut self, node: usize, server: usize, is_up: bool) {
        let Some(service) = self.proxied() else { return };
        let verdict = [(server as u16, is_up)];
        self.tell_cores(node, || ToCore::Verdicts(service as u32, verdict.into()));
    }

    /// Whoever owns nothing of the service refuses.
    fn assign(&mut self, server: usize, change: Change) {
        let Some(service) = self.proxied() else { return };
        let (answer, _) = bounded(1);
        let order = || ToCore::Decide(service as u32, server as u16, change, answer.clone());
        (0..self.nodes.len()).for_each(|node| self.tell_cores(node, order));
    }

    /// A process that does nothing takes none; one that is dead finds it when it starts.
    fn reload(&mut self, node: usize, change: Option<Reload>) {
        let state = &mut self.nodes[node];
        if state.life.is_some() && state.paused_until > self.now {
            return;
        }
        state.change = change;
        let local = state.machine.local(self.now);
        let (settings, groups) = (self.settings(node), self.agent_config(node).groups);
        if let Some(life) = &mut self.nodes[node].life {
            life.reload(local, &settings, groups);
            self.wake_cores(node);
        }
    }

    /// A node's file names a service or does not. One that is dead finds that when it starts.
    fn name(&mut self, node: usize, service: usize, is_named: bool) {
        let state = &mut self.nodes[node];
        if state.life.is_some() && state.paused_until > self.now {
            return;
        }
        state.attempts += 1;
        self.decisions.forget_groups(self.groups_of(service));
        let state = &mut self.nodes[node];
        let (local, attempt) = (state.machine.local(self.now), state.attempts);
        match is_named {
            true => _ = state.left.remove(&service),
            false => _ = state.left.insert(service, attempt),
        }
        self.note_named(service);
        let groups = self.agent_config(node).groups;
        if let Some(life) = &mut self.nodes[node].life {
            life.name(local, service as u8, (!is_named).then_some(attempt), groups);
            self.wake_cores(node);
        }
    }

    /// The services as a node has them by now.
    fn settings(&self, node: usize) -> Settings {
        let flows_max = self.flows_of(node);
        let settings = Settings { flows_max, ..self.shape.settings.clone() };
        match self.nodes[node].change {
            None => settings,
            Some(Reload { retired, balance, .. }) => Settings { retired, balance, ..settings },
        }
    }

    /// An order for every core of a node.
    fn tell_cores(&mut self, node: usize, order: impl Fn() -> ToCore) {
        if let Some(life) = &self.nodes[node].life {
            life.tell_cores(order);
            self.wake_cores(node);
        }
    }

    pub(super) fn wake_cores(&mut self, node: usize) {
        for core in 0..usize::from(self.nodes[node].cores) {
            let wake = 1_000 + self.random.below(5_000);
            self.wake_core(node, core, self.now + wake);
        }
    }

    fn start_server(&mut self, index: usize) {
        self.clients.set_unplugged(Plug::Server(index), false);
        self.servers[index].restart(Instant(self.now));
        self.run_server(index);
    }

    fn crash(&mut self, node: usize, is_told: bool) {
        let Some(life) = self.nodes[node].life.take() else { return };
        if let Err(broken) = super::roles::check_life(&life) {
            self.fail(broken);
        }
        self.excuse_unheld(&life);
        self.nodes[node].paused_until = 0;
        self.nodes[node].interruptions.fill(Interruption::default());
        if !is_told {
            return;
        }
        let wake = MS + self.random.below(2 * MS);
        let at = self.nodes[node].machine.local(self.now + wake);
        let salt = self.random.bytes(16).try_into().expect("sixteen bytes");
        let nodes = (0..self.nodes.len()).filter(|to| *to != node).map(Plug::Node);
        for to in nodes.chain([Plug::Witness]) {
            let name = match to {
                Plug::Node(to) => NodeId(to as u8 + 1),
                _ => WITNESS,
            };
            let header = Header { cluster: CLUSTER, from: life.member, to: any_life(name) };
            let bytes = encode(header, &Message::Surrender { at });
            // One for each key of the cluster.
            let said = match self.shape.is_sealed {
                true => seal::surrender(
                    &self.keyring_of(NodeId(node as u8 + 1)),
                    life.member,
                    salt,
                    &bytes,
                ),
                false => vec![bytes],
            };
            for pause in [0, 1, 5, 20] {
                for bytes in &said {
                    let say = Event::Say { from: node, to, bytes: bytes.clone() };
                    self.after(wake + pause * MS, say);
                }
            }
        }
    }

    fn start(&mut self, node: usize) {
        if self.nodes[node].life.is_some() {
            return;
        }
        self.lives += 1;
        self.nodes[node].attempts_before = self.nodes[node].attempts;
        let (incarnation, settings) = (self.lives, self.settings(node));
        let wall_offset = WALL + self.random.below(2 * WALL_WRONG) - WALL_WRONG;
        let life = Life::new(
            self.now,
            Birth {
                index: node,
                incarnation,
                machine: self.nodes[node].machine,
                wall_offset,
                settings: &settings,
                cores: self.nodes[node].cores,
                cluster: CLUSTER,
                agent: self.agent_config(node),
                sealing: self.sealing(
                    NodeId(node as u8 + 1),
                    incarnation,
                    self.nodes[node].machine,
                ),
            },
        );
        let cores = life.cores.len();
        self.nodes[node].life = Some(life);
        self.nodes[node].spoke.clear();
        self.decisions.forget_node(node);
        for core in 0..cores {
            self.push(self.now, Event::Core { node, life: incarnation, core });
        }
        self.push(self.now, Event::Agent { node, life: incarnation });
    }

    /// How a life that begins now speaks on the cluster's network.
    fn sealing(&self, node: NodeId, incarnation: u64, machine: Machine) -> Sealing {
        if !self.shape.is_sealed {
            return Sealing::None(Counters::default());
        }
        let me = Member { node, incarnation: Incarnation(incarnation) };
        let others = (1..=self.nodes.len() as u8).map(NodeId).chain([WITNESS]);
        let others = others.filter(|other| *other != node && node != WITNESS);
        let mut seed = [0; SEED_BYTES];
        seed[..8].copy_from_slice(&self.seed.to_le_bytes());
        seed[8..16].copy_from_slice(&incarnation.to_le_bytes());
        let keys = self.keyring_of(node);
        Sealing::Noise(Box::new(Party::new(machine.local(self.now), me, keys, others, seed)))
    }

    /// What the present life of a node is told, or one that begins: it knows nothing of what its file did not name when it began.
    fn agent_config(&self, node: usize) -> agent::Config {
        let nodes: Vec<NodeId> = (1..=self.nodes.len() as u8).map(NodeId).collect();
        let Node { change, attempts_before, .. } = self.nodes[node];
        let hold_down = change.map(|change| Duration(change.hold_down));
        let config = |group: GroupId| {
            // Homes take turns, so that every node owns something and stands in for something.
            let home = nodes[group.service() as usize % nodes.len()];
            let port = self.shape.settings.ports[group.service() as usize].port;
            GroupConfig {
                group,
                home,
                peers: nodes.iter().copied().filter(|node| *node != home).collect(),
                on_peer_loss: OnPeerLoss::Serve,
                failback: match self.shape.failback.0 {
                    // Two generations could choose the same port towards a server: `check` refuses that.
                    Failback::NewConnections if port == PROXY => Failback::All,
                    failback => failback,
                },
                hold_down: hold_down.unwrap_or(self.shape.failback.1),
                advertisement: self.declared_by(node),
                leaving: self.nodes[node].left.get(&(group.service() as usize)).copied(),
            }
        };
        let is_known =
            |group: &GroupConfig| group.leaving.is_none_or(|attempt| attempt > attempts_before);
        let groups = self.shape.settings.groups().into_iter();
        agent::Config {
            me: Member { node: NodeId(node as u8 + 1), incarnation: Incarnation(1) },
            cluster: CLUSTER,
            version: String::new(),
            mac: cluster_mac(node),
            cores: 1,
            groups: groups.map(config).filter(is_known).collect(),
            nodes: nodes.clone(),
            timers: self.shape.timers,
            arbiter: self.shape.arbiter,
        }
    }

    fn crash_witness(&mut self) {
        let state = &mut self.witness;
        state.witness = None;
        if let Some(before) = state.before.take()
            && state.busy_until > self.now
            && self.random.permille(500)
        {
            // The write that was under way is lost; nobody has been told of it.
            state.disk = (!before.is_empty()).then_some(before);
        }
        // Replies that wait for that write are never sent.
        let now = self.now;
        let is_reply = |event: &Event| matches!(event, Event::Message { from: Plug::Witness, .. });
        self.queue.retain(|(at, _), event| *at < now || !is_reply(event));
        self.witness.busy_until = 0;
    }

    fn start_witness(&mut self) {
        if self.witness.witness.is_some() || self.shape.arbiter != Arbiter::Witness {
            return;
        }
        self.lives += 1;
        let state = &mut self.witness;
        let local = state.machine.local(self.now);
        let (life, disk) = (Incarnation(self.lives), state.disk.as_deref());
        let is_first = !std::mem::replace(&mut state.was_started, true);
        let timers = self.shape.timers;
        let witness = Witness::new(local, life, CLUSTER, timers, disk, is_first).0;
        let sealing = self.sealing(WITNESS, life.0, self.witness.machine);
        self.witness.witness = Some((witness, sealing));
    }

    /// Everything is put right: whoever is dead starts, whatever is cut is joined. A server that nobody reached has run on.
    pub fn heal(&mut self) {
        self.queue.retain(|_, event| !matches!(event, Event::Fault(_)));
        for server in 0..self.servers.len() {
            if !self.servers[server].is_listening() {
                self.start_server(server);
            }
        }
        for server in 0..self.servers.len() {
            self.assign(server, Change::Admin(Admin::Ready));
            (0..self.nodes.len()).for_each(|node| self.judge(node, server, true));
        }
        (self.ambush, self.trap, self.trouble_until) = (None, None, self.now);
        self.clients.heal();
        self.cluster.heal();
        for node in 0..self.nodes.len() {
            let now = self.now;
            self.nodes[node].paused_until = self.nodes[node].paused_until.min(now);
            self.nodes[node].interruptions.fill(Interruption::default());
            self.nodes[node].per_frame = 0;
            if let Some(life) = &mut self.nodes[node].life {
                life.cores.iter_mut().for_each(|core| core.stuck_until = 0);
            }
            if self.nodes[node].change.is_some() {
                self.apply(Fault::Reload { node, change: None });
            }
            let left: Vec<usize> = self.nodes[node].left.keys().copied().collect();
            for service in left {
                self.apply(Fault::Name { node, service, is_named: true });
            }
            self.apply(Fault::Start { node });
            self.apply(Fault::Undrain { node });
        }
        self.apply(Fault::StartWitness);
    }
}
