//! One session of two lives, as one side sees it: its keys for messages, what it has sealed, what it has opened.

use super::cipher::Cipher;
use super::handshake::{Keys, Secrets};
use super::key::KeyId;
use super::link::LinkKeys;
use super::window::Window;
use super::{HEADER_BYTES, Kind, TAG_BYTES, Unopened, header};
use crate::id::Member;
use crate::limits::SESSION_DATAGRAMS_MAX;
use alloc::vec::Vec;
use stack::time::{Duration, Instant};

/// A session.
pub struct Session {
    /// Its name on the wire.
    pub id: u32,
    /// The life at the other end.
    pub peer: Member,
    /// Under which pre-shared key it was made.
    pub key: KeyId,
    /// When.
    pub born: Instant,
    /// When something was last opened in it.
    pub heard: Instant,
    /// When something was first sealed since then.
    asked: Option<Instant>,
    send: Cipher,
    receive: Cipher,
    /// The counter of the next datagram.
    next: u64,
    window: Window,
    link: Keys,
}

impl Session {
    /// What a handshake has led to.
    pub fn new(
        now: Instant,
        secrets: &Secrets,
        peer: Member,
        key: KeyId,
        is_initiator: bool,
    ) -> Session {
        let Keys { send, receive } = secrets.keys(b"message", is_initiator);
        Session {
            id: secrets.session,
            peer,
            key,
            born: now,
            heard: now,
            asked: None,
            send: Cipher::new(&send),
            receive: Cipher::new(&receive),
            next: 0,
            window: Window::default(),
            link: secrets.keys(b"mirror", is_initiator),
        }
    }

    /// The keys of its mirror datagrams.
    pub fn link_keys(&self) -> LinkKeys {
        LinkKeys::new(self.id, self.peer, &self.link)
    }

    /// Seals a message; `None` if its counters are used up.
    pub fn seal(&mut self, now: Instant, plain: &[u8]) -> Option<Vec<u8>> {
        if self.next >= SESSION_DATAGRAMS_MAX {
            return None;
        }
        self.asked.get_or_insert(now);
        let place = self.next.to_le_bytes();
        self.next += 1;
        let header = header(Kind::Message, self.id, place);
        let mut bytes = Vec::with_capacity(HEADER_BYTES + plain.len() + TAG_BYTES);
        bytes.extend_from_slice(&header);
        bytes.extend_from_slice(plain);
        let tag = self.send.seal(place, &header, &mut bytes[HEADER_BYTES..]);
        bytes.extend_from_slice(&tag);
        Some(bytes)
    }

    /// Opens a message in place: behind its header lie so many bytes.
    pub fn open(
        &mut self,
        now: Instant,
        place: [u8; 8],
        bytes: &mut [u8],
    ) -> Result<usize, Unopened> {
        let counter = u64::from_le_bytes(place);
        if !self.window.is_new(counter) || counter >= SESSION_DATAGRAMS_MAX {
            return Err(Unopened::Repeated);
        }
        let (header, body) = bytes.split_at_mut(HEADER_BYTES);
        let len = self.receive.open(place, header, body).ok_or(Unopened::Forged)?;
        self.window.note(counter);
        (self.heard, self.asked) = (now, None);
        Ok(len)
    }

    /// Whether nothing has come for so long since something was said.
    pub fn is_silent(&self, now: Instant, bound: Duration) -> bool {
        self.asked.is_some_and(|asked| now.since(asked) >= bound)
    }

    /// Whether most of its counters are used up.
    pub fn is_used(&self) -> bool {
        self.next >= SESSION_DATAGRAMS_MAX / 2
    }

    #[cfg(test)]
    pub fn use_up(&mut self, next: u64) {
        self.next = next;
    }
}
