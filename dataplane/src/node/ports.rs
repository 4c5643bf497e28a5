//! The ports of a node, and which frames reach them.

use super::{StartError, failed};
use crate::config::{self, Config, CopyMode, XdpMode};
use crate::ears::Ears;
use crate::log;
use crate::port::xdp::{XdpConfig, XdpPort, ZeroCopy};
use crate::solicited::Solicited;
use crate::sys;
use crate::xdp_program::{AttachMode, XdpProgram};
use stack::limits::SOURCE_PORT_FIRST;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::RangeInclusive;

/// Attaches the program and opens a port on each queue of an interface.
pub(super) fn open_ports(
    config: &Config,
    interface: &config::Interface,
) -> Result<(XdpProgram, Vec<XdpPort>), StartError> {
    let name = &interface.name;
    let mode = match interface.mode {
        XdpMode::Auto => AttachMode::Auto,
        XdpMode::Native => AttachMode::Native,
        XdpMode::Generic => AttachMode::Generic,
    };
    let mut program =
        XdpProgram::attach(name, mode).map_err(failed(format!("attach to {name}")))?;
    let zero_copy = match interface.copy {
        CopyMode::Copy => ZeroCopy::Never,
        CopyMode::ZeroCopy => ZeroCopy::Require,
        CopyMode::Auto if program.is_native() => ZeroCopy::Auto,
        CopyMode::Auto => ZeroCopy::Never,
    };
    let mut ports = Vec::new();
    for &queue in &interface.queues {
        let doing = format!("open queue {queue} of {name}");
        let port = XdpPort::open(&XdpConfig {
            interface: name.clone(),
            queue: queue.into(),
            frames: config.limits.frames,
            zero_copy,
            multi_buffer: program.is_multi_buffer(),
        })
        .map_err(failed(&doing))?;
        program.bind_queue(queue.into(), port.fd()).map_err(failed(&doing))?;
        ports.push(port);
    }
    Ok((program, ports))
}

/// Deals the queues of an interface out to the cores in turn.
pub(super) fn deal(ports: Vec<XdpPort>, cores: usize) -> Vec<Vec<XdpPort>> {
    let mut dealt: Vec<Vec<XdpPort>> = (0..cores).map(|_| Vec::new()).collect();
    ports.into_iter().enumerate().for_each(|(n, port)| dealt[n % cores].push(port));
    dealt
}

/// Bytes of a packet that every port of an interface takes. Says so if the interface would take more.
pub(super) fn effective_mtu(name: &str, ports: &[XdpPort]) -> Result<usize, StartError> {
    let whole = sys::interface_mtu(name).map_err(failed(format!("read the MTU of {name}")))?;
    let mtu = ports.iter().map(XdpPort::mtu).min().unwrap_or(whole);
    if mtu < whole {
        log::warning(format!(
            "kernel or driver take frames of {name} in one buffer only: packets are limited to {mtu} bytes \
             although its MTU is {whole}; longer ones are dropped and counted as rx_too_long"
        ));
    }
    Ok(mtu as usize)
}

/// Tells the programs which frames are the node's.
pub(super) fn steer(config: &Config, programs: &mut [XdpProgram]) -> Result<(), StartError> {
    let mut owned: BTreeMap<IpAddr, Vec<RangeInclusive<u16>>> = BTreeMap::new();
    for service in &config.services {
        for address in &service.addresses {
            let ranges = service.ports.iter().map(|range| range.first..=range.last);
            owned.entry(*address).or_default().extend(ranges);
        }
        for source in service.sources() {
            owned.entry(*source).or_default().push(SOURCE_PORT_FIRST..=u16::MAX);
        }
    }
    for (address, ranges) in owned {
        programs[0]
            .set_service(address, &ranges)
            .map_err(failed(format!("steer the frames of {address}")))?;
    }
    let endpoint = IpAddr::V4(config.cluster.address);
    programs[1]
        .set_cluster_endpoint(endpoint, config.cluster.data_port)
        .map_err(failed("steer the cluster's datagrams"))
}

/// Where anybody listens, the program of the client side drops what brings nothing here.
pub(super) fn ears(config: &Config, program: &mut XdpProgram) -> Result<Option<Ears>, StartError> {
    if !config.hears() {
        return Ok(None);
    }
    let doing = "let the XDP program drop what is said to others and brings nothing";
    let own = sys::interface_mac(&config.interfaces.client.name).map_err(failed(doing))?;
    let macs = config.services.iter().filter_map(|service| service.mac.map(|mac| mac.0));
    program.set_macs(own, &macs.collect::<Vec<_>>()).map_err(failed(doing))?;
    let of = |service: &config::Service| (service.id, held_addresses(service));
    let addresses = config.services.iter().map(of).collect();
    Ok(Some(Ears::new(program.take_services().map_err(failed(doing))?, addresses)))
}

/// Makes neighbour solicitations about the IPv6 addresses reach the client-side interface.
pub(super) fn join_solicited(config: &Config) -> Option<Solicited> {
    let name = &config.interfaces.client.name;
    let addresses: Vec<IpAddr> = config.services.iter().flat_map(held_addresses).collect();
    let joined = Solicited::join(name, &addresses);
    if let Err(error) = &joined {
        log::warning(format!(
            "cannot join the multicast groups of the IPv6 addresses on {name} ({error}): neighbours find \
             them only if NIC and switch pass all multicast; `sysctl net.ipv6.conf.{name}.disable_ipv6=0` helps"
        ));
    }
    joined.ok()
}

/// Makes the NIC of the client side take frames for the services' own hardware addresses, and all that reach it if a service
/// is listened to.
pub(super) fn accept_service_macs(config: &Config) -> Option<sys::ServiceMacs> {
    let name = &config.interfaces.client.name;
    let macs = config.services.iter().filter_map(|service| service.mac.map(|mac| mac.0));
    let accepted = sys::ServiceMacs::accept(name, macs, config.hears());
    if let Err(error) = &accepted {
        log::warning(format!(
            "{name} cannot be told to take frames for the services' own hardware addresses, or for others where \
             `snoop` listens ({error}): they arrive only if it is promiscuous; `ip link set {name} promisc on` helps"
        ));
    }
    accepted.ok()
}

/// Addresses that move with a service.
pub(super) fn held_addresses(service: &config::Service) -> Vec<IpAddr> {
    let own = &service.addresses;
    let sources = service.sources().iter().filter(|source| !own.contains(source));
    own.iter().chain(sources).copied().collect()
}
