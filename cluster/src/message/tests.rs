//! Round trips, and bytes that nobody sent.

use super::advertise::{
    ADDRESSES_MAX, Advertise, ArpPolicy, Failback, Limits, MACS_MAX, NAME_MAX, ORDER_MAX,
    OnPeerLoss, RANGES_MAX, Unfit,
};
use super::state::{Counts, GroupState, STATE_ENTRIES_MAX};
use super::*;
use crate::path::Health;
use crate::register::Phase;
use alloc::string::ToString;
use alloc::vec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

fn member(node: u8) -> Member {
    Member { node: NodeId(node), incarnation: Incarnation(u64::from(node) << 40 | 7) }
}

fn registers() -> Vec<Register> {
    let at = |peer, in_sync| Register {
        epoch: Epoch(9),
        owner: member(1),
        peer,
        in_sync,
        ..Register::NEVER
    };
    let closed = |register| Register { phase: Phase::Closed, ..register };
    vec![
        Register::NEVER,
        at(None, false),
        at(Some(member(2)), false),
        at(Some(member(2)), true),
        closed(at(None, false)),
        closed(at(Some(member(2)), true)),
        Register { phase: Phase::Over, ..at(None, false) },
    ]
}

fn advertise() -> Advertise {
    Advertise {
        group: GroupId::new(1, 2),
        service: "web".to_string(),
        owner: member(1),
        epoch: Epoch(3),
        home: NodeId(1),
        order: vec![NodeId(2), NodeId(3)],
        failback: Failback::NewConnections,
        on_peer_loss: OnPeerLoss::Stop,
        addresses: vec![IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)],
        ports: vec![(80, 80), (440, 443)],
        protocol: 6,
        application: "http".to_string(),
        arp: ArpPolicy::VirtualMac,
        macs: vec![[2, 0, 0, 0, 0, 1]],
        limits: Limits {
            flows: 65_536,
            active_flows: 7,
            uploads: 6,
            chunks: 5,
            pieces: 4,
            segments: 3,
            mss: 1460,
        },
        digest: [7; 32],
        behaviour: 1,
        is_leaving: true,
    }
}

fn samples() -> Vec<Message> {
    let group = GroupId::new(3, 1);
    let mut samples = vec![
        Message::Hello { ticket: 3 },
        Message::Advertise(advertise()),
        Message::Solicit { group },
        Message::Surrender { at: Instant(4) },
        Message::Dead { life: member(2) },
        Message::Hint { group, epoch: Epoch(2), silent: Duration(3) },
        Message::Order(PassedOrder {
            request: 4,
            group,
            to: NodeId(2),
            epoch: Epoch(5),
            force: true,
        }),
        Message::Ordered { request: 4, refused: None },
        Message::Renew { group, epoch: Epoch(1), sent: Instant(5), lease: Duration(6) },
        Message::Release { group, epoch: Epoch(1) },
        Message::RenewGrant(RenewGrant {
            sent: Instant(77),
            grants: vec![Grant { group, epoch: Epoch(2), lease: Duration(3) }; ENTRIES_MAX],
        }),
    ];
    for refused in [
        OrderError::UnknownGroup,
        OrderError::NotOwner(None),
        OrderError::NotOwner(Some(NodeId(3))),
        OrderError::OtherEpoch(Epoch(9)),
        OrderError::OwnsAlready,
        OrderError::NotDesignated,
        OrderError::NotAlive,
        OrderError::Draining,
        OrderError::WorsePath,
        OrderError::UnderWay,
        OrderError::NotSurvivor,
        OrderError::Unfit,
        OrderError::OwnerSilent(NodeId(3)),
        OrderError::OtherDeclared,
        OrderError::UnknownNode,
        OrderError::Lives,
    ] {
        samples.push(Message::Ordered { request: 5, refused: Some(refused) });
    }
    for register in registers() {
        samples.push(Message::Read { group, copy: register });
        let counts = Counts { flows: 1, copied: 2, lag_ops: 3, lag_bytes: 4 };
        let entry = GroupState { group, role: Role::Peer, register, counts };
        samples.push(Message::State(NodeState {
            version: "0.1.0".to_string(),
            largest_gap: Duration(5),
            lease: Duration(6),
            peer_silent: Duration(7),
            witness_age: Some(Duration(8)),
            groups: vec![entry; STATE_ENTRIES_MAX],
        }));
        for role in [Role::Idle, Role::Owner, Role::Filling, Role::Peer] {
            let entry = Entry { group, role, register, renew: Some(Duration(8)), has_lease: true };
            samples.push(Message::Heartbeat(Heartbeat {
                sequence: 1,
                sent: Instant(2),
                echo: Instant(3),
                core_ok: true,
                draining: true,
                cores: 2,
                mac: [1, 2, 3, 4, 5, 6],
                path: Health { carrier: Some(true), hops: 3, answering: 2, silent_ms: 70_000 },
                entries: vec![entry, Entry { renew: None, ..entry }],
            }));
        }
        let verdicts = Refusal::ALL.into_iter().map(Verdict::Refused);
        for verdict in
            verdicts.chain([Verdict::Noted, Verdict::Ticket, Verdict::Done, Verdict::Unknown])
        {
            let leased = Some((Instant(1), Duration(2)));
            let answer = Answer {
                group,
                request: 5,
                verdict,
                register: Some(register),
                leased,
                wait: Duration(9),
            };
            samples.push(Message::Answer(answer));
            samples.push(Message::Answer(Answer { register: None, leased: None, ..answer }));
        }
    }
    let peer = member(2);
    for change in [
        Change::Create,
        Change::Alone,
        Change::TakeOver,
        Change::AddPeer(peer),
        Change::InSync(peer),
        Change::Swap,
        Change::Fresh,
        Change::Close,
        Change::Retire,
    ] {
        samples.push(Message::Change(ChangeRequest {
            group,
            expected: Epoch(6),
            request: 7,
            change,
            sent: Instant(8),
            lease: Duration(9),
        }));
    }
    samples
}

