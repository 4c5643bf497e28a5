//! The poll loop of one core: the path of every segment, in one direction and on one screen.
//!
//! ```text
//! commands -> clock -> cluster frames in -> client frames in, or over to their core -> timers
//!          -> records and acknowledgements out (what the gate waits for leaves first)
//!          -> client frames staged -> clock and lease read again -> kick, or discard
//! ```
//!
//! The lease is read after the last descriptor is written and before the kernel is told of any (DESIGN 6):
//! so at most one burst that was already checked leaves after another node began to speak, and the gate
//! let it through. Nothing here allocates, locks or logs once it runs; a report, which is seldom made, wakes the agent by a system call.
//!
//! Generic over the port and the clock: the simulator runs this very loop.
//!
//! Path: all steps. Bounds: at most [`BURST`] frames a burst, one burst of each port a round.

mod sample;

use self::sample::Sampled;
use crate::clock;
use crate::crossing::{Crossing, Parcel, Side};
use crate::port::{BURST, Port, PortCounters, RxFrame};
use crate::shared::{CoreSnapshot, Shared, ToCore, Upstreams};
use crate::waking::WakingSender;
use cluster::engine::Engine;
use cluster::role::{Command, Report};
use crossbeam_channel::Receiver;
use stack::time::{Duration, Instant};
use stack::wire::Address;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Reads the time. Implemented by the machine's clock and by the simulated one.
pub trait Clock {
    /// Now; never goes back.
    fn now(&self) -> Instant;
}

/// A burst is looked ahead at whole: what lies beyond would be taken for no segment and stay on the wrong core.
const _: () = assert!(BURST <= stack::stack::AHEAD_FLOWS_MAX);

/// Connections with something in flight that are a crowd.
const CROWD: usize = 16;

/// How often a core says how its groups stand, for the other nodes' status.
const COUNT_EVERY: Duration = Duration::from_millis(100);

/// One poll core.
pub struct Core<P: Port, C: Clock> {
    engine: Engine,
    clock: C,
    /// Queues of the client-side interface; frames leave by the first.
    client: Vec<P>,
    /// Queues of the cluster-side interface; frames leave by the first.
    cluster: Vec<P>,
    crossing: Crossing,
    /// Which of the node's cores this is.
    core: usize,
    shared: Arc<Shared>,
    commands: Receiver<ToCore>,
    reports: WakingSender<Report>,
    burst: Vec<RxFrame>,
    rounds: u64,
    /// When the round under way, or the last one, began.
    began: Instant,
    /// Whether the last round moved a frame.
    has_moved: bool,
    sampled: Sampled,
    /// What rounds that moved a frame have taken.
    busy_ns: u64,
    /// Those rounds.
    busy_rounds: u64,
    /// When to publish how the groups stand.
    count_at: Instant,
    /// Bursts thrown away because a lease had run out.
    late_bursts: u64,
    /// Kicks that the kernel refused.
    kick_errors: u64,
}

/// Takes frames that have crossed over, at most a burst.
fn take_crossed(engine: &mut Engine, now: Instant, parcels: &[Box<Parcel>]) {
    let mut frames: [&[u8]; BURST] = [&[]; BURST];
    for (bytes, parcel) in frames.iter_mut().zip(parcels) {
        *bytes = parcel.frame();
    }
    let mut rest = &frames[..parcels.len()];
    while !rest.is_empty() {
        rest = &rest[engine.handle_frames(now, &rest[..1])..];
        // Whoever received it has handed it to everybody.
        engine.take_learnt();
    }
}

/// What one round did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Round {
    /// Frames received.
    pub received: usize,
    /// Frames sent.
    pub sent: usize,
}

impl<P: Port, C: Clock> Core<P, C> {
    /// A core over its ports. Both lists of ports hold at least one.
    pub fn new(
        engine: Engine,
        clock: C,
        (client, cluster): (Vec<P>, Vec<P>),
        crossing: Crossing,
        shared: Arc<Shared>,
        (commands, reports): (Receiver<ToCore>, WakingSender<Report>),
    ) -> Core<P, C> {
        assert!(!client.is_empty() && !cluster.is_empty(), "a core has ports");
        Core {
            core: engine.stack().place().core.into(),
            engine,
            crossing,
            clock,
            client,
            cluster,
            shared,
            commands,
            reports,
            burst: Vec::with_capacity(BURST),
            rounds: 0,
            began: Instant::ZERO,
            has_moved: false,
            sampled: Sampled::default(),
            busy_ns: 0,
            busy_rounds: 0,
            count_at: Instant::ZERO,
            late_bursts: 0,
            kick_errors: 0,
        }
    }

