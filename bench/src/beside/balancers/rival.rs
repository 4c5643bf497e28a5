//! Who balances, and how each is set up: the same four ports, the same server behind each.

use std::fmt::Write;
use std::fs;
use std::net::SocketAddrV4;
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use serde::Serialize;
use tools::demo::bed::SERVERS_ADDRESS;

use crate::config::PROXIED;

/// Where the node's kernel is, for balancers that use it.
const NODE_ADDRESS: &str = "10.88.0.11";

/// Connections that a proxy of the kernel may hold: each takes two descriptors.
const CONNECTIONS_MAX: u32 = 9_000;

/// Configuration of HAProxy, of nginx before the server, and of the server of small pages.
const HAPROXY_FILE: &str = "haproxy.cfg";
const NGINX_FILE: &str = "nginx-stream.conf";
pub const PAGES_FILE: &str = "nginx-pages.conf";

/// Who balances.
#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rival {
    /// Nobody: clients talk to the server.
    Direct,
    /// HAProxy in TCP mode, one thread.
    Haproxy,
    /// nginx with its stream module, one worker.
    Nginx,
    /// The kernel's NAT, which ends no connection, and conntrackd: only of interest when a machine dies.
    Nat,
    /// One node of ours without a peer.
    Alone,
    /// A pair of ours.
    Mirrored,
    /// A pair of ours that acknowledges early and mirrors payload (`ack = "held"`).
    Held,
    /// A pair of ours whose cluster link is not sealed.
    Unsealed,
    /// A pair of ours whose peer hears the clients (`snoop = "wire"`): only of interest when a machine dies.
    Hearing,
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// Generated objects; uploads are answered with their hash.
    Objects,
    /// Every byte comes back.
    Echo,
    /// Every byte is forgotten.
    Discard,
    /// Small pages.
    Pages,
}

impl Rival {
    /// All, in the order of their turns.
    pub const ALL: [Rival; 9] = [
        Rival::Direct,
        Rival::Haproxy,
        Rival::Nginx,
        Rival::Nat,
        Rival::Alone,
        Rival::Mirrored,
        Rival::Held,
        Rival::Unsealed,
        Rival::Hearing,
    ];

    /// As options and files name it.
    pub fn name(self) -> &'static str {
        match self {
            Rival::Direct => "direct",
            Rival::Haproxy => "haproxy",
            Rival::Nginx => "nginx",
            Rival::Nat => "nat",
            Rival::Alone => "alone",
            Rival::Mirrored => "mirrored",
            Rival::Held => "held",
            Rival::Unsealed => "unsealed",
            Rival::Hearing => "hearing",
        }
    }

    /// As people read it.
    pub fn title(self) -> &'static str {
        match self {
            Rival::Direct => "no balancer (kernel TCP)",
            Rival::Haproxy => "HAProxy, TCP mode",
            Rival::Nginx => "nginx stream",
            Rival::Nat => "kernel NAT (no termination)",
            Rival::Alone => "Understudy, no peer",
            Rival::Mirrored => "Understudy, mirrored",
            Rival::Held => "Understudy, mirrored, ack = held",
            Rival::Unsealed => "Understudy, mirrored, unsealed",
            Rival::Hearing => "Understudy, the peer hears",
        }
    }

    /// Whether it is one of ours.
    pub fn is_ours(self) -> bool {
        !matches!(self, Rival::Direct | Rival::Haproxy | Rival::Nginx | Rival::Nat)
    }

    /// Where clients ask.
    pub fn target(self, ask: Ask) -> SocketAddrV4 {
        let (_, service, port, server_port) = PROXIED[ask as usize];
        let (address, port) = match self {
            Rival::Direct => (SERVERS_ADDRESS, server_port),
            Rival::Haproxy | Rival::Nginx => (NODE_ADDRESS, own_port(ask)),
            _ => (service, port),
        };
        SocketAddrV4::new(address.parse().expect("an address"), port)
    }

    /// Files that say how it is set up, and the server behind it.
    pub fn files(self) -> &'static [&'static str] {
        match self {
            Rival::Direct => &[PAGES_FILE],
            Rival::Haproxy => &[HAPROXY_FILE],
            Rival::Nginx => &[NGINX_FILE],
            Rival::Nat => &[],
            Rival::Alone => &["node1.toml"],
            Rival::Mirrored | Rival::Held | Rival::Unsealed | Rival::Hearing => {
                &["node1.toml", "node2.toml"]
            }
        }
    }

    /// The command of a balancer of the kernel's TCP, its configuration written to `dir`.
    pub fn command(self, dir: &Path) -> anyhow::Result<Vec<String>> {
        let write = |name: &str, text: String| -> anyhow::Result<String> {
            let path: PathBuf = dir.join(name);
            fs::write(&path, text)?;
            Ok(path.display().to_string())
        };
        Ok(match self {
            Rival::Haproxy => {
                vec!["haproxy".into(), "-f".into(), write(HAPROXY_FILE, haproxy())?]
            }
            Rival::Nginx => {
                let file = write(NGINX_FILE, nginx_stream(dir))?;
                ["nginx", "-e", "stderr", "-c", &file].map(String::from).into()
            }
            _ => unreachable!("only they are programs beside ours"),
        })
    }
}

