//! What the witness writes: one snapshot of everything durable, with a version and a checksum.
//!
//! The shell writes it so that after a loss of power there is either this one or the one before, whole.
//! Durable are the registers and which life of each node is registered; promises, requests and times
//! are not (the witness says why that is enough).

use super::{GROUPS_MAX, Group, Knowledge, Node, PAST_LIVES, Witness};
use crate::id::{GroupId, Incarnation, NodeId};
use crate::message::codec::{Reader, Writer};
use crate::message::{Drop, read_register, write_register};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::hash::Hasher;
use siphasher::sip::SipHasher13;

const MAGIC: [u8; 4] = *b"USTW";
const VERSION: u8 = 2;

/// Why a store was not believed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unreadable {
    /// It is no store of a witness, or of a version that this one does not know.
    Foreign,
    /// It belongs to another cluster.
    OtherCluster,
    /// It is damaged.
    Damaged,
}

struct Content {
    cluster: u64,
    known: bool,
    groups: BTreeMap<GroupId, Group>,
    nodes: BTreeMap<NodeId, Node>,
}

impl Witness {
    /// Everything durable.
    pub(super) fn snapshot(&self) -> Vec<u8> {
        let mut w = Writer::new();
        w.bytes(&MAGIC);
        w.u8(VERSION);
        w.u64(self.cluster);
        w.u8(u8::from(self.knowledge == Knowledge::Known));
        let written = || self.groups.iter().filter(|(_, entry)| entry.register.is_written());
        w.u16(written().count() as u16);
        for (group, entry) in written() {
            w.u32(group.0);
            write_register(&mut w, &entry.register);
        }
        w.u8(self.nodes.len() as u8);
        for (id, node) in &self.nodes {
            w.u8(id.0);
            w.u64(node.life.0);
            w.u8(node.past.len() as u8);
            for life in &node.past {
                w.u64(life.0);
            }
        }
        let sum = checksum(&w.0);
        w.u64(sum);
        w.0
    }

    /// Takes over what a snapshot says; on an error nothing is taken over.
    pub(super) fn restore(&mut self, bytes: &[u8]) -> Result<(), Unreadable> {
        if bytes.len() < 13 || bytes[..4] != MAGIC || bytes[4] != VERSION {
            return Err(Unreadable::Foreign);
        }
        let (body, sum) = bytes.split_last_chunk::<8>().ok_or(Unreadable::Damaged)?;
        if checksum(body) != u64::from_le_bytes(*sum) {
            return Err(Unreadable::Damaged);
        }
        let content = self.read(&body[5..]).map_err(|_| Unreadable::Damaged)?;
        if content.cluster != self.cluster {
            return Err(Unreadable::OtherCluster);
        }
        self.knowledge = if content.known {
            Knowledge::Known
        } else {
            // The operator's word was given, and is in the store: the collecting starts again.
            Knowledge::Collecting(self.started + self.timers.longest_promise())
        };
        self.groups = content.groups;
        self.nodes = content.nodes;
        Ok(())
    }

    fn read(&self, body: &[u8]) -> Result<Content, Drop> {
        let mut r = Reader::new(body);
        let (cluster, known) = (r.u64()?, r.bool()?);
        let promise = self.started + self.timers.longest_promise();
        let mut groups = BTreeMap::new();
        let count = usize::from(r.u16()?);
        if count > GROUPS_MAX {
            return Err(Drop::BadField);
        }
        for _ in 0..count {
            let group = r.group()?;
            groups.insert(group, Group::new(read_register(&mut r)?, promise));
        }
        let mut nodes = BTreeMap::new();
        for _ in 0..r.u8()? {
            let id = NodeId(r.u8()?);
            let life = Incarnation(r.u64()?);
            let past = r.list(PAST_LIVES, |r| Ok(Incarnation(r.u64()?)))?.into();
            nodes.insert(id, Node::new(self.started, life, past));
        }
        r.finish()?;
        Ok(Content { cluster, known, groups, nodes })
    }
}

/// Finds damage, not malice.
fn checksum(bytes: &[u8]) -> u64 {
    let mut hasher = SipHasher13::new_with_keys(0x5553_5457, 1);
    hasher.write(bytes);
    hasher.finish()
}
