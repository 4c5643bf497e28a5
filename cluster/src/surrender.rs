//! The end of a life as its guardian tells it: what it waives, and what refutes it.
//!
//! A promise and the wait for a lease guard against one thing: that the owner still speaks. A
//! surrender says that no poll thread of that life is left, so nobody of it can, whatever leases it
//! holds or is still given. It is a statement about a life, not about a group or an epoch, and stays
//! true: a doubled or late one says nothing new.
//!
//! It can be wrong only if it was forged, or if an operator who gives his word for it (`agent/dead.rs`) errs. Then a living core is heard again, long after it: the
//! longest promise is `patience` enough, since every lease of before has run out by then and all
//! that the surrender waived has been waived. From there on it counts no more.
//!
//! Spec: PROTOCOL.md.

use stack::time::{Duration, Instant};

/// A surrender that was heard and believed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ended {
    /// When that life had ended, on the clock of its machine.
    pub said: Instant,
    /// When it was heard, on the clock of this one.
    pub heard: Instant,
}

impl Ended {
    /// Whether something that the same life sent at `sent`, on its clock, shows that it has not
    /// ended.
    pub fn is_refuted_by(&self, sent: Instant, patience: Duration) -> bool {
        sent > self.said + patience
    }
}