    /// One round.
    pub fn poll(&mut self) -> Round {
        let now = self.begin_round();
        self.handle_orders(now);
        let mut round = Round::default();
        round.received += self.receive_datagrams(now);
        round.received += self.receive_frames(now);
        round.received += self.receive_parcels(now);
        self.engine.handle_timeouts(now);
        self.tell_cores();
        round.sent += self.send_datagrams(now);
        round.sent += self.send_frames(now);
        while let Some(report) = self.engine.poll_report() {
            // The channel holds more than an engine can have to say; the agent empties it.
            let _ = self.reports.try_send(report);
        }
        if now >= self.count_at {
            self.count_at = now + COUNT_EVERY;
            self.engine.places().for_each(|index| {
                self.shared.publish_counts(self.core, index, &self.engine.status_of(index));
            });
        }
        self.rounds += 1;
        self.shared.note_progress(self.core, self.rounds);
        self.has_moved = round.received + round.sent > 0;
        round
    }

    /// Now. After a round that moved a frame the next one follows at once, unless it was told to [`Core::pause`]: the clock, read
    /// once a round, tells what it took.
    fn begin_round(&mut self) -> Instant {
        let now = self.clock.now();
        self.note_busy(now);
        self.sampled.begin(self.rounds, now, clock::thread_cpu_ns);
        self.began = now;
        now
    }

    /// The last round is over at `now`, if that has not been said.
    fn note_busy(&mut self, now: Instant) {
        if self.has_moved {
            self.busy_ns += now.since(self.began).0;
            self.busy_rounds += 1;
        }
    }

    /// Orders of the agent, and the leases as they stand.
    fn handle_orders(&mut self, now: Instant) {
        while let Ok(order) = self.commands.try_recv() {
            match order {
                ToCore::Command(command) => {
                    self.engine.handle_command(now, command);
                    if let Command::Promote { group, .. } | Command::Assume { group, .. } = command
                    {
                        self.shared.note_promoted(self.core, group, self.clock.now());
                    }
                }
                ToCore::Neighbor(node, endpoint) => self.engine.set_neighbor(node, endpoint),
                ToCore::Session(session) => self.engine.install_session(now, session),
                ToCore::Snapshot(answer) => {
                    let _ = answer.try_send(Box::new(self.snapshot()));
                }
                ToCore::List(from, filter, mut found, answer) => {
                    let next = self.engine.stack().list(now, from, &filter, &mut found);
                    let _ = answer.try_send((found, next));
                }
                ToCore::EndFlow(id, answer) => {
                    let _ = answer.try_send(self.engine.end_flow(now, id));
                }
                ToCore::Reconfigure(mut settings, answer) => {
                    let mut is_done = true;
                    for (index, setting) in &mut settings {
                        is_done &= self.engine.reconfigure(now, *index, setting);
                    }
                    let _ = answer.try_send((settings, is_done));
                }
                ToCore::Verdicts(service, verdicts) => {
                    self.engine.set_verdicts(now, service, &verdicts);
                }
                ToCore::Decide(service, server, change, answer) => {
                    let _ = answer.try_send(self.engine.decide(now, service, server, change));
                }
                ToCore::Endings(mut endings, answer) => {
                    self.engine.swap_endings(&mut endings);
                    let _ = answer.try_send(endings);
                }
                ToCore::Servers(answer) => drop(answer.try_send(self.servers())),
            }
        }
        let leases = self.shared.leases.iter().take(self.engine.places_end());
        for (index, lease) in leases.enumerate() {
            let until = Instant(lease.until.load(Ordering::Acquire));
            self.engine.set_voice(index as u8, now < until);
        }
    }

