//! One byte range of a representation.
//!
//! Spec: RFC 9110 14.1.2, 14.2. Several ranges at once are not served: such a header is ignored, as
//! the specification allows, and so is one that cannot be read.

/// What a `Range` header asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Selection {
    /// Everything.
    Whole,
    /// From `first` to `last`, both included, both within the representation.
    Part {
        /// The first byte.
        first: u64,
        /// The last byte.
        last: u64,
    },
    /// Nothing that exists (416).
    Unsatisfiable,
}

/// Reads the value of a `Range` header for a representation of `len` bytes.
pub fn select(value: &[u8], len: u64) -> Selection {
    read(value, len).unwrap_or(Selection::Whole)
}

fn read(value: &[u8], len: u64) -> Option<Selection> {
    let (unit, range) = value.split_at_checked(6)?;
    if !unit.eq_ignore_ascii_case(b"bytes=") {
        return None;
    }
    let range = range.trim_ascii();
    let dash = range.iter().position(|byte| *byte == b'-')?;
    let (first, last) = (&range[..dash], &range[dash + 1..]);
    if first.is_empty() {
        let suffix = decimal(last)?;
        if suffix == 0 || len == 0 {
            return Some(Selection::Unsatisfiable);
        }
        return Some(Selection::Part { first: len - suffix.min(len), last: len - 1 });
    }
    let first = decimal(first)?;
    let last = if last.is_empty() { u64::MAX } else { decimal(last)? };
    if last < first {
        return None;
    }
    if first >= len {
        return Some(Selection::Unsatisfiable);
    }
    Some(Selection::Part { first, last: last.min(len - 1) })
}

/// Digits only, at least one; a number beyond `u64` counts as the largest.
pub fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let push = |n: u64, digit: &u8| n.saturating_mul(10).saturating_add(u64::from(digit - b'0'));
    Some(digits.iter().fold(0, push))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closed_open_and_suffix_ranges() {
        let part = |first, last| Selection::Part { first, last };
        assert_eq!(select(b"bytes=0-0", 10), part(0, 0));
        assert_eq!(select(b"bytes=2-5", 10), part(2, 5));
        assert_eq!(select(b"BYTES=2-", 10), part(2, 9));
        assert_eq!(select(b"bytes=-3", 10), part(7, 9));
        assert_eq!(select(b"bytes=-30", 10), part(0, 9));
        assert_eq!(select(b"bytes=5-99999999999999999999999", 10), part(5, 9));
    }

    #[test]
    fn what_does_not_exist_is_unsatisfiable() {
        for value in [&b"bytes=10-"[..], b"bytes=10-12", b"bytes=-0"] {
            assert_eq!(select(value, 10), Selection::Unsatisfiable);
        }
        assert_eq!(select(b"bytes=0-", 0), Selection::Unsatisfiable);
        assert_eq!(select(b"bytes=-1", 0), Selection::Unsatisfiable);
    }

    #[test]
    fn what_cannot_be_read_is_ignored() {
        let values: [&[u8]; 9] = [
            b"",
            b"bytes=",
            b"bytes=-",
            b"bytes=5-2",
            b"bytes=1-2,4-5",
            b"bytes=a-b",
            b"bytes=+1-2",
            b"lines=1-2",
            b"bytes 1-2",
        ];
        for value in values {
            assert_eq!(select(value, 10), Selection::Whole, "{value:?}");
        }
    }
}
