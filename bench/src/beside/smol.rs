//! smoltcp's TCP in a node's place, over the same AF_XDP port: what a stack that was made for other ends does there.
//!
//! ```text
//! port -> burst -> smoltcp's interface -> sockets: web (generated objects), echo, discard -> port
//! ```
//!
//! One thread, which never sleeps, as a busy poll core does not. A frame is copied once on its way in: smoltcp answers while it
//! reads. It knows no superframes, so its frames leave one by one. Ends when it is killed.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::Ipv4Addr;
use std::thread;
use std::time::Instant;

use anyhow::{Context, anyhow, bail};
use dataplane::port::xdp::{XdpConfig, XdpPort, ZeroCopy};
use dataplane::port::{BURST, Port, RxFrame};
use dataplane::sys;
use dataplane::xdp_program::{AttachMode, XdpProgram};
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp::{Socket, SocketBuffer};
use smoltcp::time::Instant as SmolInstant;
use smoltcp::wire::{EthernetAddress, HardwareAddress, IpAddress, IpCidr};
use tools::load::pattern;

use crate::config::{POOL_ADDRESS, SERVICES};

const INTERFACE: &str = "eth0";

/// What it says when it serves.
pub const SERVES: &str = "smoltcp serves";

/// Its address, of all its services.
pub const ADDRESS: &str = POOL_ADDRESS;

/// Connections of each service at once.
const SOCKETS: usize = 4;

/// Bytes that a socket offers to receive, as a node's `receive_buffer`.
const RECEIVE_BYTES: usize = 512 << 10;

/// Bytes that a socket keeps until they are acknowledged: as much as a kernel's client ever offers to take.
const SEND_BYTES: usize = 6 << 20;

/// Chunks of the port's memory, as a node has by itself.
const FRAMES: u32 = 4096;

/// The longest head of a request.
const HEAD_MAX: usize = 4096;

/// The port, and the burst that is being read.
struct Wire {
    port: XdpPort,
    burst: Vec<RxFrame>,
    /// The next of the burst.
    next: usize,
    /// The frame that is being read.
    frame: Vec<u8>,
}

struct Reading<'a>(&'a [u8]);

struct Writing<'a>(&'a mut XdpPort);

impl RxToken for Reading<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, read: F) -> R {
        read(self.0)
    }
}

impl TxToken for Writing<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, bytes: usize, write: F) -> R {
        let (mut write, mut written) = (Some(write), None);
        self.0.stage(|memory| {
            written = write.take().map(|write| write(&mut memory[..bytes]));
            bytes
        });
        // Without room for it the frame is lost, as on a busy wire.
        written.unwrap_or_else(|| (write.take().expect("not called"))(&mut vec![0; bytes]))
    }
}

impl Wire {
    /// Sends what is staged once no more fits into the burst.
    fn make_room(&mut self) {
        if self.port.staged() == BURST {
            self.send();
        }
    }

    fn send(&mut self) {
        if self.port.staged() > 0 && self.port.kick().is_err() {
            self.port.discard();
        }
    }
}

impl Device for Wire {
    type RxToken<'a> = Reading<'a>;
    type TxToken<'a> = Writing<'a>;

    fn receive(&mut self, _: SmolInstant) -> Option<(Reading<'_>, Writing<'_>)> {
        self.make_room();
        let frame = self.burst.get(self.next)?;
        self.next += 1;
        self.frame.clear();
        self.frame.extend_from_slice(self.port.frame(frame));
        Some((Reading(&self.frame), Writing(&mut self.port)))
    }

    fn transmit(&mut self, _: SmolInstant) -> Option<Writing<'_>> {
        self.make_room();
        Some(Writing(&mut self.port))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = self.port.mtu() as usize + 14;
        capabilities
    }
}

/// What a connection is asked for.
enum Asked {
    /// The head of a request, as far as it has come; the object that is being sent.
    Web {
        head: Vec<u8>,
        object: Option<Object>,
    },
    Echo,
    Discard,
}

/// What is left of a generated object.
struct Object {
    seed: u64,
    at: u64,
    end: u64,
}

impl Asked {
    fn of(application: &str) -> anyhow::Result<Asked> {
        Ok(match application {
            "http" => Asked::Web { head: Vec::new(), object: None },
            "echo" => Asked::Echo,
            "discard" => Asked::Discard,
            other => bail!("no application {other:?}"),
        })
    }

    /// Does what can be done now.
    fn serve(&mut self, socket: &mut Socket<'_>) -> anyhow::Result<()> {
        match self {
            Asked::Discard => {
                while socket.can_recv() {
                    socket.recv(|bytes| (bytes.len(), ()))?;
                }
            }
            Asked::Echo => {
                let mut words = [0; 2048];
                while socket.can_recv() && socket.can_send() {
                    let most = words.len().min(socket.send_capacity() - socket.send_queue());
                    let len = socket.recv_slice(&mut words[..most])?;
                    socket.send_slice(&words[..len])?;
                }
            }
            Asked::Web { head, object } => {
                if object.is_none() && socket.can_recv() {
                    socket.recv(|bytes| (bytes.len(), head.extend_from_slice(bytes)))?;
                    *object = requested(head)?;
                    if let Some(Object { end, .. }) = object {
                        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {end}\r\n\r\n");
                        socket.send_slice(answer.as_bytes())?;
                    }
                }
                while let Some(Object { seed, at, end }) = object
                    && socket.can_send()
                {
                    *at += socket.send(|room| {
                        let len = room.len().min((*end - *at) as usize);
                        pattern::fill(*seed, *at, &mut room[..len]);
                        (len, len as u64)
                    })?;
                    if at == end {
                        *object = None;
                    }
                }
            }
        }
        Ok(())
    }
}

