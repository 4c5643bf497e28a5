//! The ports of a node, and which frames reach them.

use super::{StartError, failed};
use crate::config::{self, Config, CopyMode, Segmentation, XdpMode};
use crate::log;
use crate::port::xdp::{XdpConfig, XdpPort, ZeroCopy};
use crate::sys;
use crate::xdp_program::{AttachMode, XdpProgram};
use std::net::IpAddr;

/// Attaches the program and opens a port on each queue of an interface.
pub(super) fn open_ports(
    config: &Config,
    interface: &config::Interface,
) -> Result<(XdpProgram, Vec<XdpPort>), StartError> {
    let name = &interface.name;
    let mode = match interface.mode {
        XdpMode::Auto => AttachMode::Auto,
        XdpMode::Native => AttachMode::Native,
        XdpMode::Generic => AttachMode::Generic,
    };
    let mut program =
        XdpProgram::attach(name, mode).map_err(failed(format!("attach to {name}")))?;
    let zero_copy = match interface.copy {
        CopyMode::Copy => ZeroCopy::Never,
        CopyMode::ZeroCopy => ZeroCopy::Require,
        CopyMode::Auto if program.is_native() => ZeroCopy::Auto,
        CopyMode::Auto => ZeroCopy::Never,
    };
    let mut ports = Vec::new();
    for &queue in &interface.queues {
        let doing = format!("open queue {queue} of {name}");
        let port = XdpPort::open(&XdpConfig {
            interface: name.clone(),
            queue: queue.into(),
            frames: config.limits.frames,
            zero_copy,
            multi_buffer: program.is_multi_buffer(),
            superframes: interface.segmentation == Some(Segmentation::Auto),
        })
        .map_err(failed(&doing))?;
        program.bind_queue(queue.into(), port.fd()).map_err(failed(&doing))?;
        ports.push(port);
    }
    Ok((program, ports))
}

/// Deals the queues of an interface out to the cores in turn.
pub(super) fn deal(ports: Vec<XdpPort>, cores: usize) -> Vec<Vec<XdpPort>> {
    let mut dealt: Vec<Vec<XdpPort>> = (0..cores).map(|_| Vec::new()).collect();
    ports.into_iter().enumerate().for_each(|(n, port)| dealt[n % cores].push(port));
    dealt
}

/// Bytes of a packet that every port of an interface takes. Says so if the interface would take more.
pub(super) fn effective_mtu(name: &str, ports: &[XdpPort]) -> Result<usize, StartError> {
    let whole = sys::interface_mtu(name).map_err(failed(format!("read the MTU of {name}")))?;
    let mtu = ports.iter().map(XdpPort::mtu).min().unwrap_or(whole);
    if mtu < whole {
        log::warning(format!(
            "kernel or driver take frames of {name} in one buffer only: packets are limited to {mtu} bytes \
             although its MTU is {whole}; longer ones are dropped and counted as rx_too_long"
        ));
    }
    Ok(mtu as usize)
}

/// Tells the program of the cluster side which datagrams are the node's.
pub(super) fn steer_cluster(config: &Config, program: &mut XdpProgram) -> Result<(), StartError> {
    let endpoint = IpAddr::V4(config.cluster.address);
    program
        .set_cluster_endpoint(endpoint, config.cluster.data_port)
        .map_err(failed("steer the cluster's datagrams"))
}
