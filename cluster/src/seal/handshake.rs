//! The Noise handshake `NNpsk0`, from `snow`: its only file here.
//!
//! Two messages of 48 bytes. Both are proofs of the pre-shared key; the secrets come from two key pairs that live as
//! long as the handshake, so that whoever learns the pre-shared key later cannot read what was said before.

use super::cipher::derive;
use super::key::Key;
use super::{Member, member_bytes};
use alloc::boxed::Box;
use alloc::vec::Vec;
use snow::params::{CipherChoice, DHChoice, HashChoice, NoiseParams};
use snow::resolvers::{CryptoResolver, DefaultResolver};
use snow::types::{Cipher, Dh, Hash, Random};
use snow::{Builder, Error, HandshakeState};

const PATTERN: &str = "Noise_NNpsk0_25519_ChaChaPoly_BLAKE2s";

/// Bytes of each message: a public key and a tag.
pub const NOISE_BYTES: usize = 48;

/// What both sides know after a handshake, and nobody else.
pub struct Secrets {
    /// Names the session; no secret.
    pub session: u32,
    to_responder: [u8; 32],
    to_initiator: [u8; 32],
}

/// The keys of one side.
pub struct Keys {
    /// For what it seals.
    pub send: [u8; 32],
    /// For what it opens.
    pub receive: [u8; 32],
}

impl Secrets {
    /// The keys for one purpose, seen from one side.
    pub fn keys(&self, label: &[u8], is_initiator: bool) -> Keys {
        let there = derive(&self.to_responder, label, &[]);
        let back = derive(&self.to_initiator, label, &[]);
        match is_initiator {
            true => Keys { send: there, receive: back },
            false => Keys { send: back, receive: there },
        }
    }
}

/// What both sides must agree on beside the key: whose handshake it is, and which.
pub fn prologue(cluster: u64, initiator: Member, responder: Member, number: u64) -> Vec<u8> {
    let mut prologue = b"understudy 3".to_vec();
    prologue.extend_from_slice(&cluster.to_le_bytes());
    prologue.extend_from_slice(&member_bytes(initiator));
    prologue.extend_from_slice(&member_bytes(responder));
    prologue.extend_from_slice(&number.to_le_bytes());
    prologue
}

/// Whoever has said the first message and waits for the second.
pub struct Initiator(HandshakeState);

impl Initiator {
    /// Begins; `random` is used once, for this. Returns the first message.
    pub fn begin(key: &Key, prologue: &[u8], random: [u8; 32]) -> (Initiator, [u8; NOISE_BYTES]) {
        let mut state = build(key, prologue, random, true);
        let mut first = [0; NOISE_BYTES];
        let len = state.write_message(&[], &mut first);
        assert_eq!(len, Ok(NOISE_BYTES), "the first message of the pattern");
        (Initiator(state), first)
    }

    /// Takes the second message; `None` if it is not the answer to the first. Another may be tried then.
    pub fn finish(&mut self, second: &[u8; NOISE_BYTES]) -> Option<Secrets> {
        self.0.read_message(second, &mut []).ok()?;
        Some(secrets(&mut self.0))
    }
}

/// Answers a first message: the second one and the secrets; `None` if the sender does not hold the key.
pub fn respond(
    key: &Key,
    prologue: &[u8],
    random: [u8; 32],
    first: &[u8; NOISE_BYTES],
) -> Option<([u8; NOISE_BYTES], Secrets)> {
    let mut state = build(key, prologue, random, false);
    state.read_message(first, &mut []).ok()?;
    let mut second = [0; NOISE_BYTES];
    // A public key of low order fails here.
    let len = state.write_message(&[], &mut second).ok()?;
    assert_eq!(len, NOISE_BYTES, "the second message of the pattern");
    Some((second, secrets(&mut state)))
}

fn build(key: &Key, prologue: &[u8], random: [u8; 32], is_initiator: bool) -> HandshakeState {
    let params: NoiseParams = PATTERN.parse().expect("a pattern of the framework");
    let builder = Builder::with_resolver(params, Box::new(Resolver(random)));
    let builder = builder.psk(0, key.bytes()).and_then(|builder| builder.prologue(prologue));
    let built = builder.and_then(|builder| match is_initiator {
        true => builder.build_initiator(),
        false => builder.build_responder(),
    });
    built.expect("a pattern with everything that it needs")
}

fn secrets(state: &mut HandshakeState) -> Secrets {
    let (to_responder, to_initiator) = state.dangerously_get_raw_split();
    let hash = state.get_handshake_hash();
    let session = u32::from_le_bytes(*hash.first_chunk().expect("32 bytes"));
    Secrets { session, to_responder, to_initiator }
}

/// The library's own choices, but for random numbers: there are none in this crate.
struct Resolver([u8; 32]);

/// Random bytes for one key.
struct Drawn(Option<[u8; 32]>);

impl Random for Drawn {
    fn try_fill_bytes(&mut self, dest: &mut [u8]) -> Result<(), Error> {
        let bytes = self.0.take().ok_or(Error::Rng)?;
        dest.copy_from_slice(bytes.get(..dest.len()).ok_or(Error::Rng)?);
        Ok(())
    }
}

impl CryptoResolver for Resolver {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        Some(Box::new(Drawn(Some(self.0))))
    }

    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        DefaultResolver.resolve_dh(choice)
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        DefaultResolver.resolve_hash(choice)
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        DefaultResolver.resolve_cipher(choice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_know_the_same_and_others_nothing() {
        let (key, other) = (Key::new([1; 32]), Key::new([2; 32]));
        let (mut initiator, first) = Initiator::begin(&key, b"a", [3; 32]);
        assert!(respond(&other, b"a", [4; 32], &first).is_none());
        assert!(respond(&key, b"b", [4; 32], &first).is_none());
        let (second, theirs) = respond(&key, b"a", [4; 32], &first).unwrap();
        let mut forged = second;
        forged[5] ^= 1;
        assert!(initiator.finish(&forged).is_none());
        let ours = initiator.finish(&second).expect("the right one is taken after a forged one");
        assert_eq!(ours.session, theirs.session);
        let (ours, theirs) = (ours.keys(b"x", true), theirs.keys(b"x", false));
        assert_eq!((ours.send, ours.receive), (theirs.receive, theirs.send));
        assert_ne!(ours.send, ours.receive);
        // The same key and the same first message with other random numbers: other secrets.
        let (_, again) = respond(&key, b"a", [5; 32], &first).unwrap();
        assert_ne!(again.keys(b"x", false).send, theirs.send);
    }
}
