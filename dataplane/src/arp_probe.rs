//! ARP probes: who is at an address, without a word about who asks.
//!
//! The sender of a probe has no address yet (RFC 5227 2.1.1), so the question changes nobody's tables, and nobody but the
//! host that has the address answers it. The answer goes to the hardware address that the *question* names as its
//! sender's, whatever the frame came from: so one host alone can find out who else receives what is sent there.
//!
//! Spec: RFC 826, RFC 5227. IPv4 only.

use std::net::Ipv4Addr;

/// Hardware type, protocol, their lengths, and the operation.
const QUESTION: [u8; 10] = [8, 6, 0, 1, 8, 0, 6, 4, 0, 1];
const ANSWER: [u8; 10] = [8, 6, 0, 1, 8, 0, 6, 4, 0, 2];

/// The frame that asks, from `from`, who has `address`, and wants the answer at `answer_to`.
pub fn probe(from: [u8; 6], answer_to: [u8; 6], address: Ipv4Addr) -> [u8; 42] {
    let mut frame = [0; 42];
    frame[..6].fill(0xff);
    frame[6..12].copy_from_slice(&from);
    frame[12..22].copy_from_slice(&QUESTION);
    frame[22..28].copy_from_slice(&answer_to);
    frame[38..42].copy_from_slice(&address.octets());
    frame
}

/// An answer, whoever asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Answer {
    /// Where it was sent to.
    pub to: [u8; 6],
    /// The hardware address that it came from.
    pub from: [u8; 6],
    /// The address that it speaks for.
    pub address: Ipv4Addr,
}

impl Answer {
    /// Reads a frame; `None` if it is no answer.
    pub fn read(frame: &[u8]) -> Option<Answer> {
        if *frame.get(12..22)? != ANSWER {
            return None;
        }
        let address: [u8; 4] = frame.get(28..32)?.try_into().ok()?;
        let (to, from) = (frame[..6].try_into().ok()?, frame[6..12].try_into().ok()?);
        Some(Answer { to, from, address: Ipv4Addr::from(address) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_says_nothing_about_its_sender_and_an_answer_is_understood() {
        let hop = Ipv4Addr::new(10, 88, 0, 1);
        let (from, to) = ([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 9]);
        let mut frame = probe(from, to, hop);
        assert_eq!((&frame[6..12], &frame[22..28]), (&from[..], &to[..]));
        assert_eq!(frame[28..32], [0; 4], "no sender address");
        assert_eq!(Answer::read(&frame), None, "a question is no answer");
        frame[21] = 2;
        frame[..6].copy_from_slice(&to);
        frame[28..32].copy_from_slice(&hop.octets());
        assert_eq!(Answer::read(&frame), Some(Answer { to, from, address: hop }));
        assert_eq!(Answer::read(&frame[..31]), None);
    }
}
