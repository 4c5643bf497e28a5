//! Values that are written as text: durations, port ranges, MAC addresses, names, secrets.
//!
//! Each parser answers with the value or with half a sentence that says what is wrong; the reader
//! puts it beside the place in the file.

use std::fmt;

use serde::{Serialize, Serializer};
use stack::time::Duration;

/// Ports `first..=last`, never empty.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct PortRange {
    /// The lowest port.
    pub first: u16,
    /// The highest port.
    pub last: u16,
}

/// An Ethernet address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mac(pub [u8; 6]);

/// Units of duration, longest first, in nanoseconds.
const UNITS: [(&str, u64); 6] = [
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

/// Reads "20ms", "60s", "5m", "1h".
pub fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let unit = unit.trim_start();
    if number.is_empty() {
        return Err("a duration is a number and a unit, \"20ms\" for example".into());
    }
    if unit.is_empty() {
        return Err(format!("{number} of what? A duration has a unit: \"{number}s\" for example"));
    }
    let Some((_, nanoseconds)) = UNITS.iter().find(|(name, _)| *name == unit) else {
        return Err(format!("`{unit}` is no unit of time; use us, ms, s, m or h"));
    };
    let number: u64 = number.parse().map_err(|_| "this duration is too long".to_string())?;
    number.checked_mul(*nanoseconds).map(Duration).ok_or("this duration is too long".into())
}

/// Writes a duration in the largest unit that needs no fraction.
pub fn duration_text(duration: Duration) -> String {
    let whole = |&&(_, unit): &&(&str, u64)| duration.0.is_multiple_of(unit) && duration.0 >= unit;
    match UNITS.iter().find(whole) {
        Some((name, unit)) => format!("{}{name}", duration.0 / unit),
        None => "0s".into(),
    }
}

/// Reads "80" or "8000-8010".
pub fn port_range(text: &str) -> Result<PortRange, String> {
    let port = |text: &str| match text.trim().parse::<u16>() {
        Ok(port) if port > 0 => Ok(port),
        _ => Err(format!("`{}` is no port; a port is a number in 1..=65535", text.trim())),
    };
    let (first, last) = match text.split_once('-') {
        Some((first, last)) => (port(first)?, port(last)?),
        None => (port(text)?, port(text)?),
    };
    if first > last {
        return Err(format!("this range is empty: {first} is above {last}"));
    }
    Ok(PortRange { first, last })
}

/// Reads "02:00:5e:00:00:01".
pub fn mac(text: &str) -> Result<Mac, String> {
    let mut octets = [0; 6];
    let mut parts = text.split(':');
    for octet in &mut octets {
        let part = parts.next().filter(|part| part.len() == 2).unwrap_or("");
        *octet = u8::from_str_radix(part, 16)
            .map_err(|_| "a MAC address is six pairs of hex digits, \"02:00:5e:00:00:01\"")?;
    }
    if parts.next().is_some() {
        return Err("a MAC address has six pairs of hex digits, not more".into());
    }
    Ok(Mac(octets))
}

/// A name of letters, digits, `-`, `_` or `.` with at most `max` bytes.
pub fn name(text: &str, max: usize) -> Result<String, String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    match text.chars().find(|&c| !fits(c)) {
        _ if text.is_empty() => Err("a name cannot be empty".into()),
        _ if text.len() > max => Err(format!("a name has {max} bytes at most")),
        Some(c) => Err(format!("a name has letters, digits, `-`, `_` and `.`, not {c:?}")),
        None => Ok(text.into()),
    }
}

/// Reads 64 hex digits, with white space around them.
pub fn secret(text: &str) -> Result<[u8; 32], String> {
    let text = text.trim();
    if text.len() != 64 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(format!("64 hex digits are wanted; the file holds {} bytes", text.len()));
    }
    let mut secret = [0; 32];
    for (i, byte) in secret.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * i..2 * i + 2], 16).map_err(|e| e.to_string())?;
    }
    Ok(secret)
}

impl PortRange {
    /// Whether a port lies in both.
    pub fn overlaps(self, other: PortRange) -> bool {
        self.first <= other.last && other.first <= self.last
    }

    /// Whether `port` lies in it.
    pub fn contains(self, port: u16) -> bool {
        self.first <= port && port <= self.last
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.first == self.last {
            true => write!(f, "{}", self.first),
            false => write!(f, "{}-{}", self.first, self.last),
        }
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl Serialize for PortRange {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for Mac {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_written() {
        for (text, nanoseconds) in
            [("20ms", 20_000_000), ("60 s", 60_000_000_000), ("1h", 3_600_000_000_000), ("0s", 0)]
        {
            assert_eq!(duration(text), Ok(Duration(nanoseconds)), "{text}");
        }
        for text in ["", "s", "20", "20 parsecs", "-1s", "1.5s", "99999999999999999999s", "9e9h"] {
            assert!(duration(text).is_err(), "{text}");
        }
        assert_eq!(duration("18446744073709551615h"), Err("this duration is too long".into()));
        for nanoseconds in [0, 1, 1_000, 1_500_000, 90_000_000_000, 60_000_000_000, u64::MAX] {
            let text = duration_text(Duration(nanoseconds));
            assert_eq!(duration(&text), Ok(Duration(nanoseconds)), "{text}");
        }
        assert_eq!(duration_text(Duration(60_000_000_000)), "1m");
    }

    #[test]
    fn port_ranges_are_read() {
        assert_eq!(port_range("80"), Ok(PortRange { first: 80, last: 80 }));
        assert_eq!(port_range("8000 - 8010"), Ok(PortRange { first: 8000, last: 8010 }));
        for text in ["", "0", "65536", "http", "80-", "-80", "90-80", "1-2-3"] {
            assert!(port_range(text).is_err(), "{text}");
        }
    }

    #[test]
    fn mac_addresses_are_read() {
        assert_eq!(mac("02:00:5e:00:00:0A"), Ok(Mac([2, 0, 0x5e, 0, 0, 10])));
        for text in ["", "02:00:5e:00:00", "02:00:5e:00:00:0A:00", "é:0:0:0:0:0"] {
            assert!(mac(text).is_err(), "{text}");
        }
    }

    #[test]
    fn secrets_are_read() {
        assert_eq!(secret(&format!(" {}\n", "0f".repeat(32))), Ok([0x0f; 32]));
        assert!(secret(&"é".repeat(32)).is_err());
        assert!(secret("0f").is_err());
    }
}
