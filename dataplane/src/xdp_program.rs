//! The XDP program that steers the frames of owned addresses to the ports: loading, attaching,
//! maps.
//!
//! The program itself is `bpf/steer.bpf.c`, which says what is steered and what is left to the
//! kernel. Right after attaching its maps are empty and every frame goes to the kernel; addresses,
//! the cluster endpoint and the sockets of the queues are added and taken away while frames flow.
//! The program is held by a link that belongs to this process: when [`XdpProgram`] is dropped or
//! the process dies, it is detached and the kernel has its interface back.
//!
//! An owned address must not be configured on the kernel's interface: the kernel would answer
//! for it as soon as the program is gone.
//!
//! Bounds: [`ADDRESSES_MAX`] addresses, [`RANGES_MAX`] port ranges each, [`QUEUES_MAX`] queues.

use crate::sys;
use aya::maps::{HashMap, MapData, MapError, PerCpuArray, XskMap};
use aya::programs::{ProgramError, Xdp, XdpMode};
use aya::{Ebpf, EbpfError};
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::os::fd::RawFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Addresses that can be owned at once. As in the program.
pub const ADDRESSES_MAX: usize = 1024;
/// Port ranges of one address. As in the program.
pub const RANGES_MAX: usize = 8;
/// Receive queues that can have a socket. As in the program.
pub const QUEUES_MAX: u32 = 64;

/// The object that this build carries: compiled from the source if there was a compiler.
pub static BUILT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/steer.bpf.o"));
/// The object that is kept beside the source for builds without a compiler.
pub static PREBUILT: &[u8] = aya::include_bytes_aligned!("../bpf/prebuilt/steer.bpf.o");

/// An address as the program's maps know it: IPv4 as `::ffff:a.b.c.d`.
type AddressKey = [u8; 16];
/// `struct service`: number of ranges, what is heard ([`Hears`]), then first and last port of each range.
type ServiceValue = [u16; 2 + 2 * RANGES_MAX];
/// `struct endpoint`: the address, the port in host order, a reserved field.
type EndpointKey = [u8; 20];

/// How to attach to an interface.
///
/// `Auto` goes into the driver, but not into veth's: that copies each frame once more to have headroom, and
/// then the socket copies it again. One connection up, Gbit/s, medians of 5 interleaved rounds, generic and
/// native: 8.1 and 7.1 at MTU 1500, 13.0 and 11.9 at 9000; downloads are equal at 1500 and scatter at 9000.
/// In either mode the end that transmits into the node must not leave checksums to hardware that is not there (`ethtool -K INTERFACE tx
/// off`); without that, checksums are wrong in the driver, and in the generic path super-frames arrive whole
/// and are dropped as too long (`rx_too_long`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum AttachMode {
    /// Wherever frames are copied least: in the driver, and if that fails in the kernel's generic path.
    #[default]
    Auto,
    /// In the driver only.
    Native,
    /// In the kernel's generic path only.
    Generic,
}

/// The rule under which a frame was counted. The order is that of `enum verdict` in the program.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// To the socket: TCP to an owned address and port.
    Tcp,
    /// To the socket: echo request to an owned address.
    Echo,
    /// To the socket: ICMP error that quotes TCP from an owned address and port.
    Error,
    /// To the socket: ARP that asks for or claims an owned address.
    Arp,
    /// To the socket: neighbour discovery about or to an owned address.
    Neighbor,
    /// To the socket: UDP to the cluster endpoint.
    Cluster,
    /// To the kernel although steered: no socket is bound to the queue.
    PassNoSocket,
    /// To the kernel: no rule wants it.
    PassOther,
    /// To the kernel: TCP to an owned address outside its port ranges.
    PassOtherPort,
    /// To the kernel: a fragment for an owned address.
    PassFragment,
    /// To the kernel: an IPv6 extension header in a packet for an owned address.
    PassExtension,
    /// To the kernel: too short, or not of the version it claims to be.
    PassMalformed,
    /// Dropped: TCP to another host, for a service that is neither served nor followed here.
    DropOverheard,
    /// Dropped: TCP to another host, for a service that is followed here, that no copy could miss.
    DropIdle,
}

