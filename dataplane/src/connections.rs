//! The log of connections: one record for each proxied one that has ended, where its service says so.
//!
//! A thread fetches what each core has noted ([`stack::stack::Ending`]) and gives it memory for the next ones; the log's own
//! thread writes. So no core waits, allocates or calls the kernel for it; what comes faster than that is counted
//! (`endings_not_logged`).
//!
//! Bounds: [`ENDINGS_MAX`] of each core in [`EVERY`].

use crate::address::to_ip;
use crate::config::{Application, Config};
use crate::log::{Level, Record};
use crate::report::Reporter;
use crossbeam_channel::{RecvTimeoutError, Sender, bounded};
use stack::stack::Ending;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Connections that may end on one core between two looks.
const ENDINGS_MAX: usize = 4096;

/// Between two looks.
const EVERY: Duration = Duration::from_millis(100);

/// The running thread; it ends when this is dropped.
pub struct Connections {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Connections {
    /// Logs the connections of the node that `reporter` tells of.
    pub fn start(reporter: Arc<Reporter>) -> io::Result<Connections> {
        let (stop, stopped) = bounded(0);
        let thread = thread::Builder::new().name("connections".into());
        let thread = thread.spawn(move || {
            let mut spare = Vec::new();
            while stopped.recv_timeout(EVERY) == Err(RecvTimeoutError::Timeout) {
                let config = reporter.config();
                if config.services.iter().any(logs) {
                    log_some(&reporter, &config, &mut spare);
                }
            }
        })?;
        Ok(Connections { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Connections {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn logs(service: &crate::config::Service) -> bool {
    matches!(&service.application, Application::Proxy(proxy) if proxy.log_connections)
}

/// Says what has ended since the last time. `spare` is memory for the next time.
fn log_some(reporter: &Reporter, config: &Config, spare: &mut Vec<Vec<Ending>>) {
    let ended = reporter.fetch_endings(|| {
        let empty = spare.pop().unwrap_or_default();
        if empty.capacity() == 0 { Vec::with_capacity(ENDINGS_MAX) } else { empty }
    });
    for mut endings in ended {
        endings.iter().filter_map(|ending| record(config, ending)).for_each(Record::say);
        endings.clear();
        spare.push(endings);
    }
}

/// One of them in words.
fn record(config: &Config, ending: &Ending) -> Option<Record> {
    let Ending { service, client, server, end, received_bytes, acknowledged_bytes, .. } = ending;
    let service = config.service_at(*service)?;
    let Application::Proxy(proxy) = &service.application else { return None };
    let server =
        proxy.servers.get(usize::from(*server)).map_or("none", |server| server.name.as_str());
    let client = SocketAddr::new(to_ip(&client.remote), client.remote_port);
    let message = format!("{}: the connection of {client} is over: {}", service.name, end.why());
    let record = Record::new(Level::Info, message)
        .with("service", &service.name)
        .with("client", client)
        .with("server", server)
        .with("by", end.by())
        .with("received_bytes", received_bytes)
        .with("sent_bytes", acknowledged_bytes)
        .with("served_ms", ending.served_ms);
    Some(if ending.is_taken_over { record.with("taken_over", true) } else { record })
}
