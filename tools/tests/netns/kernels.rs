//! Clients of every kind: other link sizes, other options, other windows, other manners.
//!
//! Each case turns one of the client's kernel's switches, or has its programs behave in a way that
//! real ones do: half closed connections, resets in the middle, thousands of short connections. All
//! of it goes through a relay that delays each frame by a millisecond, so that windows matter.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::sys::socket::{setsockopt, sockopt};
use tools::demo::bed::{ECHO_ADDRESS, NODES, Place, SERVICE_ADDRESS, run};
use tools::demo::client::Load;
use tools::demo::relay::{Way, lay};
use tools::load::http::{get_generated, put};
use tools::load::pattern;
use tools::load::report::Kind;
use tools::load::wire::acked;

use crate::link::{SHORT, finish, relay, run_load};
use crate::scene::{PATIENCE, Scene, UNDERSTUDY, play};

const LATE: &str = "--seed 1 --delay 1";

/// Between two tries of something that will be possible.
const TRY_EVERY: Duration = Duration::from_millis(20);

/// Sets what the client's kernel does for new connections.
fn sysctl(scene: &Scene<'_>, settings: &[&str]) {
    let mut command = scene.bed.command(Place::Client, "sysctl");
    run(command.arg("-qw").args(settings)).unwrap_or_else(|error| panic!("{error:#}"));
}

/// The services' `idle_timeout`. It alone ends a connection that has nothing to send and whose
/// client's reset got lost.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// Waits until no node holds a connection.
fn wait_no_flows(scene: &Scene<'_>) {
    scene.wait_within(IDLE_TIMEOUT + PATIENCE, "the last flow to go", || {
        NODES.iter().all(|node| {
            let status = scene.cluster.status(*node).unwrap();
            status.groups.iter().all(|group| group.flows == 0)
        })
    });
}

/// Runs `story` on several threads with a number each.
fn at_once(threads: u64, story: impl Fn(u64) + Sync) {
    thread::scope(|scope| {
        for number in 0..threads {
            let story = &story;
            scope.spawn(move || story(number));
        }
    });
}

#[test]
fn small_links_are_served() {
    play(|scene| {
        lay(scene.bed, Way::Client).unwrap();
        let relay = relay(scene, LATE);
        for mtu in [1280, 576] {
            scene.ip(Place::Client, &format!("link set eth0 mtu {mtu}"));
            run_load(scene, &format!("MTU {mtu}"), &SHORT);
        }
        finish(relay);
    });
}

#[test]
fn every_set_of_options_is_served() {
    play(|scene| {
        lay(scene.bed, Way::Client).unwrap();
        let relay = relay(scene, "--seed 2 --delay 1 --loss 5000");
        let [sack, stamps, scaling] = ["tcp_sack", "tcp_timestamps", "tcp_window_scaling"]
            .map(|name| move |on: u8| format!("net.ipv4.{name}={on}"));
        let cases = [
            ("no window scaling", [sack(1), stamps(1), scaling(0)]),
            ("no selective acknowledgements", [sack(0), stamps(1), scaling(1)]),
            ("no timestamps", [sack(1), stamps(0), scaling(1)]),
            ("no options", [sack(0), stamps(0), scaling(0)]),
        ];
        for (case, settings) in &cases {
            sysctl(scene, &settings.each_ref().map(String::as_str));
            run_load(scene, case, &SHORT);
        }
        assert!(finish(relay).total().lost > 0);
    });
}

#[test]
fn the_largest_and_the_smallest_windows_are_served() {
    play(|scene| {
        lay(scene.bed, Way::Client).unwrap();
        let relay = relay(scene, LATE);
        // A receive buffer of 1 GiB asks for a shift of 14.
        sysctl(scene, &["net.ipv4.tcp_rmem=4096 131072 1073741824"]);
        run_load(scene, "window scale 14", &SHORT);
        let tiny: Vec<_> = SHORT.into_iter().filter(|(name, _)| *name != "--bulk-rate").collect();
        let tiny = [&tiny[..], &[("--bulk-rate", 500_000), ("--receive-buffer", 1)]].concat();
        run_load(scene, "the smallest receive buffer", &tiny);
        finish(relay);
    });
}

