//! Servers as everybody runs them, from Debian's packages, for the nodes to pass connections on to.
//!
//! Each runs in the foreground on the servers' host, with a configuration of its own in the demo's directory; what is
//! installed or runs elsewhere on the machine is neither read nor touched.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};

use super::bed::{Bed, Place, SERVERS_ADDRESS, run};
use super::process::Process;

/// A service that stands before one of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Real {
    /// The name of service and server.
    pub name: &'static str,
    /// The service's address.
    pub address: &'static str,
    /// The service's port.
    pub port: u16,
    /// Where the server listens.
    pub server_port: u16,
}

/// Files over HTTP.
pub const NGINX: Real = real("nginx", "10.88.0.102", 80, 8080);
/// Keys and values.
pub const REDIS: Real = real("redis", "10.88.0.103", 6379, 6379);
/// A shell; here, `cat`.
pub const SSH: Real = real("ssh", "10.88.0.104", 22, 22);
/// A WebSocket; behind it, `cat`.
pub const WEBSOCKET: Real = real("websocket", "10.88.0.105", 80, 8081);

/// All of them.
pub const REAL: [Real; 4] = [NGINX, REDIS, SSH, WEBSOCKET];

const fn real(name: &'static str, address: &'static str, port: u16, server_port: u16) -> Real {
    Real { name, address, port, server_port }
}

/// Where nginx finds its files, and where it puts what is uploaded.
pub const WWW: &str = "www";

/// The private key with which clients log in.
pub const SSH_KEY: &str = "ssh.key";

/// How long they may take to listen.
const LISTENING_WITHIN: Duration = Duration::from_secs(10);

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Starts all of them and waits until they listen.
pub fn start(bed: &Bed, dir: &Path) -> anyhow::Result<Vec<Process>> {
    let spawn = |real: Real, program: &str, args: &[&str]| {
        bed.spawn(Place::Servers, real.name, program.as_ref(), args)
    };
    let nginx = nginx(dir)?;
    let sshd = sshd(dir)?;
    let redis =
        format!("--port {} --bind {SERVERS_ADDRESS} --protected-mode no", REDIS.server_port);
    let mut redis: Vec<&str> = redis.split(' ').collect();
    redis.extend(["--save", "", "--appendonly", "no"]);
    let port = format!("--port={}", WEBSOCKET.server_port);
    let listen = format!("--address={SERVERS_ADDRESS}");
    let mut processes = vec![
        spawn(NGINX, "nginx", &["-e", "stderr", "-c", &nginx])?,
        spawn(REDIS, "redis-server", &redis)?,
        spawn(SSH, "/usr/sbin/sshd", &["-D", "-e", "-f", &sshd])?,
        spawn(WEBSOCKET, "websocketd", &[&port, &listen, "cat"])?,
    ];
    let namespace = Path::new("/run/netns").join(bed.namespace(Place::Servers));
    thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            dataplane::sys::enter_network_namespace(&namespace)?;
            wait_listening(&mut processes)
        });
        waiting.join().map_err(|_| anyhow!("waiting for the servers failed"))?
    })?;
    Ok(processes)
}

fn wait_listening(processes: &mut [Process]) -> anyhow::Result<()> {
    let limit = Instant::now() + LISTENING_WITHIN;
    for (real, process) in REAL.into_iter().zip(processes) {
        let to = SocketAddr::new(SERVERS_ADDRESS.parse()?, real.server_port);
        while TcpStream::connect(to).is_err() {
            let ended = process.ended()?;
            if ended.is_some() || Instant::now() > limit {
                bail!("{} does not listen ({ended:?})\n{}", real.name, process.log_tail());
            }
            thread::sleep(LOOK_EVERY);
        }
    }
    Ok(())
}

fn nginx(dir: &Path) -> anyhow::Result<String> {
    fs::create_dir_all(dir.join(WWW))?;
    let (path, port) = (dir.join("nginx.conf"), NGINX.server_port);
    let dir = dir.display();
    let text = format!(
        r#"daemon off;
user root;
worker_processes 1;
pid "{dir}/nginx.pid";
error_log stderr;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_max_body_size 0;
    client_body_temp_path "{dir}/nginx-body";
    server {{
        listen {SERVERS_ADDRESS}:{port};
        root "{dir}/{WWW}";
        sendfile on;
        location / {{ dav_methods PUT; }}
    }}
}}
"#
    );
    fs::write(&path, text)?;
    Ok(path.display().to_string())
}

fn sshd(dir: &Path) -> anyhow::Result<String> {
    // Where sshd locks its unprivileged half in; Debian makes it when sshd is started as a service.
    fs::create_dir_all("/run/sshd").context("cannot make /run/sshd")?;
    for name in ["sshd.key", SSH_KEY] {
        let mut command = Command::new("ssh-keygen");
        run(command.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(dir.join(name)))?;
    }
    let (path, port) = (dir.join("sshd.conf"), SSH.server_port);
    let dir = dir.display();
    // Without PAM nobody is let in whose account is locked, as root's is where it never got a password.
    let shadow = fs::read_to_string("/etc/shadow").unwrap_or_default();
    let pam = if shadow.lines().any(|line| line.starts_with("root:!")) { "yes" } else { "no" };
    let text = format!(
        r#"Port {port}
ListenAddress {SERVERS_ADDRESS}
HostKey "{dir}/sshd.key"
AuthorizedKeysFile "{dir}/{SSH_KEY}.pub"
PidFile none
StrictModes no
UsePAM {pam}
UseDNS no
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
PrintMotd no
PrintLastLog no
LogLevel ERROR
ForceCommand cat
"#
    );
    fs::write(&path, text)?;
    Ok(path.display().to_string())
}
