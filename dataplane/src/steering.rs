//! What of the frames around a node is the node's: addresses and ports in the XDP programs, multicast groups, hardware addresses.
//!
//! ```text
//! boot, reload: a service comes -> its addresses into the program -> groups joined, hardware address taken
//! nothing of a service is left  -> out of the program: whoever asks for its addresses hears nothing from here
//! ```
//!
//! What only helps (multicast groups of IPv6, a NIC's filter) is a warning if it fails, what steers is an error.

use crate::config::{Config, Service};
use crate::log;
use crate::solicited::Solicited;
use crate::sys::{self, ServiceMacs};
use crate::xdp_program::{SharedServices, Verdict, VerdictCounters, XdpError, XdpProgram};
use stack::limits::SOURCE_PORT_FIRST;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The XDP programs of the client side and the cluster side, and what services have in them; they are detached with this.
pub struct Steering {
    programs: Mutex<Vec<XdpProgram>>,
    /// How frames come and go on each side.
    modes: Vec<String>,
    /// The interface towards the clients.
    interface: String,
    services: SharedServices,
    /// Whether frames to others are listened to.
    hears: bool,
    /// By the ids of the services.
    held: Mutex<BTreeMap<u32, Held>>,
    _promiscuous: Option<ServiceMacs>,
}

/// What one service has.
struct Held {
    addresses: Vec<IpAddr>,
    mac: Option<[u8; 6]>,
    _solicited: Option<Solicited>,
    _accepted: Option<ServiceMacs>,
}

impl Steering {
    /// For the programs, and whether the driver works on the ports' own memory. Every service of the configuration has come.
    pub fn new(
        config: &Config,
        programs: Vec<XdpProgram>,
        zero_copy: [bool; 2],
    ) -> Result<Steering, XdpError> {
        let mode = |(program, zero_copy): (&XdpProgram, bool)| {
            let place = if program.is_native() { "native" } else { "generic" };
            format!("{place}, {}", if zero_copy { "zero copy" } else { "copy" })
        };
        let modes = programs.iter().zip(zero_copy).map(mode).collect();
        let (interface, hears) = (config.interfaces.client.name.clone(), config.hears());
        let steering = Steering {
            modes,
            services: programs[0].services(),
            programs: Mutex::new(programs),
            hears,
            held: Mutex::default(),
            _promiscuous: hears.then(|| accept(&interface, None, true)).flatten(),
            interface,
        };
        config.services.iter().try_for_each(|service| steering.arrive(service))?;
        Ok(steering)
    }

    /// The services of the client side's program.
    pub fn services(&self) -> SharedServices {
        self.services.clone()
    }

    /// How frames come and go on each side.
    pub fn modes(&self) -> &[String] {
        &self.modes
    }

    /// What the programs of both sides have counted.
    pub fn counted(&self) -> Vec<VerdictCounters> {
        self.programs().iter().map(|program| program.counters().unwrap_or_default()).collect()
    }

    /// Frames to the service are the node's from now on.
    pub fn arrive(&self, service: &Service) -> Result<(), XdpError> {
        let mac = service.mac.map(|mac| mac.0);
        if self.hears {
            let own = sys::interface_mac(&self.interface).unwrap_or_default();
            self.programs()[0].set_macs(own, mac.as_slice())?;
        }
        for (address, ranges) in owned(service) {
            let set = self.services.lock().set_service(address, &ranges);
            if let Err(error) = set {
                self.remove(&service.held_addresses());
                return Err(error);
            }
        }
        let addresses = service.held_addresses();
        let held = Held {
            _solicited: join(&self.interface, &addresses),
            _accepted: mac.and_then(|mac| accept(&self.interface, Some(mac), false)),
            mac,
            addresses,
        };
        self.held().insert(service.id, held);
        Ok(())
    }

    /// Frames to the service with this id are nobody's here.
    pub fn depart(&self, id: u32) {
        let mut others = self.held();
        let Some(held) = others.remove(&id) else { return };
        self.remove(&held.addresses);
        if let Some(mac) = held.mac.filter(|mac| others.values().all(|one| one.mac != Some(*mac)))
            && let Err(error) = self.programs()[0].remove_mac(mac)
        {
            log::warning(format!(
                "frames to another host are still taken for a service's: {error}"
            ));
        }
    }

    fn remove(&self, addresses: &[IpAddr]) {
        for address in addresses {
            if let Err(error) = self.services.lock().remove_service(*address) {
                log::warning(format!("frames to {address} are still taken: {error}"));
            }
        }
    }

    fn programs(&self) -> MutexGuard<'_, Vec<XdpProgram>> {
        self.programs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn held(&self) -> MutexGuard<'_, BTreeMap<u32, Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The names of what a program counts, in the order of its counters.
pub fn verdicts(counters: &VerdictCounters) -> Vec<(String, u64)> {
    Verdict::ALL.map(|verdict| (verdict.name().into(), counters.get(verdict))).into()
}

/// The ports of each address that is a service's; answers of its servers come to any of those that it connects from.
fn owned(service: &Service) -> BTreeMap<IpAddr, Vec<RangeInclusive<u16>>> {
    let mut owned: BTreeMap<IpAddr, Vec<RangeInclusive<u16>>> = BTreeMap::new();
    for address in &service.addresses {
        let ranges = service.ports.iter().map(|range| range.first..=range.last);
        owned.entry(*address).or_default().extend(ranges);
    }
    for source in service.sources() {
        owned.entry(*source).or_default().push(SOURCE_PORT_FIRST..=u16::MAX);
    }
    owned
}

/// Makes neighbour solicitations about the IPv6 addresses reach the interface.
fn join(name: &str, addresses: &[IpAddr]) -> Option<Solicited> {
    let joined = Solicited::join(name, addresses);
    if let Err(error) = &joined {
        log::warning(format!(
            "cannot join the multicast groups of the IPv6 addresses on {name} ({error}): neighbours find \
             them only if NIC and switch pass all multicast; `sysctl net.ipv6.conf.{name}.disable_ipv6=0` helps"
        ));
    }
    joined.ok()
}

/// Makes the NIC of the client side take frames for a service's own hardware address, or all that reach it.
fn accept(name: &str, mac: Option<[u8; 6]>, hears_all: bool) -> Option<ServiceMacs> {
    let accepted = ServiceMacs::accept(name, mac.into_iter(), hears_all);
    if let Err(error) = &accepted {
        log::warning(format!(
            "{name} cannot be told to take frames for the services' own hardware addresses, or for others where \
             `snoop` listens ({error}): they arrive only if it is promiscuous; `ip link set {name} promisc on` helps"
        ));
    }
    accepted.ok()
}
