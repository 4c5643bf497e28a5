//! Leases and promises: until when a node may speak, and until when another has sworn not to.
//!
//! The owner's lease runs from the moment at which it *sent* its request, on its own clock; the
//! lessor's promise runs from the moment at which it *received* that request, on its own clock, and
//! is longer: `promise = lease x (1 + 2 x drift) + guard`. So when a promise has run out the lease
//! that it answered has run out too, whatever the network did between. The length of the lease
//! travels in the request, so a node that stretches its leases (see [`Timers::adaptive`]) stretches
//! the promises too.
//!
//! Units: nanoseconds of each node's own clock; drift in parts per million between two clocks.

use crate::id::Member;
use stack::time::{Duration, Instant};

/// Every time constant of the ownership machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timers {
    /// Period of heartbeats; each carries the renewal requests.
    pub heartbeat: Duration,
    /// Lease that an owner asks from its in-sync peer.
    pub lease: Duration,
    /// What a promise is longer than its lease, beside the drift.
    pub guard: Duration,
    /// How long a core may make no progress before the agent is told that it is stuck.
    pub stuck: Duration,
    /// Silence of the in-sync peer after which the owner asks to be alone.
    pub peer_silent: Duration,
    /// Lease that an owner which is alone asks from the arbiter.
    pub alone_lease: Duration,
    /// Most that two clocks may differ in speed, in parts per million.
    pub drift_ppm: u32,
    /// Whether leases stretch to three times the largest gap that this node saw in ten minutes.
    pub adaptive: bool,
    /// Most that a lease may stretch to.
    pub adaptive_cap: Duration,
}

impl Timers {
    /// For poll cores of their own, isolated from the scheduler.
    pub const fn isolated() -> Timers {
        Timers::preset(2, 20, 5, 50, 100)
    }

    /// For machines whose cores are shared with other work.
    pub const fn bed() -> Timers {
        Timers::preset(2, 25, 5, 150, 150)
    }

    /// For machines that are overloaded on purpose.
    pub const fn ci() -> Timers {
        Timers::preset(5, 100, 20, 400, 400)
    }

    /// All in milliseconds: heartbeat, lease, guard, stuck, silent.
    const fn preset(heartbeat: u64, lease: u64, guard: u64, stuck: u64, silent: u64) -> Timers {
        Timers {
            heartbeat: Duration::from_millis(heartbeat),
            lease: Duration::from_millis(lease),
            guard: Duration::from_millis(guard),
            stuck: Duration::from_millis(stuck),
            peer_silent: Duration::from_millis(silent),
            alone_lease: Duration::from_millis(2_000),
            drift_ppm: 200,
            adaptive: true,
            adaptive_cap: Duration::from_millis(500),
        }
    }

    /// The promise that answers a request for `lease`.
    pub const fn promise(&self, lease: Duration) -> Duration {
        let drift = lease.0 / 1_000_000 * 2 * self.drift_ppm as u64 + 2 * self.drift_ppm as u64;
        Duration(lease.0.saturating_add(drift).saturating_add(self.guard.0))
    }

    /// The longest lease that anybody may ask for.
    pub fn longest_lease(&self) -> Duration {
        self.alone_lease.max(self.lease).max(self.adaptive_cap)
    }

    /// The longest promise that anybody can have given.
    pub fn longest_promise(&self) -> Duration {
        self.promise(self.longest_lease())
    }

    /// After this long without a word from a peer that had the right to take over, the arbiter
    /// takes it for dead (only if the owner is known dead).
    pub fn forsaken(&self) -> Duration {
        Duration(3 * self.longest_promise().0)
    }

    /// Silence of its in-sync peer after which an owner whose leases are of this length asks to be alone, at the earliest.
    pub fn patience(&self, lease: Duration) -> Duration {
        if !self.adaptive {
            return self.peer_silent;
        }
        // The owner waits longer than the peer's promise lasts, so that the peer has the first word.
        self.peer_silent.max(Duration(self.promise(lease).0 + 2 * self.heartbeat.0))
    }

