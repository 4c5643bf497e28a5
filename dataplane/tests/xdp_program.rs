//! The XDP program against a table of frames, by BPF_PROG_TEST_RUN: each rule, each near miss,
//! every length.
//!
//! Both objects, the one just built and the committed one, run through the same table. Needs root;
//! without it the tests are skipped and say so.

use aya::programs::{TestRun, TestRunOptions};
use dataplane::xdp_program::{
    AttachMode, BUILT, Hears, PREBUILT, RANGES_MAX, Verdict, XdpError, XdpProgram,
};
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

const XDP_DROP: u32 = 1;
const XDP_PASS: u32 = 2;
const XDP_REDIRECT: u32 = 4;

const OWNED: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 100);
const OTHER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 101);
const OWNED6: Ipv6Addr = Ipv6Addr::new(0xfd88, 0, 0, 0, 0, 0, 0, 0x100);
const OTHER6: Ipv6Addr = Ipv6Addr::new(0xfd88, 0, 0, 0, 0, 0, 0, 0x101);
const NODE: Ipv4Addr = Ipv4Addr::new(192, 168, 7, 1);
const DATA_PORT: u16 = 7946;

/// An AF_XDP socket with a receive ring, which is all that the program's map asks for.
fn socket() -> OwnedFd {
    // SAFETY: no memory is involved; the descriptor is new and nobody else's.
    let socket = unsafe {
        let fd = libc::socket(libc::AF_XDP, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0);
        assert!(fd >= 0, "{}", std::io::Error::last_os_error());
        OwnedFd::from_raw_fd(fd)
    };
    let entries: u32 = 64;
    let (level, option) = (libc::SOL_XDP, libc::XDP_RX_RING);
    // SAFETY: the option's value is valid for its four bytes.
    let done = unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const entries).cast(), 4)
    };
    assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
    socket
}

/// False, with a reason on standard error, where the kernel would not let us load programs.
fn privileged() -> bool {
    // SAFETY: takes nothing, returns a number.
    let root = unsafe { libc::geteuid() } == 0;
    if !root {
        // Not by `eprintln!`, which the test harness hides while tests pass.
        let _ = writeln!(std::io::stderr(), "skipped: needs CAP_BPF");
    }
    root
}

/// A program with a socket on queue 0.
struct Bench {
    program: XdpProgram,
    _socket: OwnedFd,
}

impl Bench {
    fn new(object: &[u8]) -> Bench {
        let mut program = XdpProgram::load(object).unwrap();
        let socket = socket();
        program.bind_queue(0, socket.as_raw_fd()).unwrap();
        Bench { program, _socket: socket }
    }

    /// A bench that owns both test addresses and the cluster endpoint.
    fn owning(object: &[u8]) -> Bench {
        let mut bench = Bench::new(object);
        for address in [IpAddr::V4(OWNED), IpAddr::V6(OWNED6)] {
            bench.program.services().lock().set_service(address, &[80..=80, 8000..=8999]).unwrap();
        }
        bench.program.set_cluster_endpoint(NODE.into(), DATA_PORT).unwrap();
        bench
    }

    /// Runs the frame and expects the verdict: as action and as the one counter that moved.
    fn expect(&mut self, name: &str, frame: &[u8], verdict: Verdict) {
        let before = self.program.counters().unwrap();
        let options = TestRunOptions { data_in: Some(frame), ..TestRunOptions::new() };
        let result = self.program.program().unwrap().test_run(options).unwrap();
        let after = self.program.counters().unwrap();
        let to_socket = (verdict as usize) < Verdict::PassNoSocket as usize;
        let action = match verdict {
            Verdict::DropOverheard | Verdict::DropIdle => XDP_DROP,
            _ if to_socket => XDP_REDIRECT,
            _ => XDP_PASS,
        };
        let moved: Vec<&str> = Verdict::ALL
            .iter()
            .filter(|v| after.get(**v) != before.get(**v))
            .map(|v| v.name())
            .collect();
        assert_eq!((result.return_value, moved), (action, vec![verdict.name()]), "{name}");
        assert_eq!(after.total(), before.total() + 1, "{name}");
    }
}

