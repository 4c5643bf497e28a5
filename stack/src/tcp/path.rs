//! The path MTU of a flow: how large a segment may be beside what was agreed on.
//!
//! Every packet of ours has DF set, so a router that cannot pass one on drops it and says what would fit. The
//! flow's segments become that small, and what is in flight and larger is sent again in pieces at once. It is
//! local state: a promoted flow learns it again. After ten minutes the flow tries what its own link takes.
//!
//! An error is easily forged, and a forged one would cost throughput, so it is believed only if it quotes what is
//! in flight (RFC 5927 4.1), names less than the quoted packet had (5927 7.2), no less than any path must take,
//! and if there were not many before it.
//!
//! Spec: RFC 1191, RFC 8201, RFC 5927. Left out: discovery without ICMP (RFC 4821, 8899). An IPv4 path below the
//! floor is not served: DF stays set.
//! Bounds: [`PATH_CHANGES_MAX`] changes until the path is tried anew, each of which looks at the flow's flight
//! once.
//! Units: bytes; an MTU counts the IP header, an MSS does not (RFC 6691).

use crate::drop::Drop;
use crate::flow::{Env, Flow};
use crate::limits::{PATH_CHANGES_MAX, PATH_MTU_AGE_SECS, PATH_MTU_LEAST, PATH_MTU_LEAST_6};
use crate::seq::Seq;
use crate::time::Instant;

/// RFC 1191 7: the sizes that links have, for routers that do not say.
const PLATEAUS: [u32; 11] = [65535, 32000, 17914, 8166, 4352, 2002, 1492, 1006, 508, 296, 68];

impl Flow {
    /// The largest segment that may be sent now, options counted.
    #[inline]
    pub(super) fn mss(&self) -> u16 {
        match self.local.path_mss {
            0 => self.contract.options.mss,
            path => path.min(self.contract.options.mss),
        }
    }

    /// Whether a segment of ours that begins at `seq` may be on its way.
    pub(crate) fn has_in_flight(&self, seq: Seq) -> bool {
        seq.after_eq(self.local.snd_una) && seq.before(self.local.snd_nxt)
    }

    /// A packet of `quoted_bytes` did not fit into a link that takes `mtu` bytes, or 0 if nobody knows.
    pub(crate) fn handle_too_big(
        &mut self,
        now: Instant,
        env: &mut Env,
        mtu: u32,
        quoted_bytes: u32,
    ) -> Result<(), Drop> {
        let is_v4 = self.key.remote.as_v4().is_some();
        let mtu = match mtu {
            0 if is_v4 => plateau_below(quoted_bytes),
            mtu => mtu,
        };
        // RFC 8201 4: less than IPv6 asks of every link is no news but a forgery.
        let is_possible = is_v4 || mtu >= PATH_MTU_LEAST_6;
        let header_bytes = self.key.remote.header_bytes() as u32 + 20;
        let mss = mtu.max(PATH_MTU_LEAST).saturating_sub(header_bytes);
        if !is_possible || mtu >= quoted_bytes || mss >= self.mss() as u32 {
            return Err(Drop::IcmpRefused);
        }
        if self.local.path_changes >= PATH_CHANGES_MAX {
            return Err(Drop::IcmpRefused);
        }
        self.local.path_changes += 1;
        self.local.path_since_secs = seconds(now);
        self.local.path_mss = mss as u16;
        self.sender.handle_smaller_path(now, &mut env.senders, self.payload_max());
        Ok(())
    }

    /// RFC 1191 6.3: a route may have changed for the better.
    #[inline]
    pub(super) fn age_path(&mut self, now: Instant, env: &mut Env) {
        if self.local.path_mss == 0 {
            return;
        }
        if seconds(now).wrapping_sub(self.local.path_since_secs) >= PATH_MTU_AGE_SECS {
            (self.local.path_mss, self.local.path_changes) = (0, 0);
            let mss = self.payload_max();
            self.sender.handle_mss(&mut env.senders, mss);
        }
    }

    /// Payload of a full segment on this path.
    pub(super) fn payload_max(&self) -> u16 {
        let options = crate::tcp::contract::Options { mss: self.mss(), ..self.contract.options };
        options.payload_max()
    }
}

/// The largest size that a link may have which did not take `bytes`.
fn plateau_below(bytes: u32) -> u32 {
    PLATEAUS.into_iter().find(|&plateau| plateau < bytes).unwrap_or(PATH_MTU_LEAST)
}

/// Seconds modulo 2^16: a flow that sleeps for 18 hours may keep its path MTU ten minutes longer.
fn seconds(now: Instant) -> u16 {
    (now.millis() / 1_000) as u16
}
