//! Frames of clients that do not exist: a whole network of them behind one interface.
//!
//! Client `n` has an address of 10.128.0.0/9 and a port, both found from `n` and `n` from them; its initial
//! sequence number is a hash of `n`. So nothing is kept for a client, and an answer names its client.

use std::net::{Ipv4Addr, SocketAddrV4};

use anyhow::Context;
use stack::seq::Seq;
use stack::wire::{Address, Flags, Frame, Header, Mac, Path, Segment, SegmentOptions};
use stack::wire::{emit_tcp, parse};
use tools::impair::wire::PacketSocket;

/// Ports of one address.
const PORTS: u32 = 60_000;

/// The first of them.
const PORT_FIRST: u32 = 1024;

/// The first address of the network.
const NETWORK: u32 = 0x0a80_0000;

/// The clients' end of the wire.
pub struct Maker {
    sender: PacketSocket,
    mac: Mac,
    next_hop: Mac,
    target: SocketAddrV4,
    buffer: [u8; 256],
}

/// A server's answer.
pub struct Answer {
    /// Whose.
    pub client: u32,
    /// The segment's numbers.
    pub seq: Seq,
    /// Its flags.
    pub flags: Flags,
    /// Its timestamp.
    pub stamp: Option<u32>,
}

impl Maker {
    /// Clients behind `interface` of a service whose node has the Ethernet address `next_hop`.
    pub fn new(interface: &str, next_hop: Mac, target: SocketAddrV4) -> anyhow::Result<Maker> {
        let path = format!("/sys/class/net/{interface}/address");
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        let mac = mac(text.trim())?;
        Ok(Maker {
            sender: PacketSocket::sender(interface)?,
            mac,
            next_hop,
            target,
            buffer: [0; 256],
        })
    }

    /// Says SYN as `client`; whether the interface took it.
    pub fn send_syn(&mut self, client: u32) -> anyhow::Result<bool> {
        let options = SegmentOptions {
            mss: Some(1460),
            window_scale: Some(7),
            sack_permitted: true,
            timestamps: Some((1, 0)),
            ..SegmentOptions::default()
        };
        self.send(client, iss(client), Seq(0), Flags::SYN, options)
    }

    /// Completes the handshake that the answer belongs to.
    pub fn send_ack(&mut self, answer: &Answer) -> anyhow::Result<bool> {
        let timestamps = answer.stamp.map(|stamp| (2, stamp));
        let options = SegmentOptions { timestamps, ..SegmentOptions::default() };
        let seq = iss(answer.client) + 1;
        self.send(answer.client, seq, answer.seq + 1, Flags::ACK, options)
    }

    fn send(
        &mut self,
        client: u32,
        seq: Seq,
        ack: Seq,
        flags: Flags,
        options: SegmentOptions,
    ) -> anyhow::Result<bool> {
        let path = Path {
            source_mac: self.mac,
            destination_mac: self.next_hop,
            source: address(client),
            destination: Address::v4(self.target.ip().octets()),
            hop_limit: 64,
        };
        let header = Header {
            source_port: (PORT_FIRST + client % PORTS) as u16,
            destination_port: self.target.port(),
            seq,
            ack,
            flags,
            window: 64240,
            options,
        };
        let len = emit_tcp(&mut self.buffer, &path, &header, 0);
        Ok(self.sender.send(&self.buffer[..len])?)
    }

    /// What a frame says to one of the clients.
    pub fn read(&self, frame: &[u8]) -> Option<Answer> {
        let Ok(Frame::Tcp(segment)) = parse(frame, &self.mac, &[]) else { return None };
        let Segment { seq, flags, .. } = segment;
        let client = client(&segment)?;
        Some(Answer {
            client,
            seq,
            flags,
            stamp: segment.options.timestamps.map(|(value, _)| value),
        })
    }
}

fn address(client: u32) -> Address {
    Address::v4((NETWORK + client / PORTS + 1).to_be_bytes())
}

fn client(segment: &Segment<'_>) -> Option<u32> {
    let host = u32::from_be_bytes(segment.destination.as_v4()?).checked_sub(NETWORK + 1)?;
    let port = u32::from(segment.destination_port).checked_sub(PORT_FIRST)?;
    (port < PORTS).then_some(())?;
    host.checked_mul(PORTS)?.checked_add(port)
}

fn iss(client: u32) -> Seq {
    Seq(client.wrapping_mul(0x9e37_79b1))
}

/// An Ethernet address as the kernel writes it.
pub fn mac(text: &str) -> anyhow::Result<Mac> {
    let bytes: Result<Vec<u8>, _> =
        text.split(':').map(|part| u8::from_str_radix(part, 16)).collect();
    let bytes = bytes.ok().and_then(|bytes| Mac::try_from(bytes).ok());
    bytes.with_context(|| format!("{text:?} is no Ethernet address"))
}

/// Where the node's Ethernet address is asked for.
pub const MAC_FILE: &str = "/sys/class/net/eth0/address";

const _: () = assert!(NETWORK == u32::from_be_bytes(Ipv4Addr::new(10, 128, 0, 0).octets()));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_names_its_client() {
        for number in [0, 1, PORTS - 1, PORTS, 1_000_000, u32::MAX] {
            let mut frame = [0; 128];
            let path = Path {
                source_mac: [2; 6],
                destination_mac: [4; 6],
                source: Address::v4([10, 88, 0, 100]),
                destination: address(number),
                hop_limit: 64,
            };
            let destination_port = (PORT_FIRST + number % PORTS) as u16;
            let header = Header { source_port: 7, destination_port, ..Header::default() };
            let len = emit_tcp(&mut frame, &path, &header, 0);
            let Ok(Frame::Tcp(segment)) = parse(&frame[..len], &[4; 6], &[]) else { panic!() };
            assert_eq!(client(&segment), Some(number));
        }
    }

    #[test]
    fn ethernet_addresses_are_read_as_the_kernel_writes_them() {
        assert_eq!(mac("02:00:00:88:00:ff").unwrap(), [2, 0, 0, 0x88, 0, 255]);
        assert!(mac("02:00:00:88:00").is_err() && mac("").is_err());
    }
}
