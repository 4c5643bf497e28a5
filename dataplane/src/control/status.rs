//! What a node says about itself: the answer to `status`, as JSON and as values.
//!
//! Filled by the control thread from what the cores and the agent publish; read by
//! `understudy status`, by the tests and by whoever speaks JSON. Fields are only ever added: a reader
//! of an older version skips what it does not know, a newer one defaults what is not there.
//!
//! Units: the suffix of each name; `_us` microseconds, `_ns` nanoseconds. Counters are cumulative
//! since the start of the process.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A node, now.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Status {
    /// This node's id.
    pub node: u8,
    /// This life of it, 16 hex digits.
    pub incarnation: String,
    /// The version of the program.
    pub version: String,
    /// Time since the process started.
    pub uptime_us: u64,
    /// The configuration that runs.
    pub configuration: Configuration,
    /// Records that the log has dropped because they came too fast.
    pub log_dropped: u64,
    /// The nodes and the arbiter.
    pub cluster: ClusterStatus,
    /// One for each group, in the order of the configuration.
    pub groups: Vec<GroupStatus>,
    /// One for each poll core.
    pub cores: Vec<CoreStatus>,
    /// One for each port.
    pub ports: Vec<PortStatus>,
    /// One for each XDP program: the client side's, then the cluster side's.
    pub steering: Vec<SteeringStatus>,
    /// Timers by name.
    pub timers: Vec<TimerStatus>,
    /// The largest gap between two runs of the heartbeat thread in the last ten minutes.
    pub largest_gap_us: u64,
    /// An operator wants this node to own nothing: it hands over and takes no new role.
    pub draining: bool,
    /// Who will say at once that this process has died.
    pub guardian: GuardianStatus,
    /// How this node reaches its clients.
    pub path: ClientPath,
}

/// The configuration that runs, and how it came to be.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Configuration {
    /// The file that a reload reads.
    pub file: String,
    /// Time since it was taken.
    pub age_us: u64,
    /// Reloads that have changed something.
    pub reloads: u64,
    /// Of these, undone because nobody confirmed them in time.
    pub undone: u64,
    /// The last reload is undone after so long unless it is confirmed; `None` if it need not be.
    pub confirm_left_us: Option<u64>,
}

/// How a node reaches its clients.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ClientPath {
    /// Whether its client-side interface has a carrier; `None` if that is not known.
    pub carrier: Option<bool>,
    /// Next hops that it asks for a sign of life.
    pub next_hops: u8,
    /// Of these, the ones that answered lately.
    pub answering: u8,
    /// Time since a frame for a service came in; `None` if none ever did.
    pub silent_ms: Option<u64>,
    /// Times that the path became worse in the last ten minutes.
    pub dips: u32,
}

/// The guardian process. Without one a crash is noticed by silence.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct GuardianStatus {
    /// Its process number; `None` if there is none now.
    pub process: Option<u32>,
    /// Times that one had to be started again.
    pub restarts: u64,
}

/// The cluster as this node sees it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ClusterStatus {
    /// The cluster's name.
    pub name: String,
    /// "witness", or "none".
    pub arbiter: String,
    /// Time since the arbiter last answered; `None` if it never did or there is none.
    pub arbiter_answer_age_us: Option<u64>,
    /// Without an arbiter and with "both" as survivor, two nodes may serve at once.
    pub split_brain_possible: bool,
    /// What protects datagrams between nodes and with the witness: "noise", or "none".
    pub seal: String,
    /// What this node's keys are called, the one that it speaks under first.
    pub keys: Vec<String>,
    /// What sealing has counted of what agents and the witness say.
    pub sealing: BTreeMap<String, u64>,
    /// What this node's agent has counted: datagrams by what became of them, leases granted, nodes refused as peer.
    pub agent: BTreeMap<String, u64>,
    /// How the witness is spoken with; empty without one.
    pub witness_sealed: SealedStatus,
    /// Every other node.
    pub nodes: Vec<NodeStatus>,
    /// How each group stands on each node that was heard: this node's first, then as the others told.
    pub standings: Vec<Standing>,
}