/// Reads that come seldom: windows close, and open again by the reader's word or by a probe.
#[test]
fn slow_readers_are_waited_for() {
    play(|scene| {
        lay(scene.bed, Way::Client).unwrap();
        let relay = relay(scene, "--seed 3 --delay 1 --loss 10000");
        at_once(8, |number| {
            const SIZE: usize = 600_000;
            let mut stream = scene.connect(SERVICE_ADDRESS, 80).unwrap();
            setsockopt(&stream, sockopt::RcvBuf, &8_000).unwrap();
            let request = get_generated(SERVICE_ADDRESS, SIZE as u64, number, true);
            stream.write_all(&request).unwrap();
            let mut answer = Vec::new();
            let mut buffer = [0; 50_000];
            loop {
                thread::sleep(Duration::from_millis(20 + 40 * (number % 4)));
                let len = stream.read(&mut buffer).unwrap();
                answer.extend_from_slice(&buffer[..len]);
                if len == 0 {
                    break;
                }
            }
            assert_eq!(body(&answer, SIZE, number), Ok(()));
        });
        assert!(finish(relay).total().lost > 0);
    });
}

/// Whether an answer ends with the whole object.
fn body(answer: &[u8], size: usize, seed: u64) -> Result<(), String> {
    let from = answer.len().checked_sub(size).ok_or(format!("{} bytes", answer.len()))?;
    let wrong = pattern::first_difference(seed, 0, &answer[from..]);
    wrong.map_or(Ok(()), |at| Err(format!("wrong byte at {at}")))
}

#[test]
fn a_client_that_has_said_all_still_hears_all() {
    play(|scene| {
        lay(scene.bed, Way::Client).unwrap();
        let relay = relay(scene, "--seed 4 --delay 1 --loss 10000");
        at_once(8, |number| {
            const SIZE: usize = 300_000;
            let mut stream = scene.connect(ECHO_ADDRESS, 7).unwrap();
            let mut output = stream.try_clone().unwrap();
            let writer = thread::spawn(move || {
                let mut sent = vec![0; SIZE];
                pattern::fill(number, 0, &mut sent);
                output.write_all(&sent).unwrap();
                output.shutdown(Shutdown::Write).unwrap();
            });
            let mut returned = Vec::new();
            stream.read_to_end(&mut returned).unwrap();
            writer.join().unwrap();
            assert_eq!((returned.len(), body(&returned, SIZE, number)), (SIZE, Ok(())));
        });
        wait_no_flows(scene);
        assert!(finish(relay).total().lost > 0);
    });
}

#[test]
fn a_server_that_has_said_all_still_listens() {
    play(|scene| {
        lay(scene.bed, Way::Client).unwrap();
        let relay = relay(scene, "--seed 5 --delay 1 --loss 10000");
        at_once(8, |number| {
            const SIZE: usize = 100_000;
            let mut stream = scene.connect(SERVICE_ADDRESS, 80).unwrap();
            let request = get_generated(SERVICE_ADDRESS, SIZE as u64, number, true);
            stream.write_all(&request).unwrap();
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).unwrap();
            assert_eq!(body(&answer, SIZE, number), Ok(()));
            // The server's FIN has been read. What the client says now is acknowledged and dropped.
            let before = acked(&stream);
            stream.write_all(&[b'x'; SIZE]).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            let limit = Instant::now() + PATIENCE;
            while acked(&stream) <= before + SIZE as u64 {
                assert!(Instant::now() < limit, "{} of {SIZE} bytes", acked(&stream) - before);
                assert_eq!(stream.take_error().unwrap().map(|error| error.kind()), None);
                thread::sleep(TRY_EVERY);
            }
        });
        assert!(finish(relay).total().lost > 0);
    });
}