/// Where a balancer with one address listens: two services would share a port there.
fn own_port(ask: Ask) -> u16 {
    match ask {
        Ask::Pages => 81,
        _ => PROXIED[ask as usize].2,
    }
}

const ASKS: [Ask; 4] = [Ask::Objects, Ask::Echo, Ask::Discard, Ask::Pages];

fn haproxy() -> String {
    haproxy_on(|ask| (NODE_ADDRESS, own_port(ask)))
}

/// HAProxy behind addresses that move: those of our services.
pub fn haproxy_pair() -> String {
    haproxy_on(|ask| (PROXIED[ask as usize].1, PROXIED[ask as usize].2))
}

fn haproxy_on(place: impl Fn(Ask) -> (&'static str, u16)) -> String {
    let mut text = format!(
        "global\n    nbthread 1\n    maxconn {CONNECTIONS_MAX}\n\ndefaults\n    mode tcp\n    timeout connect 5s\n    \
         timeout client 1h\n    timeout server 1h\n"
    );
    for (ask, (name, _, _, server_port)) in ASKS.into_iter().zip(PROXIED) {
        let (address, port) = place(ask);
        let _ = write!(
            text,
            "\nlisten {name}\n    bind {address}:{port}\n    server only {SERVERS_ADDRESS}:{server_port}\n"
        );
    }
    text
}

fn nginx_stream(dir: &Path) -> String {
    let mut text = format!(
        "load_module /usr/lib/nginx/modules/ngx_stream_module.so;\ndaemon off;\nuser root;\nworker_processes 1;\n\
         pid \"{}/nginx-stream.pid\";\nerror_log stderr;\nevents {{ worker_connections {}; }}\nstream {{\n    \
         proxy_timeout 1h;\n",
        dir.display(),
        CONNECTIONS_MAX * 2
    );
    for (ask, (_, _, _, server_port)) in ASKS.into_iter().zip(PROXIED) {
        let port = own_port(ask);
        let _ = writeln!(
            text,
            "    server {{ listen {NODE_ADDRESS}:{port}; proxy_pass {SERVERS_ADDRESS}:{server_port}; }}"
        );
    }
    text.push_str("}\n");
    text
}

/// The configuration of the server of small pages.
pub fn nginx_pages(dir: &Path) -> String {
    let (_, _, _, port) = PROXIED[Ask::Pages as usize];
    let page = "0123456789abcdef".repeat(16);
    format!(
        r#"daemon off;
user root;
worker_processes 1;
pid "{0}/nginx-pages.pid";
error_log stderr;
events {{ worker_connections 18000; }}
http {{
    access_log off;
    default_type text/plain;
    keepalive_requests 1000000000;
    keepalive_timeout 1h;
    client_header_timeout 1h;
    client_body_temp_path "{0}/nginx-body";
    server {{
        listen {SERVERS_ADDRESS}:{port} backlog=4096;
        location / {{ return 200 "{page}"; }}
    }}
}}
"#,
        dir.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_services_of_a_balancer_share_an_address_and_port() {
        for rival in Rival::value_variants() {
            let mut targets = ASKS.map(|ask| rival.target(ask));
            targets.sort();
            assert!(targets.windows(2).all(|pair| pair[0] != pair[1]), "{rival:?}: {targets:?}");
        }
    }

    #[test]
    fn every_balancer_passes_on_to_the_same_ports() {
        for text in [haproxy(), haproxy_pair(), nginx_stream(Path::new("/x"))] {
            for (_, _, _, server_port) in PROXIED {
                assert!(text.contains(&format!("{SERVERS_ADDRESS}:{server_port}")), "{text}");
            }
        }
    }
}
