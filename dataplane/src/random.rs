//! Random numbers from the kernel: incarnations and keys. Never on the segment path.

use crate::sys;
use cluster::id::Incarnation;
use std::io;

/// A new incarnation: random and not zero.
pub fn incarnation() -> io::Result<Incarnation> {
    loop {
        let number = u64::from_ne_bytes(bytes()?);
        if number != 0 {
            return Ok(Incarnation(number));
        }
    }
}

/// `N` random bytes.
pub fn bytes<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    sys::fill_random(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn incarnations_differ() {
        assert_ne!(incarnation().unwrap(), incarnation().unwrap());
        assert_ne!(bytes::<32>().unwrap(), [0; 32]);
    }
}
