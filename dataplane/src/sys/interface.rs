//! What the kernel knows of a network interface, asked in the calling thread's network namespace.
//!
//! By ioctl on a socket, not from `/sys`: that shows the namespace in which it was mounted.

use super::{c_string, check};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixDatagram;

/// The index of an interface.
pub fn interface_index(name: &str) -> io::Result<u32> {
    let name = c_string(name)?;
    // SAFETY: `name` is a C string that lives across the call.
    match unsafe { libc::if_nametoindex(name.as_ptr()) } {
        0 => Err(io::Error::last_os_error()),
        index => Ok(index),
    }
}

/// The hardware address of an interface.
pub fn interface_mac(name: &str) -> io::Result<[u8; 6]> {
    let request = ask(name, libc::SIOCGIFHWADDR)?;
    // SAFETY: this request was answered with a hardware address; every bit pattern of one is valid.
    let address = unsafe { request.ifr_ifru.ifru_hwaddr };
    if address.sa_family != libc::ARPHRD_ETHER && address.sa_family != libc::ARPHRD_LOOPBACK {
        return Err(io::Error::from_raw_os_error(libc::EPFNOSUPPORT));
    }
    Ok(std::array::from_fn(|i| address.sa_data[i] as u8))
}

/// The MTU of an interface in bytes, without the Ethernet header.
pub fn interface_mtu(name: &str) -> io::Result<u32> {
    let request = ask(name, libc::SIOCGIFMTU)?;
    // SAFETY: this request was answered with a number.
    let mtu = unsafe { request.ifr_ifru.ifru_mtu };
    Ok(mtu as u32)
}

/// Whether an interface is up and has a link partner. The driver says so at once; the flag that `ip link` shows may
/// lag by a second. May wait while somebody changes interfaces.
pub fn interface_carrier(name: &str) -> io::Result<bool> {
    // `ethtool_value`: command, answer.
    let mut value = [ETHTOOL_GLINK, 0];
    ask_ethtool(name, &mut value)?;
    Ok(value[1] != 0)
}

/// What the link of an interface takes in Mbit/s; `None` if the driver does not know.
pub fn interface_mbits(name: &str) -> io::Result<Option<u32>> {
    // `ethtool_cmd`, 44 bytes: the command comes first, the halves of the speed lie at 12 and 28.
    let mut command = [0; 11];
    command[0] = ETHTOOL_GSET;
    ask_ethtool(name, &mut command)?;
    let mbits = command[7] << 16 | command[3] & 0xffff;
    Ok((mbits != 0 && mbits != u32::MAX && mbits != 0xffff).then_some(mbits))
}

/// The name of an interface's driver.
pub fn interface_driver(name: &str) -> io::Result<String> {
    // `ethtool_drvinfo`, 196 bytes: the command, then 32 bytes of name.
    let mut info = [0; 49];
    info[0] = ETHTOOL_GDRVINFO;
    ask_ethtool(name, &mut info)?;
    let bytes: Vec<u8> = info[1..9].iter().flat_map(|word| word.to_ne_bytes()).collect();
    let driver = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    Ok(String::from_utf8_lossy(driver).into_owned())
}

/// What a NIC does to frames before anybody sees them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Offloads {
    /// Joins segments into one that no client has sent (large receive offload).
    pub joins_segments: bool,
    /// Takes VLAN tags off.
    pub strips_tags: bool,
    /// Deals frames out to the queues by their addresses and ports.
    pub hashes: bool,
}

/// What the NIC behind an interface does to frames.
pub fn interface_offloads(name: &str) -> io::Result<Offloads> {
    // `ethtool_value`: command, answer.
    let mut value = [ETHTOOL_GFLAGS, 0];
    ask_ethtool(name, &mut value)?;
    let has = |bit: u32| value[1] >> bit & 1 == 1;
    Ok(Offloads { joins_segments: has(15), strips_tags: has(8), hashes: has(28) })
}

/// Commands of `linux/ethtool.h`.
const ETHTOOL_GFLAGS: u32 = 0x25;
const ETHTOOL_GSET: u32 = 0x01;
const ETHTOOL_GDRVINFO: u32 = 0x03;
const ETHTOOL_GLINK: u32 = 0x0a;

/// One command about the interface, answered in place: `words` is as long as the kernel takes it for this command.
fn ask_ethtool(name: &str, words: &mut [u32]) -> io::Result<()> {
    let mut request = request(name)?;
    request.ifr_ifru.ifru_data = words.as_mut_ptr().cast();
    let socket = UnixDatagram::unbound()?;
    // SAFETY: the socket is open, `request` names the interface and points at what the command reads and writes.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL as _, &mut request) })?;
    Ok(())
}

/// One `ioctl` about the interface.
fn ask(name: &str, question: libc::c_ulong) -> io::Result<libc::ifreq> {
    let mut request = request(name)?;
    let socket = UnixDatagram::unbound()?;
    // SAFETY: the socket is open, `request` is valid and large enough for the answer.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), question as _, &mut request) })?;
    Ok(request)
}

/// A question about the interface, without its answer.
fn request(name: &str) -> io::Result<libc::ifreq> {
    // SAFETY: `ifreq` is plain data; all zeros is an empty name.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    let name = c_string(name)?;
    let name = name.as_bytes_with_nul();
    if name.len() > request.ifr_name.len() {
        return Err(io::Error::from_raw_os_error(libc::ENODEV));
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name) {
        *to = *from as libc::c_char;
    }
    Ok(request)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_the_loopback_interface() {
        assert!(interface_index("lo").unwrap() > 0);
        assert_eq!(interface_mac("lo").unwrap(), [0; 6]);
        assert!(interface_mtu("lo").unwrap() >= 1280);
        assert!(interface_carrier("lo").unwrap());
        assert!(!interface_offloads("lo").unwrap().joins_segments);
    }

    #[test]
    fn unknown_and_impossible_names_are_errors() {
        for name in ["no-such", "a-name-longer-than-sixteen", "nul\0inside", ""] {
            assert!(interface_index(name).is_err());
            assert!(interface_mac(name).is_err());
            assert!(interface_mtu(name).is_err());
            assert!(interface_carrier(name).is_err());
            assert!(interface_mbits(name).is_err());
            assert!(interface_driver(name).is_err());
            assert!(interface_offloads(name).is_err());
        }
    }
}