impl Verdict {
    /// Every verdict, in the program's order.
    pub const ALL: [Verdict; 14] = [
        Verdict::Tcp,
        Verdict::Echo,
        Verdict::Error,
        Verdict::Arp,
        Verdict::Neighbor,
        Verdict::Cluster,
        Verdict::PassNoSocket,
        Verdict::PassOther,
        Verdict::PassOtherPort,
        Verdict::PassFragment,
        Verdict::PassExtension,
        Verdict::PassMalformed,
        Verdict::DropOverheard,
        Verdict::DropIdle,
    ];

    /// The counter's name.
    pub const fn name(self) -> &'static str {
        match self {
            Verdict::Tcp => "tcp",
            Verdict::Echo => "echo",
            Verdict::Error => "icmp_error",
            Verdict::Arp => "arp",
            Verdict::Neighbor => "neighbor",
            Verdict::Cluster => "cluster",
            Verdict::PassNoSocket => "pass_no_socket",
            Verdict::PassOther => "pass_other",
            Verdict::PassOtherPort => "pass_other_port",
            Verdict::PassFragment => "pass_fragment",
            Verdict::PassExtension => "pass_extension",
            Verdict::PassMalformed => "pass_malformed",
            Verdict::DropOverheard => "drop_overheard",
            Verdict::DropIdle => "drop_idle",
        }
    }
}

/// What is taken of the TCP that is sent to another host. The numbers are those of `enum hears` in the program.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum Hears {
    /// Everything: the service is served here, or nobody listens.
    #[default]
    All,
    /// What a copy could miss: payload, SYN, FIN, RST. The service is followed here.
    News,
    /// Nothing, unless it is for the service's own hardware address.
    Nothing,
}

/// Frames seen by the program since it was loaded, by verdict, summed over the processors.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct VerdictCounters([u64; Verdict::ALL.len()]);

impl VerdictCounters {
    /// Frames with this verdict.
    pub const fn get(&self, verdict: Verdict) -> u64 {
        self.0[verdict as usize]
    }

    /// Frames in total.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }
}

/// Why the program could not be loaded, attached or told something.
#[derive(Debug)]
pub enum XdpError {
    /// The object is not accepted by this kernel, or the process may not load it.
    Load(EbpfError),
    /// The object lacks the program or a map: it is not ours.
    Object(&'static str),
    /// The kernel refuses the program itself.
    Verify(ProgramError),
    /// The program cannot be attached to this interface.
    Attach {
        /// The interface.
        interface: String,
        /// The kernel's or the loader's answer.
        source: ProgramError,
    },
    /// A map could not be read or changed.
    Map {
        /// What was to be done.
        what: &'static str,
        /// The kernel's answer.
        source: MapError,
    },
    /// More than [`RANGES_MAX`] port ranges for one address.
    Ranges {
        /// The address.
        address: IpAddr,
        /// How many were given.
        ranges: usize,
    },
    /// The name of an interface has a NUL in it.
    Name(String),
}

impl fmt::Display for XdpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            XdpError::Load(source) => {
                write!(
                    f,
                    "cannot load the XDP program (it needs CAP_BPF and CAP_NET_ADMIN): {source}"
                )
            }
            XdpError::Object(name) => write!(f, "the XDP object has no `{name}`"),
            XdpError::Verify(source) => write!(f, "the kernel refuses the XDP program: {source}"),
            XdpError::Attach { interface, source } => {
                write!(f, "cannot attach the XDP program to {interface}: {source}")?;
                match std::error::Error::source(source) {
                    Some(cause) => write!(f, ": {cause}"),
                    None => Ok(()),
                }
            }
            XdpError::Map { what, source } => write!(f, "cannot {what}: {source}"),
            XdpError::Ranges { address, ranges } => {
                write!(f, "{address} has {ranges} port ranges, at most {RANGES_MAX} are possible")
            }
            XdpError::Name(name) => write!(f, "{name:?} is no name of an interface"),
        }
    }
}