/// A group on a node.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Standing {
    /// The service.
    pub service: String,
    /// The generation of the service.
    pub generation: u8,
    /// The node.
    pub node: u8,
    /// What the node is for the group.
    pub role: Role,
    /// The epoch of the register as the node knows it.
    pub epoch: u64,
    /// The owner, as the node knows it.
    pub owner: Option<u8>,
    /// The peer, as the node knows it.
    pub peer: Option<u8>,
    /// Whether the peer is in sync, as the node knows it.
    pub in_sync: bool,
    /// Connections served, or copies held.
    pub flows: u64,
    /// Connections served that are copied.
    pub flows_copied: u64,
    /// How far the peer is behind.
    pub lag: Lag,
    /// Time since the node told this.
    pub age_us: u64,
    /// Why the owner does not take it as peer.
    pub unfit: Option<String>,
}

/// The session with another node or the witness.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SealedStatus {
    /// Under which key it was made; `None` if there is none.
    pub key: Option<String>,
    /// Time since its keys were made.
    pub age_us: u64,
    /// What came from there could not be opened: why. `None` if nothing of that kind came of late, or it is understood
    /// otherwise.
    pub refused: Option<String>,
    /// Time since then.
    pub refused_age_us: u64,
}

/// Another node.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeStatus {
    /// Its id.
    pub node: u8,
    /// Its life, 16 hex digits; empty if it was never heard.
    pub incarnation: String,
    /// Its cluster address.
    pub address: String,
    /// An operator wants it to own nothing.
    pub draining: bool,
    /// How it reaches its clients, as it says.
    pub path: ClientPath,
    /// The version of its program, as it says; empty if it has not.
    pub version: String,
    /// The largest gap of its own in ten minutes, as it says.
    pub largest_gap_us: Option<u64>,
    /// The lease that it asks for, as it says.
    pub lease_us: Option<u64>,
    /// How long its peer may be silent, as it says.
    pub peer_silent_us: Option<u64>,
    /// Time since the witness answered it, as it says.
    pub arbiter_answer_age_us: Option<u64>,
    /// Time since its last heartbeat; `None` if it was never heard.
    pub heartbeat_age_us: Option<u64>,
    /// How it is spoken with.
    pub sealed: SealedStatus,
}

/// A handover under way.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Handover {
    /// The node that shall own the service.
    pub to: u8,
    /// Why.
    pub cause: String,
    /// Where it stands.
    pub phase: String,
    /// Time since it was ordered.
    pub age_us: u64,
}

/// A handover that was made, phase by phase. The gap is `freeze_us` + `swap_us` + what the new owner shows as its last
/// takeover.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Handed {
    /// The epoch that it made.
    pub epoch: u64,
    /// The node that owns the service since.
    pub to: u8,
    /// Why.
    pub cause: String,
    /// Connections handed over.
    pub connections: u64,
    /// Connections lost, because nobody held a copy and the operator insisted.
    pub lost: u64,
    /// Time since.
    pub age_us: u64,
    /// From the order to the freeze.
    pub prepare_us: u64,
    /// From the freeze to the last record's commit.
    pub freeze_us: u64,
    /// From there until the register said so.
    pub swap_us: u64,
}

