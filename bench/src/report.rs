//! The figures as a table for people and as JSON for machines.

use crate::bed;
use crate::memory;
use crate::pair::Link;
use crate::step::{PerStep, Step};
use serde_json::{Map, Value, json};
use std::fmt;

/// How much more a segment may cost with most flows than with fewest.
pub const RATIO_MAX: f64 = 1.5;

/// What the segments are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Load {
    /// A word of a client's and its echo.
    Echo,
    /// A word that is passed on to a server, or the one with which it answers.
    Word,
    /// One of a stream that is passed on from a server.
    Stream,
}

impl Load {
    /// Its name where a table has several.
    pub const fn name(self) -> &'static str {
        match self {
            Load::Echo => "echo",
            Load::Word => "proxied word",
            Load::Stream => "proxied stream",
        }
    }
}

/// What one segment costs.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// What it is.
    pub load: Load,
    /// Flows in memory.
    pub flows: usize,
    /// Bytes of payload.
    pub payload: usize,
    /// Instructions by step.
    pub instructions: PerStep,
    /// Nanoseconds by step.
    pub nanoseconds: PerStep,
}

/// Every figure of a run.
pub struct Report {
    link: Link,
    rows: Vec<Row>,
    proxied: Vec<Row>,
    memory: Vec<(usize, u64)>,
    functions: Option<Functions>,
}

/// The functions that cost most.
struct Functions {
    flows: usize,
    payload: usize,
    /// Name, and instructions for each segment.
    top: Vec<(String, f64)>,
}

impl Report {
    /// No figures yet.
    pub fn new(link: Link) -> Report {
        Report { link, rows: Vec::new(), proxied: Vec::new(), memory: Vec::new(), functions: None }
    }

    /// Adds a row; those of echoes come in ascending order of flows.
    pub fn add(&mut self, row: Row) {
        match row.load {
            Load::Echo => self.rows.push(row),
            Load::Word | Load::Stream => self.proxied.push(row),
        }
    }

    /// Adds by how many bytes the process has grown for owner and peer with `flows` flows.
    pub fn add_memory(&mut self, flows: usize, bytes: u64) {
        self.memory.push((flows, bytes));
    }

    /// Sets the functions that cost most, with their instructions for `segments` segments.
    pub fn add_functions(
        &mut self,
        flows: usize,
        payload: usize,
        top: Vec<(&str, u64)>,
        segments: usize,
    ) {
        let per = |(name, cost): (&str, u64)| (name.to_string(), cost as f64 / segments as f64);
        self.functions =
            Some(Functions { flows, payload, top: top.into_iter().map(per).collect() });
    }

    /// Every row.
    pub fn all_rows(&self) -> Vec<Row> {
        self.rows.iter().chain(&self.proxied).copied().collect()
    }

    /// The row with fewest flows and the same payload.
    fn base(&self, row: &Row) -> &Row {
        let base = self.rows.iter().find(|base| base.payload == row.payload);
        base.expect("the row itself at least")
    }

    fn ratio(&self, row: &Row) -> f64 {
        row.instructions.segment() / self.base(row).instructions.segment()
    }

    /// Whether no row costs more than [`RATIO_MAX`] times its first, in instructions.
    pub fn is_flat(&self) -> bool {
        self.rows.iter().all(|row| self.ratio(row) <= RATIO_MAX)
    }

    /// Everything, as JSON.
    pub fn json(&self) -> String {
        let steps = |figures: &PerStep| -> Value {
            let pairs = Step::ALL.iter().map(|&s| (s.name().to_string(), json!(figures.of(s))));
            Value::Object(pairs.collect::<Map<String, Value>>())
        };
        let row = |row: &Row| {
            json!({
                "flows": row.flows,
                "payload_bytes": row.payload,
                "segment_instructions": row.instructions.segment(),
                "segment_nanoseconds": row.nanoseconds.segment(),
                "instructions_ratio": self.ratio(row),
                "instructions": steps(&row.instructions),
                "nanoseconds": steps(&row.nanoseconds),
            })
        };
        let memory = |&(flows, bytes): &(usize, u64)| json!({ "flows": flows, "owner_and_peer_bytes": bytes });
        let proxied = |row: &Row| {
            json!({
                "load": row.load.name(),
                "payload_bytes": row.payload,
                "instructions": steps(&row.instructions),
                "nanoseconds": steps(&row.nanoseconds),
            })
        };
        let functions = self.functions.as_ref().map(|functions| {
            let top = functions.top.iter().map(|(name, cost)| json!([name, cost]));
            json!({
                "flows": functions.flows,
                "payload_bytes": functions.payload,
                "instructions": top.collect::<Vec<_>>(),
            })
        });
        let whole = json!({
            "link_mtu_bytes": self.link.mtu,
            "sealed": self.link.is_sealed,
            "ratio_max": RATIO_MAX,
            "is_flat": self.is_flat(),
            "rows": self.rows.iter().map(row).collect::<Vec<_>>(),
            "proxied": self.proxied.iter().map(proxied).collect::<Vec<_>>(),
            "flow_bytes": memory::parts().iter().map(|&(name, bytes)| json!([name, bytes]))
                .collect::<Vec<_>>(),
            "idle_flow_bytes": self.bytes_per_flow(),
            "resident": self.memory.iter().map(memory).collect::<Vec<_>>(),
            "functions": functions,
        });
        format!("{whole:#}\n")
    }

