//! The two interfaces: what they are, what the NIC does to frames, where the XDP program runs, who copies.

use std::net::{IpAddr, UdpSocket};

use dataplane::config::{CopyMode, Interface, XdpMode};
use dataplane::port::xdp::{XdpConfig, XdpPort, ZeroCopy};
use dataplane::sys;
use dataplane::xdp_program::{AttachMode, XdpProgram};

use super::{Level, Patient};

/// Packets of clients whose payload is mirrored travel with this much around them.
const MIRROR_OVERHEAD_BYTES: u32 = 100;

/// Looks at both, and at the addresses.
pub fn look(patient: &mut Patient<'_>) {
    let interfaces = &patient.config.interfaces;
    let mtus = [("client", &interfaces.client), ("cluster", &interfaces.cluster)]
        .map(|(side, interface)| interface_alone(patient, side, interface));
    if let [Some(client), Some(cluster)] = mtus
        && cluster < client
    {
        let says = format!(
            "the cluster link takes {cluster} bytes and clients send {client}: what is mirrored travels in more datagrams; \
             {} or more would do",
            client + MIRROR_OVERHEAD_BYTES
        );
        patient.find("cluster link", Level::Note, says);
    }
    addresses(patient);
}

/// One interface; its MTU if there is one.
fn interface_alone(patient: &mut Patient<'_>, side: &str, interface: &Interface) -> Option<u32> {
    let name = &interface.name;
    let topic = format!("{side} link");
    let mtu = match sys::interface_mtu(name) {
        Ok(mtu) => mtu,
        Err(error) => {
            let says = format!("{name} cannot be used: {error}; see [interfaces] {side}");
            patient.find(topic, Level::Problem, says);
            return None;
        }
    };
    let driver = sys::interface_driver(name).unwrap_or_else(|_| "unknown".into());
    let speed = match sys::interface_mbits(name) {
        Ok(Some(mbits)) => format!("{mbits} Mbit/s"),
        _ => "speed unknown".into(),
    };
    let what = format!("{name}: driver {driver}, {speed}, MTU {mtu}");
    match sys::interface_carrier(name) {
        Ok(false) => {
            let says = format!(
                "{what}; it is down or has no link: `ip link set {name} up`, and look at the cable"
            );
            patient.find(&topic, Level::Problem, says);
        }
        _ => patient.find(&topic, Level::Ok, what),
    }
    offloads(patient, &topic, name);
    modes(patient, &topic, interface);
    Some(mtu)
}

fn offloads(patient: &mut Patient<'_>, topic: &str, name: &str) {
    let Ok(offloads) = sys::interface_offloads(name) else {
        return patient.find(
            topic,
            Level::Note,
            format!("{name} does not say what its NIC does to frames"),
        );
    };
    if offloads.joins_segments {
        let says = format!("{name} joins segments (LRO): `ethtool -K {name} lro off`");
        patient.find(topic, Level::Problem, says);
    }
    if offloads.strips_tags {
        let says = format!("{name} takes VLAN tags off (rxvlan): tagged frames look like others");
        patient.find(topic, Level::Note, says);
    }
    let many = patient.config.cores.pin.len() > 1;
    if many && !offloads.hashes {
        let says = format!(
            "{name} does not deal frames out by their flows (rxhash): cores hand them to each other"
        );
        patient.find(topic, Level::Note, says);
    }
}

/// Where the program can run, and whether frames must be copied.
fn modes(patient: &mut Patient<'_>, topic: &str, interface: &Interface) {
    let name = &interface.name;
    if let Some(status) = &patient.running {
        let ports = status.ports.iter().filter(|port| port.interface == *name);
        let modes: Vec<String> =
            ports.map(|port| format!("queue {}: {}", port.queue, port.mode)).collect();
        let says = format!("in use by the running node: {}", modes.join("; "));
        return patient.find(topic, Level::Ok, says);
    }
    if patient.passive {
        return patient.find(topic, Level::Note, format!("not tried: XDP on {name} (--passive)"));
    }
    let native = attach(interface, AttachMode::Native);
    let in_driver = native.is_ok();
    let zero_copy =
        native.as_ref().map(|program| open(patient, interface, program, ZeroCopy::Require));
    let (level, says) = match (&native, zero_copy) {
        (Ok(_), Ok(Ok(()))) => {
            (Level::Ok, "the XDP program runs in the driver, which needs no copies".to_string())
        }
        (Ok(_), Ok(Err(why))) => (
            Level::Note,
            format!("the XDP program runs in the driver, frames are copied (zero copy: {why})"),
        ),
        (Err(why), _) | (_, Err(why)) => {
            (Level::Note, format!("the XDP program cannot run in the driver: {why}"))
        }
    };
    let (level, says) = match (interface.mode, interface.copy) {
        (XdpMode::Native, _) if !in_driver => {
            (Level::Problem, says + "; the configuration asks for mode = \"native\"")
        }
        (_, CopyMode::ZeroCopy) if level != Level::Ok => {
            (Level::Problem, says + "; the configuration asks for copy = \"zero-copy\"")
        }
        _ => (level, says),
    };
    patient.find(topic, level, says);
    drop(native);
    if interface.mode == XdpMode::Native {
        return;
    }
    let generic = attach(interface, AttachMode::Generic);
    match generic.and_then(|program| open(patient, interface, &program, ZeroCopy::Never)) {
        Ok(()) => {
            patient.find(topic, Level::Ok, format!("the XDP program runs in {name}'s generic path"))
        }
        Err(why) => {
            let level = if in_driver { Level::Note } else { Level::Problem };
            patient.find(
                topic,
                level,
                format!("the XDP program cannot run in {name}'s generic path: {why}"),
            );
        }
    }
}

fn attach(interface: &Interface, mode: AttachMode) -> Result<XdpProgram, String> {
    XdpProgram::attach(&interface.name, mode).map_err(|error| error.to_string())
}

/// Opens a port on every queue, and closes it.
fn open(
    patient: &Patient<'_>,
    interface: &Interface,
    program: &XdpProgram,
    zero_copy: ZeroCopy,
) -> Result<(), String> {
    for &queue in &interface.queues {
        let port = XdpPort::open(&XdpConfig {
            interface: interface.name.clone(),
            queue: queue.into(),
            frames: patient.config.limits.frames,
            zero_copy,
            multi_buffer: program.is_multi_buffer(),
            superframes: false,
        });
        port.map_err(|error| format!("queue {queue}: {error}"))?;
    }
    Ok(())
}

/// The kernel has the cluster's address, and none of the services'.
fn addresses(patient: &mut Patient<'_>) {
    let config = patient.config;
    let cluster = config.cluster.address;
    match is_held(cluster.into()) {
        true => patient.find(
            "addresses",
            Level::Ok,
            format!("{cluster} is this host's on the cluster link"),
        ),
        false => {
            let name = &config.interfaces.cluster.name;
            let says =
                format!("{cluster} is not this host's: `ip addr add {cluster}/24 dev {name}`");
            patient.find("addresses", Level::Problem, says);
        }
    }
    let all = config
        .services
        .iter()
        .flat_map(|service| service.addresses.iter().map(move |it| (service, it)));
    for (service, address) in all.filter(|(_, address)| is_held(**address)) {
        let says = format!(
            "the kernel has {address} of service {}: it would answer clients by RST; `ip addr del` it",
            service.name
        );
        patient.find("addresses", Level::Problem, says);
    }
}

/// Whether the kernel of this host takes packets to an address.
fn is_held(address: IpAddr) -> bool {
    UdpSocket::bind((address, 0)).is_ok()
}