/// A group: a service in one generation.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct GroupStatus {
    /// The service's name.
    pub service: String,
    /// The generation of the service.
    pub generation: u8,
    /// No connection begins in it any more: it serves those that it has, the other generation the new ones.
    pub is_closed: bool,
    /// The node's file does not name the service any more: it takes no new connections, and goes when those that it has have
    /// ended.
    #[serde(default)]
    pub is_leaving: bool,
    /// What this node is for the group.
    pub role: Role,
    /// The epoch of the register as this node knows it.
    pub epoch: u64,
    /// The node that owns the group; `None` if nobody does.
    pub owner: Option<u8>,
    /// The node that holds the copies; `None` if nobody does.
    pub peer: Option<u8>,
    /// Whether the register says that the peer holds everything.
    pub in_sync: bool,
    /// In one word, or a few: what a failure now would cost.
    pub protection: Protection,
    /// How long this node may still transmit for the group; zero if it may not.
    pub lease_remaining_us: u64,
    /// Connections now.
    pub flows: u64,
    /// Connections now whose copy is complete.
    pub flows_copied: u64,
    /// As peer with `snoop = "wire"`: of the bytes that clients sent to the owner, how many this node has heard itself.
    #[serde(default)]
    pub hears_percent: Option<u8>,
    /// How far the peer is behind.
    pub lag: Lag,
    /// The last takeover by this node.
    pub last_takeover: Option<Takeover>,
    /// How long each phase of this node's takeovers took, by the names of [`Takeover`]'s phases.
    pub takeover_phases: BTreeMap<String, Histogram>,
    /// The home node holds every connection, and the configuration leaves it to the operator to hand them over.
    pub home_ready: bool,
    /// This node owns the group and can hand it over to nobody: there is no arbiter, and it is not the survivor.
    #[serde(default)]
    pub is_bound: bool,
    /// A handover under way, from this node.
    pub handover: Option<Handover>,
    /// The last handover that this node made.
    pub last_handover: Option<Handed>,
    /// Why the last handover came to nothing, if the last one did.
    pub last_failure: Option<String>,
    /// Addresses of the service.
    pub addresses: Vec<String>,
    /// Ports of the service.
    pub ports: Vec<String>,
    /// How neighbours find the addresses, in words.
    pub presence: String,
    /// What each node that was heard declares about the group, this one first.
    pub declared: Vec<Declared>,
    /// The last claim of another node that contradicts the register or this service's addresses.
    pub claim: Option<Claim>,
    /// The last claim of another host to one of the addresses.
    pub conflict: Option<Conflict>,
    /// Counters of the group by name.
    pub counters: BTreeMap<String, u64>,
    /// The last decisions about ownership, oldest first.
    pub decisions: Vec<String>,
}

/// What a node declares about a group: the ownership advertisement.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Declared {
    /// The node.
    pub node: u8,
    /// Its life, 16 hex digits.
    pub incarnation: String,
    /// Time since it was heard.
    pub age_us: u64,
    /// The service's name there.
    pub service: String,
    /// The owner, as that node knows; `None` if there never was one.
    pub owner: Option<u8>,
    /// Under which epoch.
    pub epoch: u64,
    /// The preferred owner.
    pub home: u8,
    /// The designated peers.
    pub order: Vec<u8>,
    /// What happens when home is back.
    pub failback: String,
    /// What the owner does whose peer is lost.
    pub on_peer_loss: String,
    /// The addresses.
    pub addresses: Vec<String>,
    /// The ports.
    pub ports: Vec<String>,
    /// The protocol.
    pub protocol: String,
    /// The application.
    pub application: String,
    /// The ARP policy.
    pub arp: String,
    /// Hardware addresses tied to the addresses.
    pub macs: Vec<String>,
    /// What the node takes, by the names of the configuration.
    pub limits: BTreeMap<String, u64>,
    /// Digest of the application's configuration and content.
    pub digest: String,
    /// The behaviour revision of its program.
    pub behaviour: u16,
    /// Why the owner does not take it as peer.
    pub unfit: Option<String>,
    /// Whether it declares the same order, failback and policy as the node that was asked.
    pub agrees_on_policy: bool,
}

/// Another node claims what the register gives to somebody else.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Claim {
    /// The node.
    pub node: u8,
    /// What it believes to own, by the name that the service has here.
    pub service: String,
    /// Under which epoch.
    pub epoch: u64,
    /// How often it said so.
    pub count: u64,
    /// Time since the last one.
    pub age_us: u64,
}

/// Another host claims an address of the service.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Conflict {
    /// The address.
    pub address: String,
    /// The other host's hardware address.
    pub mac: String,
    /// Claims to any address of the service since this node has owned it.
    pub count: u64,
    /// Time since the last one.
    pub age_us: u64,
}

/// What a node is for a group.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Serves it.
    Owner,
    /// Holds its copies.
    Peer,
    /// Neither.
    #[default]
    None,
}

/// What a failure of the owner now would cost. In JSON it is what it prints as.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(into = "String", from = "String")]
pub enum Protection {
    /// Nothing: the register says that the peer holds every connection.
    Protected,
    /// The connections not yet copied.
    Filling {
        /// Connections copied.
        copied: u64,
        /// Connections in all.
        total: u64,
    },
    /// Every connection: there is no peer.
    UnprotectedNoPeer,
    /// Every connection: there is a peer, and no arbiter that this node and that peer both hear, to let it take over.
    UnprotectedNoArbiter,
    /// Every connection: nobody serves the group.
    NotServed,
    /// This node does not know.
    #[default]
    Unknown,
}

