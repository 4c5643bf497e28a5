//! One thing that goes wrong, drawn at random, and what puts it right.
//!
//! Within the *budget* a service loses nothing: one thing goes wrong at a time, and the next only when every group is
//! protected again. Beyond it connections may be lost, but never silently altered, and never two voices.

use crate::kit::random::Random;
use crate::kit::settings::PROXY;
use crate::sim::fault::{Fault, MS, Reload};
use crate::sim::network::{Plug, Side, Weather};
use crate::sim::world::Shape;
use stack::limits::NEIGHBOR_LOST_AGAIN;
use stack::upstream::decision::{Admin, Change};
use stack::upstream::{Balance, WEIGHT_MAX};

/// After so long the last connection of a service that nobody begins any more has ended: a minute in TIME-WAIT.
const LAST_ENDED: u64 = 64_000 * MS;

/// One thing that goes wrong, and what puts it right after so many nanoseconds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mishap {
    /// What goes wrong.
    pub fault: Fault,
    /// What puts it right, in order, each after so long.
    pub repairs: Vec<(u64, Fault)>,
}

/// How a world is laid out, as far as faults are concerned.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Nodes.
    pub nodes: usize,
    /// Groups.
    pub groups: usize,
    /// Cores of each node, at most.
    pub cores: usize,
    /// The weather on the clients' network and on the cluster's when nothing is wrong.
    pub usual: [Weather; 2],
    /// Servers behind the proxy.
    pub servers: usize,
    /// Position of the service that is passed on to them, if there is one.
    pub proxied: Option<usize>,
    /// Services.
    pub services: usize,
    /// They may leave: there is one generation of each.
    pub may_leave: bool,
}

impl Plan {
    /// Of a world of this shape.
    pub fn of(shape: &Shape) -> Plan {
        Plan {
            nodes: shape.cores.len(),
            groups: shape.settings.groups().len(),
            cores: shape.cores.iter().copied().max().unwrap_or(1).into(),
            usual: [Side::Client, Side::Cluster].map(|side| shape.weather(side)),
            servers: shape.settings.servers,
            proxied: shape.settings.position_of(PROXY),
            services: shape.settings.ports.len(),
            may_leave: shape.settings.generations == 1,
        }
    }

    /// Draws something that goes wrong.
    pub fn draw(&self, random: &mut Random) -> Mishap {
        let node = random.below(self.nodes as u64) as usize;
        let core = random.below(self.cores as u64) as usize;
        let soon = MS + random.below(400 * MS);
        let single = |fault| Mishap { fault, repairs: Vec::new() };
        match random.below(22) {
            21 => self.clog(node, soon, random),
            13 => {
                let per_frame = 1_000 << random.below(7);
                let repair = (soon, Fault::Slow { node, per_frame: 0 });
                Mishap { fault: Fault::Slow { node, per_frame }, repairs: vec![repair] }
            }
            14 | 15 if self.servers > 0 => self.stop_server(soon, random),
            19 if self.servers > 0 => self.unplug_server(soon, random),
            16 if self.servers > 0 => self.judge(soon, random),
            18 => self.reload(soon, random),
            20 if self.may_leave => self.depart(soon, random),
            17 if self.servers > 0 => self.assign(core, soon, random),
            0..=2 => {
                let fault = Fault::Crash { node, is_told: random.permille(700) };
                // Some are back before the takeover has woken everybody.
                let most = if random.permille(300) { 20 * MS } else { 3_000 * MS };
                let after = 5 * MS + random.below(most);
                let mut repairs = vec![(after, Fault::Start { node })];
                if random.permille(250) {
                    repairs.push((0, Fault::Ambush { time: 50 * MS + random.below(300 * MS) }));
                } else if self.servers > 0 && random.permille(250) {
                    // While its flows are copied again, a server fails, or is not to be reached.
                    let server = match random.permille(500) {
                        true => self.stop_server(soon, random),
                        false => self.unplug_server(soon, random),
                    };
                    repairs.push((random.below(60 * MS), server.fault));
                    repairs.extend(server.repairs);
                }
                Mishap { fault, repairs }
            }
            3 if random.permille(300) => self.sleep(node, random),
            3 => single(Fault::Pause { node, time: soon }),
            4 => single(Fault::Stick { node, core, time: soon }),
            5 => {
                let is_checked = random.permille(500);
                single(Fault::Interrupt { node, core, time: soon, is_checked })
            }
            6 => {
                let side = if random.permille(500) { Side::Client } else { Side::Cluster };
                let plug = Plug::Node(node);
                let repair = Fault::Unplug { side, plug, is_out: false };
                let fault = Fault::Unplug { side, plug, is_out: true };
                Mishap { fault, repairs: vec![(soon, repair)] }
            }
            7 => self.cut(node, soon, random),
            8 | 9 => self.storm(soon, random),
            10 => Mishap { fault: Fault::CrashWitness, repairs: vec![(soon, Fault::StartWitness)] },
            11 => {
                let group = random.below(self.groups as u64) as usize;
                single(Fault::Handover { group, to: node })
            }
            _ => Mishap {
                fault: Fault::Drain { node },
                repairs: vec![(soon, Fault::Undrain { node })],
            },
        }
    }

