//! The PROXY protocol: the first bytes that a server gets tell it who the client is; so may those that a client says
//! ([`heard`]).
//!
//! What a server gets is a function of the client's leg alone and lies at the very beginning of the output of the
//! server's: so it is sent exactly once, whoever carries the flow on.
//!
//! Spec: "The PROXY protocol, versions 1 & 2" (haproxy.org), 2.1 and 2.2. Left out: TLVs.

pub mod heard;

use crate::key::FlowKey;
use crate::wire::Address;
use core::fmt::{self, Write};

/// Which version a server wants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HeaderVersion {
    /// A line of text.
    V1,
    /// Binary.
    V2,
}

/// Bytes of a header at most: a line of version 1 with its end.
pub const HEADER_BYTES_MAX: usize = 107;

/// The first bytes of version 2.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// A header.
pub struct Header {
    bytes: [u8; HEADER_BYTES_MAX],
    len: usize,
}

impl Header {
    /// What a server hears of the connection of a client, named by both of its ends.
    pub fn new(version: HeaderVersion, client: &FlowKey) -> Header {
        let mut header = Header { bytes: [0; HEADER_BYTES_MAX], len: 0 };
        match version {
            HeaderVersion::V1 => {
                header.write_line(client).expect("a line has room for two addresses")
            }
            HeaderVersion::V2 => header.write_binary(client),
        }
        header
    }

    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    fn write_line(&mut self, client: &FlowKey) -> fmt::Result {
        let FlowKey { remote, local, remote_port, local_port } = client;
        let family = if remote.as_v4().is_some() { "TCP4" } else { "TCP6" };
        write!(self, "PROXY {family} {remote} {local} {remote_port} {local_port}\r\n")
    }

    fn write_binary(&mut self, client: &FlowKey) {
        self.put(&SIGNATURE);
        // Version 2, PROXY; then TCP over the family and the bytes that follow.
        match (client.remote.as_v4(), client.local.as_v4()) {
            (Some(remote), Some(local)) => {
                self.put(&[0x21, 0x11, 0, 12]);
                self.put(&remote);
                self.put(&local);
            }
            _ => {
                let (Address(remote), Address(local)) = (client.remote, client.local);
                self.put(&[0x21, 0x21, 0, 36]);
                self.put(&remote);
                self.put(&local);
            }
        }
        self.put(&client.remote_port.to_be_bytes());
        self.put(&client.local_port.to_be_bytes());
    }

    fn put(&mut self, bytes: &[u8]) {
        self.bytes[self.len..self.len + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }
}

impl Write for Header {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.len + text.len() > HEADER_BYTES_MAX {
            return Err(fmt::Error);
        }
        self.put(text.as_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(remote: Address, local: Address) -> FlowKey {
        FlowKey { remote, local, remote_port: 56_324, local_port: 443 }
    }

    /// The examples of the specification.
    #[test]
    fn version_1_is_a_line() {
        let v4 = key(Address::v4([192, 168, 0, 1]), Address::v4([192, 168, 0, 11]));
        let header = Header::new(HeaderVersion::V1, &v4);
        assert_eq!(header.bytes(), b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n");
        let longest = FlowKey {
            remote_port: 65_535,
            local_port: 65_535,
            ..key(Address([0xff; 16]), Address([0xff; 16]))
        };
        let header = Header::new(HeaderVersion::V1, &longest);
        assert!(header.bytes().ends_with(b" 65535 65535\r\n") && header.bytes().len() <= 104);
    }

    #[test]
    fn version_2_is_binary() {
        let v4 = key(Address::v4([1, 2, 3, 4]), Address::v4([5, 6, 7, 8]));
        let header = Header::new(HeaderVersion::V2, &v4);
        let expected =
            b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x01\x02\x03\x04\x05\x06\x07\x08\xdc\x04\x01\xbb";
        assert_eq!(header.bytes(), expected);
        let v6 = key(Address([1; 16]), Address([2; 16]));
        let header = Header::new(HeaderVersion::V2, &v6);
        assert_eq!(header.bytes().len(), 16 + 36);
        assert_eq!(header.bytes()[12..16], [0x21, 0x21, 0, 36]);
    }
}