fn ethernet(ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x02, 0, 0, 0, 0, 1, 0x02, 0, 0, 0, 0, 2];
    frame.extend(ethertype.to_be_bytes());
    frame.extend(payload);
    frame
}

fn ipv4(destination: Ipv4Addr, protocol: u8, options: usize, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0; 20 + options];
    packet[0] = 0x40 | ((20 + options) / 4) as u8;
    packet[2..4].copy_from_slice(&((20 + options + payload.len()) as u16).to_be_bytes());
    packet[8] = 64;
    packet[9] = protocol;
    packet[12..16].copy_from_slice(&[10, 0, 0, 1]);
    packet[16..20].copy_from_slice(&destination.octets());
    packet.extend(payload);
    ethernet(0x0800, &packet)
}

fn ipv6(destination: Ipv6Addr, next: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0; 40];
    packet[0] = 0x60;
    packet[4..6].copy_from_slice(&(payload.len() as u16).to_be_bytes());
    packet[6] = next;
    packet[7] = 255;
    packet[24..40].copy_from_slice(&destination.octets());
    packet.extend(payload);
    ethernet(0x86dd, &packet)
}

/// The head of a TCP segment or (cut) of a UDP datagram; what else is in it the program does not
/// read.
fn ports(destination: u16, len: usize) -> Vec<u8> {
    let mut head = vec![0; len];
    head[0..2].copy_from_slice(&54321u16.to_be_bytes());
    head[2..4].copy_from_slice(&destination.to_be_bytes());
    head
}

fn tcp(destination: Ipv4Addr, port: u16) -> Vec<u8> {
    ipv4(destination, 6, 0, &ports(port, 20))
}

fn udp(destination: Ipv4Addr, port: u16) -> Vec<u8> {
    ipv4(destination, 17, 0, &ports(port, 8))
}

fn arp(operation: u8, sender: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    let mut packet = vec![0, 1, 8, 0, 6, 4, 0, operation, 2, 0, 0, 0, 0, 2];
    packet.extend(sender.octets());
    packet.extend([0; 6]);
    packet.extend(target.octets());
    ethernet(0x0806, &packet)
}

fn icmpv6(destination: Ipv6Addr, kind: u8, target: Ipv6Addr) -> Vec<u8> {
    let mut message = vec![kind, 0, 0, 0, 0, 0, 0, 0];
    message.extend(target.octets());
    ipv6(destination, 58, &message)
}

/// An ICMP error to an owned address, about a packet from `source` and `port`, cut behind the ports.
fn icmp_error(kind: u8, source: Ipv4Addr, port: u16) -> Vec<u8> {
    let mut quoted = ipv4(Ipv4Addr::new(10, 0, 0, 1), 6, 0, &[])[14..].to_vec();
    quoted[12..16].copy_from_slice(&source.octets());
    let message =
        [&[kind, 4, 0, 0, 0, 0, 5, 0][..], &quoted, &port.to_be_bytes(), &[9, 9]].concat();
    ipv4(OWNED, 1, 0, &message)
}

/// The same with ICMPv6.
fn icmpv6_error(kind: u8, source: Ipv6Addr, port: u16) -> Vec<u8> {
    let mut quoted = ipv6(OTHER6, 6, &[])[14..].to_vec();
    quoted[8..24].copy_from_slice(&source.octets());
    let message =
        [&[kind, 0, 0, 0, 0, 0, 5, 0][..], &quoted, &port.to_be_bytes(), &[9, 9]].concat();
    ipv6(OWNED6, 58, &message)
}

