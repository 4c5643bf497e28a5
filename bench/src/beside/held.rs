//! Clients that hold connections and say nothing: `understudy bench idle` in the client's namespace.

use std::io::{BufRead, BufReader};
use std::net::SocketAddrV4;
use std::process::{Child, ChildStdout, Stdio};

use anyhow::{Context, bail};
use serde::de::DeserializeOwned;
use tools::bench::idle::{Answered, Open};
use tools::demo::bed::Place;

use crate::stage::Stage;

/// One process and its connections; they end when this is dropped.
pub struct Held {
    child: Child,
    said: BufReader<ChildStdout>,
    connections: u32,
}

impl Held {
    /// Begins to open so many connections; the clients run on this processor.
    pub fn begin(
        stage: &Stage<'_>,
        cpu: u16,
        target: SocketAddrV4,
        connections: u32,
    ) -> anyhow::Result<Held> {
        let mut command = stage.bed.command(Place::Client, "taskset");
        command.args(["-c", &cpu.to_string()]).arg(stage.program());
        command.args(["bench", "idle", "--json", "--ask=/"]);
        command.arg(format!("--target={target}")).arg(format!("--connections={connections}"));
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().context("cannot start a client")?;
        let said = BufReader::new(child.stdout.take().context("the client has no output")?);
        Ok(Held { child, said, connections })
    }

    /// Waits until all are open.
    pub fn wait_open(&mut self) -> anyhow::Result<()> {
        let Open { open } = self.hear("connections are not open")?;
        if open != self.connections {
            bail!("{open} connections are open of {}", self.connections);
        }
        Ok(())
    }

    /// Has each connection ask for a page and end, one after the other.
    pub fn begin_to_ask(&mut self) {
        drop(self.child.stdin.take());
    }

    /// Waits until all have asked; how many were answered.
    pub fn finish(mut self) -> anyhow::Result<u32> {
        let Answered { answered } = self.hear("connections have not asked")?;
        Ok(answered)
    }

    fn hear<T: DeserializeOwned>(&mut self, otherwise: &str) -> anyhow::Result<T> {
        let mut line = String::new();
        self.said.read_line(&mut line)?;
        serde_json::from_str(&line).with_context(|| {
            format!("{} idle {otherwise}: a client said {line:?}", self.connections)
        })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // Gone already is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
