//! Services as the stack takes them, from what is configured.

use super::{StartError, failed};
use crate::address;
use crate::config::{self, Application, Config};
use crate::files;
use stack::app::AppConfig;
use stack::app::generate::GenerateConfig;
use stack::app::http::HttpConfig;
use stack::app::proxy::Ack;
use stack::app::proxy::header::HeaderVersion;
use stack::content::Content;
use stack::limits::CONNECT_TIMEOUT;
use stack::service::{ArpPolicy as ServiceArp, Service};
use stack::tcp::sender::SenderConfig;
use stack::upstream::{self, Upstream};

/// Bytes of an upload at most: one that never ends is an attack.
pub(super) const UPLOAD_BYTES_MAX: u64 = 1 << 40;

pub(super) fn build_services(config: &Config, mtu: usize) -> Result<Vec<Service>, StartError> {
    let build =
        |service: &config::Service| Ok(build_service(service, mtu, load_content(config, service)?));
    config.services.iter().map(build).collect()
}

/// What an `http` service serves.
pub(crate) fn load_content(
    config: &Config,
    service: &config::Service,
) -> Result<Content, StartError> {
    let mut content = Content::default();
    if let Application::Http { root, generate } = &service.application {
        if let Some(root) = root {
            content = files::load(root, config.limits.content_bytes).map_err(failed(format!(
                "load {} for {}",
                root.display(),
                service.name
            )))?;
        }
        if !generate {
            content = content.without_generated();
        }
    }
    Ok(content)
}

/// A service as the stack takes it.
pub(crate) fn build_service(service: &config::Service, mtu: usize, content: Content) -> Service {
    let (mut upstream, mut connect_timeout) = (Upstream::default(), CONNECT_TIMEOUT);
    let app = match &service.application {
        Application::Echo => AppConfig::Echo,
        Application::Discard => AppConfig::Discard,
        Application::Generate { seed, length, close } => {
            AppConfig::Generate(GenerateConfig { seed: *seed, len: *length, stay_open: !close })
        }
        Application::Http { .. } => {
            AppConfig::Http(HttpConfig { upload_bytes_max: UPLOAD_BYTES_MAX })
        }
        Application::Proxy(proxy) => {
            (upstream, connect_timeout) = (build_upstream(proxy), proxy.connect_timeout);
            AppConfig::Proxy(match proxy.ack {
                config::Ack::EndToEnd => Ack::EndToEnd,
                config::Ack::Held => Ack::Held,
            })
        }
    };
    Service {
        addresses: service.addresses.iter().map(address::to_stack).collect(),
        arp: match (service.arp, service.mac) {
            (config::ArpPolicy::VirtualMac, Some(mac)) => ServiceArp::VirtualMac(mac.0),
            (config::ArpPolicy::None, _) => ServiceArp::None,
            _ => ServiceArp::Gratuitous,
        },
        snoop: service.snoop == config::Snoop::Wire,
        ports: service.ports.iter().map(|range| (range.first, range.last)).collect(),
        app,
        content,
        receive_buffer: service.receive_buffer,
        idle_timeout: Some(service.idle_timeout),
        keep_alive: service.keep_alive.map(|keep_alive| keep_alive.values()),
        connect_timeout,
        sender: SenderConfig::default(),
        mss: mtu.saturating_sub(40).min(usize::from(u16::MAX)) as u16,
        nodelay: service.nodelay,
        hop_limit: service.hop_limit,
        upstream,
    }
}

fn build_upstream(proxy: &config::Proxy) -> Upstream {
    let server = |server: &config::Server| upstream::Server {
        address: address::to_stack(&server.address),
        port: server.port,
        weight: server.weight,
        next_hop: address::to_stack(&proxy.gateway.unwrap_or(server.address)),
        is_retired: server.is_retired,
        is_backup: server.backup,
        connections_max: server.max_connections,
    };
    Upstream {
        servers: proxy.servers.iter().map(server).collect(),
        sources: proxy.source.iter().map(address::to_stack).collect(),
        balance: match proxy.balance {
            config::Balance::RoundRobin => upstream::Balance::RoundRobin,
            config::Balance::LeastConnections => upstream::Balance::LeastConnections,
            config::Balance::Source => upstream::Balance::Source,
            config::Balance::RandomTwo => upstream::Balance::RandomTwo,
            config::Balance::Maglev => upstream::Balance::Maglev,
        },
        attempts_max: proxy.attempts,
        server_idle: Some(proxy.server_timeout),
        half_closed: Some(proxy.half_closed_timeout),
        logs: proxy.log_connections,
        accepts_header: proxy.accept_proxy,
        header: proxy.proxy_protocol.map(|version| match version {
            config::ProxyProtocol::V1 => HeaderVersion::V1,
            config::ProxyProtocol::V2 => HeaderVersion::V2,
        }),
        resets_when_down: proxy.on_server_down == config::OnServerDown::Reset,
        connections_max: proxy.max_connections,
        queue_max: proxy.queue,
        queue_timeout: proxy.queue_timeout,
        slow_start: proxy.slow_start,
        stick: proxy.stick,
    }
}