/// Errors that quote a segment of ours, and those that do not.
fn errors() -> Vec<(&'static str, Vec<u8>, Verdict)> {
    use Verdict::*;
    let quote = 14 + 20 + 8;
    let quote6 = 14 + 40 + 8;
    vec![
        ("unreachable", icmp_error(3, OWNED, 80), Error),
        ("time exceeded", icmp_error(11, OWNED, 8999), Error),
        ("parameter problem", icmp_error(12, OWNED, 8000), Error),
        ("source quench", icmp_error(4, OWNED, 80), PassOther),
        ("redirect", icmp_error(5, OWNED, 80), PassOther),
        ("error about another port", icmp_error(3, OWNED, 81), PassOther),
        ("error about another address", icmp_error(3, OTHER, 80), PassOther),
        ("error about UDP", with(icmp_error(3, OWNED, 80), quote + 9, 17), PassOther),
        ("error about IP options", with(icmp_error(3, OWNED, 80), quote, 0x46), PassOther),
        ("error about version 6", with(icmp_error(3, OWNED, 80), quote, 0x65), PassOther),
        ("error to another", with(icmp_error(3, OWNED, 80), 14 + 19, 101), PassOther),
        ("unreachable v6", icmpv6_error(1, OWNED6, 80), Error),
        ("too big v6", icmpv6_error(2, OWNED6, 80), Error),
        ("time exceeded v6", icmpv6_error(3, OWNED6, 8500), Error),
        ("parameter problem v6", icmpv6_error(4, OWNED6, 80), Error),
        ("reserved v6", icmpv6_error(0, OWNED6, 80), PassOther),
        ("unknown error v6", icmpv6_error(5, OWNED6, 80), PassOther),
        ("v6 error about another port", icmpv6_error(2, OWNED6, 22), PassOther),
        ("v6 error about another address", icmpv6_error(2, OTHER6, 80), PassOther),
        ("v6 error about UDP", with(icmpv6_error(2, OWNED6, 80), quote6 + 6, 17), PassOther),
        ("v6 error about version 4", with(icmpv6_error(2, OWNED6, 80), quote6, 0x45), PassOther),
    ]
}

fn with(mut frame: Vec<u8>, offset: usize, value: u8) -> Vec<u8> {
    frame[offset] = value;
    frame
}

/// The same frame with an 802.1Q tag.
fn tagged(mut frame: Vec<u8>) -> Vec<u8> {
    frame.splice(12..12, [0x81, 0x00, 0x00, 0x07]);
    frame
}