impl std::error::Error for XdpError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            XdpError::Load(source) => Some(source),
            XdpError::Verify(source) | XdpError::Attach { source, .. } => Some(source),
            XdpError::Map { source, .. } => Some(source),
            XdpError::Object(_) | XdpError::Ranges { .. } | XdpError::Name(_) => None,
        }
    }
}

/// The loaded program with its maps; attached to at most one interface.
pub struct XdpProgram {
    bpf: Ebpf,
    native: bool,
    variant: Variant,
    cluster: Option<EndpointKey>,
    services: SharedServices,
}

/// The same program twice: declared to take frames of several buffers, or not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Variant {
    MultiBuffer,
    SingleBuffer,
}

impl Variant {
    /// The name in the object.
    const fn name(self) -> &'static str {
        match self {
            Variant::MultiBuffer => "steer",
            Variant::SingleBuffer => "steer_single",
        }
    }
}

impl XdpProgram {
    /// Loads the built object and attaches it to `interface` of the current network namespace.
    pub fn attach(interface: &str, mode: AttachMode) -> Result<XdpProgram, XdpError> {
        let mut program = XdpProgram::load(BUILT)?;
        program.attach_to(interface, mode)?;
        Ok(program)
    }

    /// Loads an object ([`BUILT`] or [`PREBUILT`]) without attaching it.
    pub fn load(object: &[u8]) -> Result<XdpProgram, XdpError> {
        let mut bpf = Ebpf::load(object).map_err(XdpError::Load)?;
        let variant = Variant::MultiBuffer;
        let map = bpf.take_map("SERVICES").ok_or(XdpError::Object("SERVICES"))?;
        let map = map.try_into().map_err(map_error("take the services of the XDP program"))?;
        let services = ServiceMap { map, values: BTreeMap::new() };
        let services = SharedServices(Arc::new(Mutex::new(services)));
        let mut program = XdpProgram { bpf, native: false, variant, cluster: None, services };
        if program.select(variant).is_err() {
            program.select(Variant::SingleBuffer)?;
        }
        Ok(program)
    }

    /// Makes this variant the one that is attached; it is loaded if it was not.
    fn select(&mut self, variant: Variant) -> Result<(), XdpError> {
        self.variant = variant;
        let program = self.program()?;
        if program.fd().is_ok() { Ok(()) } else { program.load().map_err(XdpError::Verify) }
    }

    /// Tries the modes in their order, in each the variant for several buffers first.
    fn attach_to(&mut self, interface: &str, mode: AttachMode) -> Result<(), XdpError> {
        if interface.contains('\0') {
            return Err(XdpError::Name(interface.into()));
        }
        let modes: &[XdpMode] = match mode {
            AttachMode::Auto if is_copied_in_the_driver(interface) => {
                &[XdpMode::Skb, XdpMode::Driver]
            }
            AttachMode::Auto => &[XdpMode::Driver, XdpMode::Skb],
            AttachMode::Native => &[XdpMode::Driver],
            AttachMode::Generic => &[XdpMode::Skb],
        };
        let mut outcome = Ok(());
        for mode in modes {
            for variant in [Variant::MultiBuffer, Variant::SingleBuffer] {
                outcome = self.select(variant).and_then(|()| {
                    let attached = self.program()?.attach(interface, *mode).map(|_| ());
                    attached
                        .map_err(|source| XdpError::Attach { interface: interface.into(), source })
                });
                if outcome.is_ok() {
                    self.native = *mode == XdpMode::Driver;
                    return Ok(());
                }
            }
        }
        outcome
    }

    /// Whether the program takes frames of several buffers.
    pub fn is_multi_buffer(&self) -> bool {
        self.variant == Variant::MultiBuffer
    }

