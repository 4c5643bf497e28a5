//! A node as a member of its cluster: what its agent is built with, and what it declares of itself.

use super::{StartError, cluster_id, failed};
use crate::agent_thread::Peers;
use crate::config::{self, Application, Config};
use crate::sys;
use cluster::agent;
use cluster::id::Member;
use cluster::message::advertise::{Advertise, ArpPolicy, Failback, Limits, OnPeerLoss};
use stack::service::Service;
use stack::sha256::Sha256;
use stack::stack::BEHAVIOUR;

pub(super) fn agent_config(
    config: &Config,
    me: Member,
    services: &[Service],
) -> Result<agent::Config, StartError> {
    let name = &config.interfaces.cluster.name;
    Ok(agent::Config {
        me,
        cluster: cluster_id(&config.cluster.name),
        version: env!("CARGO_PKG_VERSION").into(),
        mac: sys::interface_mac(name).map_err(failed(format!("use {name}")))?,
        cores: config.cores.pin.len() as u8,
        nodes: config.cluster.nodes.iter().map(|node| node.id).collect(),
        groups: group_configs(config, config, services),
        timers: config.cluster.timers.values(),
        arbiter: match config.cluster.arbiter {
            config::Arbiter::Witness { .. } => agent::Arbiter::Witness,
            config::Arbiter::None { survivor } => agent::Arbiter::None {
                survivor: match survivor {
                    config::Survivor::Node(node) => agent::Survivor::Node(node),
                    config::Survivor::Both => agent::Survivor::Both,
                },
            },
        },
    })
}

/// What the agent must know of each group. A service is declared as the file has it: in which places its servers are, and
/// which have left, is this node's affair, and another one that has just begun has them in the order of its file.
pub(crate) fn group_configs(
    config: &Config,
    file: &Config,
    services: &[Service],
) -> Vec<agent::GroupConfig> {
    let of = |(service, built): (&config::Service, &Service)| {
        let declared = file.services.iter().find(|declared| declared.id == service.id);
        let advertisement = advertisement(config, declared.unwrap_or(service), built);
        config
            .groups_of(service)
            .map(move |(_, group)| agent::GroupConfig {
                group,
                home: service.home,
                peers: service.peers.clone(),
                on_peer_loss: on_peer_loss(service),
                failback: failback(service),
                hold_down: service.failback_hold_down,
                advertisement: advertisement.clone(),
                leaving: service.leaving,
            })
            .collect::<Vec<_>>()
    };
    config.services.iter().zip(services).flat_map(of).collect()
}

fn on_peer_loss(service: &config::Service) -> OnPeerLoss {
    match service.on_peer_loss {
        config::OnPeerLoss::Serve => OnPeerLoss::Serve,
        config::OnPeerLoss::Stop => OnPeerLoss::Stop,
    }
}

fn failback(service: &config::Service) -> Failback {
    match service.failback {
        config::Failback::All => Failback::All,
        config::Failback::NewConnections => Failback::NewConnections,
        config::Failback::Manual => Failback::Manual,
    }
}

/// What this node declares about a service, beside what its group's configuration says.
fn advertisement(config: &Config, service: &config::Service, built: &Service) -> Advertise {
    let own = sys::interface_mac(&config.interfaces.client.name).ok();
    let mac = service.mac.map(|mac| mac.0).or(own);
    let config::Limits { flows, active_flows, uploads, chunks, pieces, segments, .. } =
        config.limits;
    let mss = built.mss.into();
    Advertise {
        service: service.name.clone(),
        addresses: service.held_addresses(),
        ports: built.ports.clone(),
        protocol: 6,
        application: application_name(&service.application).into(),
        arp: match service.arp {
            config::ArpPolicy::Gratuitous => ArpPolicy::Gratuitous,
            config::ArpPolicy::VirtualMac => ArpPolicy::VirtualMac,
            config::ArpPolicy::None => ArpPolicy::None,
        },
        macs: mac.into_iter().collect(),
        limits: Limits { flows, active_flows, uploads, chunks, pieces, segments, mss },
        digest: digest(service, built),
        behaviour: BEHAVIOUR,
        ..Advertise::default()
    }
}

fn application_name(application: &Application) -> &'static str {
    match application {
        Application::Http { .. } => "http",
        Application::Echo => "echo",
        Application::Discard => "discard",
        Application::Generate { .. } => "generate",
        Application::Proxy(_) => "proxy",
    }
}

/// What two nodes must agree on to stand in for each other.
fn digest(config: &config::Service, service: &Service) -> [u8; 32] {
    let text = format!("{:?} {:?}", config.application, config.receive_buffer);
    let mut bytes = text.into_bytes();
    bytes.extend_from_slice(&service.content.digest());
    Sha256::digest(&bytes)
}

pub(super) fn peers(config: &Config) -> Peers {
    Peers {
        nodes: config.others().map(|node| (node.id, node.address)).collect(),
        agent_port: config.cluster.agent_port,
        data_port: config.cluster.data_port,
        witness: match config.cluster.arbiter {
            config::Arbiter::Witness { witness } => Some(witness),
            config::Arbiter::None { .. } => None,
        },
    }
}