/// Every rule hit and its near misses.
fn table() -> Vec<(&'static str, Vec<u8>, Verdict)> {
    use Verdict::*;
    let all_nodes = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    let port_range_ends = [
        ("tcp first port", tcp(OWNED, 8000), Tcp),
        ("tcp last port", tcp(OWNED, 8999), Tcp),
        ("tcp below the range", tcp(OWNED, 7999), PassOtherPort),
        ("tcp above the range", tcp(OWNED, 9000), PassOtherPort),
    ];
    let mut table = vec![
        ("tcp", tcp(OWNED, 80), Tcp),
        ("tcp other port", tcp(OWNED, 81), PassOtherPort),
        ("tcp other address", tcp(OTHER, 80), PassOther),
        ("tcp with options", ipv4(OWNED, 6, 40, &ports(80, 20)), Tcp),
        ("tcp fragment", with(tcp(OWNED, 80), 20, 0x20), PassFragment),
        ("tcp later fragment", with(tcp(OWNED, 80), 21, 1), PassFragment),
        ("tcp do not fragment", with(tcp(OWNED, 80), 20, 0x40), Tcp),
        ("fragment for another", with(tcp(OTHER, 80), 20, 0x20), PassOther),
        ("tcp with a tag", tagged(tcp(OWNED, 80)), PassOther),
        ("version 5", with(tcp(OWNED, 80), 14, 0x55), PassMalformed),
        ("header of 16 bytes", with(tcp(OWNED, 80), 14, 0x44), PassMalformed),
        ("header beyond the frame", with(tcp(OWNED, 80), 14, 0x4f), PassMalformed),
        ("other protocol", with(tcp(OWNED, 80), 23, 47), PassOther),
        ("udp to the cluster endpoint", udp(NODE, DATA_PORT), Cluster),
        ("udp to another port", udp(NODE, DATA_PORT + 1), PassOther),
        ("udp to another address", udp(OTHER, DATA_PORT), PassOther),
        ("udp to an owned address", udp(OWNED, 80), PassOther),
        ("udp fragment", with(udp(NODE, DATA_PORT), 20, 0x20), PassOther),
        ("tcp to the cluster endpoint", tcp(NODE, DATA_PORT), PassOther),
        ("echo request", ipv4(OWNED, 1, 0, &[8, 0, 0, 0, 0, 1, 0, 1]), Echo),
        ("echo reply", ipv4(OWNED, 1, 0, &[0, 0, 0, 0, 0, 1, 0, 1]), PassOther),
        (
            "unreachable without a quote",
            ipv4(OWNED, 1, 0, &[3, 4, 0, 0, 0, 0, 5, 0]),
            PassMalformed,
        ),
        ("echo for another", ipv4(OTHER, 1, 0, &[8, 0, 0, 0, 0, 1, 0, 1]), PassOther),
        ("arp request", arp(1, OTHER, OWNED), Arp),
        ("arp reply to us", arp(2, OTHER, OWNED), Arp),
        ("arp claim, request", arp(1, OWNED, OWNED), Arp),
        ("arp claim, reply", arp(2, OWNED, OTHER), Arp),
        ("arp for another", arp(1, OTHER, OTHER), PassOther),
        ("arp of another hardware", with(arp(1, OTHER, OWNED), 15, 6), PassOther),
        ("arp of another protocol", with(arp(1, OTHER, OWNED), 16, 9), PassOther),
        ("arp of another length", with(arp(1, OTHER, OWNED), 18, 8), PassOther),
        ("tcp v6", ipv6(OWNED6, 6, &ports(80, 20)), Tcp),
        ("tcp v6 other port", ipv6(OWNED6, 6, &ports(22, 20)), PassOtherPort),
        ("tcp v6 other address", ipv6(OTHER6, 6, &ports(80, 20)), PassOther),
        ("tcp v6 version", with(ipv6(OWNED6, 6, &ports(80, 20)), 14, 0x40), PassMalformed),
        ("v6 fragment", ipv6(OWNED6, 44, &ports(80, 28)), PassFragment),
        ("v6 fragment for another", ipv6(OTHER6, 44, &ports(80, 28)), PassOther),
        ("v6 hop-by-hop", ipv6(OWNED6, 0, &ports(80, 28)), PassExtension),
        ("v6 routing", ipv6(OWNED6, 43, &ports(80, 28)), PassExtension),
        ("v6 destination options", ipv6(OWNED6, 60, &ports(80, 28)), PassExtension),
        ("udp v6 other", ipv6(OWNED6, 17, &ports(DATA_PORT, 8)), PassOther),
        ("echo v6", icmpv6(OWNED6, 128, OTHER6), Echo),
        ("echo v6 for another", icmpv6(OTHER6, 128, OWNED6), PassOther),
        ("echo reply v6", icmpv6(OWNED6, 129, OWNED6), PassOther),
        ("solicitation", icmpv6(all_nodes, 135, OWNED6), Neighbor),
        ("solicitation for another", icmpv6(all_nodes, 135, OTHER6), PassOther),
        ("solicitation to us for another", icmpv6(OWNED6, 135, OTHER6), PassOther),
        ("advertisement claiming ours", icmpv6(all_nodes, 136, OWNED6), Neighbor),
        ("advertisement to us", icmpv6(OWNED6, 136, OTHER6), Neighbor),
        ("advertisement of another", icmpv6(all_nodes, 136, OTHER6), PassOther),
        ("router advertisement", icmpv6(OWNED6, 134, OWNED6), PassOther),
        ("another ethertype", ethernet(0x88cc, &[0; 40]), PassOther),
    ];
    table.extend(port_range_ends);
    table.extend(errors());
    table
}

