//! The node's status, put together from what the agent and the core say of themselves.

mod decision;
mod fields;
mod protection;

use crate::clock;
use crate::config::{Config, Failback, Service};
use crate::control::status as shown;
use crate::guardian::{Guard, State};
use crate::health::Board;
use crate::log::{self, Level, Record};
use crate::orders;
use crate::reload::Origin;
use crate::sealing::SealingSnapshot;
use crate::shared::{AgentSnapshot, CoreSnapshot, Shared, ToAgent, ToCore};
use crate::steering::{Steering, verdicts};
use crate::waking::WakingSender;
use crate::watch::Phases;
use cluster::agent::declare::{Claim, Fitness};
use cluster::agent::status::{GroupStatus, NodeStatus, Status};
use cluster::engine::GroupStatus as Engine;
use cluster::id::{GroupId, Member, NodeId};
use cluster::message::WITNESS;
use cluster::message::state::{GroupState, NodeState};
use cluster::register::{Phase, Register};
use cluster::seal::Unopened;
use crossbeam_channel::{Receiver, Sender, bounded};
use decision::{decision, sentence};
use fields::{
    agent_counters, declared, events, group_counters, path, role_shown, sealed, sealing_counters,
    timers,
};
use protection::{copies, hears_percent, is_shown, protection, totals};
use stack::stack::Ending;
use stack::time::Instant;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

/// How long the core and the agent may take to answer.
pub(crate) const PATIENCE: Duration = Duration::from_millis(500);

/// What is said of a core or an agent that takes longer.
pub(crate) const LATE: &str = "the node does not answer in time";

/// An arbiter that has not answered for so long is gone: it is asked every second.
const ARBITER_SILENT: stack::time::Duration = stack::time::Duration::from_secs(3);

/// How old what another node has told of itself may be: it does so every second.
const TOLD_EVERY: stack::time::Duration = stack::time::Duration::from_secs(1);

/// Asks the threads of a node how they are.
pub struct Reporter {
    config: RwLock<Arc<Config>>,
    pub(crate) origin: Mutex<Origin>,
    /// One reload at a time, or the undoing of one.
    pub(crate) reloading: Mutex<()>,
    pub(crate) me: Member,
    pub(crate) shared: Arc<Shared>,
    guard: Arc<Guard>,
    pub(crate) orders: Vec<Sender<ToCore>>,
    pub(crate) questions: WakingSender<ToAgent>,
    /// What the checks of servers have found.
    pub(crate) board: Arc<Board>,
    pub(crate) steering: Steering,
    started: Instant,
    phases: Mutex<BTreeMap<GroupId, Phases>>,
    /// The last decision about each group that the log has been told of.
    logged: Mutex<BTreeMap<GroupId, Instant>>,
}

impl Reporter {
    /// For the node with this configuration, and where it has it from.
    pub fn new(
        (config, origin): (&Config, Origin),
        me: Member,
        shared: Arc<Shared>,
        guard: Arc<Guard>,
        (orders, questions): (Vec<Sender<ToCore>>, WakingSender<ToAgent>),
        (board, steering): (Arc<Board>, Steering),
    ) -> Reporter {
        let (phases, logged) = (Mutex::default(), Mutex::default());
        let (config, origin) = (RwLock::new(Arc::new(config.clone())), Mutex::new(origin));
        let (reloading, started) = (Mutex::new(()), clock::now());
        Reporter {
            config,
            origin,
            reloading,
            me,
            shared,
            guard,
            orders,
            questions,
            board,
            started,
            phases,
            logged,
            steering,
        }
    }