/// The object that a whole head asks for ([`tools::load::http::get_generated`]); `None` as long as there is more of it to come.
fn requested(head: &mut Vec<u8>) -> anyhow::Result<Option<Object>> {
    if !head.ends_with(b"\r\n\r\n") {
        return if head.len() > HEAD_MAX { Err(anyhow!("a head without end")) } else { Ok(None) };
    }
    let text = String::from_utf8_lossy(head);
    let path = text.strip_prefix("GET /generate/").and_then(|rest| rest.split(' ').next());
    let numbers = path.and_then(|path| path.split_once("?seed="));
    let (len, seed) = numbers.with_context(|| format!("not understood: {text:?}"))?;
    let object = Object { seed: seed.parse()?, at: 0, end: len.parse()? };
    head.clear();
    Ok(Some(object))
}

/// Serves. Pinned by whoever has started it.
pub fn serve() -> anyhow::Result<()> {
    let address: Ipv4Addr = ADDRESS.parse()?;
    let mut program = XdpProgram::attach(INTERFACE, AttachMode::Auto)?;
    let port = XdpPort::open(&XdpConfig {
        interface: INTERFACE.into(),
        queue: 0,
        frames: FRAMES,
        zero_copy: ZeroCopy::Auto,
        multi_buffer: program.is_multi_buffer(),
        superframes: false,
    })?;
    let ports = SERVICES.map(|(_, _, port, _)| port..=port);
    program.services().lock().set_service(address.into(), &ports)?;
    program.bind_queue(0, port.fd())?;
    let burst = Vec::with_capacity(BURST);
    let mut wire = Wire { port, burst, next: 0, frame: Vec::with_capacity(16 << 10) };

    let mac = EthernetAddress(sys::interface_mac(INTERFACE)?);
    let begun = Instant::now();
    let now = || SmolInstant::from_micros(begun.elapsed().as_micros() as i64);
    let config = Config::new(HardwareAddress::Ethernet(mac));
    let mut interface = Interface::new(config, &mut wire, now());
    let mut is_set = Ok(());
    interface.update_ip_addrs(|all| {
        is_set = all.push(IpCidr::new(IpAddress::Ipv4(address), 24));
    });
    is_set.map_err(|_| anyhow!("no room for an address"))?;

    let mut sockets = SocketSet::new(Vec::new());
    let mut serving: BTreeMap<SocketHandle, (u16, &str, Asked)> = BTreeMap::new();
    for (_, _, port, application) in SERVICES {
        for _ in 0..SOCKETS {
            let [receive, send] =
                [RECEIVE_BYTES, SEND_BYTES].map(|bytes| SocketBuffer::new(vec![0; bytes]));
            let mut socket = Socket::new(receive, send);
            socket.set_nagle_enabled(false);
            let handle = sockets.add(socket);
            serving.insert(handle, (port, application, Asked::of(application)?));
        }
    }
    println!("{SERVES}");
    std::io::stdout().flush()?;
    loop {
        let received = wire.port.receive(&mut wire.burst);
        wire.next = 0;
        interface.poll(now(), &mut wire, &mut sockets);
        wire.port.recycle(&mut wire.burst);
        for (handle, (port, application, asked)) in &mut serving {
            let socket = sockets.get_mut::<Socket<'_>>(*handle);
            if !socket.is_open() {
                socket.listen(*port).map_err(|error| anyhow!("cannot listen: {error}"))?;
                *asked = Asked::of(application)?;
            }
            if socket.can_recv() || (socket.can_send() && matches!(asked, Asked::Web { .. })) {
                asked.serve(socket)?;
            }
            if !socket.may_recv() && socket.may_send() {
                socket.close();
            }
        }
        interface.poll(now(), &mut wire, &mut sockets);
        wire.send();
        if received == 0 {
            thread::yield_now();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tools::load::http::get_generated;

    #[test]
    fn a_request_may_come_in_pieces() {
        let whole = get_generated("10.0.0.1", 5_000, 7, false);
        let mut head = whole[..20].to_vec();
        assert!(requested(&mut head).unwrap().is_none());
        head.extend_from_slice(&whole[20..]);
        let Object { seed, at, end } = requested(&mut head).unwrap().expect("it is whole");
        assert_eq!((seed, at, end, head.len()), (7, 0, 5_000, 0));
        assert!(requested(&mut b"PUT /x HTTP/1.1\r\n\r\n".to_vec()).is_err());
        assert!(requested(&mut vec![b'x'; HEAD_MAX + 1]).is_err());
    }
}