    /// A burst of each queue of the cluster side.
    fn receive_datagrams(&mut self, now: Instant) -> usize {
        let Core { engine, cluster, crossing, burst, .. } = self;
        let mut received = 0;
        for port in cluster {
            port.receive(burst);
            for frame in &*burst {
                let bytes = port.frame_mut(frame);
                match engine.core_of_datagram(bytes) {
                    Some(core) => crossing.send(core, Side::Cluster, bytes),
                    None => engine.handle_datagram(now, bytes),
                }
            }
            received += burst.len();
            port.recycle(burst);
            crossing.publish();
        }
        received
    }

    /// A burst of each queue of the client side.
    fn receive_frames(&mut self, now: Instant) -> usize {
        let Core { engine, client, crossing, burst, shared, core, .. } = self;
        let mut received = 0;
        for port in client {
            port.receive(burst);
            let mut frames: [&[u8]; BURST] = [&[]; BURST];
            for (bytes, frame) in frames.iter_mut().zip(&*burst) {
                *bytes = port.frame(frame);
            }
            let mut rest = &frames[..burst.len()];
            engine.look_ahead(rest.iter().copied());
            while let [first, ..] = rest {
                let taken = match engine.pass_over() {
                    Some(elsewhere) => {
                        crossing.send(elsewhere.core, Side::Client(elsewhere.hash), first);
                        1
                    }
                    // One at a time: with whole runs two demos of six did not end, and why is not understood.
                    None => engine.handle_frames(now, &rest[..1]),
                };
                if engine.take_learnt() {
                    // It tells where a neighbour is. Its flow's hash is no one's.
                    crossing.send_to_all(Side::Client(0), first);
                }
                rest = &rest[taken..];
            }
            received += burst.len();
            port.recycle(burst);
            crossing.publish();
        }
        if received > 0 {
            shared.note_heard(*core, now);
        }
        received
    }

    /// A burst of each other core.
    fn receive_parcels(&mut self, now: Instant) -> usize {
        let Core { engine, crossing, .. } = self;
        crossing.receive(|parcels| {
            engine.look_ahead_hashed(parcels.iter().filter_map(|parcel| match parcel.side() {
                Side::Client(hash) => Some(hash),
                Side::Cluster | Side::Stick { .. } | Side::Decided { .. } => None,
            }));
            let is_frame = |side| matches!(side, Side::Client(_));
            for parcels in parcels.chunk_by_mut(|a, b| is_frame(a.side()) && is_frame(b.side())) {
                match parcels[0].side() {
                    Side::Client(_) => take_crossed(engine, now, parcels),
                    Side::Cluster => engine.handle_datagram(now, parcels[0].frame_mut()),
                    Side::Stick { service, server } => {
                        let client = Address(parcels[0].frame().try_into().expect("an address"));
                        engine.hear_stick(now, service, client, server);
                    }
                    Side::Decided { group, owned_from } => {
                        engine.hear_decided(now, group, owned_from, parcels[0].frame());
                    }
                }
            }
        })
    }

    /// Tells the other cores where clients were led, and what is decided about servers: that waits until there is room.
    fn tell_cores(&mut self) {
        let Core { engine, crossing, .. } = self;
        let mut has_told = false;
        while let Some((service, client, server)) = engine.poll_stick() {
            crossing.send_to_all(Side::Stick { service, server }, &client.0);
            has_told = true;
        }
        while engine.has_untold()
            && crossing.has_room()
            && let Some((group, owned_from, word)) = engine.poll_untold()
        {
            crossing.send_to_all(Side::Decided { group, owned_from }, word);
            has_told = true;
        }
        if has_told {
            crossing.publish();
        }
    }

    fn send_datagrams(&mut self, now: Instant) -> usize {
        let Core { engine, cluster, .. } = self;
        let port = &mut cluster[0];
        while port.staged() < BURST {
            let staged = port.stage(|buffer| engine.poll_datagram(now, buffer).unwrap_or(0));
            if !matches!(staged, Some(bytes) if bytes > 0) {
                break;
            }
        }
        let sent = port.staged();
        if sent > 0 && port.kick().is_err() {
            // Records are kept until they are acknowledged, so nothing is lost.
            self.kick_errors += 1;
            port.discard();
        }
        sent
    }

