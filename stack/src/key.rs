//! Everything keyed by the cluster's secret: flow hash, initial sequence numbers, timestamp offsets,
//! SYN cookies.
//!
//! All are SipHash under keys derived from one secret that every node shares, so that a peer makes
//! the same choices and accepts the cookies that the owner gave out; none comes from a random source.
//!
//! Spec: RFC 6528 (ISN = M + F), RFC 7323 5.4 (timestamp offset per connection), RFC 4987 3.6 (cookies).
//! Units: `clock` is the group's clock.

use crate::seq::Seq;
use crate::time::Instant;
use crate::wire::{Address, Segment};
use core::hash::Hasher;
use siphasher::sip::SipHasher13;

/// What names a flow: both ends of it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct FlowKey {
    /// The other side's address.
    pub remote: Address,
    /// Our address.
    pub local: Address,
    /// The other side's port.
    pub remote_port: u16,
    /// Our port.
    pub local_port: u16,
}

impl FlowKey {
    /// The flow that a received segment is of.
    #[inline]
    pub fn of(segment: &Segment) -> FlowKey {
        FlowKey {
            remote: segment.source,
            local: segment.destination,
            remote_port: segment.source_port,
            local_port: segment.destination_port,
        }
    }
}

/// The keys in force.
#[derive(Clone, Debug)]
pub struct Keys {
    flow: SipHasher13,
    isn: SipHasher13,
    timestamp: SipHasher13,
    cookie: SipHasher13,
    syn: SipHasher13,
}

/// What a SYN cookie remembers of a SYN.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cookie {
    /// The client's MSS, rounded down to one of [`COOKIE_MSS`].
    pub mss: u16,
}

/// The MSS values that a cookie can carry: the common ones of IPv4 and IPv6 over Ethernet and tunnels.
pub const COOKIE_MSS: [u16; 8] = [216, 536, 1024, 1220, 1360, 1440, 1460, 8960];

/// A cookie is good for one to two of these periods.
const COOKIE_PERIOD_SECS: u64 = 64;

impl Keys {
    /// Derives the keys from the cluster's secret.
    pub fn new(secret: &[u8; 32]) -> Keys {
        let derive = |label: &[u8]| {
            let half = |part: &[u8]| {
                let mut hasher = SipHasher13::new_with_key(part.try_into().expect("16 bytes"));
                hasher.write(label);
                hasher.finish()
            };
            SipHasher13::new_with_keys(half(&secret[..16]), half(&secret[16..]))
        };
        Keys {
            flow: derive(b"flow"),
            isn: derive(b"initial sequence number"),
            timestamp: derive(b"timestamp offset"),
            cookie: derive(b"syn cookie"),
            syn: derive(b"repeated syn"),
        }
    }

    /// The hash under which a flow is found; its top six bits are the shard.
    #[inline]
    pub fn flow_hash(&self, key: &FlowKey) -> u64 {
        hash_key(&self.flow, key, 0)
    }

    /// The initial sequence number of a flow opened at `clock` (RFC 6528: a 4 us clock plus a keyed hash).
    pub fn iss(&self, key: &FlowKey, clock: Instant) -> Seq {
        Seq(hash_key(&self.isn, key, 0) as u32) + (clock.0 / 4_000) as u32
    }

    /// What is added to the group's millisecond clock to give TSval.
    pub fn timestamp_offset(&self, key: &FlowKey) -> u32 {
        hash_key(&self.timestamp, key, 0) as u32
    }

    /// How well a server goes with a client's address: the same on every node, and not to be guessed.
    pub fn server_hash(&self, client: &Address, server: &Address, port: u16) -> u64 {
        let key = FlowKey { remote: *client, local: *server, remote_port: 0, local_port: port };
        hash_key(&self.syn, &key, 1)
    }

    /// A hash of a client's address: the same on every node, and not to be guessed.
    pub fn client_hash(&self, client: &Address) -> u64 {
        let key = FlowKey { remote: *client, ..FlowKey::default() };
        hash_key(&self.syn, &key, 2)
    }

    /// A number out of a hat, the `nth` for a flow.
    pub fn draw(&self, flow: u64, nth: u8) -> u64 {
        hash_key(&self.syn, &FlowKey::default(), flow ^ u64::from(nth) << 56)
    }

    /// The hash under which a SYN is remembered for a while: one that is repeated has the same.
    pub fn syn_hash(&self, key: &FlowKey, irs: Seq) -> u64 {
        hash_key(&self.syn, key, irs.0 as u64)
    }