    /// Whether the program runs in the driver.
    pub fn is_native(&self) -> bool {
        self.native
    }

    /// The program itself, for test runs.
    pub fn program(&mut self) -> Result<&mut Xdp, XdpError> {
        let name = self.variant.name();
        let program = self.bpf.program_mut(name).ok_or(XdpError::Object(name))?;
        program.try_into().map_err(XdpError::Verify)
    }

    /// The services that the program knows.
    pub fn services(&self) -> SharedServices {
        self.services.clone()
    }

    /// Steers UDP to this address and port to the sockets, instead of an endpoint set before.
    pub fn set_cluster_endpoint(&mut self, address: IpAddr, port: u16) -> Result<(), XdpError> {
        let what = "set the cluster endpoint of the XDP program";
        let mut key: EndpointKey = [0; 20];
        key[..16].copy_from_slice(&address_key(address));
        key[16..18].copy_from_slice(&port.to_ne_bytes());
        let old = self.cluster.filter(|old| *old != key);
        let map = self.bpf.map_mut("CLUSTER").ok_or(XdpError::Object("CLUSTER"))?;
        let mut map: HashMap<&mut MapData, EndpointKey, u32> =
            map.try_into().map_err(map_error(what))?;
        map.insert(key, 1, 0).map_err(map_error(what))?;
        if let Some(old) = old {
            absent_is_fine(map.remove(&old)).map_err(map_error(what))?;
        }
        self.cluster = Some(key);
        Ok(())
    }

    /// Steers to this AF_XDP socket what arrives on `queue`. It leaves the map when it is closed.
    pub fn bind_queue(&mut self, queue: u32, socket: RawFd) -> Result<(), XdpError> {
        let what = "bind a socket to a queue of the XDP program";
        let map = self.bpf.map_mut("SOCKETS").ok_or(XdpError::Object("SOCKETS"))?;
        let mut map: XskMap<&mut MapData> = map.try_into().map_err(map_error(what))?;
        map.set(queue, socket, 0).map_err(map_error(what))
    }

    /// Frames so far, by verdict.
    pub fn counters(&self) -> Result<VerdictCounters, XdpError> {
        let what = "read the counters of the XDP program";
        let map = self.bpf.map("COUNTERS").ok_or(XdpError::Object("COUNTERS"))?;
        let map: PerCpuArray<&MapData, u64> = map.try_into().map_err(map_error(what))?;
        let mut counters = VerdictCounters::default();
        for (index, counter) in (0..).zip(&mut counters.0) {
            *counter = map.get(&index, 0).map_err(map_error(what))?.iter().sum();
        }
        Ok(counters)
    }

    /// Tells these hardware addresses from those of other hosts, for [`Hears`]: the interface's own, and services'.
    pub fn set_macs(&mut self, own: [u8; 6], services: &[[u8; 6]]) -> Result<(), XdpError> {
        let what = "tell the XDP program the hardware addresses";
        let map = self.bpf.map_mut("MACS").ok_or(XdpError::Object("MACS"))?;
        let mut map: HashMap<&mut MapData, u64, u32> = map.try_into().map_err(map_error(what))?;
        let services = services.iter().map(|mac| (mac, 0));
        for (mac, is_own) in services.chain([(&own, 1)]) {
            map.insert(mac_key(*mac), is_own, 0).map_err(map_error(what))?;
        }
        Ok(())
    }

    /// Takes this hardware address of a service for that of another host. Nothing happens if it is.
    pub fn remove_mac(&mut self, mac: [u8; 6]) -> Result<(), XdpError> {
        let what = "remove a hardware address from the XDP program";
        let map = self.bpf.map_mut("MACS").ok_or(XdpError::Object("MACS"))?;
        let mut map: HashMap<&mut MapData, u64, u32> = map.try_into().map_err(map_error(what))?;
        absent_is_fine(map.remove(&mac_key(mac))).map_err(map_error(what))
    }
}

