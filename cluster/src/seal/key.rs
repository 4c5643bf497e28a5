//! The cluster's key: 32 random bytes that every node and the witness share, and its form as text.
//!
//! ```text
//! understudy-key 1a2b3c4d 00112233...   the words, the key's id, 64 hex digits
//! ```
//!
//! The id is a digest of the key: it finds a mistyped digit, names the key in every view, and says on the wire under
//! which of two keys a statement is sealed while a cluster changes from one to the other.

use super::cipher::derive;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

/// Keys that a node may hold at once: the new one, and the old one while the others still speak under it.
pub const KEYS_MAX: usize = 2;

/// First word of a key's text.
const WORD: &str = "understudy-key";

/// A pre-shared key. It is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Key([u8; 32]);

/// What a key is called.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct KeyId(pub u32);

/// Why a text is no key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BadKey {
    /// It is not of the form that `understudy keygen` writes.
    Form,
    /// Its digits do not belong to its id: one is wrong.
    Digits,
}

impl Key {
    /// These random bytes.
    pub fn new(bytes: [u8; 32]) -> Key {
        Key(bytes)
    }

    /// What it is called.
    pub fn id(&self) -> KeyId {
        let digest = derive(&self.0, b"understudy key id", &[]);
        KeyId(u32::from_be_bytes(*digest.first_chunk().expect("32 bytes")))
    }

    pub(super) fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// As a file holds it, without an end of line.
    pub fn to_text(&self) -> String {
        let mut text = alloc::format!("{WORD} {} ", self.id());
        self.0.iter().for_each(|byte| text += &alloc::format!("{byte:02x}"));
        text
    }

    /// Reads what [`Key::to_text`] has written.
    pub fn from_text(text: &str) -> Result<Key, BadKey> {
        let words: Vec<&str> = text.split_ascii_whitespace().collect();
        let [WORD, id, digits] = words[..] else { return Err(BadKey::Form) };
        if digits.len() != 64 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(BadKey::Form);
        }
        let mut bytes = [0; 32];
        for (at, byte) in bytes.iter_mut().enumerate() {
            let pair = &digits[2 * at..2 * at + 2];
            *byte = u8::from_str_radix(pair, 16).map_err(|_| BadKey::Form)?;
        }
        let key = Key(bytes);
        if key.id().to_string() == id { Ok(key) } else { Err(BadKey::Digits) }
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({}, not shown)", self.id())
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

impl fmt::Display for BadKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            BadKey::Form => "it is not what `understudy keygen` writes",
            BadKey::Digits => {
                "its digits do not belong to its id: it was changed, or copied wrongly"
            }
        })
    }
}

/// The keys that one party holds, for one cluster.
#[derive(Clone)]
pub struct Keyring {
    pub(super) cluster: u64,
    pub(super) keys: Vec<Held>,
}

/// One of them, and what is made from it once.
#[derive(Clone)]
pub(super) struct Held {
    pub id: KeyId,
    pub key: Key,
    /// From which each statement's key is derived.
    pub statements: [u8; 32],
}

impl Keyring {
    /// The first is spoken under; under any of them others are heard.
    ///
    /// Panics without a key or with more than two: the configuration was checked before.
    pub fn new(cluster: u64, keys: &[Key]) -> Keyring {
        assert!((1..=KEYS_MAX).contains(&keys.len()), "{} keys", keys.len());
        let held = |key: &Key| Held {
            id: key.id(),
            key: key.clone(),
            statements: derive(key.bytes(), b"understudy statement", &[&cluster.to_le_bytes()]),
        };
        Keyring { cluster, keys: keys.iter().map(held).collect() }
    }

    /// What they are called, the first first.
    pub fn ids(&self) -> impl Iterator<Item = KeyId> + '_ {
        self.keys.iter().map(|held| held.id)
    }

    pub(super) fn find(&self, id: KeyId) -> Option<usize> {
        self.keys.iter().position(|held| held.id == id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_comes_back_from_its_text_and_a_mistyped_one_does_not() {
        let key = Key::new([0xa7; 32]);
        let text = key.to_text();
        assert_eq!(Key::from_text(&(text.clone() + "\n")), Ok(key.clone()));
        let digits = text.len() - 64;
        for at in digits..text.len() {
            let mut mistyped = text.clone();
            mistyped.replace_range(at..at + 1, "0");
            assert_eq!(Key::from_text(&mistyped), Err(BadKey::Digits), "{at}");
        }
        for bad in ["", "understudy-key", &text[1..], &text[..text.len() - 1], "a b c"] {
            assert_eq!(Key::from_text(bad), Err(BadKey::Form), "{bad}");
        }
        assert!(!alloc::format!("{key:?}").contains("a7a7"));
    }
}
