//! How values become bytes and come back: little-endian integers, length-prefixed strings of bytes.
//!
//! What is exported here is read by another node, perhaps an older or a hostile one: [`Reader`]
//! answers every shortage and every impossible value with an [`ImportError`], and never panics.

use alloc::vec::Vec;

/// Why exported bytes could not become a value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ImportError {
    /// The bytes end before the value does.
    Truncated,
    /// A field holds what no export writes.
    Invalid,
    /// A pool of this node is exhausted.
    OutOfMemory,
}

/// Reads values from exported bytes, front to back.
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Starts at the first byte.
    pub fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { rest: bytes }
    }

    /// Bytes not read yet.
    pub fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// The next `n` bytes.
    pub fn bytes(&mut self, n: usize) -> Result<&'a [u8], ImportError> {
        let (taken, rest) = self.rest.split_at_checked(n).ok_or(ImportError::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    /// The next `N` bytes as an array.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], ImportError> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(ImportError::Truncated)?;
        self.rest = rest;
        Ok(*taken)
    }

    /// A byte.
    pub fn u8(&mut self) -> Result<u8, ImportError> {
        Ok(self.array::<1>()?[0])
    }

    /// A byte that is 0 or 1.
    pub fn bool(&mut self) -> Result<bool, ImportError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(ImportError::Invalid),
        }
    }

    /// Two bytes.
    pub fn u16(&mut self) -> Result<u16, ImportError> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    /// Four bytes.
    pub fn u32(&mut self) -> Result<u32, ImportError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    /// Eight bytes.
    pub fn u64(&mut self) -> Result<u64, ImportError> {
        Ok(u64::from_le_bytes(self.array()?))
    }
}

/// Writes values behind one another; the mirror image of [`Reader`].
pub trait Put {
    /// A byte.
    fn put_u8(&mut self, value: u8);
    /// Raw bytes, without their length.
    fn put_bytes(&mut self, bytes: &[u8]);

    /// A byte, 0 or 1.
    fn put_bool(&mut self, value: bool) {
        self.put_u8(value as u8);
    }
    /// Two bytes.
    fn put_u16(&mut self, value: u16) {
        self.put_bytes(&value.to_le_bytes());
    }
    /// Four bytes.
    fn put_u32(&mut self, value: u32) {
        self.put_bytes(&value.to_le_bytes());
    }
    /// Eight bytes.
    fn put_u64(&mut self, value: u64) {
        self.put_bytes(&value.to_le_bytes());
    }
}

impl Put for Vec<u8> {
    fn put_u8(&mut self, value: u8) {
        self.push(value);
    }

    fn put_bytes(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_is_read_and_a_shortage_is_an_error() {
        let mut bytes = Vec::new();
        bytes.put_u8(1);
        bytes.put_bool(true);
        bytes.put_u16(2);
        bytes.put_u32(3);
        bytes.put_u64(4);
        bytes.put_bytes(b"xy");
        let mut reader = Reader::new(&bytes);
        assert_eq!((reader.u8(), reader.bool(), reader.u16()), (Ok(1), Ok(true), Ok(2)));
        assert_eq!((reader.u32(), reader.u64()), (Ok(3), Ok(4)));
        assert_eq!(reader.u32(), Err(ImportError::Truncated));
        assert_eq!(reader.bytes(2), Ok(&b"xy"[..]));
        assert_eq!(reader.bytes(1), Err(ImportError::Truncated));
        assert_eq!(Reader::new(&[2]).bool(), Err(ImportError::Invalid));
    }
}
