//! What befalls nodes, links and the witness, what operators order, and how everything begins and heals.

use super::*;

impl World {
    pub fn fault(&mut self, fault: Fault) {
        let witness = self.witness_index();
        match fault {
            Fault::Crash(index) if index == witness => self.witness = None,
            Fault::Start(index) if index == witness => self.start_witness(),
            Fault::Crash(index) => {
                let node = &mut self.nodes[index];
                node.agent = None;
                node.published = [Instant::ZERO; 2];
                node.life = 0;
                node.paused = false;
                node.held.clear();
            }
            Fault::Die(index, outlives_ms) => {
                if index < witness && self.nodes[index].agent.is_some() {
                    self.nodes[index].coreless = true;
                    self.nodes[index].published = [Instant::ZERO; 2];
                    self.surrender(index, MS);
                }
                self.at(outlives_ms, Event::Fault(Fault::Crash(index)));
            }
            Fault::Forge(index) => self.surrender(index, 0),
            Fault::Start(index) => self.start_node(index),
            Fault::Pause(index) => {
                if index < witness {
                    self.nodes[index].paused = true;
                }
            }
            Fault::Resume(index) => self.resume(index),
            Fault::Stick(index) | Fault::Unstick(index) => {
                if index < witness && !self.nodes[index].paused {
                    let ok = matches!(fault, Fault::Unstick(_));
                    self.nodes[index].stuck = !ok;
                    self.touch(index, |agent, now| agent.handle_progress(now, ok));
                }
            }
            Fault::Dark(index) | Fault::Bright(index) => {
                let carrier = Some(matches!(fault, Fault::Bright(_)));
                self.nodes[index].path = Health { carrier, ..Health::default() };
                let path = self.nodes[index].path;
                self.touch(index, |agent, now| agent.handle_path(now, path));
            }
            Fault::Cut(from, to) => {
                self.cut.insert((from, to));
            }
            Fault::Join(from, to) => {
                self.cut.remove(&(from, to));
            }
            Fault::Loss(percent) => self.loss = percent,
            Fault::HandTo(index) => self.hand_to(index),
            Fault::Drain(index) => self.order(index, Order::Drain),
            Fault::Undrain(index) => self.order(index, Order::Undrain),
        }
    }

    /// Whoever believes to own the group is told to hand it over.
    pub(super) fn hand_to(&mut self, to: usize) {
        for index in 0..self.nodes.len() {
            let to = NodeId(to as u8 + 1);
            let order = Order::Handover { group: GROUP, to, epoch: None, force: false };
            self.order(index, order);
        }
    }

    pub(super) fn order(&mut self, index: usize, order: Order) {
        if index < self.nodes.len() && !self.nodes[index].paused {
            self.touch(index, |agent, now| _ = agent.handle_order(now, order));
        }
    }

    /// What one node answers to an order.
    pub fn ask_for(&mut self, index: usize, order: Order) -> Option<OrderError> {
        let mut answer = None;
        self.touch(index, |agent, now| answer = agent.handle_order(now, order).err());
        answer
    }

    /// A node declares something else from now on.
    pub fn reload(&mut self, index: usize, declares: Advertise) {
        self.nodes[index].declares = declares;
        let groups = self.group_configs(index);
        self.touch(index, |agent, now| agent.handle_settings(now, groups.clone()));
    }

    /// The file of a node says something else of the service from now on.
    pub fn edit(&mut self, index: usize, file: File) {
        self.nodes[index].file = file;
        let groups = self.group_configs(index);
        self.touch(index, |agent, now| agent.handle_settings(now, groups.clone()));
    }

    pub(super) fn group_configs(&self, index: usize) -> Vec<GroupConfig> {
        let leaving = match self.nodes[index].file {
            File::Names => None,
            File::Left(attempt) => Some(attempt),
            File::Without => return Vec::new(),
        };
        let nodes = 2..=self.nodes.len() as u8;
        let config = |group: &GroupId| GroupConfig {
            group: *group,
            home: NodeId(1),
            peers: nodes.clone().map(NodeId).collect(),
            on_peer_loss: self.on_peer_loss,
            failback: self.failback.0,
            hold_down: self.failback.1,
            advertisement: self.nodes[index].declares.clone(),
            leaving,
        };
        GENERATIONS[..self.generations].iter().map(config).collect()
    }