    /// A machine sleeps: nothing reaches it, and when it wakes its clock has counted that.
    fn sleep(&self, node: usize, random: &mut Random) -> Mishap {
        let time = 100 * MS + random.below(4_000 * MS);
        let plug = Plug::Node(node);
        let unplug = |is_out| move |side| (0, Fault::Unplug { side, plug, is_out });
        let sides = [Side::Client, Side::Cluster];
        let mut repairs = sides.map(unplug(true)).to_vec();
        repairs.extend(sides.map(unplug(false)));
        repairs[sides.len()].0 = time;
        Mishap { fault: Fault::Pause { node, time }, repairs }
    }

    /// The owner of a service dies, and is back before its successor is done with the takeover.
    pub fn orphan(&self, service: usize, random: &mut Random) -> Mishap {
        let fault = Fault::CrashOwner { service, is_told: random.permille(800) };
        let back = MS + random.below(15 * MS);
        let start = |node| (if node == 0 { back } else { 0 }, Fault::Start { node });
        Mishap { fault, repairs: (0..self.nodes).map(start).collect() }
    }

    fn stop_server(&self, soon: u64, random: &mut Random) -> Mishap {
        let server = random.below(self.servers as u64) as usize;
        let fault = Fault::StopServer { server, is_told: random.permille(500) };
        let after = soon + random.below(1_000 * MS);
        // It is over when the nodes may know: until they ask again, they pass it over.
        let plug = Plug::Server(server);
        let known = Fault::Unplug { side: Side::Client, plug, is_out: false };
        let asked = NEIGHBOR_LOST_AGAIN.0 + 250 * MS;
        Mishap { fault, repairs: vec![(after, Fault::StartServer { server }), (asked, known)] }
    }

    /// Nobody reaches a server for a while; it runs on. Often that begins in the moment that it has answered a SYN: what is
    /// said to it then is not acknowledged.
    fn unplug_server(&self, soon: u64, random: &mut Random) -> Mishap {
        let server = random.below(self.servers as u64) as usize;
        if random.permille(500) {
            return Mishap { fault: Fault::Trap { server, time: soon }, repairs: Vec::new() };
        }
        let plug = Plug::Server(server);
        let unplug = |is_out| Fault::Unplug { side: Side::Client, plug, is_out };
        Mishap { fault: unplug(true), repairs: vec![(soon, unplug(false))] }
    }

    /// The checks of all nodes, one after the other, find a server down, and up again.
    fn judge(&self, soon: u64, random: &mut Random) -> Mishap {
        let server = random.below(self.servers as u64) as usize;
        let judge = |node, is_up| Fault::Judge { node, server, is_up };
        self.each_node(soon, random, |node| judge(node, false), |node| judge(node, true))
    }

    /// All nodes, one after the other, take another configuration, and go back to the one that they had.
    fn reload(&self, soon: u64, random: &mut Random) -> Mishap {
        let server = random.below(self.servers as u64) as usize;
        let balances = [
            Balance::RoundRobin,
            Balance::LeastConnections,
            Balance::Source,
            Balance::RandomTwo,
            Balance::Maglev,
        ];
        let change = Reload {
            retired: (self.servers > 0 && random.permille(600)).then_some(server),
            balance: balances[random.below(5) as usize],
            hold_down: 100 * MS + random.below(2_000 * MS),
        };
        let reload = |change| move |node| Fault::Reload { node, change };
        self.each_node(soon, random, reload(Some(change)), reload(None))
    }

