//! Fixed little-endian fields, written one after the other and read back with every bound checked.
//!
//! Reading never panics and never allocates more than the datagram could fill.

use super::Drop;
use crate::id::{Epoch, GroupId, Incarnation, Member, NodeId};
use alloc::vec::Vec;
use stack::time::{Duration, Instant};

/// Appends fields to a datagram.
pub struct Writer(pub Vec<u8>);

/// Takes fields off a datagram.
pub struct Reader<'a>(&'a [u8]);

impl Writer {
    /// An empty datagram.
    pub fn new() -> Writer {
        Writer(Vec::with_capacity(256))
    }

    /// One octet.
    pub fn u8(&mut self, value: u8) {
        self.0.push(value);
    }

    /// Two octets.
    pub fn u16(&mut self, value: u16) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    /// Four octets.
    pub fn u32(&mut self, value: u32) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    /// Eight octets.
    pub fn u64(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    /// Octets as they are.
    pub fn bytes(&mut self, value: &[u8]) {
        self.0.extend_from_slice(value);
    }

    /// A member: node, incarnation.
    pub fn member(&mut self, member: Member) {
        self.u8(member.node.0);
        self.u64(member.incarnation.0);
    }

    /// A length of at most 255, then that many items.
    pub fn list<T>(&mut self, items: &[T], mut each: impl FnMut(&mut Writer, &T)) {
        let count = items.len().min(255);
        self.u8(count as u8);
        for item in &items[..count] {
            each(self, item);
        }
    }
}

impl Default for Writer {
    fn default() -> Self {
        Self::new()
    }
}

impl<'a> Reader<'a> {
    /// Reads from `bytes`.
    pub fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader(bytes)
    }

    /// The next `count` octets.
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], Drop> {
        let (head, tail) = self.0.split_at_checked(count).ok_or(Drop::Truncated)?;
        self.0 = tail;
        Ok(head)
    }

    /// The next `N` octets.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Drop> {
        let (head, tail) = self.0.split_first_chunk().ok_or(Drop::Truncated)?;
        self.0 = tail;
        Ok(*head)
    }

    /// One octet.
    pub fn u8(&mut self) -> Result<u8, Drop> {
        Ok(self.array::<1>()?[0])
    }

    /// Two octets.
    pub fn u16(&mut self) -> Result<u16, Drop> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    /// Four octets.
    pub fn u32(&mut self) -> Result<u32, Drop> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    /// Eight octets.
    pub fn u64(&mut self) -> Result<u64, Drop> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// Zero or one.
    pub fn bool(&mut self) -> Result<bool, Drop> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Drop::BadField),
        }
    }

    /// A group.
    pub fn group(&mut self) -> Result<GroupId, Drop> {
        Ok(GroupId(self.u32()?))
    }

    /// An epoch.
    pub fn epoch(&mut self) -> Result<Epoch, Drop> {
        Ok(Epoch(self.u64()?))
    }

    /// A member.
    pub fn member(&mut self) -> Result<Member, Drop> {
        Ok(Member { node: NodeId(self.u8()?), incarnation: Incarnation(self.u64()?) })
    }

    /// A point in time on somebody's clock.
    pub fn instant(&mut self) -> Result<Instant, Drop> {
        Ok(Instant(self.u64()?))
    }

    /// A span of time.
    pub fn duration(&mut self) -> Result<Duration, Drop> {
        Ok(Duration(self.u64()?))
    }

    /// A length, then that many items, at most `max`.
    pub fn list<T>(
        &mut self,
        max: usize,
        mut each: impl FnMut(&mut Reader<'a>) -> Result<T, Drop>,
    ) -> Result<Vec<T>, Drop> {
        let count = usize::from(self.u8()?);
        if count > max {
            return Err(Drop::BadField);
        }
        (0..count).map(|_| each(self)).collect()
    }

    /// Everything must have been read.
    pub fn finish(self) -> Result<(), Drop> {
        if self.0.is_empty() { Ok(()) } else { Err(Drop::TrailingBytes) }
    }
}
