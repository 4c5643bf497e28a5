//! What the XDP program lets through of what clients say to another node.
//!
//! A node that listens receives whatever its link carries. Most of that brings it nothing: all of it for services that it
//! neither serves nor follows, and bare acknowledgements for those that it follows. The program drops these, so that they
//! cost no poll core anything; which they are follows from the orders that the agent gives to the cores.
//!
//! ```text
//! Serve, Promote, Assume -> all      before the cores hear of it: the first acknowledgement may be needed
//! Follow, Yield          -> news     after
//! Stop                   -> nothing  after
//! ```
//!
//! Nothing depends on what is dropped here: it was said to somebody else. Bounds: a system call for each address and
//! order.

use crate::xdp_program::{Hears, SharedServices, XdpError};
use cluster::agent::GroupConfig;
use cluster::id::GroupId;
use cluster::role::Command;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// The program's view of the groups.
pub struct Ears {
    map: SharedServices,
    /// The addresses of each service, by its id.
    addresses: BTreeMap<u32, Vec<IpAddr>>,
    groups: BTreeMap<GroupId, Hears>,
}

impl Ears {
    /// Until something is ordered for a service everything is heard.
    pub fn new(map: SharedServices) -> Ears {
        Ears { map, addresses: BTreeMap::new(), groups: BTreeMap::new() }
    }

    /// This group is known from now on: it is a service's with these addresses.
    pub fn note(&mut self, config: &GroupConfig) {
        let addresses = config.advertisement.addresses.clone();
        self.addresses.insert(config.group.service(), addresses);
    }

    /// An order is about to reach the cores.
    pub fn prick(&mut self, command: &Command) -> Result<(), XdpError> {
        self.turn(command, |hears| hears == Hears::All)
    }

    /// An order has reached the cores.
    pub fn lower(&mut self, command: &Command) -> Result<(), XdpError> {
        self.turn(command, |hears| hears != Hears::All)
    }

    fn turn(
        &mut self,
        command: &Command,
        is_its_turn: impl Fn(Hears) -> bool,
    ) -> Result<(), XdpError> {
        let Some((group, hears)) = wanted(command).filter(|(_, hears)| is_its_turn(*hears)) else {
            return Ok(());
        };
        if self.groups.insert(group, hears) == Some(hears) {
            return Ok(());
        }
        let of_service = self.groups.iter().filter(|(other, _)| other.service() == group.service());
        // The generations of a service share its addresses: who needs most decides.
        let most = of_service.map(|(_, hears)| *hears).min().unwrap_or_default();
        let mut addresses = self.addresses.get(&group.service()).into_iter().flatten();
        let mut map = self.map.lock();
        addresses.try_for_each(|address| map.set_hears(*address, most))
    }
}

/// What is needed of a group after this order.
fn wanted(command: &Command) -> Option<(GroupId, Hears)> {
    match *command {
        Command::Serve { group, .. }
        | Command::Promote { group, .. }
        | Command::Assume { group, .. } => Some((group, Hears::All)),
        Command::Follow { group, .. }
        | Command::FollowInSync { group, .. }
        | Command::Yield { group, .. } => Some((group, Hears::News)),
        Command::Stop { group } => Some((group, Hears::Nothing)),
        Command::Mirror { .. }
        | Command::Protected { .. }
        | Command::Alone { .. }
        | Command::Freeze { .. }
        | Command::Close { .. }
        | Command::Newcomers { .. }
        | Command::Thaw { .. }
        | Command::Route { .. } => None,
    }
}
