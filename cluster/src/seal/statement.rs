//! Statements: what is sealed under the pre-shared key itself, each under a key of its own.
//!
//! The handshake is said like this, so that nothing of it is computed for whoever does not hold the key; and a
//! surrender, by a guardian that has no session. A statement may be repeated by whoever has seen it. So each is
//! either one that stays true (a surrender), or names the number of what it belongs to, which is taken once.
//!
//! Not forward secret: whoever learns the key later can read the statements. They hold no secret.

use super::cipher::Cipher;
use super::cipher::derive;
use super::handshake::NOISE_BYTES;
use super::key::{Held, KeyId, Keyring};
use super::{Kind, MAGIC, TAG_BYTES, Unopened, VERSION, member_bytes, read_member};
use crate::id::Member;
use crate::message::{self, Message};
use alloc::vec::Vec;

/// Random bytes that make each statement's key another one.
pub const SALT_BYTES: usize = 16;

const MEMBER_AT: usize = 8;
const SALT_AT: usize = MEMBER_AT + 9;
const BODY_AT: usize = SALT_AT + SALT_BYTES;

/// Bytes of a [`Statement::Life`].
pub const LIFE_BYTES: usize = BODY_AT + 9 + TAG_BYTES;

/// What is said under the pre-shared key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Statement<'a> {
    /// This is the sender's present life: the answer to a beginning that names another (`echo` is its number) or,
    /// with zero, to a message of an unknown session.
    Life {
        /// See above.
        echo: u64,
    },
    /// Begins a handshake with this life of the receiver.
    Begin {
        /// Incarnation zero if it is not known.
        to: Member,
        /// Counts the sender's beginnings.
        number: u64,
        /// The first message.
        noise: &'a [u8; NOISE_BYTES],
    },
    /// Answers a beginning.
    Answer {
        /// Of the beginning.
        number: u64,
        /// The second message.
        noise: &'a [u8; NOISE_BYTES],
    },
    /// A surrender of the life that the statement is from.
    Surrender(&'a [u8]),
}

impl Statement<'_> {
    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Statement::Life { echo } => {
                out.push(0);
                out.extend_from_slice(&echo.to_le_bytes());
            }
            Statement::Begin { to, number, noise } => {
                out.push(1);
                out.extend_from_slice(&member_bytes(*to));
                out.extend_from_slice(&number.to_le_bytes());
                out.extend_from_slice(*noise);
            }
            Statement::Answer { number, noise } => {
                out.push(2);
                out.extend_from_slice(&number.to_le_bytes());
                out.extend_from_slice(*noise);
            }
            Statement::Surrender(datagram) => {
                out.push(3);
                out.extend_from_slice(datagram);
            }
        }
    }

    /// Reads a body whose tag was right: only a holder of the key could make one that is wrong.
    fn read(body: &[u8]) -> Option<Statement<'_>> {
        let (kind, rest) = body.split_first()?;
        match kind {
            0 => Some(Statement::Life { echo: u64::from_le_bytes(rest.try_into().ok()?) }),
            1 => {
                let (to, rest) = rest.split_first_chunk()?;
                let (number, noise) = rest.split_first_chunk()?;
                let (to, number) = (read_member(to), u64::from_le_bytes(*number));
                Some(Statement::Begin { to, number, noise: noise.try_into().ok()? })
            }
            2 => {
                let (number, noise) = rest.split_first_chunk()?;
                let number = u64::from_le_bytes(*number);
                Some(Statement::Answer { number, noise: noise.try_into().ok()? })
            }
            3 => Some(Statement::Surrender(rest)),
            _ => None,
        }
    }
}

/// Seals a statement. No salt may be used twice.
pub(super) fn seal(
    held: &Held,
    from: Member,
    salt: [u8; SALT_BYTES],
    statement: &Statement,
) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(256);
    bytes.extend_from_slice(&MAGIC.to_le_bytes());
    bytes.extend_from_slice(&[VERSION, Kind::Statement as u8]);
    bytes.extend_from_slice(&held.id.0.to_le_bytes());
    bytes.extend_from_slice(&member_bytes(from));
    bytes.extend_from_slice(&salt);
    statement.write(&mut bytes);
    let (header, body) = bytes.split_at_mut(BODY_AT);
    let tag = Cipher::new(&derive(&held.statements, b"one", &[&salt])).seal([0; 8], header, body);
    bytes.extend_from_slice(&tag);
    bytes
}

