//! ICMP echo through the kernel: whether a host answers, after how long, and whether packets of a size reach it whole.
//!
//! Spec: RFC 792. Never fragmented (`IP_PMTUDISC_PROBE`): what does not fit is refused here or lost on the way.

use super::check;
use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

/// IPv4 header without options, and ICMP header.
const HEADERS_BYTES: usize = 20 + 8;

/// Bytes of the smallest packet that asks.
pub const WAY_BYTES_MIN: usize = HEADERS_BYTES + 8;

/// Types of RFC 792.
const ECHO_REPLY: u8 = 0;
const ECHO_REQUEST: u8 = 8;

/// A raw socket that asks hosts for a sign of life.
pub struct EchoSocket {
    /// The standard library's calls on it are those of any datagram socket.
    socket: UdpSocket,
    identifier: [u8; 2],
    sequence: u16,
}

impl EchoSocket {
    /// Opens it; `identifier` tells its answers from those of others. Needs CAP_NET_RAW.
    pub fn open(identifier: u16) -> io::Result<EchoSocket> {
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
        // SAFETY: takes numbers only.
        let fd = unsafe { libc::socket(libc::AF_INET, kind, libc::IPPROTO_ICMP) };
        check(fd)?;
        // SAFETY: the descriptor was just made and is nobody else's.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        let (whole, length) = (libc::IP_PMTUDISC_PROBE, size_of::<libc::c_int>() as u32);
        let (level, option) = (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER);
        let value = (&raw const whole).cast();
        // SAFETY: `whole` is a number of that length.
        check(unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, value, length) })?;
        let (socket, identifier) = (socket.into(), identifier.to_be_bytes());
        Ok(EchoSocket { socket, identifier, sequence: 0 })
    }

    /// Asks `host` by a packet of so many bytes; how long its answer took, `None` if there is none within `patience`.
    pub fn ask(
        &mut self,
        host: Ipv4Addr,
        bytes: usize,
        patience: Duration,
    ) -> io::Result<Option<Duration>> {
        self.sequence += 1;
        let sequence = self.sequence.to_be_bytes();
        let mut packet = vec![0; bytes.max(WAY_BYTES_MIN) - 20];
        packet[0] = ECHO_REQUEST;
        packet[4..6].copy_from_slice(&self.identifier);
        packet[6..8].copy_from_slice(&sequence);
        let sum = checksum(&packet);
        packet[2..4].copy_from_slice(&sum.to_be_bytes());
        let asked = Instant::now();
        self.socket.send_to(&packet, (host, 0))?;
        let mut buffer = vec![0; bytes + HEADERS_BYTES];
        loop {
            let left = patience.saturating_sub(asked.elapsed());
            if left.is_zero() {
                return Ok(None);
            }
            self.socket.set_read_timeout(Some(left))?;
            match self.socket.recv(&mut buffer) {
                Ok(got) if self.is_answer(&buffer[..got], host, sequence) => {
                    return Ok(Some(asked.elapsed()));
                }
                Err(e)
                    if !matches!(
                        e.kind(),
                        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                    ) =>
                {
                    return Err(e);
                }
                _ => {}
            }
        }
    }

    /// Whether an IPv4 packet is what `host` answers to this question.
    fn is_answer(&self, packet: &[u8], host: Ipv4Addr, sequence: [u8; 2]) -> bool {
        let Some(head) = packet.first().map(|first| usize::from(first & 15) * 4) else {
            return false;
        };
        let Some(message) = packet.get(head..).filter(|message| message.len() >= 8) else {
            return false;
        };
        packet[12..16] == host.octets()
            && message[0] == ECHO_REPLY
            && message[4..6] == self.identifier
            && message[6..8] == sequence
    }
}

/// RFC 1071.
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0)));
    let sum: u32 = words.sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !((folded & 0xffff) + (folded >> 16)) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_that_of_rfc_1071() {
        // The example of its section 3.
        assert_eq!(checksum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), !0xddf2);
        assert_eq!(checksum(&[0xff]), 0x00ff);
    }

    #[test]
    fn the_own_host_answers_and_only_to_what_was_asked() {
        // Only root may.
        let Ok(mut echo) = EchoSocket::open(0x7573) else { return };
        let patience = Duration::from_secs(10);
        let taken = echo.ask(Ipv4Addr::LOCALHOST, 1500, patience).unwrap();
        assert!(taken.is_some());
        let mut packet = vec![0; HEADERS_BYTES];
        packet[0] = 0x45;
        packet[12..16].copy_from_slice(&[127, 0, 0, 1]);
        packet[24..28].copy_from_slice(&[0x75, 0x73, 0, 1]);
        assert!(echo.is_answer(&packet, Ipv4Addr::LOCALHOST, [0, 1]));
        assert!(!echo.is_answer(&packet, Ipv4Addr::LOCALHOST, [0, 2]));
        assert!(!echo.is_answer(&packet, Ipv4Addr::new(127, 0, 0, 2), [0, 1]));
        packet[20] = ECHO_REQUEST;
        assert!(!echo.is_answer(&packet, Ipv4Addr::LOCALHOST, [0, 1]), "the question itself");
        assert!(!echo.is_answer(&packet[..19], Ipv4Addr::LOCALHOST, [0, 1]));
        assert!(!echo.is_answer(&[], Ipv4Addr::LOCALHOST, [0, 1]));
    }
}
