//! Two AF_XDP ports on the two ends of a veth pair, each in a network namespace of its own.
//!
//! Shows that bursts arrive byte for byte, that no frame is lost from a port's memory, that what is
//! not kicked is never seen by anyone, and that the kernel's own traffic does not notice. Needs
//! root; without it the tests are skipped and say so.

use dataplane::port::xdp::{OpenError, XdpConfig, XdpPort, ZeroCopy};
use dataplane::port::{BURST, Port, RxFrame};
use dataplane::sys;
use dataplane::xdp_program::{AttachMode, Verdict, XdpProgram};
use stack::limits::SUPERFRAME_BYTES_MAX;
use stack::seq::Seq;
use stack::wire::{Address, Header, Path, Superframe, emit_superframe, payload_offset};
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

const OWNED: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 100);
const PORT: u16 = 80;
const FRAMES: u32 = 512;
/// How long a frame may take through a veth pair on a machine that is busy with other things.
const PATIENCE: Duration = Duration::from_secs(10);

/// Two namespaces and the pair between them; gone when dropped, also by a panic.
struct Wire {
    names: [String; 2],
}

impl Wire {
    /// `None`, with a reason on standard error, without root.
    fn new() -> Option<Wire> {
        // SAFETY: takes nothing, returns a number.
        if unsafe { libc::geteuid() } != 0 {
            // Not by `eprintln!`, which the test harness hides while tests pass.
            let _ = writeln!(
                std::io::stderr(),
                "skipped: needs CAP_NET_ADMIN, CAP_NET_RAW and CAP_BPF"
            );
            return None;
        }
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let id = format!("{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let wire = Wire { names: [format!("port-{id}-a"), format!("port-{id}-b")] };
        for name in &wire.names {
            run(&["ip", "netns", "add", name]);
        }
        let [a, b] = &wire.names;
        run(&["ip", "link", "add", "eth0", "netns", a, "type", "veth", "peer", "eth0", "netns", b]);
        for (name, address) in [(a, "10.99.0.1/24"), (b, "10.99.0.2/24")] {
            run(&["ip", "-n", name, "addr", "add", address, "dev", "eth0"]);
            // The kernel would leave the checksums of its own frames to a NIC that is not there.
            run(&["ip", "netns", "exec", name, "ethtool", "-K", "eth0", "tx", "off"]);
            wire.set_link(name, "up");
        }
        Some(wire)
    }

    fn set_link(&self, name: &str, state: &str) {
        run(&["ip", "-n", name, "link", "set", "eth0", state]);
    }

    fn set_mtu(&self, mtu: u32) {
        for name in &self.names {
            run(&["ip", "-n", name, "link", "set", "eth0", "mtu", &mtu.to_string()]);
        }
    }

    /// Runs `f` on a thread in one of the namespaces.
    fn within<T: Send>(&self, end: usize, f: impl FnOnce() -> T + Send) -> T {
        let path = format!("/run/netns/{}", self.names[end]);
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                sys::enter_network_namespace(std::path::Path::new(&path)).unwrap();
                f()
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    fn end(&self, end: usize, mode: AttachMode) -> End {
        self.end_with(end, mode, &config())
    }

    fn end_with(&self, end: usize, mode: AttachMode, config: &XdpConfig) -> End {
        self.within(end, || {
            let mut program = XdpProgram::attach("eth0", mode).unwrap();
            assert!(program.is_multi_buffer());
            let port = XdpPort::open(config).unwrap();
            program.services().lock().set_service(OWNED.into(), &[PORT..=PORT]).unwrap();
            program.bind_queue(0, port.fd()).unwrap();
            End { port, program, burst: Vec::with_capacity(BURST), copied: 0 }
        })
    }

    fn ends(&self, mode: AttachMode) -> [End; 2] {
        [self.end(0, mode), self.end(1, mode)]
    }

    /// Ends for an MTU of 9000.
    fn jumbo_ends(&self, mode: AttachMode) -> [End; 2] {
        self.set_mtu(9000);
        [0, 1].map(|end| self.end_with(end, mode, &XdpConfig { frames: 1024, ..config() }))
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        for name in &self.names {
            let _ = Command::new("ip").args(["netns", "del", name]).output();
        }
    }
}

fn run(command: &[&str]) -> String {
    let output = Command::new(command[0]).args(&command[1..]).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {errors}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn config() -> XdpConfig {
    XdpConfig {
        interface: "eth0".into(),
        queue: 0,
        frames: FRAMES,
        zero_copy: ZeroCopy::Auto,
        multi_buffer: true,
        superframes: false,
    }
}

/// A port with its program, and its current burst.
struct End {
    port: XdpPort,
    program: XdpProgram,
    burst: Vec<RxFrame>,
    /// Received frames that did not lie whole where the kernel had put them.
    copied: u64,
}

impl End {
    fn stage(&mut self, frame: &[u8]) {
        let staged = self.port.stage(|memory| {
            memory[..frame.len()].copy_from_slice(frame);
            frame.len()
        });
        assert_eq!(staged, Some(frame.len()));
    }

    /// Receives exactly these frames, in order, then nothing that is already there.
    fn expect(&mut self, frames: &[Vec<u8>]) {
        let deadline = Instant::now() + PATIENCE;
        let mut got = 0;
        while got < frames.len() {
            assert!(Instant::now() < deadline, "{got} of {} frames came", frames.len());
            if self.port.receive(&mut self.burst) == 0 {
                sys::wait_readable(&[self.port.fd()], 100_000_000).unwrap();
            }
            for received in &self.burst {
                assert_eq!(self.port.frame(received), &frames[got][..], "frame {got}");
                self.copied += received.address >> 63;
                got += 1;
            }
            self.port.recycle(&mut self.burst);
        }
        assert_eq!(self.port.receive(&mut self.burst), 0);
    }

    /// Waits until the kernel has given back everything sent, then checks that no frame is missing.
    fn settle(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        self.port.check();
        while self.port.tx_in_flight() > 0 {
            assert!(Instant::now() < deadline, "{} frames stuck", self.port.tx_in_flight());
            std::thread::yield_now();
            self.port.check();
        }
    }
}

/// A TCP segment to the owned address, `len` bytes in all, filled from `seed`.
fn segment(len: usize, seed: u32) -> Vec<u8> {
    let mut frame: Vec<u8> =
        (0..len as u32).map(|i| (i.wrapping_mul(31).wrapping_add(seed * 17) >> 2) as u8).collect();
    frame[0..6].copy_from_slice(&[2, 0, 0, 0, 0, 1]);
    frame[6..12].copy_from_slice(&[2, 0, 0, 0, 0, 2]);
    frame[12..14].copy_from_slice(&[0x08, 0x00]);
    frame[14] = 0x45;
    frame[20..22].copy_from_slice(&[0x40, 0]);
    frame[23] = 6;
    frame[30..34].copy_from_slice(&OWNED.octets());
    frame[36..38].copy_from_slice(&PORT.to_be_bytes());
    frame
}

/// A burst of segments of many lengths, the shortest and the longest among them.
fn segments(count: usize, seed: u32) -> Vec<Vec<u8>> {
    segments_up_to(1514, count, seed)
}

fn segments_up_to(longest: usize, count: usize, seed: u32) -> Vec<Vec<u8>> {
    let some = |i: usize| 54 + (i * 97 + seed as usize * 13) % (longest - 53);
    let len = |i: usize| if i == 0 { longest } else { some(i) };
    (0..count).map(|i| segment(len(i), seed + i as u32)).collect()
}

fn exchange(mode: AttachMode) {
    let Some(wire) = Wire::new() else { return };
    let ends = wire.ends(mode);
    exchange_between(ends, mode, 1514);
}

fn exchange_jumbo(mode: AttachMode) {
    let Some(wire) = Wire::new() else { return };
    let ends = wire.jumbo_ends(mode);
    assert_eq!(ends[0].port.mtu(), 9000);
    exchange_between(ends, mode, 9014);
}

fn exchange_between(mut ends: [End; 2], mode: AttachMode, longest: usize) {
    assert_eq!(ends[0].program.is_native(), mode == AttachMode::Native);
    assert!(!ends[0].port.is_zero_copy());
    // Enough rounds for every ring to go round and every frame to be used again.
    for round in 0..40 {
        for (from, to) in [(0, 1), (1, 0)] {
            let count = 1 + (round * 7 + from) % BURST;
            let burst = segments_up_to(longest, count, (round * 1000 + from) as u32);
            for frame in &burst {
                ends[from].stage(frame);
            }
            assert_eq!(ends[from].port.staged(), burst.len());
            ends[from].port.kick().unwrap();
            assert_eq!(ends[from].port.staged(), 0);
            ends[to].expect(&burst);
        }
    }
    ends.iter_mut().for_each(End::settle);
    let [a, b] = [ends[0].port.counters(), ends[1].port.counters()];
    assert_eq!((a.tx_frames, a.tx_bytes), (b.rx_frames, b.rx_bytes));
    assert_eq!((b.tx_frames, b.tx_bytes), (a.rx_frames, a.rx_bytes));
    assert_eq!((a.rx_kernel_dropped, b.rx_kernel_dropped), (0, 0));
    // A jumbo frame is whole as it comes, but where it goes on from the last chunk to the first.
    let copied: u64 = ends.iter().map(|end| end.copied).sum();
    assert_eq!(copied > 0, longest > 3_840);
    assert!(copied * 50 < a.rx_frames + b.rx_frames, "{copied}");
    let counters = ends[1].program.counters().unwrap();
    assert_eq!(counters.get(Verdict::Tcp), b.rx_frames);
}

#[test]
fn bursts_arrive_byte_for_byte_through_the_driver() {
    exchange(AttachMode::Native);
}

#[test]
fn bursts_arrive_byte_for_byte_through_the_generic_path() {
    exchange(AttachMode::Generic);
}

#[test]
fn a_veth_is_left_to_the_generic_path_unless_told_otherwise() {
    exchange(AttachMode::Auto);
}

#[test]
fn jumbo_frames_arrive_byte_for_byte_through_the_driver() {
    exchange_jumbo(AttachMode::Native);
}

#[test]
fn jumbo_frames_arrive_byte_for_byte_through_the_generic_path() {
    exchange_jumbo(AttachMode::Generic);
}

#[test]
fn a_port_for_single_buffers_bounds_the_mtu() {
    let Some(wire) = Wire::new() else { return };
    let [mut a, b] = wire.jumbo_ends(AttachMode::Auto);
    drop(b);
    let single = XdpConfig { multi_buffer: false, ..config() };
    let mut b = wire.end_with(1, AttachMode::Auto, &single);
    assert_eq!((a.port.mtu(), b.port.mtu()), (9000, 3840 - 18));
    let sent = [segment(3836, 1), segment(9014, 2), segment(3840, 3), segment(3841, 4)];
    sent.iter().for_each(|frame| a.stage(frame));
    a.port.kick().unwrap();
    b.expect(&[sent[0].clone(), sent[2].clone()]);
    let deadline = Instant::now() + PATIENCE;
    while b.port.counters().rx_too_long < 2 {
        assert!(Instant::now() < deadline);
        std::thread::yield_now();
    }
    assert_eq!((b.port.counters().rx_too_long, b.port.counters().rx_kernel_dropped), (2, 0));
    b.settle();
}

#[test]
fn what_the_kernel_has_not_taken_is_withdrawn_and_never_seen() {
    let Some(wire) = Wire::new() else { return };
    for is_jumbo in [false, true] {
        let mode = AttachMode::Auto;
        let [mut a, mut b] = if is_jumbo { wire.jumbo_ends(mode) } else { wire.ends(mode) };
        for round in 0..20 {
            let longest = if is_jumbo { 9014 } else { 1514 };
            let sent = segments_up_to(longest, 5, round);
            sent.iter().for_each(|frame| a.stage(frame));
            a.port.publish_only();
            assert!(a.port.staged() >= sent.len());
            assert_eq!(a.port.stage(|_| 100), None, "the last kick is not over");
            a.port.discard();
            assert_eq!((a.port.staged(), a.port.tx_in_flight()), (0, 0));
            // An idle wait makes the kernel look at the ring.
            sys::wait_readable(&[a.port.fd()], 0).unwrap();
            let marker = segments_up_to(longest, BURST, 77 + round);
            marker.iter().for_each(|frame| a.stage(frame));
            a.port.kick().unwrap();
            b.expect(&marker);
            a.settle();
        }
        let counters = a.port.counters();
        assert_eq!((counters.tx_withdrawn, counters.tx_frames), (20 * 5, 20 * BURST as u64));
    }
}

#[test]
fn super_frames_of_a_sender_with_offloads_are_counted() {
    let Some(wire) = Wire::new() else { return };
    let mut b = wire.end(1, AttachMode::Generic);
    b.program.set_cluster_endpoint(OWNED.into(), PORT).unwrap();
    run(&["ip", "netns", "exec", &wire.names[0], "ethtool", "-K", "eth0", "tx", "on"]);
    let mac = "02:00:00:00:00:01";
    let neighbor = ["lladdr", mac, "dev", "eth0", "nud", "permanent"];
    let address = OWNED.to_string();
    run(&[&["ip", "-n", &wire.names[0], "neigh", "replace", &address][..], &neighbor].concat());
    wire.within(0, || {
        let socket = std::net::UdpSocket::bind("10.99.0.1:0").unwrap();
        let (segment, level): (libc::c_int, libc::c_int) = (1000, libc::SOL_UDP);
        // SAFETY: the value is valid for its length.
        let set = unsafe {
            let value = (&raw const segment).cast();
            libc::setsockopt(socket.as_raw_fd(), level, libc::UDP_SEGMENT, value, 4)
        };
        assert_eq!(set, 0);
        for _ in 0..3 {
            socket.send_to(&[7; 20_000], (OWNED, PORT)).unwrap();
        }
        socket.send_to(&[7; 900], (OWNED, PORT)).unwrap();
    });
    let deadline = Instant::now() + PATIENCE;
    while b.port.receive(&mut b.burst) == 0 {
        assert!(Instant::now() < deadline);
        std::thread::yield_now();
    }
    assert_eq!(b.port.counters().rx_too_long, 3);
    assert_eq!((b.burst.len(), b.burst[0].len), (1, 14 + 20 + 8 + 900));
    b.port.recycle(&mut b.burst);
    b.settle();
}

#[test]
fn what_is_discarded_is_never_seen() {
    let Some(wire) = Wire::new() else { return };
    let [mut a, mut b] = wire.ends(AttachMode::Auto);
    for round in 0..50 {
        for frame in segments(BURST, round) {
            a.stage(&frame);
        }
        assert_eq!(a.port.stage(|_| 100), None, "the burst is full");
        a.port.discard();
        assert_eq!(a.port.staged(), 0);
        let marker = segments(1, 77 + round);
        a.stage(&marker[0]);
        assert_eq!(a.port.stage(|_| 0), Some(0), "nothing to say takes no frame");
        a.port.kick().unwrap();
        b.expect(&marker);
    }
    a.port.kick().unwrap();
    a.settle();
    let counters = a.port.counters();
    assert_eq!(counters.tx_discarded, 50 * BURST as u64);
    assert_eq!((counters.tx_frames, counters.tx_no_room, counters.kicks), (50, 50, 50));
}

#[test]
fn a_burst_refused_by_a_dead_link_stays_ours() {
    let Some(wire) = Wire::new() else { return };
    let [mut a, mut b] = wire.ends(AttachMode::Auto);
    let (lost, kept) = (segments(9, 1), segments(5, 2));
    wire.set_link(&wire.names[0], "down");
    for (burst, keep) in [(&lost, false), (&kept, true)] {
        burst.iter().for_each(|frame| a.stage(frame));
        for _ in 0..3 {
            assert_eq!(a.port.kick().unwrap_err().kind(), ErrorKind::NetworkDown);
        }
        assert_eq!(a.port.staged(), burst.len());
        a.port.check();
        if !keep {
            a.port.discard();
        }
    }
    wire.set_link(&wire.names[0], "up");
    // An idle wait makes the kernel look at the ring: it finds nothing.
    sys::wait_readable(&[a.port.fd()], 1_000_000).unwrap();
    assert_eq!(b.port.receive(&mut b.burst), 0);
    // The link may take a moment until frames pass.
    let deadline = Instant::now() + PATIENCE;
    while a.port.kick().is_err() {
        assert!(Instant::now() < deadline);
        std::thread::yield_now();
    }
    b.expect(&kept);
    a.settle();
    assert_eq!(a.port.counters().tx_frames, kept.len() as u64);
}

#[test]
fn a_reader_that_sleeps_loses_frames_but_neither_count_nor_memory() {
    let Some(wire) = Wire::new() else { return };
    let [mut a, mut b] = wire.ends(AttachMode::Auto);
    let room = FRAMES as usize / 2;
    let sent: Vec<Vec<u8>> = (0..room as u32 + 100).map(|n| segment(60, n)).collect();
    for burst in sent.chunks(BURST) {
        a.settle();
        burst.iter().for_each(|frame| a.stage(frame));
        a.port.kick().unwrap();
    }
    a.settle();
    let deadline = Instant::now() + PATIENCE;
    while b.port.counters().rx_kernel_dropped < 100 {
        assert!(Instant::now() < deadline);
        std::thread::yield_now();
    }
    b.expect(&sent[..room]);
    assert_eq!(b.port.counters().rx_kernel_dropped, 100);
    a.stage(&sent[0]);
    a.port.kick().unwrap();
    b.expect(&sent[..1]);
    b.settle();
}

#[test]
fn the_kernels_own_traffic_does_not_notice() {
    let Some(wire) = Wire::new() else { return };
    let mut ends = wire.ends(AttachMode::Auto);
    let listener = wire.within(0, || TcpListener::bind("10.99.0.1:80").unwrap());
    let sent: Vec<u8> = (0..200_000u32).map(|n| (n >> 3) as u8).collect();
    let echo = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut bytes = vec![0; 200_000];
        stream.read_exact(&mut bytes).unwrap();
        stream.write_all(&bytes).unwrap();
    });
    let returned = wire.within(1, || {
        let mut stream = TcpStream::connect("10.99.0.1:80").unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(&sent).unwrap();
        let mut bytes = vec![0; sent.len()];
        stream.read_exact(&mut bytes).unwrap();
        bytes
    });
    echo.join().unwrap();
    assert!(returned == sent);
    for end in &mut ends {
        assert_eq!(end.port.receive(&mut end.burst), 0);
        let counters = end.program.counters().unwrap();
        assert!(counters.get(Verdict::PassOther) > 100);
        assert_eq!(counters.total(), counters.get(Verdict::PassOther));
    }
}

/// A superframe of so many bytes of payload, cut every 1000.
fn superframe(memory: &mut [u8], address: Address, payload_bytes: usize) -> Superframe {
    let path = Path {
        source_mac: [2, 0, 0, 0, 0, 2],
        destination_mac: [2, 0, 0, 0, 0, 1],
        source: address,
        destination: address,
        hop_limit: 64,
    };
    let header = Header { destination_port: PORT, seq: Seq(u32::MAX - 1500), ..Header::default() };
    let at = payload_offset(&address, &header.options);
    (0..payload_bytes).for_each(|n| memory[at + n] = (n / 7) as u8);
    emit_superframe(memory, &path, &header, payload_bytes, 1000)
}

/// Sends a frame, a superframe of 4500 bytes and another frame, and compares what comes.
fn cut_between_frames([a, b]: &mut [End; 2], address: Address) {
    let around = [segment(60, 1), segment(300, 2)];
    a.stage(&around[0]);
    let staged = a.port.stage_superframe(|memory, most| {
        assert_eq!(most, BURST - 1);
        Some((superframe(memory, address, 4_500), 7))
    });
    assert_eq!(staged, Some(7));
    a.stage(&around[1]);
    assert_eq!(a.port.staged(), 1 + 5 + 1, "a superframe counts as its segments");
    a.port.kick().unwrap();
    assert_eq!(a.port.staged(), 0);
    let mut got = Vec::new();
    let deadline = Instant::now() + PATIENCE;
    while got.len() < 7 {
        assert!(Instant::now() < deadline, "{} of 7 frames came", got.len());
        b.port.receive(&mut b.burst);
        got.extend(b.burst.iter().map(|frame| b.port.frame(frame).to_vec()));
        b.port.recycle(&mut b.burst);
    }
    assert_eq!([&got[0], &got[6]], [&around[0], &around[1]]);
    let mut memory = vec![0; SUPERFRAME_BYTES_MAX];
    let whole = superframe(&mut memory, address, 4_500);
    let (tcp_at, payload_at) = (usize::from(whole.tcp_at), usize::from(whole.payload_at));
    for (n, part) in memory[payload_at..whole.bytes].chunks(1000).enumerate() {
        let frame = &got[1 + n];
        let seq = u32::from_be_bytes(frame[tcp_at + 4..tcp_at + 8].try_into().unwrap());
        assert_eq!(seq, (u32::MAX - 1500).wrapping_add(1000 * n as u32));
        assert_eq!(&frame[payload_at..], part);
    }
}

/// Attached to the driver, the far end has the kernel cut for it.
#[test]
fn superframes_are_cut_and_keep_their_place_among_frames() {
    with_superframes("on");
}

/// What the interface cannot cut the kernel cuts before.
#[test]
fn superframes_need_no_offload() {
    with_superframes("off");
}

/// With the interface's offloads `on` or `off`.
fn with_superframes(offloads: &str) {
    let Some(wire) = Wire::new() else { return };
    let ethtool = ["ip", "netns", "exec", &wire.names[0], "ethtool", "-K", "eth0"];
    run(&[ethtool.as_slice(), &["tx", offloads, "tso", offloads, "gso", offloads]].concat());
    let superframes = XdpConfig { superframes: true, ..config() };
    let mut ends =
        [wire.end_with(0, AttachMode::Auto, &superframes), wire.end(1, AttachMode::Native)];
    assert!(ends[0].port.sends_superframes() && !ends[1].port.sends_superframes());
    let six = Address([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 100]);
    ends[1].program.services().lock().set_service(six.0.into(), &[PORT..=PORT]).unwrap();
    for address in [Address::v4(OWNED.octets()), six] {
        for _ in 0..40 {
            cut_between_frames(&mut ends, address);
        }
    }
    let [a, _] = &mut ends;
    a.settle();
    let counters = a.port.counters();
    assert_eq!((counters.tx_superframes, counters.tx_frames), (80, 240));
    assert_eq!(a.port.stage_superframe(|_, _| None::<(Superframe, u8)>), None, "nothing to say");
    assert_eq!(a.port.staged(), 0);
}

/// What was thrown away, or refused, is never seen; a burst holds only so many.
#[test]
fn discarded_superframes_are_gone() {
    let Some(wire) = Wire::new() else { return };
    run(&["ip", "netns", "exec", &wire.names[0], "ethtool", "-K", "eth0", "tx", "on", "tso", "on"]);
    let superframes = XdpConfig { superframes: true, ..config() };
    let mut ends =
        [wire.end_with(0, AttachMode::Auto, &superframes), wire.end(1, AttachMode::Native)];
    let address = Address::v4(OWNED.octets());
    let fill = |a: &mut End| {
        let mut staged = 0;
        while a.port.stage_superframe(|memory, _| Some((superframe(memory, address, 3_000), 0)))
            == Some(0)
        {
            staged += 1;
        }
        assert_eq!(a.port.stage(|_| 100), None, "the burst is full");
        staged
    };
    let a = &mut ends[0];
    let most = fill(a);
    assert!((2..=BURST).contains(&most));
    a.port.discard();
    assert_eq!((a.port.staged(), a.port.counters().tx_discarded), (0, most as u64));
    wire.set_link(&wire.names[0], "down");
    assert_eq!(fill(a), most);
    assert!(a.port.kick().is_err(), "the interface is down");
    a.port.discard();
    assert_eq!((a.port.staged(), a.port.counters().tx_discarded), (0, 2 * most as u64));
    wire.set_link(&wire.names[0], "up");
    a.settle();
    cut_between_frames(&mut ends, address);
    ends[0].settle();
}

/// Who does not want them sends frame by frame.
#[test]
fn who_wants_no_superframes_has_none() {
    let Some(wire) = Wire::new() else { return };
    let mut end = wire.end_with(0, AttachMode::Auto, &config());
    assert!(!end.port.sends_superframes());
    assert_eq!(end.port.stage_superframe(|_, _| unreachable!()), None);
}

#[test]
fn a_queue_has_one_port_and_can_be_opened_again() {
    let Some(wire) = Wire::new() else { return };
    let [mut a, mut b] = wire.ends(AttachMode::Auto);
    let second = wire.within(0, || XdpPort::open(&config()).err().unwrap());
    assert!(matches!(second, OpenError::Busy(_)), "{second}");
    for round in 0..3 {
        let End { port, mut program, burst, copied } = b;
        drop(port);
        let port = wire.within(1, || XdpPort::open(&config()).unwrap());
        program.bind_queue(0, port.fd()).unwrap();
        b = End { port, program, burst, copied };
        let frames = segments(3, round);
        frames.iter().for_each(|frame| a.stage(frame));
        a.port.kick().unwrap();
        b.expect(&frames);
    }
    let shown = || run(&["ip", "-n", &wire.names[1], "-d", "link", "show", "eth0"]);
    assert!(shown().contains("prog/xdp"));
    drop(b);
    assert!(!shown().contains("prog/xdp"));
}

#[test]
fn impossible_ports_are_explained() {
    let Some(wire) = Wire::new() else { return };
    let open =
        |config: XdpConfig| wire.within(0, || XdpPort::open(&config).err().unwrap().to_string());
    for frames in [0, 128, 300, 1 << 19] {
        assert!(open(XdpConfig { frames, ..config() }).contains("power of two"));
    }
    assert!(open(XdpConfig { interface: "no-such".into(), ..config() }).contains("no-such"));
    assert!(open(XdpConfig { queue: 99, ..config() }).contains("cannot bind"));
    let require = XdpConfig { zero_copy: ZeroCopy::Require, ..config() };
    assert!(open(require).contains("cannot bind"));
    wire.set_mtu(9000);
    assert!(open(config()).contains("from 1024 to"), "three chunks for a frame take more of them");
    wire.set_mtu(16_000);
    assert!(open(config()).contains("MTU of eth0 is 16000"));
}
