//! Sequence numbers (RFC 9293 3.4): modulo 2^32, compared only by name.
//!
//! `Seq` has no `PartialOrd`: `a < b` on sequence numbers is a bug that compiles. Two numbers can be
//! compared meaningfully only while they are less than 2^31 apart.

use core::fmt;
use core::ops::{Add, AddAssign, Sub};

/// A 32-bit TCP sequence number.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Seq(pub u32);

impl Seq {
    /// `self < other`, modulo 2^32.
    #[inline]
    pub const fn before(self, other: Seq) -> bool {
        (self.0.wrapping_sub(other.0) as i32) < 0
    }

    /// `self <= other`, modulo 2^32.
    #[inline]
    pub const fn before_eq(self, other: Seq) -> bool {
        (self.0.wrapping_sub(other.0) as i32) <= 0
    }

    /// `self > other`, modulo 2^32.
    #[inline]
    pub const fn after(self, other: Seq) -> bool {
        other.before(self)
    }

    /// `self >= other`, modulo 2^32.
    #[inline]
    pub const fn after_eq(self, other: Seq) -> bool {
        other.before_eq(self)
    }

    /// Bytes from `earlier` to `self`, modulo 2^32. The caller knows that `earlier` is not after `self`.
    #[inline]
    pub const fn since(self, earlier: Seq) -> u32 {
        self.0.wrapping_sub(earlier.0)
    }

    /// Signed distance from `other` to `self`.
    #[inline]
    pub const fn distance(self, other: Seq) -> i32 {
        self.0.wrapping_sub(other.0) as i32
    }

    /// `start <= self < start + len`, modulo 2^32.
    #[inline]
    pub const fn within(self, start: Seq, len: u32) -> bool {
        self.0.wrapping_sub(start.0) < len
    }

    /// The later of two.
    #[inline]
    pub const fn max(self, other: Seq) -> Seq {
        if self.before(other) { other } else { self }
    }

    /// The earlier of two.
    #[inline]
    pub const fn min(self, other: Seq) -> Seq {
        if self.before(other) { self } else { other }
    }
}

impl Add<u32> for Seq {
    type Output = Seq;
    #[inline]
    fn add(self, n: u32) -> Seq {
        Seq(self.0.wrapping_add(n))
    }
}

impl Sub<u32> for Seq {
    type Output = Seq;
    #[inline]
    fn sub(self, n: u32) -> Seq {
        Seq(self.0.wrapping_sub(n))
    }
}

impl AddAssign<u32> for Seq {
    #[inline]
    fn add_assign(&mut self, n: u32) {
        *self = *self + n;
    }
}

impl fmt::Debug for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comparisons_wrap() {
        let a = Seq(u32::MAX - 1);
        let b = a + 4;
        assert_eq!(b, Seq(2));
        assert!(a.before(b) && b.after(a) && a.before_eq(a) && a.after_eq(a));
        assert!(!b.before(a) && !a.before(a));
        assert_eq!(b.since(a), 4);
        assert_eq!(a.distance(b), -4);
        assert!(Seq(1).within(a, 4) && !Seq(2).within(a, 4) && !(a - 1).within(a, 4));
        assert_eq!(a.max(b), b);
        assert_eq!(a.min(b), a);
    }
}
