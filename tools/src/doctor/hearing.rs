//! Which ways of hearing work here: whether what a client sends to the owner reaches this host as well.
//!
//! A next hop is made to send a frame to a hardware address of our choice: an ARP probe wants its answer there
//! (`dataplane::arp_probe`). If the answer arrives here too, whatever is sent to that address does. The same hop is
//! asked for an answer to our own address right behind it: when that one has come and the other has not, on the same
//! way, it will not.
//!
//! ```text
//!   who has HOP? answer to M --> hop -- answer to M -->  switch -- floods, repeats, or not --> here?
//! ```
//!
//! M is an address that nobody has (flooded), one of a group, or the owner's (a hub, a mirror port). What the switch
//! does when the owner's port goes down is not probed: that would cut the owner off.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use dataplane::arp_probe::{Answer, probe};
use dataplane::config::{self, Service, Snoop};
use dataplane::control::status::Status;
use dataplane::sys::{self, ArpSocket, ServiceMacs};
use dataplane::{client_path, random};

use super::{Level, Patient};

/// Questions about each way: an answer that somebody else has asked for may pass for ours once.
const ROUNDS: usize = 4;
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(1);

/// Looks at every way.
pub fn look(patient: &mut Patient<'_>) {
    let is_wanted = patient.config.hears();
    if patient.passive {
        patient.find("hearing", Level::Note, "not tried: no probe is sent (--passive)");
    } else {
        match Prober::new(patient) {
            Ok(prober) => ways(patient, prober, is_wanted),
            Err(why) => patient.find("hearing", Level::Note, format!("not tried: {why}")),
        }
    }
    let says = "not probed: what the switch does when the owner's port goes down; most forget what they had learnt of it \
                and flood, which needs nothing set up";
    patient.find("hearing: port down", Level::Note, says);
    told(patient);
}

fn ways(patient: &mut Patient<'_>, mut prober: Prober, is_wanted: bool) {
    let configured = |is_group: bool| {
        let macs = patient.config.services.iter().filter_map(|service| service.mac);
        macs.map(|mac| mac.0).find(|mac| is_group == (mac[0] & 1 == 1))
    };
    // A unicast address of a service may have been a source elsewhere: one that nobody can have had tells of the switch.
    let flooded = random::bytes::<5>().map(|tail| [2, tail[0], tail[1], tail[2], tail[3], tail[4]]);
    let group = configured(true).unwrap_or([3, 0, 0x5e, 0, 1, 1]);
    let owner = prober.owner(patient);
    let ways = [
        (
            "hearing: flooded",
            flooded.map_err(|error| error.to_string()),
            "arp = \"virtual-mac\" with an address of its own",
        ),
        (
            "hearing: group",
            Ok(group),
            "arp = \"virtual-mac\" with the address of a group, such as 03:...",
        ),
        ("hearing: hub or mirror", owner, "nothing but snoop = \"wire\""),
    ];
    let mut works = false;
    for (topic, mac, setup) in ways {
        let (level, says) = match mac.map(|mac| prober.hears(mac)) {
            Ok(Some(true)) => {
                (Level::Ok, format!("works: what is sent there arrives here too; it needs {setup}"))
            }
            Ok(Some(false)) => {
                (Level::Note, "does not work: what is sent there does not arrive here".to_string())
            }
            Ok(None) => (Level::Note, "cannot tell: no next hop answers".to_string()),
            Err(why) => (Level::Note, format!("not probed: {why}")),
        };
        works |= level == Level::Ok;
        patient.find(topic, level, says);
    }
    if is_wanted && !works {
        let says = "a service has snoop = \"wire\", and no way that was probed works here: a request that was on the wire \
                    when the owner dies waits for its client's timer";
        patient.find("hearing", Level::Warning, says);
    }
}

/// What the running node hears.
fn told(patient: &mut Patient<'_>) {
    let Some(status) = &patient.running else { return };
    let wants = |name: &str| {
        patient
            .config
            .services
            .iter()
            .any(|service| service.name == name && service.snoop == Snoop::Wire)
    };
    let heard = status.groups.iter().filter(|group| wants(&group.service));
    let heard: Vec<_> =
        heard.filter_map(|group| Some((group.service.clone(), group.hears_percent?))).collect();
    for (service, percent) in heard {
        let level = if percent == 0 { Level::Warning } else { Level::Ok };
        let says = format!("of what clients send to {service} the running node hears {percent} %");
        patient.find("hearing", level, says);
    }
}

