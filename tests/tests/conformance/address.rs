//! Where an address is: announced, defended, kept by a hardware address of its own, or left to a router.
//!
//! Spec: RFC 826, RFC 4861 7.2, RFC 5227 2.3 and 2.4, RFC 9568 7.3 (virtual routers' addresses).

use super::desk::*;
use super::icmp::message;
use stack::app::AppConfig;
use stack::drop::Drop;
use stack::limits::{ANNOUNCE_AFTER_MS, DEFEND_INTERVAL};
use stack::service::ArpPolicy;
use stack::stack::Mode;
use stack::wire::{Address, Flags, Mac, emit_address};

const VIRTUAL: Mac = [0, 0, 0x5e, 0, 1, 7];
const GROUP: Mac = [3, 0, 0x5e, 0, 1, 7];
const STRANGER: Mac = [2, 9, 0, 0, 0, 9];

fn desk(family: Family, arp: ArpPolicy) -> Desk {
    Desk::with(Setup { arp, ..Setup::new(family, AppConfig::Echo) })
}

/// Frames about addresses that the stack has put out since they were taken last: destination, source.
fn said(desk: &mut Desk) -> Vec<(Mac, Mac)> {
    let mac = |bytes: &[u8]| bytes.try_into().expect("six bytes");
    desk.others.drain(..).map(|frame| (mac(&frame[..6]), mac(&frame[6..12]))).collect()
}

/// Somebody with this hardware address says that he is the service, as an announcement or to `asker`.
fn claim(desk: &mut Desk, mac: Mac, asker: Option<(Mac, Address)>) {
    let mut frame = [0; 128];
    let len = emit_address(&mut frame, &mac, &desk.family.address(0, 100), asker);
    desk.put_frame(&frame[..len]);
    desk.poll();
}

/// An ARP request or neighbour solicitation of the client.
fn question(family: Family) -> Vec<u8> {
    let (client, service) = (family.address(1, 1), family.address(0, 100));
    let (Some(sender), Some(target)) = (client.as_v4(), service.as_v4()) else {
        let mut body = vec![135, 0, 0, 0, 0, 0, 0, 0];
        body.extend(service.0);
        body.extend([1, 1]);
        body.extend(CLIENT_MAC);
        let mut frame = message(family, &client, &service, body);
        frame[21] = 255;
        return frame;
    };
    let mut frame = vec![0xff; 6];
    frame.extend(CLIENT_MAC);
    frame.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    frame.extend(CLIENT_MAC);
    frame.extend(sender);
    frame.extend([0; 6]);
    frame.extend(target);
    frame
}

#[test]
fn an_address_is_announced_for_seconds_and_questions_are_answered() {
    for family in BOTH {
        let mut desk = desk(family, ArpPolicy::Gratuitous);
        desk.wait_ms(20_000);
        let frames = said(&mut desk);
        // Two services.
        assert_eq!(frames.len(), 2 * ANNOUNCE_AFTER_MS.len());
        assert!(frames.iter().all(|(to, from)| to[0] & 1 == 1 && *from == SERVER_MAC));
        desk.put_frame(&question(family));
        desk.poll();
        assert_eq!(said(&mut desk), [(CLIENT_MAC, SERVER_MAC)]);
    }
}

/// RFC 5227 2.4: at once, and again for seconds; but whoever defends it too makes no storm of it.
#[test]
fn an_address_that_somebody_else_claims_is_announced_again_within_bounds() {
    for family in BOTH {
        let mut desk = desk(family, ArpPolicy::Gratuitous);
        desk.wait_ms(20_000);
        said(&mut desk);
        claim(&mut desk, SERVER_MAC, None);
        assert_eq!((said(&mut desk), desk.drops(Drop::Unasked)), (vec![], 1), "our own word");
        claim(&mut desk, STRANGER, None);
        assert_eq!(said(&mut desk).len(), 1, "at once");
        desk.wait_ms(20_000);
        assert_eq!(said(&mut desk).len(), ANNOUNCE_AFTER_MS.len() - 1, "and again");
        let conflict = desk.stack.group(0).conflict().expect("noted");
        assert_eq!((conflict.mac, conflict.count), (STRANGER, 1));
        // An answer to us is a claim as well.
        claim(&mut desk, STRANGER, Some((SERVER_MAC, family.address(1, 1))));
        assert_eq!(desk.stack.group(0).conflict().map(|conflict| conflict.count), Some(2));
        desk.wait_ms(20_000);
        said(&mut desk);
        for _ in 0..1000 {
            claim(&mut desk, STRANGER, None);
            desk.wait_ms(1);
        }
        let (frames, most) =
            (said(&mut desk).len(), 1_000_000_000 / DEFEND_INTERVAL.0 as usize * 4);
        assert!((10..=most).contains(&frames), "{frames} frames for 1000 claims");
        assert_eq!(desk.stack.counters().address_conflicts, 1002);
    }
}