    fn fmt_segments(&self, f: &mut fmt::Formatter) -> fmt::Result {
        writeln!(f, "One segment on the owner: {}", names(&Step::SEGMENT).join(" + "))?;
        writeln!(
            f,
            "{:>10} {:>8} {:>14} {:>7} {:>13} {:>7}",
            "flows", "payload", "instructions", "ratio", "nanoseconds", "ratio"
        )?;
        for row in &self.rows {
            let (instructions, nanoseconds) =
                (row.instructions.segment(), row.nanoseconds.segment());
            writeln!(
                f,
                "{:>10} {:>8} {:>14.0} {:>7.2} {:>13.0} {:>7.2}",
                row.flows,
                row.payload,
                instructions,
                self.ratio(row),
                nanoseconds,
                nanoseconds / self.base(row).nanoseconds.segment(),
            )?;
        }
        Ok(())
    }

    fn fmt_steps(
        &self,
        f: &mut fmt::Formatter,
        unit: &str,
        figures: fn(&Row) -> &PerStep,
    ) -> fmt::Result {
        write!(f, "\nA request by step, {unit}\n{:>10} {:>8}", "flows", "payload")?;
        for name in names(&Step::ALL) {
            write!(f, " {name:>8}")?;
        }
        writeln!(f)?;
        for row in &self.rows {
            write!(f, "{:>10} {:>8}", row.flows, row.payload)?;
            for step in Step::ALL {
                write!(f, " {:>8.0}", figures(row).of(step))?;
            }
            writeln!(f)?;
        }
        Ok(())
    }

    fn fmt_proxied(
        &self,
        f: &mut fmt::Formatter,
        unit: &str,
        figures: fn(&Row) -> &PerStep,
    ) -> fmt::Result {
        if self.proxied.is_empty() {
            return Ok(());
        }
        write!(f, "\nA segment that is passed on, by step, {unit}\n{:>15} {:>8}", "", "payload")?;
        for name in names(&Step::ALL) {
            write!(f, " {name:>8}")?;
        }
        writeln!(f, " {:>8}", "owner")?;
        for row in &self.proxied {
            write!(f, "{:>15} {:>8}", row.load.name(), row.payload)?;
            for step in Step::ALL {
                write!(f, " {:>8.0}", figures(row).of(step))?;
            }
            writeln!(f, " {:>8.0}", figures(row).owner())?;
        }
        Ok(())
    }

    fn fmt_memory(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "\nBytes of a flow:")?;
        for (name, bytes) in memory::parts() {
            write!(f, " {name} {bytes}")?;
        }
        writeln!(f)?;
        for &(flows, bytes) in &self.memory {
            let mib = bytes as f64 / (1 << 20) as f64;
            writeln!(f, "{flows:>10} flows: owner, peer and clients have grown by {mib:.1} MiB")?;
        }
        if let Some(bytes) = self.bytes_per_flow() {
            writeln!(f, "An idle flow takes {bytes} bytes on each of the two nodes.")?;
        }
        Ok(())
    }

    /// By how much one more flow makes a node grow: fixed memory falls out of the difference of two beds.
    fn bytes_per_flow(&self) -> Option<u64> {
        let [.., (fewer, less), (more, most)] = *self.memory.as_slice() else { return None };
        let both_nodes = most.saturating_sub(less) / (more - fewer) as u64;
        Some(both_nodes.saturating_sub(bed::CLIENT_BYTES as u64) / 2)
    }
}

fn names(steps: &[Step]) -> Vec<&'static str> {
    steps.iter().map(|step| step.name()).collect()
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        self.fmt_segments(f)?;
        self.fmt_steps(f, "instructions", |row| &row.instructions)?;
        self.fmt_steps(f, "nanoseconds", |row| &row.nanoseconds)?;
        self.fmt_proxied(f, "instructions", |row| &row.instructions)?;
        self.fmt_proxied(f, "nanoseconds", |row| &row.nanoseconds)?;
        self.fmt_memory(f)?;
        if let Some(Functions { flows, payload, top }) = &self.functions {
            writeln!(
                f,
                "\nInstructions by function for a request, {flows} flows, {payload} bytes, peer included"
            )?;
            for (name, cost) in top {
                writeln!(f, "{cost:>10.0}  {name}")?;
            }
        }
        let verdict = if self.is_flat() { "Flat" } else { "NOT FLAT" };
        writeln!(
            f,
            "\n{verdict}: the limit is {RATIO_MAX} times the instructions of the first row."
        )
    }
}