    /// The values in force on a node whose largest gap was `gap`.
    pub fn effective(&self, gap: Duration) -> Timers {
        if !self.adaptive {
            return *self;
        }
        let floor = Duration(gap.0.saturating_mul(3)).min(self.adaptive_cap);
        let lease = self.lease.max(floor);
        Timers { lease, peer_silent: self.patience(lease).max(floor), ..*self }
    }
}

/// Who gave the lease that an owner holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Lessor {
    /// Nobody.
    #[default]
    Nobody,
    /// The node itself: no arbiter, and the configuration names it as survivor.
    Own,
    /// The arbiter.
    Arbiter,
    /// The in-sync peer, or the configured survivor.
    Node(Member),
}

/// The right of an owner to transmit.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Lease {
    until: Instant,
    from: Lessor,
}

impl Lease {
    /// Until when the holder may transmit, on its own clock; zero is never.
    pub fn until(&self) -> Instant {
        self.until
    }

    /// Who gave it.
    pub fn from(&self) -> Lessor {
        self.from
    }

    /// Takes a grant of `length` for a request sent at `sent`. Returns whether the lease now runs
    /// under `from` and did not before.
    ///
    /// Another lessor's grant replaces the lease only if it is in force, and then wholly: what the
    /// former lessor gave is never used again, even if it would have lasted longer.
    pub fn renew(&mut self, now: Instant, from: Lessor, sent: Instant, length: Duration) -> bool {
        let until = sent + length;
        if sent > now || until <= now {
            return false;
        }
        if self.from == from {
            self.until = self.until.max(until);
            return false;
        }
        *self = Lease { until, from };
        true
    }

    /// Never uses the lease beyond `until`.
    pub fn cap(&mut self, until: Instant) {
        self.until = self.until.min(until);
    }

    /// Gives the right up, at once.
    pub fn drop_now(&mut self) {
        *self = Lease::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_keep_their_order() {
        for timers in [Timers::isolated(), Timers::bed(), Timers::ci()] {
            assert!(timers.heartbeat.0 * 4 < timers.lease.0);
            assert!(timers.promise(timers.lease) > timers.lease);
            assert!(timers.promise(timers.lease) < timers.peer_silent);
            assert!(timers.lease < timers.alone_lease);
        }
    }

    #[test]
    fn a_promise_outlasts_its_lease_on_the_fastest_clock() {
        let timers = Timers::bed();
        for lease in [timers.lease, timers.alone_lease, timers.adaptive_cap] {
            // The owner's clock is slow by all the drift: its lease lasts longer in true time.
            let stretched = lease.0 + lease.0 / 1_000_000 * u64::from(timers.drift_ppm);
            assert!(timers.promise(lease).0 > stretched);
        }
    }

    #[test]
    fn gaps_stretch_the_lease_up_to_the_cap() {
        let timers = Timers::bed();
        assert_eq!(timers.effective(Duration::from_millis(1)).lease, timers.lease);
        assert_eq!(timers.effective(Duration::from_millis(40)).lease, Duration::from_millis(120));
        assert_eq!(timers.effective(Duration::from_secs(9)).lease, timers.adaptive_cap);
        let fixed = Timers { adaptive: false, ..timers };
        assert_eq!(fixed.effective(Duration::from_secs(9)), fixed);
    }

    #[test]
    fn a_new_lessor_replaces_the_old_wholly_and_only_when_in_force() {
        let ms = |n: u64| Instant(n * 1_000_000);
        let peer = Lessor::Node(Member::default());
        let mut lease = Lease::default();
        assert!(lease.renew(ms(10), Lessor::Arbiter, ms(9), Duration::from_millis(2_000)));
        assert!(!lease.renew(ms(100), peer, ms(50), Duration::from_millis(25)));
        assert_eq!(lease.until(), ms(2_009));
        assert!(lease.renew(ms(100), peer, ms(98), Duration::from_millis(25)));
        assert_eq!(lease.until(), ms(123));
        assert!(!lease.renew(ms(101), peer, ms(97), Duration::from_millis(25)));
        assert_eq!(lease.until(), ms(123));
        assert!(!lease.renew(ms(101), peer, ms(102), Duration::from_millis(25)));
        lease.drop_now();
        assert_eq!(lease.until(), Instant::ZERO);
    }
}
