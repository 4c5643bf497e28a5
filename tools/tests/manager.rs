//! What a service manager hears of a process that it has started.

use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};
use std::time::Duration;

const UNDERSTUDY: &str = env!("CARGO_BIN_EXE_understudy");

#[test]
fn a_witness_says_that_it_is_ready() {
    let dir = std::env::temp_dir().join(format!("understudy-manager-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let socket = UnixDatagram::bind(dir.join("notify")).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let mut witness = Command::new(UNDERSTUDY)
        .args(["witness", "--listen", "127.0.0.1:0", "--cluster", "demo", "--unsealed"])
        .arg("--bootstrap")
        .arg("--store")
        .arg(dir.join("registers"))
        .env("NOTIFY_SOCKET", dir.join("notify"))
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut buffer = [0; 256];
    let heard = socket.recv(&mut buffer);
    witness.kill().unwrap();
    witness.wait().unwrap();
    std::fs::remove_dir_all(&dir).unwrap();
    let heard = std::str::from_utf8(&buffer[..heard.unwrap()]).unwrap();
    assert!(heard.lines().any(|line| line == "READY=1"), "{heard:?}");
}