/// RFC 5227 2.4: whoever sends as one of our addresses claims it, whatever he asks for.
#[test]
fn a_question_in_our_name_is_a_claim() {
    let mut desk = desk(Family::V4, ArpPolicy::Gratuitous);
    desk.wait_ms(20_000);
    said(&mut desk);
    let mut frame = question(Family::V4);
    let ours = desk.family.address(0, 100).as_v4().expect("IPv4");
    frame[22..28].copy_from_slice(&STRANGER);
    frame[28..32].copy_from_slice(&ours);
    frame[38..42].copy_from_slice(&[10, 1, 2, 3]);
    desk.put_frame(&frame);
    desk.poll();
    assert_eq!(said(&mut desk), [([0xff; 6], SERVER_MAC)]);
    assert_eq!(desk.stack.group(0).conflict().map(|conflict| conflict.mac), Some(STRANGER));
}

#[test]
fn a_service_with_a_hardware_address_of_its_own_speaks_and_is_spoken_to_by_it() {
    for family in BOTH {
        let mut desk = desk(family, ArpPolicy::VirtualMac(VIRTUAL));
        assert!(said(&mut desk).iter().all(|(_, from)| *from == VIRTUAL));
        desk.put_frame(&question(family));
        desk.poll();
        assert_eq!(said(&mut desk), [(CLIENT_MAC, VIRTUAL)]);
        // What is sent to it opens and is answered from it.
        let to_virtual = |mut frame: Vec<u8>| {
            frame[..6].copy_from_slice(&VIRTUAL);
            frame
        };
        let syn = frame(&Say { options: PLAIN.bytes(), ..desk.segment(Flags::SYN, &[]) });
        desk.put_frame(&to_virtual(syn));
        desk.snd_nxt += 1;
        assert_eq!(desk.poll().len(), 1);
        assert_eq!(desk.heard_from, VIRTUAL);
        desk.say(Flags::ACK, b"hello");
        assert_eq!((desk.heard_from, &desk.received[..]), (VIRTUAL, &b"hello"[..]));
        // Switches are told for ever where it is.
        desk.wait_ms(60_000);
        assert_eq!(said(&mut desk).len(), 2 * (ANNOUNCE_AFTER_MS.len() - 1 + 5));
        // Whoever does not serve it takes nothing that is sent to it.
        for (mode, dropped) in [(Mode::Off, 1), (Mode::Silent, 2)] {
            for group in 0..2 {
                desk.stack.set_mode(desk.now, group, mode);
            }
            let syn = frame(&Say { options: PLAIN.bytes(), ..desk.segment(Flags::SYN, &[]) });
            desk.put_frame(&to_virtual(syn));
            assert_eq!(desk.drops(Drop::AlienMac), dropped, "{mode:?}");
        }
        desk.wait_ms(60_000);
        assert_eq!(said(&mut desk), []);
    }
}

/// Switches that have never seen a frame from there flood what is sent to it: owner and peer both hear it.
#[test]
fn a_service_that_is_listened_to_says_nothing_from_its_own_hardware_address() {
    for (family, virtual_mac) in [(Family::V4, VIRTUAL), (Family::V6, VIRTUAL), (Family::V4, GROUP)]
    {
        let arp = ArpPolicy::VirtualMac(virtual_mac);
        let setup = Setup { arp, snoop: true, ..Setup::new(family, AppConfig::Echo) };
        let mut desk = Desk::with(setup);
        desk.put_frame(&question(family));
        desk.poll();
        let frames: Vec<Vec<u8>> = desk.others.drain(..).collect();
        assert!(frames.len() > 1);
        for frame in frames {
            assert_eq!(frame[6..12], SERVER_MAC);
            let told = frame.windows(6).filter(|bytes| *bytes == virtual_mac).count();
            assert_eq!(told, 1, "where the address is: {frame:?}");
        }
        let mut syn = frame(&Say { options: PLAIN.bytes(), ..desk.segment(Flags::SYN, &[]) });
        syn[..6].copy_from_slice(&virtual_mac);
        desk.put_frame(&syn);
        desk.snd_nxt += 1;
        assert_eq!(desk.poll().len(), 1);
        assert_eq!(desk.heard_from, SERVER_MAC);
        // Nobody need be told again and again where a MAC address is that is nowhere.
        desk.wait_ms(60_000);
        assert_eq!(said(&mut desk).len(), 2 * (ANNOUNCE_AFTER_MS.len() - 1));
        // What reaches a node that does not hold the copies is for somebody else.
        for (mode, heard) in [(Mode::Off, None), (Mode::Serving, None), (Mode::Silent, Some(0))] {
            desk.stack.set_mode(desk.now, 0, mode);
            let mut frame = syn.clone();
            frame[..6].copy_from_slice(&STRANGER);
            assert_eq!(
                desk.stack.hear(desk.now, &frame).map(|heard| heard.group),
                heard,
                "{mode:?}"
            );
        }
    }
}

#[test]
fn where_a_router_brings_the_traffic_nothing_is_said_about_addresses() {
    for family in BOTH {
        let mut desk = desk(family, ArpPolicy::None);
        desk.wait_ms(20_000);
        desk.put_frame(&question(family));
        claim(&mut desk, STRANGER, None);
        desk.wait_ms(20_000);
        assert_eq!(said(&mut desk), []);
        assert_eq!(desk.drops(Drop::NotAnnounced), 2);
        desk.open(PLAIN);
        desk.say(Flags::ACK, b"hello");
        assert_eq!(desk.received, b"hello");
    }
}