    fn send_frames(&mut self, now: Instant) -> usize {
        let Core { engine, client, shared, .. } = self;
        let port = &mut client[0];
        let mut groups = 0u64;
        let mut has_segment = 0u64;
        while port.staged() < BURST {
            if let Some(group) =
                port.stage_superframe(|buffer, most| engine.poll_superframe(now, buffer, most))
            {
                groups |= 1 << group;
                has_segment |= 1 << group;
                continue;
            }
            let mut group = 0;
            let mut is_segment = false;
            let staged = port.stage(|buffer| match engine.poll_frame(now, buffer) {
                Some((bytes, index)) => {
                    group = index;
                    is_segment = buffer[12..14] == [8, 0] || buffer[12..14] == [0x86, 0xdd];
                    bytes
                }
                None => 0,
            });
            if !matches!(staged, Some(bytes) if bytes > 0) {
                break;
            }
            groups |= 1 << group;
            has_segment |= (is_segment as u64) << group;
        }
        let sent = port.staged();
        if sent == 0 {
            return 0;
        }
        let at = self.clock.now();
        if !shared.may_speak(groups, at) {
            self.late_bursts += 1;
            port.discard();
            return 0;
        }
        if port.kick().is_err() {
            // As if the network had lost the burst. What the kernel has not taken is withdrawn now: it must
            // not leave later, under a lease that nobody has looked at.
            self.kick_errors += 1;
            port.discard();
            return 0;
        }
        shared.note_spoken(self.core, groups, has_segment, at);
        sent
    }

    /// Whether so many connections have something in flight that frames may wait a moment for each other: nobody's next word
    /// waits for one answer alone, and a burst costs little more than a frame.
    pub fn is_crowded(&self) -> bool {
        self.engine.stack().flows_in_flight() >= CROWD
    }

    /// Whether a takeover is under way whose busiest clients have yet to be woken: each moment counts until they are.
    pub fn is_waking(&self) -> bool {
        self.engine.stack().is_waking()
    }

    /// The last round is over, and the next one does not follow at once. When it began.
    pub fn pause(&mut self) -> Instant {
        let now = self.clock.now();
        self.note_busy(now);
        self.has_moved = false;
        self.sampled.end(now, clock::thread_cpu_ns);
        self.began
    }

    /// When there is something to do although no frame arrives.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.engine.poll_timeout()
    }

    /// What to wait for when there is nothing to do: the ports and the crossing.
    pub fn descriptors(&self, fd: impl Fn(&P) -> RawFd) -> Vec<RawFd> {
        let ports = self.client.iter().chain(&self.cluster).map(fd);
        ports.chain([self.crossing.fd()]).collect()
    }

    /// The core's share of the node, for whoever looks on.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The crossing, for a core that sleeps.
    pub fn crossing(&self) -> &Crossing {
        &self.crossing
    }

    /// What is known of the servers of each service.
    fn servers(&self) -> Vec<Upstreams> {
        let stack = self.engine.stack();
        let upstreams = |index: usize| {
            let group = self.engine.status_of(index);
            let roster = stack.roster(index as u8);
            Upstreams {
                service: group.id.service(),
                role: group.role,
                servers: roster.servers().to_vec(),
                queued: roster.queue.len(),
                tally: roster.tally,
            }
        };
        self.engine.places().map(upstreams).collect()
    }

    /// The core as the status shows it.
    fn snapshot(&self) -> CoreSnapshot {
        let ports = |ports: &[P]| ports.iter().map(Port::counters).collect::<Vec<PortCounters>>();
        CoreSnapshot {
            groups: self.engine.status().collect(),
            stack: self.engine.stack().counters().clone(),
            places_refused: self.engine.stack().env.senders.refused,
            given_up_for_memory: self.engine.stack().env.memory.given_up,
            link: self.engine.link_counters(),
            forward: self.engine.forward_counters(),
            hearing: self.engine.hearing_counters(),
            client_ports: ports(&self.client),
            cluster_ports: ports(&self.cluster),
            crossing: self.crossing.counters(),
            rounds: self.rounds,
            busy_ns: self.busy_ns,
            busy_rounds: self.busy_rounds,
            sampled_ns: self.sampled.ns,
            sampled_cpu_ns: self.sampled.cpu_ns,
            late_bursts: self.late_bursts,
            kick_errors: self.kick_errors,
        }
    }
}
