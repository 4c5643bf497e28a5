//! Where the clients' kernel believes the addresses to be, under each policy and through a takeover.

use std::path::Path;
use std::thread;

use super::traffic::Traffic;
use super::{MIDDLE, SECONDS};
use crate::dialogue::{connect_echo, echo};
use crate::scene::{Scene, play, play_on};
use dataplane::sys::{self, ArpSocket};
use tools::demo::KillMode;
use tools::demo::bed::{Arp, ECHO_ADDRESS, Layout, Place, SERVICE_ADDRESS, run};
use tools::demo::files::virtual_mac;

/// What another host has.
const STRANGER: [u8; 6] = [2, 9, 0, 0, 0, 9];

/// The switch's port behind which a hardware address is, as it has learnt.
fn port_of(scene: &Scene<'_>, mac: &str) -> String {
    let table = run(scene.bed.command(Place::Switch, "bridge").args(["fdb", "show", "br", "br0"]));
    let table = table.unwrap();
    let line = table.lines().find(|line| line.starts_with(mac) && !line.contains("permanent"));
    let mut words = line.unwrap_or_default().split(' ').skip_while(|word| *word != "dev");
    words.nth(1).unwrap_or_default().to_string()
}

#[test]
fn a_virtual_mac_stays_when_its_owner_dies() {
    play_on(Layout { arp: Arp::VirtualMac, ..Layout::default() }, |scene| {
        let mut idle = connect_echo(scene);
        let mut traffic = Traffic::start(scene, SECONDS);
        traffic.until(MIDDLE);
        let macs = [(SERVICE_ADDRESS, virtual_mac(0)), (ECHO_ADDRESS, virtual_mac(1))];
        let check = |scene: &Scene<'_>, node: u8| {
            for (address, mac) in &macs {
                assert_eq!(scene.neighbor(address), *mac, "{address}");
                scene.wait_for("the switch to have learnt where it is", || {
                    port_of(scene, mac) == format!("node{node}-eth0")
                });
            }
        };
        check(scene, scene.owner);
        let killed_ns = scene.take_over(KillMode::Sigkill);
        check(scene, scene.survivor());
        traffic.assert_still_running();
        traffic.finish(scene, KillMode::Sigkill, killed_ns);
        echo(&mut idle, 1).unwrap();
        // Who asks is told the same.
        scene.ip(Place::Client, "neigh flush dev eth0");
        echo(&mut connect_echo(scene), 2).unwrap();
        assert_eq!(scene.neighbor(ECHO_ADDRESS), virtual_mac(1));
    });
}

#[test]
fn a_router_brings_the_traffic_where_nobody_speaks_for_the_address() {
    play_on(Layout { arp: Arp::None, ..Layout::default() }, |scene| {
        let route = |scene: &Scene<'_>, node: u8| {
            for address in [SERVICE_ADDRESS, ECHO_ADDRESS] {
                let words = format!("route replace {address}/32 via 10.88.0.1{node} dev eth0");
                scene.ip(Place::Client, &words);
            }
        };
        route(scene, scene.owner);
        let mut idle = connect_echo(scene);
        let mut traffic = Traffic::start(scene, SECONDS);
        traffic.until(MIDDLE);
        let killed_ns = scene.take_over(KillMode::Sigkill);
        route(scene, scene.survivor());
        traffic.assert_still_running();
        traffic.finish(scene, KillMode::Sigkill, killed_ns);
        echo(&mut idle, 1).unwrap();
        // Without the route nobody answers, and nobody has said where it is.
        scene.ip(Place::Client, &format!("route del {ECHO_ADDRESS}/32"));
        let refused = scene.connect_within(ECHO_ADDRESS, 7, super::SILENCE);
        assert!(refused.is_err(), "somebody has answered for the address");
        assert_eq!(scene.neighbor(ECHO_ADDRESS), "");
    });
}

#[test]
fn an_address_that_another_host_claims_is_defended_and_shown() {
    play(|scene| {
        let mut traffic = Traffic::start(scene, SECONDS);
        traffic.until(MIDDLE);
        let owner = scene.mac(scene.owner);
        assert_eq!(scene.neighbor(SERVICE_ADDRESS), owner);
        let namespace = Path::new("/run/netns").join(scene.bed.namespace(Place::Switch));
        thread::scope(|scope| {
            let claim = scope.spawn(|| {
                sys::enter_network_namespace(&namespace).unwrap();
                ArpSocket::open("br0").unwrap().send(&announcement()).unwrap();
            });
            claim.join().unwrap();
        });
        scene.wait_for("the claim to be shown", || {
            let groups = scene.cluster.status(scene.owner).unwrap().groups;
            let conflicts = groups.into_iter().filter_map(|group| group.conflict);
            conflicts.into_iter().any(|conflict| {
                (conflict.address.as_str(), conflict.mac.as_str(), conflict.count)
                    == (SERVICE_ADDRESS, "02:09:00:00:00:09", 1)
            })
        });
        scene.wait_for("the address to be back", || scene.neighbor(SERVICE_ADDRESS) == owner);
        traffic.finish(scene, KillMode::None, tools::load::wire::monotonic_ns());
    });
}

/// RFC 5227 3: the stranger has the service's address, he says.
fn announcement() -> [u8; 42] {
    let address: std::net::Ipv4Addr = SERVICE_ADDRESS.parse().unwrap();
    let mut frame = [0; 42];
    frame[..6].fill(0xff);
    frame[6..12].copy_from_slice(&STRANGER);
    frame[12..22].copy_from_slice(&[8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    frame[22..28].copy_from_slice(&STRANGER);
    frame[28..32].copy_from_slice(&address.octets());
    frame[38..42].copy_from_slice(&address.octets());
    frame
}