    /// The configuration that runs: a reload may have changed it.
    pub fn config(&self) -> Arc<Config> {
        self.config.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set_config(&self, config: Arc<Config>) {
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = config;
    }

    /// Takes note of what a later status could not tell any more, and does what has come due.
    pub fn look(&self) {
        self.undo_unconfirmed(clock::now());
        let agent = self.ask_agent().and_then(|agent| agent.recv_timeout(PATIENCE).ok());
        if let Some(agent) = agent {
            self.note_takeovers(clock::now(), &agent.agent.groups);
            self.log_decisions(&agent.agent.groups);
        }
        self.bury();
    }

    /// Tells the log what was decided since the last look. What is decided again and again is told ever more rarely.
    fn log_decisions(&self, groups: &[GroupStatus]) {
        let config = self.config();
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        logged.retain(|known, _| groups.iter().any(|group| group.group == *known));
        for group in groups {
            let last = logged.entry(group.group).or_insert(Instant::ZERO);
            let Some(service) = config.service(group.group) else { continue };
            let is_new = |decision: &&cluster::agent::Decision| decision.at > *last;
            let new: Vec<_> = group.reasons.iter().filter(is_new).collect();
            for decision in new {
                *last = (*last).max(decision.at);
                if decision.times.is_power_of_two() {
                    Record::new(
                        Level::Notice,
                        format!("{}: {}", service.name, sentence(decision.reason)),
                    )
                    .with("service", &service.name)
                    .with("epoch", decision.epoch)
                    .with("times", decision.times)
                    .say();
                }
            }
        }
    }

    fn note_takeovers(&self, now: Instant, groups: &[GroupStatus]) {
        let mut phases = self.phases.lock().unwrap_or_else(PoisonError::into_inner);
        phases.retain(|known, _| groups.iter().any(|group| group.group == *known));
        for group in groups {
            let phases = phases.entry(group.group).or_default();
            let shared = self.shared.takeover(group.group);
            if let (Some(takeover), Some(shown)) = (group.takeover, self.takeover(now, group)) {
                let heard =
                    [shared.announced_at, shared.first_byte_at].map(|at| at > Instant::ZERO);
                phases.look(&shown, now.since(takeover.granted), heard);
            }
        }
    }

    /// Asks every core the same; what each answers, unless one is late.
    pub(crate) fn each_core<T>(&self, question: impl Fn(Sender<T>) -> ToCore) -> Option<Vec<T>> {
        let asked = self.orders.iter().map(|orders| {
            let (answer, core) = bounded(1);
            orders.try_send(question(answer)).ok()?;
            Some(core)
        });
        let asked: Vec<Receiver<T>> = asked.collect::<Option<_>>()?;
        asked.iter().map(|core| core.recv_timeout(PATIENCE).ok()).collect()
    }

    /// The connections that have ended on each core that answers in time; the next ones are noted in the lists that `empty` makes.
    pub(crate) fn fetch_endings(&self, mut empty: impl FnMut() -> Vec<Ending>) -> Vec<Vec<Ending>> {
        let asked = self.orders.iter().filter_map(|orders| {
            let (answer, core) = bounded(1);
            orders.try_send(ToCore::Endings(empty(), answer)).ok()?;
            Some(core)
        });
        let asked: Vec<_> = asked.collect();
        asked.iter().filter_map(|core| core.recv_timeout(PATIENCE).ok()).collect()
    }

    /// Asks the agent how it is.
    pub(crate) fn ask_agent(&self) -> Option<Receiver<Box<AgentSnapshot>>> {
        let (answer, agent) = bounded(1);
        self.questions.try_send(ToAgent::Status(answer)).ok()?;
        Some(agent)
    }

    /// The node now; `None` if a thread does not answer in time.
    pub fn status(&self) -> Option<shown::Status> {
        let agent = self.ask_agent()?;
        let cores = self.each_core(ToCore::Snapshot)?.into_iter();
        let cores: Vec<CoreSnapshot> = cores.map(|core| *core).collect();
        let AgentSnapshot { agent, sealing } = *agent.recv_timeout(PATIENCE).ok()?;
        let now = clock::now();
        let totals = totals(&cores);
        self.note_takeovers(now, &agent.groups);
        let config = self.config();
        let has_arbiter = self.has_arbiter(&agent);
        Some(shown::Status {
            node: self.me.node.0,
            incarnation: self.me.incarnation.to_string(),
            version: env!("CARGO_PKG_VERSION").into(),
            uptime_us: now.since(self.started).micros(),
            configuration: self.origin().shown(now),
            log_dropped: log::dropped(),
            cluster: self.cluster(&agent, &sealing),
            groups: (agent.groups.iter().filter(|group| is_shown(&agent, group)))
                .filter_map(|group| {
                    let service = config.service(group.group)?;
                    let engine = totals.get(&group.group).copied().unwrap_or_default();
                    let has_arbiter = has_arbiter && self.is_heir_heard(&agent, &group.register);
                    let copies = copies(&agent, group, &engine);
                    Some(self.group(now, service, (group, &engine), (copies, has_arbiter)))
                })
                .collect(),
            cores: cores.iter().enumerate().map(|(n, core)| self.core(n, core)).collect(),
            ports: self.ports(&cores),
            steering: self.steering(),
            timers: timers(&agent.configured, &agent.effective),
            largest_gap_us: agent.largest_gap.micros(),
            guardian: self.guardian(),
            draining: agent.draining,
            path: path(&agent.path),
        })
    }

    fn guardian(&self) -> shown::GuardianStatus {
        let State { process, restarts } = self.guard.state();
        shown::GuardianStatus { process, restarts }
    }

    fn is_witnessed(&self) -> bool {
        matches!(self.config().cluster.arbiter, crate::config::Arbiter::Witness { .. })
    }

    /// Whether somebody could let a peer take over now.
    fn has_arbiter(&self, agent: &Status) -> bool {
        let is_witness = self.is_witnessed();
        !is_witness || agent.witness_age.is_some_and(|age| age < ARBITER_SILENT)
    }

    /// Whether the arbiter has answered the group's peer of late, as that says itself: it could not take over otherwise.
    fn is_heir_heard(&self, agent: &Status, register: &Register) -> bool {
        let Some(peer) = register.in_sync_peer().filter(|peer| *peer != agent.me) else {
            return true;
        };
        let node = agent.nodes.iter().find(|node| node.member == peer);
        let told = node.and_then(|node| node.told.as_ref());
        let age = told.and_then(|(state, age)| Some(state.witness_age?.0 + age.0));
        !self.is_witnessed() || age.is_some_and(|age| age < ARBITER_SILENT.0 + TOLD_EVERY.0)
    }

    fn cluster(&self, agent: &Status, sealing: &SealingSnapshot) -> shown::ClusterStatus {
        let (config, witness) = (self.config(), self.is_witnessed());
        let address = |node: &cluster::agent::status::NodeStatus| {
            let known = config.cluster.nodes.iter().find(|n| n.id == node.member.node);
            known.map_or(String::new(), |n| n.address.to_string())
        };
        shown::ClusterStatus {
            name: config.cluster.name.clone(),
            arbiter: if witness { "witness" } else { "none" }.into(),
            arbiter_answer_age_us: agent.witness_age.map(|age| age.micros()),
            split_brain_possible: agent.split_brain_possible,
            seal: if sealing.keys.is_empty() { "none" } else { "noise" }.into(),
            keys: sealing.keys.iter().map(ToString::to_string).collect(),
            sealing: sealing_counters(sealing),
            agent: agent_counters(&agent.counters),
            witness_sealed: sealed(sealing, WITNESS),
            nodes: agent
                .nodes
                .iter()
                .map(|node| shown::NodeStatus {
                    node: node.member.node.0,
                    incarnation: match node.age {
                        Some(_) => node.member.incarnation.to_string(),
                        None => String::new(),
                    },
                    address: address(node),
                    draining: node.draining,
                    path: path(&node.path),
                    version: told(node).map_or(String::new(), |state| state.version.clone()),
                    largest_gap_us: told(node).map(|state| state.largest_gap.micros()),
                    lease_us: told(node).map(|state| state.lease.micros()),
                    peer_silent_us: told(node).map(|state| state.peer_silent.micros()),
                    arbiter_answer_age_us: told(node)
                        .and_then(|state| Some(state.witness_age?.micros())),
                    heartbeat_age_us: node.age.map(|age| age.micros()),
                    sealed: sealed(sealing, node.member.node),
                })
                .collect(),
            standings: self.standings(agent),
        }
    }

    /// Each group on each node, service by service.
    fn standings(&self, agent: &Status) -> Vec<shown::Standing> {
        let own = (agent.me.node, Duration::ZERO, &agent.state);
        let told = agent.nodes.iter().filter_map(|node| {
            let (state, age) = node.told.as_ref()?;
            Some((node.member.node, Duration::from_nanos(age.0), state))
        });
        let states: Vec<_> = core::iter::once(own).chain(told).collect();
        let mut standings = Vec::new();
        for group in agent.groups.iter().filter(|group| is_shown(agent, group)) {
            for (node, age, state) in &states {
                let known = state.groups.iter().find(|known| known.group == group.group);
                standings.extend(known.map(|known| self.standing(group, *node, *age, known)));
            }
        }
        standings
    }

    fn standing(
        &self,
        group: &GroupStatus,
        node: NodeId,
        age: Duration,
        state: &GroupState,
    ) -> shown::Standing {
        let GroupState { group: id, role, register, counts } = state;
        let config = self.config();
        let service = config.service(*id);
        let is_written = register.epoch.0 > 0;
        let declared = group.declared.iter().find(|declared| declared.by.node == node);
        shown::Standing {
            service: service.map_or(String::new(), |service| service.name.clone()),
            generation: id.generation(),
            node: node.0,
            role: role_shown(*role),
            epoch: register.epoch.0,
            owner: is_written.then_some(register.owner.node.0),
            peer: register.peer.map(|peer| peer.node.0),
            in_sync: register.in_sync,
            flows: counts.flows.into(),
            flows_copied: counts.copied.into(),
            lag: shown::Lag { ops: counts.lag_ops, bytes: counts.lag_bytes },
            age_us: age.as_micros() as u64,
            unfit: declared.and_then(|declared| match declared.fitness {
                Fitness::Unfit(why) => Some(orders::unfit_text(why)),
                Fitness::Fit | Fitness::Undeclared => None,
            }),
        }
    }

    fn group(
        &self,
        now: Instant,
        service: &Service,
        (group, engine): (&GroupStatus, &Engine),
        (copies, has_arbiter): ((u32, u32), bool),
    ) -> shown::GroupStatus {
        let register = &group.register;
        let is_known = group.known && register.epoch.0 > 0;
        shown::GroupStatus {
            service: service.name.clone(),
            generation: group.group.generation(),
            is_closed: register.phase == Phase::Closed,
            is_leaving: group.is_leaving,
            role: role_shown(group.role),
            epoch: register.epoch.0,
            owner: is_known.then_some(register.owner.node.0),
            peer: register.peer.filter(|_| is_known).map(|peer| peer.node.0),
            in_sync: register.in_sync,
            protection: protection(register, copies, is_known, has_arbiter),
            lease_remaining_us: group.lease.since(now).micros(),
            flows: engine.flows.into(),
            flows_copied: engine.copied.into(),
            hears_percent: hears_percent(service, engine),
            lag: shown::Lag { ops: engine.lag_ops, bytes: engine.lag_bytes },
            last_takeover: self.takeover(now, group),
            takeover_phases: self.phases(group.group),
            home_ready: group.home_ready && service.failback != Failback::All && !group.is_bound,
            is_bound: group.is_bound,
            handover: group.handover.as_ref().map(|h| orders::handover(now, h)),
            last_handover: group.handed.as_ref().map(|h| orders::handed(now, h)),
            last_failure: orders::last_failure(group),
            addresses: service.addresses.iter().map(ToString::to_string).collect(),
            ports: service.ports.iter().map(ToString::to_string).collect(),
            counters: group_counters(engine, group.differed),
            presence: service.presence(),
            declared: group.declared.iter().map(declared).collect(),
            claim: group.claim.map(|claim| self.claim(now, &claim)),
            conflict: engine.conflict.map(|conflict| fields::conflict(now, conflict)),
            decisions: group.reasons.iter().map(|d| decision(now, d)).collect(),
        }
    }

    fn claim(&self, now: Instant, claim: &Claim) -> shown::Claim {
        let config = self.config();
        let service = config.service(claim.group);
        shown::Claim {
            node: claim.by.node.0,
            service: service.map_or(String::new(), |service| service.name.clone()),
            epoch: claim.epoch.0,
            count: claim.count,
            age_us: now.since(claim.at).micros(),
        }
    }

    fn phases(&self, group: GroupId) -> BTreeMap<String, shown::Histogram> {
        let phases = self.phases.lock().unwrap_or_else(PoisonError::into_inner);
        phases.get(&group).map(|phases| phases.histograms.clone()).unwrap_or_default()
    }

    fn takeover(&self, now: Instant, group: &GroupStatus) -> Option<shown::Takeover> {
        let takeover = group.takeover?;
        let shared = self.shared.takeover(group.group);
        let ready = shared.promoted_at;
        let (announced, first) = (shared.announced_at.max(ready), shared.first_byte_at);
        Some(shown::Takeover {
            epoch: takeover.epoch.0,
            flows: takeover.flows.into(),
            age_us: now.since(ready).micros(),
            detect_us: takeover.asked.since(takeover.silent_since).micros(),
            grant_us: takeover.granted.since(takeover.asked).micros(),
            apply_us: ready.since(takeover.granted).micros(),
            announce_us: announced.since(ready).micros(),
            first_byte_us: first.since(ready).micros(),
        })
    }

    fn core(&self, number: usize, core: &CoreSnapshot) -> shown::CoreStatus {
        let drops = core.stack.drops.iter();
        let mut drops: BTreeMap<String, u64> =
            drops.map(|(reason, count)| (reason.key().into(), count)).collect();
        let link = &core.link;
        for (name, count) in [
            ("link_alien", link.alien),
            ("link_malformed", link.malformed),
            ("link_other_version", link.other_version),
            ("link_other_session", link.other_session),
            ("link_no_neighbor", link.no_neighbor),
            ("crossing_full", core.crossing.full),
            ("crossing_too_long", core.crossing.too_long),
            ("late_bursts", core.late_bursts),
            ("challenges_withheld", core.stack.challenges_withheld),
            ("kick_errors", core.kick_errors),
            ("link_no_session", link.sealing.no_session),
        ] {
            if count > 0 {
                drops.insert(name.into(), count);
            }
        }
        for (reason, count) in Unopened::ALL.into_iter().zip(link.sealing.unopened) {
            if count > 0 {
                drops.insert(format!("link_{}", reason.key()), count);
            }
        }
        let astray = core.forward.drops().into_iter().chain(core.hearing.drops());
        drops.extend(astray.filter(|(_, count)| *count > 0).map(|(name, n)| (name.into(), n)));
        shown::CoreStatus {
            core: self.config().cores.pin[number],
            progress: core.rounds,
            busy_us: core.busy_ns / 1_000,
            sampled_us: core.sampled_ns / 1_000,
            sampled_cpu_us: core.sampled_cpu_ns / 1_000,
            busy_rounds: core.busy_rounds,
            segments_in: core.stack.rx_frames,
            segments_continued: core.stack.rx_continued,
            segments_out: core.stack.tx_frames,
            crossed_in: core.crossing.received,
            crossed_out: core.crossing.sent,
            crossing_wakes: core.crossing.wakes,
            flows: core.groups.iter().map(|group| u64::from(group.flows)).sum(),
            drops,
            icmp: core.stack.icmp.iter().map(|(kind, count)| (kind.into(), count)).collect(),
            events: events(core),
        }
    }

    /// Every queue of both interfaces: the n-th of an interface is one of core n % cores.
    fn ports(&self, cores: &[CoreSnapshot]) -> Vec<shown::PortStatus> {
        let config = self.config();
        let interfaces = &config.interfaces;
        let mut ports = Vec::new();
        let sides = [(&interfaces.client, true), (&interfaces.cluster, false)];
        for ((interface, is_client), mode) in sides.into_iter().zip(self.steering.modes()) {
            for (n, queue) in interface.queues.iter().enumerate() {
                let core = &cores[n % cores.len()];
                let side = if is_client { &core.client_ports } else { &core.cluster_ports };
                let counters = &side[n / cores.len()];
                ports.push(shown::PortStatus::new(&interface.name, *queue, mode, counters));
            }
        }
        ports
    }

    /// What the XDP programs of both interfaces have counted.
    fn steering(&self) -> Vec<shown::SteeringStatus> {
        let config = self.config();
        let names = [&config.interfaces.client.name, &config.interfaces.cluster.name];
        let counted = self.steering.counted();
        let counted = counted.iter().zip(names).map(|(counters, name)| {
            let frames = verdicts(counters).into_iter().collect();
            shown::SteeringStatus { interface: name.clone(), frames }
        });
        counted.collect()
    }
}

/// What another node has told of itself.
fn told(node: &NodeStatus) -> Option<&NodeState> {
    node.told.as_ref().map(|(state, _)| state)
}