impl From<Protection> for String {
    fn from(protection: Protection) -> String {
        protection.to_string()
    }
}

impl From<String> for Protection {
    /// What an older reader does not know is unknown.
    fn from(text: String) -> Protection {
        let filling = text.strip_prefix("filling ").and_then(|text| text.split_once(" of "));
        if let Some((Ok(copied), Ok(total))) = filling.map(|(a, b)| (a.parse(), b.parse())) {
            return Protection::Filling { copied, total };
        }
        let plain = [
            Protection::Protected,
            Protection::UnprotectedNoPeer,
            Protection::UnprotectedNoArbiter,
            Protection::NotServed,
        ];
        plain.into_iter().find(|plain| plain.to_string() == text).unwrap_or_default()
    }
}

/// How far the peer is behind the owner.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Lag {
    /// Records not yet committed.
    pub ops: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// A takeover, phase by phase.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Takeover {
    /// The epoch that it began.
    pub epoch: u64,
    /// Connections assumed.
    pub flows: u64,
    /// How long ago it ended.
    pub age_us: u64,
    /// From the owner's last sign of life until this node asked for the register.
    pub detect_us: u64,
    /// Until the register was granted.
    pub grant_us: u64,
    /// Until every flow was applied and rebuilt.
    pub apply_us: u64,
    /// Until the addresses were announced.
    pub announce_us: u64,
    /// From when every flow was ready until the first segment left; the announcement is part of it.
    pub first_byte_us: u64,
}

/// Upper bounds of a [`Histogram`]'s buckets.
pub const PHASE_BOUNDS_US: [u64; 13] = [
    1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    5_000_000, 10_000_000,
];

/// How often something took how long.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Histogram {
    /// How often by [`PHASE_BOUNDS_US`]: above the bound before and up to this one.
    pub buckets: Vec<u64>,
    /// How often in all.
    pub count: u64,
    /// How long in all.
    pub sum_us: u64,
}

/// A poll core.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct CoreStatus {
    /// The processor.
    pub core: u16,
    /// Rounds of the poll loop.
    pub progress: u64,
    /// What rounds that moved a frame have taken since the start, system calls included.
    pub busy_us: u64,
    /// Those rounds.
    pub busy_rounds: u64,
    /// What every seventeenth round has taken.
    pub sampled_us: u64,
    /// For how long of that the scheduler let the core run: others have taken its processor for the rest.
    pub sampled_cpu_us: u64,
    /// Segments received.
    pub segments_in: u64,
    /// Of these, those that continued the one before in a burst: little was to be done for them.
    #[serde(default)]
    pub segments_continued: u64,
    /// Segments sent.
    pub segments_out: u64,
    /// Frames that other cores had received for this one.
    pub crossed_in: u64,
    /// Frames that this core had received for others.
    pub crossed_out: u64,
    /// Times that this core woke another for them.
    pub crossing_wakes: u64,
    /// Connections held, owned and copied.
    pub flows: u64,
    /// Frames dropped, by reason.
    pub drops: BTreeMap<String, u64>,
    /// ICMP errors about segments in flight, by kind.
    #[serde(default)]
    pub icmp: BTreeMap<String, u64>,
    /// What became of connections, and what was asked of others, by kind.
    #[serde(default)]
    pub events: BTreeMap<String, u64>,
}

/// A port: one queue of one interface.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct PortStatus {
    /// The interface.
    pub interface: String,
    /// The queue.
    pub queue: u16,
    /// How frames come and go: "native, copy" for example.
    pub mode: String,
    /// Counters by name, as [`crate::port::PortCounters`] names them.
    pub counters: BTreeMap<String, u64>,
    /// The kernel's own counters of the rings, as [`crate::port::RingCounters`] names them.
    pub rings: BTreeMap<String, u64>,
}

/// What the XDP program of an interface has decided.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SteeringStatus {
    /// The interface.
    pub interface: String,
    /// Frames, by the rule that decided each, as [`crate::xdp_program::Verdict`] names them.
    pub frames: BTreeMap<String, u64>,
}

/// A timer.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct TimerStatus {
    /// As in the configuration.
    pub name: String,
    /// What the configuration says.
    pub configured_us: u64,
    /// What is used: stretched if this node has been seen to pause.
    pub effective_us: u64,
}

