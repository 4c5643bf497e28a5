//! How what agents, witness and guardians say crosses the link: sealed, or as it is where the operator wants that.
//!
//! Spec: cluster/PROTOCOL.md, Sealing. The machine is [`cluster::seal::Party`]; here are its keys from files, its seed
//! from the kernel, and the counters of a node that seals nothing.

use crate::{clock, random};
use cluster::id::{Member, NodeId};
use cluster::seal::{
    self, Counters, Key, KeyId, Keyring, LinkKeys, Opened, Party, Standing, Unopened,
};
use stack::time::{Duration, Instant};
use std::path::Path;
use std::{fs, io};

/// Bytes of a key file at most: anything longer is none.
const KEY_FILE_BYTES_MAX: u64 = 4096;

/// One life's way in and out.
pub enum Sealing {
    /// Nothing is sealed, and nothing that is can be read.
    None(Counters),
    /// Everything is.
    Noise(Box<Party>),
}

/// How sealing stands, for the status.
#[derive(Clone, Debug, Default)]
pub struct SealingSnapshot {
    /// What the keys are called; none if nothing is sealed.
    pub keys: Vec<KeyId>,
    /// What it counted.
    pub counters: Counters,
    /// Towards each other node, and the witness.
    pub standings: Vec<Standing>,
    /// Nodes from whose address came what could not be opened: why, and how long ago.
    pub refused: Vec<(NodeId, Unopened, Duration)>,
}

impl Sealing {
    /// For this life, which speaks with `others`, under these keys; without any nothing is sealed.
    pub fn new(
        cluster: u64,
        me: Member,
        keys: &[Key],
        others: impl IntoIterator<Item = NodeId>,
    ) -> io::Result<Sealing> {
        if keys.is_empty() {
            return Ok(Sealing::None(Counters::default()));
        }
        let seed = random::bytes()?;
        let party = Party::new(clock::now(), me, Keyring::new(cluster, keys), others, seed);
        Ok(Sealing::Noise(Box::new(party)))
    }

    /// What is to be sent so that `to` reads `datagram`; `None` if there is no session yet.
    pub fn seal(&mut self, now: Instant, to: NodeId, datagram: Vec<u8>) -> Option<Vec<u8>> {
        match self {
            Sealing::None(_) => Some(datagram),
            Sealing::Noise(party) => party.seal(now, to, &datagram),
        }
    }

    /// Opens what has arrived, in place.
    pub fn open<'a>(&mut self, now: Instant, bytes: &'a mut [u8]) -> Result<Opened<'a>, Unopened> {
        match self {
            Sealing::None(counters) if seal::is_sealed(bytes) => {
                counters.unopened[Unopened::OtherKey as usize] += 1;
                Err(Unopened::OtherKey)
            }
            Sealing::None(_) => Ok(Opened::Datagram(bytes)),
            Sealing::Noise(party) => party.open(now, bytes),
        }
    }

    /// What the sender of an unopened datagram is told, if anything.
    pub fn hint(&mut self, now: Instant, reason: Unopened, unopened: &[u8]) -> Option<Vec<u8>> {
        match (self, reason) {
            (Sealing::Noise(party), Unopened::UnknownSession | Unopened::OtherKey) => {
                party.hint(now, unopened)
            }
            _ => None,
        }
    }

    /// To be called at least once a heartbeat.
    pub fn handle_timeout(&mut self, now: Instant) {
        if let Sealing::Noise(party) = self {
            party.handle_timeout(now);
        }
    }

    /// The next datagram of a handshake.
    pub fn poll_datagram(&mut self) -> Option<(NodeId, Vec<u8>)> {
        match self {
            Sealing::None(_) => None,
            Sealing::Noise(party) => party.poll_datagram(),
        }
    }

    /// The next keys for the cores.
    pub fn poll_keys(&mut self) -> Option<LinkKeys> {
        match self {
            Sealing::None(_) => None,
            Sealing::Noise(party) => party.poll_keys(),
        }
    }

    /// How it stands.
    pub fn snapshot(&self, now: Instant) -> SealingSnapshot {
        match self {
            Sealing::None(counters) => {
                SealingSnapshot { counters: *counters, ..SealingSnapshot::default() }
            }
            Sealing::Noise(party) => SealingSnapshot {
                keys: party.keys().collect(),
                counters: party.counters(),
                standings: party.standings(now).collect(),
                refused: Vec::new(),
            },
        }
    }
}

/// The key in a file, which only its owner may read. Errors: half a sentence that says what is wrong.
pub fn read_key(path: &Path) -> Result<Key, String> {
    use std::os::unix::fs::PermissionsExt;
    let data = fs::metadata(path).map_err(|error| format!("cannot be read: {error}"))?;
    let mode = data.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(format!("others may read it: its mode is {mode:o}; chmod 600 it"));
    }
    if data.len() > KEY_FILE_BYTES_MAX {
        return Err(format!("{} bytes: this is no key", data.len()));
    }
    let text = fs::read(path).map_err(|error| format!("cannot be read: {error}"))?;
    Key::from_text(&String::from_utf8_lossy(&text)).map_err(|bad| bad.to_string())
}

/// Draws a key and writes it to a new file that only its owner may read; answers what it is called.
pub fn write_new_key(path: &Path) -> io::Result<KeyId> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let key = Key::new(random::bytes()?);
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(format!("{}\n", key.to_text()).as_bytes())?;
    file.sync_all()?;
    Ok(key.id())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_written_key_is_read_back_and_guarded() {
        let path = std::env::temp_dir().join(format!("understudy-key-{}", std::process::id()));
        let _ = fs::remove_file(&path);
        let id = write_new_key(&path).unwrap();
        assert_eq!(read_key(&path).map(|key| key.id()), Ok(id));
        let again = write_new_key(&path).expect_err("a key is never overwritten");
        assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(read_key(&path).unwrap_err().contains("chmod 600"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, "understudy-key 00000000 12").unwrap();
        assert!(read_key(&path).unwrap_err().contains("keygen"));
        fs::remove_file(&path).unwrap();
        assert!(read_key(&path).unwrap_err().contains("cannot be read"));
    }
}