/// Opens a statement: under which key, of whom, what.
pub(super) fn open<'a>(
    ring: &Keyring,
    bytes: &'a mut [u8],
) -> Result<(usize, Member, Statement<'a>), Unopened> {
    if bytes.len() < BODY_AT + TAG_BYTES {
        return Err(Unopened::Short);
    }
    let (header, body) = bytes.split_at_mut(BODY_AT);
    let id: [u8; 4] = *header[4..].first_chunk().ok_or(Unopened::Short)?;
    let key = ring.find(KeyId(u32::from_le_bytes(id))).ok_or(Unopened::OtherKey)?;
    let salt = &header[SALT_AT..];
    let cipher = Cipher::new(&derive(&ring.keys[key].statements, b"one", &[salt]));
    let len = cipher.open([0; 8], header, body).ok_or(Unopened::Forged)?;
    let member = header[MEMBER_AT..].first_chunk().ok_or(Unopened::Short)?;
    let statement = Statement::read(&body[..len]).ok_or(Unopened::OtherVersion)?;
    Ok((key, read_member(member), statement))
}

/// A surrender as it is sent when there is no session: once under each key that others may hold. `datagram` is the
/// message, from the very life that has ended.
pub fn surrender(
    ring: &Keyring,
    from: Member,
    salt: [u8; SALT_BYTES],
    datagram: &[u8],
) -> Vec<Vec<u8>> {
    let statement = Statement::Surrender(datagram);
    ring.keys.iter().map(|held| seal(held, from, salt, &statement)).collect()
}

/// Whether a statement's datagram is a surrender of the very life that it is sealed for.
pub(super) fn is_surrender_of(member: Member, datagram: &[u8]) -> bool {
    let surrendered = message::decode(datagram);
    surrendered.is_ok_and(|(header, message)| {
        header.from == member && matches!(message, Message::Surrender { .. })
    })
}

#[cfg(test)]
mod tests {
    use super::super::Key;
    use super::*;
    use crate::id::{Incarnation, NodeId};

    #[test]
    fn statements_come_back_for_holders_of_the_key_and_of_the_cluster() {
        let ring = Keyring::new(7, &[Key::new([1; 32]), Key::new([2; 32])]);
        let from = Member { node: NodeId(3), incarnation: Incarnation(0x1234) };
        let noise = [9; NOISE_BYTES];
        let statements = [
            Statement::Life { echo: 5 },
            Statement::Begin { to: from, number: 6, noise: &noise },
            Statement::Answer { number: 6, noise: &noise },
            Statement::Surrender(b"datagram"),
        ];
        for statement in statements {
            for (n, held) in ring.keys.iter().enumerate() {
                let sealed = seal(held, from, [4; SALT_BYTES], &statement);
                assert_eq!(open(&ring, &mut sealed.clone()), Ok((n, from, statement)));
                let others = Keyring::new(7, &[Key::new([3; 32])]);
                assert_eq!(open(&others, &mut sealed.clone()), Err(Unopened::OtherKey));
                let other_cluster = Keyring::new(8, &[Key::new([1; 32]), Key::new([2; 32])]);
                assert_eq!(open(&other_cluster, &mut sealed.clone()), Err(Unopened::Forged));
                for at in 4..sealed.len() {
                    let mut forged = sealed.clone();
                    forged[at] ^= 0x40;
                    let expected = if at < 8 { Unopened::OtherKey } else { Unopened::Forged };
                    assert_eq!(open(&ring, &mut forged), Err(expected), "byte {at}");
                }
                for cut in 0..sealed.len() {
                    assert!(open(&ring, &mut sealed[..cut].to_vec()).is_err(), "cut at {cut}");
                }
            }
        }
    }
}