/// The services that the program knows: they come and go, and what is heard of them follows the roles, on threads of their own.
#[derive(Clone)]
pub struct SharedServices(Arc<Mutex<ServiceMap>>);

impl SharedServices {
    /// For a change or two.
    pub fn lock(&self) -> MutexGuard<'_, ServiceMap> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The services that the program knows.
pub struct ServiceMap {
    map: HashMap<MapData, AddressKey, ServiceValue>,
    values: BTreeMap<AddressKey, ServiceValue>,
}

impl ServiceMap {
    /// Owns `address`: its ARP, neighbour discovery, echo, and TCP to these ports. Replaces all
    /// ranges that the address had, at once.
    pub fn set_service(
        &mut self,
        address: IpAddr,
        ranges: &[RangeInclusive<u16>],
    ) -> Result<(), XdpError> {
        if ranges.len() > RANGES_MAX {
            return Err(XdpError::Ranges { address, ranges: ranges.len() });
        }
        let mut value: ServiceValue = [0; 2 + 2 * RANGES_MAX];
        value[0] = ranges.len() as u16;
        for (slot, range) in value[2..].chunks_exact_mut(2).zip(ranges) {
            slot.copy_from_slice(&[*range.start(), *range.end()]);
        }
        let what = "add an address to the XDP program";
        let key = address_key(address);
        self.map.insert(key, value, 0).map_err(map_error(what))?;
        self.values.insert(key, value);
        Ok(())
    }

    /// Gives `address` back to the kernel. Nothing happens if it was not owned.
    pub fn remove_service(&mut self, address: IpAddr) -> Result<(), XdpError> {
        let what = "remove an address from the XDP program";
        self.values.remove(&address_key(address));
        absent_is_fine(self.map.remove(&address_key(address))).map_err(map_error(what))
    }

    /// Takes this much of the TCP that is sent to `address` and to another host. Nothing happens if it is not owned.
    pub fn set_hears(&mut self, address: IpAddr, hears: Hears) -> Result<(), XdpError> {
        let key = address_key(address);
        let Some(value) = self.values.get_mut(&key) else { return Ok(()) };
        value[1] = hears as u16;
        self.map.insert(key, *value, 0).map_err(map_error("tell the XDP program what to hear"))
    }
}

/// Whether this driver copies each frame before it shows it to a program.
fn is_copied_in_the_driver(interface: &str) -> bool {
    sys::interface_driver(interface).is_ok_and(|driver| driver == "veth")
}

fn address_key(address: IpAddr) -> AddressKey {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

/// Six bytes as they are in a frame, then zeros.
fn mac_key(mac: [u8; 6]) -> u64 {
    let [a, b, c, d, e, f] = mac;
    u64::from_ne_bytes([a, b, c, d, e, f, 0, 0])
}

fn map_error(what: &'static str) -> impl Fn(MapError) -> XdpError {
    move |source| XdpError::Map { what, source }
}

fn absent_is_fine(outcome: Result<(), MapError>) -> Result<(), MapError> {
    match outcome {
        Err(MapError::KeyNotFound | MapError::ElementNotFound) => Ok(()),
        // The loader reports the kernel's "no such key" of a removal as a failed system call.
        Err(MapError::SyscallError(e)) if e.io_error.kind() == std::io::ErrorKind::NotFound => {
            Ok(())
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_have_the_programs_order_and_distinct_names() {
        for (index, verdict) in Verdict::ALL.iter().enumerate() {
            assert_eq!(*verdict as usize, index);
        }
        let names: std::collections::BTreeSet<_> = Verdict::ALL.iter().map(|v| v.name()).collect();
        assert_eq!(names.len(), Verdict::ALL.len());
    }

    #[test]
    fn addresses_of_both_versions_have_different_keys() {
        let v4 = address_key("10.0.0.1".parse().unwrap());
        assert_eq!(v4, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, 1]);
        assert_ne!(v4, address_key("::10.0.0.1".parse().unwrap()));
    }
}
