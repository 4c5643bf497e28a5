//! What differs from bed to bed.

/// How the client reaches the first node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Cable {
    /// Through the switch, as every other machine.
    #[default]
    Switched,
    /// By a cable of their own. Neither end leaves anything to hardware: no checksums, no cutting
    /// and no joining of segments.
    Direct,
    /// Both ends lie in the switch, and nothing is between them until somebody relays frames from
    /// `client-eth0` to `node1-eth0` and back. Nothing is left to hardware here, either.
    Relayed,
}

/// How the services' addresses move between the nodes, as the configuration calls it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Arp {
    /// "gratuitous".
    #[default]
    Gratuitous,
    /// "virtual-mac".
    VirtualMac,
    /// "none": the client's routes lead to a node.
    None,
}

/// How frames for the owner reach its peer as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Snoop {
    /// They do not, and nobody listens.
    #[default]
    Off,
    /// Switches flood what is sent to the services' own MAC addresses, because nothing comes from there.
    Flooded,
    /// The services' own MAC addresses are those of groups.
    Group,
    /// The switch learns nothing of the nodes, as a hub or a mirror port.
    Hub,
    /// Only when the owner's port has gone down: then the switch forgets what it had learnt of it.
    PortDown,
}

/// What differs from bed to bed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// How the client reaches the first node.
    pub cable: Cable,
    /// Bytes of a packet at most on the links of the clients.
    pub mtu: u32,
    /// And on those of the cluster.
    pub link_mtu: u32,
    /// Nodes: two, or a third system beside them.
    pub nodes: u8,
    /// Queues of the cables of the first two nodes, one for each of their cores; others have one.
    pub queues: [u8; 2],
    /// How the services' addresses move between the nodes.
    pub arp: Arp,
    /// How frames for the owner reach its peer as well.
    pub snoop: Snoop,
    /// How services go back to a home that has returned, as the configuration calls it, after a second.
    pub failback: Option<&'static str>,
}

impl Default for Layout {
    fn default() -> Layout {
        Layout {
            cable: Cable::default(),
            mtu: 1500,
            link_mtu: 1500,
            nodes: 2,
            queues: [1, 1],
            arp: Arp::default(),
            snoop: Snoop::default(),
            failback: None,
        }
    }
}