/// The hardware address of another node that owns a service, as it has declared it.
fn declared_owner(status: &Status, services: &[Service]) -> Option<[u8; 6]> {
    let others = status.groups.iter().filter(|group| group.owner != Some(status.node));
    let owners = others.filter_map(|group| {
        group.declared.iter().find(|declared| Some(declared.node) == group.owner)
    });
    let macs = owners.flat_map(|declared| &declared.macs);
    let is_a_services =
        |mac: &[u8; 6]| services.iter().any(|it| it.mac.is_some_and(|it| it.0 == *mac));
    macs.filter_map(|mac| config::mac(mac).ok()).map(|mac| mac.0).find(|mac| !is_a_services(mac))
}

/// Asks next hops.
struct Prober {
    socket: ArpSocket,
    mac: [u8; 6],
    hops: Vec<Ipv4Addr>,
    _everything: ServiceMacs,
}

impl Prober {
    fn new(patient: &Patient<'_>) -> Result<Prober, String> {
        let interface = &patient.config.interfaces.client;
        let hops =
            interface.next_hops.iter().copied().take(client_path::HOPS_MAX).collect::<Vec<_>>();
        if hops.is_empty() {
            return Err("[interfaces] client names no next_hops, and somebody has to answer".into());
        }
        let name = &interface.name;
        let unusable = |error: std::io::Error| format!("{name}: {error}");
        Ok(Prober {
            socket: ArpSocket::open(name).map_err(unusable)?,
            mac: sys::interface_mac(name).map_err(unusable)?,
            hops,
            _everything: ServiceMacs::accept(name, std::iter::empty(), true).map_err(unusable)?,
        })
    }

    /// Whether what is sent to `mac` arrives here; `None` if no next hop answers at all.
    fn hears(&mut self, mac: [u8; 6]) -> Option<bool> {
        let mut answered = false;
        for hop in self.hops.clone() {
            for _ in 0..ROUNDS {
                self.ask(mac, hop);
                self.ask(self.mac, hop);
                let mut others = false;
                let own = self.answer(|answer| {
                    others |= answer.to == mac && answer.address == hop;
                    answer.to == self.mac && answer.address == hop
                });
                if others {
                    return Some(true);
                }
                answered |= own.is_some();
            }
        }
        answered.then_some(false)
    }

    /// The hardware address of whoever serves, or why it is not known.
    fn owner(&mut self, patient: &Patient<'_>) -> Result<[u8; 6], String> {
        let services = &patient.config.services;
        let all = services.iter().flat_map(|service| &service.addresses);
        let mut address = all.filter_map(|address| match address {
            IpAddr::V4(address) => Some(*address),
            IpAddr::V6(_) => None,
        });
        let address = address.next().ok_or("no service has an IPv4 address")?;
        // The owner speaks now: the switch knows where it is.
        self.ask(self.mac, address);
        if let Some(status) = &patient.running {
            // What is said for the services' addresses goes to that node, not here; but it knows whom it hears.
            return declared_owner(status, services).ok_or_else(|| {
                "no other node owns a service here whose address has its own node's hardware address".into()
            });
        }
        let answer = self.answer(|answer| answer.address == address);
        // What the answer came from, not what it says: the address of the service may be nobody's.
        answer.map(|answer| answer.from).ok_or_else(|| {
            format!("no other host answers for {address}: start the owner's node first, and run this beside it")
        })
    }

    fn ask(&self, answer_to: [u8; 6], address: Ipv4Addr) {
        // A question that cannot be sent is one without an answer.
        let _ = self.socket.send(&probe(self.mac, answer_to, address));
    }

    /// The first answer for which `is_it`; `None` if none comes in time.
    fn answer(&self, mut is_it: impl FnMut(&Answer) -> bool) -> Option<Answer> {
        let limit = Instant::now() + PATIENCE;
        let mut buffer = [0; 64];
        loop {
            while let Some(frame) = self.socket.receive(&mut buffer) {
                let answer = Answer::read(frame);
                if let Some(answer) = answer.filter(|answer| is_it(answer)) {
                    return Some(answer);
                }
            }
            let left = limit.checked_duration_since(Instant::now())?;
            let _ = sys::wait_readable(&[self.socket.fd()], left.as_nanos() as u64);
        }
    }
}