fn header() -> Header {
    Header { cluster: 0x1234_5678_9abc_def0, from: member(1), to: any_life(NodeId(2)) }
}

/// A small generator of numbers, for repeatable noise.
fn noise(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

#[test]
fn every_message_round_trips() {
    for message in samples() {
        let bytes = encode(header(), &message);
        assert!(bytes.len() <= DATAGRAM_MAX);
        assert_eq!(decode(&bytes), Ok((header(), message)));
    }
}

#[test]
fn the_largest_heartbeat_fits_a_datagram() {
    let entry = Entry {
        group: GroupId(1),
        role: Role::Owner,
        register: registers()[3],
        renew: Some(Duration(1)),
        has_lease: true,
    };
    let heartbeat = Heartbeat {
        sequence: 1,
        sent: Instant(2),
        echo: Instant(3),
        core_ok: true,
        draining: false,
        cores: 2,
        mac: [0; 6],
        path: Health::default(),
        entries: vec![entry; ENTRIES_MAX],
    };
    assert!(encode(header(), &Message::Heartbeat(heartbeat)).len() <= DATAGRAM_MAX);
}

#[test]
fn the_largest_state_fits_a_datagram() {
    let lengths = samples().into_iter().filter_map(|message| match message {
        Message::State(_) => Some(encode(header(), &message).len()),
        _ => None,
    });
    let most = lengths.max().expect("some") + 24 - "0.1.0".len();
    assert!(most <= DATAGRAM_MAX, "{most}");
}

#[test]
fn the_largest_advertisement_fits_a_datagram() {
    let largest = Advertise {
        service: "s".repeat(NAME_MAX),
        order: vec![NodeId(9); ORDER_MAX],
        addresses: vec![IpAddr::V6(Ipv6Addr::LOCALHOST); ADDRESSES_MAX],
        ports: vec![(1, 2); RANGES_MAX],
        application: "a".repeat(NAME_MAX),
        macs: vec![[1; 6]; MACS_MAX],
        ..advertise()
    };
    let bytes = encode(header(), &Message::Advertise(largest.clone()));
    assert!(bytes.len() <= DATAGRAM_MAX, "{}", bytes.len());
    assert_eq!(decode(&bytes).map(|(_, message)| message), Ok(Message::Advertise(largest)));
}

/// Each difference that makes a peer of no use, and each that does not.
#[test]
fn a_node_that_declares_something_else_is_refused_with_the_reason() {
    type Change = fn(&mut Advertise);
    let refused: [(Change, Unfit); 11] = [
        (|a| a.service.push('x'), Unfit::OtherService),
        (|a| a.addresses.truncate(1), Unfit::OtherAddresses),
        (|a| a.arp = ArpPolicy::Gratuitous, Unfit::OtherAddresses),
        (|a| a.macs[0][5] = 2, Unfit::OtherAddresses),
        (|a| a.ports[0].1 = 81, Unfit::OtherPorts),
        (|a| a.protocol = 17, Unfit::OtherPorts),
        (|a| a.behaviour = 2, Unfit::OtherBehaviour(2, 1)),
        (|a| a.application.push('x'), Unfit::OtherApplication),
        (|a| a.digest[31] = 0, Unfit::OtherContent),
        (|a| a.limits.flows -= 1, Unfit::LowerLimit("flows", 65_535, 65_536)),
        (|a| a.limits.mss = 1440, Unfit::LowerLimit("mss", 1440, 1460)),
    ];
    for (change, reason) in refused {
        let mut other = advertise();
        change(&mut other);
        assert_eq!(advertise().refuses(&other), Some(reason));
    }
    let accepted: [Change; 4] = [
        |a| a.limits.flows += 1,
        |a| a.epoch = Epoch(9),
        |a| a.order.clear(),
        |a| a.owner = member(2),
    ];
    for change in accepted {
        let mut other = advertise();
        change(&mut other);
        assert_eq!(advertise().refuses(&other), None);
    }
    let mut other = advertise();
    other.order.clear();
    assert!(advertise().agrees_on_policy(&advertise()) && !advertise().agrees_on_policy(&other));
    // Its own hardware address is a node's own business.
    let ours = Advertise { arp: ArpPolicy::Gratuitous, ..advertise() };
    let theirs = Advertise { macs: vec![[4; 6]], ..ours.clone() };
    assert_eq!(ours.refuses(&theirs), None);
}

#[test]
fn every_cut_and_every_addition_is_refused() {
    for message in samples() {
        let mut bytes = encode(header(), &message);
        for length in 0..bytes.len() {
            assert!(decode(&bytes[..length]).is_err());
        }
        bytes.push(0);
        assert_eq!(decode(&bytes), Err(Drop::TrailingBytes));
    }
}

#[test]
fn noise_is_refused_or_reads_as_something_that_writes_back() {
    let mut seed = 0x9e37_79b9_7f4a_7c15;
    let samples = samples();
    for _ in 0..200_000 {
        let pick = noise(&mut seed) as usize % samples.len();
        let mut bytes = encode(header(), &samples[pick]);
        for _ in 0..1 + noise(&mut seed) % 4 {
            let at = noise(&mut seed) as usize % bytes.len();
            bytes[at] = noise(&mut seed) as u8;
        }
        if let Ok((header, message)) = decode(&bytes) {
            assert_eq!(decode(&encode(header, &message)), Ok((header, message)));
        }
        let random: Vec<u8> = (0..noise(&mut seed) % 64).map(|_| noise(&mut seed) as u8).collect();
        assert!(decode(&random).is_err());
    }
}

#[test]
fn a_header_is_for_this_life_or_any() {
    let me = member(2);
    assert!(header().is_for(me));
    assert!(Header { to: me, ..header() }.is_for(me));
    assert!(!Header { to: member(3), ..header() }.is_for(me));
    let former = Member { incarnation: Incarnation(1), ..me };
    assert!(!Header { to: former, ..header() }.is_for(me));
}

/// A heartbeat as a node of the version before says it.
const VERSION_2: &str = "\
     5553544102f0debc9a7856341201070000000001000002000000000000000001010000000000\
     0000020000000000000003000000000000000101020102030405060201030309000000000000\
     0001070000000001000000010800000000000000010303090000000000000001070000000001\
     00000000";

/// Nodes of two versions do not speak with each other, and each says why.
#[test]
fn the_version_before_is_dropped_by_its_name() {
    let octet = |at: usize| u8::from_str_radix(&VERSION_2[2 * at..2 * at + 2], 16).unwrap();
    let mut bytes: Vec<u8> = (0..VERSION_2.len() / 2).map(octet).collect();
    for version in [2, VERSION + 1] {
        bytes[4] = version;
        assert_eq!(decode(&bytes).err(), Some(Drop::BadVersion));
        assert_eq!(super::header(&bytes).err(), Some(Drop::BadVersion));
    }
    // Nothing else is wrong with who speaks to whom.
    bytes[4] = VERSION;
    assert_eq!(
        super::header(&bytes).map(|header| header.cluster).ok(),
        Some(0x1234_5678_9abc_def0)
    );
}
