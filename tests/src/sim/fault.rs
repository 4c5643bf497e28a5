//! What can go wrong, or be put right.

use crate::sim::network::{Plug, Side, Weather};
use stack::upstream::Balance;
use stack::upstream::decision::Change;

/// Nanoseconds of a millisecond.
pub const MS: u64 = 1_000_000;

/// Something that goes wrong, or is put right.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// A process dies; its guardian says so, unless it died as well.
    Crash {
        /// Which node.
        node: usize,
        /// Whether the guardian lives.
        is_told: bool,
    },
    /// Whoever serves the newcomers of a service dies the same way.
    CrashOwner {
        /// Which service.
        service: usize,
        /// Whether the guardian lives.
        is_told: bool,
    },
    /// A node's program is started again.
    Start {
        /// Which node.
        node: usize,
    },
    /// A process, agent and cores alike, does nothing for so long.
    Pause {
        /// Which node.
        node: usize,
        /// Nanoseconds.
        time: u64,
    },
    /// One core does nothing for so long.
    Stick {
        /// Which node.
        node: usize,
        /// Which core.
        core: usize,
        /// Nanoseconds.
        time: u64,
    },
    /// One core of whoever serves the newcomers of a service does nothing for so long.
    StickOwner {
        /// Which service.
        service: usize,
        /// Which core.
        core: usize,
        /// Nanoseconds.
        time: u64,
    },
    /// A core is interrupted for so long in the middle of the next round in which it has something to say.
    Interrupt {
        /// Which node.
        node: usize,
        /// Which core.
        core: usize,
        /// Nanoseconds.
        time: u64,
        /// After it has looked at the lease, just before the kick; else before that.
        is_checked: bool,
    },
    /// A plug is pulled out, or put back.
    Unplug {
        /// Of which network.
        side: Side,
        /// Whose.
        plug: Plug,
        /// Out or back.
        is_out: bool,
    },
    /// From one to the other nothing passes, or everything again.
    Cut {
        /// On which network.
        side: Side,
        /// From whom.
        from: Plug,
        /// To whom.
        to: Plug,
        /// Cut or joined.
        is_cut: bool,
    },
    /// What comes from a plug, or goes there, is held up for so long, and then arrives all at once.
    Clog {
        /// On which network.
        side: Side,
        /// Whose.
        plug: Plug,
        /// Nanoseconds.
        time: u64,
    },
    /// A network gets bad, or better.
    Weather {
        /// Which.
        side: Side,
        /// How.
        weather: Weather,
    },
    /// The witness dies; a change that it was about to write may be lost.
    CrashWitness,
    /// The witness is started again, with its disk.
    StartWitness,
    /// An operator wants a group owned by a node.
    Handover {
        /// Which group.
        group: usize,
        /// By whom.
        to: usize,
    },
    /// An operator wants a node to own nothing.
    Drain {
        /// Which node.
        node: usize,
    },
    /// It may own again.
    Undrain {
        /// Which node.
        node: usize,
    },
    /// A node's processors are busy with something else: every frame takes so much longer.
    Slow {
        /// Which node.
        node: usize,
        /// Nanoseconds for each frame.
        per_frame: u64,
    },
    /// As soon as a group's peer is in sync, it and the owner lose each other for so long: the peer is not heard at once,
    /// the owner a little later, when the peer may have learnt that it is the heir.
    Ambush {
        /// Nanoseconds.
        time: u64,
    },
    /// As soon as a server has answered somebody who connects, nobody reaches it for so long.
    Trap {
        /// Which server.
        server: usize,
        /// Nanoseconds.
        time: u64,
    },
    /// A server fails: its connections are lost.
    StopServer {
        /// Which server.
        server: usize,
        /// Its program ends and its kernel says so; else its machine has no power.
        is_told: bool,
    },
    /// A node's checks have found a server up or down, which may be true or not.
    Judge {
        /// Which node.
        node: usize,
        /// Which server.
        server: usize,
        /// Up or down.
        is_up: bool,
    },
    /// An operator gives an order about a server, whichever node it is for.
    Assign {
        /// Which server.
        server: usize,
        /// What is to change.
        change: Change,
    },
    /// A node takes another configuration while it runs, or again the one that it had at first.
    Reload {
        /// Which node.
        node: usize,
        /// What is other.
        change: Option<Reload>,
    },
    /// A node's file names a service, or does not any more.
    Name {
        /// Which node.
        node: usize,
        /// The index of the service.
        service: usize,
        /// Whether it does.
        is_named: bool,
    },
    /// A server starts again, and knows nothing.
    StartServer {
        /// Which server.
        server: usize,
    },
}

/// What a node may take while it runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reload {
    /// A server that is none any more.
    pub retired: Option<usize>,
    /// How servers are chosen.
    pub balance: Balance,
    /// For how long home waits before it takes its groups back, in nanoseconds.
    pub hold_down: u64,
}