#[test]
fn thousands_of_short_connections_are_served() {
    play(|scene| {
        lay(scene.bed, Way::Client).unwrap();
        let relay = relay(scene, "--seed 6 --loss 1000");
        // Fewer ports than connections: each is used again and again.
        const PORTS: usize = 1_000;
        sysctl(scene, &["net.ipv4.ip_local_port_range=20000 20999"]);
        let nothing = ["--downloads", "--uploads", "--bulk-downloads", "--bulk-uploads", "--echo"];
        let mut options = nothing.map(|name| (name, 0)).to_vec();
        options.extend([("--fresh-every-ms", 1), ("--seconds", 5)]);
        let result = run_load(scene, "short connections", &options);
        let count = result.connections.iter().filter(|one| one.kind == Kind::Fresh).count();
        println!("{count} short connections from {PORTS} ports");
        assert!(count > 2 * PORTS, "{count} short connections");
        assert!(finish(relay).total().lost > 0);
    });
}

/// The client closes first and keeps the port in TIME-WAIT; its kernel takes it again after a
/// second.
#[test]
fn ports_out_of_time_wait_are_served() {
    play(|scene| {
        lay(scene.bed, Way::Client).unwrap();
        let relay = relay(scene, LATE);
        let settings = ["net.ipv4.ip_local_port_range=20000 20063", "net.ipv4.tcp_tw_reuse=1"];
        sysctl(scene, &settings);
        at_once(4, |number| {
            for round in 0..50 {
                let mut stream = connect_when_free(scene);
                let sent = [round; 100];
                stream.write_all(&sent).unwrap();
                let mut returned = [0; 100];
                stream.read_exact(&mut returned).unwrap();
                assert_eq!(returned, sent, "client {number}");
            }
        });
        wait_no_flows(scene);
        finish(relay);
    });
}

/// Connects to the echo service, as soon as there is a port to connect from.
fn connect_when_free(scene: &Scene<'_>) -> TcpStream {
    let limit = Instant::now() + PATIENCE;
    loop {
        match scene.connect(ECHO_ADDRESS, 7) {
            Ok(stream) => return stream,
            Err(error) if error.kind() == ErrorKind::AddrNotAvailable => {
                assert!(Instant::now() < limit, "no port becomes free");
                thread::sleep(TRY_EVERY);
            }
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn a_storm_of_resets_leaves_no_flow() {
    play(|scene| {
        lay(scene.bed, Way::Client).unwrap();
        let relay = relay(scene, "--seed 7 --delay 1 --loss 5000");
        at_once(8, |number| {
            for round in 0..40 {
                let mut stream = scene.connect(SERVICE_ADDRESS, 80).unwrap();
                let abort = nix::libc::linger { l_onoff: 1, l_linger: 0 };
                setsockopt(&stream, sockopt::Linger, &abort).unwrap();
                let seed = number * 1_000 + round;
                if round % 2 == 0 {
                    let request = get_generated(SERVICE_ADDRESS, 1_000_000, seed, false);
                    stream.write_all(&request).unwrap();
                    stream.read_exact(&mut [0; 5_000]).unwrap();
                } else {
                    stream.write_all(&put(SERVICE_ADDRESS, seed, 1_000_000)).unwrap();
                    stream.write_all(&[0; 50_000]).unwrap();
                }
            }
        });
        wait_no_flows(scene);
        assert!(finish(relay).total().lost > 0);
    });
}

#[test]
fn clients_killed_half_way_leave_no_flow() {
    play(|scene| {
        lay(scene.bed, Way::Client).unwrap();
        let relay = relay(scene, "--seed 8 --delay 1 --loss 10000");
        // Short connections that the server closed first would stay for their TIME-WAIT.
        let options = SHORT.map(|(name, value)| match name {
            "--fresh-every-ms" => (name, 0),
            _ => (name, value),
        });
        let mut load =
            Load::start_with(scene.bed, UNDERSTUDY.as_ref(), &scene.dir, &options).unwrap();
        scene.wait_for("every connection to have moved bytes", || {
            let progress = load.progress();
            progress.all_move()
        });
        load.signal(Signal::SIGKILL).unwrap();
        wait_no_flows(scene);
        assert!(finish(relay).total().lost > 0);
    });
}