    /// A service leaves the files of all nodes, one after the other, and comes back; now and then when nothing is left of it, and
    /// now and then its owner dies meanwhile.
    fn depart(&self, soon: u64, random: &mut Random) -> Mishap {
        let service = random.below(self.services as u64) as usize;
        let away = match random.below(8) {
            0 => LAST_ENDED,
            1 | 2 => 10 * soon,
            _ => soon,
        };
        let name = |is_named| move |node| Fault::Name { node, service, is_named };
        let mut mishap = self.each_node(away, random, name(false), name(true));
        if random.permille(300) {
            let died = Fault::CrashOwner { service, is_told: random.permille(700) };
            let back = 5 * MS + random.below(300 * MS);
            let start = |node| (if node == 0 { back } else { 0 }, Fault::Start { node });
            let restart =
                [(random.below(100 * MS), died)].into_iter().chain((0..self.nodes).map(start));
            mishap.repairs.splice(self.nodes - 1..self.nodes - 1, restart);
        }
        mishap
    }

    /// Something happens to all nodes, one after the other, and is put right so.
    fn each_node(
        &self,
        soon: u64,
        random: &mut Random,
        fault: impl Fn(usize) -> Fault,
        repair: impl Fn(usize) -> Fault,
    ) -> Mishap {
        let mut wait = || random.below(50 * MS);
        let mut repairs: Vec<_> = (1..self.nodes).map(|node| (wait(), fault(node))).collect();
        repairs.extend((0..self.nodes).map(|node| (wait(), repair(node))));
        repairs[self.nodes - 1].0 += soon;
        Mishap { fault: fault(0), repairs }
    }

    /// An operator gives a server another share, or none, and takes that back: with one order; with one while a core is stuck, and
    /// hears of it when its node may have lost the service; or with two, which race each other over the cores, be one of these
    /// stuck or not.
    fn assign(&self, core: usize, soon: u64, random: &mut Random) -> Mishap {
        let server = random.below(self.servers as u64) as usize;
        let service = self.proxied.expect("a service has servers");
        let mut order = || Fault::Assign { server, change: draw_order(random) };
        let (first, second) = (order(), order());
        // Said again, because nobody takes it while the service changes hands.
        let ready = Fault::Assign { server, change: Change::Admin(Admin::Ready) };
        let mut repairs = [soon, 50 * MS, 200 * MS].map(|wait| (wait, ready)).to_vec();
        let stick = Fault::StickOwner { service, core, time: 400 * MS };
        let fault = match random.below(4) {
            0 => first,
            1 => {
                repairs.insert(0, (random.below(20 * MS), second));
                stick
            }
            2 => {
                repairs.insert(0, (random.below(20_000), second));
                first
            }
            _ => {
                let stuck = (MS + random.below(10 * MS), stick);
                repairs.splice(..0, [stuck, (random.below(20 * MS), second)]);
                first
            }
        };
        Mishap { fault, repairs }
    }

    /// What a node, or the witness, says and hears on a network comes late, all of it at once.
    fn clog(&self, node: usize, time: u64, random: &mut Random) -> Mishap {
        let (side, plug) = match random.below(5) {
            0 => (Side::Cluster, Plug::Witness),
            1 | 2 => (Side::Cluster, Plug::Node(node)),
            _ => (Side::Client, Plug::Node(node)),
        };
        Mishap { fault: Fault::Clog { side, plug, time }, repairs: Vec::new() }
    }

    /// A direction between two ends on the cluster's network.
    fn cut(&self, node: usize, time: u64, random: &mut Random) -> Mishap {
        let (side, from) = (Side::Cluster, Plug::Node(node));
        let other = random.below(self.nodes as u64 + 1) as usize;
        let to =
            if other == node || other == self.nodes { Plug::Witness } else { Plug::Node(other) };
        let (from, to) = if random.permille(500) { (from, to) } else { (to, from) };
        let cut = |is_cut| Fault::Cut { side, from, to, is_cut };
        Mishap { fault: cut(true), repairs: vec![(time, cut(false))] }
    }

    fn storm(&self, time: u64, random: &mut Random) -> Mishap {
        let side = if random.permille(500) { Side::Client } else { Side::Cluster };
        let usual = self.usual[side as usize];
        let weather = Weather {
            delay: usual.delay + random.below(2 * MS),
            jitter: random.below(2 * MS),
            loss: random.below(80),
            twice: random.below(40),
            straggling: usual.straggling.max(random.below(2) * 300 * MS),
            damage: random.below(20),
        };
        let calm = Fault::Weather { side, weather: usual };
        Mishap { fault: Fault::Weather { side, weather }, repairs: vec![(time, calm)] }
    }
}

/// What an operator wants of a server.
fn draw_order(random: &mut Random) -> Change {
    match random.below(3) {
        0 => Change::Admin(Admin::Drain),
        1 => Change::Admin(Admin::Maintenance),
        _ => Change::Weight(1 + random.below(WEIGHT_MAX.into()) as u16),
    }
}