    /// The initial sequence number that encodes a SYN.
    pub fn cookie(&self, key: &FlowKey, irs: Seq, mss: u16, clock: Instant) -> Seq {
        let index = COOKIE_MSS.iter().rposition(|&m| m <= mss).unwrap_or(0) as u32;
        let period = clock.0 / (COOKIE_PERIOD_SECS * 1_000_000_000);
        Seq((period as u32 & 31) << 27 | index << 24 | self.cookie_hash(key, irs, index, period))
    }

    /// Whether `iss` is a cookie given out for a SYN with `irs`, and what it says.
    pub fn check_cookie(
        &self,
        key: &FlowKey,
        irs: Seq,
        iss: Seq,
        clock: Instant,
    ) -> Option<Cookie> {
        let now = clock.0 / (COOKIE_PERIOD_SECS * 1_000_000_000);
        let age = (now as u32).wrapping_sub(iss.0 >> 27) & 31;
        let period = now.checked_sub(age as u64).filter(|_| age <= 1)?;
        let index = (iss.0 >> 24) & 7;
        let good = self.cookie_hash(key, irs, index, period) == iss.0 & 0xff_ffff;
        good.then(|| Cookie { mss: COOKIE_MSS[index as usize] })
    }

    fn cookie_hash(&self, key: &FlowKey, irs: Seq, index: u32, period: u64) -> u32 {
        let extra = (irs.0 as u64) << 32 ^ (index as u64) << 29 ^ period;
        (hash_key(&self.cookie, key, extra) >> 40) as u32
    }
}

#[inline]
fn hash_key(hasher: &SipHasher13, key: &FlowKey, extra: u64) -> u64 {
    let mut hasher = *hasher;
    let ports = (key.remote_port as u64) << 16 | key.local_port as u64;
    match (key.remote.as_v4(), key.local.as_v4()) {
        (Some(remote), Some(local)) => {
            hasher.write_u32(u32::from_be_bytes(remote));
            hasher.write_u32(u32::from_be_bytes(local));
        }
        _ => {
            hasher.write(&key.remote.0);
            hasher.write(&key.local.0);
        }
    }
    hasher.write_u64(ports ^ extra.rotate_left(32));
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u8) -> FlowKey {
        FlowKey {
            remote: Address::v4([10, 0, 0, n]),
            local: Address::v4([10, 0, 1, 1]),
            remote_port: 4000,
            local_port: 80,
        }
    }

    #[test]
    fn the_same_secret_gives_the_same_choices() {
        let (a, b, c) = (Keys::new(&[1; 32]), Keys::new(&[1; 32]), Keys::new(&[2; 32]));
        let at = Instant(5_000_000_000);
        assert_eq!(a.flow_hash(&key(1)), b.flow_hash(&key(1)));
        assert_ne!(a.flow_hash(&key(1)), a.flow_hash(&key(2)));
        assert_ne!(a.flow_hash(&key(1)), c.flow_hash(&key(1)));
        assert_eq!(a.iss(&key(1), at), b.iss(&key(1), at));
        // RFC 6528: the clock moves the number of one connection on by one every 4 us.
        assert_eq!(a.iss(&key(1), Instant(at.0 + 8_000)), a.iss(&key(1), at) + 2);
        assert_ne!(a.timestamp_offset(&key(1)), a.timestamp_offset(&key(2)));
    }

    #[test]
    fn a_cookie_is_good_for_its_own_syn_and_not_for_ever() {
        let keys = Keys::new(&[1; 32]);
        let at = Instant(1_000_000_000_000);
        let cookie = keys.cookie(&key(1), Seq(77), 1460, at);
        assert_eq!(keys.check_cookie(&key(1), Seq(77), cookie, at), Some(Cookie { mss: 1460 }));
        assert_eq!(keys.check_cookie(&key(2), Seq(77), cookie, at), None);
        assert_eq!(keys.check_cookie(&key(1), Seq(78), cookie, at), None);
        assert_eq!(keys.check_cookie(&key(1), Seq(77), cookie + 1, at), None);
        let later = Instant(at.0 + 63_000_000_000);
        assert!(keys.check_cookie(&key(1), Seq(77), cookie, later).is_some());
        let too_late = Instant(at.0 + 129_000_000_000);
        assert!(keys.check_cookie(&key(1), Seq(77), cookie, too_late).is_none());
        let small = keys.cookie(&key(1), Seq(77), 100, at);
        assert_eq!(keys.check_cookie(&key(1), Seq(77), small, at), Some(Cookie { mss: 216 }));
    }
}