impl Histogram {
    /// It took that long once more.
    pub fn record(&mut self, us: u64) {
        self.buckets.resize(PHASE_BOUNDS_US.len(), 0);
        if let Some(bucket) = PHASE_BOUNDS_US.iter().position(|bound| us <= *bound) {
            self.buckets[bucket] += 1;
        }
        self.count += 1;
        self.sum_us = self.sum_us.saturating_add(us);
    }
}

impl Takeover {
    /// From the owner's last sign of life to the first byte of the new one.
    pub fn total_us(&self) -> u64 {
        let Takeover { detect_us, grant_us, apply_us, first_byte_us, .. } = *self;
        [grant_us, apply_us, first_byte_us].into_iter().fold(detect_us, u64::saturating_add)
    }
}

impl PortStatus {
    /// The status of a port.
    pub fn new(interface: &str, queue: u16, mode: &str, port: &crate::port::PortCounters) -> Self {
        let counters = [
            ("rx_frames", port.rx_frames),
            ("rx_bytes", port.rx_bytes),
            ("tx_frames", port.tx_frames),
            ("tx_bytes", port.tx_bytes),
            ("tx_superframes", port.tx_superframes),
            ("tx_discarded", port.tx_discarded),
            ("tx_no_room", port.tx_no_room),
            ("kicks", port.kicks),
            ("tx_withdrawn", port.tx_withdrawn),
            ("rx_kernel_dropped", port.rx_kernel_dropped),
            ("rx_too_long", port.rx_too_long),
        ];
        let rings = [
            ("rx_dropped", port.rings.rx_dropped),
            ("rx_invalid", port.rings.rx_invalid),
            ("rx_ring_full", port.rings.rx_ring_full),
            ("fill_ring_empty", port.rings.fill_ring_empty),
            ("tx_invalid", port.rings.tx_invalid),
            ("tx_ring_empty", port.rings.tx_ring_empty),
        ];
        let by_name = |(name, value): (&str, u64)| (name.to_string(), value);
        let (counters, rings) = (counters.map(by_name).into(), rings.map(by_name).into());
        PortStatus { interface: interface.into(), queue, mode: mode.into(), counters, rings }
    }
}

impl std::fmt::Display for ClientPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.carrier, self.next_hops, self.answering) {
            (None, ..) => f.write_str("not known")?,
            (Some(false), ..) => f.write_str("DARK: no carrier")?,
            (Some(true), 0, _) => f.write_str("up")?,
            (Some(true), hops, 0) => write!(f, "DARK: none of {hops} next hops answers")?,
            (Some(true), hops, n) => write!(f, "up, {n} of {hops} next hops answer")?,
        }
        match self.dips {
            0 => Ok(()),
            1 => f.write_str("; worse once in ten minutes"),
            dips => write!(f, "; worse {dips} times in ten minutes"),
        }
    }
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Role::Owner => "owner",
            Role::Peer => "peer",
            Role::None => "none",
        })
    }
}

impl std::fmt::Display for Protection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Protection::Protected => f.write_str("protected"),
            Protection::Filling { copied, total } => write!(f, "filling {copied} of {total}"),
            Protection::UnprotectedNoPeer => f.write_str("unprotected: no peer"),
            Protection::UnprotectedNoArbiter => f.write_str("unprotected: no arbiter"),
            Protection::NotServed => f.write_str("not served"),
            Protection::Unknown => f.write_str("unknown"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protection_is_one_string_in_json() {
        let filling = Protection::Filling { copied: 3, total: 10 };
        for protection in [Protection::Protected, Protection::UnprotectedNoPeer, filling] {
            let text = serde_json::to_string(&protection).expect("a string");
            assert_eq!(text, format!("\"{protection}\""));
            assert_eq!(serde_json::from_str::<Protection>(&text).expect("the same"), protection);
        }
        for text in ["", "filling", "filling 1 of", "filling x of y", "excellent"] {
            assert_eq!(Protection::from(text.to_string()), Protection::Unknown, "{text}");
        }
    }

    #[test]
    fn a_reader_tolerates_older_and_newer_nodes() {
        let status: Status = serde_json::from_str(r#"{"node":3,"mood":"good"}"#).expect("a status");
        assert_eq!(status, Status { node: 3, ..Status::default() });
    }
}