#[test]
fn every_rule_and_every_near_miss() {
    if !privileged() {
        return;
    }
    for object in [BUILT, PREBUILT] {
        let mut bench = Bench::owning(object);
        for (name, frame, verdict) in table() {
            bench.expect(name, &frame, verdict);
        }
    }
}

#[test]
fn a_frame_cut_anywhere_in_its_headers_goes_to_the_kernel() {
    if !privileged() {
        return;
    }
    for object in [BUILT, PREBUILT] {
        let mut bench = Bench::owning(object);
        let steered = table().into_iter().filter(|row| row.2 as usize <= Verdict::Cluster as usize);
        for (name, frame, verdict) in steered {
            // An echo request in IPv6 needs the first eight bytes of its message only.
            let needed = if name == "echo v6" { 14 + 40 + 8 } else { frame.len() };
            // The kernel takes no frame below an Ethernet header.
            for len in 14..needed {
                bench.expect(
                    &format!("{name}, {len} bytes"),
                    &frame[..len],
                    Verdict::PassMalformed,
                );
            }
            bench.expect(name, &[&frame[..], &[0; 20]].concat(), verdict);
        }
    }
}

/// A segment to an owned address of either version: destination MAC, flags, bytes of payload.
fn segments(mac: [u8; 6], flags: u8, payload: usize) -> [Vec<u8>; 3] {
    let mut head = ports(80, 32 + payload);
    head[12] = 8 << 4;
    head[13] = flags;
    let mut frames = [ipv4(OWNED, 6, 0, &head), ipv4(OWNED, 6, 8, &head), ipv6(OWNED6, 6, &head)];
    for frame in &mut frames {
        frame[..6].copy_from_slice(&mac);
        // What an Ethernet frame is filled up with is no payload.
        frame.resize(frame.len() + 12, 0);
    }
    frames
}

#[test]
fn what_is_said_to_others_is_taken_as_far_as_it_brings_something() {
    const FIN: u8 = 1;
    const SYN: u8 = 2;
    const RST: u8 = 4;
    const ACK: u8 = 16;
    let (own, service, other) = ([2, 0, 0, 0, 0, 1], [0, 0, 0x5e, 0, 1, 1], [2, 0, 0, 0, 0, 7]);
    if !privileged() {
        return;
    }
    for object in [BUILT, PREBUILT] {
        let mut bench = Bench::owning(object);
        bench.program.set_macs(own, &[service]).unwrap();
        let services = bench.program.services();
        let mut map = services.lock();
        let news = [(SYN, 0), (FIN | ACK, 0), (RST, 0), (ACK, 1), (ACK, 500), (ACK, 0)];
        for (hears, to_service, to_other) in [
            (Hears::All, [Verdict::Tcp; 2], [Verdict::Tcp; 2]),
            (Hears::News, [Verdict::Tcp, Verdict::DropIdle], [Verdict::Tcp, Verdict::DropIdle]),
            (Hears::Nothing, [Verdict::Tcp; 2], [Verdict::DropOverheard; 2]),
        ] {
            map.set_hears(OWNED.into(), hears).unwrap();
            map.set_hears(OWNED6.into(), hears).unwrap();
            map.set_hears(OTHER.into(), hears).unwrap();
            let addressed = [(own, [Verdict::Tcp; 2]), (service, to_service), (other, to_other)];
            for (mac, [of_news, of_none]) in addressed {
                for (flags, payload) in news {
                    let is_idle = (flags, payload) == (ACK, 0);
                    let verdict = if is_idle { of_none } else { of_news };
                    for (n, frame) in segments(mac, flags, payload).iter().enumerate() {
                        let name = format!("{hears:?} {mac:?} {flags:x} {payload} {n}");
                        bench.expect(&name, frame, verdict);
                    }
                }
            }
        }
        bench.expect("another port", &tcp(OWNED, 81), Verdict::PassOtherPort);
        drop(map);
        bench.program.remove_mac(service).unwrap();
        bench.program.remove_mac(service).unwrap();
        for frame in segments(service, ACK, 500) {
            bench.expect("nobody's any more", &frame, Verdict::DropOverheard);
        }
    }
}