    pub(super) fn start_witness(&mut self) {
        if self.witness.is_some() || self.arbiter != Arbiter::Witness {
            return;
        }
        self.lives += 1;
        let life = Incarnation(self.lives);
        let now = self.witness_clock.local(self.now);
        let disk = self.disk.as_deref();
        let seed = self.seed_flag && disk.is_none();
        self.witness = Some(Witness::new(now, life, CLUSTER, self.timers, disk, seed).0);
        let me = Member { node: WITNESS, incarnation: life };
        let count = self.nodes.len();
        self.witness_party = self.is_sealed.then(|| sealing::party(now, CLUSTER, me, count));
    }

    pub(super) fn start_node(&mut self, index: usize) {
        if self.nodes[index].agent.is_some() {
            return;
        }
        self.lives += 1;
        let life = self.lives;
        let nodes: Vec<NodeId> = (1..=self.nodes.len() as u8).map(NodeId).collect();
        let groups = self.group_configs(index);
        let config = Config {
            me: Member { node: NodeId(index as u8 + 1), incarnation: Incarnation(life) },
            cluster: CLUSTER,
            version: "test".into(),
            mac: [2, 0, 0, 0, 0, index as u8],
            cores: CORES,
            groups,
            nodes,
            timers: self.timers,
            arbiter: self.arbiter,
        };
        let now = self.nodes[index].clock.local(self.now);
        let node = &mut self.nodes[index];
        let (me, count) = (config.me, config.nodes.len());
        node.party = self.is_sealed.then(|| sealing::party(now, CLUSTER, me, count));
        node.agent = Some(Agent::new(now, config));
        node.life = life;
        node.stuck = false;
        node.coreless = false;
        (0..2).for_each(|of| node.becomes(of, false));
        node.newcomers = None;
        node.commands.clear();
        node.younger.clear();
        let path = node.path;
        self.touch(index, |agent, now| {
            agent.handle_progress(now, true);
            agent.handle_path(now, path);
        });
    }

    pub(super) fn resume(&mut self, index: usize) {
        if index >= self.nodes.len() || !self.nodes[index].paused {
            return;
        }
        self.nodes[index].paused = false;
        for (bytes, reply_to) in std::mem::take(&mut self.nodes[index].held) {
            self.hear(index, bytes, reply_to);
        }
        self.touch(index, |agent, now| agent.handle_timeout(now));
    }

    /// Cuts a node off from everybody, or joins it again.
    pub fn isolate(&mut self, index: usize, cut: bool) {
        for other in (0..=self.nodes.len()).filter(|other| *other != index) {
            for (from, to) in [(index, other), (other, index)] {
                self.fault(if cut { Fault::Cut(from, to) } else { Fault::Join(from, to) });
            }
        }
    }

    /// Cuts or joins one link, both ways.
    pub fn link(&mut self, one: usize, other: usize, cut: bool) {
        for (from, to) in [(one, other), (other, one)] {
            self.fault(if cut { Fault::Cut(from, to) } else { Fault::Join(from, to) });
        }
    }

    /// Ends every fault.
    pub fn heal(&mut self) {
        self.loss = 0;
        self.cut.clear();
        let pending = std::mem::take(&mut self.queue);
        self.queue = pending
            .into_iter()
            .filter(|Reverse((_, _, event))| !matches!(event, Event::Fault(_)))
            .collect();
        for index in 0..self.nodes.len() {
            if self.nodes[index].coreless {
                self.fault(Fault::Crash(index));
            }
            self.fault(Fault::Resume(index));
            self.fault(Fault::Unstick(index));
            self.fault(Fault::Undrain(index));
            self.fault(Fault::Bright(index));
            self.fault(Fault::Start(index));
        }
        self.fault(Fault::Start(self.nodes.len()));
    }
}
