//! The path between a node and its clients: how good it is, and for how long it has been so.
//!
//! Every node measures its own path and says in each heartbeat how it stands ([`Health`]); an owner whose path is
//! worse than its in-sync peer's hands over. A link that flaps must not make ownership flap, so a path is believed
//! only when it has stayed as it is for a while, and that while doubles with every time that it became worse within
//! ten minutes ([`Path::settled_for`]). A path that nobody has measured is neither good nor bad: nothing follows from it.
//!
//! Bounds: [`DIPS_MAX`] moments; the while is doubled at most so often.

use alloc::collections::VecDeque;
use stack::time::{Duration, Instant};

/// For so long an owner's path must have been worse before anything follows: shorter than any client's patience,
/// longer than a port that is being set up anew.
pub const WORSE_FOR: Duration = Duration::from_millis(100);

/// Times that a path became worse that are remembered.
pub const DIPS_MAX: usize = 8;

/// For how long they are.
const DIPS_REMEMBERED: Duration = Duration::from_secs(600);

/// The quality of a path on which nothing is missing.
const WHOLE: u16 = 1_000;

/// How a node reaches its clients, as it has measured.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Health {
    /// Whether the client-side interface has a carrier; `None` if nobody has looked yet.
    pub carrier: Option<bool>,
    /// Next hops that are asked for a sign of life.
    pub hops: u8,
    /// How many of these have answered lately.
    pub answering: u8,
    /// Milliseconds since a frame for a service came in; `u32::MAX` if none ever did. Shown, and nothing follows from it:
    /// a service may have nothing to do.
    pub silent_ms: u32,
}

impl Health {
    /// From 0, dark, to 1000; `None` if it was not measured.
    pub fn quality(&self) -> Option<u16> {
        match (self.carrier?, self.hops) {
            (false, _) => Some(0),
            (true, 0) => Some(WHOLE),
            (true, hops) => {
                let answering = u32::from(self.answering.min(hops));
                Some((u32::from(WHOLE) * answering / u32::from(hops)) as u16)
            }
        }
    }

    /// Whether no client can be reached.
    pub fn is_dark(&self) -> bool {
        self.quality() == Some(0)
    }
}

/// A path over time.
#[derive(Clone, Debug, Default)]
pub struct Path {
    health: Health,
    since: Instant,
    dips: VecDeque<Instant>,
}

impl Path {
    /// The path as it was measured last.
    pub fn health(&self) -> Health {
        self.health
    }

    /// It was measured. What happened to the quality counts, not to the rest.
    pub fn note(&mut self, now: Instant, health: Health) {
        let (before, after) = (self.health.quality(), health.quality());
        self.health = health;
        if before == after {
            return;
        }
        self.since = now;
        if before.is_some() && after.is_some() && after < before {
            if self.dips.len() == DIPS_MAX {
                self.dips.pop_front();
            }
            self.dips.push_back(now);
        }
    }

    /// How often it became worse lately.
    pub fn dips(&self, now: Instant) -> u32 {
        self.dips.iter().filter(|at| now.since(**at) < DIPS_REMEMBERED).count() as u32
    }

    /// Whether it has been as it is for `span`, doubled for each time that it became worse lately.
    pub fn settled_for(&self, now: Instant, span: Duration) -> bool {
        now.since(self.since) >= Duration(span.0 << self.dips(now))
    }

    /// Whether this path of an owner has long enough been worse than the path of its peer, which has long enough been
    /// better: the owner had better hand over.
    pub fn is_worse_than(&self, now: Instant, other: &Path) -> bool {
        let worse = match (self.health.quality(), other.health.quality()) {
            (Some(own), Some(others)) => own < others,
            _ => false,
        };
        worse && now.since(self.since) >= WORSE_FOR && other.settled_for(now, WORSE_FOR)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UP: Health = Health { carrier: Some(true), hops: 0, answering: 0, silent_ms: 0 };
    const DOWN: Health = Health { carrier: Some(false), ..UP };

    fn hops(answering: u8) -> Health {
        Health { hops: 2, answering, ..UP }
    }

    fn ms(n: u64) -> Instant {
        Instant(1_000_000_000 + n * 1_000_000)
    }

    fn path(health: Health) -> Path {
        let mut path = Path::default();
        path.note(ms(0), health);
        path
    }

    #[test]
    fn quality_is_a_share_of_what_was_asked_for() {
        let all = [Health::default(), DOWN, hops(0), hops(1), hops(2), UP];
        let expected = [None, Some(0), Some(0), Some(500), Some(1000), Some(1000)];
        assert_eq!(all.map(|health| health.quality()), expected);
        assert!(hops(0).is_dark() && DOWN.is_dark() && !Health::default().is_dark());
    }

    /// As many as a heartbeat can say.
    #[test]
    fn quality_is_a_share_of_however_many_hops_another_node_says() {
        let said = |answering| Health { hops: 255, answering, ..UP }.quality();
        assert_eq!([0, 51, 66, 255].map(said), [0, 200, 258, 1000].map(Some));
    }

    #[test]
    fn nothing_follows_from_what_nobody_measured_or_what_is_equal() {
        for (own, other) in [(Health::default(), UP), (DOWN, Health::default()), (DOWN, DOWN)] {
            assert!(!path(own).is_worse_than(ms(10_000), &path(other)), "{own:?} {other:?}");
        }
        assert!(path(hops(1)).is_worse_than(ms(10_000), &path(hops(2))));
        assert!(!path(hops(2)).is_worse_than(ms(10_000), &path(hops(1))));
    }

    #[test]
    fn a_short_dip_is_no_reason() {
        let (mut own, other) = (path(UP), path(UP));
        own.note(ms(1_000), DOWN);
        assert!(!own.is_worse_than(ms(1_099), &other));
        assert!(own.is_worse_than(ms(1_100), &other));
        own.note(ms(1_100), UP);
        assert!(!own.is_worse_than(ms(1_101), &other));
    }

    #[test]
    fn a_path_that_flaps_is_believed_later_each_time() {
        let (own, mut other) = (path(DOWN), path(UP));
        for n in 1..=3 {
            other.note(ms(n * 1_000), DOWN);
            other.note(ms(n * 1_000 + 10), UP);
        }
        assert_eq!(other.dips(ms(4_000)), 3);
        assert!(!own.is_worse_than(ms(3_010 + 799), &other));
        assert!(own.is_worse_than(ms(3_010 + 800), &other));
        // The number of doublings is bounded, and ten minutes later all is forgotten.
        for n in 0..100 {
            other.note(ms(5_000 + 2 * n), DOWN);
            other.note(ms(5_001 + 2 * n), UP);
        }
        assert_eq!(other.dips(ms(6_000)), DIPS_MAX as u32);
        assert!(other.settled_for(ms(5_199) + Duration(WORSE_FOR.0 << DIPS_MAX), WORSE_FOR));
        assert_eq!(other.dips(ms(606_000)), 0);
    }
}