#[test]
fn everything_passes_while_the_maps_are_empty() {
    if !privileged() {
        return;
    }
    let mut bench = Bench::new(BUILT);
    for (name, frame, verdict) in table() {
        let expected = match verdict {
            Verdict::PassMalformed => continue,
            _ => Verdict::PassOther,
        };
        bench.expect(name, &frame, expected);
    }
}

#[test]
fn maps_change_while_frames_flow() {
    if !privileged() {
        return;
    }
    let mut bench = Bench::owning(BUILT);
    bench.program.services().lock().set_service(OWNED.into(), &[443..=443]).unwrap();
    bench.expect("old port", &tcp(OWNED, 80), Verdict::PassOtherPort);
    bench.expect("new port", &tcp(OWNED, 443), Verdict::Tcp);
    bench.program.services().lock().set_service(OWNED.into(), &[]).unwrap();
    bench.expect("no port", &tcp(OWNED, 443), Verdict::PassOtherPort);
    bench.expect("still ours to answer for", &arp(1, OTHER, OWNED), Verdict::Arp);
    let eight: Vec<_> = (0..RANGES_MAX as u16).map(|n| 100 * n + 1..=100 * n + 9).collect();
    bench.program.services().lock().set_service(OTHER.into(), &eight).unwrap();
    bench.expect("eighth range", &tcp(OTHER, 709), Verdict::Tcp);
    bench.expect("between ranges", &tcp(OTHER, 650), Verdict::PassOtherPort);
    bench.program.services().lock().remove_service(OWNED.into()).unwrap();
    bench.program.services().lock().remove_service(OWNED.into()).unwrap();
    bench.expect("removed", &arp(1, NODE, OWNED), Verdict::PassOther);
    bench.program.set_cluster_endpoint(OTHER6.into(), 9).unwrap();
    bench.program.set_cluster_endpoint(OTHER6.into(), 9).unwrap();
    bench.expect("old endpoint", &udp(NODE, DATA_PORT), Verdict::PassOther);
    bench.expect("new endpoint", &ipv6(OTHER6, 17, &ports(9, 8)), Verdict::Cluster);
    for port in 10..20 {
        bench.program.set_cluster_endpoint(NODE.into(), port).unwrap();
    }
    bench.expect("last endpoint", &udp(NODE, 19), Verdict::Cluster);
}

#[test]
fn without_a_socket_even_ours_goes_to_the_kernel() {
    if !privileged() {
        return;
    }
    let mut bench = Bench::owning(BUILT);
    bench._socket = socket();
    // The first socket is closed now and has left the map.
    bench.expect("closed socket", &tcp(OWNED, 80), Verdict::PassNoSocket);
    bench.program.bind_queue(0, bench._socket.as_raw_fd()).unwrap();
    bench.expect("new socket", &tcp(OWNED, 80), Verdict::Tcp);
}

#[test]
fn mistakes_are_errors() {
    if !privileged() {
        return;
    }
    let mut bench = Bench::new(BUILT);
    let nine = vec![1..=1; RANGES_MAX + 1];
    let error = bench.program.services().lock().set_service(OWNED.into(), &nine).unwrap_err();
    assert_eq!(error.to_string(), "10.0.0.100 has 9 port ranges, at most 8 are possible");
    let error = bench.program.bind_queue(64, bench._socket.as_raw_fd()).unwrap_err();
    assert!(matches!(error, XdpError::Map { .. }), "{error}");
    let error = XdpProgram::attach("no-such", AttachMode::Auto).err().unwrap();
    assert!(error.to_string().contains("no-such"), "{error}");
    let error = XdpProgram::attach("nul\0", AttachMode::Native).err().unwrap();
    assert!(matches!(error, XdpError::Name(_)), "{error}");
    let error = XdpProgram::load(b"no object").err().unwrap();
    assert!(matches!(error, XdpError::Load(_)), "{error}");
}
